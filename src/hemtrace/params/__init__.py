"""The schema, the defaults and the documentation of `params.yaml`: one model a stage.

No other module opens `params.yaml`: parameters arrive as arguments.
"""

from hemtrace.params.compare import CompareParams, System
from hemtrace.params.ingest import DEFAULT_WINDOWS, IngestParams, View, Window
from hemtrace.params.phantom import PhantomParams
from hemtrace.params.results import EvaluateParams, ExplainParams, ReportParams
from hemtrace.params.section import Section
from hemtrace.params.split import SplitParams
from hemtrace.params.train import (
    AugmentParams,
    LossParams,
    NetworkParams,
    OptimizerParams,
    RunParams,
    SamplingParams,
    TrainParams,
    WeightsParams,
)
from hemtrace.params.tree import Params, load_params, parse_params, read_tree, render_params

__all__ = [
    "DEFAULT_WINDOWS",
    "AugmentParams",
    "CompareParams",
    "EvaluateParams",
    "ExplainParams",
    "IngestParams",
    "LossParams",
    "NetworkParams",
    "OptimizerParams",
    "Params",
    "PhantomParams",
    "ReportParams",
    "RunParams",
    "SamplingParams",
    "Section",
    "SplitParams",
    "System",
    "TrainParams",
    "View",
    "WeightsParams",
    "Window",
    "load_params",
    "parse_params",
    "read_tree",
    "render_params",
]
