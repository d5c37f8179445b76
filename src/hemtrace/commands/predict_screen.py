"""What `hemtrace predict` shows in a terminal: a mark, progress, a table, what went wrong."""

from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from hemtrace.dicom import REASONS
from hemtrace.engine.contract import Engine
from hemtrace.evaluate.operating import Operating
from hemtrace.labels import SUBTYPES
from hemtrace.predict.study import RejectedFile, StudyPrediction
from hemtrace.predict.tables import By

_MOST_STUDIES, _MOST_ROWS, _MOST_FILES = 40, 200, 20
_STYLES = {"bleed": "bold red", "no-bleed": "green", "no-answer": "yellow"}
_PIPE_WIDTH = 200
# Columns that are the same in all rows are told once, above.
_TOLD_ONCE = ("point", "model", "model_sha256", "synthetic", "note")


class Screen:
    """Tables go to stdout, all else to stderr.

    Whatever comes out of a file is shown as it is: markup in a name has no effect.
    """

    def __init__(self) -> None:
        self._out = Console(highlight=False)
        if not self._out.is_terminal:  # a pipe has no width; 80 columns would break every name
            self._out.width = _PIPE_WIDTH
        self._err = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._err,
            transient=True,
        )
        self._task = self._progress.add_task("predict", total=None, visible=False)
        self._answers: Counter[str] = Counter()
        self._urgent: list[StudyPrediction] = []
        self._by: By | None = None

    def __enter__(self) -> Self:
        """Show nothing yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the progress away."""
        self._progress.stop()

    def begin(self, by: By, engine: Engine, operating: Operating | None, files: int) -> None:
        """Tell what predicts, and what its answers are worth."""
        self._by = by
        self._say(f"{by.model} {by.model_sha256[:12]}, {engine.runtime}", "dim")
        self._say(f"hemtrace: {by.note}", "bold yellow" if by.synthetic else "bold")
        if operating is None:
            text = (
                "No operating.json lies beside the model: its probabilities are not calibrated, "
                "and no study gets an answer."
            )
            self._say(text, "yellow")
        if engine.fallback:
            self._say(engine.fallback, "yellow")
        if self._err.is_terminal:
            self._progress.update(self._task, total=files, visible=True)
            self._progress.start()

    def show_progress(self, done: int, files: int) -> None:
        """Move the bar; when all is read, heat maps and files are what still takes time."""
        what = "predict" if done < files else "finish"
        self._progress.update(self._task, completed=done, description=what)

    def show_maps(self, made: int, wanted: int) -> None:
        """Count the heat maps that take gradients; there is no bar, as each study adds some."""
        told = f"heat maps: {made} of {wanted}" if made < wanted else "finish"
        self._progress.update(self._task, description=told)

    def add(self, study: StudyPrediction) -> None:
        """Take a study; only the most urgent ones are kept, without their slices' maps."""
        self._answers[study.verdict.answer] += 1
        self._urgent.append(study)
        self._urgent.sort(key=lambda one: -one.verdict.urgency)
        del self._urgent[_MOST_STUDIES:]

    def finish(
        self,
        table: pl.DataFrame | None,
        rejected: Sequence[RejectedFile],
        slices: int,
        failed: Sequence[str],
    ) -> None:
        """Show a table of the wanted level, or the studies, then what could not be done."""
        self._progress.stop()
        if table is not None:
            self._show_rows(table)
        elif self._urgent:
            self._show_studies()
        for sentence in failed:
            self._say(sentence, "yellow")
        self._tell_rejected(rejected)
        told = ", ".join(f"{count} {answer}" for answer, count in sorted(self._answers.items()))
        count = sum(self._answers.values())
        noun = "study" if count == 1 else "studies"
        of_slices = "slice" if slices == 1 else "slices"
        self._say(f"{slices:,} {of_slices} in {count:,} {noun}{told and ': '}{told}.", "")
        if not slices:
            self._say("Nothing could be predicted.", "bold red")

    def _show_studies(self) -> None:
        assert self._by is not None
        table = Table(title=Text(f"Studies, the most urgent first. {self._by.note}"))
        for name in ("study", "answer", "any", "types", "slices", "no answer because", "beware"):
            table.add_column(name, overflow="fold")
        for study in self._urgent:
            verdict, chosen = study.verdict, study.chosen
            types = [label for label in SUBTYPES if verdict.flagged[label]]
            # Beside "no answer" a score would be read as one; --out keeps it.
            has_score = verdict.probability is not None and verdict.answer != "no-answer"
            score = f"{verdict.probability:.3f}" if has_score else ""
            table.add_row(
                Text(study.key or "(no name)"),
                Text(verdict.answer, _STYLES[verdict.answer]),
                score,
                Text(", ".join(types) if verdict.answer == "bleed" else ""),
                str(len(chosen.slices)) if chosen else "0",
                Text(" ".join(one.sentence for one in verdict.reasons if one.stops)),
                Text(" ".join(one.code for one in verdict.reasons if not one.stops)),
            )
        self._out.print(table)
        hidden = sum(self._answers.values()) - len(self._urgent)
        if hidden > 0:
            self._say(f"{hidden:,} less urgent studies are not shown; --out writes all.", "dim")

    def _show_rows(self, table: pl.DataFrame) -> None:
        assert self._by is not None
        shown = table.drop(_TOLD_ONCE).select(
            column.name for column in table.drop(_TOLD_ONCE) if column.null_count() < len(column)
        )
        rich = Table(title=Text(self._by.note))
        for name in shown.columns:
            rich.add_column(name, overflow="fold")
        for row in shown.head(_MOST_ROWS).iter_rows():
            rich.add_row(*(Text(_tell(value)) for value in row))
        self._out.print(rich)
        if table.height > _MOST_ROWS:
            self._say(f"{table.height - _MOST_ROWS:,} rows are not shown; --out writes all.", "dim")

    def _tell_rejected(self, rejected: Sequence[RejectedFile]) -> None:
        if not rejected:
            return
        what = "file or frame has" if len(rejected) == 1 else "files or frames have"
        self._say(f"{len(rejected):,} {what} no prediction:", "yellow")
        for one in rejected[:_MOST_FILES]:
            frame = "" if one.frame is None else f", frame {one.frame}"
            detail = f" ({one.detail})" if one.detail else ""
            self._say(f"  {one.file}{frame}: {one.reason}, {one.meaning}{detail}", "")
        if len(rejected) > _MOST_FILES:
            counts = Counter(one.reason for one in rejected).most_common()
            told = "; ".join(f"{count:,} {REASONS[code][1]}" for code, count in counts)
            self._say(f"  and more, in all: {told}. --out FILE with --level slices lists all.", "")

    def _say(self, text: str, style: str) -> None:
        self._err.print(Text(text, style), soft_wrap=True)


def _tell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)
