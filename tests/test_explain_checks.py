"""explain: planted lesions are found where they lie, and random networks lose their maps."""

import hashlib

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from hemtrace.explain import plant, randomise
from hemtrace.explain.maps import Mapper, Target, create_mapper
from hemtrace.explain.randomise import (
    STEP_NAMES,
    cascade_maps,
    compare_maps,
    order_layers,
    randomise_layer,
    rank_correlation,
)
from hemtrace.figures import draw_bytes
from hemtrace.figures.localisation import ScoreRow, localisation_figure, randomisation_figure
from hemtrace.labels import ANY
from hemtrace.model import ModelSpec, create_net
from hemtrace.params import DEFAULT_WINDOWS, NetworkParams

SIZE, CELL = 112, 16
GREYS = np.array([plant.grey_of_hu(plant.LESION_HU, window) for window in DEFAULT_WINDOWS])


class BrightnessNet(nn.Module):
    """Sums what is brighter than brain in cells of 16 x 16, pools, and weighs: a closed form.

    `flip` turns its map over before pooling, which leaves every logit as it is.
    """

    def __init__(self, flip: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, CELL, stride=CELL, bias=False)
        nn.init.constant_(self.convolution.weight, 1 / (3 * CELL**2))
        self.turn = Turn(flip)
        self.classifier = nn.Linear(4, 6)
        nn.init.ones_(self.classifier.weight)

    def forward(self, images: Tensor) -> Tensor:
        bright = torch.relu(images.to(torch.float32) - 112)
        cells = self.turn(self.convolution(bright))
        logits: Tensor = self.classifier(cells.mean(dim=(2, 3)))
        return logits


class Turn(nn.Module):
    """Flips a map."""

    def __init__(self, flip: tuple[int, ...]) -> None:
        super().__init__()
        self.flip = flip

    def forward(self, cells: Tensor) -> Tensor:
        return torch.flip(cells, self.flip)


def head() -> np.ndarray:
    """A round head without a bleed: air, skull, brain; uint8 (3, 112, 112)."""
    rows, columns = np.indices((SIZE, SIZE))
    distance = np.hypot((rows - 55.5) / 1.15, columns - 55.5)
    picture = np.zeros((SIZE, SIZE), dtype=np.uint8)
    picture[distance < 46] = 255
    picture[distance < 43] = 96
    return np.repeat(picture[None], 3, axis=0)


def mapper_of(flip: tuple[int, ...] = ()) -> Mapper:
    return create_mapper([BrightnessNet(flip)], head()[None], 7, "grad-cam")


def plantings(count: int) -> list[plant.Planting]:
    rng = np.random.default_rng(0)
    image = head()
    brain = plant.find_brain(image[0], DEFAULT_WINDOWS[0])
    return [
        plant.Planting(f"p{k}", image, plant.choose_places(brain, 6, CELL, rng), image[0] > 0)
        for k in range(count)
    ]


