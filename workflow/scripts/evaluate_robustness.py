"""Change test slices as scanners and patients do, and see what becomes of the answers."""

from pathlib import Path

import polars as pl

from hemtrace.evaluate import draw_robustness, write_metrics
from hemtrace.evaluate.operating import read_operating
from hemtrace.evaluate.robustness import measure_robustness
from hemtrace.figures import write_figure
from hemtrace.job import job
from hemtrace.model import load_model
from hemtrace.params import EvaluateParams
from hemtrace.provenance import file_digest
from hemtrace.shards import TestSlices, open_partition

with job(snakemake.log[0]):
    given = snakemake.input
    params = EvaluateParams(**snakemake.params.evaluate)
    net, spec = load_model(Path(given.model))
    operating = read_operating(Path(given.operating), file_digest(Path(given.model)))
    partition = open_partition(
        TestSlices,
        pl.read_parquet(given.catalog),
        pl.read_parquet(given.splits),
        Path(given.shards[0]).parent,
        spec.has_context,
    )
    found = measure_robustness(
        net,
        spec,
        partition,
        operating.points["slices"][operating.default_point]["any"].threshold,
        slices_limit=params.robustness_slices,
        replicates=params.bootstrap,
        seed=snakemake.params.seed,
        calibrate=operating.calibration.transform,
    )
    write_metrics(found | {"synthetic_data": spec.synthetic}, Path(snakemake.output.scores))
    write_figure(draw_robustness(found), Path(snakemake.output.figure))
