"""Send mutated uploads to a real server, try its API by schemathesis, count what became of them.

Each upload is one of: mutated DICOM files of every encoding beside a sound one; a mutated zip; a
body whose multipart/form-data is itself damaged; a zip that means harm (bomb, traversal, link, zip
within a zip). It is followed to its end, everything is asked for that is made of it, and it is
deleted. Fails where the server answers 500, meets what it did not foresee, ends, keeps something on
disk, takes more memory than it may, or gives another verdict on the sound study afterwards.

    python benchmarks/serve_fuzz.py [--uploads 5000] [--first 0] [--examples 100]
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import httpx2
import psutil
import schemathesis
from common import Figure, report
from fuzzing import make_seeds, mutate, mutate_zip
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from serve import API, HEADERS, serving, wait_until_ready
from serving import make_model, make_study, make_zip

# The server has 1.4 GB before the first study: torch, OpenVINO and highdicom are loaded before it
# calls itself ready. What uploads may add: a few that are read at once, and what is not given back.
MOST_GROWTH_MB = 500
BELOW = (
    "",
    "/previews/0.png",
    "/series/0/volume.nii",
    "/series/0/heat/any.nii",
    "/table.csv",
    "/summary.html",
)
_BOUNDARY = b"fuzzfuzzfuzz"
_AT_ONCE = 4


def main() -> None:
    """Fuzz, and print the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uploads", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--examples", type=int, default=100, help="of schemathesis, an operation")
    given_ = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        model = make_model(Path(name))
        with serving(model, "torch") as (address, _):
            wait_until_ready(address)
            figures = fuzz(address, given_.uploads, given_.first)
            figures += try_schema(address, given_.examples)
            figures.append(Figure("defects in the log", count_defects(), "", at_most=0))
            check_alive(address)
    report("serve_fuzz", figures)
    if any(figure.verdict == "MISSED" for figure in figures):
        raise SystemExit(1)


def fuzz(address: str, uploads: int, first: int) -> list[Figure]:
    """Send all uploads, several at once."""
    seeds = make_seeds()
    sound = make_study(8)
    outcomes: Counter[str] = Counter()
    watch = _Watch(find_server())
    watch.start()
    before = read_sound(address, sound)
    first_mb = watch.now_mb
    started = time.perf_counter()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        numbers = range(first, first + uploads)
        for done, found in enumerate(pool.map(lambda n: send_one(address, n, seeds), numbers), 1):
            outcomes.update(found)
            if done % 50 == 0:
                print(f"{done:,} uploads, {watch.most_mb:,.0f} MB, {dict(outcomes)}", flush=True)
    taken = time.perf_counter() - started
    after = read_sound(address, sound)
    watch.stop()
    defects = sum(count for name, count in outcomes.items() if name.startswith("answer 500"))
    failed = sum(count for name, count in outcomes.items() if name.endswith(": failed"))
    return [
        Figure("mutated uploads", uploads, ""),
        Figure("seconds an upload", taken / uploads, "s"),
        Figure("memory of the server at the beginning", first_mb, "MB"),
        Figure("most memory of the server", watch.most_mb, "MB"),
        Figure("memory that uploads added", watch.most_mb - first_mb, "MB", at_most=MOST_GROWTH_MB),
        Figure("memory of the server at the end", watch.now_mb, "MB"),
        Figure("answers of 500", defects, "", at_most=0),
        Figure("studies that failed", failed, "", at_most=0),
        Figure("sound study predicted alike afterwards", float(before == after), "", at_least=1),
        *(Figure(name, count, "") for name, count in sorted(outcomes.items())),
    ]


def send_one(address: str, number: int, seeds: dict[str, bytes]) -> Counter[str]:
    """Send the upload of a number, read all that is made of it, delete it."""
    told: Counter[str] = Counter()
    kind, content = make_body(number, seeds)
    headers = HEADERS | {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY.decode()}"}
    with httpx2.Client(base_url=address, timeout=300) as client:
        while True:
            try:
                answer = client.post(f"{API}/studies", content=content, headers=headers)
            except httpx2.TransportError:  # the server answered and closed before all was sent
                return Counter({f"{kind}: connection closed": 1})
            if answer.status_code not in (429, 503):
                break
            time.sleep(0.05)
        if answer.status_code != 202:
            assert answer.headers["content-type"] == "application/problem+json", answer.text
            return Counter({f"answer {answer.status_code} to {kind}": 1})
        path = f"{API}/studies/{answer.json()['id']}"
        while (job := client.get(path).json())["state"] in ("waiting", "reading"):
            time.sleep(0.02)
        told[f"{kind}: {job['state']}"] += 1
        told.update(f"file ended as {one['reason']}" for one in job["rejected"])
        told.update(f"verdict {one['verdict']['answer']}" for one in job["studies"])
        below = (*BELOW, "/results.dcm.zip") if number % 25 == 0 else BELOW
        for one in below:
            status = client.get(path + one).status_code
            if status not in (200, 404, 409):
                told[f"answer {status} to {one}"] += 1
        assert client.delete(path, headers=HEADERS).status_code == 204
    return told


