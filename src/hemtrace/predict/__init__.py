"""Prediction where people work: files in, studies with a verdict out."""

from hemtrace.predict.files import predict_contents, predict_files, predict_folder
from hemtrace.predict.study import (
    Identity,
    Reason,
    RejectedFile,
    SeriesPrediction,
    SlicePrediction,
    StudyPrediction,
    Verdict,
)

__all__ = [
    "Identity",
    "Reason",
    "RejectedFile",
    "SeriesPrediction",
    "SlicePrediction",
    "StudyPrediction",
    "Verdict",
    "predict_contents",
    "predict_files",
    "predict_folder",
]
