"""Which subtype is taken for which, and how often one is seen where nothing bleeds."""

from typing import Any

import numpy as np

from hemtrace.evaluate.operating import Operating, flagged
from hemtrace.evaluate.scored import Scored
from hemtrace.labels import ANY, LABELS, SUBTYPES
from hemtrace.metrics import Resamples, estimate_share

_OF_SUBTYPES = [LABELS.index(name) for name in SUBTYPES]


def confuse_subtypes(
    calibrated: Scored, operating: Operating, resamples: Resamples
) -> dict[str, Any]:
    """Set the true subtype of slices against the one that scores highest, at the default point.

    Parameters
    ----------
    calibrated
        Slices with calibrated probabilities.
    operating
        Whose thresholds of slices flag them.
    resamples
        Of these slices.

    Returns
    -------
    `table`: by true subtype, by highest subtype, the number of flagged slices with exactly one
    true subtype; `finds`, the flagged slices with a bleed, of one subtype or more; `right`, the
    share of them whose highest subtype is a true one; `several`, how many slices with a bleed have
    more than one subtype; `clear`, the slices without a bleed; `alarmed`, the share of them that
    reach the threshold of some subtype, whether or not they reach that of `any`; `why`: None, or
    why `table` is None.
    """
    point, points = operating.default_point, operating.points["slices"]
    truth = calibrated.truth[:, _OF_SUBTYPES]
    probability = calibrated.probability[:, _OF_SUBTYPES]
    bleeds = calibrated.truth[:, ANY]
    up = flagged(calibrated, points, "any", point)
    counts = {"several": int((truth.sum(axis=1) > 1).sum()), "clear": int((~bleeds).sum())}
    clear = {"alarmed": _share_alarms(calibrated, operating, resamples)}
    if up is None or np.isnan(probability).any():
        why = "any bleed has no threshold, or scores of a subtype are NaN"
        nothing = estimate_share(np.full(len(truth), np.nan), bleeds, resamples).as_dict()
        return counts | clear | {"table": None, "finds": None, "right": nothing, "why": why}
    highest = np.argmax(probability, axis=1)
    finds = up & bleeds
    right = truth[np.arange(len(truth)), highest]
    single = finds & (truth.sum(axis=1) == 1)
    table = np.zeros((len(SUBTYPES), len(SUBTYPES)), dtype=int)
    np.add.at(table, (np.argmax(truth, axis=1)[single], highest[single]), 1)
    share = estimate_share(finds & right, finds, resamples, "no flagged slice with a bleed")
    return (
        counts
        | clear
        | {
            "table": {
                name: dict(zip(SUBTYPES, row.tolist(), strict=True))
                for name, row in zip(SUBTYPES, table, strict=True)
            },
            "finds": int(finds.sum()),
            "right": share.as_dict(),
            "why": None,
        }
    )


def _share_alarms(
    calibrated: Scored, operating: Operating, resamples: Resamples
) -> dict[str, float | str | None]:
    """Take the share of slices without a bleed that reach the threshold of some subtype."""
    clear = ~calibrated.truth[:, ANY]
    points, point = operating.points["slices"], operating.default_point
    # A subtype that no threshold could be chosen for flags nothing.
    flags = [flagged(calibrated, points, name, point) for name in SUBTYPES]
    alarmed = np.zeros(len(clear), dtype=bool)
    for up in flags:
        if up is not None:
            alarmed |= up
    return estimate_share(alarmed & clear, clear, resamples, "no slice without a bleed").as_dict()
