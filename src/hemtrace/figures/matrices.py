"""Confusion matrices."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from hemtrace.figures.style import (
    GOOD,
    INK,
    in_common_look,
    new_figure,
    say_nothing_to_draw,
)

_SHADE = LinearSegmentedColormap.from_list("shade", ["#ffffff", GOOD])


@in_common_look
def confusion_matrices(
    counts: Mapping[str, Mapping[str, int] | None], thresholds: Mapping[str, float | None]
) -> Figure:
    """Draw a matrix a label: counts, and shares of the row (of what is true).

    Parameters
    ----------
    counts
        By label: `tp`, `fp`, `fn`, `tn`; None where there is no threshold.
    thresholds
        By label.
    """
    figure, axes = new_figure(9.6, 7.4, 2, 3)
    for panel, (label, cells) in zip(axes, counts.items(), strict=False):
        if cells is None:
            panel.set_title(f"\n{label}")
            say_nothing_to_draw(panel, "not estimable: no threshold could be chosen")
            continue
        matrix = np.array([[cells["tn"], cells["fp"]], [cells["fn"], cells["tp"]]])
        rows = matrix.sum(axis=1, keepdims=True)
        shares = np.divide(matrix, rows, out=np.zeros((2, 2)), where=rows > 0)
        panel.imshow(shares, cmap=_SHADE, vmin=0, vmax=1)
        for row, column in np.ndindex(2, 2):
            share = f"{shares[row, column]:.1%}" if rows[row] else "none to judge"
            panel.text(
                column,
                row,
                f"{matrix[row, column]:,}\n{share}",
                ha="center",
                va="center",
                color="white" if shares[row, column] > 0.55 else INK,
            )
        panel.set_title(f"\n{label} (n = {matrix.sum():,})")
        panel.set_xticks([0, 1], [f"below {thresholds[label]:.3f}", "flagged"])
        panel.set_yticks([0, 1], ["absent", "present"], rotation=90, va="center")
        panel.set_xlabel("predicted", fontsize=8.5)
        panel.set_ylabel("true", fontsize=8.5)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    return figure
