"""A training made again from its record alone, and compared with what it was."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import polars as pl
import torch

from hemtrace.errors import HemtraceError
from hemtrace.model import load_model
from hemtrace.params import load_params, read_tree
from hemtrace.presets import set_parameters
from hemtrace.provenance import file_digest
from hemtrace.tracking import ELSEWHERE, TrainingRecord, fetch_record
from hemtrace.tracking.origin import describe_environment

# Of the environment: what may change the last digits of weights.
_MACHINE = ("processor", "threads", "gpus", "python")


def rerun(
    run_id: str,
    into: Path,
    settings: list[str],
    run: Callable[[list[str], Path], None] | None = None,
) -> list[str]:
    """Make a training again: its commit, its uncommitted changes, its parameters, its data.

    Parameters
    ----------
    run_id
        In MLflow, or of the journal.
    into
        A folder that is made.
    settings
        `section.field=value` each, for what a record does not keep: where data lie on a machine.
    run
        Runs a command in a folder; None: really.

    Returns
    -------
    Sentences that say what is equal and what is not.

    Raises
    ------
    HemtraceError
        If the record, its commit, its data or its environment cannot be had.
    """
    root, into = Path.cwd(), into.resolve()
    if into.exists():
        raise HemtraceError(f"The folder {into} exists already; name one that does not.")
    record = fetch_record(run_id, into.with_name(into.name + ".record"))
    _check_environment(root, record)
    _check_out(root, into, record)
    (into / "params.yaml").write_text((record.files / "params.yaml").read_text())
    if settings:
        set_parameters(settings, into)
    _check_paths(into)
    target = record.tags.get("target", "models/model.safetensors")
    (run or _run)(["snakemake", "--cores", "all", target], into)
    return _compare(record, into / target)


def _check_environment(root: Path, record: TrainingRecord) -> None:
    lock = root / "requirements.lock"
    wanted = record.tags.get("requirements_sha256")
    if lock.is_file() and wanted not in (None, "none", file_digest(lock)):
        raise HemtraceError(
            "This environment is of another requirements.lock than the run's; set one up from the "
            f"commit {record.tags['git_commit'].removesuffix('-dirty')}, and rerun from there."
        )


def _check_out(root: Path, into: Path, record: TrainingRecord) -> None:
    commit = record.tags.get("git_commit", "unknown").removesuffix("-dirty")
    if _git(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise HemtraceError(
            f"The commit {commit} of the run is not in this repository; fetch it: git fetch --all"
        )
    for folder, *command in (
        (root, "clone", "--quiet", "--no-checkout", str(root), str(into)),
        (into, "checkout", "--quiet", "--detach", commit),
    ):
        done = _git(folder, *command)
        if done.returncode:
            raise HemtraceError(
                f"git {command[0]} of {commit} into {into} failed: "
                f"{done.stderr.decode(errors='replace').strip()}"
            )
    patch = record.files / "code.patch"
    if patch.is_file() and _git(into, "apply", str(patch.resolve())).returncode:
        raise HemtraceError(f"The changes of the run, {patch}, do not apply to {commit}.")


def _check_paths(into: Path) -> None:
    for name, value in _leaves(read_tree(into / "params.yaml") or {}):
        if isinstance(value, str) and value.startswith(ELSEWHERE):
            raise HemtraceError(
                f"A record does not keep where things lie on a machine: say where {name} "
                f"({value.removeprefix(ELSEWHERE)}) is here: hemtrace rerun ... {name}=/path/to/it"
            )
    raw = load_params(into / "params.yaml").ingest.raw
    if raw is not None and not Path(raw).expanduser().is_dir():
        raise HemtraceError(f"The raw data {raw} are not there; bring them back, or name them.")


def _leaves(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _run(command: list[str], folder: Path) -> None:
    # The code of the run, not that of this environment.
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
        raise HemtraceError(f"The run in {folder} did not end well; its last lines say why.")


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)


def _compare(record: TrainingRecord, model: Path) -> list[str]:
    net, spec = load_model(model)
    same_data = spec.data_digest == record.tags.get("data_digest")
    told = [f"Slices, labels and partitions are {'the same' if same_data else 'NOT the same'}."]
    if file_digest(model) == record.tags.get("model_sha256"):
        return [*told, "The model is the same, byte for byte."]
    if record.model is None:
        return [*told, "The model has another digest; the record holds none to compare it with."]
    told += _compare_machines(record)
    mine, other = net.state_dict(), load_model(record.model)[0].state_dict()
    if {n: t.shape for n, t in mine.items()} != {n: t.shape for n, t in other.items()}:
        return [*told, "The networks are NOT of one architecture."]
    if all(torch.equal(tensor, other[name]) for name, tensor in mine.items()):
        return [*told, "The weights are the same, bit for bit; what the file says of them differs."]
    farthest = max(
        float((tensor.double() - other[name].double()).abs().max())
        for name, tensor in mine.items()
        if tensor.numel()
    )
    told.append(f"The weights differ, by {farthest:.3g} at most.")
    return [*told, *_compare_metrics(record, model.with_name("history.parquet"))]


def _compare_machines(record: TrainingRecord) -> list[str]:
    path = record.files / "environment.json"
    if not path.is_file():
        return []
    then, now = json.loads(path.read_text()), describe_environment()
    told = [f"{key} {then[key]} then, {now[key]} now" for key in _MACHINE if then[key] != now[key]]
    packages = [
        f"{name} {found} then, {now['packages'].get(name, 'none')} now"
        for name, found in then["packages"].items()
        if now["packages"].get(name) != found
    ]
    if len(packages) > 5:
        packages = [*packages[:5], f"and {len(packages) - 5} more packages"]
    return [f"Of the environment differ: {'; '.join(told + packages)}."] if told + packages else []


def _compare_metrics(record: TrainingRecord, history: Path) -> list[str]:
    """Say how far the figures of the last epoch are from those of the record."""
    if not history.is_file():
        return []
    last = pl.read_parquet(history).row(-1, named=True)
    pairs = [
        f"{name} {record.metrics[name]:.4f} then, {value:.4f} now"
        for name, value in last.items()
        if value is not None and name in record.metrics and name.startswith(("train_", "val_"))
    ]
    return [f"After the last epoch: {'; '.join(pairs)}."] if pairs else []
