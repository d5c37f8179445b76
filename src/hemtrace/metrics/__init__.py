"""Figures of merit for slices that cluster in patients; arrays in, numbers out.

The replicates of a bootstrap are computed together, from how often each patient was drawn: a loop
over scikit-learn's functions takes minutes on a real test set.
"""

from hemtrace.metrics.losses import (
    brier_scores,
    constant_log_loss,
    log_losses,
    weighted_log_loss,
)
from hemtrace.metrics.operating import (
    RATES,
    confusion,
    estimate_rates,
    rates_at_threshold,
    rates_of_counts,
    threshold_balanced,
    threshold_for_sensitivity,
    threshold_for_specificity,
)
from hemtrace.metrics.paired import (
    Difference,
    area_covariance,
    compare_areas,
    compare_figures,
    compare_means,
    difference,
    mcnemar,
)
from hemtrace.metrics.ranking import average_precision, estimate_area, roc_auc
from hemtrace.metrics.resample import (
    EXACT,
    FEW_BEARERS,
    FEWEST_PATIENTS,
    Estimate,
    Resamples,
    bound_share,
    estimate,
    estimate_share,
    resample_patients,
    why_not,
)

__all__ = [
    "EXACT",
    "FEWEST_PATIENTS",
    "FEW_BEARERS",
    "RATES",
    "Difference",
    "Estimate",
    "Resamples",
    "area_covariance",
    "average_precision",
    "bound_share",
    "brier_scores",
    "compare_areas",
    "compare_figures",
    "compare_means",
    "confusion",
    "constant_log_loss",
    "difference",
    "estimate",
    "estimate_area",
    "estimate_rates",
    "estimate_share",
    "log_losses",
    "mcnemar",
    "rates_at_threshold",
    "rates_of_counts",
    "resample_patients",
    "roc_auc",
    "threshold_balanced",
    "threshold_for_sensitivity",
    "threshold_for_specificity",
    "weighted_log_loss",
    "why_not",
]
