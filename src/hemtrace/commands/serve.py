"""`hemtrace serve`: the web page and its API."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_MODEL = Path("models/model.safetensors")


def serve(
    model: Annotated[
        Path, typer.Option(help="model file; verdicts need operating.json beside it")
    ] = DEFAULT_MODEL,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any that is free")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(help="whoever has this token may ask; needed where others reach the server"),
    ] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="a reverse proxy asks who someone is")
    ] = False,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="name that browsers call the server by; repeatable")
    ] = None,
    keep_minutes: Annotated[
        float, typer.Option(min=0.1, help="a study is deleted this long after the last look at it")
    ] = 30,
    folder: Annotated[
        Path | None, typer.Option(help="where studies lie meanwhile; default: the system's own")
    ] = None,
    runtime: Annotated[str, typer.Option(help="auto, openvino or torch")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="of the CPU that predict; default: all cores")
    ] = None,
) -> None:
    """Serve the web page and its API: drop a head CT, read a verdict. Research use only.

    Studies lie in a private folder and are deleted on demand, after a while, and at the end.
    """
    from hemtrace.serve.run import run_server
    from hemtrace.serve.settings import Settings, choose_hosts, choose_token

    token = choose_token(token_file)
    settings = Settings(
        model=model,
        token=token,
        hosts=choose_hosts(host, tuple(allowed_host or ()), token, behind_proxy),
        keep_minutes=keep_minutes,
        folder=folder,
        runtime=runtime,
        threads=threads,
        sample_ahead=True,
    )
    run_server(settings, host, port, lambda text: typer.echo(text, err=True))
