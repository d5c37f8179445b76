"""What the worklist tells, on the page and in the terminal: the most urgent study first."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hemtrace.node.schema import Database
from hemtrace.node.steps import UNANSWERED


@dataclass(frozen=True)
class Sent:
    """Results of a revision for one destination."""

    destination: str
    revision: int
    state: str
    attempts: int
    error: str | None


@dataclass(frozen=True)
class Entry:
    """A study of the worklist.

    Attributes
    ----------
    number
        What it is called in logs and commands.
    accession, patient_name
        Of its header; None unless the configuration asks for them.
    kept, not_kept
        How many objects of it are kept, and are not.
    reasons
        Why they are not.
    since
        When the first object came, seconds since 1970.
    """

    number: int
    accession: str | None
    patient_name: str | None
    source: str
    urgent: bool
    state: str
    revision: int
    kept: int
    not_kept: int
    reasons: tuple[str, ...]
    since: float
    answered_at: float | None
    answer: str | None
    sentence: str | None
    probability: float | None
    error: str | None
    sent: tuple[Sent, ...]

    @property
    def is_dead(self) -> bool:
        """Whether something of it was given up."""
        return self.state == "dead" or any(one.state == "dead" for one in self.sent)

    @property
    def faults(self) -> Iterator[str]:
        """Say what failed and may fail again, or was given up."""
        if self.error:
            yield self.error
        for one in self.sent:
            if one.error:
                tried = f"{one.attempts} {'attempt' if one.attempts == 1 else 'attempts'}"
                yield f"{one.destination}, after {tried}: {one.error}"


def list_studies(database: Database) -> list[Entry]:
    """List all studies; one without an answer stands between bleeds and the others.

    So does one whose answer is of fewer slices than have come, unless it tells of a bleed.
    """
    with database.transaction() as link:
        studies = link.execute(
            f"SELECT * FROM studies ORDER BY max(coalesce(urgency, 0.5), {UNANSWERED} * 0.5) DESC, "
            "first_at, id"
        ).fetchall()
        counts = {
            row["study"]: row
            for row in link.execute(
                "SELECT study, sum(file IS NOT NULL) AS kept, sum(file IS NULL) AS not_kept, "
                "json_group_array(DISTINCT reason) AS reasons FROM objects GROUP BY study"
            )
        }
        sent: dict[int, list[Sent]] = {}
        for row in link.execute("SELECT * FROM deliveries ORDER BY id"):
            one = Sent(
                row["destination"], row["revision"], row["state"], row["attempts"], row["error"]
            )
            sent.setdefault(row["study"], []).append(one)
    entries = []
    for row in studies:
        count = counts.get(row["id"])
        reasons = json.loads(count["reasons"]) if count else []
        entries.append(
            Entry(
                number=row["id"],
                accession=row["accession"],
                patient_name=row["patient_name"],
                source=row["source"],
                urgent=bool(row["urgent"]),
                state=row["state"],
                revision=row["revision"],
                kept=count["kept"] if count else 0,
                not_kept=count["not_kept"] if count else 0,
                reasons=tuple(sorted(reason for reason in reasons if reason)),
                since=row["first_at"],
                answered_at=row["answered_at"],
                answer=row["answer"],
                sentence=row["sentence"],
                probability=row["probability"],
                error=row["error"],
                sent=tuple(sent.get(row["id"], ())),
            )
        )
    return entries


def list_unfetched(database: Database) -> list[tuple[str, int, str]]:
    """List what a watched server holds and did not give: its name, attempts, the error."""
    rows = database.rows(
        "SELECT watcher, attempts, error FROM watched WHERE error IS NOT NULL ORDER BY since"
    )
    return [(row["watcher"], row["attempts"], row["error"]) for row in rows]


def read_model(database: Database) -> dict[str, Any]:
    """Read what the model of the last start was; empty where the node has not started yet."""
    rows = database.rows("SELECT value FROM meta WHERE name = 'model'")
    told: dict[str, Any] = json.loads(rows[0]["value"]) if rows else {}
    return told


def note_model(database: Database, described: str) -> None:
    """Keep what the model is."""
    with database.transaction() as link:
        link.execute("INSERT OR REPLACE INTO meta VALUES ('model', ?)", (described,))
