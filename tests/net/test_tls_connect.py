"""Connections over TLS: real servers, who is trusted, and each way in which TLS doesn't come about."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from net_peers import DEADLINE, Authority, Server, hear_last_words, poll, read_exactly, read_some, serving, write_all

pytest.importorskip("cryptography")

from xtrack_protocol.errors import CollectorRefused, TransportClosed, TransportError
from xtrack_protocol.net.channel import POLLIN, POLLOUT, Channel
from xtrack_protocol.net.connect import connect
from xtrack_protocol.net.endpoint import Endpoint, parse_endpoint
from xtrack_protocol.net.explain import explain_first_bytes
from xtrack_protocol.net.tls import explain_client, fingerprint_of, keep_self_signed, server_context
from xtrack_protocol.settings import Settings

pytestmark = pytest.mark.skipif(os.name != "posix", reason="tried on POSIX systems")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server_pair(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("localhost", "127.0.0.1")


def to(server: Server, host: str = "127.0.0.1", **settings: Any) -> Endpoint:
    return parse_endpoint("tls", Settings(host=host, port=server.port, **settings))


def exchange(channel: Channel) -> None:
    write_all(channel, b"hello")
    assert read_exactly(channel, 5) == b"HELLO"
    assert channel.read() is None
    assert channel.first == b"HELLO"
    channel.close()
    channel.close()
    assert channel.fileno() == -1
    assert not channel.has_pending()


def refused(server: Server, code: str, problem: str, endpoint: Endpoint | None = None, **settings: Any) -> str:
    """Connect in vain; return the error's text."""
    with pytest.raises(CollectorRefused, match=f"^tls://{'127' if endpoint is None else ''}") as caught:
        connect(endpoint or to(server, **settings), DEADLINE)
    assert caught.value.code == code
    assert problem in caught.value.problem
    return str(caught.value)


def client_fault(server: Server) -> str:
    """Return what the server would log of the handshake that failed."""
    server.wait_for(lambda: server.errors)
    return explain_client(server.errors[0])


# ---------------------------------------------------------------------------------------------- who is trusted


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_certificate_of_a_ca(authority: Authority, server_pair: tuple[Path, Path], host: str) -> None:
    with serving(context=server_context(*server_pair)) as server:
        channel = connect(to(server, host, tls_ca=authority.path, key="k"), DEADLINE)
        assert channel.peer == f"127.0.0.1:{server.port}"
        assert channel.address == f"tls://{host}:{server.port}"
        exchange(channel)
        server.wait_for(lambda: server.heard == [b"hello"])


