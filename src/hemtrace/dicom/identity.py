"""Names that say nothing of a person: salted hashes of identifiers."""

import hashlib
import re
from pathlib import Path

from hemtrace.errors import HemtraceError

# Enough for data that are pseudonymous already; whoever has others gives `ingest.salt_file`.
PUBLIC_SALT = b"hemtrace: a public salt"
SHORTEST_SALT = 16

# The RSNA set's file names are public pseudonyms of pictures, not of persons.
_RSNA_SLICE = re.compile(r"ID_[0-9a-f]{9}")
_SUFFIX = ".dcm"


def read_salt(path: str | None) -> bytes:
    """Read the secret of a project; None gives the public salt.

    Raises
    ------
    HemtraceError
        If the file cannot be read, or holds fewer than 16 bytes.
    """
    if path is None:
        return PUBLIC_SALT
    file = Path(path).expanduser()
    try:
        salt = file.read_bytes()
    except OSError as error:
        raise HemtraceError(
            f"The salt file {file} cannot be read ({error.strerror}); check --salt-file, or "
            "ingest.salt_file in params.yaml."
        ) from None
    if len(salt) < SHORTEST_SALT:
        raise HemtraceError(
            f"The salt file {file} holds {len(salt)} bytes; fewer than {SHORTEST_SALT} can be "
            "guessed. Make one with: head -c 32 /dev/urandom > FILE"
        )
    return salt


def pseudonym(identifier: str | None, salt: bytes) -> str | None:
    """Replace an identifier by its salted hash; equal identifiers stay equal."""
    return "P" + _digest(identifier, salt) if identifier else None


def is_public_name(name: str) -> bool:
    """Say whether a name is one of the RSNA set's pictures, and so no person's."""
    return _RSNA_SLICE.fullmatch(name) is not None


def slice_key(file: str, frame: int | None, salt: bytes) -> str:
    """Name a slice by its file, and by its frame in a multi-frame one; no two have one name.

    A file of the RSNA set, `ID_<nine digits>.dcm` right in the folder that is read, keeps its name.
    Any other path becomes a salted hash: a name may hold a person's, and two folders, or two
    suffixes, the same one.
    """
    stem, suffix = file[: -len(_SUFFIX)], file[-len(_SUFFIX) :]
    is_known = suffix == _SUFFIX and is_public_name(stem)
    name = stem if is_known else "S" + _digest(file, salt)
    return name if frame is None else f"{name}#{frame}"


def _digest(text: str, salt: bytes) -> str:
    # The key of BLAKE2 takes 64 bytes at most.
    key = hashlib.blake2b(salt, digest_size=32).digest()
    coded = text.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(coded, digest_size=8, key=key, person=b"hemtrace").hexdigest()
