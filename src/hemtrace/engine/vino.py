"""OpenVINO, so that it sends nothing to anybody and leaves signals alone."""

import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

_STUB = "openvino.tools.ovc.telemetry_stub"


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry.

    Its package `openvino_telemetry` reports each import and conversion to its maker unless a file
    in the home folder forbids it (`enable_opt_in_dialog=False` in
    `openvino/tools/ovc/telemetry_utils.py`). Where that package cannot be imported, OpenVINO takes
    a stub that does nothing; so it is made impossible to import.

    Raises
    ------
    ImportError
        If OpenVINO is not installed, or was imported with its telemetry before.
    """
    modules: dict[str, Any] = sys.modules
    if "openvino" not in modules:
        modules["openvino_telemetry"] = None
    import openvino  # type: ignore[import-untyped]

    told = modules.get("openvino.tools.ovc.telemetry_utils")
    if told is not None and told.tm.__name__ != _STUB:
        raise ImportError("it was imported before in a way that reports its use to its maker")
    return openvino


def compile_apart(graph: Any, options: dict[str, Any]) -> Any:
    """Compile a graph for the CPU, in a thread that ends with it.

    The CPU plug-in gives the thread that loads it another stack for its signals, and frees that
    stack in whatever thread drops the plug-in. If that is another one, the next signal that the
    first receives ends the process: Python's handlers run on that stack (OpenVINO 2026.4,
    `SigAltStackSetup` in the plug-in). A thread that has ended receives none.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="hemtrace-compile") as pool:
        openvino = import_openvino()
        return pool.submit(openvino.Core().compile_model, graph, "CPU", options).result()
