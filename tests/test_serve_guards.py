"""Who may ask, what a browser may do with the answer, and what never leaves the server."""

import logging
import re
import shutil
import time
from pathlib import Path

import pytest
from serving import (
    API,
    HEADERS,
    follow,
    make_model,
    make_settings,
    make_study,
    predict,
    send,
)
from starlette.testclient import TestClient

from hemtrace.errors import HemtraceError
from hemtrace.serve import create_app
from hemtrace.serve.settings import SHORTEST_TOKEN, choose_hosts, choose_token, is_loopback
from hemtrace.serve.store import Store, wipe_leftovers

TOKEN = "a-token-that-is-long-enough"
PAGE = Path(__file__).parents[1] / "src/hemtrace/serve/page"
HTML_NAME = '<img src=x onerror="alert(1)">&"\'</title><script>alert(2)</script>'


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def client(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    with TestClient(create_app(make_settings(model, folder))) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded")
    with TestClient(create_app(make_settings(model, folder, token=TOKEN, hosts=()))) as client:
        yield client


# Who may ask --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize("headers", [{}, {"X-Hemtrace": "0"}])
def test_unsafe_methods_need_a_header_that_no_other_site_can_send(client, method, headers):
    answer = client.request(method, f"{API}/studies/sample", headers=headers)
    assert answer.status_code == 403
    assert "X-Hemtrace" in answer.json()["detail"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_of_other_sites_get_nothing(client, method, site):
    headers = HEADERS | {"Sec-Fetch-Site": site}
    assert client.request(method, f"{API}/model", headers=headers).status_code == 403


def test_another_origin_is_refused_even_with_the_header(client):
    headers = HEADERS | {"Origin": "https://evil.example"}
    assert client.post(f"{API}/studies/sample", headers=headers).status_code == 403
    headers = HEADERS | {"Origin": "http://testserver"}
    assert client.delete(f"{API}/studies/x", headers=headers).status_code == 404


def test_no_answer_lets_another_site_read_it(client):
    answer = client.get(f"{API}/model", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    preflight = client.options(f"{API}/studies", headers={"Origin": "https://evil.example"})
    assert preflight.status_code == 405


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8000", "", "[::2]"]
)
@pytest.mark.parametrize("path", ["/", "/page/main.js", f"{API}/model", f"{API}/health"])
def test_a_name_that_was_made_to_lead_here_gets_nothing(client, host, path):
    """DNS rebinding: the browser takes a stranger's page for this server's own."""
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 400
    assert "--allowed-host" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "LOCALHOST.:80"])
