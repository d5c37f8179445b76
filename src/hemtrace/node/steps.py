"""Steps of a study that several transactions share."""

import sqlite3

from hemtrace.node.records import Arrival

# Whether slices came that no answer is of.
UNANSWERED = (
    "EXISTS (SELECT 1 FROM objects WHERE objects.study = studies.id AND file IS NOT NULL "
    "AND objects.id > studies.upto)"
)


def find_study(link: sqlite3.Connection, arrival: Arrival, now: float) -> sqlite3.Row:
    """Read the row of the study that an object belongs to, or make one."""
    # INSERT OR IGNORE would use up a number each time.
    if not link.execute("SELECT 1 FROM studies WHERE key = ?", (arrival.study,)).fetchone():
        link.execute(
            "INSERT INTO studies (key, state, source, urgent, first_at, last_at, accession, "
            "patient_name) VALUES (?, 'receiving', ?, ?, ?, ?, ?, ?)",
            (arrival.study, arrival.source, arrival.urgent, now, now, arrival.accession,
             arrival.patient_name),
        )  # fmt: skip
    if arrival.urgent:
        link.execute("UPDATE studies SET urgent = 1 WHERE key = ?", (arrival.study,))
    found = link.execute("SELECT * FROM studies WHERE key = ?", (arrival.study,))
    row: sqlite3.Row = found.fetchone()
    return row


def reopen(link: sqlite3.Connection, study: sqlite3.Row, held: bool, now: float) -> None:
    """Wait for more of a study that just got a slice; a prediction that runs is left alone."""
    whole = -1 if held else min(study["whole"], 0)
    link.execute(
        "UPDATE studies SET last_at = ?, whole = ? WHERE id = ?", (now, whole, study["id"])
    )
    if study["state"] == "complete":
        link.execute("UPDATE studies SET state = 'receiving' WHERE id = ?", (study["id"],))
    elif study["state"] in ("sending", "done", "dead"):
        open_revision(link, study["id"])


def open_revision(link: sqlite3.Connection, study: int) -> None:
    """Let a study be predicted anew; one without an answer goes on as the same revision."""
    link.execute(
        "UPDATE studies SET state = 'receiving', settled_at = NULL, made = NULL, error = NULL, "
        "revision = revision + (upto > 0) WHERE id = ?",
        (study,),
    )


def settle(link: sqlite3.Connection, study: int, now: float) -> None:
    """Let a study whose deliveries all ended be done, or dead where one was given up."""
    counts = dict(
        link.execute(
            "SELECT state, count(*) FROM deliveries WHERE study = ? GROUP BY state", (study,)
        ).fetchall()
    )
    if counts.get("waiting"):
        return
    state = "dead" if counts.get("dead") else "done"
    link.execute(
        "UPDATE studies SET state = ?, settled_at = ? WHERE id = ? AND state = 'sending'",
        (state, now, study),
    )
