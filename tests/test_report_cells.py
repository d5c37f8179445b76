"""report: every number in a cell, worked out again from the scores and found by its headings."""

import json
import re
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from contrast import find_faint
from page_server import PLAIN, launch
from playwright.sync_api import sync_playwright
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)
from test_report import LOCALISATION, ROBUSTNESS, Page, make_inputs, write

from hemtrace.evaluate import PROBABILITIES, evaluate, fix_on_validation, write_metrics
from hemtrace.evaluate.operating import POINTS
from hemtrace.explain.plant import MIRRORS, QUADRANTS
from hemtrace.labels import LABELS, SUBTYPES
from hemtrace.params import EvaluateParams
from hemtrace.report import ReportInputs
from hemtrace.report.calibration import calibration_table
from hemtrace.report.data import scans_table

LEVELS = ("slices", "studies", "patients")
ANY_FIRST = ("any", *SUBTYPES)
UNDEFINED = "not estimable"
MEASURES = ("pointing", "energy", "dice", "iou")

Cells = list[tuple[str, str, str]]


def squeeze(text: str) -> str:
    return "".join(text.split())


def find_cell(page: Page, table: str, row: str, heading: str) -> str:
    """Find a cell by the start of its row's name and by the heading of its column."""
    headings = [squeeze(text) for text in page.tables[table][0]]
    (line,) = [one for one in page.tables[table][1:] if squeeze(one[0]) == squeeze(row)]
    return squeeze(line[headings.index(squeeze(heading))])


def say(value: float | None, digits: int = 3) -> str:
    return UNDEFINED if value is None or np.isnan(value) else f"{value:.{digits}f}"


