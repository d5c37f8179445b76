"""Seeded mutations of files in every encoding, and of zips: what archives and attackers do to them.

An own mutator rather than a coverage-guided one: the readers run in a child process that such tools
cannot see into, and every mutation here is one that a number can name again.
"""

import io
import random
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl
from transcode import make_seeds

from hemtrace.dicom import Rejected, Slice
from hemtrace.ingest.catalog import build_catalog
from hemtrace.ingest.flow import count_flow
from hemtrace.ingest.listing import list_files
from hemtrace.params import DEFAULT_WINDOWS, View
from hemtrace.shards import make_pictures, write_shard

SALT = b"x" * 16
VIEW = View(windows=DEFAULT_WINDOWS, size=32, crop="head", pixel_mm=7)
# Every so many files is a zip.
ZIP_EACH = 20

# Lengths and numbers that break parsers.
_NASTY = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE,
          0xFFFFFFFF]  # fmt: skip
# Elements whose values decide what is allocated and decoded.
_TAGS = [b"\x28\x00\x10\x00", b"\x28\x00\x11\x00", b"\x28\x00\x00\x01", b"\x28\x00\x01\x01",
         b"\x28\x00\x02\x01", b"\x28\x00\x03\x01", b"\x28\x00\x08\x00", b"\x28\x00\x02\x00",
         b"\x28\x00\x52\x10", b"\x28\x00\x53\x10", b"\x02\x00\x10\x00", b"\x08\x00\x60\x00",
         b"\xe0\x7f\x10\x00", b"\xfe\xff\x00\xe0"]  # fmt: skip


# Decimal strings: rescale, spacing, thickness, position, orientation, frames.
_DECIMALS = [0x00281052, 0x00281053, 0x00280030, 0x00180050, 0x00200032, 0x00200037, 0x00280008]
_STRANGE = ["1e39", "-1e39", "1e-300", "1e308", "-1e308", "nan", "inf", "-0", "0", "", " ", "1e",
            "-", "0x10", "1,5", "\u0661", "9" * 400, "0." + "0" * 3000 + "1", "1\\" * 50,
            "1e999999999", "-32768", "0.05", "5", "1000", "100000"]  # fmt: skip


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 4, 32])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _header_bytes(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 3, 10])):
        data[chance.randrange(min(len(data), 1200))] = chance.randrange(256)


def _nasty_number(data: bytearray, chance: random.Random) -> None:
    width = chance.choice([2, 4])
    place = chance.randrange(max(1, min(len(data), 1500) - width))
    data[place : place + width] = (chance.choice(_NASTY) & (256**width - 1)).to_bytes(
        width, chance.choice(["little", "big"])
    )


def _element(data: bytearray, chance: random.Random) -> None:
    place = data.find(chance.choice(_TAGS))
    if place >= 0:
        place += chance.choice([4, 6, 8, 10, 12])
        width = chance.choice([2, 4])
        data[place : place + width] = (chance.choice(_NASTY) & (256**width - 1)).to_bytes(
            width, "little"
        )


def _truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _cut_out(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.choice([1, 2, 8, 100, 3000])]