def test_a_ca_of_the_system(
    authority: Authority, server_pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(context=server_context(*server_pair)) as server:
        refused(server, "tls_untrusted", "signed by nobody who is trusted here")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        exchange(connect(to(server), DEADLINE))


def test_the_servers_own_certificate_as_ca(server_pair: tuple[Path, Path], tmp_path: Path) -> None:
    with serving(context=server_context(*server_pair)) as server:
        exchange(connect(to(server, tls_ca=server_pair[0]), DEADLINE))
    own = keep_self_signed(tmp_path / "tls", ["localhost", "127.0.0.1"])
    with serving(context=server_context(*own)) as server:
        exchange(connect(to(server, tls_ca=own[0]), DEADLINE))


def test_a_certificate_that_signs_itself_passes_the_strict_check_of_later_pythons(tmp_path: Path) -> None:
    cert, key = keep_self_signed(tmp_path / "tls", ["127.0.0.1"])
    strict = ssl.create_default_context(cafile=str(cert))
    strict.verify_flags |= ssl.VERIFY_X509_STRICT | getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0)
    with (
        serving(context=server_context(cert, key)) as server,
        socket.create_connection(("127.0.0.1", server.port), DEADLINE) as plain,
        strict.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        assert secured.version() == "TLSv1.3"


@pytest.mark.parametrize("hosts", [["localhost"], ["somewhere.else"]])
def test_a_pinned_certificate_whatever_it_says(tmp_path: Path, hosts: list[str]) -> None:
    pair = keep_self_signed(tmp_path / "tls", hosts)
    with serving(context=server_context(*pair)) as server:
        pin = fingerprint_of(pair[0])
        exchange(connect(to(server, tls_fingerprint=pin.upper()), DEADLINE))


def test_a_pinned_certificate_that_has_expired(authority: Authority) -> None:
    pair = authority.issue("somewhere.else", name="old", days=(-20, -10))
    with serving(context=server_context(*pair)) as server:
        exchange(connect(to(server, tls_fingerprint=fingerprint_of(pair[0])), DEADLINE))


def test_another_certificate_than_was_pinned(authority: Authority, server_pair: tuple[Path, Path]) -> None:
    with serving(context=server_context(*server_pair)) as server:
        other = authority.issue("127.0.0.1", name="other")
        pinned, seen = fingerprint_of(other[0]), fingerprint_of(server_pair[0])
        text = refused(
            server, "tls_fingerprint", f"the SHA-256 is {seen}, not {pinned}", tls_fingerprint=pinned, key="k"
        )
        assert "else somebody stands between" in text
    assert server.heard == []


@pytest.mark.parametrize(
    ("hosts", "days", "code", "problem"),
    [
        (["127.0.0.1"], (-20, -10), "tls_expired", "its certificate has expired: certificate has expired"),
        (["127.0.0.1"], (10, 20), "tls_expired", "its certificate is not valid yet"),
        (["127.0.0.2"], (-1, 1), "tls_wrong_host", "its certificate is for another host: IP address mismatch"),
        (["localhost"], (-1, 1), "tls_wrong_host", "its certificate is for another host"),
        ([], (-1, 1), "tls_wrong_host", "its certificate is for another host"),
    ],
)
def test_certificates_that_do_not_hold(
    authority: Authority, hosts: list[str], days: tuple[int, int], code: str, problem: str
) -> None:
    pair = authority.issue(*hosts, name="faulty", days=days)
    with serving(context=server_context(*pair)) as server:
        refused(server, code, problem, tls_ca=authority.path, key="k")
        client_fault(server)
    assert server.heard == []


def test_a_name_that_the_certificate_does_not_have(authority: Authority) -> None:
    pair = authority.issue("collector.example", "*.example.org", "127.0.0.1", name="names")
    with serving(context=server_context(*pair)) as server:
        text = refused(server, "tls_wrong_host", "'localhost'", to(server, "localhost", tls_ca=authority.path))
        assert "Connect by a name that it was made for, or pin it with XTRACK_TLS_FINGERPRINT" in text
        assert "another host name" in client_fault(server)


def test_a_signer_who_is_not_trusted(authority: Authority, server_pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = Authority(tmp_path, "Other CA")
    own = keep_self_signed(tmp_path / "tls", ["127.0.0.1"])
    for pair in (server_pair, own):
        with serving(context=server_context(*pair)) as server:
            text = refused(server, "tls_untrusted", "signed by nobody who is trusted here", tls_ca=other.path)
            assert "Name the signer in XTRACK_TLS_CA" in text
            assert "does not trust this server's certificate" in client_fault(server)
        assert server.heard == []


# ---------------------------------------------------------------------------------------------- client certificates


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificates(
    authority: Authority, server_pair: tuple[Path, Path], tmp_path: Path, newest: ssl.TLSVersion
) -> None:
    context = server_context(*server_pair, client_ca=authority.path)
    context.maximum_version = newest
    trusted = authority.issue(name="worker")
    stranger = Authority(tmp_path, "Other CA").issue(name="stranger")
    expired = authority.issue(name="expired", days=(-20, -10))

    def attempt(server: Server, pair: tuple[Path, Path] | None) -> None:
        """The verdict on our certificate comes with the handshake, or, in TLS 1.3, after it."""
        cert, key = pair or (None, None)
        channel = connect(to(server, tls_ca=authority.path, tls_cert=cert, tls_key=key), DEADLINE)
        try:
            channel.write(b"hello")
            assert read_exactly(channel, 5) == b"HELLO"
        finally:
            channel.close()

    with serving(context=context) as server:
        attempt(server, trusted)
    for pair, problem, cure, fault in (
        (None, "wants a certificate of this side", "XTRACK_TLS_CERT", "gave no certificate, and --tls-client-ca asks"),
        (
            stranger,
            "does not trust the signer of XTRACK_TLS_CERT",
            "",
            "gave a certificate that --tls-client-ca does not vouch for: ",
        ),
        (expired, "finds the certificate in XTRACK_TLS_CERT expired", "", "certificate has expired"),
    ):
        with serving(context=context) as server:
            with pytest.raises(CollectorRefused, match=problem) as caught:
                attempt(server, pair)
            assert caught.value.code == "tls_client_certificate"
            assert cure in caught.value.cure
            assert fault in client_fault(server)
        assert server.heard == []


def test_a_server_that_closes_without_a_word_when_it_has_no_certificate_of_ours(
    authority: Authority, server_pair: tuple[Path, Path]
) -> None:
    """As asyncio's does: without the alert of TLS, after this side's handshake is over."""
    context = server_context(*server_pair, client_ca=authority.path)

    async def serve(started: Callable[[int], None], done: threading.Event) -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
        async with server:
            started(server.sockets[0].getsockname()[1])
            await asyncio.to_thread(done.wait, DEADLINE)

    port: queue.Queue[int] = queue.Queue()
    done = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve(port.put, done)))
    thread.start()
    try:
        endpoint = parse_endpoint(
            "tls", Settings(host="127.0.0.1", port=port.get(timeout=DEADLINE), tls_ca=authority.path)
        )
        channel = connect(endpoint, DEADLINE)
        channel.write(b"hello")
        with pytest.raises(CollectorRefused, match="wants a certificate of this side") as caught:
            read_some(channel)
        channel.close()
        assert caught.value.code == "tls_client_certificate"
    finally:
        done.set()
        thread.join(DEADLINE)


