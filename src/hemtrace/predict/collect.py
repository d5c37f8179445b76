"""What is known of predicted slices until their studies are whole: about half a kilobyte each."""

from array import array
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from hemtrace.engine.contract import Answers
from hemtrace.evaluate.operating import Operating
from hemtrace.labels import LABELS
from hemtrace.predict.ahead import Read
from hemtrace.predict.spool import Spool
from hemtrace.predict.study import SlicePrediction
from hemtrace.shards import ROW_SCHEMA
from hemtrace.shards.make import Row
from hemtrace.window import Square

# Rows as dictionaries take ten times the memory of a table's.
_ROWS_AT_ONCE = 500
# What stands where in the numbers of a slice.
_RAW, _CALIBRATED = slice(0, len(LABELS)), slice(len(LABELS), 2 * len(LABELS))
_DISTANCE = 2 * len(LABELS)
Measure = Callable[[np.ndarray], np.ndarray]


class Collected:
    """Rows of all pictures, and what was predicted of those that can be used.

    Numbers lie in arrays and tables, maps in a `Spool`: a slice is made an object only while its
    study is at hand. Hounsfield units, where they are kept, stay in memory: 0.5 MB a slice.

    Parameters
    ----------
    operating
        Whose calibration is used; None: probabilities stay as the network gives them.
    measure
        Distances (N,) of features (N, F), as `familiar.Familiar.distance`; None: not measured.
    """

    def __init__(self, operating: Operating | None, measure: Measure | None) -> None:
        self._operating, self._measure = operating, measure
        self._rows: list[Row] = []
        self._tables: list[pl.DataFrame] = [pl.DataFrame(schema=ROW_SCHEMA)]
        self._numbers = np.empty((_ROWS_AT_ONCE, _DISTANCE + 1))
        self._count = 0
        self._cells, self._heads = Spool(), Spool()
        self._hu: dict[int, np.ndarray] = {}
        self._noise = array("f")

    def close(self) -> None:
        """Forget all maps."""
        self._cells.close()
        self._heads.close()

    def add_row(self, read: Read) -> None:
        """Keep the row of a picture, and what was read beside it."""
        self._rows.append(read.row)
        if len(self._rows) == _ROWS_AT_ONCE:
            self._end_table()
        if read.picture is not None:
            self._noise.append(read.noise_hu)
        if read.head is not None:
            self._heads.append(read.head)
        if read.hu is not None:
            self._hu[_place(read.row)] = read.hu

    def add_answers(self, answers: Answers, keep_cells: bool) -> None:
        """Keep what a model says of the next slices, in the order of their rows."""
        raw, start = answers.probabilities, self._count
        self._count += len(answers)
        while len(self._numbers) < self._count:
            self._numbers = np.concatenate([self._numbers, np.empty_like(self._numbers)])
        own = self._numbers[start : self._count]
        own[:, _RAW] = raw
        own[:, _CALIBRATED] = (
            raw if self._operating is None else self._operating.calibration.transform(raw)
        )
        is_measured = self._measure is not None and answers.features is not None
        own[:, _DISTANCE] = self._measure(answers.features) if is_measured else np.nan  # type: ignore[misc,arg-type]
        if keep_cells and answers.cells is not None:
            for cells in answers.cells:
                self._cells.append(cells.astype(np.float32))

    def slice_of(self, row: Mapping[str, Any]) -> SlicePrediction:
        """Make the prediction of a slice that has answers, from its row."""
        place = _place(row)
        numbers = self._numbers[: self._count][place]
        distance = numbers[_DISTANCE]
        down, across = row.get("spacing_mm"), row.get("spacing_across_mm")
        return SlicePrediction(
            file=str(row["file"]),
            frame=row.get("frame"),
            key=str(row["slice"]),
            z_mm=row.get("z_mm"),
            shape=(row["rows"], row["columns"]),
            spacing_mm=None if down is None or across is None else (down, across),
            thickness_mm=row.get("thickness_mm"),
            square=Square(row["crop_top"], row["crop_left"], row["crop_side"]),
            probabilities=numbers[_CALIBRATED].copy(),
            raw=numbers[_RAW].copy(),
            cells=self._cells.read(place) if place < len(self._cells) else None,
            distance=None if np.isnan(distance) else float(distance),
            noise_hu=None if np.isnan(self._noise[place]) else self._noise[place],
            hu=self._hu.get(place),
            facts={name: row.get(name) for name in ROW_SCHEMA},
            head=self._heads.read(place) if place < len(self._heads) else None,
        )

    def table(self) -> pl.DataFrame:
        """Give the rows of all pictures, in the order in which they were read."""
        self._end_table()
        self._tables = [pl.concat(self._tables)]
        return self._tables[0]

    def _end_table(self) -> None:
        self._tables.append(pl.DataFrame(self._rows, schema=ROW_SCHEMA, orient="row"))
        self._rows.clear()


def _place(row: Mapping[str, Any]) -> int:
    return int(row["row"])
