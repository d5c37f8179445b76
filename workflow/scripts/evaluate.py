"""Fix calibration and thresholds on validation, score the predictions, draw the figures."""

from pathlib import Path

import polars as pl

from hemtrace.evaluate import (
    draw_figures,
    draw_subgroups,
    evaluate,
    fix_on_validation,
    mean_history,
    render_latex,
    results_table,
    roc_table,
    score_runs,
    training_table,
    write_metrics,
)
from hemtrace.evaluate.calibrate import calibrate_table
from hemtrace.evaluate.lesions import measure_lesions
from hemtrace.evaluate.operating import write_operating
from hemtrace.evaluate.position import learn_position
from hemtrace.evaluate.subgroups import gather_facts, measure_subgroups
from hemtrace.figures import training_curves, write_figure
from hemtrace.job import job
from hemtrace.model import load_spec
from hemtrace.params import EvaluateParams
from hemtrace.provenance import file_digest
from hemtrace.tracking import add_evaluation

with job(snakemake.log[0]):
    given, made = snakemake.input, snakemake.output
    predictions, splits, catalog = (
        pl.read_parquet(path) for path in (given.predictions, given.splits, given.catalog)
    )
    params, seed = EvaluateParams(**snakemake.params.evaluate), snakemake.params.seed
    model = Path(given.model)
    digest, synthetic = file_digest(model), load_spec(model).synthetic
    position = learn_position(catalog, splits)
    operating = fix_on_validation(predictions, params, digest, synthetic, position)
    shuffled = pl.read_parquet(given.shuffled[0]) if given.get("shuffled") else None
    metrics = evaluate(predictions, operating, params, seed, splits, catalog, shuffled)
    runs = {Path(path).stem: pl.read_parquet(path) for path in given.runs}
    metrics["runs"] = score_runs(runs, params.clip)
    lesions = measure_lesions(Path(given.lesions), catalog) if given.get("lesions") else None
    facts = gather_facts(calibrate_table(operating.calibration, predictions), catalog, lesions)
    threshold = operating.points["slices"][operating.default_point]["any"].threshold
    metrics["subgroups"] = measure_subgroups(
        facts, threshold, replicates=params.bootstrap, seed=seed
    )
    history = mean_history(pl.read_parquet(given.history))
    figures = draw_figures(predictions, metrics)
    figures["training"] = training_curves(history.to_dict(as_series=False))
    figures["subgroups"] = draw_subgroups(metrics["subgroups"])
    paths = {Path(path).stem: Path(path) for path in made.figures}
    for name, figure in figures.items():
        write_figure(figure, paths[name])
    write_operating(operating, Path(made.operating))
    results_table(metrics, synthetic=synthetic).write_csv(made.table)
    Path(made.latex).write_text(render_latex(metrics, synthetic=synthetic))
    roc_table(predictions, synthetic=synthetic).write_csv(made.roc)
    training_table(history, synthetic=synthetic).write_csv(made.training)
    mark = {"synthetic_data": synthetic}
    write_metrics(metrics["headline"] | mark, Path(made.metrics))
    write_metrics(metrics | mark, Path(made.evaluation))
    add_evaluation(digest, metrics["headline"], list(paths.values()))
    for name, value in metrics["headline"].items():
        print(f"{name}: {value}")
