"""The label CSV of the RSNA layout -> a row an image."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS, SUBTYPES
from hemtrace.writing import write_table

_COUNTS = ("csv_rows", "duplicated_rows", "disagreeing", "contradicting")


@dataclass(frozen=True)
class LabelTable:
    """The label CSV, a row an image.

    Attributes
    ----------
    table
        Columns image, the six labels (uint8, null where the row lacks), and `conflict`.
    csv_rows, duplicated_rows
        Rows of the CSV, and those among them that say again what an earlier one said.
    disagreeing, contradicting
        Images whose rows disagree with each other; whose `any` is not the union of the subtypes.
    """

    table: pl.DataFrame
    csv_rows: int
    duplicated_rows: int
    disagreeing: int
    contradicting: int

    def write(self, path: Path) -> None:
        """Write the table, its counts in the file's metadata."""
        counts = {name: str(getattr(self, name)) for name in _COUNTS}
        write_table(self.table, path, counts)


def load_labels(path: Path) -> LabelTable:
    """Read what `LabelTable.write` wrote."""
    counts = pl.read_parquet_metadata(path)
    return LabelTable(pl.read_parquet(path), **{name: int(counts[name]) for name in _COUNTS})


def no_labels() -> LabelTable:
    """Make the table of a data set without label CSV."""
    schema = {"image": pl.String, **dict.fromkeys(LABELS, pl.UInt8), "conflict": pl.Boolean}
    return LabelTable(pl.DataFrame(schema=schema), 0, 0, 0, 0)


def read_labels(csv: Path) -> LabelTable:
    """Read a label CSV of the RSNA layout: `ID,Label`, a row `<image>_<label>,0/1`.

    An image may have its folders and `.dcm`; blank lines are passed over. Rows that repeat and
    agree are kept once and counted; an image whose rows disagree, or whose `any` is not the union
    of its subtypes, is marked `conflict`.

    Raises
    ------
    HemtraceError
        If the file is missing, has other columns, an unknown label, or a value other than 0 and 1.
    """
    check_label_header(csv)
    try:
        raw = pl.read_csv(csv, schema={"ID": pl.String, "Label": pl.String})
    except pl.exceptions.PolarsError as error:
        cause = "a row has more than two columns, or a quote is not closed"
        if "utf-8" in str(error):
            cause = "it is not UTF-8"
        raise HemtraceError(f"{csv} is not a readable CSV ({cause}).") from None
    raw = raw.with_columns(pl.all().str.strip_chars().replace("", None))
    blank = pl.all_horizontal(pl.all().is_null())
    if raw.select(blank.all()).item():
        raise HemtraceError(f"{csv} has a header but no rows.")
    image = pl.lit(None, pl.String)
    label = pl.lit(None, pl.UInt8)
    for place, name in enumerate(LABELS):  # six suffixes are faster told apart than split off
        mine = pl.col("ID").str.ends_with("_" + name)
        image = pl.when(mine).then(pl.col("ID").str.head(-len(name) - 1)).otherwise(image)
        label = pl.when(mine).then(pl.lit(place, pl.UInt8)).otherwise(label)
    parts = raw.select(
        image=image,
        label=label,
        # 0.0 and 1.0 are what pandas makes of a column that once had gaps
        value=pl.col("Label").cast(pl.Float64, strict=False),
        blank=blank,
    )
    named = pl.col("image").str.len_bytes().fill_null(0) > 0
    _refuse(
        csv, parts, ~named & ~pl.col("blank"), "ID", f"must end in _ and one of {', '.join(LABELS)}"
    )
    binary = pl.col("value").is_in([0.0, 1.0]).fill_null(False)
    _refuse(csv, parts, ~binary & ~pl.col("blank"), "Label", "must be 0 or 1")
    parts = parts.filter(~pl.col("blank")).with_columns(
        pl.col("image")
        .str.replace(r"^.*/", "")
        .str.replace(r"(?i)\.dcm$", "")
        .str.normalize("NFC"),
        pl.col("value").cast(pl.UInt8),
    )
    of_label = [pl.col("value").filter(pl.col("label") == place) for place in range(len(LABELS))]
    wide = parts.group_by("image").agg(
        *(value.first().alias(name) for name, value in zip(LABELS, of_label, strict=True)),
        disagree=pl.any_horizontal(
            (value.min() != value.max()).fill_null(False) for value in of_label
        ),
        repeats=pl.sum_horizontal(
            pl.when(value.min() == value.max()).then(value.count() - 1).otherwise(0)
            for value in of_label
        ),
    )
    contradict = (pl.max_horizontal(SUBTYPES) != pl.col("any")).fill_null(False)
    wide = wide.with_columns(contradict=contradict)
    table = wide.select("image", *LABELS, conflict=pl.col("disagree") | pl.col("contradict")).sort(
        "image"
    )
    return LabelTable(
        table=table,
        csv_rows=parts.height,
        duplicated_rows=int(wide["repeats"].sum()),
        disagreeing=int(wide["disagree"].sum()),
        contradicting=int(wide["contradict"].sum()),
    )


def check_label_header(csv: Path) -> None:
    """Refuse a label CSV that is missing or has other columns than ID and Label."""
    if not csv.is_file():
        raise HemtraceError(
            f"The label file {csv} was not found; check its path, or ingest.labels in params.yaml."
        )
    with csv.open("rb") as stream:
        header = stream.readline(1000)
    if header.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise HemtraceError(f"{csv} is UTF-16; save it as UTF-8.")
    columns = header.decode("utf-8-sig", "replace").strip().replace('"', "")
    if columns == "ID,Label":
        return
    cause = "its first line says something else"
    if columns in ("ID;Label", "ID\tLabel"):
        cause = "there is another sign than a comma between them"
    elif columns.startswith("ID,Label,"):
        cause = "it has more; take out the others"
    raise HemtraceError(f"{csv} must have the columns `ID,Label`: {cause}.")


def _refuse(csv: Path, parts: pl.DataFrame, wrong: pl.Expr, column: str, rule: str) -> None:
    # The row itself is not shown: in a hospital's file it may hold a person's name.
    places = parts.select(wrong.arg_true()).to_series()
    if places.len():
        raise HemtraceError(
            f"{csv}, line {places[0] + 2}: {column} {rule} ({places.len()} such rows)."
        )
