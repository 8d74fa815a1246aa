"""What a peer speaks that is no collector, or that wants TLS."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrack_protocol.net.endpoint import Endpoint, parse_endpoint
from xtrack_protocol.net.explain import explain_first_bytes, guess_protocol
from xtrack_protocol.settings import Settings

TCP = parse_endpoint("tcp", Settings())
TLS = parse_endpoint("tls", Settings())
UNIX = parse_endpoint("unix", Settings())


@pytest.mark.parametrize(
    ("first", "protocol"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS"),
        (b"\x15\x03\x03\x00\x02\x02\x0a", "TLS"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (b"\x16\x03", "TLS"),
        (b"\x15", "TLS"),
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
        (b"HTT", "HTTP"),
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"PRI * HTTP/2.0\r\n", "HTTP"),
        (b"<!DOCTYPE html>", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        (b"-ERR unknown command\r\n", "Redis"),
        (b"*1\r\n$4\r\nPING\r\n", "Redis"),
        (b"220 mail.example ESMTP\r\n", "SMTP or FTP"),
        (b"\0\0\0\x10{", None),
        (b"", None),
        (b"nobody knows", None),
        (b"\x16\x04", None),
    ],
)
def test_what_first_bytes_are_of(first: bytes, protocol: str | None) -> None:
    assert guess_protocol(first) == protocol


@pytest.mark.parametrize("first", [b"\x15\x03\x01\x00\x02\x02\x46", b"\x16\x03\x03\x00\x7a"])
def test_a_server_with_tls_where_tls_is_off(first: bytes) -> None:
    error = explain_first_bytes(TCP, first)
    assert error is not None
    assert error.code == "tls_required"
    assert str(error) == (
        "tcp://localhost:9999: speaks TLS, and XTRACK_TLS is off (tls_required). Use tls:// or set XTRACK_TLS=1"
    )


@pytest.mark.parametrize("endpoint", [TCP, TLS, UNIX])
def test_other_peers(endpoint: Endpoint) -> None:
    error = explain_first_bytes(endpoint, b"HTTP/1.1 400 Bad Request")
    assert error is not None
    assert f"{endpoint.url}: is no collector: it speaks HTTP" in str(error)
    error = explain_first_bytes(endpoint, b"hello there, who are you?")
    assert error is not None
    assert "its answer begins with b'hello there, who" in str(error)
    assert explain_first_bytes(endpoint, b"\0\0\0\x10") is None


def test_a_peer_that_closes_without_an_answer() -> None:
    for endpoint, may_be_tls in ((TCP, True), (TLS, False), (UNIX, False)):
        error = explain_first_bytes(endpoint, b"")
        assert error is not None
        assert "closed the connection without an answer" in str(error)
        assert ("It may speak TLS" in error.cure) == may_be_tls


@given(st.binary(max_size=20))
def test_whatever_comes(first: bytes) -> None:
    error = explain_first_bytes(TCP, first)
    assert (error is None) == (first[:1] == b"\0")
