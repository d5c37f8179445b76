"""The network, what belongs to it to be used, and the one file that holds both.

What needs torch is imported when it is first asked for (PEP 562): a job that reads what a model is,
as the report does, starts five seconds earlier without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from hemtrace.model.header import is_model, load_spec
from hemtrace.model.spec import ModelSpec

if TYPE_CHECKING:
    from hemtrace.model.branches import Branches
    from hemtrace.model.ensemble import Ensemble, list_members
    from hemtrace.model.file import load_model, save_model
    from hemtrace.model.net import Net, create_net

_WITH_TORCH = {
    "Branches": "branches",
    "Ensemble": "ensemble",
    "Net": "net",
    "create_net": "net",
    "list_members": "ensemble",
    "load_model": "file",
    "save_model": "file",
}

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


def __getattr__(name: str) -> object:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