def make_body(number: int, seeds: dict[str, bytes]) -> tuple[str, bytes]:
    """Make the upload of a number: what it is, and its body."""
    chance = random.Random(f"upload {number}")
    kind = chance.choices(["files", "zip", "body", "harm"], [6, 3, 2, 1])[0]
    if kind == "files":
        files = {f"{n}.dcm": mutate(chance.randrange(10**9), seeds)[1] for n in range(3)}
        files["sound.dcm"] = seeds["explicit"] if "explicit" in seeds else seeds[min(seeds)]
        return kind, encode_body(files)
    if kind == "zip":
        return kind, encode_body({"study.zip": mutate_zip(chance.randrange(10**9), seeds)[1]})
    if kind == "harm":
        return kind, encode_body({"study.zip": make_harm(chance)})
    body = bytearray(encode_body({"a.dcm": seeds[chance.choice(sorted(seeds))]}))
    for _ in range(chance.choice([1, 4, 16])):
        # Half of the damage is where boundaries and headers are.
        place = chance.randrange(min(160, len(body)) if chance.random() < 0.5 else len(body))
        body[place : place + chance.choice([0, 1, 1, 30])] = bytes(
            chance.randrange(256) for _ in range(chance.choice([0, 1, 1, 50]))
        )
    return kind, bytes(body)


def make_harm(chance: random.Random) -> bytes:
    """Make a zip that means harm."""
    name = chance.choice(["../../x", "/etc/passwd", "C:\\x", "a/../../b", "a\x00b", "a" * 60_000])
    blank = bytes(chance.choice([10**6, 3 * 10**7]))
    inner = make_zip({"inner": blank})
    return make_zip({name: b"x", "bomb.dcm": blank, "inner.dcm": inner, "other.zip": inner})


def encode_body(files: dict[str, bytes]) -> bytes:
    """Encode files as multipart/form-data."""
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n'
        % (_BOUNDARY, name.encode(), content)
        for name, content in files.items()
    ]
    return b"".join(parts) + b"--%s--\r\n" % _BOUNDARY


def read_sound(address: str, study: dict[str, bytes]) -> str:
    """Predict a sound study; what was said of its slices."""
    with httpx2.Client(base_url=address, timeout=300) as client:
        body = encode_body(study)
        headers = HEADERS | {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY.decode()}"}
        study_id = client.post(f"{API}/studies", content=body, headers=headers).json()["id"]
        while (job := client.get(f"{API}/studies/{study_id}").json())["state"] != "done":
            time.sleep(0.05)
        client.delete(f"{API}/studies/{study_id}", headers=HEADERS)
    (found,) = job["studies"]
    slices = found["series"][0]["slices"]
    return json.dumps([[round(p, 6) for p in one["probabilities"].values()] for one in slices])


def try_schema(address: str, examples: int) -> list[Figure]:
    """Try each operation by schemathesis; its first failure ends the program."""
    told = schemathesis.openapi.from_url(f"{address}{API}/openapi.json")
    tried = 0
    for operation in (one.ok() for one in told.get_all_operations()):
        for mode in GenerationMode:

            @settings(
                max_examples=examples,
                deadline=None,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def keep(case: schemathesis.Case) -> None:
                nonlocal tried
                answer = case.call()
                # So many at once are more than a server takes, which it says as declared.
                if answer.status_code not in (429, 503):
                    case.validate_response(answer)
                    tried += 1
                if answer.status_code == 202:
                    path = f"{address}{API}/studies/{answer.json()['id']}"
                    httpx2.delete(path, headers=HEADERS, timeout=60)

            try:
                keep()
            except Unsatisfiable:  # where any text is an id, no address is wrong
                assert mode is GenerationMode.NEGATIVE
    return [Figure("requests of schemathesis that kept to OpenAPI", tried, "", at_least=100)]


def count_defects() -> int:
    """Count the exceptions that the server met and did not foresee, by its log."""
    defects = [line for line in read_log().splitlines() if " defect: " in line]
    for line, count in Counter(line.split(" defect: ")[1] for line in defects).items():
        print(f"{count} x {line}", flush=True)
    return len(defects)


def read_log() -> str:
    """Read what the server has logged so far."""
    return (find_folder() / "log").read_text()


def find_folder() -> Path:
    """Find the folder that the server was given."""
    command = find_server().cmdline()
    return Path(command[command.index("--folder") + 1])


def check_alive(address: str) -> None:
    """Fail where the server is not there, or keeps what was deleted."""
    httpx2.get(f"{address}{API}/health", timeout=60).raise_for_status()
    left = [path for path in find_folder().glob("hemtrace-serve-*/0*") if path.is_dir()]
    if left:
        raise SystemExit(f"The server keeps {len(left)} folders of studies that were deleted.")


def find_server() -> psutil.Process:
    """Find the server that this program started."""
    return next(p for p in psutil.Process().children() if "--folder" in p.cmdline())


class _Watch(threading.Thread):
    """Watches the memory of a server, without that of its decoding children, which has a limit."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._process, self._stopped = process, threading.Event()
        self.most_mb = self.now_mb = 0.0

    def run(self) -> None:
        while not self._stopped.wait(0.2):
            self.now_mb = self._process.memory_info().rss / 1e6
            self.most_mb = max(self.most_mb, self.now_mb)

    def stop(self) -> None:
        self._stopped.set()
        self.join()


if __name__ == "__main__":
    main()
