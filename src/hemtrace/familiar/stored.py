"""The file `familiar.npz` beside a model."""

import logging
import zipfile
from pathlib import Path

import numpy as np

from hemtrace.errors import HemtraceError
from hemtrace.familiar.score import Familiar, Shape
from hemtrace.writing import write_whole

FILE = "familiar.npz"
_VERSION = 1
_ARRAYS = ("mean", "spread", "whiten")
_NUMBERS = ("threshold", "share", "slices", "patients", "highest")

log = logging.getLogger(__name__)


def write(familiar: Familiar | str, model_sha256: str, synthetic: bool, path: Path) -> None:
    """Write what was fitted, whole or not at all; it holds sums over many slices, and no names.

    Parameters
    ----------
    familiar
        Or a sentence on why nothing was measured.
    model_sha256
        Digest of the model that it belongs to.
    synthetic
        Whether that was trained on the phantom.
    path
        The file.

    Raises
    ------
    HemtraceError
        If the disk is full.
    """
    held = {
        "version": np.array(_VERSION),
        "model_sha256": np.array(model_sha256),
        "synthetic": np.array(synthetic),
        "why_not": np.array(familiar if isinstance(familiar, str) else ""),
    }
    if isinstance(familiar, Familiar):
        held |= {name: getattr(familiar.shape, name) for name in _ARRAYS}
        held |= {name: np.array(getattr(familiar, name)) for name in _NUMBERS}
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part, part.open("wb") as stream:
        np.savez(stream, **held)  # type: ignore[arg-type]


def read(path: Path, model_sha256: str) -> Familiar | None:
    """Read what belongs to a model.

    Returns
    -------
    None where the file says that nothing could be measured.

    Raises
    ------
    HemtraceError
        If the file is missing, damaged, of another version, or belongs to another model.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            held = {name: stored[name] for name in stored.files}
        version, owner = int(held["version"]), str(held["model_sha256"])
        why_not, synthetic = str(held["why_not"]), bool(held["synthetic"])
    except FileNotFoundError:
        raise HemtraceError(
            f"{path} was not found; `snakemake --cores all {path}` makes it."
        ) from None
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise _damaged(path, str(error) or type(error).__name__) from None
    if version != _VERSION:
        raise _damaged(path, f"its version is {version}, not {_VERSION}")
    if owner != model_sha256:
        raise HemtraceError(
            f"{path} belongs to another model ({owner[:12]}, not {model_sha256[:12]}): its "
            "distances would say nothing. Take the one that was made with the model, or make it "
            "again."
        )
    if why_not:
        log.info("%s: %s", path, why_not)
        return None
    return _check(path, held, synthetic)


def find_familiar(model: Path, model_sha256: str) -> Familiar | None:
    """Read the file beside a model; None where there is none, or it says that nothing was measured.

    Raises
    ------
    HemtraceError
        If there is one that is damaged, or belongs to another model.
    """
    path = model.with_name(FILE)
    return read(path, model_sha256) if path.is_file() else None


def _check(path: Path, held: dict[str, np.ndarray], synthetic: bool) -> Familiar:
    try:
        mean, spread, whiten = (held[name] for name in _ARRAYS)
        threshold, share, slices, patients, highest = (held[name].item() for name in _NUMBERS)
    except (KeyError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    count = mean.shape
    if any(one.dtype != np.float32 for one in (mean, spread, whiten)):
        raise _damaged(path, "its arrays are not float32")
    if len(count) != 1 or spread.shape != count or whiten.shape != (*count, *count):
        raise _damaged(path, "its arrays do not fit together")
    if not all(np.isfinite(one).all() for one in (mean, spread, whiten)) or not (spread > 0).all():
        raise _damaged(path, "its arrays are not finite")
    if not (0 < threshold < np.inf and 0 < share < 1):
        raise _damaged(path, f"its threshold is {threshold} for a share of {share}")
    shape = Shape(mean, spread, whiten)
    return Familiar(shape, threshold, share, int(slices), int(patients), highest, synthetic)


def _damaged(path: Path, why: str) -> HemtraceError:
    return HemtraceError(
        f"{path} is damaged or of another version of hemtrace ({why}); remove it and make it again "
        f"by `snakemake --cores all {path}`."
    )
