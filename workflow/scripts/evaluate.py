"""Score the predictions, draw the figures, and add both to the run that trained the model."""

from pathlib import Path

import polars as pl

from hemtrace.evaluate import (
    draw_figures,
    evaluate,
    mean_history,
    roc_table,
    score_runs,
    training_table,
    write_metrics,
)
from hemtrace.figures import training_curves, write_figure
from hemtrace.job import job
from hemtrace.model import load_spec
from hemtrace.params import EvaluateParams
from hemtrace.provenance import file_digest
from hemtrace.tracking import add_evaluation

with job(snakemake.log[0]):
    predictions = pl.read_parquet(snakemake.input.predictions)
    params = EvaluateParams(**snakemake.params.evaluate)
    splits = pl.read_parquet(snakemake.input.splits)
    catalog = pl.read_parquet(snakemake.input.catalog)
    metrics = evaluate(predictions, params, snakemake.params.seed, splits, catalog)
    runs = {Path(path).stem: pl.read_parquet(path) for path in snakemake.input.runs}
    metrics["runs"] = score_runs(runs, params.clip)
    history = mean_history(pl.read_parquet(snakemake.input.history))
    synthetic = load_spec(Path(snakemake.input.model)).synthetic
    mark = {"synthetic_data": synthetic}
    figures = draw_figures(predictions, metrics)
    figures["training"] = training_curves(history.to_dict(as_series=False))
    paths = {Path(path).stem: Path(path) for path in snakemake.output.figures}
    for name, figure in figures.items():
        write_figure(figure, paths[name])
    roc_table(predictions).write_csv(snakemake.output.roc)
    training_table(history).write_csv(snakemake.output.training)
    write_metrics(metrics["headline"] | mark, Path(snakemake.output.metrics))
    write_metrics(metrics | mark, Path(snakemake.output.evaluation))
    model = Path(snakemake.input.model)
    add_evaluation(file_digest(model), metrics["headline"], list(paths.values()))
    for name, value in metrics["headline"].items():
        print(f"{name}: {value}")
