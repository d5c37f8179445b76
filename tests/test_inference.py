from collections.abc import Sequence

import numpy as np
import torch

from hemtrace.inference import Slices, predict_probabilities
from hemtrace.model import ModelSpec, Net, create_net
from hemtrace.params import DEFAULT_WINDOWS, NetworkParams


class Held:
    """Slices in memory."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        return self.images[indices]


def tiny_net() -> Net:
    return create_net(
        ModelSpec(
            network=NetworkParams(architecture="test_efficientnet"),
            weights="",
            windows=DEFAULT_WINDOWS,
            size=32,
            synthetic=True,
            seed=0,
            train={},
            git_commit="",
            data_digest="",
        )
    )


IMAGES = np.random.default_rng(0).integers(0, 256, (7, 3, 32, 32), dtype=np.uint8)


def test_probabilities_are_the_sigmoid_of_the_logits_in_evaluation_mode() -> None:
    net = tiny_net()
    given = predict_probabilities(net, Held(IMAGES))
    with torch.inference_mode():
        logits = net.eval()(torch.from_numpy(IMAGES)).double().numpy()
    assert given.dtype == np.float64
    np.testing.assert_allclose(given, 1 / (1 + np.exp(-logits)), atol=1e-9)


def test_batches_and_the_way_of_reading_make_no_difference() -> None:
    net = tiny_net()
    given = predict_probabilities(net, Held(IMAGES), batch_size=3)
    np.testing.assert_allclose(predict_probabilities(net, IMAGES, batch_size=7), given, atol=1e-6)
    one_by_one = predict_probabilities(net, iter(IMAGES), batch_size=2)
    np.testing.assert_allclose(one_by_one, given, atol=1e-6)


def test_prediction_changes_nothing_in_the_network() -> None:
    net = tiny_net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    predict_probabilities(net, Held(IMAGES))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_no_slices_give_no_rows() -> None:
    assert predict_probabilities(tiny_net(), iter([])).shape == (0, 6)


def test_a_partition_and_slices_in_memory_are_of_one_kind() -> None:
    assert isinstance(Held(IMAGES), Slices)
    assert not isinstance(IMAGES, Slices)


def test_a_gpu_convolves_in_float32_while_it_predicts_and_as_before_after() -> None:
    """In TF32 an H100's probabilities were 1e-3 from a CPU's, in float32 1e-6."""
    net, seen = tiny_net(), []
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = convolutions.fp32_precision
    net.register_forward_hook(lambda *_: seen.append(convolutions.fp32_precision))
    predict_probabilities(net, Held(IMAGES))
    assert seen == ["ieee"]
    assert convolutions.fp32_precision == before
