"""What may go wrong in a run on this machine, told before it begins."""

import importlib.metadata
import importlib.util
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from packaging.requirements import InvalidRequirement, Requirement

from hemtrace.doctor_data import examine_data
from hemtrace.errors import HemtraceError
from hemtrace.finding import Finding, fail, ok, warn
from hemtrace.params import Params, TrainParams
from hemtrace.preflight import check_inputs, check_place

_LISTED = 4
# Beside the maps of the shards: libraries, logs, the database.
_OTHER_FILES = 256
# A shard job that reads plain files, and what its child may add at worst.
_JOB_GB = 0.5


def examine(root: Path, params: Params) -> Iterator[Finding]:
    """Check environment, data, disk, time, weights and repository, in the order of a run.

    Reads 64 files at most and counts for some seconds at most, however large the data are.

    Parameters
    ----------
    root
        Folder of the project.
    params
        What would be run.
    """
    cores = _count_cores()
    yield _examine_python()
    yield _examine_packages(root / "requirements.lock")
    yield _examine_decoders()
    yield _examine_place(root, params)
    yield from examine_data(root, params, cores)
    yield _examine_open_files(params.ingest.shards)
    yield _examine_memory(cores, params.ingest.read_memory_gb)
    yield from _examine_trainings(params, root)
    yield _examine_gpu(params.train)
    yield from _examine_repository(root)
    yield _examine_tracking(root / "mlflow.db")


def _count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _examine_python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        return ok("Python", found)
    return fail("Python", found, "make the environment with Python 3.11: make env")


def _examine_packages(lock: Path) -> Finding:
    if not lock.is_file():
        return warn("packages", f"{lock} is missing", "take it from the repository")
    differing, count = [], 0
    for line in re.findall(r"^[A-Za-z0-9][^\n\\]*", lock.read_text(), re.MULTILINE):
        try:
            wanted = Requirement(line.strip())
        except InvalidRequirement:
            continue
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        count += 1
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            differing.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            differing.append(f"{wanted.name} {version} instead of {wanted.specifier}")
    if not differing:
        return ok("packages", f"{count} as in requirements.lock")
    more = f" and {len(differing) - _LISTED} more" if len(differing) > _LISTED else ""
    advice = "results may differ from those of others: make env"
    return warn("packages", "; ".join(differing[:_LISTED]) + more, advice)


def _examine_decoders() -> Finding:
    from pydicom.pixels import get_decoder

    from hemtrace.dicom.read import ENCODINGS

    missing = set()
    for syntax, name in ENCODINGS.items():
        try:
            if not get_decoder(syntax).is_available:
                missing.add(name)
        except NotImplementedError:  # an encoding that pydicom itself does not know
            missing.add(name)
    if not missing:
        return ok("decoders", f"all {len(set(ENCODINGS.values()))} encodings")
    return warn(
        "decoders",
        f"none for {', '.join(sorted(missing))}",
        "files so encoded are quarantined as `undecodable`: make env",
    )


def _examine_place(root: Path, params: Params) -> Finding:
    try:
        check_place(root)
        check_inputs(params.ingest)
    except HemtraceError as error:
        return fail("inputs", str(error), "see there")
    return ok("inputs", "folders, label header, salt and square of the pictures are sound")


def _examine_open_files(shards: int) -> Finding:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or most >= shards + _OTHER_FILES:
        return ok("open files", f"up to {most:,}, {shards:,} shards")
    return fail(
        "open files",
        f"up to {most:,}, and training opens {shards:,} shards",
        f"lower ingest.shards, or raise the limit: ulimit -n {shards + _OTHER_FILES}",
    )


def _examine_memory(cores: int, most_gb: float) -> Finding:
    free = psutil.virtual_memory().available / 1e9
    usual, worst = cores * _JOB_GB, cores * (_JOB_GB + most_gb)
    found = f"{free:.1f} GB free; {cores} shard jobs take {usual:.1f} GB, at worst {worst:.1f} GB"
    if free < usual:
        return fail("memory", found, f"use fewer cores: snakemake --cores {max(1, int(free))}")
    if free < worst:
        return warn("memory", found, "lower ingest.read_memory_gb, or use fewer cores")
    return ok("memory", found)


