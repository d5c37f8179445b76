"""The tables of the queue, and how they are opened.

Studies and objects are known by salted hashes of their UIDs: the UIDs themselves stand only in the
files beside the table. Accession number and, where asked for, name are kept for the worklist until
the study is wiped.
"""

import fcntl
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hemtrace.errors import HemtraceError
from hemtrace.node.disk import make_folder

VERSION = 1
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL);

-- receiving: objects may still come. complete: waits for prediction. predicting: it is at work.
-- sending: predicted, but not delivered yet. dead: given up, see `error` or deliveries.
CREATE TABLE studies (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN
        ('receiving', 'complete', 'predicting', 'sending', 'done', 'dead')),
    source TEXT NOT NULL,
    urgent INTEGER NOT NULL DEFAULT 0,
    accession TEXT,
    patient_name TEXT,
    first_at REAL NOT NULL,
    last_at REAL NOT NULL,
    whole INTEGER NOT NULL DEFAULT 0,   -- 1: its server has no more, -1: it is being fetched
    revision INTEGER NOT NULL DEFAULT 1,
    upto INTEGER NOT NULL DEFAULT 0,    -- the last object that was predicted
    made REAL,                          -- when the prediction of this revision first began
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0,
    error TEXT,
    answer TEXT,                        -- of the last revision that was predicted, as are these:
    sentence TEXT,
    probability REAL,
    urgency REAL,
    answered_at REAL,
    settled_at REAL                     -- when it came to be done or dead
);
CREATE INDEX studies_by_state ON studies (state, next_try);

CREATE TABLE objects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    study INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    file TEXT UNIQUE,                   -- below the folder, NULL: not kept, see `reason`
    bytes INTEGER NOT NULL,
    reason TEXT,
    at REAL NOT NULL,
    UNIQUE (study, key, sha256)
);

CREATE TABLE results (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    study INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    uid TEXT NOT NULL,
    file TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    UNIQUE (study, uid)
);

CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    study INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    destination TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'done', 'dead')),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0,
    error TEXT,
    UNIQUE (study, revision, destination)
);
CREATE INDEX deliveries_by_state ON deliveries (destination, state, next_try);

-- What a watched server holds. It stays when the study is wiped, or it would be fetched again.
CREATE TABLE watched (
    watcher TEXT NOT NULL,
    key TEXT NOT NULL,
    seen TEXT NOT NULL,                 -- digest of its CT series and their numbers of objects
    since REAL NOT NULL,
    taken TEXT,                         -- the digest that was fetched
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0,
    error TEXT,
    PRIMARY KEY (watcher, key)
);
"""


class Database:
    """A connection that threads share, one transaction at a time.

    Parameters
    ----------
    folder
        Of the node; made, mode 0700, where it is missing and `create` is set.

    Raises
    ------
    HemtraceError
        If folder or table cannot be used.
    """

    def __init__(self, folder: Path, create: bool = False) -> None:
        self.folder = folder
        path = folder / "queue.sqlite"
        self._lock = threading.RLock()
        if create:
            make_private(folder)
            old = os.umask(0o077)
        elif not path.is_file():
            raise HemtraceError(f"No node has run in {folder} yet: it has no queue.")
        try:
            self._link = sqlite3.connect(
                path, timeout=30, isolation_level=None, check_same_thread=False
            )
            self._link.row_factory = sqlite3.Row
            self._link.execute("PRAGMA journal_mode = WAL")
            # A commit is on the disk before anything is promised.
            self._link.execute("PRAGMA synchronous = FULL")
            self._link.execute("PRAGMA foreign_keys = ON")
            self._link.execute("PRAGMA secure_delete = ON")
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise HemtraceError(
                f"The queue {path} cannot be used ({error}); if it is damaged, move the folder "
                "away and let the PACS send again."
            ) from None
        finally:
            if create:
                os.umask(old)

    def _prepare(self) -> None:
        with self.transaction() as link:
            version = link.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _TABLES.split(";"):
                    link.execute(statement)
                link.execute("INSERT INTO meta VALUES ('salt', ?)", (secrets.token_bytes(32),))
                link.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise HemtraceError(
                    f"The queue in {self.folder} is of another version of hemtrace ({version}, not "
                    f"{VERSION}); use a new folder."
                )
        self.salt = bytes(self.one("SELECT value FROM meta WHERE name = 'salt'")["value"])

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection within a transaction: all that is done in it counts, or nothing."""
        with self._lock:
            self._link.execute("BEGIN IMMEDIATE")
            try:
                yield self._link
                self._link.execute("COMMIT")
            finally:
                if self._link.in_transaction:  # of a full disk SQLite ends it by itself
                    self._link.execute("ROLLBACK")

    def rows(self, statement: str, *values: object) -> list[sqlite3.Row]:
        """Read all rows."""
        with self._lock:
            return self._link.execute(statement, values).fetchall()

    def one(self, statement: str, *values: object) -> sqlite3.Row:
        """Read the first of the rows; there is one."""
        return self.rows(statement, *values)[0]

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._link.close()


def make_private(folder: Path) -> Path:
    """Make a folder that only this user can enter.

    Raises
    ------
    HemtraceError
        If it cannot be made, or belongs to another user.
    """
    try:
        make_folder(folder)
        if folder.stat().st_uid != os.getuid():
            raise HemtraceError(f"The folder {folder} belongs to another user.")
        folder.chmod(0o700)
    except OSError as error:
        raise HemtraceError(f"The folder {folder} cannot be used ({error.strerror}).") from None
    return folder


def hold_folder(folder: Path) -> int:
    """Let no second node work in a folder, for as long as this process lives.

    Raises
    ------
    HemtraceError
        If one does already.
    """
    held = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise HemtraceError(f"Another node is at work in {folder}.") from None
    return held
