"""Make the one model of all trainings: the only one, or their ensemble."""

from pathlib import Path

from hemtrace.job import drop_strangers, job
from hemtrace.train.ensemble import join_histories, join_models

with job(snakemake.log[0]):
    models = [Path(path) for path in snakemake.input.models]
    histories = [Path(path) for path in snakemake.input.histories]
    drop_strangers(
        models[0].parents[1], [path.parent.name for path in models], Path("models/unused")
    )
    join_models(models, Path(snakemake.output.model))
    join_histories(histories).write_parquet(snakemake.output.history)
