"""A real server process: events as they happen, limits of time and memory, ends of every kind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager

import httpx2
import psutil
import pytest
from conftest import make_dataset, small_head
from serving import API, HEADERS, as_parts, encode, make_model, make_study, make_zip
from typer.testing import CliRunner

from hemtrace.cli import app as cli

# Started as the command line would, with small limits; what stands for a defect of a decoder is run
# by the child's interpreter as it starts.
PROGRAM = """
import sys
from pathlib import Path
from hemtrace.serve.run import run_server
from hemtrace.serve.settings import Limits, Settings
model, folder, port = sys.argv[1:4]
limits = Limits(**eval(sys.argv[4]))
settings = Settings(Path(model), folder=Path(folder), runtime="torch", threads=1, limits=limits)
run_server(settings, "127.0.0.1", int(port), lambda text: print(text, file=sys.stderr, flush=True))
"""
COMMAND = "from hemtrace.cli import app; app()"
DEFECT = """
import time, hemtrace.dicom.read as read
def strike(content, salt):
    if content.startswith(b"hang"): time.sleep(60)
    if content.startswith(b"grow"):
        rows = []
        while True: rows.append(bytearray(2**26))
    return healthy(content, salt)
healthy, read.read_bytes = read.read_bytes, strike
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@contextmanager
def serving(model, folder, limits=None, port=0, defect=None):
    """Run a server; gives the process and its address."""
    paths = [str(defect)] if defect else []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        str(model),
        str(folder),
        str(port),
        repr(limits or {}),
    ]
    log = folder.with_name(f"{folder.name}.log")
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream, env=environment)
    try:
        yield process, wait_for_address(process, log), log
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for_address(process, log):
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"at (http://\S+)/ ", log.read_text()):
            return found[1]
        time.sleep(0.05)
    pytest.fail(f"The server did not start: {log.read_text()}")


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    defect = tmp_path_factory.mktemp("defect")
    (defect / "sitecustomize.py").write_text(DEFECT)
    limits = {"seconds": 1.5, "read_seconds": 2, "read_memory_gb": 0.5, "streams": 3}
    with serving(model, folder, limits, defect=defect) as (process, address, log):
        with httpx2.Client(base_url=address, timeout=60) as client:
            client.get(f"{API}/model").raise_for_status()
        yield process, address, folder, log


@pytest.fixture
def client(server):
    with httpx2.Client(base_url=server[1], timeout=60) as client:
        yield client


def send(client, files):
    answer = client.post(f"{API}/studies", files=as_parts(files), headers=HEADERS)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def events(client, study_id):
    with client.stream("GET", f"{API}/studies/{study_id}/events") as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("event: "):
                yield line[7:]


def finish(client, study_id):
    assert list(events(client, study_id))[-1] == "done"
    return client.get(f"{API}/studies/{study_id}").json()


def test_events_come_while_the_study_is_at_work(client):
    study_id = send(client, make_study(60, 128))
    names = []
    for name in events(client, study_id):
        if not names:
            assert client.get(f"{API}/studies/{study_id}").json()["state"] != "done"
        names.append(name)
    assert names.count("slice") == 60
    assert names[-1] == "done"
    # Whoever comes late is told all of it.
    assert [one for one in events(client, study_id) if one != "progress"] == [
        one for one in names if one != "progress"
    ]


def test_a_decoder_that_hangs_or_fills_memory_costs_one_file(client, server):
    before = psutil.Process(server[0].pid).memory_info().rss
    study = make_study(8)
    job = finish(client, send(client, {"hang": b"hang" * 99, "grow": b"grow" * 99} | study))
    reasons = {one["file"]: one["reason"] for one in job["rejected"]}
    assert reasons == {"hang": "too-slow", "grow": "too-large"}
    assert len(job["studies"][0]["series"][0]["slices"]) == 8
    assert psutil.Process(server[0].pid).memory_info().rss < before + 2**28


def test_a_header_of_65535_by_65535_pixels_is_refused(client):
    dataset = make_dataset(small_head(0))
    dataset.Rows = dataset.Columns = 65_535
    huge = encode(dataset)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.5"  # RLE
    dataset.PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    dataset["PixelData"].is_undefined_length = True
    job = finish(client, send(client, {"plain": huge, "packed": encode(dataset)}))
    assert {one["reason"] for one in job["rejected"]} <= {"too-large", "truncated", "undecodable"}
    assert len(job["rejected"]) == 2


def test_an_upload_that_drips_is_ended(server):
    host, port = server[1].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        head = (
            f"POST {API}/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Hemtrace: 1\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n"
        )
        line.sendall(head.encode() + b"--x\r\n")
        answer = b""
        while piece := line.recv(4096):
            answer += piece
            if b'"detail"' in answer:
                break
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert b"longer than 1.5 seconds" in answer


