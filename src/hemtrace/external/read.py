"""A labelled folder -> pictures and their rows, read, labelled and chosen as in ingest."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from hemtrace.dicom import pseudonym
from hemtrace.dicom.guard import GuardedReader
from hemtrace.evaluate.position import slice_depths
from hemtrace.evaluate.scored import PROBABILITIES
from hemtrace.external.cq500 import list_scan_keys, set_contrast_aside
from hemtrace.external.labels import ExternalLabels
from hemtrace.external.match import list_keys, match_labels
from hemtrace.ingest.listing import list_files
from hemtrace.ingest.series import STUDY, choose_series, mark_doubled, place_in_series
from hemtrace.labels import LABELS
from hemtrace.params import View
from hemtrace.shards import make_pictures, shard_name, write_shard
from hemtrace.shards.context import find_neighbours, read_context
from hemtrace.shards.images import open_images

_FILES_A_SHARD = 5000


def read_folder(folder: Path, view: View, salt: bytes, shards: Path) -> pl.DataFrame:
    """Read every file below a folder.

    Parameters
    ----------
    folder
        Searched recursively.
    view
        The model's.
    salt
        Of the pseudonyms; the same as that of the development data, so that ids can be compared.
    shards
        Where the pictures go.

    Returns
    -------
    A table of `ROW_SCHEMA`, each file a row at least.

    Raises
    ------
    HemtraceError
        If the folder is missing or empty, or the disk is full.
    """
    files = list_files(folder, 1)["file"].to_list()
    shards.mkdir(parents=True, exist_ok=True)
    tables = []
    with GuardedReader(folder, salt) as reader:
        for number, start in enumerate(range(0, len(files), _FILES_A_SHARD)):
            names = files[start : start + _FILES_A_SHARD]
            pictures = make_pictures(reader.read, names, view, salt, number)
            place = shards / shard_name(number)
            images = place.with_suffix(".images.parquet")
            tables.append(write_shard(pictures, view, images, place.with_suffix(".parquet")))
    return pl.concat(tables)


def choose_pictures(pictures: pl.DataFrame, labels: ExternalLabels, salt: bytes) -> pl.DataFrame:
    """Label the pictures, and decide which are used, by the rules of `ingest.catalog`.

    Labels that the file does not have are null and take no picture out.

    Returns
    -------
    The rows with unit, the six labels, index, gap_mm, previous, next, and the `reason` why a
    picture is not used, sorted by file and frame.

    Raises
    ------
    HemtraceError
        If a label could be that of several files.
    """
    is_scan = labels.level == "scan"
    keys = list_scan_keys(pictures) if is_scan else list_keys(pictures, labels.level)
    units = match_labels(pictures, labels, keys)
    labelled = pictures.with_columns(unit=units).join(
        labels.table, on="unit", how="left", maintain_order="left"
    )
    if is_scan:
        labelled = _name_scans(labelled, labels.names, salt)
    lacking = pl.any_horizontal(pl.col(label).is_null() for label in labels.scored)
    use = (
        pl.when(pl.col("patient").is_null())
        .then(pl.lit("no-patient"))
        .when(pl.col("unit").is_null())
        .then(pl.lit("unlabelled"))
        .when(lacking)
        .then(pl.lit("incomplete-labels"))
        .when(pl.col("conflict"))
        .then(pl.lit("conflicting-labels"))
    )
    labelled = labelled.with_columns(reason=pl.coalesce("reason", use))
    if is_scan:
        labelled = set_contrast_aside(labelled)
    placed = place_in_series(mark_doubled(labelled))
    return choose_series(placed, "one").sort("file", "frame").drop("conflict", "is_copy")


def _name_scans(pictures: pl.DataFrame, names: list[str], salt: bytes) -> pl.DataFrame:
    """Let a scan with a name be its own patient where the header tells none."""
    hashed = {unit: pseudonym(name, salt) for unit, name in enumerate(names)}
    scan = pl.col("unit").replace_strict(hashed, default=None, return_dtype=pl.String)
    return pictures.with_columns(patient=pl.coalesce("patient", scan))


class UsedPictures:
    """The pictures that are used, read from the shards, with their neighbours where asked for.

    Parameters
    ----------
    pictures
        As `choose_pictures` gives them.
    shards
        Where `read_folder` put the pictures.
    has_context
        Whether the network takes the neighbours too.
    """

    def __init__(self, pictures: pl.DataFrame, shards: Path, has_context: bool) -> None:
        self.table = pictures.filter(pl.col("reason").is_null()).sort(
            "patient", "study", "series", "z_mm", "slice"
        )
        places = self.table.select("shard", "row", "crop_top", "crop_left", "crop_side")
        self._places = places.to_numpy()[:, None]
        if has_context:
            self._places = find_neighbours(pictures, self.table)
        self._shards = shards

    def __len__(self) -> int:
        """Count the pictures."""
        return self.table.height

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read pictures by their places in `table`: uint8 (n, channels, H, W)."""
        places = self._places[np.asarray(indices)]
        first = self._read_one(int(places[0, 0, 0]), int(places[0, 0, 1]))
        return read_context(self._read_one, places, first.shape)

    def _read_one(self, shard: int, row: int) -> np.ndarray:
        return open_images(self._shards / f"{shard_name(shard)}.images.parquet").read(row)


def make_predictions(pictures: UsedPictures, probabilities: np.ndarray) -> pl.DataFrame:
    """Put probabilities beside labels, in the columns of `data/predictions.parquet`.

    Parameters
    ----------
    pictures
        The used ones.
    probabilities
        float64 (N, 6).

    Returns
    -------
    slice, patient, study, series, depth (0 to 1 along the series), partition (`external`),
    `p_<label>`, `<label>`. A label above the level of slices stands in every slice of its unit.
    """
    depths = slice_depths(pictures.table.with_columns(status=pl.lit("used")))
    table = pictures.table.join(
        depths.select("slice", "depth"), on="slice", how="left", maintain_order="left"
    )
    scores = pl.DataFrame(probabilities, schema=list(PROBABILITIES))
    # Without a StudyInstanceUID nothing says which series belong together.
    study = pl.coalesce(STUDY, "patient").alias("study")
    where = ["slice", "patient", study, "series", "depth", pl.lit("external").alias("partition")]
    return table.select(where).hstack(scores).hstack(table.select(LABELS))
