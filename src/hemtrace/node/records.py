"""What the queue is told, and what it tells."""

from dataclasses import dataclass
from typing import Protocol

from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Arrival:
    """An object that came in.

    Attributes
    ----------
    study, key
        Salted hashes of the UIDs of study and object.
    sha256
        Of its data set and transfer syntax.
    bytes
        Of its file.
    source
        Who sent it, by our own name for him.
    urgent
        Whether its study goes before others.
    held
        Whether its study waits, however long, until it is told to be whole.
    reason
        Why it is not kept; None: it is.
    accession, patient_name
        What tells its study apart on the worklist; noted where it is the first of its study.
    """

    study: str
    key: str
    sha256: str
    bytes: int
    source: str
    urgent: bool = False
    held: bool = False
    reason: str | None = None
    accession: str | None = None
    patient_name: str | None = None


@dataclass(frozen=True)
class Task:
    """A study to be predicted.

    Attributes
    ----------
    files
        Below the node's folder, in the order of arrival.
    upto
        The last object among them.
    made
        When the prediction of this revision first began, seconds since 1970.
    late
        How many of the files came after the answer before.
    attempts
        This one included.
    """

    study: int
    revision: int
    files: tuple[str, ...]
    upto: int
    made: float
    late: int
    attempts: int


@dataclass(frozen=True)
class Told:
    """What the worklist tells of an answer; urgency as in `predict.Verdict`."""

    answer: str
    sentence: str
    probability: float | None
    urgency: float


@dataclass(frozen=True)
class Answer:
    """What came of a study: words for the worklist, objects for the PACS."""

    told: Told
    results: tuple[Dataset, ...] = ()


class Answers(Protocol):
    """What answers the studies of a node (`answer.Answerer`)."""

    def describe(self) -> str:
        """Tell what the model is, as JSON for the worklist."""
        ...

    def answer(self, task: Task) -> Answer:
        """Predict a study and make its results."""
        ...


@dataclass(frozen=True)
class ResultFile:
    """A result object that was written: its SOP Instance UID, file below the folder, bytes."""

    uid: str
    file: str
    bytes: int


@dataclass(frozen=True)
class Delivery:
    """Results of a revision that one destination has not got yet."""

    id: int
    study: int
    revision: int
    files: tuple[str, ...]
    attempts: int


class StudyFullError(Exception):
    """A study has as many objects as it may."""
