"""The page on ingestion: what became of every file, and what the files are like."""

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from hemtrace.dicom.reasons import REASONS, STEPS, count_steps
from hemtrace.dicom.slices import Rejected, Slice
from hemtrace.errors import HemtraceError
from hemtrace.figures import (
    Distribution,
    Thumbnail,
    draw_bytes,
    flow_bars,
    histograms,
    hu_histogram,
    thumbnail_sheet,
)
from hemtrace.labels import LABELS
from hemtrace.params import Window
from hemtrace.report.cells import Table
from hemtrace.report.render import SYNTHETIC, data_uri, make_environment, read_sections, resource
from hemtrace.window import Square, preprocess
from hemtrace.writing import write_whole

Read = Callable[[str], Iterable[Slice | Rejected]]

# Names may be burned into these.
_NEVER_SHOWN = frozenset(("secondary-capture", "localizer", "dose-report", "not-ct"))
_BRAIN = Window(name="brain", center_hu=40, width_hu=80)
_SAMPLE = 100
_SHOWN_A_REASON = 3
_EDGES = np.arange(-1200, 2001, 20.0)
_UNKNOWN = "not told"


def build_ingestion_page(
    catalog: pl.DataFrame,
    flow: dict[str, Any],
    read: Read,
    page: Path,
    made_with: Mapping[str, Any],
    *,
    synthetic: bool,
) -> None:
    """Write the page, one file that needs nothing else.

    Parameters
    ----------
    catalog, flow
        The catalog, and the counts of ingest.
    read
        `dicom.guard.GuardedReader.read`: some slices are read again from the raw files.
    page
        Where it goes.
    made_with
        The parameters of `ingest` that may stand on the page, as plain values by name.
    synthetic
        Whether the data are the phantom.

    Raises
    ------
    HemtraceError
        If catalog and counts contradict each other.
    """
    _check_counts(catalog, flow)
    heads = catalog.filter(pl.col("row").is_not_null())
    used = catalog.filter(pl.col("status") == "used")
    steps = [("pictures", flow["pictures"]), *((step, flow[step]) for step in STEPS)]
    tiles = _read_thumbnails(catalog, read)
    pictures = {
        "flow": ("svg", draw_bytes(flow_bars(steps, flow["quarantined"]))),
        "thumbnails": ("png", draw_bytes(thumbnail_sheet(tiles), "png", dpi=110)),
        "hu": ("svg", draw_bytes(hu_histogram(_sample_hu(used, read), _EDGES))),
        "gate": ("svg", draw_bytes(histograms(_gate(heads)))),
        "geometry": ("svg", draw_bytes(histograms(_geometry(used)))),
    }
    tables = {
        "reasons": _reasons(catalog),
        "storage": _storage(heads),
        "series": _series(flow),
        "labels": _labels(used),
        "label_file": _label_file(flow),
        "made_with": _made_with(made_with),
    }
    text = (
        make_environment(autoescape=True)
        .get_template("ingestion.html.j2")
        .render(
            flow=flow,
            synthetic=synthetic,
            synthetic_banner=SYNTHETIC,
            sections=read_sections("ingestion.yaml"),
            style=Markup(resource("report.css")),
            pictures={name: data_uri(*picture) for name, picture in pictures.items()},
            tables=tables,
        )
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(page) as part:
        part.write_text(text, encoding="utf-8")


def _check_counts(catalog: pl.DataFrame, flow: dict[str, Any]) -> None:
    by_reason = dict(catalog.drop_nulls("reason").group_by("reason").len().iter_rows())
    counted = {"pictures": catalog.height, **count_steps(catalog.height, by_reason)}
    for step, count in counted.items():
        if flow[step] != count:
            raise HemtraceError(
                f"The counts do not add up: {count:,} pictures of the catalog passed the step "
                f"{step}, ingest counted {flow[step]:,}; run the pipeline again."
            )


def _read_thumbnails(catalog: pl.DataFrame, read: Read) -> list[Thumbnail]:
    """Read the first pictures of each reason again, as far as they may and can be shown."""
    tiles = []
    for reason in REASONS:
        if reason in _NEVER_SHOWN:
            continue
        rows = catalog.filter(pl.col("reason") == reason).sort("file", "frame")
        for file, frame in rows.select("file", "frame").head(_SHOWN_A_REASON).iter_rows():
            shown = _show(_find(read, file, frame))
            if shown is not None:
                tiles.append(Thumbnail(reason, shown))
    return tiles


def _find(read: Read, file: str, frame: int | None) -> Slice | Rejected | None:
    wanted = None
    for found in read(file):  # to the end: an answer half read costs the reader its child
        if found.frame == frame:
            wanted = found
    return wanted


def _show(found: Slice | Rejected | None) -> np.ndarray | None:
    """Make a small picture: HU in the brain window, other values from their darkest to lightest."""
    if isinstance(found, Slice):
        return _shrink(found.hu, _BRAIN) if found.may_show else None
    if found is None or found.picture is None:
        return None
    stored = found.picture.astype(np.float32)
    low, high = np.percentile(stored, (1, 99)).tolist()
    width = max(2.0, high - low)
    return _shrink(stored, Window(name="stored", center_hu=low + width / 2, width_hu=width))


def _shrink(pixels: np.ndarray, window: Window) -> np.ndarray:
    rows, columns = pixels.shape
    side = max(rows, columns)
    square = Square((rows - side) // 2, (columns - side) // 2, side)
    picture: np.ndarray = preprocess(pixels, square, [window], 128)[0]
    return picture


def _sample_hu(used: pl.DataFrame, read: Read) -> np.ndarray:
    """Read slices again, evenly spread over the catalog: the share of their pixels in each bin."""
    places = np.unique(np.linspace(0, used.height - 1, min(_SAMPLE, used.height)).astype(int))
    shares = []
    for place in places:
        found = _find(read, used["file"][int(place)], used["frame"][int(place)])
        if isinstance(found, Slice):
            counts, _ = np.histogram(found.hu, bins=_EDGES)
            shares.append(counts / found.hu.size)
    return np.array(shares).reshape(-1, len(_EDGES) - 1)


def _gate(heads: pl.DataFrame) -> list[Distribution]:
    return [
        Distribution(f"{name} (share)", heads[f"{name}_share"].drop_nulls().to_numpy())
        for name in ("air", "soft", "bone")
    ]


def _geometry(used: pl.DataFrame) -> list[Distribution]:
    columns = {
        "pixel spacing, mm": "spacing_mm",
        "thickness, mm": "thickness_mm",
        "distance, mm": "gap_mm",
        "tilt, degrees": "tilt_deg",
    }
    return [
        Distribution(name, used[column].drop_nulls().to_numpy()) for name, column in columns.items()
    ]


def _reasons(catalog: pl.DataFrame) -> Table:
    found = catalog.drop_nulls("reason").group_by("reason")
    table = found.agg(
        pl.len(),
        pl.col("slice").sort(),
        pl.col("detail").drop_nulls().value_counts(sort=True).first().alias("most"),
    )
    counts = {reason: rest for reason, *rest in table.iter_rows()}
    rows = []
    for reason, (step, meaning) in REASONS.items():
        if reason in counts:
            count, keys, most = counts[reason]
            number = f"{count:,} ({count / catalog.height:.2%})"
            said = f"{meaning}\n{most['count']:,} of them: {most['detail']}" if most else meaning
            rows.append((reason, step, number, said, ", ".join(keys[:_SHOWN_A_REASON])))
    note = (
        "The file and the detail of each: data/catalog.parquet, columns slice, file and detail."
        if rows
        else "No file was quarantined."
    )
    return Table(("Reason", "Fails at", "Pictures", "Meaning", "First"), rows, True, note)


def _storage(heads: pl.DataFrame) -> Table:
    facts = ["encoding", "bits_stored", "signed", "intercept", "rows", "columns"]
    facts += ["lossy", "repaired", "manufacturer", "kernel"]
    grouped = heads.group_by(facts).len().sort("len", *facts, descending=[True] + [False] * 10)
    shown = grouped.head(20)
    rows = [
        (
            str(row["encoding"]),
            f"{row['bits_stored']} {'signed' if row['signed'] else 'unsigned'}",
            f"{row['intercept']:g}",
            f"{row['rows']} x {row['columns']}",
            "yes" if row["lossy"] else "",
            "yes" if row["repaired"] else "",
            row["manufacturer"] or _UNKNOWN,
            row["kernel"] or _UNKNOWN,
            f"{row['len']:,}",
        )
        for row in shown.iter_rows(named=True)
    ]
    note = f"The {shown.height} commonest of {grouped.height} kinds of storage."
    names = ("Encoding", "Bits", "Intercept", "Size", "Lossy", "12-bit fault", "Maker", "Kernel")
    return Table((*names, "Pictures"), rows, False, note)


def _series(flow: dict[str, Any]) -> Table:
    rows = [
        ("studies", f"{flow['studies']:,}"),
        ("series with readable heads", f"{flow['series']:,}"),
        ("series used", f"{flow['series_used']:,}"),
        ("places in used series where a slice is missing", f"{flow['slices_missing']:,}"),
        ("pictures that stand twice", f"{flow['quarantined'].get('doubled', 0):,}"),
    ]
    return Table(("What", "Number"), rows)


def _labels(used: pl.DataFrame) -> Table:
    rows = []
    for label in LABELS:
        positive = used.filter(pl.col(label) == 1)
        known = used[label].count()
        rows.append(
            (
                label,
                f"{positive.height:,}" if known else _UNKNOWN,
                f"{positive.height / known:.2%}" if known else _UNKNOWN,
                f"{positive['patient'].n_unique():,}" if known else _UNKNOWN,
            )
        )
    return Table(("Label", "Slices", "Of the labelled", "Patients"), rows)


def _made_with(parameters: Mapping[str, Any]) -> Table:
    rows = [("hemtrace", version("hemtrace"))]
    for name, value in parameters.items():
        shown = str(value)
        if name == "windows":
            shown = ", ".join(
                f"{w['name']} ({w['center_hu']:g} / {w['width_hu']:g} HU)" for w in value
            )
        rows.append((f"ingest.{name}", shown))
    return Table(("What", "Value"), rows, True)


def _label_file(flow: dict[str, Any]) -> Table:
    names = {
        "label_rows": "rows of the label file",
        "label_rows_duplicated": "rows that say again what an earlier one said",
        "labels_disagreeing": "images whose rows disagree",
        "labels_contradicting": "images whose `any` is not the union of the subtypes",
        "labels_without_file": "labelled images without a file",
        "shared_pixels": "pictures that stand in several patients",
        "shared_pixels_contradicting": "of these, with contradicting labels",
    }
    rows = [(name, f"{flow[key]:,}") for key, name in names.items() if key in flow]
    first = ", ".join(flow.get("labels_without_file_first", []))
    note = f"Without a file: {first}." if first else ""
    if flow["labels_without_file"] and not first:
        note = "Those without a file: data/labels.parquet, less the names of data/files.parquet."
    return Table(("What", "Number"), rows, note=note)
