"""What others published, beside what this run found."""

from collections.abc import Mapping, Sequence
from typing import Any

from hemtrace.labels import SUBTYPES
from hemtrace.report.cells import SYNTHETIC_ROWS, Table, marked_cell, number

# Said wherever a test on one source's scans must not be taken for one on another's.
LOST_ELSEWHERE = (
    "Published detectors did worse on other hospitals' scans: that of Wang et al. 2021 "
    "(NeuroImage: Clinical 32:102785) reached an AUC of 0.988 on data like those it learned from "
    "and 0.949 on CQ500"
)
_PAPER = "the paper that this pipeline starts from (EfficientNet-B4)"
# AUC of the challenge's winner.
_WANG = {
    "any": "0.988",
    "epidural": "0.984",
    "intraparenchymal": "0.992",
    "intraventricular": "0.996",
    "subarachnoid": "0.985",
    "subdural": "0.983",
}
_WANG_SOURCE = (
    "Wang et al. 2021, NeuroImage: Clinical 32:102785 (1st place), RSNA 2019; whether of slices or "
    "scans was not checked"
)
# Weighted log loss on the RSNA set: figure, and who reached it.
_LOSSES = (
    ("0.232", "constant prevalence: what no model may exceed. Computed from the RSNA labels"),
    (
        "0.078\N{EN DASH}0.095",
        "EfficientNet-B0, 224 px, one fold: public code of the challenge, RSNA 2019",
    ),
    ("0.071", "EfficientNet-B4, 380 px, one fold: public code of the challenge (accuracy 0.978)"),
    (
        "0.0571",
        "ResNeXt101, 480 px, neighbouring slices and LSTM: Hanley and Larko, 2nd place "
        "(github.com/darraghdog/rsna), on its validation slices; a bag of models 0.044 on the "
        "hidden test slices",
    ),
    (
        "0.0522",
        "CNN and LSTM, one model: Vingroup's team, on the challenge's hidden test slices",
    ),
    (
        "0.0438",
        "1st place: three networks in five folds, then a network over the slices of a scan "
        "(github.com/SeuTao), on the challenge's hidden test slices",
    ),
)


def published_table(
    metrics: Mapping[str, Any],
    localisation: Mapping[str, Any],
    external: Sequence[Mapping[str, Any]],
    *,
    synthetic: bool,
) -> Table:
    """Put published figures beside this run's, with the reason where they do not compare.

    Parameters
    ----------
    metrics, localisation
        What `evaluate` and `explain` give.
    external
        What external tests have found, as `external.results.find_results` gives it.
    synthetic
        Whether this run's data are: then nothing compares.
    """
    test, val = (metrics["partitions"][name]["slices"] for name in ("test", "val"))
    of_any = test["labels"]["any"]
    no_bleed = test["null"]["mean_accuracy"]
    loss = marked_cell(test["weighted_log_loss"])
    rows = [
        (
            "accuracy",
            "0.97",
            marked_cell(test["mean_accuracy"]),
            f"{_PAPER}; how it counted, and by what split, is not stated. "
            f'"No bleed" for every slice reaches 0.943 on the RSNA set and {no_bleed:.3f} here',
        ),
        (
            "validation loss\n(here the weighted log loss)",
            "0.025",
            marked_cell(val["weighted_log_loss"]),
            "the same paper; which loss is not stated, and it lies below the winner's",
        ),
        *(("weighted log loss", figure, loss, source) for figure, source in _LOSSES),
        (
            "AUC, any, slices",
            "0.973",
            marked_cell(of_any["roc_auc"]),
            "patient-level cross-validation, ResNet34, three windows, RSNA 2019 (published 2026)",
        ),
        (
            "average precision, any, slices",
            "0.894\N{EN DASH}0.899",
            marked_cell(of_any["average_precision"]),
            "the same; it rises with the prevalence, which is another there",
        ),
        (
            "AUC, any, slices,\nof the position alone",
            "0.737",
            _say_position(metrics["nulls"]),
            "a table of positions without any pixel, RSNA 2019: what a model must beat",
        ),
        *(
            (
                f"AUC, {label}",
                _WANG[label],
                marked_cell(test["labels"][label]["roc_auc"]),
                _WANG_SOURCE if label == "any" else "as above",
            )
            for label in ("any", *SUBTYPES)
        ),
        *_external_rows(external),
        *_dice_rows(localisation),
    ]
    why = (
        SYNTHETIC_ROWS
        if synthetic
        else "Other patients, another split and other preprocessing: read as yardsticks, not as "
        "a contest."
    )
    return Table(
        ("Figure", "Published", "This run", "Published by, and what speaks against it"),
        rows,
        text=True,
        lead=why,
    )


def _say_position(nulls: Mapping[str, Any]) -> str:
    own = {row["name"]: row for row in nulls["rows"]}.get("position")
    return "not computed" if own is None else marked_cell(own["roc_auc"])


def _external_rows(external: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    found = [
        f"{row['name']}, {row['level']}: {number(row['roc_auc']['value'])}"
        for row in external
        if row["problem"] is None
    ]
    ours = "\n".join(found) or "not done"
    name = "AUC, any, another\nhospital's scans"
    return [
        (
            name,
            "0.949 and 0.964",
            ours,
            "Wang et al. 2021 on the 491 scans of CQ500, and on 75 others; 0.988 inside",
        ),
        (
            name,
            "0.954",
            ours,
            "Salehinejad et al. 2021, Scientific Reports 11 (s41598-021-95533-2): one hospital's "
            "scans, trained on RSNA 2019",
        ),
        (
            name,
            "0.842",
            ours,
            "Abrigo et al. 2023, Hong Kong Medical Journal 29:112: 1,372 scans, 84 with a bleed, "
            "trained on RSNA 2019 (95 % interval 0.791\N{EN DASH}0.894)",
        ),
    ]


def _dice_rows(localisation: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    labels = localisation["labels"]
    own = labels["any"]["all"] if labels else None
    ours = "no masks" if own is None else "none" if not own["n"] else marked_cell(own["dice"], 2)
    name = "Dice of maps learned\nfrom labels alone"
    return [
        (
            name,
            "0.44",
            ours,
            "attention maps of a transformer: Rasoulian et al. 2023, MELBA 2023:012, who found "
            "Grad-CAM lower; on real masks, as are the next two",
        ),
        (name, "0.55", ours, "class activation maps, ResNet and LSTM; its source was not checked"),
        (
            name,
            "0.58",
            ours,
            "multiple instance learning: Nemcek et al. 2022, BIOSTEC "
            "(doi 10.5220/0010825000003123)",
        ),
    ]
