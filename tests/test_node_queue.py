"""The node's queue, step by step, without a network: nothing is lost, nothing is done twice."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hemtrace.errors import HemtraceError
from hemtrace.node.config import Retries
from hemtrace.node.outbox import Outbox
from hemtrace.node.queue import OTHER_BYTES, Queue
from hemtrace.node.records import Arrival, ResultFile, StudyFullError, Task, Told
from hemtrace.node.schema import Database, hold_folder
from hemtrace.node.send import send_next
from hemtrace.node.upkeep import count_bytes, recover, retry, wipe
from hemtrace.node.worklist import list_studies

BLEED = Told("bleed", "Bleed suspected.", 0.9, 0.96)
CLEAR = Told("no-bleed", "No bleed found.", 0.1, 0.04)


class World:
    """A queue with a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, 1000.0
        self.retries = Retries(times=3, first_seconds=10, most_seconds=15)
        self.open()
        recover(self.database, ["pacs"])

    def open(self) -> None:
        self.database = Database(self.folder, create=True)
        self.queue = Queue(self.database, self.retries, lambda: self.now)
        self.outbox = Outbox(self.database, self.retries, lambda: self.now)

    def crash(self) -> None:
        """End as SIGKILL would, and start again."""
        self.database.close()
        self.open()
        recover(self.database, ["pacs"])

    def arrive(self, study: str, key: str, sha: str = "a", **given: object) -> str | None:
        arrival = Arrival(study, key, sha, 100, "CT1", **given)  # type: ignore[arg-type]
        with self.queue.arrive(arrival, 5) as file:
            if file is not None:
                path = self.folder / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"x")
            return file

    def claim(self, order: str = "arrival") -> Task:
        self.now += 61
        self.queue.close_quiet(60)
        task = self.queue.claim(order)  # type: ignore[arg-type]
        assert task is not None
        return task

    def finish(self, task: Task, *uids: str, told: Told = BLEED) -> int:
        files = [ResultFile(uid, f"results/{task.study:06d}/{uid}.dcm", 50) for uid in uids]
        return self.queue.finish(task, told, files, ["pacs"])

    def send(self) -> None:
        while (delivery := self.outbox.find_next("pacs")) is not None:
            self.outbox.mark_sent(delivery)

    @property
    def states(self) -> list[str]:
        return [one.state for one in sorted(list_studies(self.database), key=lambda e: e.number)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "node")
    yield made
    made.database.close()


def test_study_goes_through_every_state_once(world: World) -> None:
    world.arrive("s", "1")
    assert world.states == ["receiving"]
    world.now += 59
    world.arrive("s", "2")
    world.now += 59  # the second slice begins the wait anew
    assert world.queue.close_quiet(60) == 0
    task = world.claim()
    assert (world.states, len(task.files)) == (["predicting"], 2)
    assert world.finish(task, "r1", "r2") == 2
    assert world.states == ["sending"]
    delivery = world.outbox.find_next("pacs")
    assert delivery is not None
    assert len(delivery.files) == 2
    world.outbox.mark_sent(delivery)
    assert world.states == ["done"]
    assert world.outbox.find_next("pacs") is None


def test_crash_in_any_state_goes_on_from_there(world: World) -> None:
    world.arrive("s", "1")
    world.crash()
    assert world.states == ["receiving"]
    first = world.claim()
    world.crash()
    assert world.states == ["complete"]
    task = world.claim()
    assert (task.made, task.attempts) == (first.made, 2)
    world.finish(task, "r1")
    world.crash()
    assert world.states == ["sending"]
    delivery = world.outbox.find_next("pacs")
    world.crash()  # sent, and not noted
    assert world.outbox.find_next("pacs") == delivery
    world.send()
    world.crash()
    assert world.states == ["done"]
    assert world.outbox.find_next("pacs") is None


def test_rollback_leaves_neither_row_nor_file(world: World) -> None:
    with (
        pytest.raises(OSError, match="full"),
        world.queue.arrive(Arrival("s", "1", "a", 100, "CT1"), 5),
    ):
        raise OSError("full")
    assert world.states == []
    assert world.arrive("s", "1") is not None


def test_equal_object_counts_once_and_another_under_its_uid_is_told(world: World) -> None:
    assert world.arrive("s", "1")
    assert world.arrive("s", "1") is None
    assert world.arrive("s", "1", sha="b") is None
    (entry,) = list_studies(world.database)
    assert (entry.kept, entry.not_kept, entry.reasons) == (1, 1, (OTHER_BYTES,))


def test_what_is_not_kept_has_a_row_and_makes_no_answer_again(world: World) -> None:
    world.arrive("s", "1")
    world.finish(world.claim(), "r1")
    world.send()
    assert world.arrive("s", "9", reason="no CT") is None
    assert world.states == ["done"]
    (entry,) = list_studies(world.database)
    assert (entry.not_kept, entry.reasons) == (1, ("no CT",))


