"""Probabilities that mean what they say: fitted on validation patients, refused on the same.

The scales are those of logits, natural logarithm.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict
from scipy.special import expit, logit

from hemtrace.errors import HemtraceError
from hemtrace.evaluate.scored import PROBABILITIES, Scored
from hemtrace.labels import LABELS

Method = Literal["none", "temperature", "platt", "isotonic"]
METHODS: dict[str, str] = {
    "none": "the probabilities are left as the network gives them",
    "temperature": "the logits are divided by one number, the temperature, of the highest "
    "likelihood on validation",
    "platt": "the logits are put through a line, slope and intercept of the highest likelihood on "
    "validation",
    "isotonic": "the probabilities are put through the non-decreasing steps of least squares on "
    "validation, straight lines between the steps, flat beyond the outermost, never quite 0 or 1",
}
# Float64 tells probabilities apart down to here; the logit of 0 and 1 would be infinite.
HELD = 1e-15


class LabelCalibration(BaseModel):
    """How the probabilities of one label are changed; without parameters, not at all.

    Attributes
    ----------
    positives, negatives
        Validation rows it was fitted on.
    temperature
        What logits are divided by.
    slope, intercept
        Of the line that logits are put through.
    thresholds, values
        Isotonic: ascending probabilities, and what becomes of them; between two of them the
        straight line, below the first and above the last their values.
    smoothed
        Whether Platt's targets stand in for 0 and 1, as the classes were separated.
    why
        Why it could not be fitted, in a sentence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    positives: int
    negatives: int
    temperature: float | None = None
    slope: float | None = None
    intercept: float | None = None
    thresholds: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    smoothed: bool = False
    why: str | None = None

    def transform(self, probability: np.ndarray) -> np.ndarray:
        """Calibrate (N,) probabilities. NaN stays NaN."""
        if self.temperature is not None:
            return expit(to_logits(probability) / self.temperature)
        if self.slope is not None and self.intercept is not None:
            return expit(self.slope * to_logits(probability) + self.intercept)
        if self.thresholds:
            return np.interp(probability, self.thresholds, self.values)
        return np.array(probability, dtype=np.float64)


class Calibration(BaseModel):
    """What was fitted on validation, and on whom.

    Attributes
    ----------
    method
        One of `METHODS`.
    level
        What its rows were: `slices`, unless patients were calibrated as such.
    labels
        By label.
    fitted_on
        Digests of the validation patients, ascending; of method `none` too, since operating
        points are fixed on the same patients.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method
    level: str
    labels: dict[str, LabelCalibration]
    fitted_on: tuple[str, ...]

    def transform(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrate probabilities of new slices.

        Parameters
        ----------
        probabilities
            (N, 6), in the order of `labels.LABELS`.

        Returns
        -------
        float64 (N, 6). The order of the rows in a column is never reversed; rows become equal by
        isotonic steps, or where float64 cannot tell them apart (within 1e-15 of 0 or 1).
        """
        columns = [
            self.labels[label].transform(probabilities[:, column])
            for column, label in enumerate(LABELS)
        ]
        return np.column_stack(columns)


def apply(calibration: Calibration, scored: Scored) -> Scored:
    """Calibrate rows, validation's too: to choose thresholds, not to report how good they are.

    Raises
    ------
    ValueError
        If the calibration was fitted at another level: calibrate slices, then make patients.
    """
    if scored.level != calibration.level:
        raise ValueError(f"a calibration of {calibration.level} cannot serve {scored.level}")
    return replace(scored, probability=calibration.transform(scored.probability))


def apply_unseen(calibration: Calibration, scored: Scored) -> Scored:
    """Calibrate rows that are reported on: of patients on whom nothing was fitted.

    Raises
    ------
    HemtraceError
        If a patient took part in the fit.
    """
    require_unseen(calibration, scored.patients)
    return apply(calibration, scored)


def calibrate_table(calibration: Calibration, predictions: pl.DataFrame) -> pl.DataFrame:
    """Calibrate the probabilities of a table of predictions; the other columns stay."""
    values = calibration.transform(predictions.select(PROBABILITIES).to_numpy())
    return predictions.with_columns(pl.DataFrame(values, schema=list(PROBABILITIES)))


def require_unseen(calibration: Calibration, patients: np.ndarray) -> None:
    """Refuse patients on whom the calibration was fitted.

    Raises
    ------
    HemtraceError
        Saying how many there are.
    """
    here = digest_patients(patients)
    seen = len(set(here) & set(calibration.fitted_on))
    if seen:
        raise HemtraceError(
            f"{seen} of {len(here)} patients are among those on whom calibration and operating "
            "points were fixed; what is reported must come from other patients: leave them out, "
            "or take the test patients."
        )


def require_validation(scored: Scored, what: str) -> None:
    """Refuse rows that are not of validation patients.

    Raises
    ------
    HemtraceError
        Naming what was to be fixed on them.
    """
    if scored.partition != "val":
        raise HemtraceError(
            f"{what} may be fixed on validation patients only, not on the partition "
            f"{scored.partition!r}: give the rows of 'val'."
        )


def digest_patients(patients: Iterable[str]) -> tuple[str, ...]:
    """Digest pseudonyms to 8 bytes each, hexadecimal, ascending, each once."""
    names = {str(name) for name in patients}
    return tuple(
        sorted(hashlib.blake2b(name.encode(), digest_size=8).hexdigest() for name in names)
    )


def to_logits(probability: np.ndarray) -> np.ndarray:
    """Log-odds of probabilities held within [1e-15, 1 - 1e-15]."""
    return logit(np.clip(np.asarray(probability, dtype=np.float64), HELD, 1 - HELD))
