"""The sample study: a computer-made head with a bleed, always the same."""

import uuid
from pathlib import Path

from hemtrace.serve.uploads import Uploaded

# Seeds and bleeds are chosen to be seen at once, not to be typical.
_SEED, _SLICES, _SUBTYPES, _VOLUME_FACTOR = 20, 26, ("intraparenchymal", "intraventricular"), 12.0


def make_sample(folder: Path) -> list[Uploaded]:
    """Write the sample's DICOM files to a folder, which is made; takes some seconds."""
    import numpy as np

    from hemtrace.phantom.dicomfile import SeriesHeader, encode_slice
    from hemtrace.phantom.plan import PatientPlan
    from hemtrace.phantom.scanner import scan_patient

    plan = PatientPlan(index=0, slices=_SLICES, subtypes=_SUBTYPES, faults={})
    scan = scan_patient(plan, _VOLUME_FACTOR, np.random.default_rng([_SEED, 0]))
    header = SeriesHeader(
        patient="Sample",
        study=_make_uid("study"),
        series=_make_uid("series"),
        orientation=scan.orientation,
        spacing_mm=scan.spacing_mm,
        encoding=scan.encoding,
        window=scan.window,
    )
    folder.mkdir(mode=0o700)
    made = []
    for number in range(_SLICES):
        instance = _make_uid(f"slice {number}")
        position = scan.positions[number]
        content = encode_slice(scan.hu[number], scan.outside, header, instance, position, None)
        path = folder / f"{number:03d}"
        path.write_bytes(content)
        made.append(Uploaded(f"sample/slice-{number + 1:02d}.dcm", path, len(content)))
    return made


def _make_uid(of: str) -> str:
    # PS3.5 B.2.
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'hemtrace sample {of}').int}"
