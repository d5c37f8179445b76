"""The API from an upload to its verdict and exports, and that it predicts as the pipeline does."""

import csv
import io
import json
import struct
import threading
import zipfile
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import make_dataset, small_head
from held import SPEC
from serving import (
    API,
    FLAGGED,
    HEADERS,
    as_parts,
    encode,
    follow,
    make_model,
    make_settings,
    make_study,
    make_zip,
    predict,
    send,
)
from starlette.testclient import TestClient
from typer.testing import CliRunner

from hemtrace.cli import app as cli
from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader
from hemtrace.engine.maps import GradientMaps
from hemtrace.evaluate.operating import POINTS, read_operating
from hemtrace.inference import predict_probabilities
from hemtrace.labels import LABELS
from hemtrace.model import load_model
from hemtrace.predict.tables import By
from hemtrace.provenance import file_digest
from hemtrace.serve import create_app
from hemtrace.serve.addresses import Label, PointName
from hemtrace.shards import make_pictures


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def client(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    with TestClient(create_app(make_settings(model, folder))) as client:
        yield client


@pytest.fixture(scope="module")
def study():
    return make_study()


@pytest.fixture(scope="module")
def job(client, study):
    return predict(client, study)


def get(client, job, path, **options):
    between = "" if path.startswith("?") or not path else "/"
    return client.get(f"{API}/studies/{job['id']}{between}{path}", **options)


def test_a_study_is_sent_followed_and_read(client, study):
    answer = send(client, study)
    assert answer.status_code == 202
    assert len(answer.json()["id"]) == 43
    events = follow(client, answer.json()["id"])
    names = [name for name, _ in events]
    assert names.count("slice") == len(study)
    assert names[-1] == "done"
    progress = [json.loads(data) for name, data in events if name == "progress"]
    # The tiny network's maps take gradients, and its default point flags every slice.
    wanted = {"files": 10, "read": 10, "predicted": 10, "mapped": 10, "maps": 10}
    assert progress[-1] == wanted
    assert all(one["mapped"] == 0 for one in progress if one["predicted"] < 10)
    first = json.loads(next(data for name, data in events if name == "slice"))
    shown = client.get(first["preview"])
    assert shown.headers["content-type"] == "image/png"
    assert shown.content.startswith(b"\x89PNG")


def test_the_first_map_that_takes_gradients_is_made_before_a_study_comes(
    model, tmp_path, monkeypatch
):
    made = threading.Event()
    make = GradientMaps.make

    def tell(*given):
        maps = make(*given)
        made.set()
        return maps

    monkeypatch.setattr(GradientMaps, "make", tell)
    with TestClient(create_app(make_settings(model, tmp_path))):
        assert made.wait(60)


def test_a_wrong_point_is_told_with_those_that_there_are(client, job):
    answer = get(client, job, "?point=SECRET")
    assert answer.status_code == 422
    told = answer.json()["detail"]
    assert "query.point (known are 'rule-out', 'rule-in' or 'balanced')" in told
    assert "SECRET" not in told


def test_the_answer_tells_study_series_slices_and_verdict(job, study):
    (told,) = job["studies"]
    assert (told["patient_name"], told["patient_id"]) == ("Doe^Jane", "P-1")
    assert told["study_date"] == "20240131"
    verdict = told["verdict"]
    assert (verdict["answer"], verdict["point"]) == ("bleed", "balanced")
    assert "Research use only" in verdict["sentence"]
    (series,) = told["series"]
    assert series["chosen"]
    assert [one["file"] for one in series["slices"]] == sorted(study)
    assert [one["z_mm"] for one in series["slices"]] == [10.0 * n for n in range(10)]
    for one in series["slices"]:
        assert one["flagged"] == {label: label in FLAGGED for label in LABELS}
        assert set(one["regions"]) == set(FLAGGED)
        for region in one["regions"]["any"]:
            rows, columns = np.array(region["outline"]).T
            assert region["top"] <= rows.min() <= rows.max() <= region["bottom"]
            assert region["left"] <= columns.min() <= columns.max() <= region["right"]
            assert region["area_mm2"] > 0
    assert series["volume_ml"]["any"] > 0


def test_the_volume_of_regions_is_area_times_distance(job):
    (series,) = job["studies"][0]["series"]
    area = sum(r["area_mm2"] for one in series["slices"] for r in one["regions"]["any"])
    assert series["volume_ml"]["any"] == pytest.approx(area * 10 / 1000, rel=1e-3)


def test_another_point_is_another_verdict_on_the_same_probabilities(client, job):
    other = get(client, job, "?point=rule-in").json()
    study = other["studies"][0]
    assert (other["point"], study["verdict"]["answer"]) == ("rule-in", "no-bleed")
    old, new = (one["studies"][0]["series"][0]["slices"] for one in (job, other))
    assert [one["probabilities"] for one in old] == [one["probabilities"] for one in new]
    assert not any(any(one["flagged"].values()) for one in new)
    assert all(not one["regions"] for one in new), "where no bleed is found nothing is painted"
    assert set(study["series"][0]["volume_ml"].values()) == {None}


def test_app_and_pipeline_give_the_same_probabilities(client, model, study, tmp_path):
    zipped = {"study.zip": make_zip(study)}
    for sent in (study, zipped):
        series = predict(client, sent)["studies"][0]["series"][0]
        app = [[one["probabilities"][label] for label in LABELS] for one in series["slices"]]
        for name, content in study.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
        net, spec = load_model(model)
        operating = read_operating(model.with_name("operating.json"), file_digest(model))
        with GuardedReader(tmp_path, PUBLIC_SALT) as reader:
            pictures = make_pictures(reader.read, sorted(study), spec.view, PUBLIC_SALT, quiet=True)
            raw = predict_probabilities(net, [p for _, p in pictures], quiet=True)
        np.testing.assert_allclose(app, operating.calibration.transform(raw), atol=1e-6)


def test_the_volume_holds_the_units_of_the_files(client, job, study):
    answer = get(client, job, "series/0/volume.nii")
    shape = struct.unpack_from("<8h", answer.content, 40)
    assert shape[:4] == (3, 256, 256, 10)
    assert struct.unpack_from("<4f", answer.content, 76)[1:] == pytest.approx((0.9766, 0.9766, 10))
    volume = np.frombuffer(answer.content, "<i2", offset=352).reshape(10, 256, 256)
    for number, name in enumerate(sorted(study)):
        dataset = pydicom.dcmread(io.BytesIO(study[name]))
        hu = pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset)
        np.testing.assert_array_equal(volume[number], hu)


