"""figures: equal bytes for equal input, what the marks say, and odd inputs."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from sklearn.metrics import precision_recall_curve

from hemtrace.evaluate.reliability import measure_reliability
from hemtrace.figures import (
    Proportion,
    confusion_matrices,
    detection_bars,
    draw_bytes,
    flow_bars,
    precision_recall_curves,
    reliability_curves,
    roc_curves,
    subtype_bars,
    training_curves,
    write_figure,
)
from hemtrace.figures.decision import decision_curves
from hemtrace.figures.gallery import Tile, heat_gallery, slice_gallery
from hemtrace.figures.style import LABEL_COLORS
from hemtrace.figures.subgroups import ForestRow, Interval, subgroup_forest
from hemtrace.labels import LABELS
from hemtrace.metrics import resample_patients

POINTS = {"rule-out": (0.4, 0.9), "balanced": (0.1, 0.8), "rule-in": None}
COUNTS = {"tp": 30, "fp": 4, "fn": 6, "tn": 160}


def words(figure: Figure) -> str:
    """Collect all text of a figure."""
    figure.canvas.draw()
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def bleeding_tiles(count: int) -> list[Tile]:
    rng = np.random.default_rng(0)
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:9, 5:9] = True
    image = rng.integers(0, 255, (20, 20)).astype(np.uint8)
    return [
        Tile(f"ID_{k}", "subdural 0.9", "true: subdural", True, image, rng.random((20, 20)), mask)
        for k in range(count)
    ]


def test_the_sides_of_the_patient_stand_at_the_edges_where_they_are_known():
    tile = bleeding_tiles(1)[0]
    for orientation, letters in {"LP": ["R", "L"], "RA": ["L", "R"], None: []}.items():
        plain, _ = heat_gallery([replace(tile, orientation=orientation)], pairs=1).axes[:2]
        texts = sorted(plain.texts, key=lambda text: text.get_position()[0])
        assert [text.get_text() for text in texts] == letters


def make_training() -> Figure:
    columns = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "val_auc_any")
    return training_curves({"epoch": [1, 2, 3], **{name: [0.3, 0.2, 0.1] for name in columns}})


def make_roc() -> Figure:
    steps = np.array([0.0, 0.5, 1.0])
    return roc_curves({"any": (steps, np.sqrt(steps))}, {"any": 0.8}, {"any": 36}, POINTS)


def reliability(truth: np.ndarray, probability: np.ndarray) -> dict:
    patients = np.arange(len(truth)) // 4
    return measure_reliability(truth, probability, resample_patients(patients, 20, 0))


def make_all() -> dict[str, Figure]:
    steps = np.array([0.0, 0.5, 1.0])
    bars = [Proportion(label, 0.8, 0.7, 0.9, 40) for label in LABELS]
    rng = np.random.default_rng(0)
    probability = rng.random(200)
    return {
        "training": make_training(),
        "roc": make_roc(),
        "precision_recall": precision_recall_curves(
            {"any": (steps, np.sqrt(steps))}, {"any": 0.8}, {"any": 36}
        ),
        "confusion": confusion_matrices(dict.fromkeys(LABELS, COUNTS), dict.fromkeys(LABELS, 0.25)),
        "detection": detection_bars(COUNTS, {"tp": 8, "fp": 2, "fn": 0, "tn": 14}),
        "subtypes": subtype_bars(bars, bars, bars),
        "flow": flow_bars([("files", 10), ("used", 8)], {"truncated": 2}),
        "calibration": reliability_curves(
            {"any": reliability(rng.random(200) < probability, probability)}
        ),
        "bleeds": heat_gallery(bleeding_tiles(2)),
        "clear": slice_gallery(bleeding_tiles(2)),
    }


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    return make_all()


@pytest.mark.parametrize("kind", ["svg", "png"])
@pytest.mark.parametrize("make", [make_roc, lambda: heat_gallery(bleeding_tiles(1))])
def test_equal_input_gives_equal_bytes(make: Callable[[], Figure], kind: str) -> None:
    assert draw_bytes(make(), kind, dpi=40) == draw_bytes(make(), kind, dpi=40)


def test_another_process_draws_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hemtrace.figures import *;"
        "write_figure(flow_bars([('files', 10)], {}), Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.svg")], check=True)
    write_figure(flow_bars([("files", 10)], {}), tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_svg_loads_nothing_and_carries_no_date(figures: dict[str, Figure]) -> None:
    for name in ("flow", "clear"):
        svg = draw_bytes(figures[name], "svg", dpi=40).decode()
        assert "<dc:date>" not in svg
        links = re.findall(r'(?:href|src)="([^"]*)"', svg)
        assert all(link.startswith(("#", "data:")) for link in links)


def test_detection_bars_name_every_count_and_n(figures: dict[str, Figure]) -> None:
    text = words(figures["detection"])
    for part in ("30 found", "6 missed", "160 clear", "4 false alarms", "(n = 36)", "(n = 164)"):
        assert part in text
    assert "0 missed" not in text


def test_confusion_matrices_show_counts_and_shares_of_the_truth(figures) -> None:
    text = words(figures["confusion"])
    assert "30\n83.3%" in text
    assert "160\n97.6%" in text
    assert "n = 200" in text


def test_operating_points_lie_where_they_are_told_and_bear_their_names(figures) -> None:
    points = [line.get_xydata() for line in figures["roc"].axes[0].lines]
    for name, place in POINTS.items():
        drawn = any(len(p) == 1 and np.allclose(p[0], place or (9, 9)) for p in points)
        assert drawn == (name in words(figures["roc"])) == (place is not None)


def test_precision_and_recall_draw_chance_and_nothing_at_recall_nil() -> None:
    # Two positives of five; the highest score is a negative's, so that precision would fall to 0.
    truth, score = np.array([1, 1, 0, 0, 0]), np.array([0.8, 0.3, 0.9, 0.2, 0.1])
    precision, recall, _ = precision_recall_curve(truth, score)
    assert (recall == 0).sum() == 2
    figure = precision_recall_curves({"any": (recall, precision)}, {"any": 0.5}, {"any": 2})
    chance, curve = figure.axes[0].lines
    assert list(chance.get_ydata()) == [0.4, 0.4]
    assert chance.get_linestyle() == ":"
    across, up = curve.get_data()
    assert (across[-1], up[-1]) == (0, 0.5)
    assert (across == 0).sum() == 1
    assert (up[across > 0] == precision[recall > 0]).all()


def test_axes_of_confusion_matrices_and_reliability_bear_names(figures: dict[str, Figure]) -> None:
    for axes in figures["confusion"].axes:
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert "count (log)" in words(figures["calibration"])
    assert "square-root scale" in words(figures["calibration"])


def test_no_curve_strikes_out_the_name_of_a_point(figures: dict[str, Figure]) -> None:
    names = [text for text in figures["roc"].axes[0].texts if text.get_text() in POINTS]
    assert len(names) == 2
    curves = max(line.get_zorder() for line in figures["roc"].axes[0].lines if line.get_label())
    assert all(name.get_bbox_patch() and name.get_zorder() > curves for name in names)


def test_undefined_bar_is_said_not_drawn() -> None:
    bars = [Proportion("epidural", None, None, None, 0), Proportion("any", 0.9, None, None, 20)]
    figure = subtype_bars(bars, bars, bars)
    assert words(figure).count("not estimable") == 3
    assert len(figure.axes[0].patches) == 1


def test_undefined_auc_leaves_no_line() -> None:
    columns = ("train_loss", "val_loss", "train_accuracy", "val_accuracy", "val_auc_any")
    history = {name: [0.3, 0.2] for name in columns}
    history["val_auc_epidural"] = [float("nan")] * 2
    figure = training_curves({"epoch": [1, 2], **history})
    legend = [text.get_text() for text in figure.axes[2].get_legend().get_texts()]
    assert legend == ["any"]


def test_history_without_any_defined_auc_is_drawn() -> None:
    columns = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
    figure = training_curves({"epoch": [1], **{name: [0.3] for name in columns}})
    assert "undefined" in words(figure)


def test_calibration_of_perfect_probabilities_lies_on_the_diagonal() -> None:
    rng = np.random.default_rng(1)
    probability = rng.random(40_000)
    figure = reliability_curves({"any": reliability(rng.random(40_000) < probability, probability)})
    points = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 15)
    assert np.allclose(points.get_xdata(), points.get_ydata(), atol=0.03)


def test_what_has_no_threshold_is_said_not_drawn() -> None:
    assert "not estimable" in words(detection_bars(None, None))
    assert "12 found" not in words(detection_bars(COUNTS, None))
    figure = confusion_matrices({"any": COUNTS, "epidural": None}, {"any": 0.2, "epidural": None})
    assert words(figure).count("not estimable") == 1


@pytest.mark.parametrize("gallery", [heat_gallery, slice_gallery])
def test_empty_gallery_says_why(gallery) -> None:
    assert "flagged" in words(gallery([]))


def test_empty_heat_map_is_called_empty() -> None:
    cold = [replace(tile, heat=np.zeros((20, 20))) for tile in bleeding_tiles(1)]
    assert "empty" in words(heat_gallery(cold))
    assert "empty" not in words(heat_gallery(bleeding_tiles(1)))


def test_heat_map_is_laid_over_every_second_picture() -> None:
    figure = heat_gallery(bleeding_tiles(3))
    assert [len(axes.images) for axes in figure.axes[:6]] == [1, 2, 1, 2, 1, 2]


def test_global_look_of_the_caller_is_left_alone(figures: dict[str, Figure]) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    words(make_roc())
    assert dict(mpl.rcParams) == before


def test_label_colours_differ_in_lightness_or_hue_when_green_is_lost() -> None:
    # Deuteranopia, Viénot, Brettel and Mollon 1999, in linear light: R and G fall together.
    def seen(color: str) -> np.ndarray:
        red, green, blue = (int(color[k : k + 2], 16) / 255 for k in (1, 3, 5))
        mixed = 0.29275 * red**2.2 + 0.70725 * green**2.2
        return np.array([mixed, mixed, blue**2.2 - 0.0224 * red**2.2 + 0.0224 * green**2.2])

    colors = list(LABEL_COLORS.values())
    for k, first in enumerate(colors):
        for second in colors[k + 1 :]:
            assert np.abs(seen(first) - seen(second)).max() > 0.08, (first, second)


@pytest.mark.parametrize("bound", [None, 0.2])
def test_figures_speak_of_intervals_only_where_they_draw_some(bound: float | None) -> None:
    row = ForestRow("subtype", "subdural", "9 / 3", Interval(0.5, bound, bound))
    forest = subgroup_forest([row], Interval(0.7), "Sensitivity", "slices")
    model = {"value": [0.1, 0.2], "low": [bound, bound], "high": [bound, bound]}
    curve = {"n": 9, "chances": [0.1, 0.2], "model": model, "all": [0.1, 0.0], "prevalence": 0.3}
    curves = decision_curves({"test slices": curve})
    for figure, told in ((forest, "with 95 % interval"), (curves, "95 % interval")):
        assert (told in words(figure)) == (bound is not None)
