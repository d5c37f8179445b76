"""Does what lies on the disk hold what the catalog says? Every digest is computed again."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandera.errors
import polars as pl
import pyarrow as pa
from blake3 import blake3
from tqdm import tqdm

from hemtrace.errors import HemtraceError
from hemtrace.ingest.catalog import CATALOG_CONTRACT, build_catalog
from hemtrace.ingest.flow import count_flow
from hemtrace.ingest.labels_csv import LabelTable, load_labels
from hemtrace.leftovers import is_whole
from hemtrace.params import IngestParams
from hemtrace.shards import ROW_SCHEMA, shard_name
from hemtrace.shards.images import NpyReader, ParquetReader
from hemtrace.split import check_leakage

# The catalog adds reasons of its own to rows that a shard holds as readable.
_SAME_IN_CATALOG = [name for name in ROW_SCHEMA if name not in ("reason", "detail")]
_LISTED = 5
_FEWEST_FOR_PROCESSES = 32  # they take some seconds to start


@dataclass(frozen=True)
class Damage:
    """Something that is wrong.

    Attributes
    ----------
    sentence
        What is wrong.
    files
        Without these, it is made again.
    is_ours
        Whether the pipeline can mend it: not where the raw files changed.
    """

    sentence: str
    files: tuple[Path, ...] = ()
    is_ours: bool = True


def verify_products(root: Path, params: IngestParams) -> list[Damage]:
    """Check list of files, catalog, shards and split against each other.

    Parameters
    ----------
    root
        Folder of the project.
    params
        Those with which the products were made.

    Raises
    ------
    HemtraceError
        If there is nothing yet that could be checked.
    """
    data = root / "data"
    listing, catalog_path = data / "files.parquet", data / "catalog.parquet"
    if not listing.is_file() and not catalog_path.is_file():
        raise HemtraceError(
            f"{data} has no list of files and no catalog; run the pipeline first: "
            "snakemake --cores all"
        )
    damages = [
        Damage(f"{part} was left by a job that did not finish.", (part,))
        for folder in (data, data / "shards", root / "models")
        for part in sorted(folder.glob("*.part"))
    ]
    files = read_table(listing, damages)
    labels = _read_labels(data / "labels.parquet", damages)
    catalog = read_table(catalog_path, damages)
    if catalog is not None and (text := _break_of_contract(catalog)):
        damages.append(Damage(text, (catalog_path, data / "ingest.json")))
        catalog = None
    if files is None:
        return damages
    of_shards = check_shards(data / "shards", files, catalog, params)
    damages += of_shards
    if catalog is None:
        return damages
    damages += _check_listed(files, catalog, catalog_path)
    if labels is not None and not of_shards:
        damages += _check_catalog(data, files, catalog, labels, params)
    damages += _check_splits(data / "splits.parquet", catalog, root / "models/model.safetensors")
    return damages


def read_table(path: Path, damages: list[Damage]) -> pl.DataFrame | None:
    """Read a product; what is wrong with it is added to `damages`."""
    if not path.is_file():
        damages.append(Damage(f"{path} is missing."))
        return None
    try:
        return _load(path)
    except _UnreadableError as error:
        damages.append(Damage(f"{path} cannot be read ({error}).", (path,)))
        return None


class _UnreadableError(Exception):
    """A table is damaged; what was raised when it was read."""


def _load(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # what Rust panics with is no Exception
        raise _UnreadableError(type(error).__name__) from None


def _read_labels(path: Path, damages: list[Damage]) -> LabelTable | None:
    if read_table(path, damages) is None:
        return None
    try:
        return load_labels(path)
    except (KeyError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
        damages.append(Damage(f"{path} is damaged ({type(error).__name__}).", (path,)))
        return None


def _break_of_contract(catalog: pl.DataFrame) -> str | None:
    try:
        CATALOG_CONTRACT.validate(catalog, lazy=True)
    except (pandera.errors.SchemaErrors, pandera.errors.SchemaError) as error:
        cases = getattr(error, "failure_cases", None)
        columns = sorted(set(cases["column"].drop_nulls())) if cases is not None else []
        named = ", ".join(map(str, columns[:_LISTED])) or "its columns"
        return f"data/catalog.parquet breaks its contract in: {named}."
    return None


def _check_catalog(
    data: Path,
    files: pl.DataFrame,
    catalog: pl.DataFrame,
    labels: LabelTable,
    params: IngestParams,
) -> Iterator[Damage]:
    """Make catalog and counts again from sound rows and labels, and compare."""
    path, counts = data / "catalog.parquet", data / "ingest.json"
    names = [shard_name(number) for number in range(params.shards)]
    rows = pl.concat(_load(data / f"shards/{name}.parquet") for name in names)
    known = labels if params.labels is not None else None
    try:
        due = build_catalog(files, rows, known, params.series)
        flow = count_flow(due, known)
    except HemtraceError as error:
        yield Damage(f"{path} cannot be made from its parts: {error}", (path, counts))
        return
    if not due.equals(catalog):
        wrong = [name for name in due.columns if not due[name].equals(catalog[name])]
        yield Damage(
            f"{path} holds other values than its parts give, in: {', '.join(wrong[:_LISTED])}.",
            (path, counts),
        )
    try:
        is_same = json.loads(counts.read_text()) == json.loads(json.dumps(flow))
    except (OSError, ValueError) as error:
        yield Damage(f"{counts} is missing or damaged ({type(error).__name__}).", (path, counts))
        return
    if not is_same:
        yield Damage(f"{counts} tells other counts than the catalog gives.", (path, counts))


def _check_listed(files: pl.DataFrame, catalog: pl.DataFrame, path: Path) -> Iterator[Damage]:
    held = catalog.select("file").unique()
    lost = files.join(held, on="file", how="anti").height
    extra = held.join(files, on="file", how="anti").height
    if lost or extra:
        yield Damage(
            f"Of {files.height:,} listed files {lost:,} have no row in the catalog, and {extra:,} "
            "files of the catalog were not listed.",
            (path,),
        )


def _check_splits(path: Path, catalog: pl.DataFrame, model: Path) -> Iterator[Damage]:
    problems: list[Damage] = []
    if not path.is_file() and not model.is_file():
        return  # nothing has asked for it yet
    splits = read_table(path, problems)
    yield from problems
    if splits is None:
        return
    used = catalog.filter(pl.col("status") == "used")
    counts = used.group_by("patient").agg(pl.len().alias("held"))
    try:
        # Patients that the split drops (split.shared_pixels) stand in none of its rows.
        check_leakage(used.join(splits, on="patient", how="semi"), splits)
        joined = splits.join(counts, on="patient", how="left")
        wrong = joined.filter(pl.col("held").fill_null(0) != pl.col("slices")).height
    except (HemtraceError, pl.exceptions.PolarsError) as error:
        yield Damage(f"{path}: {error}", (path,))
        return
    if wrong:
        yield Damage(
            f"{path} counts other slices than the catalog for {wrong:,} patients.", (path,)
        )


def check_shards(
    folder: Path, files: pl.DataFrame, catalog: pl.DataFrame | None, params: IngestParams
) -> list[Damage]:
    """Check every shard: its files, its rows, and the digest of each picture."""
    names = [shard_name(number) for number in range(params.shards)]
    wanted = {f"{name}.{end}" for name in names for end in (params.image_suffix, "parquet")}
    damages = [
        Damage(f"{path} belongs to no shard of these parameters.", (path,))
        for path in sorted(folder.iterdir() if folder.is_dir() else ())
        if path.name not in wanted and path.suffix != ".part"
    ]
    listed = files.partition_by("shard", as_dict=True)
    rows = {} if catalog is None else catalog.partition_by("shard", as_dict=True)
    shape = (len(params.windows), params.size, params.size)
    tasks = [
        (
            folder / f"{name}.{params.image_suffix}",
            folder / f"{name}.parquet",
            listed.get((number,), files.clear())["file"].to_list(),
            None if catalog is None else rows.get((number,), catalog.clear()),
            shape,
        )
        for number, name in enumerate(names)
    ]
    found = in_processes(_check_shard, tasks, "checking shards", "shard")
    return damages + [damage for damage in found if damage is not None]


def in_processes(
    work: Callable[[Any], Any], tasks: list[Any], title: str, unit: str
) -> Iterator[Any]:
    """Do a work on each task, in order, on all cores; a bar tells how far it is."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if len(tasks) < _FEWEST_FOR_PROCESSES or cores == 1:
        yield from map(work, tqdm(tasks, desc=title, unit=unit, disable=None))
        return
    # polars runs threads, which a forked process would wait for in vain.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, mp_context=context) as pool:
        done = pool.map(work, tasks)
        yield from tqdm(done, desc=title, unit=unit, total=len(tasks), disable=None)


