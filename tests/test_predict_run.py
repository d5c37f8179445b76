"""Files in, studies with a verdict out."""

import threading
import time

import numpy as np
import polars as pl
import pytest
import torch
from conftest import make_dataset, small_head
from held import SPEC, TINY
from predicting import (
    SIDE,
    BrightEngine,
    head,
    make_operating,
    make_scan,
    reader_of,
    save_lively_model,
)
from transcode import multi_frame, to_bytes

from hemtrace.dicom import PUBLIC_SALT
from hemtrace.dicom.guard import GuardedReader
from hemtrace.engine import open_engine
from hemtrace.engine.contract import CHUNK
from hemtrace.errors import HemtraceError
from hemtrace.labels import ANY, LABELS
from hemtrace.model import load_model
from hemtrace.params import NetworkParams
from hemtrace.predict import predict_contents
from hemtrace.predict.ahead import run_ahead
from hemtrace.predict.files import add_neighbours
from hemtrace.predict.run import PredictedFiles, predict_studies
from hemtrace.predict.spool import Spool
from hemtrace.predict.study import Reason
from hemtrace.predict.verdict import rejudge
from hemtrace.shards import ROW_SCHEMA, make_pictures

OPERATING = make_operating()


def predict(files, engine=None, operating=OPERATING, **more):
    read = reader_of(files)
    return predict_studies(read, list(files), engine or BrightEngine(), operating, **more)


def codes(study, stops=True):
    return [one.code for one in study.verdict.reasons if one.stops == stops]


def test_a_clot_is_found_and_a_healthy_head_is_cleared():
    files = make_scan(clots=(9, 10)) | make_scan(name="well", uid="1.2.4", seed=90)
    found = predict(files)
    ill, well = found.studies
    assert (ill.verdict.answer, well.verdict.answer) == ("bleed", "no-bleed")
    assert [n for n, one in enumerate(ill.chosen.slices) if one.any > 0.5] == [9, 10]
    assert ill.verdict.flagged == {label: label in ("subdural", "any") for label in LABELS}
    assert ill.verdict.urgency > well.verdict.urgency
    assert "Research use only." in ill.verdict.sentence
    assert (found.files, found.slices, found.rejected) == (40, 40, ())


def test_another_point_judges_without_predicting_again():
    engine = BrightEngine()
    (study,) = predict(make_scan(clots=(9,)), engine).studies
    chunks = list(engine.chunks)
    strict = make_operating(0.9999)
    assert rejudge(study, strict).verdict.answer == "no-bleed"
    assert rejudge(study, strict, "rule-out").verdict.answer == "bleed"
    assert rejudge(study, OPERATING).verdict == study.verdict
    assert engine.chunks == chunks


@pytest.mark.parametrize("has_context", [False, True])
@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_probabilities_are_those_of_the_pipelines_own_path(tmp_path, runtime, has_context):
    """`predict_contents` goes through `shards.make_pictures` and torch, as ingest and train do."""
    network = NetworkParams(architecture=TINY, context="neighbours" if has_context else "none")
    spec = SPEC.model_copy(update={"network": network})
    path = save_lively_model(tmp_path / "model.safetensors", spec)
    files = make_scan(count=11, clots=(3, 4)) | make_scan(4, name="b", uid="1.2.4", seed=50)
    del files["scan/005.dcm"]  # a gap: neighbours end there
    net, spec = load_model(path)
    judge = predict_contents(files, net, spec)
    found = predict(files, open_engine(path, runtime), None)
    ours = {one.file: one.raw for study in found.studies for one in study.series[0].slices}
    theirs = dict(zip(judge["file"], judge.select(LABELS).to_numpy(), strict=True))
    assert ours.keys() == theirs.keys() == files.keys()
    worst = max(np.abs(ours[name] - theirs[name]).max() for name in files)
    # Chunks of another size round in another order; the pictures are the same, as shown below.
    assert worst <= (1e-5 if runtime == "torch" else 1e-4)
    assert np.ptp([one[ANY] for one in theirs.values()]) > 0.05  # they can be told apart


