"""Figure makers: arrays in, matplotlib figures out. They know neither files' meaning nor HTML."""

from hemtrace.figures.bars import Proportion, detection_bars, flow_bars, subtype_bars
from hemtrace.figures.curves import (
    calibration_curve,
    precision_recall_curves,
    roc_curves,
    training_curves,
)
from hemtrace.figures.ingestion import (
    Distribution,
    Thumbnail,
    histograms,
    hu_histogram,
    thumbnail_sheet,
)
from hemtrace.figures.matrices import confusion_matrices
from hemtrace.figures.style import draw_bytes, write_figure

__all__ = [
    "Distribution",
    "Proportion",
    "Thumbnail",
    "calibration_curve",
    "confusion_matrices",
    "detection_bars",
    "draw_bytes",
    "flow_bars",
    "histograms",
    "hu_histogram",
    "precision_recall_curves",
    "roc_curves",
    "subtype_bars",
    "thumbnail_sheet",
    "training_curves",
    "write_figure",
]