def _check_shard(task: tuple[Path, Path, list[str], pl.DataFrame | None, Any]) -> Damage | None:
    images, rows, files, catalog, shape = task
    both = (images, rows)
    missing = [path for path in both if not path.is_file()]
    if missing:
        return Damage(f"{missing[0]} is missing.", tuple(set(both) - set(missing)))
    cut = [path for path in both if not is_whole(path)]
    if cut:
        return Damage(f"{cut[0]} is cut short or too long.", both)
    try:
        table = _load(rows)
    except _UnreadableError as error:
        return Damage(f"{rows} cannot be read ({error}).", both)
    if table.schema != pl.Schema(ROW_SCHEMA):
        return Damage(f"{rows} has other columns than this version of hemtrace writes.", both)
    if table["file"].unique(maintain_order=True).to_list() != files:
        return Damage(f"{rows} holds other files than were listed for it.", both)
    problem = _check_pictures(images, table, shape)
    if problem:
        return Damage(problem, both)
    if catalog is not None:
        ours = table.select(_SAME_IN_CATALOG).sort("file", "frame")
        theirs = catalog.select(_SAME_IN_CATALOG).sort("file", "frame")
        if not ours.equals(theirs):
            # The pictures agree with their rows: it is the catalog that is older, or damaged.
            path = rows.parents[1] / "catalog.parquet"
            return Damage(f"{path} holds other rows than {rows}.", (path,))
    return None


