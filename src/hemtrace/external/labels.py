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
from hemtrace.external.csv_table import is_binary, read_text_table, refuse_rows, to_binary
from hemtrace.ingest.labels_csv import read_labels
from hemtrace.labels import LABELS, SUBTYPES

# What the first column of a plain CSV may be called, what it then names, and what its ids are.
_ID_COLUMNS: dict[str, tuple[LabelLevel, str]] = {
    "slice": ("slice", "a SOPInstanceUID, or the name of a file with or without .dcm"),
    "file": ("slice", "a path below the folder, or the name of a file with or without .dcm"),
    "series": ("series", "the SeriesInstanceUID as it stands in the header"),
    "study": ("study", "the StudyInstanceUID as it stands in the header"),
    "patient": ("patient", "the PatientID as it stands in the header"),
}
_UID = re.compile(r"\d+(\.\d+)+")


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
    examples
        How each may be told to the person who has the label file: its id, or what that looks like.
    ids
        What kinds of id are understood, in words.
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
    examples: list[str]
    ids: str
    scored: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    ratings: np.ndarray | None = None


def read_rsna_labels(path: Path) -> ExternalLabels:
    """Read a CSV of the RSNA layout, `ID,Label`; raises what `read_labels` raises."""
    try:
        found = read_labels(path)
    except HemtraceError as error:
        raise HemtraceError(f"{error}{_hint_at_reader(path)}") from None
    table = found.table.with_row_index("unit").cast({"unit": pl.Int32})
    images = table["image"].to_list()
    return ExternalLabels(
        level="slice",
        table=table.select("unit", *LABELS, "conflict"),
        keys=table.select(key=pl.lit("image:") + pl.col("image"), unit="unit"),
        names=[name if is_public_name(name) else f"image {k + 1}" for k, name in enumerate(images)],
        examples=[show_id("file", name) for name in images],
        ids="the name of a file without .dcm, before the name of the label",
        scored=LABELS,
        facts={"rows": found.csv_rows, "duplicated_rows": found.duplicated_rows},
    )


def _hint_at_reader(path: Path) -> str:
    """Say by which option a file of another layout is read; nothing where it may be this one."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        head = stream.readline(1000).decode("utf-8-sig", "replace")
    first = head.replace('"', "").partition(",")[0].strip().lower()
    if first in _ID_COLUMNS:
        return f" A table whose first column is {first} is read with --reader csv."
    if first == "name":
        return " The reads.csv of CQ500 is read with --reader cq500."
    return ""


def read_plain_labels(path: Path, salt: bytes) -> ExternalLabels:
    """Read a plain CSV: one column that names a unit, and any of the six labels as 0 or 1.

    Parameters
    ----------
    path
        The first column is called `slice` (its SOPInstanceUID, or the name of its file), `file`
        (its path below the folder, or its name), `series`, `study` or `patient` (the id as it
        stands in the DICOM header). Without `any` it is the union, if all five subtypes are there.
        Capitals and surrounding blanks in the names of columns do not matter.
    salt
        By which the ids are hashed, as those of the pictures are.

    Raises
    ------
    HemtraceError
        If the file is missing or unreadable, names no unit or no label, or holds another value
        than 0 and 1.
    """
    text = read_text_table(path, fold=True)
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
    level, ids = _ID_COLUMNS[first]
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
        examples=[
            f"{show_id(first, name)} (line {line})"
            for name, line in zip(table[first], table["line"], strict=True)
        ],
        ids=ids,
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


def show_id(column: str, name: str) -> str:
    """Show an id of a label file as it stands, or, where it may be a person's, its shape.

    A PatientID or the name of a file may be a person's, or his number; its letters become A and
    its digits 9, which tells the form of it all the same.
    """
    if is_public_name(name) or (column != "patient" and _UID.fullmatch(name)):
        return name
    return "".join("9" if sign.isdigit() else "A" if sign.isalpha() else sign for sign in name)


def hash_id(name: str, salt: bytes) -> list[str]:
    """Hash an id as it would be hashed from a header, which is read as Latin-1 whatever it is."""
    spellings = dict.fromkeys((name, name.encode().decode("latin-1")))
    return [hashed for spelling in spellings if (hashed := pseudonym(spelling, salt))]


def _to_keys(pairs: Iterable[tuple[str, int]]) -> pl.DataFrame:
    schema = {"key": pl.String, "unit": pl.Int32}
    return pl.DataFrame(list(pairs), schema=schema, orient="row").unique(
        "key", keep="first", maintain_order=True
    )


def _unknown(label: str) -> pl.Expr:
    return pl.lit(None, pl.UInt8).alias(label)
