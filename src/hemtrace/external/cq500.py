"""The reads of the CQ500 data set: three radiologists, scan by scan, and their majority.

Chilamkurthy et al., Lancet 2018;392:2388-2396. `reads.csv` has a row a scan: `name`
(`CQ500-CT-427`), `Category`, and for the readers R1, R2 and R3 columns such as `R1:ICH`. A scan's
files lie in a folder such as `CQ500CT427 CQ500CT427`.
"""

import re
from pathlib import Path

import numpy as np
import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.external.csv_table import is_binary, read_text_table, refuse_rows, to_binary
from hemtrace.external.labels import ExternalLabels, hash_id
from hemtrace.labels import ANY, LABELS

READERS = ("R1", "R2", "R3")
# The names of the labels in `reads.csv`.
FINDINGS = {
    "epidural": "EDH",
    "intraparenchymal": "IPH",
    "intraventricular": "IVH",
    "subarachnoid": "SAH",
    "subdural": "SDH",
    "any": "ICH",
}
_NUMBER = re.compile(r"0*(\d+)")
# How the folders of series say that contrast was given: `CT POST CONTRAST`, `CT C THIN`, `CT CECT`,
# `CT 4cc sec 150cc`, `CT ORAL IV`; and that it was not: `CT PRE CONTRAST`.
_CONTRAST = r"(?i)\b(contrast|cect|ct c|\d+cc|oral)\b"
_PLAIN = r"(?i)\b(pre|non|no|without|plain)\b"


def read_cq500_labels(path: Path, salt: bytes) -> ExternalLabels:
    """Read `reads.csv`: a label is true where two of the three readers saw it.

    Parameters
    ----------
    path
        The CSV. Its columns on other findings are passed over.
    salt
        By which PatientIDs were hashed: a scan is found by its PatientID too.

    Raises
    ------
    HemtraceError
        If columns are missing, a scan stands twice, or a value is neither 0 nor 1.
    """
    wanted = [f"{reader}:{finding}" for finding in FINDINGS.values() for reader in READERS]
    text = _name_columns(path, read_text_table(path), ["name", *wanted])
    refuse_rows(path, text, pl.col("name").is_null(), "name is empty")
    for name in wanted:
        refuse_rows(path, text, ~is_binary(name), f"{name} must be 0 or 1")
    names = text["name"].to_list()
    plain = pl.Series([scan_name(name) for name in names])
    if plain.n_unique() < plain.len():
        twice = [name for name, again in zip(names, plain.is_duplicated(), strict=True) if again]
        raise HemtraceError(
            f"{path} has several rows of the same scan: {', '.join(twice[:6])}. Keep one row of "
            "each, or the readers would be counted twice."
        )
    ratings = np.stack(
        [
            text.select(to_binary(f"{reader}:{FINDINGS[label]}") for label in LABELS).to_numpy()
            for reader in READERS
        ],
        axis=1,
    ).astype(bool)
    majority = take_majority(ratings)
    seen_apart = majority[:, :ANY].any(axis=1) & ~majority[:, ANY]
    table = pl.DataFrame(majority.astype(np.uint8), schema=list(LABELS)).with_columns(
        unit=pl.int_range(pl.len(), dtype=pl.Int32), conflict=pl.lit(False)
    )
    keys = [
        (key, unit)
        for unit, (name, scan) in enumerate(zip(names, plain, strict=True))
        for key in _list_scan_keys(name, scan, salt)
    ]
    return ExternalLabels(
        level="scan",
        table=table.select("unit", *LABELS, "conflict"),
        keys=pl.DataFrame(keys, schema={"key": pl.String, "unit": pl.Int32}, orient="row"),
        names=names,
        examples=names,
        ids="the name of a folder such as `CQ500CT427 CQ500CT427`, or the PatientID",
        scored=LABELS,
        facts={
            "rows": text.height,
            "duplicated_rows": 0,
            "subtype_without_any": int(seen_apart.sum()),
            "any_without_subtype": int((majority[:, ANY] & ~majority[:, :ANY].any(axis=1)).sum()),
        },
        ratings=ratings,
    )