def test_peak_lies_in_the_planted_cell_in_every_quadrant() -> None:
    mapper = mapper_of()
    assert mapper.has_closed_form
    # In the middle of a cell, in each quadrant.
    for row, column in ((24, 40), (40, 88), (72, 24), (88, 72)):
        planted = plant.plant_lesion(head(), (row, column), 6, GREYS)
        raw = mapper.raw(np.stack([head(), planted]), [ANY])[0]
        difference = raw[1, 0] - raw[0, 0]
        assert np.unravel_index(difference.argmax(), (7, 7)) == (row // CELL, column // CELL)


def test_every_planted_lesion_is_hit_in_every_quadrant_and_no_mirror_image() -> None:
    found = plant.score_plantings(mapper_of(), plantings(6), [6.0] * 6, GREYS, 100, 0)
    assert (found["slices"], found["trials"]) == (6, 24)
    assert found["difference"]["hits"]["value"] == 1
    assert [one["value"] for one in found["difference"]["quadrants"].values()] == [1] * 4
    assert found["chance"] < 0.12
    for name in plant.MIRRORS:
        assert found["difference"]["flipped"][name]["value"] < 0.3, name


@pytest.mark.parametrize(
    ("flip", "name"),
    [((3,), "mirrored"), ((2,), "upside down"), ((2, 3), "turned by 180 degrees")],
)
def test_flipped_maps_miss_and_hit_the_mirror_image(flip: tuple[int, ...], name: str) -> None:
    found = plant.score_plantings(mapper_of(flip), plantings(6), [6.0] * 6, GREYS, 0, 0)
    assert found["difference"]["hits"]["value"] < 0.3
    assert found["difference"]["flipped"][name]["value"] == 1


def test_places_lie_within_the_brain_far_from_their_mirror_images() -> None:
    brain = plant.find_brain(head()[0], DEFAULT_WINDOWS[0])
    for seed in range(20):
        places = plant.choose_places(brain, 6, CELL, np.random.default_rng(seed))
        assert places is not None
        for (row, column), upper, left in zip(
            places, (True, True, False, False), (True, False, True, False), strict=True
        ):
            assert (row < 56) == upper
            assert (column < 56) == left
            assert brain[row - 5 : row + 6, column].all()
            assert brain[row, column - 5 : column + 6].all()
            for mirror in plant.mirror_images(np.array([row, column]), brain.shape)[1:]:
                assert not plant.is_near((row, column), mirror, 1.5 * CELL)


def test_brain_without_room_has_no_places() -> None:
    rng = np.random.default_rng(0)
    assert plant.choose_places(np.zeros((SIZE, SIZE), dtype=bool), 6, CELL, rng) is None
    left = plant.find_brain(head()[0], DEFAULT_WINDOWS[0])
    left[:, 56:] = False
    assert plant.choose_places(left, 6, CELL, rng) is None


def test_lesion_has_the_grey_of_its_hu_in_every_window_and_a_soft_edge() -> None:
    planted = plant.plant_lesion(head(), (40, 40), 6, GREYS)
    # (70 - 0) / 80, (70 + 20) / 200 and (70 + 150) / 380 of 255.
    assert planted[:, 40, 40].tolist() == [223, 115, 148]
    profile = planted[0, 40, 40:52].astype(int)
    assert (np.diff(profile) <= 0).all()
    assert 96 < profile[6] < 223
    assert profile[-1] == 96
    changed = (planted != head()).any(axis=0)
    rows, columns = np.nonzero(changed)
    assert np.hypot(rows - 40, columns - 40).max() <= 9
    np.testing.assert_array_equal(head()[:, ~changed], planted[:, ~changed])


def test_no_slices_to_plant_in_give_reasons_not_errors() -> None:
    found = plant.score_plantings(mapper_of(), [], [], GREYS, 10, 0)
    assert found["difference"]["hits"]["value"] is None
    assert found["difference"]["hits"]["why"] == "no slice in which to plant"
    assert found["chance"] is None


def test_empty_map_has_no_peak() -> None:
    assert plant.find_peak(np.zeros((4, 4))) is None
    flat = np.zeros((8, 8))
    flat[0, 2:5] = 1
    flat[7, 7] = 1
    assert plant.find_peak(flat) == (0, 3)


def small_net(branches: str = "one") -> nn.Module:
    spec = ModelSpec(
        network=NetworkParams(architecture="test_efficientnet", output_stride=8, branches=branches),
        weights="",
        windows=DEFAULT_WINDOWS,
        size=64,
        synthetic=True,
        seed=0,
        train={},
        git_commit="",
        data_digest="",
    )
    return create_net(spec).eval()


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 3, 64, 64)).astype(np.uint8)


@pytest.mark.parametrize("branches", ["one", "halves"])
def test_maps_change_and_the_network_does_not(branches: str) -> None:
    net = small_net(branches)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    mapper = create_mapper([net], pictures(1), 4, "grad-cam")
    draws = cascade_maps(mapper, pictures(3), seed=0)
    assert draws.shape == (3, len(STEP_NAMES), 3, 64, 64)
    np.testing.assert_array_equal(draws[0, 0], mapper.maps(pictures(3), [ANY])[:, 0])
    for step in range(1, len(STEP_NAMES)):
        assert np.abs(draws[:, step] - draws[:, 0]).max() > 0.1
        assert np.abs(draws[0, step] - draws[1, step]).max() > 0.1
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    np.testing.assert_array_equal(cascade_maps(mapper, pictures(3), seed=0), draws)


def digest_layer(layer: nn.Module) -> str:
    """Digest the parameters that a layer holds itself."""
    held = layer.named_parameters(recurse=False)
    parts = [name.encode() + tensor.detach().numpy().tobytes() for name, tensor in held]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def changed_layers(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[list[bool]]:
    """Say for each step of one draw which layers, from the classifier down, hold other weights."""
    # What a network never trained has too, as zero biases, would look as if it were left alone.
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.1, 0.2)
    trained = [digest_layer(layer) for layer in order_layers(net)]
    steps: list[list[bool]] = []

    def record(target: Target, images: np.ndarray, labels: object, method: str) -> np.ndarray:
        found = [digest_layer(layer) for layer in order_layers(target.net)]
        steps.append([one != two for one, two in zip(found, trained, strict=True)])
        return np.zeros((len(images), 1, 2, 2))

    monkeypatch.setattr(randomise, "raw_maps", record)
    monkeypatch.setattr(randomise, "DRAWS", 1)
    target = Target(net, order_layers(net)[-1], closed=False)
    cascade_maps(Mapper((target,), (2, 2), "grad-cam"), pictures(1), seed=0)
    return steps


def expected_layers(layers: int) -> list[list[bool]]:
    tops = [0, 1, *(round(share * layers) for share in (0.25, 0.5, 0.75, 1.0))]
    return [[place < top for place in range(layers)] for top in tops]