@pytest.mark.parametrize("context", ["none", "neighbours"])
def test_the_network_is_given_the_bytes_that_ingest_makes(tmp_path, context):
    network = NetworkParams(architecture=TINY, context=context)
    spec = SPEC.model_copy(update={"network": network})
    engine, given = BrightEngine(spec), []
    engine.run = lambda pictures: given.append(pictures) or BrightEngine.run(engine, pictures)
    files = make_scan(count=11)
    predict(files, engine)
    made = make_pictures(reader_of(files), list(files), spec.view, PUBLIC_SALT, quiet=True)
    rows, pictures = zip(*made, strict=True)
    if context == "neighbours":
        pictures = list(add_neighbours(pl.DataFrame(rows, schema=ROW_SCHEMA), pictures))
    np.testing.assert_array_equal(np.concatenate(given), np.stack(pictures))
    # Torch then says the same to the last bit, chunk by chunk.
    net, _ = load_model(save_lively_model(tmp_path / "model.safetensors", spec))
    torch_engine = open_engine(tmp_path / "model.safetensors", "torch")
    for chunk in given:
        with torch.inference_mode():
            logits = net(torch.from_numpy(chunk)).double()
        raw = torch_engine.run(chunk).probabilities
        np.testing.assert_allclose(raw, logits.sigmoid().numpy(), rtol=0, atol=1e-15)


def test_neighbours_are_those_of_the_series_in_whatever_order_files_come():
    spec = SPEC.model_copy(
        update={"network": NetworkParams(architecture=TINY, context="neighbours")}
    )
    one, other = make_scan(clots=(5,)), make_scan(name="b", uid="1.2.4", seed=70)
    names = [name for pair in zip(one, other, strict=True) for name in pair][::-1]
    found = predict({name: (one | other)[name] for name in names}, BrightEngine(spec))
    ill = next(study for study in found.studies if study.verdict.answer == "bleed")
    # The engine looks at the neighbours alone.
    assert [n for n, one in enumerate(ill.chosen.slices) if one.any > 0.5] == [4, 6]


def test_bad_files_are_listed_with_their_reason_and_stop_nothing():
    files = {"a.txt": b"no dicom", "b.dcm": b"", **make_scan(), "z.dcm": b"x" * 500}
    files["scan/zz.dcm"] = files["scan/003.dcm"][:3000]
    found = predict(files)
    assert found.slices == 20
    told = {one.file: one.reason for one in found.rejected}
    assert told == {
        "a.txt": "not-dicom",
        "b.dcm": "not-dicom",
        "scan/zz.dcm": "truncated",
        "z.dcm": "not-dicom",
    }
    assert all(one.meaning for one in found.rejected)
    assert found.files == len(files)


def test_nothing_at_all_is_no_study():
    assert predict({}).studies == ()
    found = predict({"a": b"none"})
    assert (found.studies, [one.reason for one in found.rejected]) == ((), ["not-dicom"])


def test_a_study_of_which_nothing_is_usable_is_named_with_the_cause():
    (study,) = predict(make_scan(Modality="MR")).studies
    assert (study.series, codes(study)) == ((), ["not-ct"])
    assert study.verdict.answer == "no-answer"
    (study,) = predict(make_scan(BodyPartExamined="CHEST")).studies
    assert codes(study) == ["not-head"]


def test_without_operating_points_there_is_no_answer_but_numbers():
    found = predict(make_scan(clots=(9,)), operating=None)
    (study,) = found.studies
    assert codes(study) == ["no-operating-points"]
    assert (found.calibrated, study.verdict.probability > 0.8) == (False, True)


def test_an_unknown_point_is_refused_before_any_file_is_read():
    def read(name):
        raise AssertionError(name)

    with pytest.raises(HemtraceError, match="no operating point 'strict'"):
        predict_studies(read, ["a"], BrightEngine(), OPERATING, point="strict")


