"""The network, what belongs to it to be used, and the one file that holds both."""

from hemtrace.model.branches import Branches
from hemtrace.model.ensemble import Ensemble, list_members
from hemtrace.model.file import is_model, load_model, load_spec, save_model
from hemtrace.model.net import Net, create_net
from hemtrace.model.spec import ModelSpec

__all__ = [
    "Branches",
    "Ensemble",
    "ModelSpec",
    "Net",
    "create_net",
    "is_model",
    "list_members",
    "load_model",
    "load_spec",
    "save_model",
]
