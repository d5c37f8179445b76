"""What a run was made from, on what and how long, read from its folder.

No name of a user or machine and no folder is told.
"""

import contextlib
import csv
import hashlib
import json
import platform
import re
import sqlite3
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel

from hemtrace.model import ModelSpec
from hemtrace.params import Params, render_params
from hemtrace.provenance import data_digest, file_digest, git_commit
from hemtrace.tracking.journal import list_records, read_events
from hemtrace.tracking.origin import ELSEWHERE, describe_environment, hide_paths, read_patch

# What a report is made from, in the order of the stages; missing ones are left out.
PRODUCTS = tuple(
    Path(name)
    for name in (
        *("data/files.parquet", "data/labels.parquet", "data/catalog.parquet"),
        *("data/ingest.json", "data/splits.parquet", "reports/study.json"),
        *("models/model.safetensors", "models/history.parquet", "data/predictions.parquet"),
        *("data/shuffled/predictions.parquet", "models/operating.json"),
        *("reports/evaluation.json", "reports/metrics.json", "reports/results.csv"),
        *("reports/robustness.json", "reports/familiarity.json", "reports/comparison.json"),
        *("data/regions.parquet", "data/volumes.parquet", "reports/localisation.json"),
    )
)
_STAGES = ("phantom", "ingest", "split", "train", "evaluate", "compare", "explain")
# A folder within a text: it may name a user.
_FOLDER = re.compile(r"(?<![\w.>])(?:~[\w-]*)?/(?:[^\s\"',\]}/]+/)*(?=[^\s\"',\]}/])")
# Commands and addresses that may name a machine.
_OF_A_MACHINE = ("train.launcher",)
_SET = "set, not told"


def gather_provenance(
    root: Path, spec: ModelSpec, params: Params, products: Sequence[Path] = PRODUCTS
) -> dict[str, Any]:
    """Read what a run was made from, on what, and how long it took.

    Parameters
    ----------
    root
        Folder of the project.
    spec
        Of the model.
    params
        Of the run.
    products
        Files whose digests are listed, relative to `root`; those that are missing are left out.

    Returns
    -------
    Plain values for `provenance.render_provenance`.
    """
    with contextlib.chdir(root):
        commit = git_commit()
    patch = read_patch(root) if commit.endswith("-dirty") else b""
    return {
        "synthetic": spec.synthetic,
        "commit": commit,
        "model_commit": spec.git_commit,
        "patch_sha256": hashlib.sha256(patch).hexdigest() if patch else None,
        "python": platform.python_version(),
        "libraries": read_libraries(root / "requirements.lock"),
        "lock_sha256": _digest_of(root / "requirements.lock"),
        "dvc_lock_sha256": _digest_of(root / "dvc.lock"),
        "digests": [
            (path.as_posix(), file_digest(root / path))
            for path in products
            if (root / path).is_file()
        ],
        "shards": _summarise_shards(root / "data/shards"),
        "data_digest": _data_digest(root),
        "model_data_digest": spec.data_digest,
        "parameters": list_parameters(params),
        "params_yaml": _write_params(params),
        "seed": params.seed,
        "hardware": _describe_hardware(),
        "times": read_times(root),
        "trainings": _list_trainings(root),
    }


def read_libraries(lock: Path) -> list[tuple[str, str, str]]:
    """List the packages of a lock file that are installed: name, version, version of the lock.

    The last is empty where it is the installed one; a lock may hold several for several Pythons.
    """
    locked: dict[str, list[str]] = {"hemtrace": []}
    if lock.is_file():
        pattern = r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)"
        for name, wanted in re.findall(pattern, lock.read_text(), re.M):
            locked.setdefault(name, []).append(wanted)
    libraries = []
    for name, wanted in sorted(locked.items()):
        with contextlib.suppress(PackageNotFoundError):
            installed = version(name)
            is_same = installed in wanted or installed.partition("+")[0] in wanted
            libraries.append((name, installed, "" if is_same else " or ".join(wanted)))
    return libraries


def _digest_of(path: Path) -> str | None:
    return file_digest(path) if path.is_file() else None


def _summarise_shards(folder: Path) -> dict[str, Any] | None:
    """Digest the row tables of all shards, which hold the digest of every picture."""
    tables = [path for path in sorted(folder.glob("*.parquet")) if path.stem.isdigit()]
    if not tables:
        return None
    lines = "".join(f"{file_digest(path)}  {path.name}\n" for path in tables)
    return {"number": len(tables), "sha256": hashlib.sha256(lines.encode()).hexdigest()}


def _data_digest(root: Path) -> str | None:
    catalog, splits = root / "data/catalog.parquet", root / "data/splits.parquet"
    if not (catalog.is_file() and splits.is_file()):
        return None
    return data_digest(pl.read_parquet(catalog), pl.read_parquet(splits))


