"""A channel over TLS, its handshake, and what goes wrong in it in words. Imported where TLS is used only."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Final

from xtrack_protocol.errors import CollectorRefused, TransportClosed, TransportError
from xtrack_protocol.net.channel import NO_SIGNAL, POLLIN, POLLOUT, READ_SIZE, Channel, wait
from xtrack_protocol.net.endpoint import Endpoint
from xtrack_protocol.net.explain import guess_protocol
from xtrack_protocol.net.tls import client_context, fingerprint, matches

_RECORD_SIZE: Final = 16384
"""Bytes that a record of TLS holds. So much, and what TLS adds to it, may wait here for room in the socket."""


class TLSChannel(Channel):
    """A socket under TLS. What ``write`` took may still wait in it, and goes with any later ``read`` or ``write``.

    OpenSSL works in memory here, and only this class touches the socket: so what a peer said last can be read after
    a write has failed, no bytes must be offered twice, and no SIGPIPE comes.
    """

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, name: str, peer: str, address: str) -> None:
        super().__init__(connection, peer, address)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._unsent = memoryview(b"")
        self._unconfirmed = False
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    def events(self) -> int:
        waiting = self._unsent or self._outgoing.pending or self._wants_room
        return POLLIN | POLLOUT if waiting and self._lost is None else POLLIN

    def has_pending(self) -> bool:
        return self.fileno() >= 0 and (self._tls.pending() > 0 or self._incoming.pending > 0)

    def read(self) -> bytes | None:
        self._flush()
        while True:
            try:
                came = self._tls.read(READ_SIZE)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                self._flush()  # the alert that tells the peer
                raise self._verdict(error) from error
            else:
                self.first = self.first or came[:16]
                return came
            try:
                if self._receive() is None:
                    self._flush()  # an answer of TLS itself
                    if self._lost is not None:
                        raise self._lost
                    return None
            except OSError as error:
                raise self._verdict(error) from error

    def write(self, data: bytes | bytearray | memoryview) -> int:
        view, taken = memoryview(data), 0
        while taken < len(view) and self._flush():
            taken += self._tls.write(view[taken : taken + _RECORD_SIZE])
        self._flush()
        self._wants_room = taken < len(view)
        return taken if self._lost is None else 0

    def close(self) -> None:
        if self.fileno() >= 0 and self._lost is None:
            with contextlib.suppress(ssl.SSLError, ValueError):  # the peer's goodbye is not waited for
                self._tls.unwrap()
            self._flush()
        super().close()

    def shake_hands(self, deadline: float) -> None:
        """Do the handshake. Raises CollectorRefused or TransportError."""
        first = b""
        while True:
            try:
                self._tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            except ssl.SSLError as error:
                self._flush()
                raise explain(error, self.address, speaks=guess_protocol(first)) from error
            flushed = self._flush()
            if self._lost is None and done and flushed:
                self._unconfirmed = self._tls.version() == "TLSv1.3"
                return
            mask = POLLIN if self._lost is not None or flushed else POLLIN | POLLOUT
            if not wait(self.fileno(), mask, deadline):
                raise TransportError(
                    self.address,
                    "timed out: no answer to the TLS handshake",
                    "Does the collector speak TLS? It does if it was started with --tls-cert or --tls-self-signed",
                )
            try:
                came = self._receive()
            except OSError as error:
                raise explain(error, self.address) from error
            first = first or came or b""

    def certificate(self) -> bytes:
        """Return the peer's certificate in DER."""
        return self._tls.getpeercert(binary_form=True) or b""

    def _verdict(self, error: OSError) -> TransportError:
        """Return what an error on the established connection means.

        In TLS 1.3 the server judges this side when the handshake is over here; after a good one it has tickets to
        send. Some servers close without the alert that would say what was wrong.
        """
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            return explain(error, self.address, established=True)
        if self._unconfirmed:
            return CollectorRefused(self.address, *_CLOSED_AT_THE_END)
        if isinstance(error, ssl.SSLEOFError):
            return TransportClosed(self.address, "the connection broke: it ended without TLS's goodbye")
        return self._broken(error)

    def _receive(self) -> bytes | None:
        """Hand to TLS what has come, and return it; None: nothing now."""
        try:
            came = self._socket.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return None
        if came:
            self._incoming.write(came)
            self._unconfirmed = False
        else:
            self._incoming.write_eof()
        return came

    def _flush(self) -> bool:
        """Hand on what TLS has made; return whether there was room for all of it."""
        while self._lost is None:
            if not self._unsent:
                if not self._outgoing.pending:
                    return True
                self._unsent = memoryview(self._outgoing.read())
            try:
                sent = self._socket.send(self._unsent, NO_SIGNAL)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                self._lost = error
                return False
            self._unsent = self._unsent[sent:]
        return False


def start_tls(connection: socket.socket, endpoint: Endpoint, peer: str, deadline: float) -> TLSChannel:
    """Return a channel over TLS on a connected socket, whose other side has proved who it is. spec: CTL-16.4

    Raises CollectorRefused, TransportError, or ConfigurationError (a file can't be used). The socket is closed then.
    """
    tls = endpoint.tls
    assert tls is not None
    try:
        name = endpoint.host.rstrip(".").partition("%")[0]
        channel = TLSChannel(connection, client_context(tls), name, peer, endpoint.url)
        channel.shake_hands(deadline)
        der = channel.certificate()
        if tls.fingerprint and not matches(der, tls.fingerprint):
            raise CollectorRefused(
                endpoint.url,
                "tls_fingerprint",
                f"its certificate is another one than was pinned: the SHA-256 is {fingerprint(der)}, "
                f"not {tls.fingerprint}",
                "If the collector was given a new one, and you know so from somewhere else than this message, "
                "set XTRACK_TLS_FINGERPRINT to it; else somebody stands between",
            )
    except BaseException:
        connection.close()
        raise
    return channel


