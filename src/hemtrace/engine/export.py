"""A network as OpenVINO has it, and the proof that it says what torch says."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemtrace.engine.sample import make_sample
from hemtrace.engine.vino import import_openvino
from hemtrace.model.spec import ModelSpec

TOLERANCE = 1e-4
_GRAPH, _JUDGE = "graph.xml", "judge.npz"


class NotExportableError(Exception):
    """Why OpenVINO cannot run a model, in a sentence."""


@dataclass(frozen=True)
class Exported:
    """A network for OpenVINO.

    Attributes
    ----------
    graph
        An `openvino.Model` of uint8 (N, channels, size, size).
    names
        Of its outputs, in order.
    judge
        What torch says of `make_sample`, by those names.
    """

    graph: Any
    names: tuple[str, ...]
    judge: dict[str, np.ndarray]


def export(model: Path, fewest_cells: int) -> Exported:
    """Read a model by torch, and turn it into a graph of OpenVINO.

    Raises
    ------
    HemtraceError
        If the file is missing or no model.
    NotExportableError
        If OpenVINO does not know a part of it.
    """
    import torch

    from hemtrace.engine.graph import trace_outputs
    from hemtrace.model import load_model

    net, spec = load_model(model)
    if spec.network.classifier == "forest":
        raise NotExportableError(
            "A random forest jumps where a feature crosses a threshold, so that the rounding of "
            "another runtime would now and then change its answer."
        )
    sample = torch.from_numpy(make_sample(spec))
    graph, names = trace_outputs(net, sample.numpy(), fewest_cells)
    shape = [-1, spec.channels, spec.size, spec.size]
    with torch.inference_mode():
        judge = [one.float().numpy() for one in graph(sample)]
    try:
        openvino = import_openvino()
        # Traced with fewer pictures than it is checked with: a number that got stuck shows itself.
        with torch.inference_mode(), warnings.catch_warnings():
            # torch calls its tracer deprecated. Its successor, `torch.export`, takes five times as
            # long, and OpenVINO cannot read the scaling of `train.input_size` from it.
            warnings.simplefilter("ignore")
            converted = openvino.convert_model(
                graph,
                example_input=sample[:2],
                input=[(shape, openvino.Type.u8)],
                extension=[_logit_extension()],
            )
    except Exception as error:  # whatever a converter meets
        raise NotExportableError(
            f"OpenVINO cannot take this model ({first_line(error)})."
        ) from error
    return Exported(converted, tuple(names), dict(zip(names, judge, strict=True)))


def save(exported: Exported, folder: Path) -> None:
    """Write it into an empty folder, in float32."""
    import_openvino().save_model(exported.graph, folder / _GRAPH, compress_to_fp16=False)
    names = np.array(json.dumps(exported.names))
    np.savez(folder / _JUDGE, names=names, **exported.judge)  # type: ignore[arg-type]


def load(folder: Path) -> Exported:
    """Read what `save` wrote.

    Raises
    ------
    Exception
        Whatever is found in files that something else wrote or broke.
    """
    core = import_openvino().Core()
    core.set_property({"ENABLE_MMAP": False})  # a mapped file that is cut short ends the process
    graph = core.read_model(folder / _GRAPH)
    with np.load(folder / _JUDGE, allow_pickle=False) as stored:
        names = tuple(json.loads(str(stored["names"])))
        return Exported(graph, names, {name: stored[name] for name in names})


def check_agreement(judge: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    """Prove that two runtimes say the same of the sample.

    Probabilities may differ by 1e-4, cells and features by that share of their largest.

    Raises
    ------
    NotExportableError
        If they do not.
    """
    for name, wanted in judge.items():
        given = found[name]
        scale = 1.0
        if name == "logits":
            wanted, given = _sigmoid(wanted), _sigmoid(given)
        else:
            scale = max(float(np.abs(wanted).max()), 1e-12)
        off = float(np.abs(wanted - given).max()) / scale if wanted.shape == given.shape else np.inf
        if not off <= TOLERANCE:  # a NaN too
            what = "probabilities" if name == "logits" else name
            raise NotExportableError(
                f"OpenVINO does not give torch's {what} of this model (off by {off:.2g}, "
                f"{TOLERANCE:g} is allowed)."
            )


def sample_of(spec: ModelSpec) -> np.ndarray:
    """Give the pictures that `Exported.judge` is of."""
    return make_sample(spec)


def first_line(error: Exception) -> str:
    """Cut what a library says of a failure down to the line that says what it lacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "operations:" in line), lines[0] if lines else "")
    return (told or type(error).__name__).rstrip(".")[:200]


def _logit_extension() -> Any:
    """Teach OpenVINO's reader of torch graphs `torch.logit`, which it lacks."""
    import_openvino()
    from openvino import opset13  # type: ignore[import-untyped]
    from openvino.frontend.pytorch import ConversionExtension  # type: ignore[import-untyped]

    def convert(context: Any) -> list[Any]:
        share = context.get_input(0)
        least = context.get_values_from_const_input(1, None, float)
        if least is not None:
            share = opset13.clamp(share, least, 1 - least).output(0)
        one = opset13.constant(np.float32(1))
        return opset13.log(opset13.divide(share, opset13.subtract(one, share))).outputs()

    return ConversionExtension("aten::logit", convert)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))