def test_study_that_is_being_fetched_waits_until_it_is_whole(world: World) -> None:
    world.arrive("s", "1", held=True)
    world.now += 9999
    assert world.queue.close_quiet(60) == 0
    world.arrive("s", "2")  # comes by another way meanwhile
    world.now += 9999
    assert world.queue.close_quiet(60) == 0
    world.queue.mark_whole("s")
    assert world.queue.close_quiet(60) == 1
    task = world.claim()
    world.arrive("s", "3", held=True)
    world.queue.mark_whole("s")
    world.finish(task, "r1")
    assert len(world.claim().files) == 3
    # A start lets go of what nobody fetches any more.
    world.arrive("t", "1", held=True)
    world.crash()
    world.database.rows("UPDATE studies SET last_at = 0")
    assert world.queue.close_quiet(60) >= 1


def test_late_slice_opens_a_revision_with_all_slices(world: World) -> None:
    world.arrive("s", "1")
    world.finish(world.claim(), "r1")
    world.send()
    world.arrive("s", "2")
    assert world.states == ["receiving"]
    task = world.claim()
    assert (task.revision, task.late, len(task.files)) == (2, 1, 2)
    world.finish(task, "r2")
    world.send()
    assert world.states == ["done"]


def test_slice_that_comes_while_it_predicts_is_predicted_after(world: World) -> None:
    world.arrive("s", "1")
    task = world.claim()
    world.arrive("s", "2")
    assert world.states == ["predicting"]
    world.finish(task, "r1")
    assert world.states == ["receiving"]
    delivery = world.outbox.find_next("pacs")  # the first answer is sent all the same
    assert delivery is not None
    assert delivery.revision == 1
    again = world.claim()
    assert (again.revision, again.late) == (2, 1)
    world.finish(again, "r2")
    world.send()
    assert world.states == ["done"]


def test_late_slice_that_changes_no_result_sends_nothing_again(world: World) -> None:
    world.arrive("s", "1")
    world.finish(world.claim(), "r1")
    world.send()
    world.arrive("s", "scout")
    assert world.finish(world.claim(), "r1") == 0
    assert world.outbox.find_next("pacs") is None
    assert world.states == ["done"]


def test_failing_prediction_waits_longer_and_is_given_up_then_retried(world: World) -> None:
    world.arrive("s", "1")
    assert not world.queue.fail(world.claim(), "broken")
    assert world.queue.claim("arrival") is None  # it waits 10 s
    world.now += 11
    task = world.queue.claim("arrival")
    assert task is not None
    assert not world.queue.fail(task, "broken")
    assert world.queue.fail(world.claim(), "broken")
    assert world.states == ["dead"]
    world.crash()
    assert world.states == ["dead"]
    assert retry(world.database, 99) == 0
    assert retry(world.database) == 1
    world.finish(world.claim(), "r1")
    world.send()
    assert world.states == ["done"]


def test_delivery_is_given_up_and_retried_without_predicting_again(world: World) -> None:
    world.arrive("s", "1")
    world.finish(world.claim(), "r1")
    for given_up in (False, False, True):
        delivery = world.outbox.find_next("pacs")
        assert delivery is not None
        assert world.outbox.mark_unsent(delivery, "down") is given_up
        assert world.outbox.find_next("pacs") is None
        world.now += 20
    assert world.states == ["dead"]
    (entry,) = list_studies(world.database)
    assert list(entry.faults) == ["pacs, after 3 attempts: down"]
    assert retry(world.database, 1) == 1
    assert world.states == ["sending"]
    assert world.queue.claim("arrival") is None
    world.send()
    assert world.states == ["done"]


