"""What the API tells of a model and of a job, at an operating point."""

import math
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from hemtrace import __version__
from hemtrace.errors import HemtraceError
from hemtrace.evaluate.operating import POINTS, Operating
from hemtrace.explain.regions import slice_distances, volume_ml
from hemtrace.labels import ANY, LABELS
from hemtrace.predict.regions import regions_of
from hemtrace.predict.study import (
    Identity,
    RejectedFile,
    SeriesPrediction,
    SlicePrediction,
    StudyPrediction,
)
from hemtrace.predict.verdict import (
    flag_slice,
    name_point,
    rejudge,
    slice_thresholds,
    tell_training,
)
from hemtrace.serve import schemas
from hemtrace.serve.jobs import Job
from hemtrace.serve.pictures import volume_shape
from hemtrace.serve.prediction import Predictor, Result
from hemtrace.serve.problems import Problem
from hemtrace.serve.settings import Settings
from hemtrace.serve.sides import tell_orientation

_LEVEL = "studies"
_ANY = LABELS[ANY]
# Sentences of `dicom.REASONS` that speak of parameters which a person at a page does not have.
_MEANINGS = {"too-slow": "reading it took too long"}


def tell_model(predictor: Predictor) -> schemas.Model:
    """Tell what predicts."""
    spec, engine, settings = predictor.engine.spec, predictor.engine, predictor.settings
    limits = settings.limits
    return schemas.Model(
        name=spec.network.architecture,
        sha256=engine.model_sha256,
        trained_on=tell_training(spec),
        synthetic=spec.synthetic,
        runtime=engine.runtime,
        labels=list(LABELS),
        windows=[
            schemas.Window(name=one.name, centre=one.center_hu, width=one.width_hu)
            for one in spec.windows
        ],
        points=tell_points(predictor.operating),
        default_point=name_point(predictor.operating, None),
        limits={
            "upload_bytes": limits.upload_bytes,
            "file_bytes": limits.file_bytes,
            "files": limits.files,
            "seconds": limits.seconds,
        },
        sample=True,
        version=__version__,
        disclaimer=schemas.DISCLAIMER,
    )


def tell_points(operating: Operating | None) -> list[schemas.Point]:
    """Tell the operating points of studies, and what each means."""
    if operating is None:
        return []
    told = []
    for name, points in operating.points[_LEVEL].items():
        point = points[_ANY]
        told.append(
            schemas.Point(
                name=name,
                meaning=POINTS[name],
                threshold=point.threshold,
                sensitivity=point.sensitivity,
                specificity=point.specificity,
                patients=operating.validation_patients,
                positives=point.positives,
                negatives=point.negatives,
                slice_threshold=operating.points["slices"][name][_ANY].threshold,
            )
        )
    return told


def choose_point(operating: Operating | None, point: str | None) -> str:
    """Name the operating point that is meant.

    Raises
    ------
    Problem
        422 where the model has none of that name.
    """
    try:
        return name_point(operating, point)
    except HemtraceError:
        raise Problem(
            422, "The model has no operating point of that name; /api/v1/model lists them."
        ) from None


def tell_job(job: Job, settings: Settings, predictor: Predictor, point: str | None) -> schemas.Job:
    """Tell all of a job that is done at an operating point.

    Raises
    ------
    Problem
        As `choose_point`.
    """
    result: Result = job.result
    name = choose_point(predictor.operating, point)
    with job.making(f"answer {name}"):
        if name not in result.told:
            result.told[name] = schemas.Job.early(job, settings.keep_minutes).model_copy(
                update={
                    "state": "done",
                    "point": name,
                    "studies": _tell_studies(result, predictor, name),
                    "rejected": [_tell_rejected(one) for one in result.rejected],
                }
            )
        return result.told[name]


def judge_studies(result: Result, predictor: Predictor, point: str) -> list[StudyPrediction]:
    """Judge the studies of a job at a point, in the order in which they are told."""
    return [rejudge(one, predictor.operating, point or None) for one in result.prediction.studies]


def find_series(result: Result, number: int) -> SeriesPrediction:
    """Find a series by its number in the answer.

    Raises
    ------
    Problem
        404 where there is none.
    """
    every = [series for study in result.prediction.studies for series in study.series]
    if number >= len(every):
        raise Problem(404, "The study has no series of that number.")
    return every[number]


def has_heat(series: SeriesPrediction) -> bool:
    """Say whether any slice of a series has a heat map."""
    return any(one.cells is not None for one in series.slices)