def turn(client, job, orientations):
    """Make of a job's slices those of other orientations, in turn."""
    result = client.app.state.service.jobs.find(job["id"]).result
    (study,) = result.prediction.studies
    (series,) = study.series
    turned = tuple(
        replace(one, facts=dict(one.facts) | {"orientation": told})
        for one, told in zip(series.slices, cycle(orientations), strict=False)
    )
    study = replace(study, series=(replace(series, slices=turned),))
    result.prediction = replace(result.prediction, studies=(study,))
    result.told.clear()


@pytest.mark.parametrize(
    ("orientations", "told", "left", "code"),
    [
        (("LP",), "LP", "patient's right, at the top his front", 1),
        (("RA",), "RA", "patient's left, at the top his back", 0),
        (("RP",), "RP", "patient's left, at the top his front", 0),
        (("LF",), "LF", "patient's right, at the top his head", 0),
        ((None,), None, "Side unknown", 0),
        (("LP", "RP"), None, "Side unknown", 0),
        (("LR",), None, "Side unknown", 0),
        (("<b>",), None, "Side unknown", 0),
    ],
)
def test_sides_are_those_of_the_header_or_unknown(client, study, orientations, told, left, code):
    job = predict(client, study)
    turn(client, job, orientations)
    (answer,) = get(client, job, "").json()["studies"]
    assert answer["series"][0]["orientation"] == told
    assert left in get(client, job, "summary.html").text.replace("&#39;", "'")
    # Who takes the volume elsewhere must not take a side of the screen for the patient's.
    volume = get(client, job, "series/0/volume.nii").content
    assert struct.unpack_from("<2h", volume, 252) == (0, code)


