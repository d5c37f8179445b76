"""Labels of a second data set, slice by slice or for whole series, studies or patients."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hemtrace.dicom import pseudonym
from hemtrace.dicom.identity import is_public_name
from hemtrace.errors import HemtraceError
from hemtrace.evaluate.scored import LabelLevel
from hemtrace.ingest.catalog import IMAGE_NAME
from hemtrace.ingest.labels_csv import read_labels
from hemtrace.labels import LABELS, SUBTYPES

_LISTED = 20
# What the first column of a plain CSV may be called, and what it then names.
_ID_COLUMNS: dict[str, LabelLevel] = {
    "slice": "slice",
    "file": "slice",
    "series": "series",
    "study": "study",
    "patient": "patient",
}


@dataclass(frozen=True)
class ExternalLabels:
    """What the readers of a second data set said.

    A unit is what has one set of labels: a slice, series, study, scan or patient.

    Attributes
    ----------
    level
        What a unit is.
    table
        A row a unit: unit (its number from 0), the six labels (uint8, null where unknown) and
        `conflict`.
    keys
        Columns key and unit: by which of the keys of `list_keys` a picture belongs to a unit.
    names
        How each unit may be told to a person without telling whose it is.
    scored
        Labels that the file has.
    facts
        Counts, as plain values.
    ratings
        bool (units, readers, 6), where several readers labelled each unit.
    """

    level: LabelLevel
    table: pl.DataFrame
    keys: pl.DataFrame
    names: list[str]
    scored: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    ratings: np.ndarray | None = None


def read_rsna_labels(path: Path) -> ExternalLabels:
    """Read a CSV of the RSNA layout, `ID,Label`; raises what `read_labels` raises."""
    found = read_labels(path)
    table = found.table.with_row_index("unit").cast({"unit": pl.Int32})
    images = table["image"].to_list()
    return ExternalLabels(
        level="slice",
        table=table.select("unit", *LABELS, "conflict"),
        keys=table.select(key=pl.lit("image:") + pl.col("image"), unit="unit"),
        names=[name if is_public_name(name) else f"image {k + 1}" for k, name in enumerate(images)],
        scored=LABELS,
        facts={"rows": found.csv_rows, "duplicated_rows": found.duplicated_rows},
    )


def read_plain_labels(path: Path, salt: bytes) -> ExternalLabels:
    """Read a plain CSV: one column that names a unit, and any of the six labels as 0 or 1.

    Parameters
    ----------
    path
        The first column is called `slice` (its SOPInstanceUID, or the name of its file), `file`
        (its path below the folder, or its name), `series`, `study` or `patient` (the id as it
        stands in the DICOM header). Without `any` it is the union, if all five subtypes are there.
    salt
        By which the ids are hashed, as those of the pictures are.

    Raises
    ------
    HemtraceError
        If the file is missing or unreadable, names no unit or no label, or holds another value
        than 0 and 1.
    """
    text = read_text_table(path)
    first = text.columns[0]
    if first not in _ID_COLUMNS:
        raise HemtraceError(
            f"{path}: the first column must be called one of {', '.join(_ID_COLUMNS)}, which says "
            "what the ids below it are."
        )
    given = [label for label in LABELS if label in text.columns]
    if not given:
        raise HemtraceError(f"{path} has none of the columns {', '.join(LABELS)}.")
    missing_id = pl.col(first).is_null()
    refuse_rows(path, text, missing_id, f"{first} is empty")
    for label in given:
        refuse_rows(path, text, ~is_binary(label), f"{label} must be 0 or 1")
    scored = _list_scored(given)
    rows = text.with_columns(
        *(to_binary(label) if label in given else _unknown(label) for label in LABELS),
        line=pl.int_range(2, pl.len() + 2),
    )
    if "any" in scored and "any" not in given:
        rows = rows.with_columns(any=pl.max_horizontal(SUBTYPES))
    level = _ID_COLUMNS[first]
    # `any` without a subtype is a bleed of unknown type; a subtype without `any` cannot be.
    denied = pl.lit(False)
    if "any" in given and len(given) > 1:
        denied = (pl.max_horizontal(SUBTYPES) == 1) & (pl.col("any") == 0)
    table = (
        rows.with_columns(denied=denied)
        .group_by(first, maintain_order=True)
        .agg(
            *(pl.col(label).first() for label in LABELS),
            conflict=pl.any_horizontal(
                *(pl.col(label).n_unique() > 1 for label in LABELS), pl.col("denied").any()
            ),
            line=pl.col("line").first(),
        )
        .with_row_index("unit")
        .cast({"unit": pl.Int32})
    )
    keys = [
        (key, unit)
        for unit, name in enumerate(table[first])
        for key in _keys_of_id(first, name, salt)
    ]
    return ExternalLabels(
        level=level,
        table=table.select("unit", *LABELS, "conflict"),
        keys=_to_keys(keys),
        names=[f"line {line}" for line in table["line"]],
        scored=scored,
        facts={"rows": text.height, "duplicated_rows": text.height - table.height},
    )


def _list_scored(given: list[str]) -> tuple[str, ...]:
    # The union of some subtypes is not yet every bleed.
    whole = "any" in given or all(label in given for label in SUBTYPES)
    return tuple(label for label in LABELS if label in given or (label == "any" and whole))


def _keys_of_id(column: str, name: str, salt: bytes) -> list[str]:
    if column in ("series", "study", "patient"):
        return [f"{column}:{hashed}" for hashed in hash_id(name, salt)]
    keys = [f"file:{name}"]
    if "/" not in name:
        plain = re.sub(r"(?i)\.dcm$", "", name)
        keys.append(f"image:{unicodedata.normalize('NFC', plain)}")
    if column == "slice":
        keys += [f"instance:{hashed}" for hashed in hash_id(name, salt)]
    return keys


def hash_id(name: str, salt: bytes) -> list[str]:
    """Hash an id as it would be hashed from a header, which is read as Latin-1 whatever it is."""
    spellings = dict.fromkeys((name, name.encode().decode("latin-1")))
    return [hashed for spelling in spellings if (hashed := pseudonym(spelling, salt))]


def _to_keys(pairs: Iterable[tuple[str, int]]) -> pl.DataFrame:
    schema = {"key": pl.String, "unit": pl.Int32}
    return pl.DataFrame(list(pairs), schema=schema, orient="row").unique("key", keep="first")


def list_keys(pictures: pl.DataFrame, level: LabelLevel) -> pl.DataFrame:
    """List the keys by which pictures may be labelled, the best one first.

    Returns
    -------
    Columns slice, rank, key.
    """
    if level == "slice":
        parts = [
            pl.lit("file:") + pl.col("file"),
            pl.lit("image:") + IMAGE_NAME,
            pl.lit("instance:") + pl.col("instance"),
        ]
    else:
        parts = [pl.lit(f"{level}:") + pl.col(level)]
    tables = [
        pictures.select("slice", rank=pl.lit(rank, pl.Int32), key=part)
        for rank, part in enumerate(parts)
    ]
    return pl.concat(tables).drop_nulls("key")


def match_labels(pictures: pl.DataFrame, labels: ExternalLabels, keys: pl.DataFrame) -> pl.Series:
    """Find the unit of each picture: int32 (pictures,), null where the file does not name it.

    Raises
    ------
    HemtraceError
        If one name is that of several readable files, whose labels cannot be told apart.
    """
    hits = keys.join(labels.keys, on="key").sort("slice", "rank")
    first = hits.unique("slice", keep="first", maintain_order=True)
    if labels.level == "slice":
        readable = pictures.filter(pl.col("row").is_not_null()).select("slice")
        named = first.filter(pl.col("key").str.starts_with("image:"))
        twins = named.join(readable, on="slice", how="semi").filter(pl.col("key").is_duplicated())
        if twins.height:
            raise HemtraceError(
                f"{twins.height} readable files have a labelled name that another file has too; "
                "name them by their paths below the folder, or by SOPInstanceUID."
            )
    return pictures.join(
        first.select("slice", "unit"), on="slice", how="left", maintain_order="left"
    )["unit"]


def tell_unmatched(labels: ExternalLabels, units: pl.Series) -> dict[str, Any]:
    """Count the units that no picture belongs to, and list the first of them."""
    missing = sorted(set(range(labels.table.height)) - set(units.drop_nulls()))
    return {
        "units": labels.table.height,
        "units_without_picture": len(missing),
        "units_without_picture_first": [labels.names[unit] for unit in missing[:_LISTED]],
    }


def read_text_table(path: Path) -> pl.DataFrame:
    """Read a CSV as text, blanks cut off and blank lines left out.

    Raises
    ------
    HemtraceError
        If it is missing, unreadable, or without rows.
    """
    if not path.is_file():
        raise HemtraceError(f"The label file {path} was not found, or is no file.")
    with path.open("rb") as stream:
        head = stream.readline(10_000)
    if not head:
        raise HemtraceError(f"{path} is empty.")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise HemtraceError(f"{path} is UTF-16; save it as UTF-8.")
    if b"," not in head and (b";" in head or b"\t" in head):
        raise HemtraceError(f"{path} has another sign than a comma between its columns.")
    try:
        table = pl.read_csv(path, infer_schema=False, encoding="utf8")
    except pl.exceptions.PolarsError as error:
        cause = "it is not UTF-8" if "utf-8" in str(error).lower() else "its lines are not even"
        raise HemtraceError(f"{path} is not a readable CSV ({cause}).") from None
    names = [name.strip().lstrip("\ufeff") for name in table.columns]
    # polars gives a column whose name is there already one of its own
    doubled = [name for name in names if "_duplicated_" in name]
    if doubled:
        name = doubled[0].partition("_duplicated_")[0]
        raise HemtraceError(f"{path} has two columns {name}; keep one.")
    table = table.rename(dict(zip(table.columns, names, strict=True)))
    table = table.with_columns(pl.all().str.strip_chars().replace("", None))
    table = table.filter(~pl.all_horizontal(pl.all().is_null()))
    if table.is_empty():
        raise HemtraceError(f"{path} has a header but no rows.")
    return table


def is_binary(column: str) -> pl.Expr:
    """Whether a text is 0 or 1; 0.0 and 1.0 are what pandas makes of a column with gaps."""
    return pl.col(column).is_in(["0", "1", "0.0", "1.0"]).fill_null(False)


def to_binary(column: str) -> pl.Expr:
    """Make 0 and 1 of text."""
    return pl.col(column).cast(pl.Float64, strict=False).cast(pl.UInt8)


def _unknown(label: str) -> pl.Expr:
    return pl.lit(None, pl.UInt8).alias(label)


def refuse_rows(path: Path, table: pl.DataFrame, wrong: pl.Expr, rule: str) -> None:
    """Stop where rows break a rule, naming the first by its line: its text may name a person."""
    places = table.select(wrong.arg_true()).to_series()
    if places.len():
        raise HemtraceError(f"{path}, line {places[0] + 2}: {rule} ({places.len()} such rows).")
