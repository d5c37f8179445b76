"""What a server is told when it starts, and what it refuses to start with."""

import os
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from hemtrace.errors import HemtraceError

TOKEN_VARIABLE = "HEMTRACE_TOKEN"
SHORTEST_TOKEN = 20
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Limits:
    """What one upload, and all of them together, may take.

    Attributes
    ----------
    upload_bytes
        Of the body of a request, and again of what its zips unpack to.
    file_bytes
        Of a file, or a member of a zip; it is read as a whole.
    files
        In an upload, members of zips counted.
    seconds
        That an upload may take to arrive.
    uploads
        That arrive at once; the next one gets 429.
    waiting
        Studies that are not done yet; the next one gets 429.
    kept
        Studies that are kept at once, done or not; the next one gets 503.
    kept_bytes
        On disk by all studies together, with all that is made of them; what would go beyond gets
        503.
    workers
        Studies predicted at once.
    read_seconds, read_memory_gb
        Of the child process that decodes a file (`dicom.guard`).
    pictures, picture_bytes
        That the files of an upload decode to; what is beyond is refused by itself.
    work_seconds
        That the files of an upload may take to be read; likewise.
    streams
        Connections that follow a study's events at once.
    connections
        That are open at once; the next one gets 503.
    """

    upload_bytes: int = 2 * 10**9
    file_bytes: int = 5 * 10**8
    files: int = 2_000
    seconds: float = 600
    uploads: int = 4
    waiting: int = 8
    kept: int = 32
    kept_bytes: int = 16 * 10**9
    workers: int = 2
    read_seconds: float = 20
    read_memory_gb: float = 2
    pictures: int = 4_000
    picture_bytes: int = 3 * 10**9
    work_seconds: float = 900
    streams: int = 64
    connections: int = 256


@dataclass(frozen=True)
class Settings:
    """Everything that a server is told.

    Attributes
    ----------
    model
        Model file, with operating.json beside it.
    token
        That every request to the API must carry; None: none is asked for.
    hosts
        Names by which a browser may call this server, without port; empty: any, which only a
        server with a token allows.
    keep_minutes
        How long a study is kept after it was last looked at.
    folder
        Where the private folders are made; None: the system's temporary folder.
    runtime, threads
        For `engine.open_engine`.
    map_threshold
        A region is where the heat map, scaled to 0..1, reaches this.
    sample_ahead
        Make the sample study as soon as the model is ready, so that nobody waits for it.
    """

    model: Path
    token: str | None = None
    hosts: tuple[str, ...] = _LOOPBACK_NAMES
    keep_minutes: float = 30
    folder: Path | None = None
    runtime: str = "auto"
    threads: int | None = None
    map_threshold: float = 0.5
    sample_ahead: bool = False
    limits: Limits = field(default_factory=Limits)


def is_loopback(host: str) -> bool:
    """Say whether an address to listen on can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def choose_token(file: Path | None) -> str | None:
    """Take the token from a file, or from the environment; None where there is neither.

    Raises
    ------
    HemtraceError
        If the file cannot be read, or the token is too short to be no guess.
    """
    if file is None:
        token, source = os.environ.get(TOKEN_VARIABLE, ""), f"the variable {TOKEN_VARIABLE}"
        if not token:
            return None
    else:
        source = f"the token file {file}"
        try:
            token = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise HemtraceError(
                f"The token file {file} cannot be read ({type(error).__name__}); make one with: "
                f"(umask 077; openssl rand -base64 32 > {file})"
            ) from None
    token = token.strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise HemtraceError(
            f"The token in {source} must have {SHORTEST_TOKEN} or more printable characters of "
            "ASCII, or it can be guessed; make one with: openssl rand -base64 32"
        )
    return token


def choose_hosts(
    host: str, allowed: tuple[str, ...], token: str | None, behind_proxy: bool
) -> tuple[str, ...]:
    """Choose the names that a browser may call this server by.

    A page of another site can make its own name lead here (DNS rebinding); its requests then carry
    that name. With a token such a page gets nothing, as it does not know it.

    Raises
    ------
    HemtraceError
        If the server could be reached from other machines, and nothing would keep them out.
    """
    if is_loopback(host) and not behind_proxy:
        return _LOOPBACK_NAMES + allowed
    if token is None and not behind_proxy:
        raise HemtraceError(
            f"With --host {host} other machines reach this server: give it a token by --token-file "
            f"or {TOKEN_VARIABLE}, or say --behind-proxy where a reverse proxy asks who someone "
            "is. docs/serving.md shows both."
        )
    if token is None and not allowed:
        raise HemtraceError(
            "With --behind-proxy and without a token, name the server as browsers call it by "
            "--allowed-host, so that no other site's name can lead here."
        )
    return allowed
