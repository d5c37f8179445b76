"""The kinds of figures that the paper shows, beside this report's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hemtrace.labels import SUBTYPES
from hemtrace.report.cells import SYNTHETIC_ROWS, UNDEFINED, Link, Table, number


@dataclass(frozen=True)
class _PaperFigure:
    """A kind of figure of the paper: our figures (text, anchor, what is found), and why not."""

    shows: str
    ours: tuple[tuple[str, str, str], ...]
    why: str


# The kinds of figures that the public text tells of. Which number each bears it does not tell.
_PAPER_FIGURES = (
    _PaperFigure(
        "curves of accuracy and loss by epoch",
        (("Training: accuracy and loss by epoch", "training", "training"),),
        "the end points are in the table above (accuracy 0.97, validation loss 0.025); the curves "
        "are not given in numbers, and neither the loss nor the split is stated",
    ),
    _PaperFigure(
        "curves of the AUC",
        (
            ("Training: validation AUC by epoch", "training", "val_auc"),
            ("ROC curves of the test slices", "roc", "auc"),
        ),
        "no AUC is given in numbers in the text at hand",
    ),
    _PaperFigure(
        "bar chart of detection: bleed or none",
        (("Bleeds found and missed", "detection", "detection"),),
        "of which slices or patients it counts is not told in the text at hand",
    ),
    _PaperFigure(
        "bar chart of the subtypes",
        (("Each label's sensitivity, specificity and AUC", "subtypes", "subtypes"),),
        "which figure its bars show is not told in the text at hand",
    ),
    _PaperFigure(
        "confusion matrices",
        (("Confusion matrices of all labels", "confusion", "confusion"),),
        "neither split nor threshold is told; here it is fixed on validation patients",
    ),
    _PaperFigure(
        "Grad-CAM heat maps with the region outlined; the slice itself where no bleed is found",
        (
            ("Flagged slices under their heat maps", "gallery_bleeds", "pictures"),
            ("Slices where no bleed is found", "gallery_clear", "pictures"),
            ("Scored against masks", "localisation", "localisation"),
        ),
        "by what rule its slices were chosen is not told; here by a stated one, and all maps are "
        "scored",
    ),
)


def paper_table(
    metrics: Mapping[str, Any], localisation: Mapping[str, Any], *, synthetic: bool
) -> Table:
    """Map the paper's figures to this report's, with the reason where they do not compare.

    Parameters
    ----------
    metrics, localisation
        What `evaluate` and `explain` give.
    synthetic
        Whether this run's data are: then nothing compares.
    """
    found = _sum_up(metrics, localisation)
    rows = []
    for figure in _PAPER_FIGURES:
        for place, (text, anchor, key) in enumerate(figure.ours):
            shows, why = ("the same", "as above") if place else (figure.shows, figure.why)
            rows.append((shows, Link(text, f"#figure-{anchor}"), found[key], why))
    note = (
        "The paper's own pages were not at hand when this was written. What its Figures 2 to 7 "
        "show is known from descriptions in words, without the number that each bears; its "
        "pictures are not reproduced here. Its Figure 1 explains how EfficientNets are scaled."
    )
    return Table(
        ("The paper shows", "Here", "This run", "Why it does not compare at once"),
        rows,
        text=True,
        note=note,
        lead=SYNTHETIC_ROWS if synthetic else "",
    )


def _sum_up(metrics: Mapping[str, Any], localisation: Mapping[str, Any]) -> dict[str, str]:
    """Say in a few words what stands in each of our figures."""
    test, point = metrics["partitions"]["test"], metrics["default_point"]
    slices, val = test["slices"], metrics["partitions"]["val"]["slices"]
    areas = [slices["labels"][label]["roc_auc"]["value"] for label in SUBTYPES]
    known = [area for area in areas if area is not None]
    counts = test["patients"]["labels"]["any"]["points"][point]["confusion"]
    pointing = localisation["labels"] and localisation["labels"]["any"]["all"].get("pointing")
    return {
        "training": f"validation: accuracy {number(val['mean_accuracy']['value'])}, "
        f"weighted log loss {number(val['weighted_log_loss']['value'])}",
        "val_auc": f"validation: {number(val['labels']['any']['roc_auc']['value'])}, any bleed",
        "auc": f"test: {number(slices['labels']['any']['roc_auc']['value'])}, any bleed",
        "detection": "no threshold could be fixed"
        if counts is None
        else f"{counts['tp']:,} of {counts['tp'] + counts['fn']:,} patients with a bleed found",
        "subtypes": f"AUC {min(known):.3f} to {max(known):.3f}" if known else UNDEFINED,
        "confusion": f"{slices['n']:,} slices, at the point {point}",
        "pictures": "pictures",
        "localisation": f"peak on the bleed in {number(pointing['value'], 2)}"
        if pointing
        else "no masks",
    }
