from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec, create_net, load_model, save_model
from hemtrace.params import DEFAULT_WINDOWS

SPEC = ModelSpec(
    architecture="test_efficientnet",
    weights="random weights",
    windows=DEFAULT_WINDOWS,
    size=64,
    synthetic=True,
    seed=1,
    train={"epochs": 1},
    git_commit="abc",
    data_digest="def",
)


def random_images(count: int = 2, size: int = 64, windows: int = 3) -> torch.Tensor:
    chance = torch.Generator().manual_seed(0)
    shape = (count, windows, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=chance)


def test_training_starts_at_the_prevalence() -> None:
    prevalence = np.array([0.004, 0.05, 0.035, 0.05, 0.06, 0.14])
    net = create_net(SPEC, prevalence).eval()
    with torch.inference_mode():
        shown = net(random_images()).sigmoid().numpy()
    np.testing.assert_allclose(shown, np.tile(prevalence, (2, 1)), rtol=0.35)


def test_a_label_that_never_occurs_gives_a_finite_start() -> None:
    net = create_net(SPEC, np.array([0, 0.1, 0.1, 0.1, 0.1, 1.0]))
    assert torch.isfinite(net.backbone.get_classifier().bias).all()


def test_same_seed_gives_same_weights_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = create_net(SPEC).state_dict(), create_net(SPEC).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = create_net(SPEC.model_copy(update={"seed": 2})).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_grey_levels_are_normalised_inside_whatever_their_type() -> None:
    net = create_net(SPEC)
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    images[0, 1], images[0, 2] = 255, 51
    normalised = net.normalise(images)
    assert normalised[0, :, 0, 0].tolist() == pytest.approx([-1.0, 1.0, -0.6])
    assert torch.equal(normalised, net.normalise(images.float()))


def test_a_saved_model_predicts_the_same(tmp_path: Path) -> None:
    net = create_net(SPEC).eval()
    save_model(tmp_path / "models" / "model.safetensors", net, SPEC)
    loaded, spec = load_model(tmp_path / "models" / "model.safetensors")
    assert spec == SPEC
    assert spec.labels == LABELS
    assert not loaded.training
    with torch.inference_mode():
        assert torch.equal(loaded(random_images()), net(random_images()))
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["model.safetensors"]


def test_pooled_features_through_the_classifier_are_the_logits() -> None:
    net = create_net(SPEC).eval()
    with torch.inference_mode():
        features = net.features(random_images())
        logits = net.backbone.get_classifier()(features.mean(dim=(2, 3)))
        torch.testing.assert_close(logits, net(random_images()))


def test_wrong_number_of_windows_is_said() -> None:
    with pytest.raises(HemtraceError, match=r"slices of 3 windows.*\(2, 4, 64, 64\)"):
        create_net(SPEC)(random_images(windows=4))


def test_unknown_architecture_is_said_with_near_names() -> None:
    with pytest.raises(HemtraceError, match=r"did you mean.*tf_efficientnet_b4"):
        create_net(SPEC.model_copy(update={"architecture": "tf_eficientnet_b4"}))


def test_no_model_of_ours_is_said(tmp_path: Path) -> None:
    with pytest.raises(HemtraceError, match="was not found"):
        load_model(tmp_path / "none.safetensors")
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"no tensors here")
    with pytest.raises(HemtraceError, match="damaged or no safetensors file"):
        load_model(junk)
    save_file({"weight": torch.zeros(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(HemtraceError, match="is no model of hemtrace"):
        load_model(tmp_path / "plain.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "old.safetensors", metadata={"hemtrace": "{}"})
    with pytest.raises(HemtraceError, match="another version"):
        load_model(tmp_path / "old.safetensors")


def test_a_truncated_model_is_said(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, create_net(SPEC), SPEC)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(HemtraceError, match="damaged"):
        load_model(path)
