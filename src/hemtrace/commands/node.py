"""`hemtrace node`: studies from a PACS, results back into it."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="A node beside a PACS: it takes head CT in, and sends results back. Research use only.",
)
Config = Annotated[Path, typer.Argument(help="YAML file; docs/node.yaml is an example")]


@app.command()
def run(config: Config) -> None:
    """Receive and watch, predict, send back, show the worklist; until it is told to end."""
    from hemtrace.node.config import load_config

    # Before the imports that take seconds.
    told = load_config(config)
    told.check_secrets()
    from hemtrace.node.answer import Answerer
    from hemtrace.node.run import run_node

    run_node(told, Answerer, lambda text: typer.echo(text, err=True))


@app.command("list")
def list_all(
    config: Config,
    dead: Annotated[bool, typer.Option("--dead", help="only what was given up")] = False,
) -> None:
    """List the studies, the most urgent first, and what was given up. Research use only."""
    from hemtrace.node.config import load_config
    from hemtrace.node.schema import Database
    from hemtrace.node.worklist import list_studies, list_unfetched, read_model

    database = Database(load_config(config).folder)
    model = read_model(database)
    if model.get("synthetic"):
        typer.echo("The model was trained on SYNTHETIC images; it says nothing about a patient.")
    entries = [one for one in list_studies(database) if one.is_dead or not dead]
    for one in entries:
        typer.echo(
            f"study {one.number}  {one.state:10}  {one.answer or 'not answered':12}  "
            f"{one.kept} objects, {one.not_kept} not kept"
        )
        for fault in one.faults:
            typer.echo(f"    {fault}")
    for watcher, attempts, error in list_unfetched(database):
        typer.echo(f"A study of {watcher} was not fetched, after {attempts} attempts: {error}")
    if not entries:
        typer.echo("Nothing was given up." if dead else "There is no study.")


@app.command()
def retry(
    config: Config,
    study: Annotated[int | None, typer.Argument(help="its number; all if left out")] = None,
) -> None:
    """Try again what was given up; a node that runs takes it up at once."""
    from hemtrace.node.config import load_config
    from hemtrace.node.schema import Database
    from hemtrace.node.upkeep import retry as try_again

    count = try_again(Database(load_config(config).folder), study)
    typer.echo(f"{count} dead {'letter is' if count == 1 else 'letters are'} tried again.")
    if study is not None and not count:
        raise typer.Exit(1)
