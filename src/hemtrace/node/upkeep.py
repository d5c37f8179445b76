"""What keeps the queue in order: after a crash, for dead letters, to forget studies."""

import json
import logging
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hemtrace.node.schema import Database
from hemtrace.node.steps import UNANSWERED, settle

_LOG = logging.getLogger("hemtrace.node")
ARRIVING = "arriving"
STUDIES = "studies"
RESULTS = "results"
_KNOWN = (
    "destination IN (SELECT told.value FROM meta, json_each(meta.value) AS told "
    "WHERE name = 'destinations')"
)


def recover(database: Database, destinations: Sequence[str]) -> int:
    """Put back what a crash left half done, and remove files that no row names.

    What waits for a destination that is not in the configuration any more is a dead letter.

    Returns
    -------
    How many predictions were broken off.
    """
    now = time.time()
    with database.transaction() as link:
        broken = link.execute(
            "UPDATE studies SET state = 'complete', next_try = 0 WHERE state = 'predicting'"
        ).rowcount
        # Who fetches it takes hold of it again, if it is still to be fetched.
        link.execute(
            "UPDATE studies SET whole = 0, last_at = ? WHERE whole < 0 AND state != 'dead'", (now,)
        )
        # `retry` is another process, and asks for them.
        link.execute(
            "INSERT OR REPLACE INTO meta VALUES ('destinations', ?)",
            (json.dumps(list(destinations)),),
        )
        marks = ", ".join("?" * len(destinations))
        orphans = link.execute(
            "UPDATE deliveries SET state = 'dead', error = 'The configuration has no destination "
            f"of this name.' WHERE state = 'waiting' AND destination NOT IN ({marks}) "
            "RETURNING study",
            tuple(destinations),
        ).fetchall()
        for row in orphans:
            settle(link, row["study"], now)
    _remove_strays(database)
    return broken


def retry(database: Database, study: int | None = None) -> int:
    """Give dead letters, of one study or all, another chance; count them.

    Those for a destination that the last start did not know stay dead, and a warning says so:
    nobody would send them.
    """
    chosen: tuple[object, ...] = () if study is None else (study,)
    of_study, of_id = ("", "") if study is None else (" AND study = ?", " AND id = ?")
    with database.transaction() as link:
        unsent = link.execute(
            "UPDATE deliveries SET state = 'waiting', attempts = 0, next_try = 0 "
            f"WHERE state = 'dead' AND {_KNOWN}{of_study}",
            chosen,
        ).rowcount
        orphans = link.execute(
            f"SELECT DISTINCT destination FROM deliveries WHERE state = 'dead'{of_study}", chosen
        ).fetchall()
        unanswered = link.execute(
            "UPDATE studies SET state = 'complete', attempts = 0, next_try = 0, settled_at = NULL "
            f"WHERE state = 'dead' AND {UNANSWERED}{of_id}",
            chosen,
        ).rowcount
        link.execute(
            "UPDATE studies SET state = 'sending', settled_at = NULL WHERE state = 'dead' "
            "AND id IN (SELECT study FROM deliveries WHERE state = 'waiting')"
        )
    for row in orphans:
        _LOG.warning(
            "Dead letters for %s stay dead: the node was last started without a destination of "
            "this name.",
            row["destination"],
        )
    return unsent + unanswered


def wipe(database: Database, keep_seconds: float, keep_dead_seconds: float) -> list[int]:
    """Forget studies that were done, or dead, for longer than told; list their numbers."""
    now = time.time()
    with database.transaction() as link:
        rows = link.execute(
            "DELETE FROM studies WHERE (state = 'done' AND settled_at <= ?) "
            "OR (state = 'dead' AND settled_at <= ?) RETURNING id",
            (now - keep_seconds, now - keep_dead_seconds),
        ).fetchall()
    gone = [row["id"] for row in rows]
    # A crash in between leaves folders that `recover` removes.
    for number in gone:
        for kind in (STUDIES, RESULTS):
            shutil.rmtree(database.folder / kind / f"{number:06d}", ignore_errors=True)
    return gone


def count_bytes(database: Database) -> int:
    """Bytes of all objects and results that are kept."""
    row = database.one(
        "SELECT (SELECT coalesce(sum(bytes), 0) FROM objects WHERE file IS NOT NULL) + "
        "(SELECT coalesce(sum(bytes), 0) FROM results) AS total"
    )
    return int(row["total"])


def _remove_strays(database: Database) -> None:
    """Remove files that were being written when the node ended."""
    shutil.rmtree(database.folder / ARRIVING, ignore_errors=True)
    rows = database.rows(
        "SELECT file FROM objects WHERE file IS NOT NULL UNION SELECT file FROM results"
    )
    known = {Path(row["file"]) for row in rows}
    for kind in (STUDIES, RESULTS):
        for path in sorted((database.folder / kind).glob("*/*")):
            if path.relative_to(database.folder) not in known:
                path.unlink()
        for path in sorted((database.folder / kind).glob("*")):
            with suppress(OSError):  # it is not empty
                path.rmdir()
