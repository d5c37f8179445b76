"""Sends results to a PACS: by C-STORE or STOW-RS, one destination a sender."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pydicom import dcmread
from pynetdicom import AE

from hemtrace.node.config import NodeConfig, SendDicom, SendWeb
from hemtrace.node.outbox import Outbox
from hemtrace.node.privacy import place_of
from hemtrace.node.receive import client_context
from hemtrace.node.web import WebError, WebServer

_LOG = logging.getLogger("hemtrace.node")
# PS3.4 B.2.3: stored with a warning; PS3.7 C.5.9: it has the object already.
_STORED = frozenset((0x0000, 0xB000, 0xB006, 0xB007, 0x0111))


class SendError(Exception):
    """A destination did not take a result; the sentence names no study."""


class Transport(Protocol):
    """Brings files to a destination."""

    def send(self, files: Sequence[Path]) -> None:
        """Send all files.

        Raises
        ------
        SendError, WebError
            If one is not taken; those before it are.
        """
        ...


class DicomTransport:
    """Sends by C-STORE, a connection a delivery.

    Parameters
    ----------
    to
        Of the configuration.
    ae_title
        Ours.

    Raises
    ------
    HemtraceError
        If a certificate cannot be used.
    """

    def __init__(self, to: SendDicom, ae_title: str) -> None:
        self._to, self._title = to, ae_title
        self._tls = None if to.tls is None else (client_context(to.tls), to.host)

    def send(self, files: Sequence[Path]) -> None:
        """Send all files; raises as `Transport.send`."""
        entity = AE(self._title)
        seconds = self._to.timeout_seconds
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = seconds
        entity.connection_timeout = seconds
        heads = [dcmread(path, stop_before_pixels=True) for path in files]
        wanted = {(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in heads}
        for sop_class, syntax in sorted(wanted):
            entity.add_requested_context(sop_class, syntax)
        link = entity.associate(
            self._to.host, self._to.port, ae_title=self._to.ae_title, tls_args=self._tls
        )
        if not link.is_established:
            why = "it rejected the connection" if link.is_rejected else "it could not be reached"
            raise SendError(f"The PACS {self._to.name} took nothing: {why}.")
        try:
            for path in files:
                self._send_one(link, path)
        finally:
            link.release()

    def _send_one(self, link, path: Path) -> None:  # type: ignore[no-untyped-def]
        try:
            answer = link.send_c_store(dcmread(path))
        except (ValueError, RuntimeError) as error:
            # The context was refused, or the connection ended.
            raise SendError(
                f"The PACS {self._to.name} does not take this kind of result, or hung up "
                f"({type(error).__name__})."
            ) from None
        status = answer.get("Status")
        if status is None:
            raise SendError(f"The PACS {self._to.name} did not answer in time.")
        if status not in _STORED:
            raise SendError(f"The PACS {self._to.name} refused a result (status 0x{status:04X}).")


class WebTransport:
    """Sends by STOW-RS, an object a request.

    Parameters
    ----------
    to
        Of the configuration.

    Raises
    ------
    HemtraceError
        If the secret is missing.
    """

    def __init__(self, to: SendWeb) -> None:
        self._server = WebServer(to)

    def send(self, files: Sequence[Path]) -> None:
        """Send all files; raises as `Transport.send`."""
        for path in files:
            self._server.store(dcmread(path))


def make_transport(to: SendDicom | SendWeb, config: NodeConfig) -> Transport:
    """Make what sends to a destination; raises as `DicomTransport` and `WebTransport`."""
    if isinstance(to, SendWeb):
        return WebTransport(to)
    return DicomTransport(to, config.listen.ae_title if config.listen else "HEMTRACE")


def send_next(outbox: Outbox, name: str, transport: Transport, folder: Path) -> bool:
    """Make the next delivery to a destination; say whether there was one.

    A crash after sending, before that is noted, sends the same objects with the same UIDs again.
    """
    delivery = outbox.find_next(name)
    if delivery is None:
        return False
    try:
        transport.send([folder / file for file in delivery.files])
    except Exception as error:
        # Whatever it is, it counts as an attempt: a delivery that stays first holds up all others.
        sentence = _tell(error)
        gone = outbox.mark_unsent(delivery, sentence)
        _LOG.warning("study %d: %s%s", delivery.study, sentence, " It is given up." if gone else "")
        return True
    outbox.mark_sent(delivery)
    _LOG.info("study %d: %d results sent to %s", delivery.study, len(delivery.files), name)
    return True


def _tell(error: Exception) -> str:
    """Say why results were not sent; what others raise may quote a header or a file's name."""
    if isinstance(error, (SendError, WebError)):
        return str(error)
    return f"The results could not be sent: {place_of(error)}."