def test_a_sender_who_goes_away_leaves_nothing(server):
    _, address, folder, _ = server
    host, port = address.removeprefix("http://").split(":")
    before = sorted(folder.glob("*/0*"))
    with socket.create_connection((host, int(port)), timeout=20) as line:
        head = (
            f"POST {API}/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Hemtrace: 1\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9000000\r\n\r\n"
            '--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        )
        line.sendall(head.encode() + bytes(3_000_000))
        time.sleep(0.3)
    until = time.monotonic() + 5
    while sorted(folder.glob("*/0*")) != before and time.monotonic() < until:
        time.sleep(0.05)
    assert sorted(folder.glob("*/0*")) == before


def test_followers_are_counted_and_their_places_come_back(client, server):
    study_id = send(client, {f"hang{n}": b"hang" * 99 for n in range(3)})
    answers = []

    def watch():
        with httpx2.Client(base_url=server[1], timeout=60) as other:
            path = f"{API}/studies/{study_id}/events"
            with other.stream("GET", path) as answer:
                answers.append(answer.status_code)
                for _ in answer.iter_lines():
                    pass

    threads = [threading.Thread(target=watch) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(answers) < 3:
        time.sleep(0.05)
    refused = client.get(f"{API}/studies/{study_id}/events")
    assert refused.status_code == 429
    client.delete(f"{API}/studies/{study_id}", headers=HEADERS)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive(), "deleting a study ends its events"
    time.sleep(0.2)
    assert finish(client, send(client, {"a": b"x"}))["state"] == "done"


def test_a_zip_bomb_is_refused_in_a_sentence_and_memory_stays(client, server):
    process = psutil.Process(server[0].pid)
    before = process.memory_info().rss
    bomb = make_zip({f"{n}.dcm": bytes(10**8) for n in range(4)})
    job = finish(client, send(client, {"bomb.zip": bomb}))
    assert all("100 times its size" in one["meaning"] for one in job["rejected"])
    assert process.memory_info().rss < before + 2**27


def test_connections_beyond_the_limit_are_refused_until_one_closes(model, tmp_path):
    (tmp_path / "few").mkdir()
    with serving(model, tmp_path / "few", {"connections": 3}) as (_, address, _):

        def ask(client):
            return client.get(f"{address}{API}/health").status_code

        with ExitStack() as stack:
            clients = [stack.enter_context(httpx2.Client(timeout=60)) for _ in range(3)]
            assert [ask(client) for client in clients] == [200, 200, 200]
            with httpx2.Client(timeout=60) as late:
                assert ask(late) == 503
            assert ask(clients[1]) == 200, "those that are open stay"
            clients.pop().close()
            with httpx2.Client(timeout=60) as late:
                until = time.monotonic() + 30
                while (status := ask(late)) == 503 and time.monotonic() < until:
                    time.sleep(0.1)
                assert status == 200


def test_the_log_has_a_line_a_request_and_nothing_else(server):
    lines = server[3].read_text().splitlines()
    allowed = re.compile(
        r"hemtrace serves at .*|\S+ \S+ (GET|POST|HEAD|DELETE) \S+( route\))? \d+ \d+ ms|"
        r"\S+ \S+ (the model is ready|a study is done: .*|a study has failed)"
    )
    assert [line for line in lines if not allowed.fullmatch(line)] == []


def test_a_killed_server_is_wiped_by_the_next_one_and_that_leaves_nothing_itself(model, tmp_path):
    folder = tmp_path / "serve"
    folder.mkdir()
    work = {str(n): b"no dicom" for n in range(300)}
    with serving(model, folder) as (process, address, _):
        with httpx2.Client(base_url=address, timeout=60) as client:
            send(client, work)
        process.kill()
        process.wait()
    assert list(folder.glob("*/0*"))
    with serving(model, folder) as (process, address, _):
        (only,) = folder.iterdir()
        assert not list(only.glob("0*"))
        with httpx2.Client(base_url=address, timeout=60) as client:
            send(client, work)
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert not list(folder.iterdir()), "stopped at work"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "none.safetensors"], "was not found"),
        (["--host", "0.0.0.0"], "--token-file"),
        (["--behind-proxy"], "--allowed-host"),
        (["--token-file", "none"], "cannot be read"),
        (["--folder", "/proc/nowhere"], "No private folder"),
    ],
)
def test_the_command_refuses_in_sentences(model, options, said):
    done = CliRunner().invoke(cli, ["serve", "--model", str(model), "--port", "0", *options])
    assert done.exit_code == 1
    assert said in done.output
    assert "Traceback" not in done.output


def test_a_port_that_is_taken_is_a_sentence(model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(cli, ["serve", "--model", str(model), "--port", port])
    assert done.exit_code == 1
    assert "cannot listen" in done.output


def test_a_damaged_model_ends_the_server_in_a_sentence(tmp_path):
    damaged = tmp_path / "model.safetensors"
    damaged.write_bytes(b"not a model")
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "serve", "--model", str(damaged), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "hemtrace: " in done.stderr
    assert "Traceback" not in done.stderr


def test_the_program_serves_its_page(model, tmp_path, server):
    with httpx2.Client(base_url=server[1], timeout=60) as client:
        page = client.get("/")
        assert "<title>hemtrace" in page.text
        for kind, path in re.findall(r'<(script|link)[^>]*(?:src|href)="([^"]+)"', page.text):
            answer = client.get(path)
            assert answer.status_code == 200, path
            if kind == "script":
                assert answer.headers["content-type"].startswith("text/javascript")
        assert json.loads(client.get(f"{API}/health").text)["state"] == "ready"


def test_the_model_may_be_asked_for_while_it_is_imported(model, tmp_path):
    """Many threads at once, from the first moment: none finds a module half imported."""
    (tmp_path / "early").mkdir()
    with serving(model, tmp_path / "early") as (_, address, log):
        answers = []

        def ask(path):
            with httpx2.Client(base_url=address, timeout=60) as client:
                send = client.post if path.endswith("sample") else client.get
                answers.append((path, send(API + path, headers=HEADERS).status_code))

        asked = ["/model", "/studies/sample", "/model", "/studies/sample"]
        threads = [threading.Thread(target=ask, args=[path]) for path in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [
            ("/model", 200), ("/model", 200), ("/studies/sample", 202), ("/studies/sample", 202)
        ]  # fmt: skip
        assert "defect" not in log.read_text()
