"""Make the one model of all trainings: the only one, or their ensemble."""

from pathlib import Path

from hemtrace.job import job
from hemtrace.train.ensemble import join_histories, join_models

with job(snakemake.log[0]):
    models = [Path(path) for path in snakemake.input.models]
    histories = [Path(path) for path in snakemake.input.histories]
    join_models(models, Path(snakemake.output.model))
    join_histories(histories).write_parquet(snakemake.output.history)