# ---------------------------------------------------------------------------------------------- no TLS there


def test_a_server_that_speaks_something_else() -> None:
    def shout(connection: socket.socket, server: Server) -> None:
        server.heard.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(shout) as server:
        text = refused(server, "tls_not_spoken", "does not speak TLS, but HTTP", key="canary")
        assert "Is the port right?" in text
    assert b"canary" not in b"".join(server.heard)


def test_a_collector_without_tls_answers_with_a_reject() -> None:
    payload = b'{"t":"reject","v":1,"m":{"seq":0,"ts":1},"p":{"code":"frame_too_large"}}'
    frame = struct.pack(">I", len(payload)) + payload

    with serving(lambda connection, server: connection.sendall(frame)) as server:
        text = refused(server, "tls_not_spoken", "does not speak TLS")
        assert "start the collector with --tls-cert or --tls-self-signed" in text


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_server_that_hangs_up(how: str) -> None:
    def hang_up(connection: socket.socket, server: Server) -> None:
        connection.recv(65536)
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with serving(hang_up) as server:
        text = refused(server, "tls_not_spoken", "closed the connection in the middle of the TLS handshake")
        assert "Does it speak TLS?" in text


def test_a_server_that_says_nothing() -> None:
    release = threading.Event()
    with serving(lambda connection, server: release.wait(DEADLINE)) as server:
        try:
            start = time.monotonic()
            with pytest.raises(TransportError, match="timed out: no answer to the TLS handshake") as caught:
                connect(to(server), 0.5)
            assert time.monotonic() - start >= 0.5
            assert "Does the collector speak TLS?" in caught.value.cure
        finally:
            release.set()


def test_a_server_of_yesterday(server_pair: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, server_pair))
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with serving(context=context) as server:
        refused(server, "tls_failed", "have no TLS version or cipher in common")


