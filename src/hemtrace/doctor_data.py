"""How large, how long, how odd: an estimate from a small sample of the files."""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from hemtrace.dicom import read_salt
from hemtrace.dicom.guard import GuardedReader
from hemtrace.dicom.identity import slice_key
from hemtrace.dicom.source import walk_files
from hemtrace.errors import HemtraceError
from hemtrace.finding import Finding, fail, ok, warn
from hemtrace.params import IngestParams, Params, View
from hemtrace.shards import make_pictures
from hemtrace.shards.images import create_images
from hemtrace.shards.make import Row

SAMPLE = 64
_MOST_COUNT_SECONDS = 12.0
_MOST_READ_SECONDS = 10.0
# A job is a process: it imports what it needs before it reads anything.
START_SECONDS = 2.0
_MOST_START_SHARE = 0.1
_USUAL_SHARD_SECONDS = 60


@dataclass(frozen=True)
class Sample:
    """Some files of the data, read as ingest would.

    Attributes
    ----------
    files, is_complete
        How many there are, and whether counting came to its end.
    names
        Those that were read.
    pictures
        How many pictures they gave, all told.
    first_ms, again_ms
        Time a file when read for the first time, and again, from the page cache.
    encodings, reasons
        Counts of pictures.
    packed_bytes
        A picture as zstd Parquet.
    """

    files: int
    is_complete: bool
    names: list[str]
    pictures: int
    first_ms: float
    again_ms: float
    encodings: Counter[str]
    reasons: Counter[str]
    packed_bytes: float


def examine_data(root: Path, params: Params, cores: int) -> Iterator[Finding]:
    """Count the files, read a sample of them, and estimate room and time."""
    ingest = params.ingest
    folder = Path(ingest.raw or root / "data/raw").expanduser() / ingest.images
    if params.is_phantom and not folder.is_dir():
        phantom = params.phantom
        few, many = (phantom.patients * n for n in (phantom.min_slices, phantom.max_slices))
        yield ok("data", f"the phantom will be made: {few:,} to {many:,} synthetic slices")
        return
    try:
        sample = take_sample(folder, ingest)
    except (HemtraceError, OSError) as error:
        yield fail("data", str(error), "check ingest.raw and ingest.images")
        return
    yield _judge_files(folder, sample)
    if not sample.pictures:
        return
    if not params.is_phantom and ingest.salt_file is None:
        yield _judge_names(sample.names)
    if ingest.labels is None:
        yield warn(
            "labels",
            "ingest.labels is null: nothing can be trained",
            "name the label CSV, or ingest alone: snakemake --cores all ingest",
        )
    yield _judge_room(root, ingest, sample)
    yield from _judge_time(ingest, sample, cores)


def take_sample(folder: Path, params: IngestParams) -> Sample:
    """Count the files of a folder for some seconds at most, and read evenly chosen ones twice.

    Raises
    ------
    HemtraceError
        If the folder is missing, unreadable or empty.
    """
    names, is_complete, began = [], True, time.monotonic()
    for name, _ in walk_files(folder):
        names.append(name)
        if time.monotonic() - began > _MOST_COUNT_SECONDS:
            is_complete = False
            break
    if not names:
        raise HemtraceError(f"The folder {folder} holds no files.")
    places = np.unique(np.linspace(0, len(names) - 1, SAMPLE, dtype=int))
    names.sort()
    chosen = [names[place] for place in places]
    salt = read_salt(params.salt_file)
    with GuardedReader(folder, salt, params.read_seconds, params.read_memory_gb) as reader:
        found, first_ms = _read_timed(reader, chosen, params.view, salt)
        read = list(dict.fromkeys(str(row["file"]) for row, _ in found))
        _, again_ms = _read_timed(reader, read, params.view, salt)
    pictures = [picture for _, picture in found if picture is not None]
    return Sample(
        files=len(names),
        is_complete=is_complete,
        names=read,
        pictures=len(pictures),
        first_ms=first_ms,
        again_ms=again_ms,
        encodings=Counter(str(row["encoding"]) for row, picture in found if picture is not None),
        reasons=Counter(str(row["reason"]) for row, picture in found if picture is None),
        packed_bytes=_pack(pictures),
    )


