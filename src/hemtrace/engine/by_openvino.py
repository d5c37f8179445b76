"""The engine for a CPU: the network exported once to OpenVINO."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hemtrace.engine.cache import find_export, mark_used, new_export
from hemtrace.engine.contract import CHUNK, Answers, answer, check_pictures, join_answers
from hemtrace.engine.export import (
    Exported,
    NotExportableError,
    check_agreement,
    export,
    first_line,
    load,
    sample_of,
    save,
)
from hemtrace.engine.maps import GradientMaps, check_labels
from hemtrace.engine.vino import compile_apart, import_openvino
from hemtrace.model.spec import ModelSpec

log = logging.getLogger(__name__)


class OpenVinoEngine:
    """`contract.Engine` by OpenVINO.

    Parameters
    ----------
    model, spec, sha256
        The file, what it is, and its digest.
    exported
        From `export.export` or `export.load`.
    threads
        None: all cores.
    fewest_cells
        As in `params.ExplainParams`.

    Raises
    ------
    NotExportableError
        If it does not give torch's answers on the sample.
    """

    fallback: str | None = None

    def __init__(
        self,
        model: Path,
        spec: ModelSpec,
        sha256: str,
        exported: Exported,
        threads: int | None,
        fewest_cells: int,
    ) -> None:
        openvino = import_openvino()
        self.spec, self.model_sha256 = spec, sha256
        self.runtime = f"OpenVINO {openvino.get_version().split('-')[0]} on the CPU"
        self._names = exported.names
        self._maps = GradientMaps(model, spec, sha256, fewest_cells)
        # A CPU that knows bfloat16 would take it, and be off by far more than 1e-4.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        self._request = compile_apart(exported.graph, options).create_infer_request()
        # Two passes at once would share the cores, and be slower than one after the other.
        self._lock = threading.Lock()
        check_agreement(exported.judge, self._ask(sample_of(spec)))

    @property
    def has_cells(self) -> bool:
        """Whether `run` gives heat maps."""
        return "cells" in self._names

    def run(self, pictures: np.ndarray) -> Answers:
        """Predict slices, as `contract.Engine.run`."""
        check_pictures(self.spec, pictures)
        parts = []
        for start in range(0, max(len(pictures), 1), CHUNK):
            told = self._ask(pictures[start : start + CHUNK])
            parts.append(answer(told["logits"], told.get("cells"), told.get("features")))
        return join_answers(parts)

    def heat(self, pictures: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Map the evidence for some labels, as `contract.Engine.heat`."""
        places = check_labels(labels)
        cells = self.run(pictures).cells if self.has_cells else None
        return self._maps.make(pictures, places) if cells is None else cells[:, places]

    def _ask(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        with self._lock:
            told = self._request.infer([np.ascontiguousarray(pictures)])
            return {
                name: np.array(told[place], np.float32) for place, name in enumerate(self._names)
            }


def open_openvino(
    model: Path, spec: ModelSpec, sha256: str, threads: int | None, fewest_cells: int
) -> OpenVinoEngine:
    """Make the engine from what is in the cache, or else export the model and keep it there.

    Raises
    ------
    HemtraceError
        If the file is no model.
    NotExportableError
        If OpenVINO is missing, cannot run the model, or does not give torch's answers.
    """
    try:
        import_openvino()
    except ImportError as error:
        raise NotExportableError(f"OpenVINO cannot be used: {error}.") from None

    def make(exported: Exported) -> OpenVinoEngine:
        return OpenVinoEngine(model, spec, sha256, exported, threads, fewest_cells)

    folder = find_export(sha256, fewest_cells)
    if folder.is_dir():
        try:
            engine = make(load(folder))
        except Exception as error:  # whatever a broken file leads to
            log.info("The exported model in %s is damaged, and made again: %s", folder, error)
        else:
            mark_used(folder)
            return engine
    exported = export(model, fewest_cells)
    try:
        # Run as it was read back, so that this start and the next give the same bits.
        with new_export(folder) as part:
            save(exported, part)
            return make(load(part))
    except NotExportableError:
        raise
    except Exception as error:  # whatever a compiler meets
        raise NotExportableError(
            f"OpenVINO cannot run this model ({first_line(error)})."
        ) from error
