"""The command line: what a user does beside running the pipeline."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hemtrace.commands import node
from hemtrace.commands.predict import predict
from hemtrace.commands.serve import serve
from hemtrace.errors import HemtraceError


class _Sentences(TyperGroup):
    """Shows an error made for the user as its sentence, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HemtraceError as error:
            typer.echo(f"hemtrace: {error}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Sentences,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Intracranial haemorrhage on head CT. Research software, not a medical device. "
    "The pipeline itself is run by `make`, `snakemake --cores all` or `dvc repro`.",
)


@app.command()
def use(
    preset: Annotated[str, typer.Argument(help="a file of presets/, without .yaml")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="section.field=value ..., merged after the preset")
    ] = None,
) -> None:
    """Merge a preset into params.yaml, e.g. `hemtrace use rsna-paper ingest.raw=/path/to/rsna`."""
    from hemtrace.presets import use_preset

    for change in use_preset(preset, settings or []):
        typer.echo(change)


@app.command()
def check() -> None:
    """Check params.yaml and the raw data it names, without starting anything."""
    from hemtrace.compare.systems import all_trainings
    from hemtrace.ingest.labels_csv import read_labels
    from hemtrace.params import load_params
    from hemtrace.preflight import check_heat_map, check_inputs, check_place, find_finest_stride
    from hemtrace.train.check import check_training

    params = load_params()
    ingest = params.ingest
    check_place(Path.cwd())
    check_inputs(ingest)
    if ingest.raw is not None and ingest.labels is not None:
        read_labels(Path(ingest.raw).expanduser() / ingest.labels)
    for name, train in all_trainings(params).items():
        check_training(name, train, ingest.view, download=False)
    check_heat_map(params, find_finest_stride(params.train))
    source = "the synthetic phantom" if params.is_phantom else params.ingest.raw
    typer.echo(f"params.yaml is sound; the data are {source}.")
    if ingest.labels is None:
        typer.echo(
            "ingest.labels is null: nothing can be trained. The data can be ingested: "
            "snakemake --cores all ingest"
        )


@app.command()
def doctor() -> None:
    """Check environment, data, room, time, weights and GPU before a big run. Takes seconds."""
    from hemtrace.doctor import examine
    from hemtrace.params import load_params

    failed = False
    for finding in examine(Path.cwd(), load_params()):
        typer.echo(f"{finding.verdict:4}  {finding.check:13}{finding.found}")
        if finding.advice:
            typer.echo(f"{'':19}-> {finding.advice}")
        failed |= finding.verdict == "fail"
    if failed:
        raise typer.Exit(1)


@app.command()
def verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="delete what is damaged, so that it is made again")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="list the raw files again, and read a sample of them")
    ] = False,
    sample: Annotated[
        int, typer.Option(min=0, help="raw files that --raw reads, evenly chosen; 0: all")
    ] = 1000,
) -> None:
    """Check catalog, shards and split against each other, every picture by its digest.

    While a run is at work, what it has not made yet is told as missing.
    """
    from hemtrace import verify as products
    from hemtrace.lock import enter_folder
    from hemtrace.params import load_params
    from hemtrace.verify_raw import verify_raw

    params, root = load_params().ingest, Path()
    damages = products.verify_products(root, params)
    if raw:
        changes, read = verify_raw(root, params, sample)
        damages += changes
        typer.echo(f"{read:,} raw files were read again.")
    for damage in damages:
        typer.echo(damage.sentence)
    deleted: list[Path] = []
    if repair and damages:
        with enter_folder(root) as is_alone:
            if not is_alone:
                raise HemtraceError("A run is at work in this folder; repair when it has ended.")
            deleted = products.repair(damages)
    for path in deleted:
        typer.echo(f"deleted {path}")
    if not damages:
        typer.echo(
            "All products are sound up to the split: every picture has its digest. Models and "
            "reports are not looked at."
        )
        return
    typer.echo(products.advise(damages, deleted))
    raise typer.Exit(1)


app.command()(predict)
app.command()(serve)
app.add_typer(node.app, name="node")


@app.command()
def external(
    folder: Annotated[Path, typer.Argument(help="another data set, searched recursively")],
    labels: Annotated[Path, typer.Option(help="what is true of it")],
    reader: Annotated[
        str, typer.Option(help="of the label file: rsna (ID,Label), csv (a plain one) or cq500")
    ] = "rsna",
    model: Annotated[
        Path, typer.Option(help="model file; rates need operating.json beside it")
    ] = Path("models/model.safetensors"),
    out: Annotated[Path | None, typer.Option(help="folder; default: external/NAME")] = None,
    data: Annotated[
        Path, typer.Option(help="the data that the model was made on, to look for overlap")
    ] = Path("data"),
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="go on where overlap cannot be looked for")
    ] = False,
) -> None:
    """Evaluate the frozen model on another labelled data set: no refit, the same thresholds."""
    from hemtrace.dicom import read_salt
    from hemtrace.external.account import tell_result
    from hemtrace.external.run import evaluate_external
    from hemtrace.params import Params, load_params

    params = load_params() if Path("params.yaml").is_file() else Params()
    out = out or Path("external") / folder.resolve().name
    result = evaluate_external(
        folder,
        labels,
        reader,
        model,
        out,
        params.evaluate,
        params.seed,
        read_salt(params.ingest.salt_file),
        data,
        unchecked,
    )
    for sentence in tell_result(result):
        typer.echo(sentence)
    typer.echo(f"The page is {out / 'index.html'}.")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="a run's folder, or its predictions.parquet")],
    second: Annotated[Path, typer.Argument(help="another one, of the same test slices")],
    out: Annotated[Path | None, typer.Option(help="write FILE.html, .csv or .json too")] = None,
) -> None:
    """Compare two runs on the same test slices, figure by figure, with intervals and p."""
    from hemtrace.compare.runs import (
        check_suffix,
        compare_runs,
        print_comparison,
        read_run,
        write_comparison,
    )
    from hemtrace.params import Params, load_params

    if out is not None:
        check_suffix(out)
    params = load_params() if Path("params.yaml").is_file() else Params()
    given = params.evaluate
    result = compare_runs(
        read_run(first), read_run(second), given.bootstrap, params.seed, given.clip
    )
    typer.echo(print_comparison(result))
    if out is not None:
        write_comparison(result, out)
        typer.echo(f"The comparison is in {out}.")


@app.command("send-records")
def send() -> None:
    """Send what MLflow has not taken yet of the records of trainings."""
    from hemtrace.tracking import name_store, send_records

    told = send_records()
    for sentence in told:
        typer.echo(sentence, err=True)
    if told:
        raise typer.Exit(1)
    typer.echo(f"MLflow ({name_store()}) has the records of all trainings.")


@app.command("rerun")
def rerun_run(
    run_id: Annotated[str, typer.Argument(help="of the run in MLflow (make ui)")],
    settings: Annotated[
        list[str] | None, typer.Argument(help="section.field=value ..., e.g. where data lie here")
    ] = None,
    into: Annotated[Path | None, typer.Option(help="folder that is made")] = None,
) -> None:
    """Make a training again from its record alone, in a folder of its own, and compare."""
    from hemtrace.rerun import rerun

    folder = into or Path(f"rerun-{run_id[:8]}")
    for sentence in rerun(run_id, folder, settings or []):
        typer.echo(sentence)