def test_its_own_names_are_known_with_any_port(client, host):
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer \u00e9".encode()},
    ],
)
def test_without_the_token_the_api_tells_nothing(guarded, headers):
    for method, path in (("GET", "/model"), ("GET", "/openapi.json"), ("POST", "/studies/sample")):
        answer = guarded.request(method, API + path, headers=HEADERS | headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert guarded.get(f"{API}/health").status_code == 200
    assert guarded.get("/").status_code == 200


def test_with_the_token_it_answers_under_any_name(guarded):
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": "scanner.hospital.example"}
    assert guarded.get(f"{API}/model", headers=headers).status_code == 200


def test_studies_are_found_by_their_id_alone_and_never_listed(client):
    first, second = (send(client, {"a": b"x"}).json()["id"] for _ in range(2))
    assert len({first, second}) == 2
    assert client.get(f"{API}/studies").status_code == 405
    shapes = set()
    for unknown in ("x", first[:-1] + "_", "..", "%2e%2e", "a" * 5000, first.swapcase()):
        for path in ("", "/events", "/table.csv", "/previews/0.png", "/series/0/volume.nii"):
            answer = client.get(f"{API}/studies/{unknown}{path}")
            assert answer.status_code == 404
            if "study" in answer.text:
                shapes.add((answer.text, tuple(sorted(answer.headers))))
    assert len(shapes) == 1, "an unknown id must not be told from one that expired"
    for study_id in (first, second):
        assert study_id not in client.get(f"{API}/model").text
        client.delete(f"{API}/studies/{study_id}", headers=HEADERS)


# What a browser may do ----------------------------------------------------------------------------


def test_every_answer_carries_the_headers_that_keep_a_browser_safe(client):
    for path in ("/", "/page/style.css", "/nowhere", f"{API}/model", f"{API}/studies/x"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "http:" not in policy
        assert "https:" not in policy
        if path.startswith(API):
            assert headers["cache-control"] == "no-store"


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere():
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"<script(?![^>]*\bsrc=)", html)
    assert not re.findall(r"\son\w+=", html)
    assert not re.findall(r"\sstyle=", html)
    assert "<style" not in html
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", html)


def test_the_page_cannot_be_left_for_other_files_of_the_disk(client):
    for path in (
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/..%2fapp.py",
        "/page//etc/passwd",
    ):
        assert client.get(path).status_code in (404, 400)


def test_a_name_made_of_html_stays_text(client):
    job = predict(
        client,
        make_study(
            8, PatientName=HTML_NAME, PatientID=HTML_NAME[:60], SeriesDescription=HTML_NAME[:60]
        ),
    )
    assert job["studies"][0]["patient_name"].startswith("<img src=x")
    page = client.get(f"{API}/studies/{job['id']}/summary.html").text
    assert "<img src=x" not in page
    assert "<script" not in page
    assert "&lt;img src=x onerror=" in page
    for path in ("", "/table.csv", "/summary.html"):
        headers = client.get(f"{API}/studies/{job['id']}{path}").headers
        assert headers["x-content-type-options"] == "nosniff"
    assert client.get(f"{API}/studies/{job['id']}/results.dcm.zip").status_code == 200


# What never leaves --------------------------------------------------------------------------------


def test_logs_hold_no_name_no_uid_no_file_no_id_and_no_token(guarded, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    for name in ("hemtrace", "hemtrace.serve", "pydicom", "highdicom"):
        logging.getLogger(name).propagate = True
    files = {
        f"SECRETFILE-{name}": content
        for name, content in make_study(
            8,
            uid="1.2.777.888",
            PatientName="SECRETNAME^X",
            PatientID="SECRETID",
            AccessionNumber="SECRETACCESSION",
            StudyDescription="SECRETWORDS",
        ).items()
    }
    files["SECRETFILE-bad"] = b"no dicom"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    study_id = send(guarded, files, headers=headers).json()["id"]
    assert follow(guarded, study_id, headers=headers)[-1][0] == "done"
    for path in ("", "/table.csv", "/summary.html", "/results.dcm.zip", "/series/0/volume.nii"):
        assert guarded.get(f"{API}/studies/{study_id}{path}", headers=headers).status_code == 200
    guarded.get(f"{API}/studies/{study_id}?point=SECRETPOINT", headers=headers)
    guarded.get("/SECRETPATH")
    guarded.delete(f"{API}/studies/{study_id}", headers=HEADERS | headers)
    # The test client is a sender, which may know what it sends.
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    written = "\n".join(ours) + "".join(capfd.readouterr())
    assert "GET /api/v1/studies/{study_id}" in written
    for secret in ("SECRET", "1.2.777.888", study_id, TOKEN):
        assert secret not in written


def test_an_error_of_its_own_is_answered_and_logged_without_its_words(client, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "hemtrace.serve")

    def fail(job_id):
        raise RuntimeError("SECRETNAME")

    monkeypatch.setattr(client.app.state.service.jobs, "find", fail)
    answer = client.get(f"{API}/studies/x")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "SECRETNAME" not in answer.text + caplog.text
    assert "defect: RuntimeError at test_serve_guards.py" in caplog.text


def test_a_failed_prediction_is_a_sentence_and_the_next_study_is_predicted(client, monkeypatch):
    def fail(job):
        raise ValueError("SECRETNAME")

    with monkeypatch.context() as patch:
        patch.setattr(client.app.state.service.jobs, "_work", fail)
        study_id = send(client, {"a": b"x"}).json()["id"]
        name, data = follow(client, study_id)[-1]
    assert name == "failed"
    assert "SECRETNAME" not in data
    told = client.get(f"{API}/studies/{study_id}").json()
    assert told["state"] == "failed"
    assert "error of its own" in told["problem"]
    assert client.get(f"{API}/studies/{study_id}/table.csv").status_code == 409
    assert predict(client, {"a": b"x"})["state"] == "done"


# Wiping -------------------------------------------------------------------------------------------


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


def wait_until_wiped(folder):
    until = time.monotonic() + 30
    while files_below(folder) and time.monotonic() < until:
        time.sleep(0.1)
    assert not files_below(folder)


def test_folders_are_private_and_deletion_wipes_at_once(model, tmp_path):
    with TestClient(create_app(make_settings(model, tmp_path))) as client:
        job = predict(client, make_study(8))
        client.get(f"{API}/studies/{job['id']}/series/0/volume.nii")
        assert files_below(tmp_path)
        for path in tmp_path.rglob("*"):
            if path.is_dir():
                assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0
        assert all(
            "Doe" not in str(path) and "slice" not in path.name for path in files_below(tmp_path)
        )
        assert client.delete(f"{API}/studies/{job['id']}", headers=HEADERS).status_code == 204
        assert not files_below(tmp_path)
        assert client.get(f"{API}/studies/{job['id']}").status_code == 404
        predict(client, make_study(8))
    assert not list(tmp_path.iterdir()), "the end of the server wipes everything"


def test_a_study_that_is_deleted_at_work_stops_and_leaves_nothing(model, tmp_path):
    with TestClient(create_app(make_settings(model, tmp_path))) as client:
        study_id = send(client, {str(n): b"no dicom" for n in range(400)}).json()["id"]
        while client.get(f"{API}/studies/{study_id}").json()["progress"]["read"] < 3:
            time.sleep(0.02)
        job = client.app.state.service.jobs.find(study_id)
        assert client.delete(f"{API}/studies/{study_id}", headers=HEADERS).status_code == 204
        time.sleep(0.5)
        assert job.read < 400
        assert not files_below(tmp_path)


def test_a_study_that_is_deleted_while_something_is_made_of_it_is_gone(model, tmp_path):
    with TestClient(create_app(make_settings(model, tmp_path))) as client:
        study_id = predict(client, make_study(8))["id"]
        job = client.app.state.service.jobs.find(study_id)
        # As if the deletion came between finding the study and reading its pixels.
        job.cancel()
        job.result.pixels.close()
        for path in ("/series/0/volume.nii", "/summary.html"):
            assert client.get(f"{API}/studies/{study_id}{path}").status_code == 404


def test_studies_that_nobody_looks_at_expire(model, tmp_path):
    with TestClient(create_app(make_settings(model, tmp_path, keep_minutes=0.01))) as client:
        study_id = predict(client, make_study(8))["id"]
        wait_until_wiped(tmp_path)
        assert client.get(f"{API}/studies/{study_id}").status_code == 404


def test_what_cannot_be_wiped_is_logged_and_tried_again(model, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "hemtrace.serve")
    with TestClient(create_app(make_settings(model, tmp_path, keep_minutes=0.5))) as client:
        study_id = predict(client, {"SECRETFILE": b"no dicom"})["id"]
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", lambda path, **options: None)
            assert client.delete(f"{API}/studies/{study_id}", headers=HEADERS).status_code == 204
            assert files_below(tmp_path)
            store = client.app.state.service.store
            assert store.wipe_again() == 0
            assert files_below(tmp_path), "still there, and still remembered"
        (told,) = [one for one in caplog.messages if "could not be wiped;" in one]
        assert not re.search(r"SECRET|\d", told)
        assert study_id not in caplog.text
        until = time.monotonic() + 30
        said = "wiped 1 folders that could not be wiped before"
        while said not in caplog.messages and time.monotonic() < until:
            time.sleep(0.1)
        assert said in caplog.messages
        assert not files_below(tmp_path)
        assert store.wipe_again() == 0, "and forgotten"


def test_a_folder_that_cannot_even_be_looked_at_does_not_count_as_wiped(tmp_path, monkeypatch):
    store = Store(tmp_path)
    folder = store.create_folder()

    def refuse(path, **options):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        patch.setattr(type(folder), "lstat", refuse)
        store.wipe_folder(folder)
        assert store.wipe_again() == 0
    assert store.wipe_again() == 1
    assert not folder.exists()
    store.close()


def test_a_new_server_wipes_what_a_killed_one_left_and_nothing_else(tmp_path):
    alive = Store(tmp_path)
    (alive.create_folder() / "pixels").write_bytes(b"mine")
    dead = tmp_path / "hemtrace-serve-dead"
    (dead / "000001").mkdir(parents=True)
    (dead / "lock").touch()
    (dead / "000001" / "pixels").write_bytes(b"left")
    other = tmp_path / "hemtrace-serve-link"
    other.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    assert wipe_leftovers(tmp_path) == 1
    assert not dead.exists()
    assert (alive.folder / "000001" / "pixels").exists()
    assert (tmp_path / "elsewhere").exists()
    alive.close()
    assert not alive.folder.exists()


# What a server refuses to start with --------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("pacs", False)],
)
def test_loopback_is_known(host, loopback):
    assert is_loopback(host) is loopback


def test_others_reach_the_server_only_with_a_token_or_behind_a_proxy():
    with pytest.raises(HemtraceError, match="--token-file"):
        choose_hosts("0.0.0.0", (), None, behind_proxy=False)
    with pytest.raises(HemtraceError, match="--allowed-host"):
        choose_hosts("127.0.0.1", (), None, behind_proxy=True)
    assert choose_hosts("0.0.0.0", (), TOKEN, behind_proxy=False) == ()
    assert choose_hosts("0.0.0.0", ("ct.example",), None, behind_proxy=True) == ("ct.example",)
    assert "localhost" in choose_hosts("127.0.0.1", (), None, behind_proxy=False)


def test_a_token_that_can_be_guessed_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "token"
    path.write_text("x" * (SHORTEST_TOKEN - 1) + "\n")
    with pytest.raises(HemtraceError, match="can be guessed"):
        choose_token(path)
    path.write_text(TOKEN + "\n")
    assert choose_token(path) == TOKEN
    with pytest.raises(HemtraceError, match="cannot be read"):
        choose_token(tmp_path / "missing")
    assert choose_token(None) is None
    monkeypatch.setenv("HEMTRACE_TOKEN", TOKEN)
    assert choose_token(None) == TOKEN
