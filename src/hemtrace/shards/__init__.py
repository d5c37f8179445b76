"""Windowed slices on disk, with a row a picture, and their reader.

Knows nothing of torch: the reader hands out numpy arrays.
"""

from hemtrace.shards.check import check_digests
from hemtrace.shards.images import find_images, open_images
from hemtrace.shards.make import make_pictures, shard_name, write_shard
from hemtrace.shards.partition import (
    Partition,
    TestSlices,
    TrainSlices,
    ValSlices,
    open_partition,
)
from hemtrace.shards.rows import ROW_SCHEMA

__all__ = [
    "ROW_SCHEMA",
    "Partition",
    "TestSlices",
    "TrainSlices",
    "ValSlices",
    "check_digests",
    "find_images",
    "make_pictures",
    "open_images",
    "open_partition",
    "shard_name",
    "write_shard",
]
