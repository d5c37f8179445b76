"""One training, from the products of ingest and split to a model file."""

import sys
from pathlib import Path

import numpy as np
import polars as pl
import torch
from pydantic import BaseModel, ConfigDict

from hemtrace.errors import HemtraceError
from hemtrace.labels import ANY, LABELS
from hemtrace.model import ModelSpec, Net, create_net, save_model
from hemtrace.model.heads import replace_head
from hemtrace.params import NetworkParams, TrainParams, View
from hemtrace.provenance import data_digest, git_commit
from hemtrace.shards import Partition, TrainSlices, ValSlices, check_digests, open_partition
from hemtrace.split import check_leakage, partition_of_fold
from hemtrace.tracking import NoTracker, Tracker
from hemtrace.train.checkpoint import load_checkpoint
from hemtrace.train.loop import fit
from hemtrace.train.optim import choose_device
from hemtrace.train.processes import World, count_processes, join_world, run_launcher, run_processes
from hemtrace.train.sampler import prevalence_shift, shown_prevalence, slice_chances
from hemtrace.weights import describe_weights, fill_weights, input_statistics

# Of a classifier that is fitted to features: they must lie in memory at once.
_MOST_FEATURE_BYTES = 8e9
_BATCH = 64


class TrainJob(BaseModel):
    """All that one training needs to know; written as JSON for its processes.

    Attributes
    ----------
    catalog, splits, shards
        Products of ingest and split; `shards` is the folder.
    fold, seed
        Which part validates; what is drawn.
    train, view
        The section of the parameters, and what the pictures show.
    synthetic
        Whether the data are.
    model, other, history
        What is written: the selected epoch, the one that was not, a row an epoch.
    checkpoint
        To go on from; deleted when all is written.
    record
        Whether MLflow records the training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    catalog: Path
    splits: Path
    shards: Path
    fold: int = 0
    seed: int
    train: TrainParams
    view: View
    synthetic: bool
    model: Path
    other: Path
    history: Path
    checkpoint: Path
    record: bool = True

    @property
    def run(self) -> str:
        """Name of the training: the folder of its model."""
        return self.model.parent.name


def run_training(job: TrainJob) -> None:
    """Train in this process, or start several that do.

    Raises
    ------
    HemtraceError
        Whatever went wrong, in a sentence.
    StoppedError
        If it was told to stop; run again to go on.
    """
    count = count_processes(job.train)
    if count == 1 and job.train.launcher is None:
        train_model(job)
        return
    job.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    description = job.checkpoint.with_suffix(".json")
    description.write_text(job.model_dump_json())
    module = ["-m", "hemtrace.train", str(description)]
    if job.train.launcher is not None:
        run_launcher(job.train.launcher, module)
    else:
        run_processes(module, count)
    description.unlink()


def train_model(job: TrainJob) -> None:
    """Train, as the only process or one of several, and write the products."""
    with join_world(job.train) as world:
        _train(job, world)


def _train(job: TrainJob, world: World) -> None:
    catalog = pl.read_parquet(job.catalog)
    splits = partition_of_fold(pl.read_parquet(job.splits), job.fold)
    check_leakage(catalog, splits)
    if world.is_first:
        check_digests(catalog, job.shards)
    mean, std = input_statistics(job.train)
    has_context = job.train.context != "none"
    train = open_partition(TrainSlices, catalog, splits, job.shards, has_context)
    val = open_partition(ValSlices, catalog, splits, job.shards, has_context)
    chances = slice_chances(train.labels, job.train)
    spec = ModelSpec(
        network=NetworkParams(**job.train.model_dump(include=set(NetworkParams.model_fields))),
        weights=describe_weights(job.train),
        mean=mean,
        std=std,
        shift=prevalence_shift(train.labels, chances),
        **job.view.model_dump(),
        synthetic=job.synthetic,
        seed=job.seed,
        train=job.train.model_dump(mode="json"),
        git_commit=git_commit(),
        data_digest=data_digest(catalog, splits),
    )
    if world.is_first:
        _look_for_positives(train, val)
    resumed = load_checkpoint(job.checkpoint, spec)
    net = create_net(spec, shown_prevalence(train.labels, chances))
    if resumed is None:
        fill_weights(net, job.train)
    else:
        print(
            f"hemtrace: going on after step {resumed[0].step:,}, from {job.checkpoint}.",
            file=sys.stderr,
        )
    is_recorded = job.record and world.is_first
    run_id = resumed[0].run_id if resumed else None
    record = Tracker(spec, job.run, run_id, job.model) if is_recorded else NoTracker()
    with record:
        result = fit(
            spec, job.train, train, val, job.seed, net, job.checkpoint, resumed, world, record
        )
        if not world.is_first:
            return
        fitted = _fit_head(result.net, train, job, spec)
        save_model(job.model, result.net, fitted)
        rest = create_net(spec)
        rest.load_state_dict(result.other)
        linear = spec.network.model_copy(update={"classifier": "network"})
        save_model(job.other, rest, spec.model_copy(update={"network": linear}))
        history = pl.DataFrame(result.history, infer_schema_length=None)
        history.write_parquet(job.history)
        record.finish(job.model)
    job.checkpoint.unlink(missing_ok=True)


def _look_for_positives(train: TrainSlices, val: ValSlices) -> None:
    """Say which labels cannot be learned or watched.

    Raises
    ------
    HemtraceError
        If no training slice shows a bleed, or all do.
    """
    bleeds = int(train.labels[:, ANY].sum())
    if bleeds in (0, len(train)):
        raise HemtraceError(
            f"{'No' if not bleeds else 'Every'} training slice has a bleed: there is nothing to "
            "learn. Check the label CSV, or add patients."
        )
    for part, lack in ((train, "they cannot be learned"), (val, "their AUC cannot be watched")):
        missing = [name for name, sum_ in zip(LABELS, part.labels.sum(0), strict=True) if not sum_]
        if missing:
            print(
                f"hemtrace: the partition {part.name} has no slice with: {', '.join(missing)}; "
                f"{lack}.",
                file=sys.stderr,
            )


def _fit_head(net: Net, train: TrainSlices, job: TrainJob, spec: ModelSpec) -> ModelSpec:
    """Put a classifier of scikit-learn on the trained network, where one is asked for.

    It is fitted at the natural prevalence: the spec that is returned shifts nothing.
    """
    kind = job.train.classifier
    if kind == "network":
        return spec
    width = net.classifier.in_features
    most = max(1, int(_MOST_FEATURE_BYTES / (4 * width)))
    places = np.arange(len(train))
    if len(places) > most:
        places = np.sort(np.random.default_rng(job.seed).choice(places, most, replace=False))
        print(
            f"hemtrace: the {kind} is fitted to {most:,} of {len(train):,} training slices, drawn "
            "evenly: the features of all do not fit in memory.",
            file=sys.stderr,
        )
    features = _compute_features(net.to(choose_device(job.train)), train, places)
    net.cpu()
    replace_head(net, kind, features, train.labels[places], train.patients[places], job.seed)
    net.shift = ()
    return spec.model_copy(update={"shift": ()})


def _compute_features(net: Net, slices: Partition, places: np.ndarray) -> np.ndarray:
    device = next(net.parameters()).device
    net.eval()
    features = np.empty((len(places), net.classifier.in_features), np.float32)
    with torch.inference_mode():
        for start in range(0, len(places), _BATCH):
            images = torch.from_numpy(slices.read(places[start : start + _BATCH])).to(device)
            features[start : start + len(images)] = net.pooled(images).cpu().numpy()
    return features