def _check_pictures(path: Path, table: pl.DataFrame, shape: tuple[int, ...]) -> str | None:
    kept = table.filter(pl.col("row").is_not_null()).sort("row")
    if kept["row"].to_list() != list(range(kept.height)):
        return f"The rows beside {path} are not numbered one by one."
    try:
        reader = (NpyReader if path.suffix == ".npy" else ParquetReader)(path)
        expected = (kept.height, *shape)
        if reader.shape != expected:
            return f"{path} holds pictures of {reader.shape}, and {expected} are due."
        digests = (blake3(reader.read(row).tobytes()).hexdigest() for row in range(kept.height))
        pairs = zip(kept["slice"], kept["image_blake3"], digests, strict=True)
        wrong = [key for key, due, digest in pairs if due != digest]
    except (OSError, ValueError, KeyError, EOFError, pa.ArrowException) as error:
        return f"{path} cannot be read ({type(error).__name__})."
    if wrong:
        named = ", ".join(wrong[:_LISTED])
        return f"{path}: {len(wrong):,} pictures have another digest than they should: {named}."
    return None


def advise(damages: list[Damage], deleted: list[Path]) -> str:
    """Say in a sentence or two what is to be done about damages."""
    told = [_count(len(damages), "problem") + "."]
    ours = [damage for damage in damages if damage.is_ours]
    left = [path for damage in ours for path in damage.files if path not in deleted]
    if any(path.is_file() for path in left):
        told.append("`hemtrace verify --repair` deletes what is damaged, to be made again.")
    elif ours:
        told.append("`snakemake --cores all` makes what is missing.")
    if len(ours) < len(damages):
        told.append("What is said of raw files no repair can mend: do as is said there.")
    return " ".join(told)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def repair(damages: Iterable[Damage]) -> list[Path]:
    """Delete the files that are damaged, so that the next run makes exactly these again."""
    files = sorted({path for damage in damages for path in damage.files if path.is_file()})
    for path in files:
        path.unlink()
    return files
