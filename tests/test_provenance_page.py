"""provenance page: what redoes a run stands there, and nothing that names a user or a machine."""

import getpass
import json
import re
import socket
import sqlite3
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from ruamel.yaml import YAML

from hemtrace.labels import LABELS
from hemtrace.model import ModelSpec
from hemtrace.params import (
    DEFAULT_WINDOWS,
    NetworkParams,
    Params,
    load_params,
    parse_params,
    render_params,
)
from hemtrace.provenance import data_digest, file_digest
from hemtrace.report.made_from import (
    PRODUCTS,
    gather_provenance,
    list_parameters,
    read_libraries,
    read_times,
)
from hemtrace.report.provenance import render_provenance
from hemtrace.report.render import SYNTHETIC
from hemtrace.tracking.journal import Journal

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def make_spec(synthetic: bool = True) -> ModelSpec:
    return ModelSpec(
        network=NetworkParams(architecture="tf_efficientnet_lite0"),
        weights="Random.",
        windows=DEFAULT_WINDOWS,
        size=64,
        synthetic=synthetic,
        seed=7,
        train={},
        git_commit="0123abc",
        data_digest="d" * 64,
    )


def gather(root: Path, spec: ModelSpec | None = None) -> dict[str, Any]:
    return gather_provenance(root, spec or make_spec(), load_params(root / "params.yaml"))


def write_times(root: Path, name: str, *rows: str) -> None:
    path = root / f"logs/benchmarks/{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + "".join(f"{row}\n" for row in rows))


def make_root(root: Path) -> Path:
    """A project whose parameters name a user's folder, with two trainings and some times."""
    for folder in ("data/shards", "models/runs/fold0_seed7", "models/runs/fold1_seed7", "reports"):
        (root / folder).mkdir(parents=True)
    (root / "params.yaml").write_text(
        "seed: 7\n"
        "ingest: {raw: /home/anna/rsna, salt_file: ~anna/keys/salt, size: 224}\n"
        "train: {launcher: srun -w node17 torchrun, weights: file, weights_file: /home/anna/w.pt}\n"
    )
    (root / "requirements.lock").write_text(
        "# by uv\nnumpy==0.0.1 \\\n    --hash=sha256:aa\npolars[all]=="
        f"{pl.__version__} ; python_version < '4' \\\n    --hash=sha256:bb\nno-such-thing==1.0\n"
        "polars==0.0.2 ; python_version >= '4'\n"
    )
    for place in (0, 1):
        (root / f"data/shards/000{place}.parquet").write_bytes(bytes([place]))
        (root / f"data/shards/000{place}.npy").write_bytes(b"pixels")
        (root / f"models/runs/fold{place}_seed7/model.safetensors").write_bytes(bytes([place]))
        (root / f"models/runs/fold{place}_seed7/other.safetensors").write_bytes(b"other")
    (root / "reports/metrics.json").write_text("{}")
    (root / "models/operating.json").write_text("{ }")
    write_times(root, "split", "1.5\t0:00:01\t100.5\t1\t1\t1\t1\t1\t1\t1")
    write_times(root, "ingest_shard/0000", "10\t0:00:10\t200\t1\t1\t1\t1\t1\t1\t1")
    write_times(root, "ingest_shard/0001", "20\t0:00:20\t300\t1\t1\t1\t1\t1\t1\t1")
    return root