@pytest.mark.parametrize(
    ("directions", "told"),
    [
        ([1, 0, 0, 0, 1, 0], "LP"),
        ([1, 0, 0, 0, 0.94, -0.34], "LP"),
        ([-1, 0, 0, 0, -1, 0], "RA"),
        ([-1, 0, 0, 0, 1, 0], "RP"),
        (None, None),
    ],
)
def test_the_header_tells_the_sides(client, directions, told):
    job = predict(client, make_study(8, ImageOrientationPatient=directions))
    assert job["studies"][0]["series"][0]["orientation"] == told


def test_heat_maps_reach_their_peak_on_each_slice_within_the_square(client, job):
    answer = get(client, job, "series/0/heat/any.nii")
    heat = np.frombuffer(answer.content, np.uint8, offset=352).reshape(10, 256, 256)
    assert set(heat.max(axis=(1, 2))) == {255}
    # Outlines are those of half the peak.
    (region, *_) = job["studies"][0]["series"][0]["slices"][4]["regions"]["any"]
    inside = heat[4, region["top"] : region["bottom"], region["left"] : region["right"]]
    assert inside.max() >= 128


def test_slices_of_another_shape_move_into_the_volume_with_their_regions(client):
    files = make_study(9)
    odd = make_dataset(
        np.pad(small_head(99, 256), ((20, 20), (20, 20))),
        PatientID="P-1",
        StudyInstanceUID="1.2.3.4",
        SeriesInstanceUID="1.2.3.4.1",
        SOPInstanceUID="1.2.3.4.1.77",
        SliceThickness=10.0,
        PixelSpacing=[0.9766, 0.9766],
        ImagePositionPatient=[-125.0, -125.0, 90.0],
    )
    job = predict(client, files | {"scan/odd.dcm": encode(odd)})
    volume = get(client, job, "series/0/volume.nii").content
    assert struct.unpack_from("<8h", volume, 40)[:4] == (3, 256, 256, 10)
    last = np.frombuffer(volume, "<i2", offset=352).reshape(10, 256, 256)[9]
    np.testing.assert_array_equal(last, small_head(99, 256) - 1024)
    regions = job["studies"][0]["series"][0]["slices"][9]["regions"]["any"]
    assert regions
    assert all(0 <= r["top"] < r["bottom"] <= 256 for r in regions)


def test_the_table_has_a_row_a_slice_and_a_row_a_lost_file(client):
    job = predict(client, make_study(8) | {"=cmd()|x": b"no dicom"})
    text = get(client, job, "table.csv").text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 9
    assert float(rows[0]["p_any"]) == pytest.approx(
        job["studies"][0]["series"][0]["slices"][0]["probabilities"]["any"]
    )
    assert rows[0]["flagged_any"] == "1"
    assert rows[0]["study_answer"] == job["studies"][0]["verdict"]["answer"]
    assert rows[8]["file"] == "'=cmd()|x", "a spreadsheet must not take it for a formula"
    assert "no DICOM" in rows[8]["reason"]
    assert "Doe" not in text
    told = client.get(f"{API}/model").json()
    by = By("balanced", told["name"], told["sha256"], synthetic=True)
    assert "Research use only" in by.note
    assert len({tuple(row[name] for name in by.row()) for row in rows}) == 1, "in every row"
    assert {name: rows[0][name] for name in by.row()} == {
        name: "true" if value is True else value for name, value in by.row().items()
    }


def test_the_summary_is_one_page_without_script_that_says_what_it_is(client, job):
    answer = get(client, job, "summary.html")
    page = answer.text
    for said in (
        "Research use only",
        "SYNTHETIC",
        "Bleed suspected",
        "Doe, Jane",
        "P-1",
        "2024-01-31",
        SPEC.network.architecture,
        "95 % interval",
        "on which the point was chosen",
        "computer-made",
    ):
        assert said in page
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == 3
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


