"""Who connects and speaks something else: each is told in its own language what this port is. spec: CTL-17.8"""

from __future__ import annotations

from typing import Final

import attrs

_THIS: Final = "this port speaks the XTrack protocol"
_HTTP_TEXT: Final = (
    "This port speaks the XTrack protocol, and no HTTP.\n"
    "Workers send their events here: XTRACK_TRANSPORT=tcp, XTRACK_HOST, XTRACK_PORT.\n"
)
_HTTP: Final = (
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    f"Content-Length: {len(_HTTP_TEXT)}\r\nConnection: close\r\n\r\n{_HTTP_TEXT}"
).encode()


@attrs.frozen
class Stranger:
    """A peer of another protocol, told by its first bytes.

    ``answer``: what is sent to it; empty: what is sent to any peer, which a TLS library takes for a plain one at once.
    """

    speaks: str
    answer: bytes

    def explain(self, *, tls: bool) -> str:
        """Return a line for the log. ``tls``: whether this port speaks it."""
        if self.speaks == "TLS" and not tls:
            return (
                "the peer speaks TLS, and this port doesn't. Start the collector with --tls-cert and --tls-key (or "
                "--tls-self-signed), or the worker without TLS"
            )
        return f"the peer speaks {self.speaks}; {_THIS}"


_HTTP_METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI ")


def recognise(first: bytes) -> Stranger | None:
    """Return who begins like ``first``; None for peers of ours and for what nobody knows."""
    if not first or first[0] == 0:
        return None
    if first.startswith(_HTTP_METHODS) or any(method.startswith(first) for method in _HTTP_METHODS):
        return Stranger("HTTP", _HTTP)
    if first[0] == 0x16:
        return Stranger("TLS", b"")
    if first.startswith(b"SSH"):
        return Stranger("SSH", f"{_THIS}, and no SSH\r\n".encode())
    if first[0] == ord("*"):
        return Stranger("Redis", f"-ERR {_THIS}\r\n".encode())
    if first[0] == ord("{"):
        return Stranger("JSON without lengths", f"{_THIS}: a length of 4 bytes stands before each event\n".encode())
    return None
