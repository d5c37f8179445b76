"""When there is no answer, and what is said of it."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import read_hu
from predicting import BrightEngine, make_operating, make_scan, reader_of
from transcode import to_bytes

from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader
from hemtrace.predict.noise import measure_noise
from hemtrace.predict.refuse import is_uncertain, say_nothing_left
from hemtrace.predict.run import predict_studies
from hemtrace.predict.study import RejectedFile
from hemtrace.predict.verdict import judge

OPERATING = make_operating()


READER = GuardedReader(Path(), PUBLIC_SALT)


@pytest.fixture(scope="module", autouse=True)
def _one_child():
    """Parse all headers in one process: starting it takes longer than a test."""
    with READER:
        yield


def predict(files, operating=OPERATING):
    (study,) = predict_studies(
        reader_of(files),
        list(files),
        BrightEngine(),
        operating,
        identify=lambda name: READER.identify(files[name]),
    ).studies
    return study


def stops(study):
    return [one.code for one in study.verdict.reasons if one.stops]


def cautions(study):
    return [one.code for one in study.verdict.reasons if not one.stops]


def without(files, *places):
    return {name: one for n, (name, one) in enumerate(files.items()) if n not in places}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ConvolutionKernel": "BONE"}, "sharp-kernel"),
        ({"PixelSpacing": [1.2, 1.2]}, "spacing-out-of-range"),
        ({"ContrastBolusAgent": "Iohexol"}, "contrast"),
        ({"SeriesDescription": "CTA HEAD"}, "contrast-suspected"),
        ({"SliceThickness": 12}, "thickness-out-of-range"),
        ({"SliceThickness": 2}, "slices-apart"),
        ({"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]}, "turned"),
        ({"ImageOrientationPatient": [-1, 0, 0, 0, 1, 0]}, "turned"),
    ],
)
def test_a_scan_that_is_no_usual_head_ct_gets_no_answer(change, code):
    study = predict(make_scan(clots=(9,), **change))
    assert stops(study) == [code]
    assert study.verdict.answer == "no-answer"
    assert study.verdict.sentence.startswith("No answer, because ")
    assert 0.4 <= study.verdict.urgency <= 0.6


@pytest.mark.parametrize(
    ("lost", "codes"),
    [
        ((9,), ["slices-missing"]),
        ((5, 6, 12), ["slices-missing"]),
        (tuple(range(1, 20, 2)), ["slices-apart"]),
        (tuple(range(10, 20)), ["scan-too-short"]),
        (tuple(range(5, 20)), ["too-few-slices", "scan-too-short"]),
    ],
)
def test_a_scan_that_is_not_whole_gets_no_answer(lost, codes):
    assert stops(predict(without(make_scan(), *lost))) == codes


def test_slices_of_two_thicknesses_are_apart_by_their_own():
    thin, thick = make_scan(10, step_mm=4.0), make_scan(10, step_mm=8.0, name="up", seed=30)
    files = dict(thin)
    for number, (name, content) in enumerate(thick.items()):
        dataset = pydicom.dcmread(io.BytesIO(content))
        dataset.ImagePositionPatient = [-57, -57, 40 + 8.0 * number]
        dataset.SOPInstanceUID = f"1.2.3.1.{50 + number}"
        files[name] = to_bytes(dataset)
    assert stops(predict(files)) == []
    assert "slices-apart" in stops(predict(without(files, *range(1, 20, 2))))


def test_a_slice_that_cannot_be_read_could_be_the_one_with_the_bleed():
    files = make_scan()
    files["scan/009.dcm"] = files["scan/009.dcm"][:-5000]
    assert stops(predict(files)) == ["slices-unreadable"]


def test_damage_that_names_no_study_is_a_caution():
    study = predict(make_scan() | {"x.dcm": b"cut off"})
    assert (stops(study), "strays" in cautions(study)) == ([], True)
    assert "strays" not in cautions(predict(make_scan() | {"readme.txt": b"text"}))


@pytest.mark.parametrize(
    "words",
    ["HEAD WITHOUT CONTRAST", "CT HEAD W/O CONTRAST", "Schaedel nativ", "NON-CONTRAST HEAD",
     "ohne KM", "5mm", "sans injection", "HEAD W/O IV CONTRAST", "", "contrast: none",
     "CT HEAD POST CRANIOTOMY", "post coiling", "POST CVA", "POST OP", "head, 5mm, no contrast",
     "TETE SANS PRODUIT DE CONTRASTE", "CT brain plain", "unenhanced head"],
)  # fmt: skip
def test_descriptions_without_contrast_are_answered(words):
    assert stops(predict(make_scan(9, step_mm=10.0, SeriesDescription=words))) == []


@pytest.mark.parametrize(
    "words",
    ["CT ANGIO", "head with contrast", "C+ 5mm", "mit Kontrastmittel", "POST CONTRAST", "POST C",
     "HEAD W WO", "HEAD W/WO", "CTP", "HEAD ENHANCED", "arterial phase", "I+ 5mm",
     "Schaedel nativ und KM", "TDM sans injection puis avec injection",
     "W/O CONTRAST + CTA HEAD NECK", "CT head with and without contrast"],
)  # fmt: skip
def test_descriptions_with_contrast_are_not(words):
    scan = make_scan(9, step_mm=10.0, SeriesDescription=words)
    assert stops(predict(scan)) == ["contrast-suspected"]


def test_the_series_is_believed_before_the_study():
    scan = make_scan(
        SeriesDescription="without contrast", StudyDescription="CT head with and without contrast"
    )
    assert stops(predict(scan)) == []


def test_the_soft_series_is_judged_where_there_is_a_sharp_one_too():
    sharp = make_scan(name="sharp", SeriesInstanceUID="1.2.3.9", ConvolutionKernel="BONE")
    soft = make_scan(clots=(9,), ConvolutionKernel="SOFT")
    study = predict(sharp | soft)
    assert (stops(study), study.verdict.answer) == ([], "bleed")
    assert study.chosen.slices[0].file.startswith("scan/")
    assert [one.chosen for one in study.series] == [True, False]


def test_a_score_beside_the_threshold_is_not_called():
    files = make_scan(clots=(9,))
    score = predict(files).verdict.probability
    for odds, expected in ((1.2, ["uncertain"]), (1.3, [])):
        limit = score / (score + odds * (1 - score))
        assert stops(predict(files, make_operating(limit))) == expected


@pytest.mark.parametrize(
    ("score", "threshold", "expected"),
    [(0.5, 0.5, True), (0.55, 0.5, True), (0.56, 0.5, False), (0.0, 0.5, False), (1, 1, True)],
)
def test_the_uncertain_band_is_one_of_odds(score, threshold, expected):
    assert is_uncertain(score, threshold) is expected


def test_a_point_without_threshold_gives_no_answer_but_says_why():
    study = predict(make_scan(), make_operating(None))
    assert stops(study) == ["point-without-threshold"]
    assert "too few" in study.verdict.sentence


def test_no_number_is_no_answer():
    study = predict(make_scan())
    slices = list(study.chosen.slices)
    slices[3] = replace(slices[3], probabilities=np.full(6, np.nan))
    series = replace(study.chosen, slices=tuple(slices), scores=np.full(6, np.nan))
    verdict = judge([series], OPERATING)
    assert [one.code for one in verdict.reasons] == ["no-number"]
    assert verdict.as_dict()["probability"] is None


@pytest.mark.parametrize(
    ("reasons", "code"),
    [
        (["not-ct", "not-ct", "truncated"], "not-ct"),
        (["not-head", "not-ct", "not-head"], "not-head"),
        (["no-head"], "not-head"),
        (["truncated", "not-dicom"], "nothing-readable"),
        ([], "nothing-readable"),
    ],
)
def test_what_is_left_out_wholly_is_named_by_its_cause(reasons, code):
    found = say_nothing_left([RejectedFile("a", None, one, "") for one in reasons])
    assert (found.code, found.stops) == (code, True)


def test_what_is_usual_but_not_known_is_a_caution_only():
    files = make_scan(SliceThickness="", PixelSpacing=[0.9, 0.9])
    assert cautions(predict(files)) == ["familiarity-unknown"]
    thin = make_scan(60, step_mm=1.5)
    assert "thickness-unusual" in cautions(predict(thin))
    assert stops(predict(thin)) == []


def noisy(files, sigma):
    rng = np.random.default_rng(3)
    changed = {}
    for name, content in files.items():
        dataset = pydicom.dcmread(io.BytesIO(content))
        noise = rng.normal(0, sigma, dataset.pixel_array.shape)
        values = np.rint(dataset.pixel_array + noise).clip(0, 4000)
        dataset.PixelData = values.astype(dataset.pixel_array.dtype).tobytes()
        changed[name] = to_bytes(dataset)
    return changed


@pytest.mark.parametrize(("sigma", "codes"), [(0, []), (10, []), (40, ["noisy"])])
def test_noise_that_hides_a_bleed_gets_no_answer_whatever_the_header_says(sigma, codes):
    study = predict(noisy(make_scan(), sigma))
    assert [code for code in stops(study) if code == "noisy"] == codes
    if codes:
        assert "bone kernel or too little dose" in study.verdict.sentence


@pytest.mark.parametrize("sigma", [2, 10, 40])
def test_noise_is_the_standard_deviation_and_blind_to_edges(sigma):
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:256, :256]
    tissue = np.where(np.hypot(x - 128, y - 128) < 100, 35.0, -1000.0) + 8 * (x > 128)
    assert measure_noise(tissue + rng.normal(0, sigma, tissue.shape)) == pytest.approx(
        sigma, rel=0.08
    )


def test_noise_of_air_is_no_number():
    assert np.isnan(measure_noise(np.full((64, 64), -1000, np.int16)))


def test_the_noise_of_a_real_head_is_within_the_limit(ge_head):
    told = [measure_noise(read_hu(path)) for path in sorted(ge_head.glob("*.dcm"))]
    assert 0.5 < np.nanmedian(told) < 6