@pytest.mark.parametrize("branches", ["one", "halves"])
def test_each_step_leaves_exactly_the_lower_layers_as_trained(
    branches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = small_net(branches)
    steps = changed_layers(net, monkeypatch)
    assert steps == expected_layers(len(order_layers(net)))
    assert all(steps[-1])


def test_a_cascade_that_draws_one_layer_again_and_again_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, drawn = small_net(), []

    def draw_the_first(layer: nn.Module, generator: torch.Generator) -> None:
        drawn.append(layer)
        randomise_layer(drawn[0], generator)

    monkeypatch.setattr(randomise, "randomise_layer", draw_the_first)
    assert changed_layers(net, monkeypatch) != expected_layers(len(order_layers(net)))


def test_layers_are_taken_from_the_classifier_down() -> None:
    net = small_net()
    layers = order_layers(net)
    assert layers[0] is net.classifier
    assert layers[-1] is net.backbone.conv_stem
    assert sum(p.numel() for layer in layers for p in layer.parameters(recurse=False)) == sum(
        p.numel() for p in net.parameters()
    )


def test_layers_of_two_branches_are_taken_in_turn() -> None:
    net = small_net("halves")
    layers = order_layers(net)
    assert layers[0] is net.classifier
    assert {layers[-1], layers[-2]} == {branch.conv_stem for branch in net.backbone.branches}


def test_rank_correlation_is_scipys_and_undefined_on_one_value() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(50).round(1), rng.random(50).round(1)
    judge = stats.spearmanr(first, second).statistic
    assert rank_correlation(first, second) == pytest.approx(judge)
    assert np.isnan(rank_correlation(first, np.ones(50)))


def test_maps_that_do_not_change_are_told_as_such() -> None:
    rng = np.random.default_rng(0)
    one = rng.random((4, 16, 16))
    draws = np.repeat(np.repeat(one[None, None], len(STEP_NAMES), axis=1), 3, axis=0)
    heads = np.ones((4, 16, 16), dtype=bool)
    near = np.zeros((4, 16, 16), dtype=bool)
    near[:2] = True
    told = compare_maps(draws, heads, near, np.array(list("abcd")), 50, 0)
    assert [step["similarity"]["value"] for step in told["steps"]] == pytest.approx([1.0] * 6)
    assert [step["pointing"]["value"] for step in told["steps"]] == [0.5] * 6
    assert abs(told["other_patients"]) < 0.2


def test_steps_whose_maps_are_empty_have_no_similarity_but_a_reason() -> None:
    draws = np.random.default_rng(0).random((3, len(STEP_NAMES), 2, 8, 8))
    draws[:, -1] = 0
    heads = np.ones((2, 8, 8), dtype=bool)
    told = compare_maps(draws, heads, None, np.array(["a", "b"]), 50, 0)
    last = told["steps"][-1]
    assert last["similarity"]["value"] is None
    assert last["similarity"]["why"] == "every map is empty or of one value"
    assert last["empty_maps"] == 6
    assert last["pointing"]["why"] == "no lesion masks"


def test_figures_are_drawn_with_and_without_masks() -> None:
    unknown = {"value": None, "low": None, "high": None, "why": "no lesion masks"}
    known = {"value": 0.5, "low": 0.2, "high": 0.8, "why": None}
    measures = ("pointing", "energy", "dice", "iou")
    row = ScoreRow("any", 3, dict.fromkeys(measures, known), dict.fromkeys(measures, 0.1))
    lone = ScoreRow("epidural", 0, dict.fromkeys(measures, unknown), dict.fromkeys(measures, None))
    planted = plant.score_plantings(mapper_of(), plantings(2), [6.0] * 2, GREYS, 0, 0)
    nothing = plant.score_plantings(mapper_of(), [], [], GREYS, 0, 0)
    some = np.array([0.0, 3.0]), np.array([1.0, 90.0])
    none = np.empty(0), np.empty(0)
    grid = [[0.25, 0.1], [0.5, 0.2]]
    steps = [
        {"name": name, "similarity": known, "pointing": pointing}
        for name, pointing in (("trained", known), ("all", unknown))
    ]
    without = [{**step, "pointing": unknown} for step in steps]
    image, maps = np.zeros((1, 16, 16), np.uint8), np.ones((2, 1, 16, 16))
    for figure in (
        localisation_figure([row, lone], [row], planted, some, grid, 0.5),
        localisation_figure([], [], nothing, none, None, 0.5),
        randomisation_figure(steps, 0.1, 0.2, image, maps),
        randomisation_figure(without, None, None, image, maps),
        randomisation_figure([], None, None, image[:0], maps[:0]),
    ):
        content = draw_bytes(figure, "png", dpi=40)
        assert content.startswith(b"\x89PNG")
