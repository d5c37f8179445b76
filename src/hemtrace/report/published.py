"""What others published, beside what this run found."""

from typing import Any

from hemtrace.labels import SUBTYPES
from hemtrace.report.cells import Table, cell

# AUC of the challenge's winner.
_WANG = {
    "any": 0.988,
    "epidural": 0.984,
    "intraparenchymal": 0.992,
    "intraventricular": 0.996,
    "subarachnoid": 0.985,
    "subdural": 0.983,
}
_WANG_SOURCE = (
    "Wang et al. 2021, NeuroImage: Clinical 32:102785 (1st place), RSNA 2019; whether of slices or "
    "scans was not checked"
)


def published_table(metrics: dict[str, Any], *, synthetic: bool) -> Table:
    """Put published figures beside this run's, with the reason where they do not compare.

    Parameters
    ----------
    metrics
        What `evaluate` gives.
    synthetic
        Whether this run's data are: then nothing compares.
    """
    test, val = (metrics["partitions"][name]["slices"] for name in ("test", "val"))
    no_bleed = test["null"]["mean_accuracy"]
    rows = [
        (
            "accuracy",
            "0.97",
            cell(test["mean_accuracy"]),
            "the paper that this pipeline starts from (EfficientNet-B4); how it counted, and by "
            'what split, is not stated. "No bleed" for every slice reaches 0.943 on the RSNA set '
            f"and {no_bleed:.3f} here",
        ),
        (
            "validation loss\n(here the weighted log loss)",
            "0.025",
            cell(val["weighted_log_loss"]),
            "the same paper; which loss is not stated, and it lies below the winner's",
        ),
        (
            "weighted log loss",
            "0.044",
            cell(test["weighted_log_loss"]),
            "1st place of RSNA 2019 on the challenge's hidden test slices (ensemble over slices "
            "of a scan)",
        ),
        (
            "AUC, any",
            "0.973",
            cell(test["labels"]["any"]["roc_auc"]),
            "patient-level cross-validation, ResNet34, RSNA 2019 (published 2026)",
        ),
        *(
            (
                f"AUC, {label}",
                f"{_WANG[label]:.3f}",
                cell(test["labels"][label]["roc_auc"]),
                _WANG_SOURCE,
            )
            for label in ("any", *SUBTYPES)
        ),
    ]
    why = (
        "This run's data are synthetic: no row compares."
        if synthetic
        else "Other patients, another split and other preprocessing: read as yardsticks, not as "
        "a contest."
    )
    return Table(
        ("Figure", "Published", "This run", "Published by, and what speaks against it"),
        rows,
        text=True,
        note=why,
    )