def _tell_rejected(one: RejectedFile) -> schemas.Rejected:
    meaning = _MEANINGS.get(one.reason, one.meaning)
    told = f"{meaning} ({one.detail})" if one.detail else meaning
    return schemas.Rejected(file=one.file, frame=one.frame, reason=one.reason, meaning=told)


def _tell_studies(result: Result, predictor: Predictor, point: str) -> list[schemas.Study]:
    thresholds = slice_thresholds(predictor.operating, point or None)
    told: list[schemas.Study] = []
    number = 0
    for study in judge_studies(result, predictor, point):
        bleeds = study.verdict.answer == "bleed"
        series = []
        for one in study.series:
            paint = predictor.settings.map_threshold if bleeds and one.chosen else None
            series.append(_tell_series(one, number, thresholds, paint))
            number += 1
        identity = study.identity or Identity()
        told.append(
            schemas.Study(
                key=study.key,
                patient_name=identity.patient_name,
                patient_id=identity.patient_id,
                study_date=identity.study_date,
                description=identity.study_description,
                verdict=schemas.Verdict(**_verdict(study)),
                series=series,
            )
        )
    return told


def _verdict(study: StudyPrediction) -> dict[str, object]:
    told = study.verdict.as_dict()
    told["reasons"] = [schemas.Reason(**asdict(reason)) for reason in study.verdict.reasons]
    return told


def _tell_series(
    series: SeriesPrediction,
    number: int,
    thresholds: Mapping[str, float | None],
    map_threshold: float | None,
) -> schemas.Series:
    """Tell a series; its regions only with a threshold for maps, that is where a bleed is found."""
    identity = next((one.identity for one in series.slices if one.identity is not None), None)
    shape = volume_shape(series)[1:] if series.slices else (0, 0)
    slices = [
        _tell_slice(one, place, thresholds, map_threshold, shape)
        for place, one in enumerate(series.slices)
    ]
    return schemas.Series(
        number=number,
        description=identity.series_description if identity else "",
        chosen=series.chosen,
        slices=slices,
        copies=len(series.copies),
        volume_ml=dict.fromkeys(LABELS) if map_threshold is None else _measure(series, slices),
        has_heat=has_heat(series),
        orientation=tell_orientation(series),
    )


def _measure(series: SeriesPrediction, told: list[schemas.Slice]) -> dict[str, float | None]:
    """Sum regions that are told to volumes, as `predict.regions.measure_volumes` would.

    That would cut every region a second time.
    """
    z_mm = np.array([np.nan if one.z_mm is None else one.z_mm for one in series.slices], float)
    distances = slice_distances(z_mm).tolist()
    volumes = {}
    for label in LABELS:
        areas = [_sum_areas(own, one, label) for own, one in zip(series.slices, told, strict=True)]
        volumes[label] = volume_ml(areas, distances)
    return volumes


def _sum_areas(own: SlicePrediction, told: schemas.Slice, label: str) -> float:
    """Sum the regions of a label on a slice, mm2; NaN where they are unknown."""
    if not told.flagged[label]:
        return 0.0
    areas = [region.area_mm2 for region in told.regions[label]]
    if own.cells is None or None in areas:
        return math.nan
    return float(sum(area for area in areas if area is not None))


def _tell_slice(
    one: SlicePrediction,
    place: int,
    thresholds: Mapping[str, float | None],
    map_threshold: float | None,
    shape: tuple[int, ...],
) -> schemas.Slice:
    flags = flag_slice(one, dict(thresholds))
    regions = {}
    if map_threshold is not None:
        regions = {
            label: _tell_regions(one, column, map_threshold, shape)
            for column, label in enumerate(LABELS)
            if flags[label]
        }
    return schemas.Slice(
        place=place,
        file=one.file,
        frame=one.frame,
        z_mm=one.z_mm,
        probabilities=one.by_label(),
        flagged={
            label: flags[label] if thresholds[label] is not None else None for label in LABELS
        },
        regions=regions,
    )


def _tell_regions(
    one: SlicePrediction, label: int, threshold: float, shape: tuple[int, ...]
) -> list[schemas.Region]:
    """Tell the regions of a slice, moved as the slice is where the volume has another shape."""
    down, across = (
        (want - have) // 2 if want >= have else -((have - want) // 2)
        for have, want in zip(one.shape, shape, strict=True)
    )
    return [
        schemas.Region(
            top=region.top + down,
            left=region.left + across,
            bottom=region.bottom + down,
            right=region.right + across,
            area_mm2=None if region.area_mm2 is None else round(region.area_mm2, 1),
            outline=[
                (round(float(row) + down, 1), round(float(column) + across, 1))
                for row, column in region.outline
            ],
        )
        for region in regions_of(one, label, threshold)
    ]
