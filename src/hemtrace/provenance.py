"""What a product was made from: code, data, parameters."""

import hashlib
import subprocess
from pathlib import Path

import polars as pl

from hemtrace.labels import LABELS


def data_digest(catalog: pl.DataFrame, splits: pl.DataFrame) -> str:
    """Digest what training and evaluation see: each used slice, its labels and its partition."""
    seen = (
        catalog.filter(pl.col("status") == "used")
        .join(splits.select("patient", "partition"), on="patient")
        .select("slice", "patient", "partition", "image_blake3", *LABELS)
        .sort("slice")
    )
    return hashlib.sha256(seen.write_csv().encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_commit() -> str:
    """Name the commit of the working tree; `-dirty` is added where tracked files differ from it."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