def test_figures_without_a_bleed_carry_a_caveat_in_the_summary(client, job):
    page = get(client, job, "summary.html").text
    assert "Bleed found" not in page
    assert 'class="caveat"' not in page
    short = predict(client, make_study(3))
    assert short["studies"][0]["verdict"]["answer"] == "no-answer"
    page = get(client, short, "summary.html").text
    assert '<p class="caveat">No answer is given: these figures decide nothing.</p>' in page
    assert page.index('class="caveat"') < page.index("<table>"), "it is read before the figures"
    assert page.count("has 3 slices; a head CT has 8 or more") == 1


def test_flagged_slices_of_a_study_below_its_threshold_carry_a_caveat(client, job, monkeypatch):
    operating = client.app.state.service.ready.result().operating
    at = operating.points["slices"]["rule-in"]
    monkeypatch.setitem(at, "any", at["any"].model_copy(update={"threshold": 0.1}))
    client.app.state.service.jobs.find(job["id"]).result.told.clear()
    assert get(client, job, "?point=rule-in").json()["studies"][0]["verdict"]["answer"] == (
        "no-bleed"
    )
    page = get(client, job, "summary.html?point=rule-in").text
    client.app.state.service.jobs.find(job["id"]).result.told.clear()
    said = "10 slices alone would be flagged; the study as a whole is below its threshold."
    assert f'<p class="caveat">{said}</p>' in page


def test_the_style_of_the_summary_is_the_one_that_its_policy_allows(client, job):
    import base64
    import hashlib
    import re

    answer = get(client, job, "summary.html")
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.S)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]
    assert "style=" not in answer.text


def test_results_are_dicom_objects_of_the_same_patient(client, job):
    answer = get(client, job, "results.dcm.zip")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        made = [pydicom.dcmread(io.BytesIO(packed.read(name))) for name in packed.namelist()]
    assert [one.Modality for one in made] == ["SR", "OT"]
    assert {str(one.PatientName) for one in made} == {"Doe^Jane"}
    assert {one.StudyInstanceUID for one in made} == {"1.2.3.4"}


def test_no_results_are_a_sentence_where_nothing_was_predicted(client):
    job = predict(client, {"a.txt": b"nothing"})
    assert job["studies"] == []
    assert job["rejected"][0]["reason"] == "not-dicom"
    answer = get(client, job, "results.dcm.zip")
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert "No DICOM results" in answer.json()["detail"]


def test_an_upload_may_hold_several_studies(client):
    files = make_study(8) | {
        f"other/{name}": content
        for name, content in make_study(8, seed=50, uid="1.2.9", PatientID="P-2").items()
    }
    job = predict(client, files)
    assert len(job["studies"]) == 2
    assert {one["patient_id"] for one in job["studies"]} == {"P-1", "P-2"}
    assert [s["number"] for one in job["studies"] for s in one["series"]] == [0, 1]
    for number in (0, 1):
        assert get(client, job, f"series/{number}/volume.nii").status_code == 200
    assert get(client, job, "series/2/volume.nii").status_code == 404
    rows = list(csv.DictReader(io.StringIO(get(client, job, "table.csv").text)))
    assert {row["study"] for row in rows} == {"1", "2"}
    packed = zipfile.ZipFile(io.BytesIO(get(client, job, "results.dcm.zip").content))
    assert {name.split("/")[0] for name in packed.namelist()} == {"study-1", "study-2"}


def test_compressed_and_multi_frame_files_are_read(client):
    from transcode import make_seeds

    job = predict(client, make_seeds())
    assert job["studies"], job["rejected"]


def test_the_sample_is_predicted_and_is_always_the_same(client):
    told = []
    for _ in range(2):
        answer = client.post(f"{API}/studies/sample", headers=HEADERS)
        study_id = answer.json()["id"]
        assert follow(client, study_id)[-1][0] == "done"
        job = client.get(f"{API}/studies/{study_id}").json()
        assert job["sample"]
        told.append(job["studies"][0]["series"][0]["slices"][12]["probabilities"])
        page = client.get(f"{API}/studies/{study_id}/summary.html").text
        assert "computer-made head, no patient" in page
    assert told[0] == told[1]


