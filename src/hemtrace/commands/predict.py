"""`hemtrace predict`: files, folders, zips, a whole archive; tables, overlays, DICOM results."""

from pathlib import Path
from typing import Annotated, Literal

import typer

DEFAULT_MODEL = Path("models/model.safetensors")
Level = Literal["slices", "series", "studies", "patients"]


def predict(
    paths: Annotated[
        list[Path], typer.Argument(help="DICOM files, folders (searched recursively) and zips")
    ],
    model: Annotated[
        Path, typer.Option(help="model file; verdicts need operating.json beside it")
    ] = DEFAULT_MODEL,
    point: Annotated[
        str | None,
        typer.Option(help="operating point: rule-out, balanced or rule-in; default: the model's"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="write a table: FILE.csv, .parquet or .json")
    ] = None,
    level: Annotated[
        Level | None,
        typer.Option(help="rows of the table; default: slices with --out, studies on the screen"),
    ] = None,
    heatmaps: Annotated[
        Path | None, typer.Option(help="folder for PNG overlays of the flagged slices of bleeds")
    ] = None,
    dicom: Annotated[
        Path | None, typer.Option(help="folder for results as DICOM: report, heat map captures")
    ] = None,
    parametric: Annotated[
        bool, typer.Option("--parametric", help="with --dicom, heat maps as parametric maps too")
    ] = False,
    runtime: Annotated[str, typer.Option(help="auto, openvino or torch")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="of the CPU that predict; default: all cores")
    ] = None,
    salt_file: Annotated[
        str | None,
        typer.Option(help="file with a secret by which ids are hashed; default: a public salt"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace files that exist")
    ] = False,
) -> None:
    """Predict head CT: is there a bleed, of which type, on which slices. Research use only.

    Every file ends in the table or in the list of those without a prediction. Ends with 1 if
    nothing could be predicted.
    """
    from hemtrace.commands.predict_run import Wanted, run

    wanted = Wanted(out, level, heatmaps, dicom, parametric, overwrite)
    if not run(paths, model, point, wanted, runtime, threads, salt_file):
        raise typer.Exit(1)
