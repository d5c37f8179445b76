import pytest
from conftest import write_labels

from hemtrace import preflight
from hemtrace.errors import HemtraceError
from hemtrace.params import IngestParams, TrainParams
from hemtrace.preflight import (
    check_architecture,
    check_inputs,
    check_place,
    check_room,
)


def test_sound_inputs_pass(raw):
    check_inputs(IngestParams(raw=str(raw)))
    check_inputs(IngestParams())


def test_missing_raw_folder_is_told(tmp_path):
    with pytest.raises(HemtraceError, match=r"nowhere was not found; check ingest\.raw"):
        check_inputs(IngestParams(raw=str(tmp_path / "nowhere")))


def test_missing_images_folder_is_told(tmp_path):
    with pytest.raises(HemtraceError, match=r"stage_2_train was not found; check ingest\.images"):
        check_inputs(IngestParams(raw=str(tmp_path)))


def test_empty_images_folder_is_told(tmp_path):
    (tmp_path / "stage_2_train").mkdir()
    with pytest.raises(HemtraceError, match="is empty"):
        check_inputs(IngestParams(raw=str(tmp_path)))


def test_missing_and_wrong_label_files_are_told(tmp_path):
    (tmp_path / "stage_2_train").mkdir()
    (tmp_path / "stage_2_train/a.dcm").touch()
    with pytest.raises(HemtraceError, match=r"stage_2_train\.csv was not found"):
        check_inputs(IngestParams(raw=str(tmp_path)))
    csv = write_labels(tmp_path / "stage_2_train.csv", {"a": [0] * 6})
    csv.write_text(csv.read_text().replace("ID,Label", "id,target"))
    with pytest.raises(HemtraceError, match="must have the columns"):
        check_inputs(IngestParams(raw=str(tmp_path)))


def test_too_little_room_is_told(tmp_path):
    with pytest.raises(HemtraceError, match=r"GB left and .* GB are needed"):
        check_room(tmp_path, 10**18)


def test_a_folder_without_write_permission_is_told(tmp_path, monkeypatch):
    """Root may write anywhere, so the answer of the system is replaced here."""
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(preflight.os, "access", lambda path, mode: path.name != "models")
    with pytest.raises(HemtraceError, match="models cannot be written to"):
        check_place(tmp_path)


def test_an_unknown_architecture_is_told_with_names_like_it():
    with pytest.raises(HemtraceError, match=r"similar names:.*tf_efficientnet_b4"):
        check_architecture(TrainParams(architecture="tf_eficientnet_b4"))
    check_architecture(TrainParams())


def test_no_labels_need_no_csv(tmp_path):
    (tmp_path / "stage_2_train").mkdir()
    (tmp_path / "stage_2_train/a.dcm").touch()
    check_inputs(IngestParams(raw=str(tmp_path), labels=None))


def test_a_missing_or_short_salt_file_is_told(tmp_path):
    with pytest.raises(HemtraceError, match=r"check ingest\.salt_file"):
        check_inputs(IngestParams(salt_file=str(tmp_path / "salt")))
    (tmp_path / "salt").write_bytes(b"short")
    with pytest.raises(HemtraceError, match="5 bytes"):
        check_inputs(IngestParams(salt_file=str(tmp_path / "salt")))


def test_a_square_that_cuts_heads_is_told():
    with pytest.raises(HemtraceError, match=r"150 mm, which cuts heads.*pixel_mm to 2\.00"):
        check_inputs(IngestParams(crop="head", size=100, pixel_mm=1.5))
    check_inputs(IngestParams(crop="head", size=100, pixel_mm=2))
    check_inputs(IngestParams(crop="none", size=100, pixel_mm=1.5))


@pytest.mark.parametrize("architecture", ["alexnet", "tf_efficientnet_b4"])
def test_networks_that_can_be_trained_pass(architecture):
    check_architecture(TrainParams(architecture=architecture))