def test_calibration_is_applied_to_what_is_judged_and_raw_is_kept():
    label = OPERATING.calibration.labels["any"].model_copy(update={"temperature": 2.0})
    changed = OPERATING.calibration.model_copy(update={"labels": dict.fromkeys(LABELS, label)})
    operating = OPERATING.model_copy(update={"calibration": changed})
    (study,) = predict(make_scan(clots=(9,)), operating=operating).studies
    one = study.chosen.slices[9]
    odds = one.raw / (1 - one.raw)
    np.testing.assert_allclose(one.probabilities, np.sqrt(odds) / (1 + np.sqrt(odds)))
    assert study.verdict.probability == one.any


def test_frames_of_one_file_are_slices():
    frames = [make_dataset(head(n, n == 4)) for n in range(9)]
    found = predict({"many.dcm": to_bytes(multi_frame(frames))})
    ((series,),) = [study.series for study in found.studies]
    assert [one.frame for one in series.slices] == list(range(1, 10))
    assert int(np.argmax([one.any for one in series.slices])) == 4


def test_a_copy_is_predicted_but_in_no_score():
    files = make_scan(clots=(9,))
    files["copy/009.dcm"] = files["scan/009.dcm"]
    (study,) = predict(files).studies
    (series,) = study.series
    assert (len(series.slices), len(series.copies)) == (20, 1)
    assert codes(study) == []


def test_slices_and_progress_are_told_as_they_come():
    slices, progress = [], []
    files = {"none": b"none", **make_scan()}
    predict(
        files,
        on_slice=slices.append,
        on_progress=lambda done, files: progress.append((done, files)),
    )
    assert [one.file for one in slices] == list(files)[1:]
    assert all(one.cells is not None for one in slices)
    assert progress == sorted(progress)
    assert progress[-1] == (21, 21)
    assert progress[0][0] <= 1  # the first slice waits for no other


def test_the_first_slice_goes_alone_and_the_others_in_chunks():
    engine = BrightEngine()
    predict(make_scan(count=20), engine)
    assert engine.chunks == [1, CHUNK, CHUNK, 20 - 1 - 2 * CHUNK]


def test_hounsfield_units_and_maps_are_kept_only_when_asked_for():
    files = make_scan(count=9)
    (study,) = predict(files, keep_hu=True).studies
    one = study.chosen.slices[3]
    assert (one.hu.dtype, one.hu.shape) == (np.int16, (SIDE, SIDE))
    np.testing.assert_array_equal(one.hu, head(3) - 1024)
    assert one.cells.shape == (6, 8, 8)
    (study,) = predict(files, keep_maps=False).studies
    one = study.chosen.slices[3]
    assert (one.hu, one.cells, one.head) == (None, None, None)


def test_maps_that_take_gradients_are_made_of_flagged_slices_alone(monkeypatch):
    monkeypatch.setattr("hemtrace.predict.gradient_maps.AT_ONCE", 4)
    engine, told = BrightEngine(has_cells=False), []
    files = make_scan(clots=(9, 10)) | {
        f"other/{name}": file for name, file in make_scan(clots=range(5, 11), uid="9.9").items()
    }
    predict(files, engine, on_map=lambda *counts: told.append(counts))
    # Of one study after the other, a few at once.
    assert told == [(0, 2), (2, 2), (2, 8), (6, 8), (8, 8)]
    engine = BrightEngine(has_cells=False)
    (study,) = predict(make_scan(clots=(9, 10)), engine).studies
    assert [n for n, one in enumerate(study.chosen.slices) if one.cells is not None] == [9, 10]
    assert engine.heated == 2
    shown = BrightEngine()
    (judge,) = predict(make_scan(clots=(9, 10)), shown).studies
    np.testing.assert_allclose(study.chosen.slices[9].cells, judge.chosen.slices[9].cells)


def test_identity_is_kept_only_when_asked_for_and_read_once_a_series():
    files = make_scan(PatientName="Doe^Jane", ContrastBolusAgent="Omnipaque")
    asked = []
    with GuardedReader(None, PUBLIC_SALT) as reader:

        def identify(name):
            asked.append(name)
            return reader.identify(files[name])

        (study,) = predict(files, identify=identify).studies
        assert (codes(study), study.identity) == (["contrast"], None)
        (study,) = predict(files, identify=identify, keep_identity=True).studies
    assert study.identity.patient_name == "Doe^Jane"
    assert len(asked) == 2