def test_delivery_that_fails_in_an_unforeseen_way_is_given_up_and_holds_up_no_other(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def send(self, files: Sequence[Path]) -> None:
            if "r1" in files[0].name:
                raise FileNotFoundError(f"{files[0]} of Zaphod^Beeblebrox")
            sent.append(files[0].stem)

    sent: list[str] = []
    for number in "12":
        world.arrive(f"s{number}", number)
        world.finish(world.claim(), f"r{number}")
    for _ in range(4):
        assert send_next(world.outbox, "pacs", Broken(), world.folder)
        world.now += 20
    assert not send_next(world.outbox, "pacs", Broken(), world.folder)
    assert (world.states, sent) == (["dead", "done"], ["r2"])
    fault = " ".join(next(one for one in list_studies(world.database) if one.is_dead).faults)
    assert "FileNotFoundError at test_node_queue.py:" in fault
    assert "Beeblebrox" not in fault + caplog.text


def test_answer_never_comes_before_the_one_that_it_replaces(world: World) -> None:
    world.arrive("s", "1")
    world.finish(world.claim(), "r1")
    first = world.outbox.find_next("pacs")
    assert first is not None
    world.arrive("s", "2")
    world.finish(world.claim(), "r2")
    world.outbox.mark_unsent(first, "down")
    assert world.outbox.find_next("pacs") is None
    world.now += 20
    assert world.outbox.find_next("pacs") is not None
    for revision in (1, 1, 2):  # the third attempt gives the first answer up
        delivery = world.outbox.find_next("pacs")
        assert delivery is not None
        assert delivery.revision == revision
        world.outbox.mark_unsent(delivery, "down")
        world.now += 20


def test_destination_that_left_the_configuration_is_a_dead_letter(world: World) -> None:
    world.arrive("s", "1")
    world.finish(world.claim(), "r1")
    recover(world.database, ["other"])
    assert world.states == ["dead"]


def test_retry_leaves_letters_dead_that_nobody_would_send(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.arrive("s", "1")
    world.finish(world.claim(), "r1")
    recover(world.database, ["other"])
    assert retry(world.database) == 0
    assert world.states == ["dead"]
    assert "Dead letters for pacs stay dead" in caplog.text
    recover(world.database, ["pacs"])  # it is in the configuration again
    assert retry(world.database) == 1
    world.send()
    assert world.states == ["done"]


def test_late_slices_lift_a_study_on_the_worklist_until_they_are_answered(world: World) -> None:
    world.arrive("clear", "1")
    world.finish(world.claim(), "r1", told=CLEAR)
    world.arrive("unsure", "2")
    world.finish(world.claim(), "r2", told=Told("no-answer", "No answer.", None, 0.3))

    def numbers() -> list[int]:
        return [one.number for one in list_studies(world.database)]

    assert numbers() == [2, 1]
    world.arrive("clear", "3")
    assert numbers() == [1, 2]
    world.finish(world.claim(), "r3", told=CLEAR)
    assert numbers() == [2, 1]
    world.arrive("bleed", "4")
    world.finish(world.claim(), "r4")
    world.arrive("bleed", "5")
    assert numbers() == [3, 2, 1]  # a bleed stays first


def test_order_is_by_arrival_or_by_urgency(world: World) -> None:
    for number, study in enumerate("abc"):
        world.now += 1
        world.arrive(study, str(number), urgent=study == "b")
    world.now += 61
    world.queue.close_quiet(60)
    first = world.queue.claim("urgency")
    assert first is not None
    assert first.study == 2
    world.finish(first, "rb", told=CLEAR)
    for uid, told in (("ra", CLEAR), ("rc", BLEED)):
        task = world.queue.claim("arrival")
        assert task is not None
        world.finish(task, uid, told=told)
    # Bleeds are sent first, and stand first.
    delivery = world.outbox.find_next("pacs")
    assert delivery is not None
    assert delivery.study == 3
    assert list_studies(world.database)[0].number == 3


def test_study_takes_no_more_objects_than_it_may(world: World) -> None:
    for number in range(5):
        world.arrive("s", str(number))
    with pytest.raises(StudyFullError):
        world.arrive("s", "5")
    world.arrive("other", "1")
    assert [one.number for one in list_studies(world.database)] == [1, 2]


def test_wiping_forgets_what_is_done_and_keeps_what_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: world.now)
    for study in ("done", "dead", "open"):
        world.arrive(study, study)
    world.finish(world.claim(), "r1")
    world.send()
    for _ in range(3):
        world.queue.fail(world.claim(), "broken")
    world.now += 5000
    assert wipe(world.database, 3600, 10**6) == [1]
    assert not (world.folder / "studies/000001").exists()
    assert (world.folder / "studies/000002").exists()
    assert world.states == ["dead", "complete"]
    assert count_bytes(world.database) == 200
    world.now += 10**6
    assert wipe(world.database, 3600, 10**6) == [2]
    # What comes again is another study: a number is never used twice.
    world.arrive("done", "done")
    assert sorted(one.number for one in list_studies(world.database)) == [3, 4]


def test_start_removes_files_that_no_row_names(world: World) -> None:
    kept = world.arrive("s", "1")
    assert kept is not None
    strays = [world.folder / name for name in ("studies/000009/1.dcm", "arriving/part")]
    for stray in strays:
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_bytes(b"x")
    world.crash()
    assert not any(stray.exists() for stray in strays)
    assert (world.folder / kept).exists()


def test_folder_is_private_and_holds_one_node(world: World) -> None:
    assert world.folder.stat().st_mode & 0o777 == 0o700
    assert (world.folder / "queue.sqlite").stat().st_mode & 0o077 == 0
    hold_folder(world.folder)
    with pytest.raises(HemtraceError, match="Another node"):
        hold_folder(world.folder)


def test_damaged_queue_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "queue.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(HemtraceError, match="cannot be used"):
        Database(tmp_path)
    with pytest.raises(HemtraceError, match="No node has run"):
        Database(tmp_path / "nowhere")