_UNTRUSTED: Final = (
    "tls_untrusted",
    "its certificate is signed by nobody who is trusted here",
    "Name the signer in XTRACK_TLS_CA, or the fingerprint that `xtrack serve` prints in XTRACK_TLS_FINGERPRINT",
)
_WRONG_HOST: Final = (
    "tls_wrong_host",
    "its certificate is for another host",
    "Connect by a name that it was made for, or pin it with XTRACK_TLS_FINGERPRINT",
)
_VERDICTS: Final = {  # by OpenSSL's X509_V_ERR_...
    9: ("tls_expired", "its certificate is not valid yet", "Is a clock wrong, here or there?"),
    10: ("tls_expired", "its certificate has expired", "The collector needs a new one; or a clock is wrong"),
    18: _UNTRUSTED,
    19: _UNTRUSTED,
    20: _UNTRUSTED,
    21: _UNTRUSTED,
    62: _WRONG_HOST,
    64: _WRONG_HOST,
}
_NOT_TLS: Final = (
    "tls_not_spoken",
    "does not speak TLS",
    "Use tcp://, where nobody can listen in; or start the collector with --tls-cert or --tls-self-signed",
)
_CLIENT_CERTIFICATE: Final = (
    "tls_client_certificate",
    "wants a certificate of this side",
    "Name one that it trusts in XTRACK_TLS_CERT, and its private key in XTRACK_TLS_KEY",
)
_CLIENT_CERTIFICATE_PERHAPS: Final = (
    "tls_client_certificate",
    "refused the TLS handshake; most often it wants a certificate of this side",
    _CLIENT_CERTIFICATE[2],
)
_CLOSED_AT_THE_END: Final = (
    "tls_client_certificate",
    "closed the connection at the end of the TLS handshake; most often it wants a certificate of this side, or another",
    _CLIENT_CERTIFICATE[2],
)
_NO_CIPHER: Final = ("tls_failed", "and this side have no TLS version or cipher in common", "Update the older of them")
_REASONS: Final = (
    ("WRONG_VERSION_NUMBER", _NOT_TLS),
    ("PACKET_LENGTH_TOO_LONG", _NOT_TLS),
    ("RECORD_LAYER_FAILURE", _NOT_TLS),
    ("HTTP_REQUEST", _NOT_TLS),
    ("PROTOCOL_VERSION", _NO_CIPHER),
    ("UNSUPPORTED_PROTOCOL", _NO_CIPHER),
    ("NO_SHARED_CIPHER", _NO_CIPHER),
    ("ALERT_CERTIFICATE_REQUIRED", _CLIENT_CERTIFICATE),
    ("ALERT_HANDSHAKE_FAILURE", _CLIENT_CERTIFICATE_PERHAPS),
    ("ALERT_UNKNOWN_CA", ("tls_client_certificate", "does not trust the signer of XTRACK_TLS_CERT", "")),
    ("ALERT_BAD_CERTIFICATE", ("tls_client_certificate", "does not take the certificate in XTRACK_TLS_CERT", "")),
    ("ALERT_CERTIFICATE_EXPIRED", ("tls_client_certificate", "finds the certificate in XTRACK_TLS_CERT expired", "")),
    ("ALERT_CERTIFICATE_REVOKED", ("tls_client_certificate", "finds the certificate in XTRACK_TLS_CERT revoked", "")),
    ("ALERT_CERTIFICATE_UNKNOWN", ("tls_client_certificate", "does not take the certificate in XTRACK_TLS_CERT", "")),
)


def explain(error: OSError, address: str, *, established: bool = False, speaks: str | None = None) -> TransportError:
    """Return what an error of TLS means for ``address``: CollectorRefused, or TransportClosed where it just broke.

    ``established``: the handshake was over on this side. A collector's verdict on our certificate comes later still.
    ``speaks``: what the peer's first bytes look like.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        verdict = _VERDICTS.get(error.verify_code)
        code, problem, cure = verdict or ("tls_untrusted", "its certificate can't be trusted", "")
        return CollectorRefused(address, code, f"{problem}: {error.verify_message}", cure)
    if isinstance(error, ssl.SSLEOFError) or not isinstance(error, ssl.SSLError):
        return CollectorRefused(
            address, "tls_not_spoken", "closed the connection in the middle of the TLS handshake", "Does it speak TLS?"
        )
    said = (error.reason or str(error)).upper().replace(" ", "_")
    for reason, (code, problem, cure) in _REASONS:
        if reason not in said or (established and code == "tls_not_spoken"):
            continue
        if code == "tls_not_spoken" and speaks not in {None, "TLS"}:
            return CollectorRefused(address, code, f"{problem}, but {speaks}", "Is the port right?")
        return CollectorRefused(address, code, problem, cure)
    text = (error.reason or str(error)).replace("_", " ").lower()
    if established:
        return TransportClosed(address, f"the connection broke in TLS: {text}")
    return CollectorRefused(address, "tls_failed", f"the TLS handshake failed: {text}")
