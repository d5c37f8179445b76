"""The mark of a table of slices that says whether they are synthetic."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from hemtrace.errors import HemtraceError
from hemtrace.writing import write_table

# The key of the Parquet file's own metadata, and its values.
_MARK = "synthetic"
_MARKS = {"true": True, "false": False}


def write_marked(table: pl.DataFrame, path: Path, synthetic: bool | None) -> None:
    """Write a table of slices as Parquet, with a mark that says whether they are synthetic.

    Parameters
    ----------
    table
        Predictions, or what is made of them.
    path
        The file, whole or not at all; the same table and mark give the same bytes.
    synthetic
        None: not known, and no mark is written.

    Raises
    ------
    HemtraceError
        If the disk is full.
    """
    marks = {} if synthetic is None else {_MARK: str(synthetic).lower()}
    write_table(table, path, marks)


def read_synthetic(path: Path) -> bool | None:
    """Read whether predictions are of synthetic slices; None where the file does not say.

    Raises
    ------
    HemtraceError
        If the file is no table of Parquet, or its mark is neither `true` nor `false`.
    """
    try:
        mark = pl.read_parquet_metadata(path).get(_MARK)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise HemtraceError(
            f"{path} is no table of Parquet ({type(error).__name__}); delete it and run again."
        ) from None
    if mark is not None and mark not in _MARKS:
        raise HemtraceError(
            f"{path} is marked {_MARK}={mark!r}, which is neither true nor false; delete it and "
            "run again."
        )
    return None if mark is None else _MARKS[mark]


def join_marks(marks: Iterable[bool | None]) -> bool | None:
    """Say whether predictions that are joined are synthetic: one synthetic part makes the whole so.

    None where no part is synthetic and one does not say.
    """
    told = list(marks)
    return True if True in told else None if None in told else False