def _repeat(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    part = data[start : start + chance.choice([2, 8, 100, 1000])]
    data[start:start] = part * chance.choice([1, 2, 50])


def _zeros(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    length = min(chance.choice([4, 64, 1000]), len(data) - start)
    data[start : start + length] = bytes([chance.choice([0, 255])]) * length


def _codestream(data: bytearray, chance: random.Random) -> None:
    start = max(0, data.rfind(b"\xe0\x7f\x10\x00"))
    for _ in range(chance.choice([1, 5, 50])):
        data[chance.randrange(start, len(data))] = chance.randrange(256)


def _nest(data: bytearray, chance: random.Random) -> None:
    """Sequences within sequences, before the pixels."""
    place = max(0, data.find(b"\x28\x00\x02\x00"))
    one = b"\x20\x00\x00\x40SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    data[place:place] = one * chance.choice([3, 40, 5000])


def _decimal(data: bytearray, chance: random.Random) -> None:
    """A decimal string that is none, or absurd, in a file that is else well formed."""
    tag = chance.choice(_DECIMALS)
    order = chance.choice(["little", "little", "big"])
    wanted = (tag >> 16).to_bytes(2, order) + (tag & 0xFFFF).to_bytes(2, order)
    place = data.find(wanted)
    if place < 0:
        return
    is_explicit = data[place + 4 : place + 6] in (b"DS", b"IS")
    start = place + (6 if is_explicit else 4)
    width = 2 if is_explicit else 4
    length = int.from_bytes(data[start : start + width], order)
    parts = max(1, data[start + width : start + width + length].count(b"\\") + 1)
    text = "\\".join(chance.choice(_STRANGE) for _ in range(parts)).encode()
    text += b" " * (len(text) % 2)
    data[start : start + width + length] = len(text).to_bytes(width, order) + text


_MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    _flip, _header_bytes, _nasty_number, _element, _truncate, _cut_out, _repeat, _zeros,
    _codestream, _nest, _decimal,
]  # fmt: skip


def mutate(number: int, seeds: dict[str, bytes]) -> tuple[str, bytes]:
    """Make the file of a number: what was done to which seed, and its bytes."""
    chance = random.Random(number)
    name = chance.choice(sorted(seeds))
    data = bytearray(seeds[name])
    done = []
    for _ in range(chance.choice([1, 1, 2, 3])):
        mutation = chance.choice(_MUTATIONS)
        if data:
            mutation(data, chance)
            done.append(mutation.__name__)
    if chance.random() < 0.05:  # the head of one file on the tail of another
        other = seeds[chance.choice(sorted(seeds))]
        place = chance.randrange(len(other))
        data = data[:place] + other[place:]
        done.append("_splice")
    return f"{name}: {' '.join(done)}", bytes(data)


def mutate_zip(number: int, seeds: dict[str, bytes]) -> tuple[str, bytes]:
    """Make the zip of a number: some mutants, packed in some way, and mostly damaged once more."""
    chance = random.Random(-1 - number)
    kinds = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", chance.choice(kinds)) as packed:
        for member in range(chance.choice([0, 1, 3])):
            name = chance.choice(
                [f"s/{member}.dcm", f"../{member}", f"{member}.zip", "M\u00fcller\n.dcm"]
            )
            _, data = mutate(chance.randrange(10**9), seeds)
            if name not in packed.namelist():
                packed.writestr(name, data)
    data = bytearray(content.getvalue())
    done = []
    for _ in range(chance.choice([0, 1, 1, 2])):
        mutation = chance.choice(
            [_flip, _zip_head, _zip_head, _truncate, _cut_out, _repeat, _zeros]
        )
        if data:
            mutation(data, chance)
            done.append(mutation.__name__)
    return f"zip: {' '.join(done)}", bytes(data)


def _zip_head(data: bytearray, chance: random.Random) -> None:
    """A number in the head of a member, in the directory or at its end."""
    place = data.find(chance.choice([b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"]))
    if place >= 0:
        place += chance.randrange(4, 46)
        width = chance.choice([1, 2, 4])
        value = chance.choice(_NASTY) & (256**width - 1)
        data[place : place + width] = value.to_bytes(width, "little")


def write_mutants(folder: Path, numbers: Iterable[int], seeds: dict[str, bytes]) -> dict[str, str]:
    """Write the files of some numbers: what was done, by the names they are given."""
    told = {}
    for number in numbers:
        is_zip = number % ZIP_EACH == ZIP_EACH - 1
        done, content = (mutate_zip if is_zip else mutate)(number, seeds)
        name = f"{number}.{'zip' if is_zip else 'dcm'}"
        (folder / name).write_bytes(content)
        told[name] = done
    return told


def ingest_folder(
    folder: Path, read: Callable[[str], Iterable[Slice | Rejected]], work: Path
) -> pl.DataFrame:
    """Take a folder through all of ingest; the catalog, whose contract has been checked."""
    files = list_files(folder, 1)
    pictures = make_pictures(read, files["file"].to_list(), VIEW, SALT, quiet=True)
    rows = write_shard(pictures, VIEW, work / "0000.npy", work / "0000.parquet")
    catalog = build_catalog(files, rows, None)
    flow = count_flow(catalog, None)
    assert flow["files"] == files.height == rows["file"].n_unique()
    assert flow["pictures"] == rows.height == flow["used"] + sum(flow["quarantined"].values())
    return catalog


__all__ = ["ingest_folder", "make_seeds", "mutate", "mutate_zip", "write_mutants"]
