"""Curves: training, ROC, precision-recall."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hemtrace.figures.style import (
    INK,
    LABEL_COLORS,
    MUTED,
    in_common_look,
    new_figure,
    say_nothing_to_draw,
)
from hemtrace.labels import SUBTYPES

Curve = tuple[np.ndarray, np.ndarray]


@in_common_look
def training_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Draw accuracy, loss and AUC by epoch.

    Parameters
    ----------
    history
        Columns of equal length: epoch, train_loss, val_loss, train_accuracy, val_accuracy, and
        `val_auc_<label>`, NaN where undefined.
    """
    figure, (accuracy, loss, auc) = new_figure(10.5, 3.5, 1, 3)
    epochs = history["epoch"]
    for axes, name in ((accuracy, "accuracy"), (loss, "loss")):
        # The dashes tell the two apart without colour.
        axes.plot(epochs, history[f"train_{name}"], "o--", color=MUTED, ms=3, label="training")
        axes.plot(epochs, history[f"val_{name}"], "o-", color=INK, ms=3, label="validation")
        axes.legend()
    accuracy.set_title("Accuracy, mean of the labels")
    loss.set_title("Loss, weighted")
    for label in (*SUBTYPES, "any"):
        values = np.asarray(history.get(f"val_auc_{label}", []), dtype=np.float64)
        if np.isfinite(values).any():
            width = 2.6 if label == "any" else 1.2
            auc.plot(epochs, values, "o-", ms=3, lw=width, color=LABEL_COLORS[label], label=label)
    auc.set_title("ROC AUC, validation")
    if auc.lines:
        auc.legend(ncols=2, fontsize=7.5, loc="lower right")
        auc.axhline(0.5, color=MUTED, lw=0.8, ls=":")
        auc.set_ylim(0.3, 1.02)
    else:
        say_nothing_to_draw(auc, "undefined: validation has one class only")
    for axes in (accuracy, loss, auc):
        axes.grid(axis="y")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    return figure


@in_common_look
def roc_curves(
    curves: Mapping[str, Curve],
    aucs: Mapping[str, float],
    positives: Mapping[str, int],
    points: Mapping[str, tuple[float, float] | None],
) -> Figure:
    """Draw the ROC curve of each label.

    Parameters
    ----------
    curves
        By label: false and true positive rates.
    aucs, positives
        By label: area, and number of positive slices, for the legend.
    points
        False and true positive rate of `any` at the named operating points; None where one is not
        estimable.
    """
    figure, (axes,) = new_figure(5.6, 5.2)
    axes.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=":")
    _draw(axes, curves, {label: f"AUC {aucs[label]:.3f}" for label in curves}, positives)
    for (name, point), mark in zip(points.items(), "oDs", strict=False):
        if point is not None:
            axes.plot(*point, mark, ms=7, mfc="white", mec=INK, mew=1.6, zorder=5)
            # Curves pass behind the name, which they would strike out otherwise.
            ground = {"fc": "white", "ec": "none", "pad": 0.8, "alpha": 0.9}
            where: dict[str, Any] = {
                "textcoords": "offset points",
                "fontsize": 8.5,
                "bbox": ground,
                "zorder": 6,
            }
            axes.annotate(name, point, (9, -9), **where)
    axes.set_xlabel("false positive rate (1 - specificity)")
    axes.set_ylabel("true positive rate (sensitivity)")
    axes.set_title("ROC, test slices")
    return figure


@in_common_look
def precision_recall_curves(
    curves: Mapping[str, Curve], areas: Mapping[str, float], positives: Mapping[str, int]
) -> Figure:
    """Draw the precision-recall curve of each label; arguments as in `roc_curves`.

    `curves` holds recall and precision, as `sklearn.metrics.precision_recall_curve` gives them:
    from the threshold that flags every slice on.
    """
    figure, (axes,) = new_figure(5.6, 5.2)
    named = {label: f"AP {areas[label]:.3f}" for label in curves}
    for label, (_, precision) in curves.items():
        # Where every slice is flagged, the precision is the prevalence: what chance reaches.
        axes.axhline(precision[0], color=LABEL_COLORS[label], lw=0.9, ls=":", zorder=1)
    found = {label: _drop_empty_end(*curve) for label, curve in curves.items()}
    # Steps, as in the average precision: straight lines would claim operating points between.
    _draw(axes, found, named, positives, "steps-post")
    axes.set_xlabel("recall (sensitivity)")
    axes.set_ylabel("precision (positive predictive value)")
    axes.set_title("Precision and recall, test slices")
    return figure


def _drop_empty_end(recall: np.ndarray, precision: np.ndarray) -> Curve:
    """Carry the precision of the first find to recall 0, where nothing found has none of its own.

    Thresholds above the highest score of a positive slice flag false positives alone, and the last
    point is 1 by convention: drawn, the two would fall and rise on the axis for no reason.
    """
    found = recall > 0
    return np.r_[recall[found], 0.0], np.r_[precision[found], precision[found][-1:]]


def _draw(
    axes: Axes,
    curves: Mapping[str, Curve],
    areas: Mapping[str, str],
    n: Mapping[str, int],
    drawstyle: str = "default",
) -> None:
    if not curves:
        say_nothing_to_draw(axes, "No label has both classes among these slices.")
        return
    for label, (across, up) in curves.items():
        text = f"{label}, n = {n[label]:,}: {areas[label]}"
        width = 2.8 if label == "any" else 1.4
        axes.plot(across, up, color=LABEL_COLORS[label], lw=width, label=text, drawstyle=drawstyle)
    axes.set_xlim(-0.015, 1.015)
    axes.set_ylim(-0.015, 1.015)
    axes.set_aspect("equal")
    axes.grid()
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
