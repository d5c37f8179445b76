from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from hemtrace.errors import HemtraceError
from hemtrace.model import Ensemble, ModelSpec, Net, create_net, heads, load_model, save_model
from hemtrace.model.heads import (
    Forest,
    convert_forest,
    deal_folds,
    fit_forest,
    fit_svm,
    replace_head,
    start_bias,
)
from hemtrace.params import DEFAULT_WINDOWS, NetworkParams

SLICES, FEATURES = 600, 20


def make_features(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of odd scales, six labels that hang on them linearly with noise, and patients."""
    chance = np.random.default_rng(seed)
    plain = chance.normal(size=(SLICES, FEATURES))
    logits = plain @ np.random.default_rng(9).normal(size=(FEATURES, 6)) - 4
    labels = (logits + chance.logistic(size=logits.shape) > 0).astype(np.uint8)
    odd = (plain + np.linspace(-5, 5, FEATURES)) * np.geomspace(1e-2, 1e2, FEATURES)
    patients = np.array([f"p{k // 5}" for k in range(SLICES)])
    return odd.astype(np.float32), labels, patients


def probabilities(head: torch.nn.Module, features: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return head(torch.from_numpy(features)).sigmoid().numpy()


def test_one_layer_gives_what_scikit_learns_calibrated_svm_gives() -> None:
    features, labels, patients = make_features()
    shown = probabilities(fit_svm(features, labels, patients, 3), make_features(1)[0])
    for place in range(6):
        folds = deal_folds(labels[:, place].astype(bool), patients, 3)
        assert folds is not None
        parts = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(3)]
        svm = LinearSVC(C=0.01, class_weight="balanced", dual=False, max_iter=10_000)
        judge = CalibratedClassifierCV(
            make_pipeline(StandardScaler(), svm), method="sigmoid", cv=parts, ensemble=False
        ).fit(features.astype(np.float64), labels[:, place])
        expected = judge.predict_proba(make_features(1)[0].astype(np.float64))[:, 1]
        np.testing.assert_allclose(shown[:, place], expected, atol=2e-3)


def test_an_svm_keeps_the_prevalence_although_its_classes_weigh_the_same() -> None:
    features, labels, patients = make_features()
    shown = probabilities(fit_svm(features, labels, patients, 0), features)
    np.testing.assert_allclose(shown.mean(axis=0), labels.mean(axis=0), atol=0.04)


def test_fitted_in_parts_an_svm_ranks_as_well_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, patients = make_features()
    seen, truth, _ = make_features(1)
    at_once = probabilities(fit_svm(features, labels, patients, 0), seen)
    monkeypatch.setattr(heads, "_MOST_AT_ONCE", 1000)
    monkeypatch.setattr(heads, "_ROWS", 64)
    in_parts = probabilities(fit_svm(features, labels, patients, 0), seen)
    for place in range(6):
        scores = [roc_auc_score(truth[:, place], shown[:, place]) for shown in (at_once, in_parts)]
        assert scores[0] > 0.9
        assert scores[1] > scores[0] - 0.02


def test_in_parts_both_classes_weigh_the_same_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, _ = make_features()
    monkeypatch.setattr(heads, "_MOST_AT_ONCE", 1000)
    monkeypatch.setattr(heads, "_ROWS", 64)
    label = labels[:, 0].astype(bool)
    weight, bias = heads._fit_plane(features, label, np.arange(SLICES), 0)
    scaled = StandardScaler().fit_transform(features.astype(np.float64))
    judge = LinearSVC(C=0.01, loss="hinge", class_weight="balanced", max_iter=100_000)
    expected = judge.fit(scaled, label).decision_function(scaled)
    given = features @ weight + bias
    assert np.corrcoef(given, expected)[0, 1] > 0.99
    # Unbalanced, all values lie lower by their whole spread.
    assert abs(np.mean(given - expected)) < 0.5 * expected.std()


def test_folds_part_patients_and_spread_those_who_bear_a_label() -> None:
    _, labels, patients = make_features()
    label = labels[:, 0].astype(bool)
    folds = deal_folds(label, patients, 0)
    assert folds is not None
    for patient in np.unique(patients):
        assert len(np.unique(folds[patients == patient])) == 1
    bearers = [len(np.unique(patients[label & (folds == fold)])) for fold in range(3)]
    assert max(bearers) - min(bearers) <= 1


def test_a_label_of_fewer_than_two_patients_is_its_prevalence() -> None:
    features, labels, patients = make_features()
    labels[:, 0] = 0
    labels[:, 1] = patients == "p7"
    labels[:, 2] = 1
    shown = probabilities(fit_svm(features, labels, patients, 0), features)
    for place, share in enumerate([1e-4, 5 / SLICES, 1 - 1e-4]):
        np.testing.assert_allclose(shown[:, place], share, rtol=1e-3)


def test_an_svm_that_knows_nothing_of_other_patients_is_the_prevalence() -> None:
    features, labels, patients = make_features()
    # Each bearer of the label goes the other way than the rest: held out, each is misjudged.
    sign = np.where(np.isin(patients, ["p1", "p2"]), 1.0, 0.0)
    features = np.zeros((SLICES, 1), np.float32)
    features[patients == "p1"], features[patients == "p2"] = 1, -1
    labels[:] = sign[:, None]
    shown = probabilities(fit_svm(features, labels, patients, 0), features)
    np.testing.assert_allclose(shown, 10 / SLICES, rtol=1e-3)


def test_a_feature_that_never_varies_does_no_harm() -> None:
    features, labels, patients = make_features()
    plain = probabilities(fit_svm(features, labels, patients, 0), features)
    dull = np.column_stack([features, np.full(SLICES, 1e4), 1e4 + features[:, 0]])
    shown = probabilities(fit_svm(dull.astype(np.float32), labels, patients, 0), dull.astype("f4"))
    np.testing.assert_allclose(shown, plain, atol=2e-3)


@pytest.mark.parametrize("depth", [1, 4, 9])
def test_a_forest_gives_scikit_learns_probabilities(depth: int) -> None:
    features, labels, _ = make_features()
    judge = RandomForestClassifier(7, max_depth=depth, random_state=0).fit(features, labels)
    seen = np.concatenate([features, make_features(1)[0]])
    expected = np.stack([given[:, 1] for given in judge.predict_proba(seen)], axis=1)
    shown = probabilities(convert_forest(judge), seen)
    np.testing.assert_allclose(shown, expected.clip(1e-4, 1 - 1e-4), atol=2e-6)


def test_a_value_at_a_threshold_goes_the_way_it_goes_in_scikit_learn() -> None:
    # Thresholds lie midway between neighbours in float64, where float32 cannot follow.
    features = np.linspace(1, 1 + 4e-6, 32, dtype=np.float32)[:, None]
    labels = (np.arange(32)[:, None] % 7 < np.arange(1, 7)).astype(int)
    judge = RandomForestClassifier(5, random_state=0).fit(features, labels)
    expected = np.stack([given[:, 1] for given in judge.predict_proba(features)], axis=1)
    np.testing.assert_allclose(
        probabilities(convert_forest(judge), features), expected.clip(1e-4, 1 - 1e-4), atol=2e-6
    )


def test_a_forest_of_labels_that_never_vary_says_what_they_always_were() -> None:
    features, labels, _ = make_features()
    labels[:, 0], labels[:, 1] = 0, 1
    shown = probabilities(fit_forest(features, labels, 0), features)
    np.testing.assert_allclose(shown[:, 0], 1e-4, rtol=1e-3)
    np.testing.assert_allclose(shown[:, 1], 1 - 1e-4, rtol=1e-3)


def test_a_forest_learns_and_keeps_the_prevalence() -> None:
    features, labels, _ = make_features()
    seen, truth, _ = make_features(1)
    shown = probabilities(fit_forest(features, labels, 0), seen)
    assert roc_auc_score(truth, shown) > 0.8
    np.testing.assert_allclose(shown.mean(axis=0), labels.mean(axis=0), atol=0.05)


@pytest.mark.parametrize("fit", [fit_svm, lambda f, y, _, seed: fit_forest(f, y, seed)])
def test_the_same_seed_fits_the_same_head(fit: object) -> None:
    features, labels, patients = make_features()
    first, second = (fit(features, labels, patients, 5).state_dict() for _ in range(2))  # type: ignore[operator]
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_start_is_the_log_odds_within_bounds() -> None:
    given = start_bias(np.array([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(given, [-9.21024, -1.098612, 9.21024], rtol=1e-5)
    assert given.dtype == np.float32


# Heads on a network.


def make_spec(classifier: str) -> ModelSpec:
    return ModelSpec(
        network=NetworkParams(architecture="test_efficientnet", classifier=classifier),
        weights="",
        windows=DEFAULT_WINDOWS,
        size=64,
        synthetic=True,
        seed=0,
        train={},
        git_commit="",
        data_digest="",
    )


def fitted_net(kind: str, seed: int = 0) -> tuple[Net, torch.Tensor]:
    net = create_net(make_spec(kind)).eval()
    chance = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 64, 64), dtype=torch.uint8, generator=chance)
    labels = np.random.default_rng(0).random((60, 6)) < 0.4
    with torch.inference_mode():
        features = net.pooled(images).numpy()
    labels[:, 5] = features[:, 0] > np.median(features[:, 0])
    patients = np.arange(60) // 2
    replace_head(net, kind, features, labels.astype(np.uint8), patients, seed)  # type: ignore[arg-type]
    return net, images


def test_an_svm_becomes_the_classifier_of_the_network_itself() -> None:
    before = create_net(make_spec("svm")).eval()
    net, images = fitted_net("svm")
    assert net.head is None
    assert not torch.equal(net.classifier.weight, before.classifier.weight)
    with torch.inference_mode():
        maps = net.features(images)
        torch.testing.assert_close(net(images), net.classifier(maps.mean(dim=(2, 3))))


def test_a_forest_stands_in_place_of_the_classifier() -> None:
    net, images = fitted_net("forest")
    assert isinstance(net.head, Forest)
    with torch.inference_mode():
        assert torch.equal(net(images), net.head(net.pooled(images)))
        assert len(net(images)[:, 5].unique()) > 1


@pytest.mark.parametrize("kind", ["svm", "forest"])
@pytest.mark.parametrize("members", [1, 2])
def test_a_saved_head_predicts_the_same(tmp_path: Path, kind: str, members: int) -> None:
    fitted = [fitted_net(kind, seed) for seed in range(members)]
    images = fitted[0][1]
    net = fitted[0][0] if members == 1 else Ensemble([net for net, _ in fitted])
    spec = make_spec(kind).model_copy(update={"members": members})
    save_model(tmp_path / "model.safetensors", net, spec)
    loaded, _ = load_model(tmp_path / "model.safetensors")
    with torch.inference_mode():
        assert torch.equal(loaded(images), net(images))


def test_a_forest_that_the_file_lacks_is_said(tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", create_net(make_spec("forest")), make_spec("forest"))
    with pytest.raises(HemtraceError, match=r"does not hold the tensors .*head\.feature"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("kind", ["svm", "forest"])
def test_features_of_a_network_that_diverged_are_said(kind: str) -> None:
    features, labels, patients = make_features()
    features[17, 3] = np.nan
    with pytest.raises(HemtraceError, match="not all finite"):
        replace_head(create_net(make_spec(kind)), kind, features, labels, patients, 0)  # type: ignore[arg-type]