class Page(HTMLParser):
    """Tables, ids, links and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.table = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "a":
            self.links.append(str(found["href"]))
        if tag in ("script", "link", "img", "iframe"):
            self.loads.append(tag)
        if tag == "table":
            self.table = str(found["aria-labelledby"]).removeprefix("caption-")
            self.tables[self.table] = []
        if tag == "tr":
            self.tables[self.table].append([])
        if tag in ("td", "th"):
            self.tables[self.table][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            rows = self.tables[self.table]
            self.tables[self.table] = [[cell.strip() for cell in row] for row in rows]
            self.table = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.table and any(self.tables[self.table][-1:]):
            self.tables[self.table][-1][-1] += data

    def row(self, table: str, name: str) -> list[str]:
        return next(row for row in self.tables[table] if row[0] == name)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_root(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def found(root: Path) -> dict[str, Any]:
    return gather(root)


@pytest.fixture(scope="module")
def page(found: dict[str, Any]) -> Page:
    return Page(render_provenance(found, "Bleeds"))


def test_digests_are_those_of_the_files(page: Page, root: Path) -> None:
    assert page.row("digests", "reports/metrics.json")[1] == file_digest(
        root / "reports/metrics.json"
    )
    assert page.row("digests", "requirements.lock")[1] == file_digest(root / "requirements.lock")
    assert page.row("digests", "models/operating.json")[1] == file_digest(
        root / "models/operating.json"
    )
    assert page.row("digests", "dvc.lock")[1] == "not there"
    assert "data/predictions.parquet" not in [row[0] for row in page.tables["digests"]]


def test_products_are_the_files_that_the_stages_make() -> None:
    stages = YAML(typ="safe").load((Path(__file__).parents[1] / "dvc.yaml").read_text())["stages"]
    outs = {
        entry if isinstance(entry, str) else next(iter(entry))
        for stage in stages.values()
        for kind in ("outs", "metrics", "plots")
        for entry in stage.get(kind, [])
    }
    made = {Path(out) for out in outs if out.endswith((".parquet", ".json", ".safetensors"))}
    assert made <= set(PRODUCTS)
    assert len(set(PRODUCTS)) == len(PRODUCTS)
    for path in PRODUCTS:
        assert {str(path), str(path.parent)} & outs, path


def test_digest_of_the_shards_tells_a_changed_picture(root: Path, tmp_path: Path) -> None:
    before = gather(root)["shards"]
    other = make_root(tmp_path / "other")
    assert gather(other)["shards"] == before
    assert before["number"] == 2
    (other / "data/shards/0001.parquet").write_bytes(b"another picture")
    assert gather(other)["shards"]["sha256"] != before["sha256"]


def test_data_digest_is_compared_with_that_of_the_model(tmp_path: Path) -> None:
    root = make_root(tmp_path / "project")
    catalog = pl.DataFrame(
        {"slice": ["a"], "patient": ["p"], "status": ["used"], "image_blake3": ["x"]}
        | {label: [0] for label in LABELS}
    )
    splits = pl.DataFrame({"patient": ["p"], "partition": ["test"]})
    catalog.write_parquet(root / "data/catalog.parquet")
    splits.write_parquet(root / "data/splits.parquet")
    digest = data_digest(catalog, splits)
    other = Page(render_provenance(gather(root), "Bleeds"))
    assert f"that of the model is NOT the same: {'d' * 64}" in other.text
    spec = make_spec().model_copy(update={"data_digest": digest})
    same = Page(render_provenance(gather(root, spec), "Bleeds"))
    assert f"{digest}; that of the model is the same." in same.text


def test_parameters_that_differ_are_marked_and_only_they(page: Page) -> None:
    changed = {row[0]: row[1:] for row in page.tables["changed"][1:]}
    assert changed["ingest.size"] == ["224", "112"]
    assert changed["seed"] == ["7", "2019"]
    assert changed["train.weights"] == ["file", "inflate"]
    assert "train.epochs" not in changed
    assert page.row("parameters", "ingest.size")[1] == "224 changed; default 112"
    assert page.row("parameters", "ingest.size")[2] == "side of the square slices, pixels"
    assert page.row("parameters", "train.epochs")[1] == "3"


def test_every_parameter_is_listed_once() -> None:
    names = [row["name"] for row in list_parameters(Params())]
    expected = {"seed"} | {
        f"{section}.{field}"
        for section, content in Params().model_dump().items()
        if isinstance(content, dict)
        for field in content
    }
    assert set(names) == expected
    assert len(names) == len(expected)
    assert not any(row["differs"] for row in list_parameters(Params()))


def test_nothing_names_a_user_a_machine_or_a_folder(
    found: dict[str, Any], root: Path, page: Page
) -> None:
    html = render_provenance(found, "Bleeds")
    told = html + json.dumps(found)
    secrets = ("anna", "node17", str(root), str(Path.home()), "/home/")
    for secret in secrets:
        assert secret not in told, secret
    for name in {socket.gethostname(), getpass.getuser()} - {"root", "localhost"}:
        assert not re.search(rf"\b{re.escape(name)}\b", page.text), name
    changed = {row[0]: row[1] for row in page.tables["changed"][1:]}
    assert changed["ingest.raw"] == "<elsewhere>/rsna"
    assert changed["ingest.salt_file"] == "<elsewhere>/salt"
    assert changed["train.launcher"] == "set, not told"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/home/anna/rsna", "<elsewhere>/rsna"),
        ("~/rsna/2019", "<elsewhere>/2019"),
        ("stage_2_train", "stage_2_train"),
        ("../data/rsna", "../data/rsna"),
    ],
)
def test_folders_are_taken_from_paths(given: str, shown: str) -> None:
    rows = list_parameters(parse_params({"ingest": {"raw": given}}))
    assert next(row["value"] for row in rows if row["name"] == "ingest.raw") == shown


def test_times_are_added_up_by_rule_in_order_of_the_stages(page: Page) -> None:
    rows = page.tables["times"][1:]
    assert rows == [
        ["ingest_shard", "2", "30.0", "300"],
        ["split", "1", "1.5", "100"],
        ["all", "", "31.5", ""],
    ]


def test_newest_time_counts_and_stale_or_torn_ones_do_not(tmp_path: Path) -> None:
    root = make_root(tmp_path / "project")
    write_times(root, "split", "9\tx\t900", "2\tx\tNA")
    write_times(root, "train_run/fold0_seed7", "50\tx\t-")
    write_times(root, "train_run/fold4_seed7", "70\tx\t1")  # of folds that are no more
    write_times(root, "evaluate")
    write_times(root, "explain", "-\tx\t1")
    write_times(root, "report", "5\tx\t1")
    times = {row["rule"]: row for row in read_times(root)}
    assert list(times) == ["ingest_shard", "split", "train_run"]
    assert times["split"] == {"rule": "split", "jobs": 1, "seconds": 2.0, "peak_mb": None}
    assert times["train_run"]["seconds"] == 50.0


def test_no_times_and_no_runs_are_said(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("seed: 2019\n")
    found = gather(tmp_path)
    text = Page(render_provenance(found, "Bleeds")).text
    assert "Unknown: the products were not made in this folder." in text
    assert "All are at their defaults." in text
    assert "The single trainings are not in this folder." in text
    assert "The commit is unknown" in text


def test_libraries_tell_where_they_differ_from_the_lock(root: Path, page: Page) -> None:
    libraries = {name: entry for name, *entry in read_libraries(root / "requirements.lock")}
    assert set(libraries) == {"numpy", "polars", "hemtrace"}
    assert libraries["polars"] == [pl.__version__, ""]
    assert "requirements.lock: 0.0.1" in page.row("versions", "numpy")[1]
    assert page.row("versions", "polars")[1] == pl.__version__


def test_trainings_are_found_in_journal_and_database(root: Path) -> None:
    models = [file_digest(root / f"models/runs/fold{k}_seed7/model.safetensors") for k in (0, 1)]
    journal = Journal(root / "logs/records/20260101-000000-abcd")
    journal.append("start", name="x", tags={}, params={})
    journal.append("tags", tags={"model_sha256": models[0]})
    database = sqlite3.connect(root / "mlflow.db")
    database.execute("CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT)")
    database.execute("INSERT INTO tags VALUES ('model_sha256', ?, 'f00d')", (models[1],))
    database.commit()
    database.close()
    found = gather(root)
    assert [row["run"] for row in found["trainings"]] == ["20260101-000000-abcd", "f00d"]
    text = Page(render_provenance(found, "Bleeds")).text
    assert "hemtrace rerun 20260101-000000-abcd    # fold0_seed7" in text
    assert "hemtrace rerun f00d    # fold1_seed7" in text


def test_damaged_database_does_not_stop_the_page(tmp_path: Path) -> None:
    root = make_root(tmp_path / "project")
    (root / "mlflow.db").write_bytes(b"this is no database at all" * 100)
    assert [row["run"] for row in gather(root)["trainings"]] == [None, None]


def test_commit_and_changes_are_told(tmp_path: Path) -> None:
    root = make_root(tmp_path / "project")
    settings = ["-c", "user.name=x", "-c", "user.email=x@x"]
    for arguments in (
        ["init", "-q"],
        ["add", "params.yaml", "requirements.lock"],
        [*settings, "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    clean = gather(root)
    assert re.fullmatch("[0-9a-f]{40}", clean["commit"])
    assert clean["patch_sha256"] is None
    text = Page(render_provenance(clean, "Bleeds")).text
    assert f"git checkout {clean['commit']}\n" in text
    assert "differed from that commit" not in text
    with (root / "requirements.lock").open("a") as stream:
        stream.write("# changed\n")
    dirty = gather(root)
    assert dirty["commit"] == f"{clean['commit']}-dirty"
    text = Page(render_provenance(dirty, "Bleeds")).text
    assert f"git checkout {clean['commit']}\n" in text
    assert dirty["patch_sha256"][:16] in text
    assert "differed from that commit" in text


def test_parameters_can_be_taken_from_the_page(
    found: dict[str, Any], page: Page, tmp_path: Path
) -> None:
    plain_root = tmp_path
    (plain_root / "params.yaml").write_text("seed: 8\n")
    start = page.text.index("# The parameters of the whole pipeline")
    assert page.text[start:].startswith(found["params_yaml"])
    params = parse_params(YAML(typ="safe").load(found["params_yaml"]))
    assert params.ingest.size == 224
    assert params.ingest.raw == "<elsewhere>/rsna"
    plain = gather(plain_root)["params_yaml"]
    assert plain == render_params(load_params(plain_root / "params.yaml"))


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_runs_are_marked_and_only_they(root: Path, synthetic: bool) -> None:
    html = render_provenance(gather(root, make_spec(synthetic)), "Bleeds")
    assert html.count(SYNTHETIC) == (3 if synthetic else 0)
    assert ("ingest.raw=/path/to/the/data" in html) is not synthetic


def test_page_stands_alone_and_its_links_lead_somewhere(page: Page) -> None:
    assert not page.loads
    assert len(set(page.ids)) == len(page.ids)
    assert {link for link in page.links if not link.startswith("#")} == {
        "index.html",
        "checklists.html",
    }
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert {"redo", "versions", "digests", "parameters", "seeds", "hardware", "times"} <= set(
        page.ids
    )
