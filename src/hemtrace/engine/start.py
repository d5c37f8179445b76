"""Open a model file with the fastest runtime that gives torch's answers."""

import logging
from pathlib import Path

from safetensors import SafetensorError, safe_open

from hemtrace.engine.by_openvino import open_openvino
from hemtrace.engine.contract import Engine
from hemtrace.engine.export import NotExportableError
from hemtrace.errors import HemtraceError
from hemtrace.model.spec import ModelSpec
from hemtrace.params import ExplainParams
from hemtrace.provenance import file_digest

RUNTIMES = ("auto", "openvino", "torch")
FEWEST_CELLS = ExplainParams().fewest_cells

log = logging.getLogger(__name__)


def open_engine(
    model: Path,
    runtime: str = "auto",
    threads: int | None = None,
    fewest_cells: int = FEWEST_CELLS,
) -> Engine:
    """Make a model ready to predict.

    Parameters
    ----------
    model
        A file that `save_model` wrote.
    runtime
        `openvino`, exported once and then kept in the user's cache; `torch`, which takes a GPU
        where there is one; `auto`: OpenVINO, and torch where that fails.
    threads
        Of the CPU; None: all cores.
    fewest_cells
        Cells on a side that a heat map must have, as in `params.ExplainParams`.

    Raises
    ------
    HemtraceError
        If the runtime is unknown, the file is missing or no model, or `openvino` was asked for and
        cannot run it.
    """
    if runtime not in RUNTIMES:
        raise HemtraceError(f"There is no runtime {runtime!r}; choose from {', '.join(RUNTIMES)}.")
    if threads is not None and threads < 1:
        raise HemtraceError(f"{threads} threads cannot compute; give 1 or more.")
    spec = _read_spec(model)
    sha256 = file_digest(model)
    fallback = None
    if runtime != "torch":
        try:
            return open_openvino(model, spec, sha256, threads, fewest_cells)
        except NotExportableError as error:
            if runtime == "openvino":
                raise HemtraceError(f"{error} Run it with --runtime torch.") from None
            fallback = f"{error} So torch runs the model, more slowly."
            log.warning(fallback)
    # Imported where they are used: a start without torch takes seconds less.
    from hemtrace.engine.by_torch import TorchEngine
    from hemtrace.model import load_model

    net, spec = load_model(model)
    return TorchEngine(model, spec, sha256, net, threads, fewest_cells, fallback)


def _read_spec(model: Path) -> ModelSpec:
    """Read what a model is without torch; what is wrong is told by `load_spec`."""
    try:
        with safe_open(model, framework="numpy") as stored:
            return ModelSpec.model_validate_json((stored.metadata() or {})["hemtrace"])
    except (SafetensorError, OSError, KeyError, ValueError):
        from hemtrace.model import load_spec

        return load_spec(model)
