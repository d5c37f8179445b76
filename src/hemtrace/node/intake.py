"""Every object that comes in, whichever way: looked at, written, recorded, then promised."""

import hashlib
import logging
import os
import shutil
import sqlite3
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hemtrace.dicom import pseudonym
from hemtrace.dicom.guard import GuardedReader
from hemtrace.dicom.plain import find_syntax, walk_file
from hemtrace.node.config import NodeConfig
from hemtrace.node.disk import make_folder, sync_folder
from hemtrace.node.privacy import log_defect
from hemtrace.node.queue import Queue
from hemtrace.node.records import Arrival, StudyFullError
from hemtrace.node.schema import make_private
from hemtrace.node.upkeep import ARRIVING, count_bytes

# CT Image Storage, Enhanced CT, Legacy Converted Enhanced CT (PS3.4 B.5).
CT_CLASSES = frozenset(f"1.2.840.10008.5.1.4.1.1.2{suffix}" for suffix in ("", ".1", ".2"))
NOT_CT = "It is no CT image by its SOP class."
_MANUFACTURER = "hemtrace"  # dicom_results.identity.MANUFACTURER, which takes highdicom to import
_LOG = logging.getLogger("hemtrace.node")

Outcome = Literal["kept", "known", "not kept", "own", "full", "unreadable"]


@dataclass(frozen=True)
class Source:
    """Who an object comes from: a name for the worklist, and what that means for its study.

    Attributes
    ----------
    urgent, holds
        As `records.Arrival` has it.
    """

    name: str
    urgent: bool = False
    holds: bool = False


class Intake:
    """Takes objects in; safe from several threads.

    Parameters
    ----------
    queue
        Where they are recorded.
    config
        Folder, limits, and what the worklist shows.
    """

    def __init__(self, queue: Queue, config: NodeConfig) -> None:
        self._queue, self._config, self._limits = queue, config, config.limits
        self._salt = queue.database.salt
        self._folder = config.folder
        self._arriving = make_private(config.folder / ARRIVING)
        # One header at a time, in a child process that may crash or hang.
        self._reader = GuardedReader(Path(), self._salt, seconds=5, memory_gb=2)
        self._reading = threading.Lock()
        self._kept_bytes = count_bytes(queue.database)

    def close(self) -> None:
        """End the child process."""
        with self._reading:
            self._reader.__exit__(None, None, None)

    def forget_bytes(self) -> None:
        """Count anew what is kept, after something was wiped."""
        self._kept_bytes = count_bytes(self._queue.database)

    def key(self, uid: str) -> str:
        """Give the salted hash that a UID is known by."""
        return pseudonym(uid, self._salt) or ""

    def has_object(self, study_uid: str, uid: str) -> bool:
        """Whether an object of a study is known."""
        return self._queue.knows_object(self.key(study_uid), self.key(uid))

    def mark_whole(self, study_key: str) -> None:
        """Note that a study's server holds no more of it."""
        self._queue.mark_whole(study_key)

    def give_up_held(self, study_key: str, sentence: str) -> bool:
        """Wait no longer for the rest of a study; say whether it did wait."""
        return self._queue.give_up_held(study_key, sentence)

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more may be kept."""
        if self._kept_bytes + size > self._limits.kept_bytes:
            return False
        return shutil.disk_usage(self._folder).free - size >= self._limits.free_bytes

    def take(self, content: bytes, sop_class: str, source: Source) -> Outcome:
        """Take an object in.

        Parameters
        ----------
        content
            A DICOM file.
        sop_class
            Of the object.
        source
            Who it comes from.

        Returns
        -------
        kept: it is on the disk and in the queue. known: it was before. not kept: its row says why.
        own: a result of ours came back. full: there is no room. unreadable: it names no study or no
        object, and nothing of it is left.
        """
        if len(content) > self._limits.file_bytes:
            return "full"
        is_ct = sop_class in CT_CLASSES
        uids = self._find_uids(content)
        if uids is None:
            return "unreadable"
        study_uid, object_uid, identity = uids
        if not is_ct and (self._queue.is_own_result(object_uid) or _is_ours(content)):
            return "own"
        if not self.has_room(len(content) if is_ct else 0):
            return "full"
        study = self.key(study_uid)
        accession, name = self._describe(study, content, identity)
        arrival = Arrival(
            study=study,
            key=self.key(object_uid),
            sha256=_digest(content),
            bytes=len(content),
            source=source.name,
            urgent=source.urgent,
            held=source.holds,
            reason=None if is_ct else NOT_CT,
            accession=accession,
            patient_name=name,
        )
        try:
            return self._keep(arrival, content if is_ct else None)
        except StudyFullError:
            _LOG.warning("a study has %d objects; no more are taken", self._limits.study_objects)
            return "full"
        except (OSError, sqlite3.OperationalError) as error:
            # The disk is full, or broken: the sender keeps what he has.
            _LOG.error("an object could not be kept: %s", type(error).__name__)
            return "full"

    def _keep(self, arrival: Arrival, content: bytes | None) -> Outcome:
        part = self._arriving / uuid.uuid4().hex
        try:
            if content is not None:
                with part.open("xb") as stream:  # in a folder that only this user enters
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
            with self._queue.arrive(arrival, self._limits.study_objects) as file:
                if file is not None:
                    path = self._folder / file
                    make_folder(path.parent)
                    part.replace(path)
                    sync_folder(path.parent)
                    self._kept_bytes += arrival.bytes
                    return "kept"
            return "known" if content is not None else "not kept"
        finally:
            part.unlink(missing_ok=True)

    def _find_uids(self, content: bytes) -> tuple[str, str, dict[str, str | int] | None] | None:
        """Find the UIDs of study and object; None where there are none."""
        walked = walk_file(content)
        if walked is not None:
            texts = [walked.header.text(name) for name in ("StudyInstanceUID", "SOPInstanceUID")]
            return (texts[0], texts[1], None) if texts[0] and texts[1] else None
        identity = self._identify(content)
        study, one = identity.get("study_uid"), identity.get("instance_uid")
        return (str(study), str(one), identity) if study and one else None

    def _describe(
        self, study: str, content: bytes, identity: dict[str, str | int] | None
    ) -> tuple[str | None, str | None]:
        """Find accession number and name of a study that has no row yet, where they are shown."""
        shown = self._config.page.show if self._config.page else "number"
        if shown == "number" or self._queue.knows_study(study):
            return None, None
        try:
            told = identity or self._identify(content)
        except Exception as error:
            log_defect(error)  # it is no reason to refuse an object
            return None, None
        accession = str(told.get("accession") or "") or None
        return accession, str(told.get("patient_name") or "") or None if shown == "name" else None

    def _identify(self, content: bytes) -> dict[str, str | int]:
        with self._reading:
            return self._reader.identify(content)


def _digest(content: bytes) -> str:
    """Sum up data set and transfer syntax; the file meta before them is the carrier's."""
    syntax, start = find_syntax(content) or ("", 0)
    return hashlib.sha256(syntax.encode() + content[start:]).hexdigest()


def _is_ours(content: bytes) -> bool:
    """Whether an object that is no CT image says that hemtrace made it."""
    walked = walk_file(content)
    if walked is not None:
        return walked.header.text("Manufacturer") == _MANUFACTURER
    return False
