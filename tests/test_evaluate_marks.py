"""Tables of predictions say whether their slices are synthetic, whoever wrote them."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from hemtrace import model
from hemtrace.errors import HemtraceError
from hemtrace.evaluate import predictions
from hemtrace.evaluate.marks import join_marks, read_synthetic, write_marked
from hemtrace.evaluate.scored import PROBABILITIES
from hemtrace.labels import LABELS

SCRIPTS = Path(__file__).parents[1] / "workflow/scripts"


def make_table(first: float = 0.1) -> pl.DataFrame:
    known = {"slice": ["a", "b"], "patient": ["p", "q"], "study": ["s", "t"], "series": ["1", "2"]}
    return pl.DataFrame(
        {**known, "depth": [0.0, 1.0], "partition": ["val", "test"]}
        | {name: [first, 0.9] for name in PROBABILITIES}
        | {label: [0, 1] for label in LABELS}
    )


@pytest.mark.parametrize(("synthetic", "mark"), [(True, b"true"), (False, b"false"), (None, None)])
def test_the_mark_stands_in_the_files_own_metadata(
    tmp_path: Path, synthetic: bool | None, mark: bytes | None
) -> None:
    path = tmp_path / "predictions.parquet"
    write_marked(make_table(), path, synthetic)
    assert (pq.read_metadata(path).metadata or {}).get(b"synthetic") == mark
    assert read_synthetic(path) is synthetic
    assert_frame_equal(pl.read_parquet(path), make_table())


def test_same_table_and_mark_give_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one", "two", "other")]
    for path, synthetic in zip(paths, (True, True, False), strict=True):
        write_marked(make_table(), path, synthetic)
    one, two, other = (path.read_bytes() for path in paths)
    assert one == two
    assert one != other


def test_what_is_no_mark_or_no_table_is_a_sentence(tmp_path: Path) -> None:
    odd, text = tmp_path / "odd.parquet", tmp_path / "text.parquet"
    make_table().write_parquet(odd, metadata={"synthetic": "perhaps"})
    text.write_text("slice,patient")
    with pytest.raises(HemtraceError, match=r"odd\.parquet .* neither true nor false"):
        read_synthetic(odd)
    with pytest.raises(HemtraceError, match=r"text\.parquet is no table of Parquet"):
        read_synthetic(text)


@pytest.mark.parametrize(
    ("marks", "whole"),
    [
        ([True, False], True),
        ([True, None], True),
        ([False, False], False),
        ([False, None], None),
        ([None], None),
    ],
)
def test_one_synthetic_part_makes_the_whole_synthetic(
    marks: list[bool | None], whole: bool | None
) -> None:
    assert join_marks(marks) is whole


def run_script(name: str, root: Path, **given: object) -> None:
    """Run a script of the workflow as Snakemake does, with these inputs."""
    snakemake = SimpleNamespace(log=[str(root / "log.txt")], **given)
    runpy.run_path(str(SCRIPTS / name), init_globals={"snakemake": snakemake})


@pytest.mark.parametrize("synthetic", [True, False])
@pytest.mark.parametrize("script", ["evaluate_run.py", "compare_predict.py"])
def test_scripts_that_predict_mark_what_the_model_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, synthetic: bool
) -> None:
    spec = SimpleNamespace(synthetic=synthetic)
    monkeypatch.setattr(model, "load_model", lambda _: (None, spec))
    monkeypatch.setattr(predictions, "predict_partitions", lambda *_: make_table())
    monkeypatch.setattr("hemtrace.compare.cost.describe_system", lambda *_: {})
    splits = pl.DataFrame({"patient": ["p", "q"], "partition": ["val", "test"], "fold": [0, None]})
    splits.write_parquet(tmp_path / "table.parquet")
    table, out = str(tmp_path / "table.parquet"), str(tmp_path / "out.parquet")

    class Output(list):
        predictions, description = out, str(tmp_path / "out.json")

    run_script(
        script,
        tmp_path,
        input=SimpleNamespace(model="m", catalog=table, splits=table, shards=["data/shards/0"]),
        output=Output([out]),
        params=SimpleNamespace(fold=0),
    )
    assert read_synthetic(Path(out)) is synthetic


@pytest.mark.parametrize("marks", [(True, True), (False, False), (False, None)])
def test_joined_predictions_keep_the_mark(
    tmp_path: Path, marks: tuple[bool | None, bool | None]
) -> None:
    folder = tmp_path / "predictions"
    folder.mkdir()
    paths = [folder / f"fold0_seed{k}.parquet" for k in range(2)]
    for path, mark, first in zip(paths, marks, (0.1, 0.3), strict=True):
        write_marked(make_table(first), path, mark)
    out = tmp_path / "predictions.parquet"
    run_script(
        "evaluate_predict.py",
        tmp_path,
        input=SimpleNamespace(runs=[str(path) for path in paths]),
        output=[str(out)],
    )
    assert read_synthetic(out) is join_marks(marks)
    assert pl.read_parquet(out)["p_any"].to_list() == pytest.approx([0.2, 0.9])
