"""What a node is told: a YAML file, checked before anything starts."""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hemtrace.errors import HemtraceError
from hemtrace.faults import tell_faults

# PS3.5 6.2: VR AE, without backslash and control characters.
Title = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[!-\[\]-~]+$")]
Name = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9_.-]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s@]+$")]


class _Part(BaseModel):
    """A part of the file; an unknown name in it is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(_Part):
    """Certificates of a DICOM connection over TLS, PEM files."""

    certificate: Path = Field(description="ours, with its chain")
    key: Path = Field(description="its private key")
    authorities: Path = Field(description="who must have signed the other side's certificate")


class Listen(_Part):
    """The C-STORE receiver."""

    ae_title: Title = Field("HEMTRACE", description="what callers must call")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port = 11112
    callers: tuple[Title, ...] = Field((), description="AE titles that may call; none: any")
    urgent_callers: tuple[Title, ...] = Field((), description="whose studies are urgent")
    associations: int = Field(10, ge=1, le=100, description="at once")
    idle_seconds: float = Field(30, gt=0, description="after which a silent connection ends")
    max_pdu_bytes: int = Field(65536, ge=4096, le=1048576)
    tls: Tls | None = None

    @model_validator(mode="after")
    def _others_are_known(self) -> "Listen":
        if not is_loopback(self.host) and not self.callers:
            raise ValueError(
                "other machines reach this address: list in `callers` the AE titles that may call"
            )
        return self


class Login(_Part):
    """How a web server knows us; secrets come from the environment or a file, never from here."""

    user: str | None = Field(None, description="of basic authentication, with a password")
    secret_variable: str | None = Field(None, description="environment variable of the secret")
    secret_file: Path | None = Field(None, description="file of the secret")

    @model_validator(mode="after")
    def _one_source(self) -> "Login":
        if (self.secret_variable is None) == (self.secret_file is None):
            raise ValueError("give either `secret_variable` or `secret_file`")
        return self

    def read_secret(self) -> str:
        """Read the password, or without a user the bearer token.

        Raises
        ------
        HemtraceError
            If it is missing.
        """
        if self.secret_variable is not None:
            secret = os.environ.get(self.secret_variable, "")
            place = f"the environment variable {self.secret_variable}"
        else:
            assert self.secret_file is not None
            place = f"the file {self.secret_file}"
            try:
                secret = self.secret_file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise HemtraceError(
                    f"The secret in {place} cannot be read ({type(error).__name__})."
                ) from None
        if not secret.strip():
            raise HemtraceError(f"There is no secret in {place}.")
        return secret.strip()


class Web(_Part):
    """A DICOMweb server."""

    name: Name
    url: Url = Field(description="root of the service, such as http://pacs:8042/dicom-web")
    login: Login | None = None
    authorities: Path | None = Field(None, description="PEM file, in place of the system's")
    timeout_seconds: float = Field(30, gt=0)


class Watch(Web):
    """A DICOMweb server whose studies are fetched."""

    every_seconds: float = Field(30, gt=0, description="between two looks")
    days: int = Field(2, ge=0, description="by StudyDate, today's included; 0: of any date")
    most_studies: int = Field(5000, ge=1, description="in an answer; more are told in the log")


class SendDicom(_Part):
    """A PACS that takes results by C-STORE."""

    kind: Literal["dicom"]
    name: Name
    ae_title: Title
    host: str
    port: Port
    timeout_seconds: float = Field(30, gt=0)
    tls: Tls | None = None


class SendWeb(Web):
    """A PACS that takes results by STOW-RS."""

    kind: Literal["dicomweb"]


class Results(_Part):
    """Which objects go back (docs/dicom-results.md)."""

    capture: bool = True
    parametric: bool = False
    every_slice: bool = False


class Retries(_Part):
    """How often something is tried before it is a dead letter."""

    times: int = Field(8, ge=1)
    first_seconds: float = Field(30, ge=0, description="doubled each time")
    most_seconds: float = Field(3600, ge=0)

    def wait(self, attempts: int) -> float:
        """Seconds until the next attempt after so many."""
        return min(self.first_seconds * 2.0 ** min(attempts - 1, 30), self.most_seconds)


class Limits(_Part):
    """What comes in beyond these is refused with the status Out of Resources."""

    file_bytes: int = Field(512 * 10**6, ge=1, description="of an object")
    arriving_bytes: int = Field(10**9, ge=1, description="of all objects that arrive at once")
    kept_bytes: int = Field(50 * 10**9, ge=1, description="of all objects that are kept")
    free_bytes: int = Field(10**9, ge=0, description="that are left free on the disk")
    study_objects: int = Field(3000, ge=1, description="of a study")
    read_seconds: float = Field(20, gt=0, description="that decoding a file may take")
    study_seconds: float = Field(600, gt=0, description="that decoding a study may take")
    read_memory_gb: float = Field(2, gt=0)


class Page(_Part):
    """The worklist page."""

    host: str = "127.0.0.1"
    port: Port = 8043
    refresh_seconds: int = Field(10, ge=2)
    show: Literal["number", "accession", "name"] = Field(
        "accession", description="what tells studies apart; name: the patient's too"
    )

    @model_validator(mode="after")
    def _stays_here(self) -> "Page":
        if not is_loopback(self.host):
            raise ValueError("the page asks for no password, so it stays on loopback")
        return self


class NodeConfig(_Part):
    """Everything that a node is told."""

    folder: Path = Field(description="private folder of the queue and of objects")
    model: Path = Path("models/model.safetensors")
    point: str | None = Field(None, description="operating point; null: the model's default")
    runtime: str = "auto"
    threads: int | None = Field(None, ge=1)
    listen: Listen | None = Field(default_factory=Listen)
    watch: tuple[Watch, ...] = ()
    send: tuple[Annotated[SendDicom | SendWeb, Field(discriminator="kind")], ...] = ()
    complete_after_seconds: float = Field(60, gt=0, description="without a new slice")
    order: Literal["arrival", "urgency"] = Field(
        "urgency",
        description="urgency: what came from urgent callers, or with high priority, first",
    )
    results: Results = Results()
    retries: Retries = Retries()
    limits: Limits = Limits()
    keep_hours: float = Field(24, ge=0, description="after the last result was sent")
    keep_dead_days: float = Field(14, ge=0, description="of dead letters")
    page: Page | None = Field(default_factory=Page)

    @model_validator(mode="after")
    def _is_of_use(self) -> "NodeConfig":
        if self.listen is None and not self.watch:
            raise ValueError("neither `listen` nor `watch` is given: no study would come in")
        for names in ([one.name for one in self.watch], [one.name for one in self.send]):
            if len(set(names)) < len(names):
                raise ValueError("two servers have one name")
        return self

    def check_secrets(self) -> None:
        """See that every secret is there, before a start that takes seconds.

        Raises
        ------
        HemtraceError
            If one is missing.
        """
        for server in (*self.watch, *self.send):
            if isinstance(server, Web) and server.login is not None:
                try:
                    server.login.read_secret()
                except HemtraceError as error:
                    raise HemtraceError(f"Of the server {server.name}: {error}") from None


def load_config(path: Path) -> NodeConfig:
    """Read and check the file; relative paths in it are relative to it.

    Raises
    ------
    HemtraceError
        If it cannot be read, or says something that makes no sense.
    """
    try:
        text = path.read_text(encoding="utf-8")
        told = YAML(typ="safe").load(text)
    except OSError as error:
        raise HemtraceError(
            f"The configuration {path} cannot be read ({error.strerror})."
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise HemtraceError(f"The configuration {path}{where} is no YAML.") from None
    if not isinstance(told, dict):
        raise HemtraceError(f"The configuration {path} is empty; docs/node.yaml is an example.")
    try:
        config = NodeConfig.model_validate(told)
    except ValidationError as error:
        # An address may hold a password, against the rule.
        found = tell_faults(error, NodeConfig, YAML(typ="rt").load(text), repeat=False)
        faults = [f"{path}, {fault}" for fault in found]
        raise HemtraceError("\n".join(faults)) from None
    base = path.resolve().parent
    return config.model_copy(
        update={
            "folder": base / config.folder.expanduser(),
            "model": base / config.model.expanduser(),
        }
    )


def is_loopback(host: str) -> bool:
    """Say whether an address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
