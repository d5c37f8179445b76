"""A tree in the RSNA set's layout of as many small DICOM files as asked: `make_tree.py DIR FILES`.

Each file is a CT slice of 40 x 40 pixels with a head in it (4 kB), with pixels, ids and labels of
its own; scans of 36 slices, a scan a patient. Four images stand twice in the label CSV, as in the
RSNA set.
"""

import sys
from pathlib import Path

import numpy as np

from hemtrace.labels import LABELS
from hemtrace.phantom.dicomfile import SeriesHeader, accept_short_identifiers, encode_slice

SIDE = 40
SCAN = 36
TWICE = 4
PREVALENCE = (0.004, 0.048, 0.035, 0.047, 0.063)
_Z_MM = 100.0  # all positions have as many digits


def make_tree(folder: Path, files: int) -> None:
    """Write `stage_2_train/` and `stage_2_train.csv`."""
    images = folder / "stage_2_train"
    images.mkdir(parents=True)
    template, places, pixels = _make_template()
    head = _make_head()
    rng = np.random.default_rng(7)
    for number in range(files):
        scan, place = divmod(number, SCAN)
        name = f"ID_{number * 2_654_435_761 % 2**36:09x}"  # in no order, as in the real set
        ids = (name, f"ID_{scan:08x}", f"ID_{scan:010x}", f"ID_{scan + 2**36:010x}")
        for start, text in zip(places, (*ids, f"{_Z_MM + 5 * place:.6f}"), strict=True):
            template[start : start + len(text)] = text.encode()
        stored = head + rng.integers(-4, 5, head.shape, dtype=np.int16)
        template[pixels:] = stored.tobytes()
        (images / f"{name}.dcm").write_bytes(template)
    _write_labels(folder / "stage_2_train.csv", [path.stem for path in images.iterdir()], rng)


def _make_template() -> tuple[bytearray, list[int], int]:
    """One file, where its ids and its position begin, and where its pixels do."""
    accept_short_identifiers()
    marks = ("ID_iiiiiiiii", "ID_pppppppp", "ID_tttttttttt", "ID_eeeeeeeeee")
    header = SeriesHeader(
        patient=marks[1],
        study=marks[2],
        series=marks[3],
        orientation=(1, 0, 0, 0, 1, 0),
        spacing_mm=250 / SIDE,
        encoding=(16, 1, -1024),
        window=(40, 80),
    )
    content = encode_slice(_make_head() - 1024, None, header, marks[0], (-125, -125, _Z_MM), None)
    # The last place of the instance's UID is the data set's; the first is the file meta's.
    places = [content.rindex(mark.encode()) for mark in (*marks, f"{_Z_MM:.6f}")]
    return bytearray(content), places, len(content) - 2 * SIDE * SIDE


def _make_head() -> np.ndarray:
    """Stored values (intercept -1024) of a disk of brain in a ring of bone."""
    down, across = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    radius = np.hypot(down, across)
    hu = np.where(radius < 0.33, 35, np.where(radius < 0.38, 1200, -1000))
    return (hu + 1024).astype(np.int16)


def _write_labels(csv: Path, images: list[str], rng: np.random.Generator) -> None:
    with csv.open("w") as stream:
        stream.write("ID,Label\n")
        for image in images + images[:TWICE]:
            subtypes = (rng.random(len(PREVALENCE)) < PREVALENCE).astype(int)
            if image in images[:TWICE]:
                subtypes[:] = 0
            values = (*subtypes, subtypes.max())
            stream.writelines(
                f"{image}_{label},{value}\n" for label, value in zip(LABELS, values, strict=True)
            )


if __name__ == "__main__":
    make_tree(Path(sys.argv[1]), int(sys.argv[2]))
