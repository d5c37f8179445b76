"""Which slices are flagged with which labels, and where their heat maps point."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hemtrace.dicom_results.identity import ModelIdentity
from hemtrace.errors import HemtraceError
from hemtrace.explain.heat import scale_up
from hemtrace.explain.localise import heat_region
from hemtrace.explain.masks import head_area
from hemtrace.explain.regions import Region, find_regions
from hemtrace.labels import ANY, LABELS
from hemtrace.params import Window
from hemtrace.predict.study import SeriesPrediction, SlicePrediction, StudyPrediction, Verdict
from hemtrace.window import preprocess

BRAIN = Window(name="brain", center_hu=40, width_hu=80)


@dataclass(frozen=True)
class Findings:
    """What is shown of the series that the verdict is of.

    Attributes
    ----------
    series
        The chosen one.
    flagged
        Label -> places of the slices that are flagged with it; all empty where no bleed is found
        or there is no answer.
    notes
        Sentences on what is not shown, and why.
    """

    series: SeriesPrediction
    flagged: dict[str, tuple[int, ...]]
    notes: tuple[str, ...]

    @property
    def places(self) -> list[int]:
        """The slices that are flagged with any label, in order."""
        return sorted({place for places in self.flagged.values() for place in places})

    def labels_at(self, place: int) -> list[str]:
        """The labels that a slice is flagged with, in their order."""
        return [label for label in LABELS if place in self.flagged[label]]

    def shown_label(self, place: int) -> str | None:
        """The label whose heat map is shown: the most probable subtype, `any` where there is none.

        `any` is at least as probable as each subtype, but says less.
        """
        labels = self.labels_at(place)
        subtypes = [label for label in labels if label != LABELS[ANY]] or labels
        probabilities = self.series.slices[place].probabilities
        return max(subtypes, key=lambda label: probabilities[LABELS.index(label)], default=None)


def find_flagged(study: StudyPrediction, model: ModelIdentity) -> Findings:
    """Find the slices that reach the operating point's thresholds, where a bleed is found.

    Raises
    ------
    HemtraceError
        If no series of the study is the chosen one.
    """
    chosen = [series for series in study.series if series.chosen and series.slices]
    if len(chosen) != 1:
        raise HemtraceError(
            f"The study has {len(chosen)} chosen series with slices; DICOM results are made of "
            "one. Nothing can be written for a study of which no slice could be read."
        )
    series, verdict = chosen[0], study.verdict
    flagged: dict[str, tuple[int, ...]] = dict.fromkeys(LABELS, ())
    notes = []
    blind = [label for label in LABELS if model.slice_thresholds.get(label) is None]
    if blind and verdict.answer != "no-answer":
        notes.append(
            f"Without a threshold of images at this operating point: {', '.join(blind)}; no image "
            "is flagged with it."
        )
    if verdict.answer == "bleed":
        flagged = {label: _reaching(series.slices, label, model, verdict) for label in LABELS}
        if not any(flagged.values()):
            notes.append(
                "No single image reaches the operating point's threshold of images: none is "
                "referenced, and no heat map is shown."
            )
        elif any(series.slices[place].cells is None for place in sum(flagged.values(), ())):
            notes.append("No heat maps were made, so that no region is outlined.")
    elif verdict.answer == "no-bleed":
        notes.append(
            "No bleed is found, so that no heat map is shown: the images stay as they are."
        )
        above = [label for label, here in verdict.flagged.items() if here]
        if above:
            notes.append(
                f"Single images reach the threshold of images of {', '.join(above)}, but the score "
                "of the study stays below its own: undetermined."
            )
    return Findings(series, flagged, tuple(notes))


def slice_heat(one: SlicePrediction, label: str, size: int) -> np.ndarray | None:
    """Scale the heat map of a label to 0..1: float32 (size, size) of the slice's square.

    None where there are no maps, or nothing speaks for the label.
    """
    if one.cells is None:
        return None
    heat = scale_up(np.nan_to_num(one.cells[LABELS.index(label)]), size, size)
    return heat if heat.max() > 0 else None


def slice_regions(one: SlicePrediction, label: str, model: ModelIdentity) -> list[Region]:
    """Outline where the heat map of a label is warm on the head, the largest region first.

    Raises
    ------
    HemtraceError
        If the slice was kept without its Hounsfield units.
    """
    heat = slice_heat(one, label, model.size)
    if heat is None:
        return []
    picture = preprocess(need_hu(one), one.square, [BRAIN], model.size)[0]
    warm = heat_region(heat, head_area(picture), model.region_threshold)
    return find_regions(warm, one.square, one.shape, one.spacing_mm)


def need_hu(one: SlicePrediction) -> np.ndarray:
    """Give the Hounsfield units of a slice.

    Raises
    ------
    HemtraceError
        If it was kept without them.
    """
    if one.hu is None:
        raise HemtraceError(
            "A flagged slice was kept without its Hounsfield units, which regions and captures "
            "need; predict with the pixels kept."
        )
    return one.hu


def _reaching(
    slices: Sequence[SlicePrediction], label: str, model: ModelIdentity, verdict: Verdict
) -> tuple[int, ...]:
    threshold = model.slice_thresholds.get(label)
    if threshold is None or not verdict.flagged.get(label, True):
        return ()
    column = LABELS.index(label)
    return tuple(
        place for place, one in enumerate(slices) if one.probabilities[column] >= threshold
    )
