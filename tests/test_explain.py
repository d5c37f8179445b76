"""explain: masks, the choice of slices, and the whole stage on a small run."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import polars as pl
import pytest

from hemtrace.errors import HemtraceError
from hemtrace.explain import stage
from hemtrace.explain.cases import Cases
from hemtrace.explain.choose import (
    choose_by_subtype,
    choose_slices,
    choose_worst,
    draw_series,
)
from hemtrace.explain.galleries import shown_channel
from hemtrace.explain.masks import head_area, read_masks, split_mask
from hemtrace.explain.stage import Explanation, Products, explain, explain_nets
from hemtrace.labels import ANY, LABELS, SUBTYPES
from hemtrace.model import Ensemble, ModelSpec, Net, create_net, list_members, save_model
from hemtrace.params import DEFAULT_WINDOWS, ExplainParams, NetworkParams, Window
from hemtrace.window import Square, preprocess

SIZE = 64
THRESHOLDS = dict.fromkeys(LABELS, 0.5)


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


def test_subtypes_are_shown_by_find_miss_and_false_alarm() -> None:
    labels, _, patients = labelled(300)
    flagged = np.random.default_rng(5).random((300, 6)) < 0.4
    chosen = choose_by_subtype(labels, flagged, patients, 2, seed=1)
    for column, label in enumerate(SUBTYPES):
        for kind, bears, called in (
            ("found", True, True),
            ("missed", True, False),
            ("false alarm", False, True),
        ):
            places = chosen[label][kind]
            assert len(set(places)) == 2
            assert (labels[places, column] == bears).all()
            assert (flagged[places, column] == called).all()
            assert len(set(patients[places])) == 2
    assert choose_by_subtype(labels, flagged, patients, 2, seed=1) == chosen


def test_worst_are_the_surest_errors_a_patient_once_before_any_twice() -> None:
    labels = np.zeros((8, 6), dtype=int)
    labels[5:, ANY] = 1
    probability = np.array([0.9, 0.8, 0.7, 0.6, np.nan, 0.3, 0.1, 0.2])
    flagged = probability >= 0.5
    patients = np.array(["a", "a", "b", "c", "d", "e", "e", "f"])
    worst = choose_worst(labels, flagged, probability, patients, 3)
    # The second slice of a, 0.8, comes only after b and c.
    assert worst == {"false alarm": [0, 2, 3], "missed": [6, 7, 5]}
    assert choose_worst(labels, flagged, probability, patients, 9)["false alarm"] == [0, 2, 3, 1]


def test_brain_window_of_the_slice_itself_is_shown() -> None:
    assert shown_channel(DEFAULT_WINDOWS) == 0
    assert shown_channel(DEFAULT_WINDOWS * 3) == 3
    others = [Window(name=name, center_hu=40, width_hu=80) for name in ("x", "brain")]
    assert shown_channel(others) == 1
    assert shown_channel(others[:1] * 3) == 1


@dataclass
class Slices:
    """A partition held in memory."""

    name: ClassVar[str] = "test"

    slices: list[str]
    patients: np.ndarray
    labels: np.ndarray
    squares: np.ndarray
    images: np.ndarray

    def read(self, indices: list[int]) -> np.ndarray:
        return self.images[indices]


@dataclass
class SmallRun:
    """All that the stage reads."""

    test: Slices
    validation: Slices
    catalog: pl.DataFrame
    predictions: pl.DataFrame
    masks: Path

    def explain(self, nets: list[Net], masks: bool = True, **more: object) -> Explanation:
        params = ExplainParams(positives=4, negatives=4, randomised=2, planted=2, **more)
        return explain_nets(
            nets,
            DEFAULT_WINDOWS,
            self.test,
            self.validation,
            self.catalog,
            self.predictions,
            self.masks if masks else None,
            params,
            THRESHOLDS,
            0,
        )


def make_slices(first: int, seed: int) -> Slices:
    """Twelve slices of six patients: round heads, half of them with a lesion."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((SIZE, SIZE))
    head = np.hypot(rows - 32, columns - 32) < 29
    images = (rng.integers(90, 110, (12, 3, SIZE, SIZE)) * head).astype(np.uint8)
    labels = np.zeros((12, 6), dtype=np.uint8)
    labels[:6, [4, ANY]] = 1
    images[:6, :, 20:30, 20:30] = 250
    return Slices(
        [f"ID_{first + k:09x}" for k in range(12)],
        np.array([f"ID_fee1{(first + k) // 2:04x}" for k in range(12)]),
        labels,
        np.tile([0, 0, 512], (12, 1)),
        images,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Test and validation slices, half with a lesion and its mask; eight of twelve are flagged."""
    test, validation = make_slices(0, 1), make_slices(100, 2)
    bits = np.zeros((512, 512), dtype=np.uint8)
    bits[160:240, 160:240] = 1 << 4
    png = cv2.imencode(".png", bits)[1].tobytes()
    names = test.slices + validation.slices
    masks = tmp_path_factory.mktemp("explain") / "phantom.parquet"
    pl.DataFrame({"slice": names, "mask": ([png] * 6 + [None] * 6) * 2}).write_parquet(masks)
    likely = np.array([0.9, 0.1] * 3 + [0.9, 0.8, 0.1, 0.2, 0.1, 0.3])
    predictions = pl.DataFrame({"slice": test.slices[::-1]}).with_columns(
        pl.Series(f"p_{label}", likely[::-1]) for label in LABELS
    )
    known = pl.DataFrame(
        {
            "slice": names,
            "status": "used",
            "patient": [*test.patients, *validation.patients],
            "study": [f"st{k // 2}" for k in range(24)],
            "series": [f"se{k // 2}" for k in range(24)],
            "z_mm": [5.0 * (k % 2) for k in range(24)],
            "spacing_mm": 0.5,
            "spacing_across_mm": 0.4,
            "rows": 512,
            "orientation": "LP",
            "columns": 512,
        }
    )
    blank = pl.DataFrame({"slice": validation.slices}).with_columns(
        pl.lit(0.1).alias(f"p_{label}") for label in LABELS
    )
    return SmallRun(test, validation, known, pl.concat([predictions, blank]), masks)


SPEC = ModelSpec(
    network=NetworkParams(architecture="test_efficientnet", output_stride=8),
    weights="Random.",
    windows=DEFAULT_WINDOWS,
    size=SIZE,
    synthetic=True,
    seed=0,
    train={},
    git_commit="0",
    data_digest="0",
)


@pytest.fixture(scope="module")
def found(run: SmallRun) -> Explanation:
    return run.explain([create_net(SPEC)])


def test_galleries_show_both_kinds_of_error(found: Explanation) -> None:
    bleeds, clear = found.tiles["bleeds"], found.tiles["clear"]
    assert [tile.verdict for tile in bleeds].count("false alarm") == 1
    assert [tile.verdict for tile in clear].count("missed: subdural") == 2
    assert all(tile.heat is not None for tile in bleeds)
    # Where no bleed is found, the slice is shown as it is.
    assert all(tile.heat is None and tile.region is None for tile in clear)
    assert bleeds[0].note.startswith("brain window, depth ")


def test_scores_of_every_label_are_told(found: Explanation) -> None:
    scores = found.localisation["labels"]
    assert (scores["any"]["all"]["n"], scores["any"]["detected"]["n"]) == (6, 3)
    assert scores["subdural"]["all"]["patients"] == 3
    assert scores["epidural"]["all"]["n"] == 0
    assert found.localisation["cells"] == [8, 8]
    # 80 x 80 pixels of 0.5 x 0.4 mm are 1280 mm2.
    assert scores["any"]["by_size"]["400 to 1600 mm2"]["n"] == 6
    assert found.localisation["map_threshold"]["slices"] == 6
    assert found.localisation["planted"]["slices"] == 2
    json.dumps(found.localisation, allow_nan=False)


def test_regions_stand_on_flagged_slices_alone(run: SmallRun, found: Explanation) -> None:
    flagged = {run.test.slices[k] for k in (0, 2, 4, 6, 7)}
    assert set(found.regions["slice"]) <= flagged
    told = found.localisation["regions"]
    cut = set(found.regions.filter(pl.col("label") == "any")["slice"])
    assert (told["slices"], told["without"]) == (5, 5 - len(cut))
    boxes = found.regions.select("top", "left", "bottom", "right").to_numpy()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= 512).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()


def test_volumes_are_areas_times_distance(run: SmallRun, found: Explanation) -> None:
    volumes = found.volumes.filter(pl.col("label") == "any").sort("patient")
    assert volumes.height == 6
    # Two slices, 5 mm apart, of 1280 mm2 each: 12.8 mL.
    assert volumes["true_volume_ml"].to_list() == pytest.approx([12.8] * 3 + [0] * 3)
    areas = (
        found.regions.filter(pl.col("label") == "any")
        .group_by("patient")
        .agg(pl.col("area_mm2").sum())
    )
    joined = volumes.join(areas, on="patient", how="left").fill_null(0.0)
    np.testing.assert_allclose(joined["volume_ml"], joined["area_mm2"] * 5 / 1000)
    told = found.localisation["volumes"]["labels"]["any"]["all"]
    error = np.abs(volumes["volume_ml"] - volumes["true_volume_ml"]).mean()
    assert told["absolute_error_ml"]["value"] == pytest.approx(error)
    assert told["n"] == 6


def test_products_are_written_from_a_model_file(run: SmallRun, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    save_model(model, create_net(SPEC), SPEC)
    params = ExplainParams(
        positives=1, negatives=1, each_subtype=0, worst=1, randomised=1, planted=1
    )
    suffixes = {"localisation": "json", "regions": "parquet", "volumes": "parquet"}
    paths = {
        one.name: tmp_path / f"out/{one.name}.{suffixes.get(one.name, 'png')}"
        for one in fields(Products)
    }

    def write() -> dict[str, bytes]:
        inputs = (run.test, run.validation, run.catalog, run.predictions, run.masks)
        scores = explain(model, *inputs, params, THRESHOLDS, 0, Products(**paths))
        assert json.loads(paths["localisation"].read_text()) == scores
        return {name: path.read_bytes() for name, path in paths.items()}

    first = write()
    for name, content in first.items():
        assert content.startswith(b"\x89PNG") or name in suffixes
    text = first["localisation"].decode()
    assert not any(patient in text for patient in run.test.patients)
    assert write() == first


@pytest.mark.parametrize("synthetic", [True, False])
def test_tables_are_marked_with_whether_their_slices_are_synthetic(
    run: SmallRun,
    found: Explanation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    synthetic: bool,
) -> None:
    monkeypatch.setattr(stage, "explain_nets", lambda *_: replace(found, figures={}))
    spec = SPEC.model_copy(update={"synthetic": synthetic})
    model = tmp_path / "model.safetensors"
    save_model(model, create_net(spec), spec)
    paths = {one.name: tmp_path / one.name for one in fields(Products)}
    inputs = (run.test, run.validation, run.catalog, run.predictions, run.masks)
    explain(model, *inputs, ExplainParams(), THRESHOLDS, 0, Products(**paths))
    for name in ("regions", "volumes"):
        mark = pl.read_parquet_metadata(paths[name])["synthetic"]
        assert mark == str(synthetic).lower()
        assert pl.read_parquet(paths[name]).equals(getattr(found, name))


def test_real_data_get_galleries_and_a_reason_for_no_scores(run: SmallRun) -> None:
    found = run.explain([create_net(SPEC)], masks=False)
    told = found.localisation
    assert told["labels"] is None
    assert told["volumes"]["labels"] is None
    assert told["labels_why"] == told["volumes"]["why"] == "the data have no lesion masks"
    assert told["map_threshold"]["value"] == 0.5
    assert "no validation slice has a lesion mask" in told["map_threshold"]["source"]
    assert all(step["pointing"]["value"] is None for step in told["randomisation"]["steps"])
    assert all(tile.mask is None for tiles in found.tiles.values() for tile in tiles)
    assert found.volumes["true_volume_ml"].null_count() == found.volumes.height
    assert found.regions.height > 0
    json.dumps(told, allow_nan=False)


def test_ensemble_and_branches_and_other_methods_are_explained(run: SmallRun) -> None:
    halves = NetworkParams(architecture="test_efficientnet", branches="halves")
    one = create_net(SPEC)
    two = create_net(SPEC.model_copy(update={"network": halves, "seed": 1}))
    nets = list_members(Ensemble([one, two]))
    found = run.explain(nets, fewest_cells=4, method="grad-cam++")
    assert found.localisation["method"]["networks"] == 2
    assert found.localisation["method"]["name"] == "Grad-CAM++"
    assert found.localisation["labels"]["any"]["all"]["n"] == 6


def test_nothing_flagged_leaves_sentences_not_errors(run: SmallRun) -> None:
    found = explain_nets(
        [create_net(SPEC)],
        DEFAULT_WINDOWS,
        run.test,
        None,
        run.catalog.with_columns(spacing_mm=pl.lit(None, pl.Float64)),
        run.predictions.with_columns(p_any=pl.lit(float("nan"))),
        run.masks,
        ExplainParams(),
        {},
        0,
    )
    assert found.regions.is_empty()
    assert found.localisation["threshold"] is None
    assert found.localisation["randomisation"]["why"].startswith("there are no flagged")
    assert found.localisation["planted"]["why"].startswith("no rightly clear slice")
    assert found.localisation["volumes"]["labels"]["any"]["all"]["unknown"] == 3
    json.dumps(found.localisation, allow_nan=False)


def test_few_slices_are_drawn_by_lot_and_the_rule_says_so(run: SmallRun) -> None:
    found = run.explain([create_net(SPEC)], scored=2, segmented=3)
    assert found.localisation["scored"]["slices"] == 2
    assert "2 of the 6 test slices" in found.localisation["scored"]["rule"]
    assert found.localisation["regions"]["slices"] <= 3
    assert "test series, sampled at random" in found.localisation["regions"]["rule"]
    assert found.volumes["series"].n_unique() < 6


def cases_of_series(flagged: list[int]) -> Cases:
    """Make series of four slices, so many of which are flagged; each is another patient's."""
    count = 4 * len(flagged)
    flags = np.array([k < number for number in flagged for k in range(4)])
    table = pl.DataFrame({"series": [f"se{k // 4}" for k in range(count)]}).with_columns(
        patient="series", study="series"
    )
    return Cases(None, np.zeros((count, 6)), np.tile(flags[:, None], 6), table)


@pytest.mark.parametrize("seed", range(8))
def test_series_that_fit_are_drawn_though_one_before_them_does_not(seed: int) -> None:
    flagged = [4, 1, 1, 4, 1, 1]
    places, rule = draw_series(cases_of_series(flagged), 5, seed)
    drawn = sorted({place // 4 for place in places})
    assert places == [4 * series + k for series in drawn for k in range(4)]
    total = sum(flagged[series] for series in drawn)
    left = [flagged[series] for series in range(6) if series not in drawn]
    # Whatever the order of the lot, no series that was left out would still have fitted.
    assert total <= 5 < total + min(left)
    assert f"{len(drawn)} of 6 test series" in rule
    assert f"{len(left)} series with {sum(left)} flagged slices were left out" in rule


def test_series_are_all_drawn_where_they_fit() -> None:
    places, rule = draw_series(cases_of_series([2, 0, 1]), 3, 0)
    assert (places, rule) == (list(range(12)), "every flagged test slice")


def test_slice_without_prediction_is_a_sentence(run: SmallRun) -> None:
    fewer = SmallRun(run.test, run.validation, run.catalog, run.predictions[1:], run.masks)
    with pytest.raises(HemtraceError, match="1 test slices have no prediction"):
        fewer.explain([create_net(SPEC)])


def test_damaged_mask_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "phantom.parquet"
    pl.DataFrame({"slice": ["ID_0"], "mask": [b"no png"]}).write_parquet(path)
    with pytest.raises(HemtraceError, match="ID_0"):
        read_masks(path, ["ID_0"], np.array([[0, 0, 512]]), 32)
