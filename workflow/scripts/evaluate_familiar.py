"""Learn what the features of training slices are like, and who lies too far off to be answered."""

import json
from pathlib import Path

import polars as pl

from hemtrace.engine import open_engine
from hemtrace.familiar.count import tell_unlike
from hemtrace.familiar.stage import count_unlike_test, make_familiar
from hemtrace.familiar.stored import write
from hemtrace.job import job
from hemtrace.split import partition_of_fold
from hemtrace.writing import write_whole

with job(snakemake.log[0]):
    given = snakemake.input
    engine = open_engine(Path(given.model), "torch")
    # The features are those of the first network, which validates on the first fold.
    splits = partition_of_fold(pl.read_parquet(given.splits), 0)
    catalog, shards = pl.read_parquet(given.catalog), Path(given.shards[0]).parent
    seed = snakemake.params.seed
    made = make_familiar(engine, catalog, splits, shards, snakemake.params.share, seed)
    write(made, engine.model_sha256, engine.spec.synthetic, Path(snakemake.output.familiar))
    found = count_unlike_test(engine, made, catalog, splits, shards, seed)
    told = {"model_sha256": engine.model_sha256, "synthetic_data": engine.spec.synthetic, **found}
    with write_whole(Path(snakemake.output.counts)) as part:
        part.write_text(json.dumps(told, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(f"hemtrace: {tell_unlike(found)}")
