"""PNG of a flagged slice under its heat map, with outline and words."""

from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hemtrace.labels import ANY, LABELS, SUBTYPES
from hemtrace.params import Window
from hemtrace.predict.regions import heat_on_slice, regions_of
from hemtrace.predict.study import SlicePrediction, StudyPrediction
from hemtrace.window import apply_window
from hemtrace.writing import write_whole

BRAIN = Window(name="brain", center_hu=40, width_hu=80)
# Smaller slices are enlarged by a whole factor, so that words are legible.
_SMALLEST_SIDE = 512
_LINE, _MARGIN, _POINTS = 22, 6, 14
# Cyan stands out on greys and on the reds of the heat, for those too who tell red from green badly.
_OUTLINE = (56, 217, 255)
_INK, _WARN = (235, 235, 235), (255, 205, 90)
_OPACITY = 0.5


def flagged_labels(slice_: SlicePrediction, thresholds: dict[str, float | None]) -> list[str]:
    """List the labels whose threshold a slice reaches, the most probable subtype first.

    `any` is at least as probable as each subtype but says less: it comes last.
    """
    found = {
        label: float(probability)
        for label, probability in zip(LABELS, slice_.probabilities, strict=True)
        if (limit := thresholds[label]) is not None and probability >= limit
    }
    subtypes = sorted((one for one in SUBTYPES if one in found), key=lambda one: -found[one])
    return subtypes + [LABELS[ANY]] * (LABELS[ANY] in found)


def flagged_slices(
    study: StudyPrediction, thresholds: dict[str, float | None]
) -> list[tuple[int, str]]:
    """List what is shown of a study: places in its chosen series, and the label of the heat map.

    Nothing where no bleed is found or no answer is given: such images stay as they are.
    """
    chosen = study.chosen
    if study.verdict.answer != "bleed" or chosen is None:
        return []
    found = []
    for place, one in enumerate(chosen.slices):
        labels = flagged_labels(one, thresholds)
        if labels:
            found.append((place, labels[0]))
    return found


def draw_overlay(slice_: SlicePrediction, label: str, words: tuple[str, str]) -> np.ndarray:
    """Draw a slice in the brain window, under the heat of a label where it has maps.

    Words stand on black rows above and below, never on the slice.

    Parameters
    ----------
    slice_
        With Hounsfield units.
    label
        Whose heat is shown, and whose regions are outlined.
    words
        The lines above and below.

    Returns
    -------
    uint8 (rows, columns, 3).

    Raises
    ------
    ValueError
        If it has no Hounsfield units.
    """
    if slice_.hu is None:
        raise ValueError("a slice without its Hounsfield units cannot be drawn")
    column = LABELS.index(label)
    grey = apply_window(np.ascontiguousarray(slice_.hu), BRAIN)
    shown = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    heat = heat_on_slice(slice_, column)
    if heat is not None:
        colours = matplotlib.colormaps["autumn"](heat)[..., :3] * 255
        # The warmer the more opaque, so that the cold parts stay as they are.
        opacity = (_OPACITY * heat)[..., None]
        shown = shown * (1 - opacity) + colours * opacity
    factor = max(1, -(-_SMALLEST_SIDE // grey.shape[1]))
    picture = np.kron(shown.round().astype(np.uint8), np.ones((factor, factor, 1), np.uint8))
    for region in regions_of(slice_, column):
        corners = np.round(region.outline[:, ::-1] * factor - 0.5).astype(np.int32)
        cv2.polylines(picture, [corners], True, _OUTLINE, 1, cv2.LINE_AA)
    band = np.zeros((_LINE + _MARGIN, picture.shape[1], 3), np.uint8)
    image = Image.fromarray(np.concatenate([band, picture, band]))
    draw = ImageDraw.Draw(image)
    for line, top, ink in zip(words, (0, len(band) + len(picture)), (_INK, _WARN), strict=True):
        draw.text((_MARGIN, top + _MARGIN // 2), _fit(draw, line, picture.shape[1]), ink, _font())
    return np.asarray(image)


def write_overlay(
    slice_: SlicePrediction, label: str, path: Path, model: str, synthetic: bool
) -> None:
    """Write the overlay of a slice as PNG, without any text chunk.

    Raises
    ------
    HemtraceError
        If the disk is full.
    """
    probability = slice_.probabilities[LABELS.index(label)]
    place = "" if slice_.z_mm is None else f", z {slice_.z_mm:.1f} mm"
    mark = "SYNTHETIC training data. " if synthetic else ""
    words = (f"{label}: probability {probability:.2f}{place}", f"{mark}Research use only. {model}")
    picture = draw_overlay(slice_, label, words)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as part:
        Image.fromarray(picture).save(part, format="PNG")


def name_overlay(study: StudyPrediction, number: int, place: int, slice_: SlicePrediction) -> str:
    """Name the file of an overlay: pseudonyms and places alone, nothing of the header.

    Parameters
    ----------
    study, number
        Whose it is, and its place in the run, which names it where it has no pseudonym.
    place, slice_
        The slice's place in its series.
    """
    folder = study.key or f"study-{number + 1}"
    return f"{folder}/{place + 1:04d}-{slice_.key.replace('#', '-')}.png"


def _fit(draw: ImageDraw.ImageDraw, line: str, width: int) -> str:
    while line and draw.textlength(line, font=_font()) > width - 2 * _MARGIN:
        line = line[:-2].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return line


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    # Matplotlib brings the font along, so that pictures are the same on every machine.
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / "DejaVuSans.ttf", _POINTS)