def _examine_trainings(params: Params, root: Path) -> Iterator[Finding]:
    from hemtrace.compare.systems import all_trainings
    from hemtrace.train.check import check_training

    try:
        trainings = all_trainings(params, root)
    except HemtraceError as error:
        yield fail("trainings", str(error), "correct it in params.yaml")
        trainings = {"train": params.train}
    for name, train in trainings.items():
        section, _, system = name.partition(", ")
        try:
            check_training("train", train, params.ingest.view, download=False)
        except HemtraceError as error:
            yield fail(system or section, str(error), f"correct it in `{section}`")
        else:
            yield ok(system or section, train.architecture)
            yield from _examine_weights(train)
            if name == "train":
                yield from _examine_heat_map(params)


def _examine_heat_map(params: Params) -> Iterator[Finding]:
    from hemtrace.preflight import check_heat_map, find_finest_stride

    try:
        check_heat_map(params, find_finest_stride(params.train))
    except HemtraceError as error:
        yield fail("heat map", str(error), "correct it in params.yaml")


def _examine_weights(params: TrainParams) -> Iterator[Finding]:
    """Tell of weights that `check_training` found sound, or left to the training."""
    if params.weights == "scratch":
        yield warn("weights", "random", "learning from scratch takes far more pictures and epochs")
    elif params.weights == "file":
        from hemtrace.weights.read import find_weights

        path = find_weights(params.weights_file or "")
        yield ok("weights", f"{path.name}, {path.stat().st_size / 1e6:.0f} MB, fits")
    elif params.weights == "inflate":
        yield ok("weights", f"of {params.inflate_from}, offline")
    else:
        yield _examine_timm(params.architecture)


def _examine_timm(architecture: str) -> Finding:
    from huggingface_hub import try_to_load_from_cache
    from timm.models import get_pretrained_cfg

    from hemtrace.weights.download import offline_weights

    config = get_pretrained_cfg(architecture)
    if config is None or not config.has_weights:
        return fail("weights", f"timm has none for {architecture}", "choose train.weights: scratch")
    names = ("model.safetensors", "pytorch_model.bin")
    if config.hf_hub_id and any(
        isinstance(try_to_load_from_cache(config.hf_hub_id, name), str) for name in names
    ):
        return ok("weights", f"timm's of {architecture}, on this disk")
    return warn(
        "weights",
        f"timm's of {architecture} are not on this disk",
        "training will download them; without a network set weights: "
        f"{offline_weights(architecture)} or file",
    )


def _examine_gpu(params: TrainParams) -> Finding:
    import torch

    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        memory = card.total_memory / 1e9
        if memory < 8:
            advice = "lower train.batch_size if training runs out of it"
            return warn("GPU", f"{card.name}, {memory:.0f} GB", advice)
        return ok("GPU", f"{card.name}, {memory:.0f} GB")
    if params.device == "cuda":
        return fail("GPU", "none, and train.device asks for one", "set train.device: auto")
    return warn(
        "GPU", "none", "the phantom trains in minutes without; the RSNA set would take weeks"
    )


def _examine_repository(root: Path) -> Iterator[Finding]:
    if shutil.which("git") is None:
        yield fail("git", "is not installed", "DVC and the record of a run need it")
        return
    done = subprocess.run(
        ["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=False
    )
    changed = len(done.stdout.splitlines())
    if done.returncode:
        yield warn("git", "this folder is no repository", "git init, to record what was run")
    elif changed:
        yield warn("git", f"{changed} files are not committed", "commit, to record what was run")
    else:
        yield ok("git", "everything is committed")
    if not (root / ".dvc").is_dir():
        yield warn("DVC", "is not set up here", "dvc init; `snakemake --cores all` works without")
    elif (root / "dvc.lock").is_file():
        yield ok("DVC", "dvc.lock holds a run")
    else:
        yield ok("DVC", "no run yet: dvc repro")


def _examine_tracking(database: Path) -> Finding:
    if not database.is_file():
        return ok("MLflow", "the first training makes mlflow.db")
    try:
        connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
        try:
            (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return fail("MLflow", f"mlflow.db cannot be read ({error})", "move it away")
    return ok("MLflow", f"{runs} runs in mlflow.db")
