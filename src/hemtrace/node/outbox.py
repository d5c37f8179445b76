"""What is to be sent: results of a revision, once for each destination."""

import time
from collections.abc import Callable

from hemtrace.node.config import Retries
from hemtrace.node.records import Delivery
from hemtrace.node.schema import Database
from hemtrace.node.steps import settle


class Outbox:
    """The deliveries; parameters are those of `queue.Queue`."""

    def __init__(
        self, database: Database, retries: Retries, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._retries, self._clock = database, retries, clock

    def find_next(self, destination: str) -> Delivery | None:
        """Find what a destination should get next: the most urgent answer first.

        An answer waits until the ones before it on the same study were sent or given up. They are
        not dropped: what came out the same in both is listed with the earlier one alone.
        """
        found = self._database.rows(
            "SELECT deliveries.* FROM deliveries JOIN studies ON studies.id = study "
            "WHERE destination = ? AND deliveries.state = 'waiting' AND deliveries.next_try <= ? "
            "AND NOT EXISTS (SELECT 1 FROM deliveries AS older WHERE older.study = studies.id "
            "AND older.destination = deliveries.destination AND older.state = 'waiting' "
            "AND older.revision < deliveries.revision) "
            "ORDER BY urgency DESC, deliveries.id LIMIT 1",
            destination,
            self._clock(),
        )
        if not found:
            return None
        row = found[0]
        files = self._database.rows(
            "SELECT file FROM results WHERE study = ? AND revision = ? ORDER BY id",
            row["study"],
            row["revision"],
        )
        names = tuple(one["file"] for one in files)
        return Delivery(row["id"], row["study"], row["revision"], names, row["attempts"])

    def mark_sent(self, delivery: Delivery) -> None:
        """Note that the destination has taken all of a delivery."""
        with self._database.transaction() as link:
            link.execute(
                "UPDATE deliveries SET state = 'done', attempts = ?, error = NULL WHERE id = ?",
                (delivery.attempts + 1, delivery.id),
            )
            settle(link, delivery.study, self._clock())

    def mark_unsent(self, delivery: Delivery, sentence: str) -> bool:
        """Note that a delivery failed; say whether it was given up."""
        attempts = delivery.attempts + 1
        gone = attempts >= self._retries.times
        now = self._clock()
        with self._database.transaction() as link:
            link.execute(
                "UPDATE deliveries SET state = ?, attempts = ?, next_try = ?, error = ? "
                "WHERE id = ?",
                (
                    "dead" if gone else "waiting",
                    attempts,
                    now + self._retries.wait(attempts),
                    sentence,
                    delivery.id,
                ),
            )
            settle(link, delivery.study, now)
        return gone