def list_parameters(params: Params) -> list[dict[str, Any]]:
    """List every parameter with its value, its default, what it means, and whether they differ.

    Folders are taken from paths, and what may name a machine is left out.
    """
    return [
        {
            "name": name,
            "value": _show(name, value),
            "default": _show(name, default),
            "differs": value != default,
            "meaning": meaning,
        }
        for name, value, default, meaning in _walk(params, Params(), "")
    ]


def _walk(
    section: BaseModel, default: BaseModel, prefix: str
) -> Iterator[tuple[str, Any, Any, str]]:
    plain, usual = section.model_dump(mode="json"), default.model_dump(mode="json")
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _walk(value, getattr(default, name), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", plain[name], usual[name], info.description or ""


def _show(name: str, value: object) -> str:
    if name in _OF_A_MACHINE and value is not None:
        return _SET
    return _FOLDER.sub(ELSEWHERE, value if isinstance(value, str) else json.dumps(value))


def _write_params(params: Params) -> str:
    if params.train.launcher is not None:
        hidden = params.train.model_copy(update={"launcher": _SET})
        params = params.model_copy(update={"train": hidden})
    lines = hide_paths(render_params(params)).splitlines(keepends=True)
    return "".join(
        line if line.lstrip().startswith("#") else _FOLDER.sub(ELSEWHERE, line) for line in lines
    )


def _describe_hardware() -> list[tuple[str, str]]:
    machine = describe_environment()
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.system()
    return [
        ("processor", machine["processor"]),
        ("cores", str(machine["cores"])),
        ("memory", _read_memory()),
        ("GPU", ", ".join(machine["gpus"]) or "none"),
        ("system", f"{system}, {machine['system']}"),
    ]


def _read_memory() -> str:
    try:
        found = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    except OSError:
        found = None
    return f"{int(found[1]) / 2**20:.0f} GiB" if found else "unknown"


def read_times(root: Path) -> list[dict[str, Any]]:
    """Add up, for each rule, what Snakemake measured of its jobs, in the order of the stages.

    Of each job the newest measurement counts. Left out are jobs whose product is gone, such as
    those of earlier folds, and the report's own, which is not over yet.

    Parameters
    ----------
    root
        Folder of the project, with `logs/benchmarks`.

    Returns
    -------
    rule, jobs, seconds and peak_mb (largest of any job; None where unknown) each.
    """
    folder = root / "logs/benchmarks"
    known = {path.stem for path in (*root.glob("data/shards/*"), *root.glob("models/runs/*"))}
    known |= {path.stem for path in root.glob("models/compare/*")}
    jobs: dict[str, list[tuple[float, float | None]]] = {}
    for path in sorted(folder.rglob("*.tsv")):
        place = path.relative_to(folder)
        rule = place.parts[0].removesuffix(".tsv")
        if rule == "report" or (len(place.parts) > 1 and known and path.stem not in known):
            continue
        if (measured := _read_last_row(path)) is not None:
            jobs.setdefault(rule, []).append(measured)
    return [
        {
            "rule": rule,
            "jobs": len(rows),
            "seconds": sum(seconds for seconds, _ in rows),
            "peak_mb": max((peak for _, peak in rows if peak is not None), default=None),
        }
        for rule, rows in sorted(jobs.items(), key=lambda entry: _order(entry[0]))
    ]


def _read_last_row(path: Path) -> tuple[float, float | None] | None:
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    seconds = _to_number(rows[-1].get("s")) if rows else None
    return None if seconds is None else (seconds, _to_number(rows[-1].get("max_rss")))


def _to_number(text: str | None) -> float | None:
    try:  # Snakemake writes NA and - for what it could not measure
        return float(text or "")
    except ValueError:
        return None


def _order(rule: str) -> tuple[int, str]:
    stage = rule.split("_")[0]
    return (_STAGES.index(stage) if stage in _STAGES else len(_STAGES), rule)


def _list_trainings(root: Path) -> list[dict[str, str | None]]:
    """Find the record of each training, in the journal or in this project's MLflow database."""
    found = _read_database(root / "mlflow.db") | _read_journal(root)
    return [
        {"name": path.parent.name, "sha256": digest, "run": found.get(digest)}
        for path in sorted(root.glob("models/runs/*/*.safetensors"))
        if path.stem == "model" and (digest := file_digest(path))
    ]


def _read_journal(root: Path) -> dict[str, str]:
    return {
        event["tags"]["model_sha256"]: folder.name
        for folder in list_records(root)
        for event, _ in read_events(folder)
        if event["kind"] == "tags" and "model_sha256" in event["tags"]
    }


def _read_database(path: Path) -> dict[str, str]:
    """Read model digest -> run; not through MLflow, whose import takes seconds."""
    query = "SELECT value, run_uuid FROM tags WHERE key = 'model_sha256' ORDER BY run_uuid"
    if not path.is_file():
        return {}
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as db:
            return {str(digest): str(run) for digest, run in db.execute(query)}
    except sqlite3.Error:
        return {}