class Run:
    """The scores behind a page, and what scikit-learn and this test make of them."""

    def __init__(self, folder: Path) -> None:
        self.inputs = make_inputs(folder)
        fill_stubs(self.inputs)
        self.metrics = json.loads(self.inputs.metrics.read_text())
        self.predictions = pl.read_parquet(folder / "predictions.parquet")
        self.page = Page(write(self.inputs, folder / "reports")[0])

    def scores(
        self, label: str, level: str = "slices", partition: str = "test", calibrated: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Truth and probability of a label, of the slices or the highest of a study or patient."""
        table = self.predictions.filter(pl.col("partition") == partition)
        p = table[f"p_{label}"].to_numpy().astype(float)
        if calibrated:
            temperature = self.metrics["calibration"][label]["fit"]["temperature"]
            p = p if temperature is None else expit(logit(p) / temperature)
        table = table.with_columns(pl.Series("p", p))
        if level != "slices":
            key = {"studies": "study", "patients": "patient"}[level]
            table = table.group_by(key).agg(pl.col("p").max(), pl.col(label).max())
        return table[label].to_numpy().astype(bool), table["p"].to_numpy()

    def rates(self, label: str, level: str, point: str) -> dict[str, str]:
        truth, p = self.scores(label, level, calibrated=True)
        own = self.metrics["partitions"]["test"][level]["labels"][label]["points"][point]
        if own["threshold"] is None:
            return {}
        flags = p >= own["threshold"]
        tn, fp, _, _ = confusion_matrix(truth, flags, labels=[False, True]).ravel()
        sensitivity = recall_score(truth, flags, zero_division=np.nan)
        specificity = recall_score(~truth, ~flags, zero_division=np.nan)
        rates = {
            "Sensitivity": sensitivity,
            "Specificity": specificity,
            "PPV": precision_score(truth, flags, zero_division=np.nan),
            "NPV": precision_score(~truth, ~flags, zero_division=np.nan),
            "F1": f1_score(truth, flags, zero_division=np.nan),
            "LR+": sensitivity * (tn + fp) / fp if fp else np.nan,
            "LR-": (1 - sensitivity) / specificity if specificity else np.nan,
        }
        if truth.any() and not truth.all():
            rates["Balanced accuracy"] = balanced_accuracy_score(truth, flags)
        told = {name: say(float(value), 2) for name, value in rates.items()}
        return told | {"Threshold (from validation)": say(own["threshold"])}


def weighted_loss(truth: np.ndarray, p: np.ndarray) -> float:
    """As the RSNA challenge weighs: `any` twice."""
    losses = [log_loss(truth[:, k], p[:, k], labels=[False, True]) for k in range(len(LABELS))]
    weights = [2 if label == "any" else 1 for label in LABELS]
    return float(np.average(losses, weights=weights))


def every_label(run: Run, partition: str = "test") -> tuple[np.ndarray, np.ndarray]:
    table = run.predictions.filter(pl.col("partition") == partition)
    truth = table.select(LABELS).to_numpy().astype(bool)
    return truth, np.clip(table.select(PROBABILITIES).to_numpy(), 1e-6, 1 - 1e-6)


def expect_points(run: Run) -> Cells:
    return [
        (f"{point}, {level}", name, value)
        for point in POINTS
        for level in LEVELS
        for name, value in run.rates("any", level, point).items()
    ]


def expect_operating(run: Run) -> Cells:
    point = run.metrics["default_point"]
    return [
        (f"{label}, {level}", name, value)
        for level in LEVELS
        for label in ANY_FIRST
        for name, value in run.rates(label, level, point).items()
    ]


def expect_levels(run: Run) -> Cells:
    cells: Cells = []
    headings = run.page.tables["levels"][0]
    columns = {"test": headings[1], "val": headings[3]}
    for partition, heading in columns.items():
        for level in LEVELS:
            truth, p = run.scores("any", level, partition)
            both = truth.any() and not truth.all()
            area = roc_auc_score(truth, p) if both else None
            precision = average_precision_score(truth, p) if both else None
            cells.append((f"AUC, any, {level}", heading, say(area)))
            cells.append((f"average precision, any, {level}", heading, say(precision)))
            assert f"{len(truth)}{level}" in squeeze(heading)
            if partition == "test" and both:
                cells.append(
                    (f"average precision, any, {level}", "Null on test", say(truth.mean()))
                )
        truth, p = run.scores("any", "slices", partition)
        cells.append(("Brier score, any, slices", heading, say(brier_score_loss(truth, p))))
        labels, all_p = every_label(run, partition)
        right = (all_p >= 0.5) == labels
        exact = "accuracy, all six labels right"
        cells.append(("weighted log loss", heading, say(weighted_loss(labels, all_p))))
        cells.append((exact, heading, say(accuracy_score(labels, all_p >= 0.5))))
        mean = "accuracy, mean of the labels (as the paper)"
        cells.append((mean, heading, say(right.mean())))
        if partition == "test":
            cells.append((mean, "Null on test", say(1 - labels.mean())))
            cells.append((exact, "Null on test", say(float((~labels.any(axis=1)).mean()))))
    return cells


def expect_labels(run: Run) -> Cells:
    cells: Cells = []
    table = run.predictions.filter(pl.col("partition") == "test")
    for label in ANY_FIRST:
        truth, p = run.scores(label)
        bearers = table.filter(pl.col(label) == 1)["patient"].n_unique()
        figures = {
            "Positive slices (patients)": f"{truth.sum()}({bearers})",
            "Log loss": say(log_loss(truth, p, labels=[False, True])),
            "Brier": say(
                brier_score_loss(truth, p, pos_label=True) if truth.any() else (p**2).mean()
            ),
            "Accuracy": say(accuracy_score(truth, p >= 0.5)),
            "ROC AUC": say(roc_auc_score(truth, p) if truth.any() else None),
            "Average precision": say(average_precision_score(truth, p) if truth.any() else None),
        }
        cells += [(label, name, value) for name, value in figures.items()]
    return cells


def expect_nulls(run: Run) -> Cells:
    truth, p = every_label(run)
    rows = {row["name"]: f"{row['name']}\n{row['meaning']}" for row in run.metrics["nulls"]["rows"]}
    of_slices, of_patients = run.scores("any"), run.scores("any", "patients")
    own = {
        "Weighted log loss": say(weighted_loss(truth, p)),
        "Accuracy, mean of labels": say(((p >= 0.5) == truth).mean()),
        "AUC, any, slices": say(roc_auc_score(*of_slices)),
        "AUC, any, patients": say(roc_auc_score(*of_patients)),
        "Average precision": say(average_precision_score(*of_slices)),
    }
    never = {
        "Weighted log loss": say(weighted_loss(truth, np.full(p.shape, 1e-6))),
        "Accuracy, mean of labels": say(1 - truth.mean()),
        "AUC, any, slices": say(0.5),
        "Average precision": say(of_slices[0].mean()),
    }
    return [
        (rows[name], heading, value)
        for name, row in (("this model", own), ("no bleed", never))
        for heading, value in row.items()
    ]


def murphy(truth: np.ndarray, p: np.ndarray) -> tuple[float, float, float]:
    """Calibration error, reliability and resolution over 15 bins of equal counts."""
    cuts = np.unique(np.quantile(p, np.arange(1, 15) / 15, method="lower"))
    bins = [
        np.flatnonzero((p > a) & (p <= b)) for a, b in zip([-1, *cuts], [*cuts, 2], strict=True)
    ]
    held = [(len(b), truth[b].mean(), p[b].mean()) for b in bins if len(b)]
    ece = sum(n * abs(y - q) for n, y, q in held) / len(p)
    reliability = sum(n * (y - q) ** 2 for n, y, q in held) / len(p)
    return ece, reliability, sum(n * (y - truth.mean()) ** 2 for n, y, _ in held) / len(p)


def expect_calibration(run: Run) -> Cells:
    cells: Cells = []
    for label in ANY_FIRST:
        fit = run.metrics["calibration"][label]["fit"]
        fitted, _ = run.scores(label, partition="val")
        for when in ("before", "after"):
            row = f"{label}, {when}" + (f"\n{fit['why']}" if when == "after" and fit["why"] else "")
            if when == "after":
                told = f"{fitted.sum()}of{len(fitted)}"
                cells.append((row, "Positives it was fitted on", told))
                if fit["temperature"] is not None:
                    cells.append((row, "Fitted", f"temperature{fit['temperature']:.3f}"))
            truth, p = run.scores(label, calibrated=when == "after")
            if not truth.any():
                continue
            ece, reliability, resolution = murphy(truth, p)
            share = truth.mean()
            figures = {
                "Observed / expected (1)": truth.sum() / p.sum(),
                "ECE (0)": ece,
                "Brier": brier_score_loss(truth, p),
                "Reliability (0)": reliability,
                "Resolution": resolution,
                "Uncertainty": share * (1 - share),
            }
            cells += [(row, name, say(value)) for name, value in figures.items()]
            # The shift of the log-odds after which as many positives are expected as there are.
            shift = brentq(lambda by: expit(logit(p) + by).sum() - truth.sum(), -30, 30)  # noqa: B023
            cells.append((row, "Calibration in the large (0)", say(shift)))
            if p[truth].min() < p[~truth].max():
                line = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10000)
                line.fit(logit(p)[:, None], truth)
                cells.append((row, "Slope (1 is right)", say(line.coef_[0, 0])))
                cells.append((row, "Intercept of that line (0)", say(line.intercept_[0])))
    return cells


def expect_workload(run: Run) -> Cells:
    truth, p = run.scores("any", "studies", calibrated=True)
    found = np.cumsum(truth[np.argsort(-p)])
    cells = []
    for share in (0.9, 0.95, 1.0):
        read = (np.argmax(found >= share * truth.sum() - 1e-9) + 1) / len(truth)
        row = f"share of the list to read until {share:.0%} of the bleeds are found"
        cells.append((row, "Share of the list", say(read)))
    return cells


def expect_sample_size(run: Run) -> Cells:
    table = run.predictions.filter(pl.col("partition") == "test")
    cells: Cells = []
    for label in ANY_FIRST:
        held = table.filter(pl.col(label) == 1)
        cells.append((label, "Positive patients", str(held["patient"].n_unique())))
        cells.append((label, "Positive slices", str(held.height)))
    return cells


def expect_subgroups(run: Run) -> Cells:
    truth, p = run.scores("any")
    figures = {
        "Slices": str(len(truth)),
        "Positive": str(truth.sum()),
        "Patients": "3",
        "AUC": say(roc_auc_score(truth, p), 2),
        "Sensitivity": say(recall_score(truth, p >= 0.5), 2),
        "Specificity": say(recall_score(~truth, p < 0.5), 2),
    }
    return [("all test slices", name, value) for name, value in figures.items()]


def used_slices(run: Run) -> pl.DataFrame:
    return pl.read_parquet(run.inputs.catalog).filter(pl.col("status") == "used")


def expect_imbalance(run: Run) -> Cells:
    used = used_slices(run)
    cells: Cells = []
    for label in ANY_FIRST:
        held = used.filter(pl.col(label) == 1)
        cells.append((label, "Positive slices", str(held.height)))
        cells.append((label, "Patients", str(held["patient"].n_unique())))
        if held.height:
            ratio = (used.height - held.height) / held.height
            share = held["patient"].n_unique() / used["patient"].n_unique()
            cells.append((label, "Negatives per positive", f"{ratio:.1f}"))
            cells.append((label, "of all patients", f"{share:.1%}"))
    return cells


def expect_leakage(run: Run) -> Cells:
    used = used_slices(run)
    columns = {"patient": "patient", "SOP instance": "instance", "study": "study"}
    distinct = [(row, "Distinct", used[name].n_unique()) for row, name in columns.items()]
    shared = [(row, "In two partitions", 0) for row in columns]
    return [(row, heading, str(value)) for row, heading, value in distinct + shared]


def expect_localisation(run: Run) -> Cells:
    found = read_stub(run.inputs.localisation)["labels"]
    rows = {label: found[label]["all"] for label in ANY_FIRST}
    rows["any, detected slices"] = found["any"]["detected"]
    rows |= {f"any, {size}": own for size, own in found["any"]["by_size"].items()}
    headings = dict(
        zip(
            MEASURES,
            ("Peak on the lesion", "Energy-based pointing game", "Dice", "IoU"),
            strict=True,
        )
    )
    cells: Cells = []
    for row, own in rows.items():
        cells.append((row, "Slices (patients)", f"{own['n']:,}({own['patients']:,})"))
        cells.append((row, "Other slices' peaks on it", say(own["pointing_shuffled"], 2)))
        for measure, heading in headings.items():
            told = f"{tell(own[measure], 2)} chance {say(own[f'{measure}_chance'], 2)}"
            cells.append((row, heading, told))
    return cells


def expect_planted(run: Run) -> Cells:
    found = read_stub(run.inputs.localisation)["planted"]
    cells: Cells = []
    for heading, kind in (("by the map", "map"), ("by the change of the map", "difference")):
        own = found[kind]
        cells.append(("the planted place", heading, tell(own["hits"], 2)))
        cells.append(("a place by chance", heading, say(found["chance"], 2)))
        rows = {f"it, planted {name}": one for name, one in own["quadrants"].items()}
        rows |= {f"its place {turn}": one for turn, one in own["flipped"].items()}
        cells += [(row, heading, tell(one, 2)) for row, one in rows.items()]
    return cells


def expect_volumes(run: Run) -> Cells:
    cells: Cells = []
    for label, of_label in read_stub(run.inputs.localisation)["volumes"]["labels"].items():
        own = of_label["all"]
        figures = {
            "Series": str(own["n"]),
            "True volume, mean mL": say(own["true_ml"]["value"], 1),
            "Mean error, mL": tell(own["bias_ml"], 1),
            "Mean absolute error, mL": tell(own["absolute_error_ml"], 1),
            "Correlation": tell(own["correlation"], 2),
        }
        cells += [(label, heading, value) for heading, value in figures.items()]
    return cells


def expect_robustness(run: Run) -> Cells:
    found = read_stub(run.inputs.robustness)
    cells: Cells = []
    for name, own in [
        ("as they are", found["unperturbed"]),
        *((f"noise {row['strength']:g} HU", row) for row in found["rows"]),
    ]:
        cells += [
            (name, "AUC", tell(own["auc"])),
            (name, "Sensitivity", tell(own["sensitivity"], 2)),
            (name, "Specificity", tell(own["specificity"], 2)),
        ]
        if name != "as they are":
            cells.append((name, "Difference", tell(own["difference"])))
            cells.append((name, "Mean change of probability", say(own["change"])))
    return cells


def tell(estimate: dict[str, Any], digits: int = 3) -> str:
    low, high = say(estimate["low"], digits), say(estimate["high"], digits)
    return f"{say(estimate['value'], digits)} {low}\N{EN DASH}{high}"


def read_stub(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


EXPECTED = {
    name.removeprefix("expect_"): make
    for name, make in list(globals().items())
    if name.startswith("expect_")
}


def fill_stubs(inputs: ReportInputs) -> None:
    """Fill the products of explain and robustness with numbers of which no two are equal."""
    numbers = count(1)

    def figure() -> dict[str, Any]:
        value = next(numbers) + 0.25
        return {"value": value, "low": value - 0.125, "high": value + 0.125, "why": None}

    def measured() -> dict[str, Any]:
        chances = {f"{name}_chance": next(numbers) + 0.5 for name in MEASURES}
        sizes = {"n": next(numbers), "patients": next(numbers)}
        shuffled = {"pointing_shuffled": next(numbers) + 0.75}
        return {**{name: figure() for name in MEASURES}, **chances, **sizes, **shuffled}

    def kind() -> dict[str, Any]:
        return {
            "hits": figure(),
            "quadrants": {name: figure() for name in QUADRANTS},
            "flipped": {name: figure() for name in MIRRORS},
        }

    sizes = ("from 1600 mm2", "below 100 mm2", "100 to 400 mm2", "400 to 1600 mm2")
    labels = {
        label: {
            "all": measured(),
            "detected": measured(),
            "by_size": {size: measured() for size in sizes},
        }
        for label in LABELS
    }
    volumes = ("true_ml", "predicted_ml", "bias_ml", "absolute_error_ml", "correlation")
    localisation = LOCALISATION | {
        "labels": labels,
        "map_threshold": {"value": 0.35, "source": "chosen on validation"},
        "method": {"says": "Grad-CAM"},
        "planted": {
            "why": None, "rule": "Planted.", "chance": 0.14, "trials": 24, "slices": 6,
            "patients": 5, "map": kind(), "difference": kind(),
        },
        "volumes": {
            "why": None,
            "rule": "Sums.",
            "labels": {
                label: {"all": {"n": next(numbers), **{name: figure() for name in volumes}}}
                for label in LABELS
            },
        },
    }  # fmt: skip
    inputs.localisation.write_text(json.dumps(localisation))
    rates = ("auc", "difference", "sensitivity", "specificity")
    told = [{name: figure() for name in rates} | {"change": next(numbers) / 8} for _ in range(3)]
    row = ROBUSTNESS["rows"][0]
    changed = [{**row, **told[k], "strength": 5.0 * k} for k in (1, 2)]
    robustness = ROBUSTNESS | {"unperturbed": told[0], "rows": changed}
    inputs.robustness.write_text(json.dumps(robustness))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("products"))


@pytest.mark.parametrize("table", EXPECTED)
def test_cells_are_those_worked_out_by_hand(run: Run, table: str) -> None:
    expected = EXPECTED[table](run)
    assert len(expected) > 2
    wrong = [
        (row, heading, value, found)
        for row, heading, value in expected
        if not (found := find_cell(run.page, table, row, heading)).startswith(squeeze(value))
    ]
    assert not wrong


@pytest.mark.parametrize("method", ["none", "temperature", "platt"])
def test_calibration_of_patients_is_told_as_it_was_done(
    run: Run, tmp_path: Path, method: str
) -> None:
    page = Page(write(rescore(run, tmp_path, run.predictions, method), tmp_path)[0])
    truth, _ = run.scores("any", "patients", "val")
    bleeding, clear = truth.sum(), (~truth).sum()
    words = f"on {bleeding} validation patients with a bleed and {clear} without"
    assert ("Patients were calibrated as such" in page.text) == (method != "none")
    assert (words in page.text) == (method != "none")
    assert ("evaluate.calibration is none" in page.text) == (method == "none")
    fitted = find_cell(page, "calibration", "any, after", "Fitted")
    assert fitted.startswith({"none": "", "temperature": "temperature", "platt": "slope"}[method])


def rescore(run: Run, folder: Path, predictions: pl.DataFrame, method: str) -> ReportInputs:
    """Evaluate other predictions of the same slices."""
    params = EvaluateParams(bootstrap=20, calibration=method)
    operating = fix_on_validation(predictions, params, "0" * 64, synthetic=True)
    splits = pl.read_parquet(run.inputs.splits)
    metrics = run.metrics | evaluate(predictions, operating, params, 7, splits)
    path = folder / "metrics.json"
    write_metrics(metrics, path)
    return replace(run.inputs, metrics=path)


def with_nan(table: pl.DataFrame) -> pl.DataFrame:
    first = table.filter(pl.col("partition") == "test")["slice"][0]
    return table.with_columns(
        p_any=pl.when(pl.col("slice") == first).then(np.nan).otherwise("p_any")
    )


def of_one_class(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(pl.lit(0).cast(table[label].dtype).alias(label) for label in LABELS)


def of_one_patient(table: pl.DataFrame) -> pl.DataFrame:
    here = pl.col("partition") == "test"
    return table.with_columns(
        patient=pl.when(here).then(pl.lit("one")).otherwise("patient"),
        study=pl.when(here).then(pl.lit("one")).otherwise("study"),
    )


@pytest.mark.parametrize("change", [with_nan, of_one_class, of_one_patient])
def test_none_is_never_printed(run: Run, tmp_path: Path, change: Any) -> None:
    for text in write(rescore(run, tmp_path, change(run.predictions), "temperature"), tmp_path)[:2]:
        shown = Page(text).text if text.startswith("<") else text
        # Sentences of the page's own begin with "None of".
        printed = re.finditer(r"None(?! of)", shown)
        assert [shown[found.start() - 60 : found.end() + 20] for found in printed] == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_of_the_pages_stands_out(run: Run, width: int, scheme: str) -> None:
    with sync_playwright() as playwright:
        browser = launch(playwright, PLAIN)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        for name in ("index.html", "checklists.html", "provenance.html"):
            page.emulate_media(media="screen")
            page.goto((run.inputs.catalog.parent / "reports" / name).as_uri())
            page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            assert find_faint(page) == [], name
            page.emulate_media(media="print")
            assert find_faint(page) == [], name
        browser.close()


def test_parts_of_the_brier_score_stand_below_their_names(run: Run) -> None:
    # On so few slices each has a bin of its own, and some of them are equal.
    names = ("Brier", "Reliability\n(0)", "Resolution", "Uncertainty")
    metrics = json.loads(run.inputs.metrics.read_text())
    for place, name in enumerate(names):
        part = name.split("\n")[0].lower()
        metrics["calibration"]["any"]["before"][part] |= {"value": place + 0.5, "low": None}
    table = calibration_table(metrics)
    row = next(row for row in table.rows if row[0] == "any, before")
    told = [row[list(table.columns).index(name)] for name in names]
    assert told == ["0.500", "1.500", "2.500", "3.500"]


def test_what_all_headers_say_is_written_as_a_reader_expects_it() -> None:
    same = [
        {"column": "lossy", "title": "lossy compression", "value": False},
        {"column": "intercept", "title": "rescale intercept", "value": -1024.0},
    ]
    note = scans_table({"facts": [], "same": same, "untold": []}, []).note
    assert note == "The same everywhere: lossy compression: no; rescale intercept: -1024."
