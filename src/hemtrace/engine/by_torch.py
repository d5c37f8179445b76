"""The engine that is torch itself: on a GPU where there is one, and where nothing else works."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hemtrace.engine.contract import Answers, answer, check_pictures, join_answers
from hemtrace.engine.graph import trace_outputs
from hemtrace.engine.maps import GradientMaps, check_labels
from hemtrace.engine.sample import make_sample
from hemtrace.inference import exact_convolutions
from hemtrace.model import Ensemble, Net
from hemtrace.model.spec import ModelSpec

# Slices at once; on a CPU whoever gives fewer waits less for the first.
_ON_A_GPU, _ON_A_CPU = 64, 32


class TorchEngine:
    """`contract.Engine` by torch.

    Parameters
    ----------
    model, spec, sha256
        The file, what it is, and its digest.
    net
        As `load_model` gives it.
    threads
        Of this process's torch; None: as it is.
    fewest_cells
        As in `params.ExplainParams`.
    fallback
        As in `contract.Engine`.
    """

    def __init__(
        self,
        model: Path,
        spec: ModelSpec,
        sha256: str,
        net: Net | Ensemble,
        threads: int | None,
        fewest_cells: int,
        fallback: str | None = None,
    ) -> None:
        self.spec, self.model_sha256, self.fallback = spec, sha256, fallback
        if threads is not None:
            torch.set_num_threads(threads)
        self._graph, self._names = trace_outputs(net.eval(), make_sample(spec), fewest_cells)
        self._maps = GradientMaps(model, spec, sha256, fewest_cells)
        on_gpu = torch.cuda.is_available()
        self._device = torch.device("cuda" if on_gpu else "cpu")
        self._graph.to(self._device)
        self._chunk = _ON_A_GPU if on_gpu else _ON_A_CPU
        where = f"the GPU {torch.cuda.get_device_name()}" if on_gpu else "the CPU"
        self.runtime = f"torch {torch.__version__} on {where}"
        # Two passes at once would share the cores, and be slower than one after the other.
        self._lock = threading.Lock()

    @property
    def has_cells(self) -> bool:
        """Whether `run` gives heat maps."""
        return "cells" in self._names

    def run(self, pictures: np.ndarray) -> Answers:
        """Predict slices, as `contract.Engine.run`."""
        check_pictures(self.spec, pictures)
        starts = range(0, max(len(pictures), 1), self._chunk)
        with self._lock, torch.inference_mode(), exact_convolutions():
            return join_answers([self._pass(pictures[at : at + self._chunk]) for at in starts])

    def heat(self, pictures: np.ndarray, labels: Sequence[int]) -> np.ndarray:
        """Map the evidence for some labels, as `contract.Engine.heat`."""
        places = check_labels(labels)
        cells = self.run(pictures).cells if self.has_cells else None
        return self._maps.make(pictures, places) if cells is None else cells[:, places]

    def _pass(self, pictures: np.ndarray) -> Answers:
        told = self._graph(torch.from_numpy(np.ascontiguousarray(pictures)).to(self._device))
        by_name = {
            name: one.float().cpu().numpy() for name, one in zip(self._names, told, strict=True)
        }
        return answer(by_name["logits"], by_name.get("cells"), by_name.get("features"))
