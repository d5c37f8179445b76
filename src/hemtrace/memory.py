"""How the process deals with memory that was freed."""

import ctypes
from contextlib import suppress

# From malloc.h of glibc; on other systems there is nothing to set.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _FROM_HEAP_BYTES = 2**28, 2**25


def keep_freed_memory() -> None:
    """Let the process keep up to 256 MB that it freed.

    Every slice takes some arrays of a megabyte and frees them. Given back to the system they are
    got again page by page, each filled with zeros: that took half of the time of a shard.
    """
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, _FROM_HEAP_BYTES)
