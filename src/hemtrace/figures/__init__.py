"""Figure makers: arrays in, matplotlib figures out. They know neither files' meaning nor HTML."""

from hemtrace.figures.bars import Proportion, detection_bars, flow_bars, subtype_bars
from hemtrace.figures.calibration import reliability_curves
from hemtrace.figures.curves import (
    precision_recall_curves,
    roc_curves,
    training_curves,
)
from hemtrace.figures.decision import decision_curves, predictive_values, workload_curve
from hemtrace.figures.ingestion import (
    Distribution,
    Thumbnail,
    histograms,
    hu_histogram,
    thumbnail_sheet,
)
from hemtrace.figures.intervals import IntervalSeries, interval_rows
from hemtrace.figures.matrices import confusion_matrices
from hemtrace.figures.study import (
    CoOccurrence,
    FlowSide,
    FlowStep,
    co_occurrence_matrices,
    flow_diagram,
)
from hemtrace.figures.style import draw_bytes, write_figure
from hemtrace.figures.subgroups import (
    ForestRow,
    Interval,
    RobustnessPanel,
    robustness_curves,
    subgroup_forest,
)

__all__ = [
    "CoOccurrence",
    "Distribution",
    "FlowSide",
    "FlowStep",
    "ForestRow",
    "Interval",
    "IntervalSeries",
    "Proportion",
    "RobustnessPanel",
    "Thumbnail",
    "co_occurrence_matrices",
    "confusion_matrices",
    "decision_curves",
    "detection_bars",
    "draw_bytes",
    "flow_bars",
    "flow_diagram",
    "histograms",
    "hu_histogram",
    "interval_rows",
    "precision_recall_curves",
    "predictive_values",
    "reliability_curves",
    "robustness_curves",
    "roc_curves",
    "subgroup_forest",
    "subtype_bars",
    "thumbnail_sheet",
    "training_curves",
    "workload_curve",
    "write_figure",
]
