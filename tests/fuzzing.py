"""Seeded mutations of files in every encoding: what archives, networks and attackers do to them.

An own mutator rather than a coverage-guided one: the readers run in a child process that such tools
cannot see into, and every mutation here is one that a number can name again.
"""

import random
from collections.abc import Callable

from transcode import make_seeds

# Lengths and numbers that break parsers.
_NASTY = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE,
          0xFFFFFFFF]  # fmt: skip
# Elements whose values decide what is allocated and decoded.
_TAGS = [b"\x28\x00\x10\x00", b"\x28\x00\x11\x00", b"\x28\x00\x00\x01", b"\x28\x00\x01\x01",
         b"\x28\x00\x02\x01", b"\x28\x00\x03\x01", b"\x28\x00\x08\x00", b"\x28\x00\x02\x00",
         b"\x28\x00\x52\x10", b"\x28\x00\x53\x10", b"\x02\x00\x10\x00", b"\x08\x00\x60\x00",
         b"\xe0\x7f\x10\x00", b"\xfe\xff\x00\xe0"]  # fmt: skip


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


_MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    _flip, _header_bytes, _nasty_number, _element, _truncate, _cut_out, _repeat, _zeros,
    _codestream, _nest,
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


__all__ = ["make_seeds", "mutate"]
