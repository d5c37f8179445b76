"""The queue: what happens to a study until it is predicted, one transaction a step.

receiving -> complete -> predicting -> sending -> done, or dead where something was given up.

An answer is of the slices that were there when its prediction began. Slices that come later open
the next revision of the study: it is predicted again, with all its slices, once it is quiet. The
first answer is sent all the same.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from hemtrace.node.config import Retries
from hemtrace.node.records import Arrival, ResultFile, StudyFullError, Task, Told
from hemtrace.node.schema import Database
from hemtrace.node.steps import UNANSWERED, find_study, open_revision, reopen, settle

Order = Literal["arrival", "urgency"]
_SORTED: dict[Order, str] = {"arrival": "first_at, id", "urgency": "urgent DESC, first_at, id"}
OTHER_BYTES = "Other bytes came under the UID of an object that is kept; the first ones count."


class Queue:
    """The steps of a study until it is predicted.

    Parameters
    ----------
    database
        Of the node.
    retries
        When a prediction is tried again, and when it is given up.
    clock
        Seconds since 1970.
    """

    def __init__(
        self, database: Database, retries: Retries, clock: Callable[[], float] = time.time
    ) -> None:
        self.database, self._retries, self._clock = database, retries, clock

    @contextmanager
    def arrive(self, arrival: Arrival, most_objects: int) -> Iterator[str | None]:
        """Record an object; the block puts its file in place, within the transaction.

        What is known with the same bytes is not recorded again; with others it is, as not kept.

        Yields
        ------
        The name that the file gets, below the folder; None where no file is to be kept.

        Raises
        ------
        StudyFullError
            If the study has as many objects as it may.
        """
        now = self._clock()
        with self.database.transaction() as link:
            study = find_study(link, arrival, now)
            mine = "FROM objects WHERE study = ?"
            if link.execute(f"SELECT 1 {mine} AND key = ? AND sha256 = ?",
                            (study["id"], arrival.key, arrival.sha256)).fetchone():  # fmt: skip
                yield None
                return
            if (
                link.execute(f"SELECT count(*) {mine}", (study["id"],)).fetchone()[0]
                >= most_objects
            ):
                raise StudyFullError
            reason = arrival.reason
            if (
                reason is None
                and link.execute(
                    f"SELECT 1 {mine} AND key = ? AND file IS NOT NULL", (study["id"], arrival.key)
                ).fetchone()
            ):
                reason = OTHER_BYTES
            number = link.execute(
                "INSERT INTO objects (study, key, sha256, bytes, reason, at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (study["id"], arrival.key, arrival.sha256, arrival.bytes, reason, now),
            ).lastrowid
            if reason is not None:
                yield None
                return
            file = f"studies/{study['id']:06d}/{number:08d}.dcm"
            link.execute("UPDATE objects SET file = ? WHERE id = ?", (file, number))
            reopen(link, study, arrival.held, now)
            yield file

    def knows_study(self, study_key: str) -> bool:
        """Whether a study has a row."""
        return bool(self.database.rows("SELECT 1 FROM studies WHERE key = ?", study_key))

    def knows_object(self, study_key: str, key: str) -> bool:
        """Whether an object of a study has a row."""
        return bool(
            self.database.rows(
                "SELECT 1 FROM objects JOIN studies ON studies.id = study "
                "WHERE studies.key = ? AND objects.key = ?",
                study_key,
                key,
            )
        )

    def is_own_result(self, uid: str) -> bool:
        """Whether an object was made here."""
        return bool(self.database.rows("SELECT 1 FROM results WHERE uid = ?", uid))

    def mark_whole(self, study_key: str) -> None:
        """Note that a study's server holds no more of it: there is nothing to wait for."""
        with self.database.transaction() as link:
            link.execute(
                "UPDATE studies SET state = 'receiving', settled_at = NULL, error = NULL "
                f"WHERE key = ? AND state = 'dead' AND whole < 0 AND {UNANSWERED}",
                (study_key,),
            )
            link.execute("UPDATE studies SET whole = 1 WHERE key = ?", (study_key,))

    def give_up_held(self, study_key: str, sentence: str) -> bool:
        """Let a study that waits for its server be a dead letter; say whether it did wait.

        It is not answered without what is missing, unless somebody asks for that by `retry`.
        """
        with self.database.transaction() as link:
            return bool(
                link.execute(
                    "UPDATE studies SET state = 'dead', error = ?, settled_at = ? "
                    "WHERE key = ? AND state = 'receiving' AND whole < 0",
                    (sentence, self._clock(), study_key),
                ).rowcount
            )

    def close_quiet(self, quiet_seconds: float) -> int:
        """Let studies be complete that got nothing for some seconds; count them."""
        with self.database.transaction() as link:
            return link.execute(
                "UPDATE studies SET state = 'complete', attempts = 0, next_try = 0, made = NULL "
                "WHERE state = 'receiving' AND (whole = 1 OR (whole = 0 AND last_at <= ?))",
                (self._clock() - quiet_seconds,),
            ).rowcount

    def claim(self, order: Order) -> Task | None:
        """Take the next study to be predicted, and count the attempt before it is made.

        So a study that kills the process is given up after as many attempts as any other.
        """
        now = self._clock()
        with self.database.transaction() as link:
            # There is one worker: what is predicting here failed, and that could not be noted.
            study = link.execute(
                "SELECT * FROM studies WHERE state IN ('complete', 'predicting') AND next_try <= ? "
                f"ORDER BY {_SORTED[order]} LIMIT 1",
                (now,),
            ).fetchone()
            if study is None:
                return None
            objects = link.execute(
                "SELECT id, file FROM objects WHERE study = ? AND file IS NOT NULL ORDER BY id",
                (study["id"],),
            ).fetchall()
            made = study["made"] or now
            link.execute(
                "UPDATE studies SET state = 'predicting', made = ?, attempts = attempts + 1 "
                "WHERE id = ?",
                (made, study["id"]),
            )
        return Task(
            study=study["id"],
            revision=study["revision"],
            files=tuple(one["file"] for one in objects),
            upto=max((one["id"] for one in objects), default=0),
            made=made,
            late=sum(one["id"] > study["upto"] for one in objects) if study["upto"] else 0,
            attempts=study["attempts"] + 1,
        )

    def finish(
        self, task: Task, told: Told, results: Sequence[ResultFile], destinations: Sequence[str]
    ) -> int:
        """Keep the answer on a study and what is to be sent of it; count the new objects.

        An object whose UID an earlier revision has made says the same, and is not sent again.
        """
        now = self._clock()
        with self.database.transaction() as link:
            fresh = 0
            for one in results:
                fresh += link.execute(
                    "INSERT OR IGNORE INTO results (study, revision, uid, file, bytes) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (task.study, task.revision, one.uid, one.file, one.bytes),
                ).rowcount
            for name in destinations if fresh else ():
                link.execute(
                    "INSERT INTO deliveries (study, revision, destination, state) "
                    "VALUES (?, ?, ?, 'waiting')",
                    (task.study, task.revision, name),
                )
            link.execute(
                "UPDATE studies SET state = 'sending', upto = ?, error = NULL, answer = ?, "
                "sentence = ?, probability = ?, urgency = ?, answered_at = ? WHERE id = ?",
                (task.upto, told.answer, told.sentence, told.probability, told.urgency, now,
                 task.study),
            )  # fmt: skip
            if link.execute(
                "SELECT 1 FROM objects WHERE study = ? AND file IS NOT NULL AND id > ?",
                (task.study, task.upto),
            ).fetchone():
                open_revision(link, task.study)
            settle(link, task.study, now)
        return fresh

    def fail(self, task: Task, sentence: str) -> bool:
        """Note that a prediction failed; say whether it was given up."""
        gone = task.attempts >= self._retries.times
        now = self._clock()
        with self.database.transaction() as link:
            link.execute(
                "UPDATE studies SET state = ?, error = ?, next_try = ?, settled_at = ? "
                "WHERE id = ? AND state = 'predicting'",
                (
                    "dead" if gone else "complete",
                    sentence,
                    now + self._retries.wait(task.attempts),
                    now if gone else None,
                    task.study,
                ),
            )
            if link.execute(
                "SELECT 1 FROM objects WHERE study = ? AND file IS NOT NULL AND id > ?",
                (task.study, task.upto),
            ).fetchone():
                open_revision(link, task.study)  # another study than the one that failed
        return gone
