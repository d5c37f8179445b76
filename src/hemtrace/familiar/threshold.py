"""How far a study may lie from the training data: fixed on validation patients, few or many."""

import math

import numpy as np

FEWEST = 5


def choose_threshold(scores: np.ndarray, share: float) -> float:
    """Choose the distance below which a study like the validation ones stays with a wanted chance.

    With enough patients it is one of their own scores: of n, the ceil((n + 1) share)-th, below
    which a further one lies with that chance whatever their distribution. With fewer (for 0.99
    fewer than 99) no score of theirs is high enough, and it is the one-sided limit of prediction
    for a further one, where logarithms of distances are normal; never less than the highest score.

    Parameters
    ----------
    scores
        float (n,), positive: one a validation patient.
    share
        Wanted chance.

    Raises
    ------
    ValueError
        If there are fewer than `FEWEST` patients, or a score is no positive number.

    References
    ----------
    Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005 (conformal
    prediction); Hahn and Meeker, Statistical Intervals, 1991, section 4.8.
    """
    count = len(scores)
    if count < FEWEST or not (np.isfinite(scores).all() and (scores > 0).all()):
        raise ValueError(f"{count} scores do not fix a threshold, or not all are positive numbers.")
    ordered = np.sort(scores)
    rank = math.ceil((count + 1) * share)
    if rank <= count:
        return float(ordered[rank - 1])
    # Imported where it is used: scipy costs a start a second.
    from scipy.stats import t

    logs = np.log(scores)
    spread = logs.std(ddof=1) * math.sqrt(1 + 1 / count)
    limit = math.exp(logs.mean() + float(t.ppf(share, count - 1)) * spread)
    return max(limit, float(ordered[-1]))
