"""A training made again from its record alone, and compared with what it was."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch

from hemtrace.errors import HemtraceError
from hemtrace.model import load_model
from hemtrace.params import load_params
from hemtrace.presets import set_parameters
from hemtrace.provenance import file_digest
from hemtrace.tracking import ELSEWHERE, TrainingRecord, fetch_record


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
    _git(root, "clone", "--quiet", "--no-checkout", str(root), str(into))
    _git(into, "checkout", "--quiet", "--detach", commit)
    patch = record.files / "code.patch"
    if patch.is_file() and _git(into, "apply", str(patch.resolve())).returncode:
        raise HemtraceError(f"The changes of the run, {patch}, do not apply to {commit}.")


def _check_paths(into: Path) -> None:
    for line in (into / "params.yaml").read_text().splitlines():
        if ELSEWHERE in line and not line.lstrip().startswith("#"):
            name, _, value = line.strip().partition(": ")
            raise HemtraceError(
                f"A record does not keep where things lie on a machine: give {name} ({value}), "
                f"e.g. hemtrace rerun ... ingest.{name}=/path/to/it"
            )
    raw = load_params(into / "params.yaml").ingest.raw
    if raw is not None and not Path(raw).expanduser().is_dir():
        raise HemtraceError(f"The raw data {raw} are not there; bring them back, or name them.")


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
    other = load_model(record.model)[0].state_dict()
    if all(torch.equal(tensor, other[name]) for name, tensor in net.state_dict().items()):
        return [*told, "The weights are the same, bit for bit; what the file says of them differs."]
    farthest = max(
        float((tensor.double() - other[name].double()).abs().max())
        for name, tensor in net.state_dict().items()
        if tensor.numel()
    )
    return [*told, f"The weights differ, by {farthest:.3g} at most: another machine, or a GPU?"]
