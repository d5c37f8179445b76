"""Watches a DICOMweb server: what is new of CT there is fetched once it does not grow any more.

QIDO-RS cannot be asked for what changed. So the CT series of each study, with their numbers of
objects, are compared with what was seen before; results that come back are of other modalities and
change nothing.
"""

import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable
from datetime import date, timedelta

from hemtrace.node.config import NodeConfig, Watch
from hemtrace.node.intake import Intake, Source
from hemtrace.node.privacy import place_of
from hemtrace.node.schema import Database
from hemtrace.node.web import Listed, WebError, WebServer

_LOG = logging.getLogger("hemtrace.node")


class Watcher:
    """Looks at one server, again and again.

    Parameters
    ----------
    watch
        Of the configuration.
    config
        The rest of it.
    intake
        Takes what is fetched.
    database
        Remembers what was seen, through every restart.
    """

    def __init__(
        self,
        watch: Watch,
        config: NodeConfig,
        intake: Intake,
        database: Database,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._watch, self._config, self._intake = watch, config, intake
        self._database, self._clock = database, clock
        self._server = WebServer(watch)
        self._counts: dict[str, int] = {}
        self._unanswered = 0
        self.name, self.every_seconds = watch.name, watch.every_seconds

    def look(self, stopping: Callable[[], bool] = lambda: False) -> int:
        """Look once, and fetch what is ready; count the studies that were fetched.

        Raises
        ------
        WebError
            If the server cannot be asked.
        """
        most = self._watch.most_studies
        studies = self._list_studies(most)
        listed = {self._intake.key(study.uid) for study in studies}
        for key in self._list_held() - listed:
            self._give_up(key, "its server does not list it any more")
        if len(studies) >= most:
            _LOG.warning(
                "%s: it lists %d studies or more; those beyond are not seen", self._watch.name, most
            )
        fetched = 0
        for study in studies:
            if stopping():
                break
            fetched += self._look_at(study)
        return fetched

    def _list_studies(self, most: int) -> list[Listed]:
        try:
            studies = self._server.list_studies(self._dates(), most)
        except WebError as error:
            self._unanswered += 1
            if self._unanswered >= self._config.retries.times:
                for key in self._list_held():
                    self._give_up(key, str(error))
            raise
        self._unanswered = 0
        return studies

    def _list_held(self) -> set[str]:
        """Find the studies of which a part was fetched."""
        rows = self._database.rows(
            "SELECT key FROM studies JOIN watched USING (key) "
            "WHERE watcher = ? AND state = 'receiving' AND whole < 0",
            self._watch.name,
        )
        return {row["key"] for row in rows}

    def _give_up(self, key: str, why: str) -> None:
        if self._intake.give_up_held(key, f"Only a part of it was fetched: {why}"):
            _LOG.warning("%s: a study of which a part was fetched is given up", self._watch.name)

    def _dates(self) -> str | None:
        if not self._watch.days:
            return None
        # A day ahead, for servers in another time zone.
        today = date.fromtimestamp(self._clock())
        first, last = today - timedelta(self._watch.days - 1), today + timedelta(1)
        return f"{first:%Y%m%d}-{last:%Y%m%d}"

    def _look_at(self, study: Listed) -> bool:
        key = self._intake.key(study.uid)
        held = key in self._list_held()
        if study.objects is not None and self._counts.get(key) == study.objects and not held:
            return False  # settled when it was as large
        try:
            series = [one for one in self._server.list_series(study.uid) if one.kind == "CT"]
        except WebError as error:
            row = self._note(key, "", self._clock())
            self._note_failure(key, row["attempts"] + 1, str(error))
            return False
        if not series:
            self._give_up(key, "its server lists no CT of it any more")
            return False
        now, seen = self._clock(), _digest(series)
        row = self._note(key, seen, now)
        if row["taken"] == seen:
            if held:  # what was there beyond is gone again
                self._intake.mark_whole(key)
            if row["error"] is not None:
                self._note_taken(key, seen)
            if study.objects is not None:
                self._counts[key] = study.objects
            return False
        if now - row["since"] < self._config.complete_after_seconds or row["next_try"] > now:
            return False
        try:
            self._fetch(study.uid, series)
        except Exception as error:
            # Whatever it is, it counts as an attempt, and the studies after this one are looked at.
            told = str(error) if isinstance(error, WebError) else place_of(error)
            self._note_failure(key, row["attempts"] + 1, told)
            return False
        self._intake.mark_whole(key)
        self._note_taken(key, seen)
        return True

    def _note_taken(self, key: str, seen: str) -> None:
        with self._database.transaction() as link:
            link.execute(
                "UPDATE watched SET taken = ?, attempts = 0, error = NULL "
                "WHERE watcher = ? AND key = ?",
                (seen, self._watch.name, key),
            )

    def _note(self, key: str, seen: str, now: float) -> sqlite3.Row:
        """Note what a study looks like; give the row."""
        with self._database.transaction() as link:
            link.execute(
                "INSERT INTO watched (watcher, key, seen, since) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET seen = excluded.seen, since = excluded.since "
                "WHERE seen != excluded.seen",
                (self._watch.name, key, seen, now),
            )
        return self._database.one(
            "SELECT * FROM watched WHERE watcher = ? AND key = ?", self._watch.name, key
        )

    def _note_failure(self, key: str, attempts: int, sentence: str) -> None:
        _LOG.warning("%s: a study was not fetched (attempt %d)", self._watch.name, attempts)
        with self._database.transaction() as link:
            link.execute(
                "UPDATE watched SET attempts = ?, next_try = ?, error = ? "
                "WHERE watcher = ? AND key = ?",
                (
                    attempts,
                    self._clock() + self._config.retries.wait(attempts),
                    sentence,
                    self._watch.name,
                    key,
                ),
            )
        if attempts >= self._config.retries.times:
            self._give_up(key, sentence)

    def _fetch(self, study: str, series: list[Listed]) -> None:
        source = Source(self._watch.name, holds=True)
        for one in series:
            for found in self._server.list_objects(study, one.uid):
                if self._intake.has_object(study, found.uid):
                    continue
                content = self._server.fetch(
                    study, one.uid, found.uid, self._config.limits.file_bytes
                )
                outcome = self._intake.take(content, found.kind, source)
                if outcome == "full":
                    raise WebError("There is no room for more objects.")
                if outcome == "unreadable":
                    _LOG.warning("%s: an object could not be read", self._watch.name)


def watch_for_ever(watcher: Watcher, most_wait: float, wait: Callable[[float], bool]) -> None:
    """Look until told to stop; wait longer each time that the server does not answer.

    Parameters
    ----------
    watcher
        Of the server.
    most_wait
        Seconds.
    wait
        Waits some seconds and says whether to stop.
    """
    failures = 0
    every, name = watcher.every_seconds, watcher.name
    while True:
        try:
            fetched = watcher.look(lambda: wait(0))
            failures = 0
            if fetched:
                _LOG.info("%s: %d studies were fetched", name, fetched)
        except WebError as error:
            failures += 1
            _LOG.warning("%s: %s", name, error)
        if wait(min(every * 2.0 ** min(failures, 20), max(every, most_wait))):
            return


def _digest(series: list[Listed]) -> str:
    told = "\n".join(sorted(f"{one.uid} {one.objects}" for one in series))
    return hashlib.sha256(told.encode()).hexdigest()
