"""explain: heat maps against an independent closed form, scores against planted maps."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import timm
import torch
from torch import Tensor, nn

from hemtrace.errors import HemtraceError
from hemtrace.explain import explain, explain_nets
from hemtrace.explain.choose import choose_slices
from hemtrace.explain.heat import closed_form_cams, find_target_layer, grad_cam, scale_up
from hemtrace.explain.localise import Trial, head_area, read_masks, score_trials, split_mask
from hemtrace.labels import ANY, LABELS, SUBTYPES
from hemtrace.model import ModelSpec, create_net, save_model
from hemtrace.params import DEFAULT_WINDOWS, ExplainParams, NetworkParams, Window
from hemtrace.window import Square, preprocess

SIZE = 64


class StandIn(nn.Module):
    """A network of the contract: grey levels in, six logits out."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.backbone(images.to(torch.float32) / 127.5 - 1)
        return logits


class TwoLayerHead(nn.Module):
    """A network whose head is no single linear layer: no closed form holds."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, stride=8, padding=1)
        self.hidden, self.classifier = nn.Linear(8, 8), nn.Linear(8, 6)

    def forward(self, images: Tensor) -> Tensor:
        cells = torch.relu(self.convolution(images.to(torch.float32) / 255))
        logits: Tensor = self.classifier(torch.tanh(self.hidden(cells.mean(dim=(2, 3)))))
        return logits


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    backbone = timm.create_model("tf_efficientnet_lite0", num_classes=6, output_stride=8)
    return StandIn(backbone).eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (3, 3, SIZE, SIZE)).astype(np.uint8)


def test_target_layer_is_the_activation_before_pooling(net, images: np.ndarray) -> None:
    layer, cells = find_target_layer(net, torch.from_numpy(images[:1]), 7)
    assert layer is net.backbone.bn2
    assert cells == (8, 8)


def test_where_the_last_map_is_too_coarse_the_last_fine_stage_is_taken(images: np.ndarray) -> None:
    coarse = StandIn(timm.create_model("tf_efficientnet_lite0", num_classes=6)).eval()
    layer, cells = find_target_layer(coarse, torch.from_numpy(images[:1]), 7)
    assert layer is coarse.backbone.blocks[2]  # stride 8; blocks 3 to 6 have 4 x 4 and 2 x 2 cells
    assert cells == (8, 8)
    maps = grad_cam(coarse, layer, images, ANY)
    assert maps.shape == (3, SIZE, SIZE)
    assert maps.max() == pytest.approx(1)


def test_too_few_cells_are_a_sentence(images: np.ndarray) -> None:
    coarse = StandIn(timm.create_model("tf_efficientnet_lite0", num_classes=6)).eval()
    with pytest.raises(HemtraceError, match=r"100 x 100 cells.*explain\.fewest_cells"):
        find_target_layer(coarse, torch.from_numpy(images[:1]), 100)


@pytest.mark.parametrize("label", [0, ANY])
def test_grad_cam_equals_classifier_weights_times_last_activation(
    net, images: np.ndarray, label: int
) -> None:
    layer, _ = find_target_layer(net, torch.from_numpy(images[:1]), 7)
    maps = grad_cam(net, layer, images, label)
    with torch.no_grad():
        cells = net.backbone.forward_features(torch.from_numpy(images).float() / 127.5 - 1)
    weights = net.backbone.classifier.weight.detach()[label]
    for heat, activation in zip(maps, cells, strict=True):
        judge = torch.relu((weights[:, None, None] * activation).sum(dim=0)).numpy()
        assert judge.max() > 0
        assert np.abs(heat - scale_up(judge, SIZE, SIZE)).max() < 1e-4
        assert heat.min() >= 0
        assert heat.max() == pytest.approx(1, abs=1e-5)


def test_closed_form_equals_grad_cam_for_every_label(net, images: np.ndarray) -> None:
    layer, _ = find_target_layer(net, torch.from_numpy(images[:1]), 7)
    cams = closed_form_cams(net, layer, images)
    assert cams is not None
    for label in range(6):
        general = grad_cam(net, layer, images, label)
        closed = np.stack([scale_up(cam, SIZE, SIZE) for cam in cams[:, label]])
        assert np.abs(general - closed).max() < 1e-4


def test_closed_form_is_refused_where_the_head_is_another(images: np.ndarray) -> None:
    torch.manual_seed(0)
    other = TwoLayerHead().eval()
    layer, cells = find_target_layer(other, torch.from_numpy(images[:1]), 7)
    assert layer is other.convolution
    assert cells == (8, 8)
    assert closed_form_cams(other, layer, images) is None
    assert grad_cam(other, layer, images, 0).shape == (3, SIZE, SIZE)


def test_hooks_are_gone_afterwards(net, images: np.ndarray) -> None:
    layer, _ = find_target_layer(net, torch.from_numpy(images[:1]), 7)
    grad_cam(net, layer, images, 0)
    closed_form_cams(net, layer, images)
    assert not any(module._forward_hooks for module in net.modules())


def planted(row: int, column: int, patient: str = "a", detected: bool = True) -> Trial:
    """A map that points at one place; the lesion is a square of 4 x 4 at (10, 10)."""
    heat = np.zeros((32, 32))
    heat[row, column] = 1
    mask = np.zeros((32, 32), dtype=bool)
    mask[10:14, 10:14] = True
    return Trial(patient, detected, heat, mask, np.ones((32, 32), dtype=bool))


@pytest.mark.parametrize(
    ("place", "hit"),
    [((11, 11), 1.0), ((15, 12), 1.0), ((16, 12), 0.0), ((15, 15), 0.0), ((0, 0), 0.0)],
)
def test_pointing_game_tolerates_one_cell_and_no_more(place: tuple[int, int], hit: float) -> None:
    # The tolerance of 2 px is round: the corner at (15, 15) lies 2.8 px off.
    scores = score_trials([planted(*place)], cell_px=2, replicates=0, seed=0)
    assert scores["pointing"]["value"] == hit


def test_chance_levels_are_shares_of_the_head() -> None:
    scores = score_trials([planted(11, 11)], cell_px=0.5, replicates=0, seed=0)
    assert scores["area_share"] == pytest.approx(16 / 1024)
    assert scores["pointing_chance"] == pytest.approx(16 / 1024)
    assert scores["heat_inside"] == 1
    assert scores["pointing_shuffled"] is None


def test_shuffled_null_uses_other_patients_peaks_alone() -> None:
    trials = [planted(11, 11, "a"), planted(12, 12, "a"), planted(0, 0, "b"), planted(11, 11, "c")]
    scores = score_trials(trials, cell_px=1, replicates=0, seed=0)
    # a: one of two others' peaks hits, twice; b: three of three; c: two of three.
    assert scores["pointing_shuffled"] == pytest.approx((0.5 + 0.5 + 1 + 2 / 3) / 4)
    assert scores["pointing"]["value"] == 0.75


def test_empty_map_is_a_miss_even_where_its_corner_lies_on_the_lesion() -> None:
    mask = np.zeros((32, 32), dtype=bool)
    mask[:4, :4] = True
    trial = Trial("a", True, np.zeros((32, 32)), mask, np.ones((32, 32), dtype=bool))
    scores = score_trials([trial], cell_px=2, replicates=0, seed=0)
    assert scores["pointing"]["value"] == 0
    assert scores["empty_maps"] == 1


def test_no_trials_give_none_not_zero() -> None:
    scores = score_trials([], cell_px=2, replicates=10, seed=0)
    assert scores["n"] == 0
    assert scores["pointing"] is None


def test_random_peaks_score_the_chance_level() -> None:
    rng = np.random.default_rng(0)
    trials = [planted(*rng.integers(0, 32, 2), patient=str(k)) for k in range(3000)]
    scores = score_trials(trials, cell_px=2, replicates=0, seed=0)
    assert scores["pointing"]["value"] == pytest.approx(scores["pointing_chance"], abs=0.012)


def test_mask_keeps_its_place_and_thin_lesions() -> None:
    bits = np.zeros((512, 512), dtype=np.uint8)
    bits[128:192, 256:320] = 1 << SUBTYPES.index("subdural")
    bits[300, 100:140] |= 1 << SUBTYPES.index("subarachnoid")  # one pixel thin
    mask = split_mask(bits, Square(0, 0, 512), 64)
    rows, columns = np.nonzero(mask[LABELS.index("subdural")])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 23, 32, 39)
    rows, _ = np.nonzero(mask[LABELS.index("subarachnoid")])
    assert set(rows) == {300 // 8}
    assert not mask[LABELS.index("epidural")].any()
    assert mask[ANY].any()


def test_mask_is_cut_and_padded_as_the_slice_is() -> None:
    hu = np.full((300, 512), -1000.0, dtype=np.float32)
    hu[100:160, 200:300] = 60
    bits = (hu == 60).astype(np.uint8)
    window = Window(name="w", center_hu=-470, width_hu=1060)
    for square in (Square(-106, 0, 512), Square(20, 100, 256)):
        picture = preprocess(hu, square, [window], 64)[0]
        np.testing.assert_array_equal(split_mask(bits, square, 64)[0], picture >= 127.5)


def test_head_is_the_largest_thing_with_its_holes_filled() -> None:
    image = np.zeros((40, 40), dtype=np.uint8)
    image[5:30, 5:30] = 200
    image[10:20, 10:20] = 0
    image[35:38, 2:38] = 90  # a head rest
    expected = np.zeros((40, 40), dtype=bool)
    expected[5:30, 5:30] = True
    np.testing.assert_array_equal(head_area(image), expected)


def labelled(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.random((count, 6)) < 0.2
    labels[:, ANY] = labels[:, :ANY].any(axis=1)
    return labels, rng.random(count) < 0.5, rng.integers(0, 12, count).astype(str)


def test_choice_shows_errors_of_both_kinds_and_every_subtype() -> None:
    labels, flagged, patients = labelled(300)
    choice = choose_slices(labels, flagged, patients, 16, 8, seed=1)
    truth = labels[:, ANY]
    assert flagged[choice.positives].all()
    assert not flagged[choice.negatives].any()
    assert truth[choice.positives].sum() == 12
    assert truth[choice.negatives].sum() == 4
    assert labels[choice.positives][:, :ANY].any(axis=0).all()
    assert len(set(choice.positives)) == 16
    assert len(set(patients[choice.negatives])) >= 4


def test_choice_is_fixed_by_the_seed() -> None:
    labels, flagged, patients = labelled(300)
    first = choose_slices(labels, flagged, patients, 16, 8, seed=1)
    assert choose_slices(labels, flagged, patients, 16, 8, seed=1) == first
    assert choose_slices(labels, flagged, patients, 16, 8, seed=2) != first


@pytest.mark.parametrize(("flag", "expected"), [(True, (9, 0)), (False, (0, 8))])
def test_choice_fills_up_from_what_there_is(flag: bool, expected: tuple[int, int]) -> None:
    labels, _, patients = labelled(9)
    choice = choose_slices(labels, np.full(9, flag), patients, 16, 8, seed=1)
    assert (len(choice.positives), len(choice.negatives)) == expected


@dataclass
class Slices:
    """A partition held in memory."""

    slices: list[str]
    patients: np.ndarray
    labels: np.ndarray
    squares: np.ndarray
    images: np.ndarray

    def read(self, indices: list[int]) -> np.ndarray:
        return self.images[indices]


@pytest.fixture
def small_run(tmp_path: Path) -> tuple[Slices, pl.DataFrame, Path]:
    """Twelve slices, half with a lesion, its mask, and predictions that flag eight."""
    rng = np.random.default_rng(1)
    images = rng.integers(60, 120, (12, 3, SIZE, SIZE)).astype(np.uint8)
    labels = np.zeros((12, 6), dtype=np.uint8)
    labels[:6, [4, ANY]] = 1
    images[:6, :, 20:30, 20:30] = 250
    bits = np.zeros((512, 512), dtype=np.uint8)
    bits[160:240, 160:240] = 1 << 4
    png = cv2.imencode(".png", bits)[1].tobytes()
    names = [f"ID_{k:09x}" for k in range(12)]
    masks = tmp_path / "phantom.parquet"
    pl.DataFrame({"slice": names, "mask": [png] * 6 + [None] * 6}).write_parquet(masks)
    patients = np.array([f"ID_fee1{k // 2:04x}" for k in range(12)])
    squares = np.tile([0, 0, 512], (12, 1))
    partition = Slices(names, patients, labels, squares, images)
    likely = np.array([0.9, 0.1] * 3 + [0.9, 0.8, 0.1, 0.2, 0.1, 0.3])
    predictions = pl.DataFrame({"slice": names[::-1]}).with_columns(
        pl.Series(f"p_{label}", likely[::-1]) for label in LABELS
    )
    return partition, predictions, masks


def test_galleries_and_scores_of_a_small_run(net, small_run) -> None:
    partition, predictions, masks = small_run
    params = ExplainParams(positives=4, negatives=4)
    tiles, scores = explain_nets([net], 0, partition, predictions, masks, params, 0.5, seed=0)
    assert [tile.verdict for tile in tiles["bleeds"]].count("false alarm") == 1
    assert [tile.verdict for tile in tiles["clear"]].count("missed: subdural") == 2
    assert all(tile.heat is not None for tile in tiles["bleeds"])
    assert all(tile.heat is None for tile in tiles["clear"])
    any_scores = scores["labels"]["any"]
    assert (any_scores["all"]["n"], any_scores["detected"]["n"]) == (6, 3)
    assert scores["labels"]["subdural"]["all"]["patients"] == 3
    assert scores["labels"]["epidural"]["all"]["n"] == 0
    assert scores["cells"] == [8, 8]
    json.dumps(scores, allow_nan=False)


def test_products_are_written_from_a_model_file(small_run, tmp_path: Path) -> None:
    partition, predictions, masks = small_run
    spec = ModelSpec(
        network=NetworkParams(architecture="tf_efficientnet_lite0"),
        weights="Random.",
        windows=DEFAULT_WINDOWS,
        size=SIZE,
        synthetic=True,
        seed=0,
        train={},
        git_commit="0",
        data_digest="0",
    )
    save_model(tmp_path / "model.safetensors", create_net(spec), spec)
    params = ExplainParams(positives=2, negatives=2)
    out = [
        tmp_path / "figures/bleeds.png",
        tmp_path / "figures/clear.png",
        tmp_path / "scores.json",
    ]
    model = tmp_path / "model.safetensors"
    scores = explain(model, partition, predictions, masks, params, 0.5, 0, *out)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in out[:2])
    assert json.loads(out[2].read_text()) == scores
    assert not {name for name in partition.patients if name in out[2].read_text()}
    first = [path.read_bytes() for path in out]
    explain(model, partition, predictions, masks, params, 0.5, 0, *out)
    assert [path.read_bytes() for path in out] == first


def test_real_data_get_galleries_without_scores(net, small_run) -> None:
    partition, predictions, _ = small_run
    params = ExplainParams(positives=2, negatives=2)
    tiles, scores = explain_nets([net], 0, partition, predictions, None, params, 0.5, seed=0)
    assert scores["labels"] is None
    assert all(tile.mask is None for tile in tiles["bleeds"] + tiles["clear"])


def test_slice_without_prediction_is_a_sentence(net, small_run) -> None:
    partition, predictions, masks = small_run
    with pytest.raises(HemtraceError, match="1 test slices have no prediction"):
        explain_nets([net], 0, partition, predictions[1:], masks, ExplainParams(), 0.5, seed=0)


def test_damaged_mask_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "phantom.parquet"
    pl.DataFrame({"slice": ["ID_0"], "mask": [b"no png"]}).write_parquet(path)
    with pytest.raises(HemtraceError, match="ID_0"):
        read_masks(path, ["ID_0"], np.array([[0, 0, 512]]), 32)
