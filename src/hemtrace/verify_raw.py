"""Are the raw files still those that were read?"""

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from hemtrace.dicom import Rejected, read_salt
from hemtrace.dicom.guard import GuardedReader
from hemtrace.dicom.source import walk_files
from hemtrace.errors import HemtraceError
from hemtrace.ingest.labels_csv import load_labels, read_labels
from hemtrace.params import IngestParams
from hemtrace.shards import shard_name
from hemtrace.verify import Damage, in_processes, read_table

_LISTED = 5
_ADVICE = {
    "are gone": "Bring them back, or list the folder again without them:",
    "were added": "To read them too, list the folder again:",
    "have another size": "Bring back the files that were read, or read these:",
}


def verify_raw(root: Path, params: IngestParams, most: int) -> tuple[list[Damage], int]:
    """List the raw files again, and read some of them again.

    Parameters
    ----------
    root, params
        As in `verify_products`.
    most
        How many files are read, evenly chosen; 0: all.

    Returns
    -------
    What changed, and how many files were read. A file that was listed alike and reads otherwise
    names its shard to be made again.
    """
    data = root / "data"
    folder = Path(params.raw or data / "raw").expanduser() / params.images
    problems: list[Damage] = []
    files, catalog = (
        read_table(data / name, problems) for name in ("files.parquet", "catalog.parquet")
    )
    if files is None or catalog is None:
        return problems, 0
    found = pl.DataFrame(
        walk_files(folder), schema={"file": pl.String, "bytes": pl.Int64}, orient="row"
    )
    both = files.join(found, on="file", how="full", suffix="_found", coalesce=True)
    gone, fresh = pl.col("bytes_found").is_null(), pl.col("bytes").is_null()
    changes = {
        "are gone": gone,
        "were added": fresh,
        "have another size": ~gone & ~fresh & (pl.col("bytes") != pl.col("bytes_found")),
    }
    for change, condition in changes.items():
        if names := both.filter(condition)["file"].sort().to_list():
            problems.append(
                Damage(
                    f"{len(names):,} files of {folder} {change} since they were listed: "
                    f"{_some(names)}. {_ADVICE[change]} snakemake --cores all --forcerun "
                    "ingest_list",
                    is_ours=False,
                )
            )
    problems += _check_csv(data / "labels.parquet", folder.parent, params)
    same = both.filter(pl.col("bytes") == pl.col("bytes_found")).sort("file")
    count = min(same.height, most) if most else same.height
    chosen = same[np.linspace(0, max(0, same.height - 1), count, dtype=int).tolist()]
    digests = catalog.filter(pl.col("row").is_not_null()).select("file", "pixel_blake3")
    known = digests.group_by("file").agg("pixel_blake3")
    chosen = chosen.select("file", "shard").join(known, on="file", how="left")
    groups = [chosen[start : start + 250] for start in range(0, chosen.height, 250)]
    read = partial(_read_again, folder, params)
    for names, shards in in_processes(read, groups, "reading files again", "250 files"):
        problems += [
            Damage(
                f"{folder}/{name} reads otherwise than when its shard "
                f"{shard_name(shard)} was made; without the shard it is read anew.",
                tuple(
                    data / "shards" / f"{shard_name(shard)}.{end}"
                    for end in (params.image_suffix, "parquet")
                ),
            )
            for name, shard in zip(names, shards, strict=True)
        ]
    return problems, chosen.height


def _check_csv(path: Path, raw: Path, params: IngestParams) -> list[Damage]:
    """Read the label CSV again; it may have been changed with its time set back."""
    if params.labels is None or not path.is_file():
        return []
    csv = Path(params.raw or raw).expanduser() / params.labels
    try:
        found = read_labels(csv)
        known = load_labels(path)
    except (HemtraceError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
        return [Damage(f"The labels cannot be compared with {csv}: {error}", is_ours=False)]
    if found.table.equals(known.table):
        return []
    return [Damage(f"{csv} holds other labels than {path}.", (path,))]


def _read_again(
    folder: Path, params: IngestParams, chosen: pl.DataFrame
) -> tuple[list[str], list[int]]:
    salt = read_salt(params.salt_file)
    changed = []
    with GuardedReader(folder, salt, params.read_seconds, params.read_memory_gb) as reader:
        for name, shard, digests in chosen.iter_rows():
            read = [one for one in reader.read(name) if not isinstance(one, Rejected)]
            # A readable slice may have been left out for its picture: only what is held is due.
            if not set(digests or []) <= {one.pixel_blake3 for one in read}:
                changed.append((name, shard))
    return [name for name, _ in changed], [shard for _, shard in changed]


def _some(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
