"""A DICOMweb server: what it holds (QIDO-RS), its objects (WADO-RS), and new ones (STOW-RS)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from requests.auth import AuthBase, HTTPBasicAuth

from hemtrace.errors import HemtraceError
from hemtrace.node.config import Web

# Whole, as it is stored: a server must not decode and encode pixels for us.
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)
_STUDY, _SERIES, _OBJECT = "0020000D", "0020000E", "00080018"
_CLASS, _MODALITY = "00080016", "00080060"
_OBJECTS_OF_STUDY, _OBJECTS_OF_SERIES = "00201208", "00201209"
# A pixel object in one chunk: Orthanc 1.10 takes no chunked uploads.
_WHOLE = 2**31


class WebError(Exception):
    """A server did not do what was asked; the sentence names no study."""


@dataclass(frozen=True)
class Listed:
    """Something that a server holds: its UID, its number of objects, modality or SOP class."""

    uid: str
    objects: int | None = None
    kind: str = ""


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class WebServer:
    """A connection to a server; not for several threads at once.

    Parameters
    ----------
    web
        Address and login.

    Raises
    ------
    HemtraceError
        If the secret is missing.
    """

    def __init__(self, web: Web) -> None:
        self._root = web.url.rstrip("/")
        self._timeout = web.timeout_seconds
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy and no .netrc but what the configuration says
        if web.authorities is not None:
            self._session.verify = str(web.authorities)
        if web.login is not None:
            secret = web.login.read_secret()
            self._session.auth = (
                HTTPBasicAuth(web.login.user, secret) if web.login.user else _Bearer(secret)
            )
        self._client = DICOMwebClient(
            self._root,
            session=self._session,
            permissive_uid=True,
            timeout=self._timeout,
            chunk_size=_WHOLE,
        )
        self._client.set_http_retry_params(retry=False)  # we wait and count ourselves

    def list_studies(self, dates: str | None, most: int) -> list[Listed]:
        """List studies with CT in them.

        Parameters
        ----------
        dates
            Range of StudyDate, as in QIDO-RS; None: any.
        most
            That are asked for.
        """
        filters: dict[str, Any] = {"ModalitiesInStudy": "CT"}
        if dates is not None:
            filters["StudyDate"] = dates
        fields = ["NumberOfStudyRelatedInstances"]
        with _Told("list its studies"):
            found = self._client.search_for_studies(
                fields=fields, search_filters=filters, limit=most
            )
        return [Listed(uid, _count(one, _OBJECTS_OF_STUDY)) for one, uid in _named(found, _STUDY)]

    def list_series(self, study: str) -> list[Listed]:
        """List the series of a study; kind: its modality."""
        fields = ["NumberOfSeriesRelatedInstances"]
        with _Told("list series"):
            found = self._client.search_for_series(study, fields=fields)
        return [
            Listed(uid, _count(one, _OBJECTS_OF_SERIES), _value(one, _MODALITY))
            for one, uid in _named(found, _SERIES)
        ]

    def list_objects(self, study: str, series: str) -> list[Listed]:
        """List the objects of a series; kind: SOP class."""
        with _Told("list objects"):
            found = self._client.search_for_instances(study, series)
        return [Listed(uid, None, _value(one, _CLASS)) for one, uid in _named(found, _OBJECT)]

    def fetch(self, study: str, series: str, uid: str, most_bytes: int) -> bytes:
        """Fetch an object as it is stored: the bytes of a DICOM file.

        Raises
        ------
        WebError
            If it does not come, or is larger than told.
        """
        parts = ("studies", study, "series", series, "instances", uid)
        address = "/".join([self._root, *(quote(part, safe="") for part in parts)])
        with (
            _Told("give an object"),
            self._session.get(
                address, headers={"Accept": _AS_STORED}, stream=True, timeout=self._timeout
            ) as answer,
        ):
            answer.raise_for_status()
            body = bytearray()
            for chunk in answer.iter_content(2**20):
                body += chunk
                if len(body) > most_bytes + 10_000:
                    raise WebError(f"An object of more than {most_bytes} bytes was not fetched.")
            return split_part(bytes(body), answer.headers.get("Content-Type", ""))

    def store(self, result: Dataset) -> None:
        """Store an object.

        Raises
        ------
        WebError
            If the server does not take it.
        """
        with _Told("take a result"):
            told = self._client.store_instances([result])
        failed = told.get("FailedSOPSequence")
        if failed:
            reason = failed[0].get("FailureReason")
            if reason != 0x0111:  # it has it already (PS3.4 GG.4.2, PS3.7 C.5.9)
                code = f"0x{reason:04X}" if isinstance(reason, int) else "no reason"
                raise WebError(f"The server refused a result ({code}).")


class _Told:
    """Turns what libraries raise, whose messages quote addresses, into sentences without."""

    def __init__(self, asked: str) -> None:
        self._asked = asked

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, requests.HTTPError) and error.response is not None:
            raise WebError(
                f"The server was asked to {self._asked}, and answered {error.response.status_code}."
            ) from None
        if isinstance(error, (requests.RequestException, OSError)):
            raise WebError(
                f"The server was asked to {self._asked}, and could not be reached "
                f"({type(error).__name__})."
            ) from None
        if isinstance(error, Exception) and not isinstance(error, (WebError, HemtraceError)):
            raise WebError(
                f"The server was asked to {self._asked}, and its answer could not be understood "
                f"({type(error).__name__})."
            ) from None


def split_part(body: bytes, content_type: str) -> bytes:
    """Take the first part out of a multipart body (RFC 2046 5.1).

    Raises
    ------
    WebError
        If there is none.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        if content_type.partition(";")[0].strip() == "application/dicom":
            return body
        raise WebError("An object came in an answer that is not multipart.")
    mark = b"--" + found.group(1).strip().encode("latin-1")
    start = body.find(mark)
    head = body.find(b"\r\n\r\n", start + len(mark))
    end = body.find(b"\r\n" + mark, head + 2)
    if start < 0 or head < 0 or end < 0:
        raise WebError("An object came in an answer that was cut short.")
    return body[head + 4 : end]


def _named(found: list[dict[str, dict]], tag: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for one in found:
        uid = _value(one, tag)
        if uid:
            yield one, uid


def _value(one: Mapping[str, Any], tag: str) -> str:
    values = one.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _count(one: Mapping[str, Any], tag: str) -> int | None:
    text = _value(one, tag)
    return int(text) if text.isdigit() else None
