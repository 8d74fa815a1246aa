"""Says what the other side speaks, by the first bytes that it sends, when these are no frames."""

from __future__ import annotations

from typing import Final

from xtrack_protocol.errors import CollectorRefused
from xtrack_protocol.net.endpoint import Endpoint

_STARTS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x15\x03", "TLS"),
    (b"\x16\x03", "TLS"),
    (b"HTTP/", "HTTP"),
    (b"GET ", "HTTP"),
    (b"POST ", "HTTP"),
    (b"PUT ", "HTTP"),
    (b"HEAD ", "HTTP"),
    (b"OPTIONS ", "HTTP"),
    (b"CONNECT ", "HTTP"),
    (b"PRI * HTTP/2", "HTTP"),
    (b"<!", "HTTP"),
    (b"SSH-", "SSH"),
    (b"-ERR", "Redis"),
    (b"*1\r\n", "Redis"),
    (b"+OK", "Redis"),
    (b"220 ", "SMTP or FTP"),
)


def guess_protocol(first: bytes) -> str | None:
    """Return what a peer speaks whose first bytes are ``first``; None: nobody knows, or frames. spec: FRM-3"""
    for start, protocol in _STARTS:
        if first and (first.startswith(start) or start.startswith(first[:8])):
            return protocol
    return None


def explain_first_bytes(endpoint: Endpoint, first: bytes) -> CollectorRefused | None:
    """Return why a peer whose first bytes are ``first`` is no collector for ``endpoint``; None where it may be one.

    ``b""``: it has closed the connection without an answer to ``hello``.
    """
    if first[:1] == b"\0":
        return None
    tls_off = endpoint.scheme == "tcp" and endpoint.tls is None
    protocol = guess_protocol(first)
    if protocol == "TLS" and tls_off:
        return CollectorRefused(
            endpoint.url, "tls_required", "speaks TLS, and XTRACK_TLS is off", "Use tls:// or set XTRACK_TLS=1"
        )
    if protocol:
        return CollectorRefused(
            endpoint.url, "protocol_error", f"is no collector: it speaks {protocol}", "Is the port right?"
        )
    if first:
        return CollectorRefused(
            endpoint.url,
            "protocol_error",
            f"is no collector: its answer begins with {first[:16]!r}",
            "Is the port right?",
        )
    if tls_off:
        return CollectorRefused(
            endpoint.url,
            "protocol_error",
            "closed the connection without an answer",
            "It may speak TLS, or be no collector: see what it says on its own side",
        )
    return CollectorRefused(endpoint.url, "protocol_error", "closed the connection without an answer")
