"""From files to partitions: how many came how far, and why the others did not (STARD)."""

from typing import Any

import polars as pl

from hemtrace.dicom.reasons import REASONS, STEPS, count_steps
from hemtrace.errors import HemtraceError
from hemtrace.split import DROPPED
from hemtrace.study.partitions import count_partitions

STEP_NAMES: dict[str, str] = {
    "readable": "readable",
    "ct": "CT",
    "head": "axial slices of the head",
    "labelled": "with a full set of labels",
    "used": "used",
}


def flow_numbers(catalog: pl.DataFrame, splits: pl.DataFrame) -> dict[str, Any]:
    """Count what came through each step from the files to the sides of the split.

    Parameters
    ----------
    catalog, splits
        Products of ingest and split.

    Returns
    -------
    files, and pictures (a multi-frame file has several); steps: a dict each with name, title,
    passed, and excluded: reason, meaning and count, the most frequent first; patients, studies and
    slices that were dealt out; sides: those of `partitions.count_partitions` without `all`, with
    positive_slices and positive_patients.

    Raises
    ------
    HemtraceError
        If the counts do not add up, which a catalog and a split of two runs do.

    References
    ----------
    Bossuyt et al., STARD 2015, BMJ 2015;351:h5527 (item 19).
    """
    ended = dict(catalog.drop_nulls("reason").group_by("reason").len().iter_rows())
    passed = count_steps(catalog.height, ended)
    steps = [
        {
            "name": step,
            "title": STEP_NAMES[step],
            "passed": passed[step],
            "excluded": _list_reasons({r: n for r, n in ended.items() if REASONS[r][0] == step}),
        }
        for step in STEPS
    ]
    left_out = splits.filter(pl.col("partition") == DROPPED)
    if left_out.height:
        steps.append(
            {
                "name": "split",
                "title": "of patients who share no picture",
                "passed": passed["used"] - int(left_out["slices"].sum()),
                "excluded": [
                    {
                        "reason": "shared-pixels",
                        "meaning": "the patient shares a pixel-identical slice with another",
                        "count": int(left_out["slices"].sum()),
                    }
                ],
            }
        )
    *sides, total = count_partitions(catalog, splits)
    _check_sums(catalog, steps, sides, total)
    return {
        "files": catalog["file"].n_unique(),
        "pictures": catalog.height,
        "steps": steps,
        **{name: total[name] for name in ("patients", "studies", "slices")},
        "sides": [
            {
                **{name: side[name] for name in ("name", "patients", "studies", "slices")},
                "positive_slices": side["labels"]["any"]["slices"],
                "positive_patients": side["labels"]["any"]["patients"],
            }
            for side in sides
        ],
    }


def _list_reasons(counts: dict[str, int]) -> list[dict[str, Any]]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        {"reason": reason, "meaning": REASONS[reason][1], "count": count}
        for reason, count in ordered
    ]


def _check_sums(
    catalog: pl.DataFrame,
    steps: list[dict[str, Any]],
    sides: list[dict[str, Any]],
    total: dict[str, Any],
) -> None:
    used = catalog.filter(pl.col("status") == "used").height
    by_step = next(step["passed"] for step in steps if step["name"] == "used")
    dealt = sum(side["slices"] for side in sides)
    if used != by_step or not steps[-1]["passed"] == dealt == total["slices"]:
        raise HemtraceError(
            f"The counts do not add up: the catalog has {used:,} used slices, {by_step:,} by its "
            f"reasons, and the split deals out {dealt:,} of {steps[-1]['passed']:,}; catalog and "
            "split are of different runs: run the pipeline again."
        )
