"""From finished predictions to the report: 100,000 test slices of 3,000 patients.

Everything that `evaluate` and `report` compute from tables is computed: three levels, calibration,
operating points, nulls, subgroups, all figures, the pages. Heat maps and robustness, which need the
network, are stood in for by an empty picture and figures. Catalog and predictions are drawn by lot.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from bootstrap import PREVALENCES, make_table
from common import Figure, report
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from test_report import LOCALISATION, ROBUSTNESS, UNTOLD, write

from hemtrace.evaluate import (
    PROBABILITIES,
    draw_figures,
    draw_subgroups,
    evaluate,
    fix_on_validation,
    write_metrics,
)
from hemtrace.evaluate.subgroups import gather_facts, measure_subgroups
from hemtrace.familiar.count import count_unlike
from hemtrace.figures import write_figure
from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec, create_net, save_model
from hemtrace.params import DEFAULT_WINDOWS, EvaluateParams, NetworkParams
from hemtrace.provenance import data_digest
from hemtrace.report import ReportInputs
from hemtrace.report.evidence import WANTED_FIGURES
from hemtrace.study import (
    count_co_occurrence,
    count_partitions,
    describe_scans,
    flow_numbers,
    leakage_table,
)

TEST, REST = (100_000, 3_000), (60_000, 1_800)  # slices, patients
PARAMS = EvaluateParams()


def make_predictions() -> pl.DataFrame:
    """Draw the slices of training, validation and test patients with their probabilities."""
    tables = []
    for name, (slices, patients), seed in (
        ("test", TEST, 0),
        ("val", REST, 1),
        ("train", REST, 2),
    ):
        columns, owner = make_table(slices, patients, PREVALENCES[:-1], seed)
        truth = np.column_stack([one for one, _ in columns])
        score = np.column_stack([one for _, one in columns]).astype(np.float64)
        truth = np.c_[truth, truth.any(axis=1)].astype(np.uint8)
        score = np.c_[score, score.max(axis=1)]
        scans = pl.DataFrame({"patient": [f"{name}{k:06d}" for k in owner], "partition": name})
        tables.append(
            scans.hstack(pl.DataFrame(score, schema=list(PROBABILITIES))).hstack(
                pl.DataFrame(truth, schema=list(LABELS))
            )
        )
    table = pl.concat(tables).with_row_index("slice")
    return table.with_columns(
        pl.format("ID_{}", "slice").alias("slice"),
        study=pl.col("patient"),
        series=pl.col("patient"),
        depth=pl.int_range(pl.len()).over("patient") / pl.len().over("patient"),
    )


def make_catalog(predictions: pl.DataFrame) -> pl.DataFrame:
    known = predictions.select("slice", "patient", "study", "series", *LABELS)
    return known.with_columns(
        *(pl.lit(None).alias(name) for name in UNTOLD),
        file=pl.col("slice"),
        instance=pl.col("slice"),
        pixel_blake3=pl.col("slice"),
        image_blake3=pl.col("slice"),
        status=pl.lit("used"),
        reason=pl.lit(None, pl.String),
        row=pl.int_range(pl.len()),
        z_mm=5.0 * predictions["depth"],
    )


def shuffle_scores(scored: pl.DataFrame) -> pl.DataFrame:
    """Give the scores of a network that learned nothing: everybody has those of another slice."""
    order = np.random.default_rng(1).permutation(scored.height)
    return scored.with_columns(scored[order].select(PROBABILITIES))


def write_products(folder: Path, catalog: pl.DataFrame, splits: pl.DataFrame) -> ReportInputs:
    """Write what the stages before leave, but for what is timed."""
    names = {
        name: folder / f"{name}.json"
        for name in (
            *("flow", "study", "metrics", "robustness", "familiarity", "comparison"),
            "localisation",
        )
    }
    inputs = ReportInputs(
        catalog=folder / "catalog.parquet",
        splits=folder / "splits.parquet",
        model=folder / "model.safetensors",
        history=folder / "history.parquet",
        figures=tuple(folder / f"{name}.png" for name in WANTED_FIGURES),
        **names,
    )
    catalog.write_parquet(inputs.catalog)
    splits.write_parquet(inputs.splits)
    spec = ModelSpec(
        network=NetworkParams(architecture="tf_efficientnet_lite0"),
        weights="None.",
        windows=DEFAULT_WINDOWS,
        size=64,
        synthetic=True,
        seed=0,
        train={},
        git_commit="none",
        data_digest=data_digest(catalog, splits),
    )
    save_model(inputs.model, create_net(spec), spec)
    pl.DataFrame({"fold": [0], "seed": [0], "epoch": [1]}).write_parquet(inputs.history)
    count = catalog.height
    steps = dict.fromkeys(
        ("files", "pictures", "readable", "ct", "head", "labelled", "used"), count
    )
    inputs.flow.write_text(json.dumps(steps | {"quarantined": {}}))
    inputs.robustness.write_text(json.dumps(ROBUSTNESS))
    inputs.familiarity.write_text(json.dumps(count_unlike(None, pl.DataFrame())))
    inputs.localisation.write_text(json.dumps(LOCALISATION))
    inputs.comparison.write_text(json.dumps({"systems": [], "slices": 0, "patients": 0}))
    for path in inputs.figures:
        # As many bytes as a figure of heat maps has; noise cannot be packed.
        noise = np.random.default_rng(2).integers(0, 256, (200, 200, 3), np.uint8)
        Image.fromarray(noise).save(path)
    return inputs


def run(folder: Path) -> dict[str, float]:
    """Do all that is timed: seconds by step."""
    predictions = make_predictions()
    catalog = make_catalog(predictions)
    splits = (
        predictions.group_by("patient")
        .agg(
            pl.col("partition").first(),
            pl.len().cast(pl.Int64).alias("slices"),
            pl.col(LABELS).cast(pl.Int64).sum(),
        )
        .sort("patient")
        .with_columns(fold=pl.when(pl.col("partition") == "val").then(0))
    )
    inputs = write_products(folder, catalog, splits)
    scored = predictions.filter(pl.col("partition") != "train")
    seconds, started = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal started
        now = time.perf_counter()
        seconds[name], started = now - started, now

    operating = fix_on_validation(scored, PARAMS, "0" * 64, synthetic=True)
    metrics = evaluate(scored, operating, PARAMS, 0, splits, catalog, shuffle_scores(scored))
    lap("evaluate")
    facts = gather_facts(scored, catalog, None)
    metrics["subgroups"] = measure_subgroups(facts, 0.5, replicates=PARAMS.bootstrap)
    lap("subgroups")
    figures = draw_figures(scored, metrics) | {"subgroups": draw_subgroups(metrics["subgroups"])}
    for name, figure in figures.items():
        write_figure(figure, folder / f"{name}.png")
    lap("figures")
    study = {
        "flow": flow_numbers(catalog, splits),
        "partitions": count_partitions(catalog, splits),
        "co_occurrence": count_co_occurrence(catalog, splits),
        "scans": describe_scans(catalog, splits),
        "leakage": leakage_table(catalog, splits),
    }
    write_metrics(study, inputs.study)
    lap("numbers of the study")
    write_metrics(metrics, inputs.metrics)
    write(inputs, folder / "reports")
    lap("pages")
    return seconds


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        seconds = run(Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    report(
        "report",
        [
            *(Figure(f"  {name}", value, "s") for name, value in seconds.items()),
            Figure("from predictions to the report", sum(seconds.values()), "s", at_most=60),
            Figure("most memory", peak, "GB", at_most=2),
        ],
        f"{TEST[0]:,} test slices of {TEST[1]:,} patients, {REST[0]:,} validation slices, "
        f"{PARAMS.bootstrap:,} replicates",
    )
