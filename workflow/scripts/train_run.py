"""Train one network: a fold and a seed; recorded in MLflow."""

from pathlib import Path

from hemtrace.job import job
from hemtrace.train.job import TrainJob, run_training

with job(snakemake.log[0]):
    given = snakemake.params
    run_training(
        TrainJob(
            catalog=snakemake.input.catalog,
            splits=snakemake.input.splits,
            shards=Path(snakemake.input.shards[0]).parent,
            fold=given.fold,
            seed=given.seed,
            train=given.train,
            view=given.view,
            synthetic=given.synthetic,
            model=snakemake.output.model,
            other=snakemake.output.other,
            history=snakemake.output.history,
            checkpoint=given.checkpoint,
            record=given.record,
        )
    )
