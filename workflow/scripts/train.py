"""Train the network, save it with all that is needed to use it, and record the run in MLflow."""

from pathlib import Path

import polars as pl

from hemtrace.job import job
from hemtrace.model import ModelSpec, create_net, save_model
from hemtrace.params import TrainParams
from hemtrace.provenance import data_digest, git_commit
from hemtrace.shards import open_partition
from hemtrace.split import check_leakage
from hemtrace.tracking import Tracker
from hemtrace.train import fit
from hemtrace.weights import describe_weights, fill_weights

with job(snakemake.log[0]):
    given = snakemake.params
    params = TrainParams(**given.train)
    catalog_path, splits_path = Path(snakemake.input.catalog), Path(snakemake.input.splits)
    catalog, splits = pl.read_parquet(catalog_path), pl.read_parquet(splits_path)
    check_leakage(catalog, splits)
    shards = Path(snakemake.input.shards[0]).parent
    train = open_partition(catalog_path, splits_path, shards, "train")
    val = open_partition(catalog_path, splits_path, shards, "val")
    spec = ModelSpec(
        architecture=params.architecture,
        weights=describe_weights(params),
        **given.view,
        output_stride=params.output_stride,
        synthetic=given.synthetic,
        seed=given.seed,
        train=given.train,
        git_commit=git_commit(),
        data_digest=data_digest(catalog, splits),
    )
    net = create_net(spec, train.labels.mean(axis=0), params.dropout, params.drop_path)
    fill_weights(net, params)
    model = Path(snakemake.output.model)
    with Tracker(spec) as run:
        result = fit(spec, params, train, val, given.seed, net, on_epoch=run.log_epoch)
        save_model(model, result.net, spec)
        pl.DataFrame(result.history).write_parquet(snakemake.output.history)
        run.finish(model)