class Strange:
    """Knows no feature above 200."""

    def distance(self, features):
        return features.mean(axis=1) / 200

    def judge(self, distances):
        worst = float(distances.max())
        return Reason("unfamiliar", f"Distance {worst:.2f}.", True) if worst > 0.6 else None


def test_what_is_unlike_the_training_data_gets_no_answer():
    (study,) = predict(make_scan(), familiar=Strange()).studies
    assert (codes(study), codes(study, stops=False)) == ([], [])
    assert study.chosen.slices[0].distance > 0
    (study,) = predict(make_scan(clots=(9,)), familiar=Strange()).studies
    assert codes(study) == ["unfamiliar"]
    assert study.verdict.answer == "no-answer"


def test_that_familiarity_was_not_measured_is_said():
    (study,) = predict(make_scan()).studies
    assert codes(study, stops=False) == ["familiarity-unknown"]


def test_what_the_reader_raises_is_raised_here_and_its_thread_ends():
    files = make_scan()

    def read(name):
        if name.endswith("015.dcm"):
            raise HemtraceError("The disk is gone.")
        return reader_of(files)(name)

    with pytest.raises(HemtraceError, match="disk is gone"):
        predict_studies(read, list(files), BrightEngine(), OPERATING)
    assert not [one for one in threading.enumerate() if one.name == "hemtrace-read"]


def test_what_the_engine_raises_ends_the_reading():
    engine, files = BrightEngine(), make_scan(count=60)
    read = []

    def fail(pictures):
        raise RuntimeError("out of memory")

    engine.run = fail

    def note(name):
        read.append(name)
        return reader_of(files)(name)

    with pytest.raises(RuntimeError, match="out of memory"):
        predict_studies(note, list(files), engine, OPERATING)
    assert not [one for one in threading.enumerate() if one.name == "hemtrace-read"]
    assert len(read) < 60


def test_reading_goes_on_while_the_network_works_but_not_without_bound():
    made = []

    def make():
        for number in range(100):
            made.append(number)
            yield number

    items = run_ahead(make(), ahead=5)
    assert next(items) == 0
    deadline = time.monotonic() + 10
    while len(made) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert 6 <= len(made) <= 7  # five that wait, one in hand, one that was taken
    assert list(items) == list(range(1, 100))


def test_a_spool_gives_back_what_it_took_from_memory_and_from_disk():
    chance = np.random.default_rng(0)
    records = chance.integers(0, 255, (50, 3, 8, 8), dtype=np.uint8)
    with Spool(most_in_memory=1000) as spool:
        for record in records:
            spool.append(record)
        for place in (49, 0, 17):
            np.testing.assert_array_equal(spool.read(place), records[place])
        with pytest.raises(IndexError):
            spool.read(50)
        with pytest.raises(ValueError, match="is none of"):
            spool.append(records[0].astype(np.float32))


def test_studies_come_one_by_one_in_the_order_of_their_files():
    files = make_scan(9, uid="1.9") | make_scan(9, name="b", uid="1.1", clots=(2,))
    with PredictedFiles(reader_of(files), list(files), BrightEngine(), OPERATING) as predicted:
        studies = predicted.studies()
        first = next(studies)
        assert first.series[0].slices[0].file == "scan/000.dcm"
        assert [one.series[0].slices[0].file for one in studies] == ["b/000.dcm"]


def test_scores_follow_the_rule_of_the_operating_points():
    files = make_scan(clots=(9,))
    (highest,) = predict(files).studies
    (mean,) = predict(files, operating=make_operating(rule="mean-of-3")).studies
    top = sorted(one.any for one in mean.chosen.slices)[-3:]
    assert highest.verdict.probability == top[-1]
    assert mean.verdict.probability == pytest.approx(np.mean(top))


def test_a_small_picture_without_spacing_is_still_predicted():
    dataset = make_dataset(small_head(1))
    del dataset.PixelSpacing
    (study,) = predict({"a.dcm": to_bytes(dataset)}).studies
    assert study.chosen.slices[0].spacing_mm is None
    assert "too-few-slices" in codes(study)
