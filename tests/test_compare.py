"""compare: each system by its own parameters, all by the same rules."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from held import SPEC, hold

from hemtrace.compare.cost import count_macs, count_parameters, describe_system
from hemtrace.compare.systems import system_params
from hemtrace.compare.table import compare_systems
from hemtrace.errors import HemtraceError
from hemtrace.evaluate import (
    PROBABILITIES,
    combine_predictions,
    evaluate,
    fix_on_validation,
    score_runs,
)
from hemtrace.labels import LABELS
from hemtrace.model import create_net
from hemtrace.params import EvaluateParams, NetworkParams, parse_params
from hemtrace.report.systems import runs_table, systems_cost_table, systems_table
from hemtrace.shards import TestSlices, ValSlices

ROOT = Path(__file__).parents[1]


def compared(systems: list[dict[str, object]], **train: object):
    return system_params(parse_params({"compare": {"systems": systems, "train": train}}), ROOT)


def test_a_system_is_its_preset_then_its_own_then_what_wins_over_all() -> None:
    own = {"learning_rate": 0.5, "epochs": 9}
    found = compared([{"name": "a", "preset": "rsna-paper", "train": own}], epochs=1)["a"]
    assert (found.weights, found.flip_vertical) == ("timm", 0.1)  # the preset's
    assert found.learning_rate == 0.5
    assert found.epochs == 1


@pytest.mark.parametrize("preset", ["systems", "scaling"])
def test_the_lists_of_the_presets_are_sound(preset: str) -> None:
    from hemtrace.presets import read_preset

    found = system_params(parse_params(read_preset(preset, ROOT)), ROOT)
    assert len(found) == {"systems": 5, "scaling": 8}[preset]
    if preset == "scaling":
        sizes = [train.input_size for train in found.values()]
        assert sizes == [224, 240, 260, 300, 380, 456, 528, 600]  # Tan and Le 2019


@pytest.mark.parametrize(
    ("systems", "sentence"),
    [
        ([{"name": "a", "preset": "nosuch"}], "no preset 'nosuch'"),
        ([{"name": "a"}, {"name": "a"}], "two are named 'a'"),
        ([{"name": "a", "train": {"epochz": 1}}], r"systems, a: `train.epochz` is not a parameter"),
        ([{"name": "a", "train": {"branches": "windows", "branch_windows": ["x", "brain"]}}],
         r"branch_windows names the window 'x'"),
    ],
)  # fmt: skip
def test_a_wrong_system_is_told_by_name(systems, sentence) -> None:
    with pytest.raises(HemtraceError, match=sentence):
        compared(systems)


def test_macs_and_parameters_are_those_of_the_paper() -> None:
    """EfficientNet-B0: 5.3 million parameters, 0.39 billion MACs at 224 (Tan and Le 2019)."""
    network = NetworkParams(architecture="efficientnet_b0")
    spec = SPEC.model_copy(update={"network": network, "size": 224})
    net = create_net(spec)
    thousand_classes = count_parameters(net) + 994 * 1281
    assert thousand_classes / 1e6 == pytest.approx(5.3, abs=0.05)
    assert count_macs(net, spec) / 1e9 == pytest.approx(0.39, abs=0.01)


def predictions(seed: int, patients_of_val: str = "ab") -> pl.DataFrame:
    """Sixty slices: validation patients by name, test patients t0 to t9."""
    chance = np.random.default_rng(seed)
    rows = []
    for partition, names in (("val", patients_of_val), ("test", "0123456789")):
        for name in names:
            for k in range(4):
                truth = [0, 0, 0, 0, int((ord(name) + k) % 3 == 0)]
                rows.append([f"{name}{k}", name, name, partition, *truth, truth[-1]])
    schema = ["slice", "patient", "study", "partition", *LABELS]
    table = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        series=pl.col("study"), depth=pl.lit(0.5)
    )
    guess = table.select(LABELS).to_numpy() * 0.3 + chance.random((table.height, 6)) * 0.6
    return table.hstack(pl.DataFrame(guess, schema=list(PROBABILITIES)))


def test_validation_is_out_of_fold_and_the_test_the_mean_of_all() -> None:
    runs = [predictions(1, "ab"), predictions(2, "cd"), predictions(3, "ab")]
    joined = combine_predictions(runs)
    assert joined["slice"].is_unique().all()
    val = joined.filter(pl.col("partition") == "val")
    assert set(val["patient"]) == set("abcd")

    def of(table: pl.DataFrame, key: str) -> np.ndarray:
        return table.filter(pl.col("slice") == key).select(PROBABILITIES).to_numpy()[0]

    np.testing.assert_allclose(of(joined, "c1"), of(runs[1], "c1"))
    np.testing.assert_allclose(of(joined, "a1"), (of(runs[0], "a1") + of(runs[2], "a1")) / 2)
    mean = np.mean([of(run, "71") for run in runs], axis=0)
    np.testing.assert_allclose(of(joined, "71"), mean)
    assert combine_predictions(runs[:1]) is runs[0]


def test_runs_are_scored_each_by_itself() -> None:
    runs = {"fold0_seed1": predictions(1), "fold0_seed2": predictions(2)}
    scored = score_runs(runs, 1e-6)
    params = EvaluateParams(bootstrap=0)
    for row in scored:
        operating = fix_on_validation(runs[row["run"]], params, "0", synthetic=True)
        test = evaluate(runs[row["run"]], operating, params, 1)["partitions"]["test"]["slices"]
        assert row["test_roc_auc_any"] == pytest.approx(test["labels"]["any"]["roc_auc"]["value"])
        assert row["test_weighted_log_loss"] == pytest.approx(test["weighted_log_loss"]["value"])
    epochs = pl.DataFrame({"fold": [0, 0, 0], "seed": [1, 1, 2], "epoch": [1, 2, 1]})
    table = runs_table(scored, epochs)
    assert [row[0] for row in table.rows] == [
        "fold 0, seed 1", "fold 0, seed 2", "mean of the 2 seeds of fold 0",
    ]  # fmt: skip
    assert [row[1] for row in table.rows[:2]] == ["2", "1"]
    areas = [row["test_roc_auc_any"] for row in scored]
    assert table.rows[2][4] == f"{np.mean(areas):.3f}\n±{np.std(areas, ddof=1):.3f}"


def test_systems_are_scored_as_evaluate_does_and_shown_with_intervals() -> None:
    description = describe_system(create_net(SPEC), SPEC)
    table = predictions(5)
    params = EvaluateParams(bootstrap=40)
    systems = {"one": (table, description), "two": (predictions(6), description)}
    found = compare_systems(systems, params, 3)
    row, other = found["systems"]
    operating = fix_on_validation(table, params, "0", synthetic=True)
    test = evaluate(table, operating, params, 3)["partitions"]["test"]["slices"]
    assert row["roc_auc_any"] == test["labels"]["any"]["roc_auc"]
    assert "roc_auc_difference" not in row
    gain = other["roc_auc_any"]["value"] - row["roc_auc_any"]["value"]
    assert other["roc_auc_difference"]["value"] == pytest.approx(gain)
    loss = other["weighted_log_loss"]["value"] - row["weighted_log_loss"]["value"]
    assert other["log_loss_difference"]["value"] == pytest.approx(loss)
    assert row["roc_auc_epidural"]["value"] is None
    assert found["slices"] == 40
    shown = systems_table(found).rows[0]
    assert shown[0] == "one"
    assert f"{test['labels']['any']['roc_auc']['value']:.3f}" in shown[2]
    cost = systems_cost_table(found).rows[0]
    assert cost[1].startswith("test_efficientnet")
    assert float(cost[-1].replace(",", "")) > 1


def test_predictions_of_partitions_are_those_of_the_network(tmp_path, monkeypatch) -> None:
    from hemtrace.evaluate import predictions as module

    held = {kind: hold(kind, 10, k) for k, kind in enumerate((ValSlices, TestSlices))}
    monkeypatch.setattr(module, "open_partition", lambda kind, *_: held[kind])
    net = create_net(SPEC).eval()
    scan = {"status": "used", "study": "s", "series": "1"}
    catalog = pl.concat(
        pl.DataFrame({"slice": one.slices, "patient": one.patients, "z_mm": np.arange(10.0)})
        for one in held.values()
    ).with_columns(**{name: pl.lit(value) for name, value in scan.items()})
    catalog = catalog.unique("slice", keep="first")
    table = module.predict_partitions(net, SPEC, catalog, pl.DataFrame(), tmp_path)
    assert table["partition"].to_list() == ["val"] * 10 + ["test"] * 10
    with torch.inference_mode():
        expected = net(torch.from_numpy(held[TestSlices].read(range(10)))).sigmoid().numpy()
    shown = table.filter(pl.col("partition") == "test").select(PROBABILITIES).to_numpy()
    np.testing.assert_allclose(shown, expected, atol=1e-6)