def _read_timed(
    reader: GuardedReader, names: list[str], view: View, salt: bytes
) -> tuple[list[tuple[Row, np.ndarray | None]], float]:
    """Read files until the time for it is over; their pictures, and milliseconds a file."""
    found: list[tuple[Row, np.ndarray | None]] = []
    began = time.perf_counter()
    for row, picture in make_pictures(reader.read, names, view, salt, quiet=True):
        found.append((row, picture))
        if time.perf_counter() - began > _MOST_READ_SECONDS:
            break
    seconds = time.perf_counter() - began
    return found, 1000 * seconds / len({row["file"] for row, _ in found})


def _pack(pictures: list[np.ndarray]) -> float:
    if not pictures:
        return 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.images.parquet"
        with create_images(path, "parquet", pictures[0].shape) as out:
            for picture in pictures:
                out.write(picture)
        return path.stat().st_size / len(pictures)


def _judge_files(folder: Path, sample: Sample) -> Finding:
    more = "" if sample.is_complete else "more than "
    told = {**sample.encodings, **sample.reasons}
    found = (
        f"{more}{sample.files:,} files in {folder}; of {len(sample.names)} read: "
        + ", ".join(f"{count} {name}" for name, count in sorted(told.items()))
        + f"; {sample.first_ms:.1f} ms a file at first, {sample.again_ms:.1f} ms from the cache"
    )
    if not sample.pictures:
        return fail("data", found, "none can be used: check ingest.images, and the reasons")
    if sum(sample.reasons.values()) > sample.pictures:
        return warn("data", found, "most cannot be used: look at the reasons")
    return ok("data", found)


def _judge_names(names: list[str]) -> Finding:
    foreign = [name for name in names if slice_key(name, None, b"") != PurePosixPath(name).stem]
    if 2 * len(foreign) <= len(names):
        return ok("identifiers", "files are named as in the RSNA set, which is pseudonymous")
    return warn(
        "identifiers",
        "the files are not the RSNA set's, and are hashed with a public salt",
        "whoever knows an id can find it again: head -c 32 /dev/urandom > ../salt, and set "
        "ingest.salt_file",
    )


def _judge_room(root: Path, params: IngestParams, sample: Sample) -> Finding:
    pictures = sample.files * sample.pictures / len(sample.names)
    plain = pictures * len(params.windows) * params.size**2
    packed = pictures * sample.packed_bytes
    free = shutil.disk_usage(root).free
    needed = plain if params.format == "npy" else packed
    found = (
        f"{pictures:,.0f} pictures of {params.size} px: {plain / 1e9:.1f} GB as npy, "
        f"{packed / 1e9:.1f} GB as parquet; {free / 1e9:.1f} GB free"
    )
    if needed < 0.9 * free:
        return ok("disk room", found)
    if packed < 0.9 * free:
        return fail("disk room", found, "set ingest.format: parquet")
    # Zstd packs smaller pictures a little less well.
    fitting = int(params.size * (0.8 * free / packed) ** 0.5) // 16 * 16
    if fitting < 64:
        return fail("disk room", found, "make room, or work on another disk")
    advice = f"set ingest.format: parquet and ingest.size: {fitting}, or work on another disk"
    return fail("disk room", found, advice)


def _judge_time(params: IngestParams, sample: Sample, cores: int) -> Iterator[Finding]:
    decoding = sample.files * sample.first_ms / 1000
    start = params.shards * START_SECONDS
    total = (decoding + start) / min(cores, params.shards)
    yield ok("time", f"ingest takes about {_spell(total)} on {cores} cores")
    best = max(cores, min(10_000, round(decoding / _USUAL_SHARD_SECONDS)))
    found = (
        f"{params.shards:,} jobs start for {_spell(start)} in all and read for {_spell(decoding)}"
    )
    lost = max(_MOST_START_SHARE * decoding, _USUAL_SHARD_SECONDS)  # less is not worth a word
    if start > lost and params.shards > best:
        yield warn("shards", found, f"set ingest.shards: {best}")
    elif params.shards < cores and decoding > _USUAL_SHARD_SECONDS:
        yield warn("shards", f"{found}; {cores} cores are there", f"set ingest.shards: {best}")
    elif decoding / params.shards > 20 * _USUAL_SHARD_SECONDS:
        yield warn("shards", f"{found}: much is lost with a job", f"set ingest.shards: {best}")
    else:
        yield ok("shards", found)


def _spell(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
