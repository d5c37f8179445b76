"""Do the pictures on the disk have the digests of the catalog? A look before they are used."""

from pathlib import Path

import numpy as np
import polars as pl
from blake3 import blake3

from hemtrace.errors import HemtraceError
from hemtrace.shards.images import find_images, open_images

# A second or two at 380 px; `hemtrace verify` looks at all.
MOST_PICTURES = 4000


def check_digests(catalog: pl.DataFrame, shards: Path, most: int = MOST_PICTURES) -> int:
    """Compare used pictures with the digests that they had when they were made.

    Parameters
    ----------
    catalog
        Product of ingest.
    shards
        Folder of the shards.
    most
        Pictures that are looked at, evenly chosen over all shards; fewer are all looked at.

    Returns
    -------
    How many were looked at.

    Raises
    ------
    HemtraceError
        If one has another digest, naming the shard, or a shard is missing or damaged.
    """
    used = catalog.filter(pl.col("status") == "used").sort("shard", "row")
    places = np.unique(np.linspace(0, used.height - 1, min(most, used.height), dtype=int))
    chosen = used[places.tolist()].select("shard", "row", "image_blake3")
    for shard, row, due in chosen.iter_rows():
        path = find_images(shards, f"{shard:04d}")
        try:
            found = blake3(open_images(path).read(row).tobytes()).hexdigest()
        except (IndexError, ValueError, OSError) as error:
            raise HemtraceError(
                f"The shard {path} cannot be read at row {row} ({type(error).__name__}); "
                "`hemtrace verify --repair` removes what is damaged, then run the pipeline again."
            ) from None
        if found != due:
            raise HemtraceError(
                f"The shard {path} is damaged: the picture of row {row} has not the digest of the "
                "catalog. `hemtrace verify --repair` removes what is damaged, then run the "
                "pipeline again."
            )
    return chosen.height
