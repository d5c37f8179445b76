import hashlib
import subprocess

import polars as pl
from conftest import catalog_rows

from hemtrace.labels import LABELS
from hemtrace.provenance import data_digest, file_digest, git_commit


def made(**change):
    catalog = catalog_rows(patient=["a", "b", "c"]).with_columns(
        pl.lit(value).alias(name) for name, value in change.items()
    )
    splits = pl.DataFrame({"patient": ["a", "b", "c"], "partition": ["train", "val", "test"]})
    return catalog, splits


def test_the_data_digest_changes_with_pixels_labels_and_partitions_alone():
    catalog, splits = made()
    digest = data_digest(catalog, splits)
    assert data_digest(catalog.reverse(), splits.reverse()) == digest
    assert data_digest(*made(image_blake3="other")) != digest
    assert data_digest(*made(**{LABELS[0]: 1})) != digest
    assert data_digest(catalog, splits.with_columns(partition=pl.lit("train"))) != digest
    quarantined = catalog.with_columns(status=pl.lit("quarantined"))
    assert data_digest(quarantined, splits) != digest


def test_file_digest_is_that_of_hashlib(tmp_path):
    (tmp_path / "a").write_bytes(b"bytes")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"bytes").hexdigest()


def test_an_uncommitted_change_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert git_commit() == "unknown"
    (tmp_path / "a").write_text("1")
    user = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "a"], [*user, "commit", "-qm", "a"]):
        subprocess.run(["git", *command], check=True)
    clean = git_commit()
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert git_commit() == clean + "-dirty"