def _name_columns(path: Path, text: pl.DataFrame, wanted: list[str]) -> pl.DataFrame:
    """Give the wanted columns their names, whatever their capitals and blanks are.

    Raises
    ------
    HemtraceError
        If one is missing, or two could be it.
    """
    found: dict[str, list[str]] = {}
    for column in text.columns:
        found.setdefault("".join(column.casefold().split()), []).append(column)
    known = {name: found.get(name.casefold(), []) for name in wanted}
    missing = [name for name, columns in known.items() if not columns]
    if missing:
        more = f" and {len(missing) - 6} more" if len(missing) > 6 else ""
        raise HemtraceError(
            f"{path} is no reads.csv of CQ500: it lacks {', '.join(missing[:6])}{more}."
        )
    for name, columns in known.items():
        if len(columns) > 1:
            raise HemtraceError(f"{path} has {len(columns)} columns {name}; keep one.")
    return text.select(pl.col(columns[0]).alias(name) for name, columns in known.items())


def take_majority(ratings: np.ndarray) -> np.ndarray:
    """Say what more than half of the readers saw: bool (units, readers, 6) -> bool (units, 6)."""
    majority: np.ndarray = 2 * ratings.sum(axis=1) > ratings.shape[1]
    return majority


def scan_name(text: str) -> str:
    """Keep letters and digits of a name, numbers without leading zeros: `cq500ct7`."""
    plain = "".join(sign for sign in text.casefold() if sign.isalnum())
    return _NUMBER.sub(r"\1", plain)


def _list_scan_keys(name: str, scan: str, salt: bytes) -> list[str]:
    # A PatientID is known by its hash alone, so that its spellings must be tried.
    number = re.fullmatch(r"cq500ct(\d+)", scan)
    spellings = [name, scan, scan.upper()]
    if number:
        spellings += [f"CQ500-CT-{number[1]}", f"CQ500CT{number[1]}"]
    hashed = dict.fromkeys(key for text in spellings for key in hash_id(text, salt))
    return [f"scan:{scan}", *(f"patient:{key}" for key in hashed)]


def set_contrast_aside(pictures: pl.DataFrame) -> pl.DataFrame:
    """Give series with contrast the reason `other-series` where their scan has one without.

    Vessels filled with contrast look like blood; the readers' labels are those of the plain scan.
    The headers do not tell, the folders of the series do.

    Parameters
    ----------
    pictures
        Rows with unit and reason; only rows without a reason count.
    """
    folder = pl.col("file").str.extract(r"([^/]*)/[^/]*$").fill_null("")
    contrast = folder.str.contains(_CONTRAST) & ~folder.str.contains(_PLAIN)
    good = pl.col("reason").is_null()
    # Of rows without a unit there is nothing to choose between: they have a reason.
    has_plain = (good & ~contrast).any().over("unit")
    return pictures.with_columns(
        reason=pl.when(good & contrast & has_plain).then(pl.lit("other-series")).otherwise("reason")
    )


def list_scan_keys(pictures: pl.DataFrame) -> pl.DataFrame:
    """List the keys by which pictures may be scans of CQ500: folders, the deepest first, then ids.

    Returns
    -------
    Columns slice, rank, key.
    """
    folders = pictures["file"].str.replace(r"/?[^/]*$", "").unique()
    rows = [
        (folder, rank, f"scan:{name}")
        for folder in folders
        for rank, name in enumerate(_names_in(folder))
    ]
    schema = {"folder": pl.String, "rank": pl.Int32, "key": pl.String}
    named = pl.DataFrame(rows, schema=schema, orient="row")
    by_folder = (
        pictures.select("slice", folder=pl.col("file").str.replace(r"/?[^/]*$", ""))
        .join(named, on="folder")
        .select("slice", "rank", "key")
    )
    by_patient = pictures.select(
        "slice", rank=pl.lit(10_000, pl.Int32), key=pl.lit("patient:") + pl.col("patient")
    )
    return pl.concat([by_folder, by_patient]).drop_nulls("key")


def _names_in(folder: str) -> list[str]:
    """List what the parts of a path could be the name of: each as a whole, and its words."""
    names: list[str] = []
    for part in reversed(folder.split("/")):
        stem = re.sub(r"(?i)\.zip$", "", part)
        names += [scan_name(word) for word in (stem, *re.split(r"[\s_]+", stem))]
    return [name for name in dict.fromkeys(names) if name]
