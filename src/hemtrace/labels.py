"""The six labels of the RSNA 2019 challenge: names, order, weights.

The order is the one in which every array of labels, logits and probabilities is laid out.
"""

import numpy as np

SUBTYPES: tuple[str, ...] = (
    "epidural",
    "intraparenchymal",
    "intraventricular",
    "subarachnoid",
    "subdural",
)
LABELS: tuple[str, ...] = (*SUBTYPES, "any")
ANY = LABELS.index("any")

# The challenge's metric and its winners' losses: `any` counts twice, the mean is over 7.
LABEL_WEIGHTS: np.ndarray = np.array([1, 1, 1, 1, 1, 2], dtype=np.float64) / 7
