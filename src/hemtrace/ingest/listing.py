"""A folder -> the list of its files, dealt out to shards."""

from pathlib import Path

import numpy as np
import polars as pl

from hemtrace.dicom.source import walk_files
from hemtrace.errors import HemtraceError


def list_files(folder: Path, shards: int) -> pl.DataFrame:
    """List every file below a folder, members of zips included, in order of their names.

    Returns
    -------
    Columns file (as `walk_files` names it), bytes, shard. Each shard gets a run of neighbours;
    where there are fewer files than shards, the last ones stay empty.

    Raises
    ------
    HemtraceError
        If the folder is missing or holds no file, or one in it cannot be read.
    """
    table = pl.DataFrame(
        walk_files(folder), schema={"file": pl.String, "bytes": pl.Int64}, orient="row"
    ).sort("file")
    if table.is_empty():
        raise HemtraceError(f"The folder {folder} holds no files; it must hold DICOM files.")
    shard = np.arange(table.height) * shards // table.height
    return table.with_columns(pl.Series("shard", shard, dtype=pl.Int32))
