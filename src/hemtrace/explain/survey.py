"""One pass over the slices: heat maps, their scores where masks exist, regions where flagged."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hemtrace.explain.cases import Cases
from hemtrace.explain.localise import (
    THRESHOLD_GRID,
    Score,
    Trial,
    choose_map_threshold,
    dice_by_threshold,
    heat_region,
    score_trial,
)
from hemtrace.explain.maps import Mapper, batches
from hemtrace.explain.masks import count_lesion_pixels, head_area, read_bits
from hemtrace.explain.regions import area_of_pixels, find_regions, slice_distances, volume_ml
from hemtrace.labels import ANY, LABELS
from hemtrace.shards.rows import Schema

# Where no validation slice has a mask: half of the hottest point, as is usual.
_USUAL_THRESHOLD = 0.5
REGION_SCHEMA: Schema = {
    "slice": pl.String,
    "patient": pl.String,
    "study": pl.String,
    "series": pl.String,
    "label": pl.String,
    "probability": pl.Float64,
    "region": pl.Int32,
    "top": pl.Int32,
    "left": pl.Int32,
    "bottom": pl.Int32,
    "right": pl.Int32,
    "area_mm2": pl.Float64,
    "outline": pl.List(pl.List(pl.Float32)),
}
VOLUME_SCHEMA: Schema = {
    "patient": pl.String,
    "study": pl.String,
    "series": pl.String,
    "label": pl.String,
    "slices_flagged": pl.Int32,
    "volume_ml": pl.Float64,
    "true_volume_ml": pl.Float64,
}


def choose_threshold(
    mapper: Mapper, cases: Cases, lesions: dict[str, np.ndarray], places: list[int], brain: int
) -> dict[str, Any]:
    """Choose the threshold of the map by the masks of validation slices, one for all labels.

    Parameters
    ----------
    mapper
        Makes the maps.
    cases
        Validation slices.
    lesions
        Their masks, from `masks.read_masks`.
    places
        Of those that are looked at; all have a mask.
    brain
        Channel by which the head is found.

    Returns
    -------
    value; source, in words; slices, patients and pairs (slices times labels) behind it; grid:
    threshold and mean Dice coefficient.
    """
    dices: list[list[float]] = []
    for batch in batches(len(places), "map threshold"):
        chosen = [places[k] for k in batch]
        images = cases.slices.read(chosen)
        truth = cases.slices.labels[chosen].astype(bool)
        columns = np.flatnonzero(truth.any(axis=0)).tolist()
        heat = mapper.maps(images, columns)
        for k, place in enumerate(chosen):
            head = head_area(images[k, brain])
            for c, column in enumerate(columns):
                mask = lesions[cases.slices.slices[place]][column]
                if truth[k, column] and mask.any():
                    dices.append(dice_by_threshold(heat[k, c], head, mask))
    if not dices:
        return fix_threshold()
    table = np.array(dices)
    return {
        "value": choose_map_threshold(table),
        "source": "the highest mean Dice coefficient of validation slices with a lesion mask, one "
        "threshold for all labels",
        "slices": len(places),
        "patients": len(set(cases.slices.patients[places].tolist())),
        "pairs": len(table),
        "grid": [
            list(pair) for pair in zip(THRESHOLD_GRID, table.mean(axis=0).tolist(), strict=True)
        ],
    }


def fix_threshold() -> dict[str, Any]:
    """Give the threshold where no validation slice has a mask, as `choose_threshold` would."""
    return {
        "value": _USUAL_THRESHOLD,
        "source": "fixed at half of the hottest point: no validation slice has a lesion mask",
        "slices": 0,
        "patients": 0,
        "pairs": 0,
        "grid": None,
    }


def survey_slices(
    mapper: Mapper,
    cases: Cases,
    lesions: dict[str, np.ndarray],
    scored: Collection[int],
    segmented: Collection[int],
    threshold: float,
    brain: int,
) -> tuple[dict[str, list[Score]], pl.DataFrame]:
    """Make the maps of test slices, score them, and cut out regions.

    Parameters
    ----------
    mapper, cases, lesions, brain
        As for `choose_threshold`, of test slices.
    scored
        Places of slices with a mask: each label that a slice bears is scored on its own mask.
    segmented
        Places of flagged slices: each label that is flagged gets its regions.
    threshold
        Of the map.

    Returns
    -------
    Scores by label, and a table of `REGION_SCHEMA`, a row a region.
    """
    scores: dict[str, list[Score]] = {label: [] for label in LABELS}
    rows: list[dict[str, Any]] = []
    to_score, to_cut = set(scored), set(segmented)
    places = sorted(to_score | to_cut)
    for batch in batches(len(places), "heat maps"):
        chosen = [places[k] for k in batch]
        images = cases.slices.read(chosen)
        size = images.shape[-1]
        bears = cases.slices.labels[chosen].astype(bool)
        bears &= np.isin(chosen, sorted(to_score))[:, None]
        flags = cases.flagged[chosen] & np.isin(chosen, sorted(to_cut))[:, None]
        columns = np.flatnonzero((bears | flags).any(axis=0)).tolist()
        heat = mapper.maps(images, columns)
        cell_px = min(size / cells for cells in mapper.cells)
        for k, place in enumerate(chosen):
            head = head_area(images[k, brain])
            for c, column in enumerate(columns):
                if bears[k, column]:
                    mask = lesions[cases.slices.slices[place]][column]
                    if mask.any():
                        trial = Trial(
                            str(cases.slices.patients[place]),
                            bool(cases.flagged[place, ANY]),
                            heat[k, c],
                            mask,
                            head,
                            float(mask.sum()) * cases.picture_pixel_mm2(place, size),
                        )
                        scores[LABELS[column]].append(score_trial(trial, cell_px, threshold))
                if flags[k, column]:
                    rows += _cut(cases, place, column, heat_region(heat[k, c], head, threshold))
    return scores, pl.DataFrame(rows, schema=REGION_SCHEMA, orient="row")


def _cut(cases: Cases, place: int, column: int, area: np.ndarray) -> list[dict[str, Any]]:
    regions = find_regions(
        area, cases.square(place), cases.shape(place, len(area)), cases.spacing_mm(place)
    )
    known = cases.table.row(place, named=True)
    return [
        {
            "slice": cases.slices.slices[place],
            "patient": str(cases.slices.patients[place]),
            "study": known["study"],
            "series": known["series"],
            "label": LABELS[column],
            "probability": float(cases.probability[place, column]),
            "region": number,
            "top": region.top,
            "left": region.left,
            "bottom": region.bottom,
            "right": region.right,
            "area_mm2": region.area_mm2,
            "outline": region.outline.tolist(),
        }
        for number, region in enumerate(regions)
    ]


def measure_volumes(
    cases: Cases, places: list[int], regions: pl.DataFrame, masks: Path | None
) -> pl.DataFrame:
    """Sum the regions of whole series to volumes, beside those of the lesion masks.

    Parameters
    ----------
    cases
        Test slices.
    places
        Of all slices of the series that were segmented, flagged or not.
    regions
        Of these series, from `survey_slices`.
    masks
        The table with lesion masks; None: true volumes are null.

    Returns
    -------
    A table of `VOLUME_SCHEMA`, a row a series and label. A series without a flagged slice has a
    volume of 0; where spacing or position is unknown it is null.
    """
    names = [cases.slices.slices[place] for place in places]
    place_of = dict(zip(names, places, strict=True))
    areas: dict[tuple[str, str], float] = {}
    for name, label, area in regions.select("slice", "label", "area_mm2").iter_rows():
        areas[name, label] = areas.get((name, label), 0.0) + (np.nan if area is None else area)
    true_areas: dict[str, np.ndarray] = {}
    for name, bits in read_bits(masks, names) if masks is not None else ():
        pixel = area_of_pixels(1, cases.spacing_mm(place_of[name]))
        true_areas[name] = count_lesion_pixels(bits) * (np.nan if pixel is None else pixel)
    rows = []
    table = cases.table.with_row_index("place").filter(pl.col("place").is_in(places))
    keys = ["patient", "study", "series"]
    for key, group in table.sort(*keys, "slice").group_by(keys, maintain_order=True):
        z_mm = group["z_mm"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        distances = slice_distances(z_mm).tolist()
        inside, here = group["slice"].to_list(), group["place"].to_numpy()
        for column, label in enumerate(LABELS):
            truth = [
                float(true_areas[name][column]) if name in true_areas else 0 for name in inside
            ]
            rows.append(
                {
                    **dict(zip(keys, key, strict=True)),
                    "label": label,
                    "slices_flagged": int(cases.flagged[here, column].sum()),
                    "volume_ml": volume_ml(
                        [areas.get((name, label), 0.0) for name in inside], distances
                    ),
                    "true_volume_ml": None if masks is None else volume_ml(truth, distances),
                }
            )
    return pl.DataFrame(rows, schema=VOLUME_SCHEMA, orient="row")