def test_a_client_of_yesterday(server_pair: tuple[Path, Path]) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        client.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    client.set_ciphers("ALL:@SECLEVEL=0")
    with serving(context=server_context(*server_pair)) as server:
        with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as plain, pytest.raises(ssl.SSLError):
            client.wrap_socket(plain)
        assert client_fault(server) == "speaks no TLS of version 1.2 or later"


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "speaks HTTP, and no TLS"),
        (b'\0\0\0\x10{"t":"hello","v":', "speaks no TLS: is XTRACK_TLS=1 missing there?"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "speaks no TLS"),
        (b"", "closed the connection in the middle of the TLS handshake"),
    ],
)
def test_what_a_server_with_tls_says_of_a_client_without(
    server_pair: tuple[Path, Path], said: bytes, fault: str
) -> None:
    with (
        serving(context=server_context(*server_pair)) as server,
        socket.create_connection(("127.0.0.1", server.port), DEADLINE) as plain,
    ):
        plain.sendall(said)
        with contextlib.suppress(OSError):  # the server has seen enough already
            plain.shutdown(socket.SHUT_WR)
        assert fault in client_fault(server)


def test_a_client_without_tls_learns_why(server_pair: tuple[Path, Path]) -> None:
    with serving(context=server_context(*server_pair)) as server:
        endpoint = parse_endpoint("tcp", Settings(host="127.0.0.1", port=server.port))
        channel = connect(endpoint, DEADLINE)
        write_all(channel, b'\0\0\0\x10{"t":"hello","v"')
        with contextlib.suppress(TransportClosed):
            read_some(channel)
        channel.close()
        error = explain_first_bytes(endpoint, channel.first)
        assert error is not None
        assert "speak" in str(error)
        assert "TLS" in str(error)


# ---------------------------------------------------------------------------------------------- the channel


def connected(server: Server, pair: tuple[Path, Path]) -> Channel:
    return connect(to(server, tls_fingerprint=fingerprint_of(pair[0])), DEADLINE)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_much_in_both_directions_at_once(server_pair: tuple[Path, Path], version: ssl.TLSVersion) -> None:
    context = server_context(*server_pair)
    context.maximum_version = version
    sent = os.urandom(4 << 20)

    def slowly(connection: socket.socket, server: Server) -> None:
        """Echo, at a pace of its own, so that both directions fill up."""
        left = len(sent)
        while left:
            data = connection.recv(50_000)
            left -= len(data)
            connection.sendall(data)

    with serving(slowly, context=context) as server:
        channel = connected(server, server_pair)
        out, came = memoryview(sent), bytearray()
        full = 0
        while len(came) < len(sent):
            wrote = channel.write(out) if out else 0
            out = out[wrote:]
            data = channel.read()
            if data:
                came += data
            elif not wrote:
                full += bool(out)
                assert channel.events() == (POLLIN | POLLOUT if out else POLLIN)
                poll(channel)
        assert came == sent
        channel.close()
    assert server.errors == []


def test_more_is_added_while_there_is_no_room(server_pair: tuple[Path, Path]) -> None:
    go_on = threading.Event()

    def later(connection: socket.socket, server: Server) -> None:
        go_on.wait(DEADLINE)
        while data := connection.recv(1 << 16):
            server.heard.append(data)

    with serving(later, context=server_context(*server_pair)) as server:
        channel = connected(server, server_pair)
        waiting, expected = bytearray(), bytearray()
        while True:
            more = os.urandom(1000)
            waiting += more
            expected += more
            count = channel.write(waiting)
            del waiting[:count]
            if not count:
                break
        for _ in range(100):
            more = os.urandom(1000)
            waiting += more
            expected += more
            del waiting[: channel.write(waiting)]  # the kernels may yet make some room
        assert waiting
        go_on.set()
        write_all(channel, bytes(waiting))
        while channel.events() & POLLOUT:  # a part of it waits in the channel still
            poll(channel)
            assert channel.read() is None
        channel.close()
        server.wait_for(lambda: sum(map(len, server.heard)) == len(expected))
        assert b"".join(server.heard) == expected


