import pytest
import torch
from conftest import write_labels

from hemtrace import preflight
from hemtrace.errors import HemtraceError
from hemtrace.explain.heat import find_target_layer
from hemtrace.model import ModelSpec, create_net
from hemtrace.params import DEFAULT_WINDOWS, IngestParams, NetworkParams, Params, TrainParams
from hemtrace.preflight import (
    check_architecture,
    check_heat_map,
    check_inputs,
    check_place,
    check_room,
    find_finest_stride,
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
    with pytest.raises(HemtraceError, match=r"check --salt-file, or ingest\.salt_file"):
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


def cells(fewest: int, size: int = 112, **train: object) -> Params:
    return Params(
        ingest={"size": size}, train=TrainParams(**train), explain={"fewest_cells": fewest}
    )


@pytest.mark.parametrize(
    ("architecture", "most"),
    [("tf_efficientnet_b4", 56), ("convnext_atto", 28), ("resnet18", 56), ("vgg11", 112)],
)
def test_more_cells_than_the_finest_map_has_are_refused_as_the_network_does(
    architecture: str, most: int
) -> None:
    stride = find_finest_stride(TrainParams(architecture=architecture))
    check_heat_map(cells(most), stride)
    with pytest.raises(HemtraceError, match=rf"explain\.fewest_cells to {most} at most") as refused:
        check_heat_map(cells(most + 1), stride)
    assert "ingest.size 112" in str(refused.value)
    spec = ModelSpec(
        network=NetworkParams(architecture=architecture),
        weights="",
        windows=DEFAULT_WINDOWS,
        size=112,
        synthetic=True,
        seed=0,
        train={},
        git_commit="",
        data_digest="",
    )
    net, picture = create_net(spec), torch.zeros((1, 3, 112, 112), dtype=torch.uint8)
    assert min(find_target_layer(net, picture, most)[1]) == most
    with pytest.raises(HemtraceError):
        find_target_layer(net, picture, most + 1)


def test_cells_are_those_of_the_size_that_the_network_sees() -> None:
    check_heat_map(cells(112))
    check_heat_map(Params())
    for params in (cells(113), cells(50, 512, input_size=49)):
        with pytest.raises(HemtraceError, match=r"explain\.fewest_cells"):
            check_heat_map(params)
    with pytest.raises(HemtraceError, match=r"raise train\.input_size"):
        check_heat_map(cells(50, 512, input_size=96), 2)
    # 57 cells of two pixels, the last of them half beyond the edge.
    check_heat_map(cells(57, 113), 2)


def test_two_branches_take_any_map() -> None:
    check_heat_map(cells(500, branches="windows"), 2)
