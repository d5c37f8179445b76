"""The C-STORE receiver: answers Success only for what is on the disk and in the queue."""

import logging
import ssl
import threading
from collections import defaultdict
from types import TracebackType
from typing import Any, Self

from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from hemtrace.errors import HemtraceError
from hemtrace.node.config import Limits, Listen, Tls
from hemtrace.node.intake import Intake, Outcome, Source
from hemtrace.node.privacy import log_defect

_LOG = logging.getLogger("hemtrace.node")
# PS3.4 B.2.3: Success, Out of Resources, Cannot Understand.
_SUCCESS, _FULL, _UNREADABLE = 0x0000, 0xA700, 0xC000
_STATUS: dict[Outcome, int] = {
    "kept": _SUCCESS,
    "known": _SUCCESS,
    "not kept": _SUCCESS,
    "own": _SUCCESS,
    "full": _FULL,
    "unreadable": _UNREADABLE,
}
_HIGH = 1  # PS3.7 9.3.1.1: Priority
# A sender inflates a deflated set in no time, and so could fill our memory.
_SYNTAXES = [uid for uid in ALL_TRANSFER_SYNTAXES if uid != DeflatedExplicitVRLittleEndian]


class Receiver:
    """Listens until it is closed.

    Parameters
    ----------
    intake
        Takes what comes.
    listen, limits
        Of the configuration.

    Raises
    ------
    HemtraceError
        If the port cannot be had, or a certificate cannot be used.
    """

    def __init__(self, intake: Intake, listen: Listen, limits: Limits) -> None:
        self._intake, self._listen, self._limits = intake, listen, limits
        self._arriving: dict[int, int] = defaultdict(int)
        self._lock = threading.Lock()
        entity = AE(listen.ae_title)
        entity.require_called_aet = True
        if listen.callers:
            entity.require_calling_aet = list(listen.callers)
        entity.maximum_associations = listen.associations
        entity.maximum_pdu_size = listen.max_pdu_bytes
        entity.acse_timeout = entity.dimse_timeout = listen.idle_seconds
        entity.network_timeout = listen.idle_seconds
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), _SYNTAXES)
        entity.add_supported_context(Verification)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_PDU_RECV, self._count),
            (evt.EVT_CONN_CLOSE, self._forget),
            (evt.EVT_REJECTED, self._refuse),
        ]
        try:
            self._server = entity.start_server(
                (listen.host, listen.port),
                block=False,
                evt_handlers=handlers,
                ssl_context=None if listen.tls is None else server_context(listen.tls),
            )
        except OSError as error:
            raise HemtraceError(
                f"Nothing can listen on {listen.host} port {listen.port} ({error.strerror})."
            ) from None

    def __enter__(self) -> Self:
        """Do nothing: it listens already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening; connections are aborted, and their senders send again."""
        if self._server is not None:
            self._server.shutdown()

    def _store(self, event: evt.Event) -> int:
        with self._lock:
            self._arriving.pop(id(event.assoc), None)
        try:
            caller = event.assoc.requestor.ae_title.strip()
            request: Any = event.request
            source = Source(
                caller, request.Priority == _HIGH or caller in self._listen.urgent_callers
            )
            sop_class = str(request.AffectedSOPClassUID)
            outcome = self._intake.take(event.encoded_dataset(), sop_class, source)
        except Exception as error:
            log_defect(error)
            return _UNREADABLE
        if outcome != "kept":
            _LOG.info("object from a caller: %s", outcome)
        return _STATUS[outcome]

    def _count(self, event: evt.Event) -> None:
        """End a connection whose object grows beyond what may arrive."""
        size = len(getattr(event.pdu, "presentation_data_value_items", ())) and event.pdu.pdu_length
        if not size:
            return
        with self._lock:
            self._arriving[id(event.assoc)] += size
            own, total = self._arriving[id(event.assoc)], sum(self._arriving.values())
        if own > self._limits.file_bytes or total > self._limits.arriving_bytes:
            _LOG.warning("a connection was ended: %d bytes of one object", own)
            event.assoc.abort(block=False)

    def _forget(self, event: evt.Event) -> None:
        with self._lock:
            self._arriving.pop(id(event.assoc), None)

    def _refuse(self, event: evt.Event) -> None:
        _LOG.warning("a connection was refused: unknown AE titles, or too many connections")


def server_context(tls: Tls) -> ssl.SSLContext:
    """Make a TLS context that asks callers for a certificate.

    Raises
    ------
    HemtraceError
        If a file cannot be used.
    """
    return _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls)


def client_context(tls: Tls) -> ssl.SSLContext:
    """Make a TLS context that shows our certificate, and checks the other one and its name; raises
    as `server_context`.
    """
    return _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), tls)


def _load(context: ssl.SSLContext, tls: Tls) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        context.load_verify_locations(tls.authorities)
    except OSError as error:  # ssl.SSLError is one
        raise HemtraceError(
            f"The certificates of {tls.certificate} cannot be used ({type(error).__name__})."
        ) from None
    return context
