"""Each kind of damage is done to sound products, and must be named, with the right files."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
from conftest import small_head, write_slice

from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader
from hemtrace.errors import HemtraceError
from hemtrace.ingest.catalog import build_catalog
from hemtrace.ingest.flow import count_flow, write_flow
from hemtrace.ingest.labels_csv import read_labels
from hemtrace.ingest.listing import list_files
from hemtrace.params import IngestParams, SplitParams
from hemtrace.shards import make_pictures, write_shard
from hemtrace.split import split_patients
from hemtrace.verify import advise, repair, verify_products
from hemtrace.verify_raw import verify_raw
from hemtrace.writing import write_table

KINDS = ("npy", "parquet")


def make_products(root, raw, kind):
    """All products of ingest and split, in three shards."""
    params = IngestParams(raw=str(raw), size=32, shards=3, format=kind)
    folder, data = raw / "stage_2_train", root / "data"
    (data / "shards").mkdir(parents=True)
    files = list_files(folder, 3)
    files.write_parquet(data / "files.parquet")
    tables = []
    with GuardedReader(folder, PUBLIC_SALT) as reader:
        for shard in range(3):
            names = files.filter(pl.col("shard") == shard)["file"].to_list()
            pictures = make_pictures(reader.read, names, params.view, PUBLIC_SALT, shard)
            images = data / f"shards/{shard:04d}.{params.image_suffix}"
            rows = data / f"shards/{shard:04d}.parquet"
            tables.append(write_shard(pictures, params.view, images, rows))
    labels = read_labels(raw / "stage_2_train.csv")
    labels.write(data / "labels.parquet")
    catalog = build_catalog(files, pl.concat(tables), labels)
    write_table(catalog, data / "catalog.parquet")
    write_flow(count_flow(catalog, labels), data / "ingest.json")
    split = SplitParams(val_share=0.25, test_share=0.25)
    split_patients(catalog, split, 1).write_parquet(data / "splits.parquet")
    return params


@pytest.fixture(scope="module")
def sound(raw, tmp_path_factory):
    """Products in each format, never to be changed."""
    made = {}
    for kind in KINDS:
        root = tmp_path_factory.mktemp(kind)
        made[kind] = (root, make_products(root, raw, kind))
    return made


@pytest.fixture
def products(sound, tmp_path):
    """A copy of the products in npy, and their parameters."""
    root, params = sound["npy"]
    shutil.copytree(root / "data", tmp_path / "data")
    return tmp_path, params


def read_shard(path):
    """What a file of a shard holds, as a table, by other readers than those of hemtrace."""
    if path.suffix == ".npy":
        return pl.DataFrame({"image": [image.tobytes() for image in np.load(path)]})
    return pl.read_parquet(path)


def names(paths):
    return sorted(path.name for path in paths)


@pytest.mark.parametrize("kind", KINDS)
def test_sound_products_have_no_damage(sound, kind):
    root, params = sound[kind]
    assert verify_products(root, params) == []


def test_before_any_run_there_is_nothing_to_check(tmp_path):
    with pytest.raises(HemtraceError, match="run the pipeline first"):
        verify_products(tmp_path, IngestParams())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["images", "rows"])
def test_any_flipped_byte_of_a_shard_is_found(sound, tmp_path, kind, suffix):
    """Bit rot: the size stays. Flipped at 12 places over the file, one after the other."""
    root, params = sound[kind]
    shutil.copytree(root / "data", tmp_path / "data")
    path = (
        tmp_path
        / "data/shards"
        / (f"0001.{params.image_suffix}" if suffix == "images" else "0001.parquet")
    )
    content = path.read_bytes()
    pair = sorted(["0001.parquet", f"0001.{params.image_suffix}"])
    before, found = read_shard(path), 0
    for place in np.linspace(0, len(content) - 1, 12, dtype=int):
        wrong = bytearray(content)
        wrong[place] ^= 0x10
        path.write_bytes(wrong)
        damages = verify_products(tmp_path, params)
        if damages:
            found += 1
            assert pair == names(damages[0].files) or suffix == "rows"
        else:  # such as the name of the program that wrote a Parquet file: nothing depends on it
            assert read_shard(path).equals(before)
    assert found >= (10 if suffix == "images" else 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_truncated_shard_is_found(sound, tmp_path, kind, kept):
    root, params = sound[kind]
    shutil.copytree(root / "data", tmp_path / "data")
    path = tmp_path / f"data/shards/0002.{params.image_suffix}"
    path.write_bytes(path.read_bytes()[:kept])
    (damage,) = verify_products(tmp_path, params)
    assert path.name in damage.sentence
    assert names(damage.files) == sorted([path.name, "0002.parquet"])


def test_a_shard_that_grew_is_found(products):
    root, params = products
    with (root / "data/shards/0000.npy").open("ab") as stream:
        stream.write(bytes(5000))
    (damage,) = verify_products(root, params)
    assert "0000.npy is cut short or too long" in damage.sentence


def test_missing_and_extra_files_are_found(products):
    root, params = products
    shards = root / "data/shards"
    (shards / "0000.npy").unlink()
    (shards / "0007.npy").write_bytes(b"of an earlier run")
    (shards / "0001.npy.part").write_bytes(b"of a killed job")
    told = {
        damage.sentence.split(" ")[0].split("/")[-1]: damage
        for damage in verify_products(root, params)
    }
    assert sorted(told) == ["0000.npy", "0001.npy.part", "0007.npy"]
    assert names(told["0000.npy"].files) == ["0000.parquet"]
    repair(told.values())
    assert names(shards.iterdir()) == ["0001.npy", "0001.parquet", "0002.npy", "0002.parquet"]


def test_swapped_shards_are_found(products):
    root, params = products
    shards = root / "data/shards"
    for suffix in ("npy", "parquet"):
        (shards / f"0000.{suffix}").rename(shards / "away")
        (shards / f"0001.{suffix}").rename(shards / f"0000.{suffix}")
        (shards / "away").rename(shards / f"0001.{suffix}")
    damages = verify_products(root, params)
    assert sorted(name for damage in damages for name in names(damage.files)) == [
        "0000.npy", "0000.parquet", "0001.npy", "0001.parquet"
    ]  # fmt: skip


def change_catalog(root, **columns):
    path = root / "data/catalog.parquet"
    pl.read_parquet(path).with_columns(**columns).write_parquet(path)


def test_a_catalog_that_breaks_its_contract_is_found(products):
    root, params = products
    change_catalog(root, status=pl.lit("perhaps"))
    damages = verify_products(root, params)
    assert len(damages) == 1, damages
    damage = damages[0]
    assert "breaks its contract in: status" in damage.sentence
    assert "catalog.parquet" in names(damage.files)


def test_a_catalog_row_unlike_its_shard_row_is_found(products):
    root, params = products
    first = pl.int_range(pl.len()) == 0
    change_catalog(root, z_mm=pl.when(first).then(99.0).otherwise("z_mm"))
    (damage,) = verify_products(root, params)
    assert "holds other rows" in damage.sentence
    assert names(damage.files) == ["catalog.parquet"]


def test_counts_unlike_the_catalog_are_found(products):
    root, params = products
    path = root / "data/ingest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"used": 7}))
    (damage,) = verify_products(root, params)
    assert "tells other counts than the catalog gives" in damage.sentence
    assert names(damage.files) == ["catalog.parquet", "ingest.json"]


def test_a_lost_row_is_found(products):
    root, params = products
    path = root / "data/catalog.parquet"
    pl.read_parquet(path)[1:].write_parquet(path)
    text = " ".join(damage.sentence for damage in verify_products(root, params))
    assert "1 have no row in the catalog" in text


@pytest.mark.parametrize("name", ["files", "catalog", "splits"])
def test_an_unreadable_table_is_found(products, name):
    root, params = products
    path = root / f"data/{name}.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    damages = verify_products(root, params)
    assert any(f"{name}.parquet cannot be read" in damage.sentence for damage in damages)
    assert path in repair(damages)


def test_a_split_of_other_patients_is_found(products):
    root, params = products
    path = root / "data/splits.parquet"
    splits = pl.read_parquet(path)
    splits.with_columns(slices=pl.col("slices") + 1).write_parquet(path)
    (damage,) = verify_products(root, params)
    assert "other slices than the catalog for 12 patients" in damage.sentence
    assert names(damage.files) == ["splits.parquet"]


def test_changed_added_and_vanished_raw_files_are_told(products, raw, tmp_path):
    root, params = products
    folder = tmp_path / "raw/stage_2_train"
    shutil.copytree(raw, tmp_path / "raw")
    params = params.model_copy(update={"raw": str(tmp_path / "raw")})
    assert verify_raw(root, params, 0) == ([], 36)
    (folder / "ID_000000000.dcm").unlink()
    (folder / "note.txt").write_text("x")
    with (folder / "ID_000000001.dcm").open("ab") as stream:
        stream.write(b"xx")
    write_slice(folder / "ID_000000002.dcm", small_head(77), PatientID="ID_00000000",
                StudyInstanceUID="ID_0000000000", SeriesInstanceUID="ID_0000000063",
                ImagePositionPatient=[-125.0, -125.0, 10.0])  # fmt: skip
    damages, read = verify_raw(root, params, 0)
    text = "\n".join(damage.sentence for damage in damages)
    assert "1 files of" in text
    assert "are gone since they were listed: ID_000000000.dcm" in text
    assert "were added since they were listed: note.txt" in text
    assert "have another size since they were listed: ID_000000001.dcm" in text
    assert "ID_000000002.dcm reads otherwise" in text
    assert read == 34
    assert [damage.is_ours for damage in damages] == [False, False, False, True]
    deleted = repair(damages)
    assert names(deleted) == ["0000.npy", "0000.parquet"]
    told = advise(damages, deleted)
    assert "`snakemake --cores all` makes what is missing" in told
    assert "raw files no repair can mend" in told
    assert "--repair" not in told


def test_a_catalog_of_other_labels_or_neighbours_is_found(products):
    """Well-formed, at one with the shards, and wrong."""
    root, params = products
    path = root / "data/catalog.parquet"
    catalog = pl.read_parquet(path)
    turned = [(1 - pl.col(label)).cast(pl.UInt8).alias(label) for label in ("any", "subdural")]
    parted = [pl.lit(None, pl.String).alias(name) for name in ("previous", "next")]
    for change, named in ((turned, "subdural, any"), (parted, "previous, next")):
        catalog.with_columns(change).write_parquet(path)
        (damage,) = verify_products(root, params)
        assert f"other values than its parts give, in: {named}" in damage.sentence
        assert names(damage.files) == ["catalog.parquet", "ingest.json"]


def test_lost_and_damaged_labels_are_found(products):
    root, params = products
    path = root / "data/labels.parquet"
    content = path.read_bytes()
    path.unlink()
    assert "labels.parquet is missing" in verify_products(root, params)[0].sentence
    for place in range(4, len(content), len(content) // 23):
        flipped = bytearray(content)
        flipped[place] ^= 0x20
        path.write_bytes(flipped)
        damages = verify_products(root, params)
        if not damages:  # a byte that says nothing, of a name or a statistic
            assert pl.read_parquet(path).equals(pl.read_parquet(content))


def test_a_lost_split_is_found_where_there_is_a_model(products):
    root, params = products
    (root / "data/splits.parquet").unlink()
    assert verify_products(root, params) == []
    (root / "models").mkdir()
    (root / "models/model.safetensors").touch()
    assert "splits.parquet is missing" in verify_products(root, params)[0].sentence


def test_no_flipped_byte_of_a_table_ends_in_a_traceback(products):
    root, params = products
    for name in ("splits", "files", "catalog"):
        path = root / f"data/{name}.parquet"
        content = path.read_bytes()
        for place in range(0, len(content), len(content) // 40):
            flipped = bytearray(content)
            flipped[place] ^= 0x20
            path.write_bytes(flipped)
            verify_products(root, params)
        path.write_bytes(content)
    assert verify_products(root, params) == []


def test_changed_labels_are_told_though_their_time_is_old(products, raw, tmp_path):
    root, params = products
    shutil.copytree(raw, tmp_path / "raw")
    params = params.model_copy(update={"raw": str(tmp_path / "raw")})
    csv = tmp_path / "raw/stage_2_train.csv"
    csv.write_text(csv.read_text().replace("_any,0", "_any,1"))
    (damage,) = verify_raw(root, params, 0)[0]
    assert "holds other labels than" in damage.sentence
    assert names(damage.files) == ["labels.parquet"]


def test_advice_is_what_helps_against_the_damage(products):
    root, params = products
    (root / "data/shards/0001.npy").unlink()
    (root / "data/shards/0001.parquet").unlink()
    damages = verify_products(root, params)
    told = "1 problem. `snakemake --cores all` makes what is missing."
    assert advise(damages, []) == told
    (root / "data/splits.parquet").write_bytes(b"")
    damages = verify_products(root, params)
    assert "2 problems. `hemtrace verify --repair` deletes what is damaged" in advise(damages, [])
    assert "--repair" not in advise(damages, repair(damages))


def test_many_shards_are_checked_in_processes(sound, monkeypatch, tmp_path):
    from hemtrace import verify

    root, params = sound["npy"]
    shutil.copytree(root / "data", tmp_path / "data")
    path = tmp_path / "data/shards/0002.npy"
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(verify, "_FEWEST_FOR_PROCESSES", 1)
    (damage,) = verify_products(tmp_path, params)
    assert "0002.npy" in damage.sentence
