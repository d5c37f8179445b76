"""Tables on heat maps: their scores, the planted bleeds, regions and volumes."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from hemtrace.report.cells import ANY_FIRST, NO_INTERVAL, UNDEFINED, Table, marked_cell, number

_NO_MASKS = "Not scored: these data come without lesion masks."


def count_galleries(found: Mapping[str, Any], catalog: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Count the slices of each gallery, and their patients.

    Parameters
    ----------
    found
        What `explain` gives.
    catalog
        Of ingest: slice, patient.
    """
    counts = {}
    for name, chosen in found.get("gallery_slices", {}).items():
        keys = list(_list_keys(chosen))
        patients = catalog.filter(pl.col("slice").is_in(keys))["patient"].n_unique()
        counts[name] = (len(keys), patients)
    return counts


def _list_keys(chosen: Any) -> Iterator[str]:
    """List the slices of a gallery, whose products stand by subtype and kind."""
    if isinstance(chosen, str):
        yield chosen
        return
    for one in chosen.values() if isinstance(chosen, Mapping) else chosen:
        yield from _list_keys(one)


def tell_counts(
    found: Mapping[str, Any], galleries: Mapping[str, tuple[int, int]]
) -> dict[str, str]:
    """Say below each figure of heat maps how much it shows."""
    told = {
        f"gallery_{name}": f"{slices:,} slices of {patients:,} patients."
        for name, (slices, patients) in galleries.items()
    }
    check = found["randomisation"]
    if check is not None and not check["why"]:
        of = f" of {check['patients']:,} patients" if "patients" in check else ""
        told["randomisation"] = (
            f"Mean over {check['slices']:,} slices{of} and {check['draws']} draws of the weights; "
            "the pictures are the first of these slices, in the first draw."
        )
    return told


def localisation_table(found: dict[str, Any]) -> Table:
    """Show how well heat maps lie on the masks, by label and by the size of the bleed."""
    columns = (
        "Maps of",
        "Slices\n(patients)",
        "Peak on\nthe lesion",
        "Other slices'\npeaks on it",
        "Dice",
        "IoU",
        "Energy-based\npointing game",
    )
    if found["labels"] is None:
        return Table(columns, [], note=_NO_MASKS)
    sets = [("any, detected slices", found["labels"]["any"]["detected"])]
    sets += [(label, found["labels"][label]["all"]) for label in ANY_FIRST]
    by_size = found["labels"]["any"]["by_size"]
    sets += [(f"any, {size}", by_size[size]) for size in sorted(by_size, key=_smallest)]
    rows = [(name, f"{own['n']:,}\n({own['patients']:,})", *_measures(own)) for name, own in sets]
    rows_px, columns_px = found["cells"]
    threshold = found["map_threshold"]
    return Table(
        columns,
        rows,
        note=f"Heat maps of {rows_px} x {columns_px} cells: {found['method']['says']}. Small, the "
        "level of chance. Peak on the lesion: the hottest point lies within one cell of the mask. "
        f"Dice and IoU of the map from {number(threshold['value'], 2)} of its maximum on: "
        f"{threshold['source']}. Energy-based pointing game: "
        "share of the heat within the mask. Other slices' peaks: how often the hottest points of "
        "other patients' maps would lie on the lesion, as those of a map would that knows only "
        "where bleeds usually lie. Sizes are areas "
        f"of the bleed on the slice. {NO_INTERVAL}",
    )


def _smallest(size: str) -> float:
    """Order `below 100 mm2`, `100 to 400 mm2`, `from 400 mm2`: JSON has sorted them by letters."""
    words = size.split()
    return 0.0 if words[0] == "below" else float(words[1] if words[0] == "from" else words[0])


def _measures(own: dict[str, Any]) -> list[str]:
    if not own["n"]:
        return [UNDEFINED] * 5

    def beside(measure: str) -> str:
        return f"{marked_cell(own[measure], 2)}\nchance {number(own[f'{measure}_chance'], 2)}"

    shuffled = number(own["pointing_shuffled"], 2)
    return [beside("pointing"), shuffled, beside("dice"), beside("iou"), beside("energy")]


def planted_table(found: dict[str, Any]) -> Table:
    """Show where the peak lies when a bleed is planted into a clear slice."""
    planted = found["planted"]
    columns = ("Peak within a cell of", "by the map", "by the change of the map")
    if planted is None or planted["why"]:
        return Table(columns, [])
    kinds = [planted["map"], planted["difference"]]
    rows = [("the planted place", *(marked_cell(kind["hits"], 2) for kind in kinds))]
    for quadrant in kinds[0]["quadrants"]:
        places = (marked_cell(kind["quadrants"][quadrant], 2) for kind in kinds)
        rows.append((f"it, planted {quadrant}", *places))
    rows += [
        (f"its place {turn}", *(marked_cell(kind["flipped"][turn], 2) for kind in kinds))
        for turn in kinds[0]["flipped"]
    ]
    rows.append(("a place by chance", number(planted["chance"], 2), number(planted["chance"], 2)))
    return Table(
        columns,
        rows,
        note=f"{planted['rule']} {planted['trials']:,} trials on {planted['slices']:,} slices of "
        f"{planted['patients']:,} patients. {NO_INTERVAL}",
    )


def volumes_table(found: dict[str, Any]) -> Table:
    """Show the volumes of the maps' regions beside those of the masks."""
    volumes = found["volumes"]
    columns = (
        "Label",
        "Series",
        "True volume,\nmean mL",
        "Mean error,\nmL",
        "Mean absolute\nerror, mL",
        "Correlation",
    )
    if volumes is None or volumes["why"]:
        return Table(columns, [], note=f"{found['regions']['says']}. {_NO_MASKS}")
    rows = []
    for label in ANY_FIRST:
        own = volumes["labels"][label]["all"]
        rows.append(
            (
                label,
                f"{own['n']:,}",
                number(own["true_ml"]["value"], 1),
                marked_cell(own["bias_ml"], 1),
                marked_cell(own["absolute_error_ml"], 1),
                marked_cell(own["correlation"], 2),
            )
        )
    return Table(
        columns,
        rows,
        note=f"{volumes['rule']} Errors above zero: regions are larger than bleeds, as cells "
        f"are coarse and a threshold flags slices in vain. {NO_INTERVAL}",
    )
