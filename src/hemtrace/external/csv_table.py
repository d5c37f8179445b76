"""A CSV of a person's making -> text, its faults told by line."""

from collections import Counter
from pathlib import Path

import polars as pl

from hemtrace.errors import HemtraceError


def read_text_table(path: Path, *, fold: bool = False) -> pl.DataFrame:
    """Read a CSV as text, blanks cut off and blank lines left out.

    Parameters
    ----------
    path
        The CSV.
    fold
        Write the names of columns in small letters.

    Raises
    ------
    HemtraceError
        If it is missing, unreadable, or without rows, or two columns have one name.
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
    # polars gives a column whose name is there already one of its own
    names = [name.partition("_duplicated_")[0].lstrip("\ufeff").strip() for name in table.columns]
    names = [name.lower() for name in names] if fold else names
    for name, count in Counter(names).items():
        if count > 1:
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


def refuse_rows(path: Path, table: pl.DataFrame, wrong: pl.Expr, rule: str) -> None:
    """Stop where rows break a rule, naming the first by its line: its text may name a person."""
    places = table.select(wrong.arg_true()).to_series()
    if places.len():
        raise HemtraceError(f"{path}, line {places[0] + 2}: {rule} ({places.len()} such rows).")