def test_the_peer_says_goodbye(server_pair: tuple[Path, Path]) -> None:
    def bye(connection: ssl.SSLSocket, server: Server) -> None:
        connection.sendall(b"bye")
        with contextlib.suppress(OSError):
            connection.unwrap()

    with serving(bye, context=server_context(*server_pair)) as server:
        channel = connected(server, server_pair)
        assert read_exactly(channel, 3) == b"bye"
        assert read_some(channel) == b""
        assert channel.read() == b""
        channel.close()


def test_we_say_goodbye(server_pair: tuple[Path, Path]) -> None:
    def listen(connection: ssl.SSLSocket, server: Server) -> None:
        connection.suppress_ragged_eofs = False
        while data := connection.recv(100):
            server.heard.append(data)

    with serving(listen, context=server_context(*server_pair)) as server:
        channel = connected(server, server_pair)
        write_all(channel, b"hello")
        server.wait_for(lambda: server.heard)
        channel.close()
    assert server.errors == []


@pytest.mark.parametrize("how", ["close", "reset"])
def test_the_connection_breaks_off(server_pair: tuple[Path, Path], how: str) -> None:
    def break_off(connection: ssl.SSLSocket, server: Server) -> None:
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with serving(break_off, context=server_context(*server_pair)) as server:
        channel = connected(server, server_pair)
        with pytest.raises(TransportClosed, match="the connection broke: ") as caught:
            read_some(channel)
        assert not isinstance(caught.value, CollectorRefused)
        channel.close()


def test_last_words_are_heard_although_writing_fails(server_pair: tuple[Path, Path]) -> None:
    def refuse(connection: ssl.SSLSocket, server: Server) -> None:
        connection.recv(1)
        connection.sendall(b"busy")
        with contextlib.suppress(OSError):
            connection.unwrap()

    with serving(refuse, context=server_context(*server_pair)) as server:
        channel = connected(server, server_pair)
        hear_last_words(channel, b"busy")
        channel.close()


def test_a_forked_child_leaves_the_connection_to_its_parent(server_pair: tuple[Path, Path]) -> None:
    with serving(context=server_context(*server_pair)) as server:
        channel = connected(server, server_pair)
        child = os.fork()
        if child == 0:
            channel.abandon()
            os._exit(0)
        os.waitpid(child, 0)
        exchange(channel)
    assert server.errors == []


def test_a_script_that_has_made_sigpipe_deadly(server_pair: tuple[Path, Path]) -> None:
    def slam(connection: ssl.SSLSocket, server: Server) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with serving(slam, context=server_context(*server_pair)) as server:
        code = f"""
import signal, time
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
from xtrack_protocol.net.connect import connect
from xtrack_protocol.net.endpoint import parse_endpoint
from xtrack_protocol.settings import Settings
settings = Settings(tls_fingerprint="{fingerprint_of(server_pair[0])}")
channel = connect(parse_endpoint("tls://127.0.0.1:{server.port}", settings), 20)
for _ in range(200):
    channel.write(b"x" * 100)
    channel._lost = None      # go on, as if nothing had been noticed
    time.sleep(0.001)
channel.close()
assert signal.SIGPIPE not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
print("alive")
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "alive\n", (done.returncode, done.stderr)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")
def test_the_fingerprint_is_what_openssl_prints(server_pair: tuple[Path, Path]) -> None:
    done = subprocess.run(
        ["openssl", "x509", "-in", str(server_pair[0]), "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        text=True,
        check=True,
    )
    with serving(context=server_context(*server_pair)) as server:
        exchange(connect(to(server, tls_fingerprint=done.stdout), DEADLINE))


def test_the_socket_is_closed_when_tls_fails(authority: Authority, server_pair: tuple[Path, Path]) -> None:
    """ResourceWarning is an error in these tests, and the server sees the end."""
    with serving(context=server_context(*server_pair)) as server:
        refused(server, "tls_fingerprint", "another one", tls_fingerprint="ab" * 32)
        refused(server, "tls_untrusted", "signed by nobody")
        server.wait_for(lambda: server.errors)
