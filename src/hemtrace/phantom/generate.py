"""The phantom's tree on disk: DICOM files, label CSV, and the truth that the CSV does not hold."""

import csv
import hashlib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from hemtrace.errors import HemtraceError
from hemtrace.labels import LABELS
from hemtrace.params import PhantomParams
from hemtrace.phantom.dicomfile import (
    SeriesHeader,
    accept_short_identifiers,
    encode_slice,
)
from hemtrace.phantom.plan import Fault, PatientPlan, make_identifier, plan_patients
from hemtrace.phantom.scanner import Scan, scan_patient

IMAGES = "stage_2_train"
LABEL_CSV = "stage_2_train.csv"
TRUTH = "phantom.parquet"
# 524,288 bytes of pixels, the header, and a little for the mask.
_BYTES_A_SLICE = 540_000

TRUTH_SCHEMA = pa.schema(
    [
        ("slice", pa.string()),
        ("patient", pa.string()),
        ("z_index", pa.int32()),
        ("z_mm", pa.float32()),
        ("fault", pa.string()),
        ("sha256", pa.string()),
        *((label, pa.uint8()) for label in LABELS),
        ("mask", pa.binary()),
    ]
)


@dataclass(frozen=True)
class _Job:
    plan: PatientPlan
    volume_factor: float
    seed: int
    folder: Path


def generate(out: Path, params: PhantomParams, seed: int, workers: int = 1) -> None:
    """Write a synthetic data set in the layout of the RSNA set.

    `out` gets `stage_2_train/ID_<9 hex>.dcm`, `stage_2_train.csv` (ID,Label: six rows a slice) and
    `phantom.parquet`: one row a file with slice, patient, z_index, z_mm, fault (null or one of
    `plan.FAULTS`), sha256 of the file's bytes, the six labels, and mask: a PNG of the size of the
    slice whose bit k marks `labels.SUBTYPES[k]`, null on a slice without a lesion. The labels are
    those of `scanner.label_slices`.

    The same params and seed give the same bytes, with any number of workers. Both tables appear
    last and complete; what an earlier call left in their place is removed first.

    Parameters
    ----------
    out
        Folder, made if need be.
    workers
        Processes, each of one thread.

    Raises
    ------
    HemtraceError
        If the folder cannot be written, or its disk has too little room.
    """
    plans = plan_patients(params, seed)
    folder = out / IMAGES
    _clear(out, folder, sum(plan.slices for plan in plans) * _BYTES_A_SLICE)
    jobs = [_Job(plan, params.lesion_volume_factor, seed, folder) for plan in plans]
    rows: list[dict[str, object]] = []
    bar = tqdm(total=len(jobs), desc="phantom", unit="patient", mininterval=1.0)
    with bar:
        for made in _run(jobs, workers):
            rows.extend(made)
            bar.update()
    _write_labels(out / LABEL_CSV, rows)
    temporary = out / f".{TRUTH}.part"
    pq.write_table(pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA), temporary)
    temporary.replace(out / TRUTH)


def _run(jobs: list[_Job], workers: int) -> Iterator[list[dict[str, object]]]:
    if workers == 1:
        yield from map(_make_patient, jobs)
        return
    # Spawned processes inherit no threads or locks, on Linux and macOS alike; the caps must stand
    # in the environment before the children load their BLAS.
    caps = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    before = {name: os.environ.get(name) for name in caps}
    os.environ.update(caps)
    try:
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
        with pool:
            yield from pool.map(_make_patient, jobs)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _make_patient(job: _Job) -> list[dict[str, object]]:
    """Scan one patient, write the files, give the rows of the truth table."""
    cv2.setNumThreads(1)
    accept_short_identifiers()
    index, seed = job.plan.index, job.seed
    name = partial(make_identifier, seed=seed, index=index)
    rng = np.random.default_rng([seed, index])
    scan = scan_patient(job.plan, job.volume_factor, rng)
    header = SeriesHeader(
        patient=name(8, "patient"),
        study=name(10, "study"),
        series=name(10, "series"),
        orientation=scan.orientation,
        spacing_mm=scan.spacing_mm,
        encoding=scan.encoding,
        window=scan.window,
    )
    rows = []
    for number in range(job.plan.slices):
        instance = name(9, number)
        fault = job.plan.faults.get(number)
        image, outside, mask, position = _shape_slice(scan, number, fault, rng)
        content = encode_slice(image, outside, header, instance, position, fault)
        (job.folder / f"{instance}.dcm").write_bytes(content)
        labels = dict(zip(LABELS, scan.labels[number].tolist(), strict=True))
        png = cv2.imencode(".png", mask)[1].tobytes() if labels["any"] else None
        rows.append(
            {
                "slice": instance,
                "patient": header.patient,
                "z_index": number,
                "z_mm": position[2],
                "fault": fault,
                "sha256": hashlib.sha256(content).hexdigest(),
                **labels,
                "mask": png,
            }
        )
    return rows


def _shape_slice(
    scan: Scan, number: int, fault: Fault | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, tuple[float, float, float]]:
    """Take a slice from a scan; one with an odd size gets margins of air of its own."""
    image, mask, outside = scan.hu[number], scan.masks[number], scan.outside
    position = scan.positions[number]
    if fault != "odd_size":
        return image, outside, mask, position
    top, bottom, left, right = (int(value) for value in rng.integers(8, 96, 4))
    margin = ((top, bottom), (left, right))
    if outside is not None:
        outside = np.pad(outside, margin, constant_values=True)
    # The first pixel moves, the head does not.
    rows, columns = scan.orientation[3:], scan.orientation[:3]
    x, y, z = (
        value - scan.spacing_mm * (top * down + left * right_)
        for value, down, right_ in zip(position, rows, columns, strict=True)
    )
    image = np.pad(image, margin, constant_values=-1000)
    return image, outside, np.pad(mask, margin), (x, y, z)


def _write_labels(path: Path, rows: list[dict[str, object]]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["ID", "Label"])
        for copy in (False, True):
            for row in rows:
                if not copy or row["fault"] == "duplicated_rows":
                    writer.writerows([f"{row['slice']}_{label}", row[label]] for label in LABELS)
    temporary.replace(path)


def _clear(out: Path, folder: Path, needed: int) -> None:
    """Make an empty place, refusing before any work where the result would not fit."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for table in (LABEL_CSV, TRUTH):
            (out / table).unlink(missing_ok=True)
        for stale in folder.glob("ID_*.dcm"):
            stale.unlink()
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise HemtraceError(
            f"The phantom cannot be written to {out}: {error.strerror}; "
            "choose a folder with write permission."
        ) from None
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise HemtraceError(
            f"The phantom needs {needed / 1e9:.1f} GB in {out}, where {free / 1e9:.1f} GB are "
            "free; make room or lower `phantom.patients`."
        )