def test_the_model_is_told_with_its_points_and_what_it_was_trained_on(client):
    told = client.get(f"{API}/model").json()
    assert told["research_only"] is True
    assert told["synthetic"] is True
    assert "computer-made" in told["trained_on"]
    assert [one["name"] for one in told["points"]] == list(POINTS)
    assert told["points"][2]["patients"] == 40
    assert [one["name"] for one in told["windows"]] == [one.name for one in SPEC.windows]


def test_choices_in_addresses_are_those_of_the_library():
    from typing import get_args

    assert set(get_args(Label)) == set(LABELS)
    (literal, _) = get_args(get_args(PointName)[0])
    assert set(get_args(literal)) == set(POINTS)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/events",
        "/previews/0.png",
        "/series/0/volume.nii",
        "/series/0/heat/any.nii",
        "/table.csv",
        "/summary.html",
        "/results.dcm.zip",
    ],
)
def test_head_tells_what_get_would(client, job, path):
    address = f"{API}/studies/{job['id']}{path}"
    head = client.head(address)
    get = client.get(address)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/events":
        assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/studies/x", {"GET", "HEAD", "DELETE"}),
        ("GET", "/studies", {"POST"}),
        ("POST", "/model", {"GET", "HEAD"}),
        ("PATCH", "/studies/x/table.csv", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_answered_with_the_right_ones(client, method, path, allowed):
    answer = client.request(method, API + path, headers=HEADERS)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert answer.json()["status"] == 405


def test_openapi_is_complete_and_needs_nothing_from_elsewhere(client):
    told = client.get(f"{API}/openapi.json").json()
    assert "/api/v1/studies/{study_id}/events" in told["paths"]
    send_ = told["paths"]["/api/v1/studies"]["post"]
    assert "multipart/form-data" in send_["requestBody"]["content"]
    assert {"202", "401", "403", "408", "413", "415", "422", "429", "503"} <= set(
        send_["responses"]
    )
    references = {line for line in json.dumps(told).split('"') if line.startswith("#/")}
    for reference in references:
        _, _, kind, name = reference.split("/")
        assert name in told["components"][kind]
    assert client.get("/docs").status_code == 404
    assert client.get("/redoc").status_code == 404


def test_a_bad_file_never_stops_the_rest(client, study):
    bad = {"bad/empty.dcm": b"", "bad/noise.dcm": bytes(range(256)) * 40, "bad/note.txt": b"hi"}
    job = predict(client, study | bad)
    assert {one["file"] for one in job["rejected"]} == set(bad)
    assert len(job["studies"][0]["series"][0]["slices"]) == 10


def test_two_jobs_at_once_get_their_own_answers(client):
    ids = []
    for seed in (0, 100):
        parts = as_parts(make_study(8, seed=seed, uid=f"1.2.{seed + 1}"))
        ids.append(client.post(f"{API}/studies", files=parts, headers=HEADERS).json()["id"])
    told = []
    for study_id in ids:
        assert follow(client, study_id)[-1][0] == "done"
        told.append(client.get(f"{API}/studies/{study_id}").json())
    alone = predict(client, make_study(8, seed=100, uid="1.2.101"))
    first, second = (
        [one["probabilities"] for one in job["studies"][0]["series"][0]["slices"]]
        for job in (told[1], alone)
    )
    for here, there in zip(first, second, strict=True):
        assert here == pytest.approx(there, abs=1e-6)


def test_the_command_line_gives_what_the_app_gives(model, job, study, tmp_path):
    for name, content in study.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    table = tmp_path / "slices.csv"
    options = ["--model", str(model), "--out", str(table), "--runtime", "torch", "--threads", "1"]
    done = CliRunner().invoke(cli, ["predict", str(tmp_path / "scan"), *options])
    assert done.exit_code == 0, done.output
    rows = {Path(row["file"]).name: row for row in csv.DictReader(io.StringIO(table.read_text()))}
    for one in job["studies"][0]["series"][0]["slices"]:
        row = rows[Path(one["file"]).name]
        for label in LABELS:
            assert float(row[label]) == pytest.approx(one["probabilities"][label], abs=1e-6)
