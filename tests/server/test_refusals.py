"""Who is turned away: what it is told, what is told to the log, and what it costs."""

from __future__ import annotations

import logging
import socket
import ssl
import struct
import time
from pathlib import Path

import pytest
from server_peers import Peer, ServeProcess, address_of, connect, eventually, quick, read_all, serving, stream
from session_machines import said

from xtrack_protocol.errors import ConfigurationError, TransportError
from xtrack_protocol.ir import LogEntry, Reject
from xtrack_protocol.server import CollectorServer
from xtrack_protocol.server.access import AccessControl
from xtrack_protocol.server.admission import Doorkeeper, Journal, KeyGuesses, printable
from xtrack_protocol.server.keys import Keyring
from xtrack_protocol.session import CollectorLimits
from xtrack_protocol.storage import MemoryStore

A = stream("r", "w1", "a")


def reject_in(data: bytes) -> Reject:
    [reject] = [payload for payload in said(data) if isinstance(payload, Reject)]
    return reject


@pytest.mark.parametrize(
    ("first", "answer", "logged"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400 Bad Request", "the peer speaks HTTP"),
        (b"POST /v1/runs HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000, b"HTTP/1.1 400", "speaks HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", b"this port speaks the XTrack protocol, and no SSH", "the peer speaks SSH"),
        (b"*1\r\n$4\r\nPING\r\n", b"-ERR this port speaks the XTrack protocol", "the peer speaks Redis"),
        (b'{"v":1}\n', b"this port speaks the XTrack protocol: a length of 4 bytes", "JSON without lengths"),
    ],
)
def test_other_protocols(first: bytes, answer: bytes, logged: str, caplog: pytest.LogCaptureFixture) -> None:
    with MemoryStore() as store, serving(store) as server, connect(address_of(server)) as sock:
        sock.sendall(first)
        assert read_all(sock).startswith(answer)
        eventually(lambda: server.counters.refused_peers["wrong_protocol"] == 1)
        eventually(lambda: server.counters.connections == 0)
    assert logged in caplog.text


def test_tls_on_a_plain_port(caplog: pytest.LogCaptureFixture) -> None:
    context = ssl.create_default_context()
    with MemoryStore() as store, serving(store) as server, connect(address_of(server)) as sock:
        with pytest.raises(ssl.SSLError, match=r"(?i)wrong.version"):
            context.wrap_socket(sock, server_hostname="localhost")
        eventually(lambda: server.counters.refused_peers["wrong_protocol"] == 1)
    assert "the peer speaks TLS, and this port doesn't. Start the collector with --tls-cert" in caplog.text


@pytest.fixture(scope="module")
def tls_context(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context and a client's that trusts it."""
    pytest.importorskip("cryptography")
    from xtrack_protocol.net.tls import keep_self_signed, server_context

    cert, key = keep_self_signed(tmp_path_factory.mktemp("tls") / "tls", ["localhost", "127.0.0.1"])
    client = ssl.create_default_context(cafile=str(cert))
    return server_context(cert, key), client


def test_tls(tls_context: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    context, client = tls_context
    with MemoryStore() as store, serving(store, tls=context) as server:
        with Peer(address_of(server), wrap=lambda sock: client.wrap_socket(sock, server_hostname="localhost")) as peer:
            peer.open(A)
            peer.send(A, 2000)
            peer.wait_acked(A, 2000)
        eventually(lambda: server.counters.connections == 0)


@pytest.mark.parametrize(
    ("first", "answer", "logged"),
    [
        (b"\0\0\0\x10{}", None, "the peer speaks no TLS; this port speaks TLS"),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400", "the peer speaks HTTP; this port speaks TLS"),
    ],
)
def test_no_tls_on_a_tls_port(
    first: bytes,
    answer: bytes | None,
    logged: str,
    tls_context: tuple[ssl.SSLContext, ssl.SSLContext],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with MemoryStore() as store, serving(store, tls=tls_context[0]) as server, connect(address_of(server)) as sock:
        sock.sendall(first)
        data = read_all(sock)
        if answer is None:
            assert "this port speaks TLS: set XTRACK_TLS=1" in (reject_in(data).message or "")
        else:
            assert data.startswith(answer)
    assert logged in caplog.text


def test_who_does_not_trust_the_certificate(
    tls_context: tuple[ssl.SSLContext, ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    with MemoryStore() as store, serving(store, tls=tls_context[0]) as server:
        with connect(address_of(server)) as sock, pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")
        eventually(lambda: server.counters.refused_peers["tls"] == 1)
    assert "does not trust this server's certificate" in caplog.text


def test_a_frame_that_is_too_large() -> None:
    with MemoryStore() as store, serving(store) as server, connect(address_of(server)) as sock:
        sock.sendall(struct.pack(">I", 2 * 1024 * 1024) + b"{")
        reject = reject_in(read_all(sock))
        assert reject.code == "frame_too_large"
        assert "a length of 2097152 bytes is more than the limit of 1048576" in (reject.message or "")
        eventually(lambda: server.counters.refused_peers["frame_too_large"] == 1)


@pytest.mark.parametrize("sent", [b"", b"\0", b"\0\0\0\x50{"])
def test_a_slow_hello(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    limits = quick(session=CollectorLimits(first_frame_seconds=0.3))
    with MemoryStore() as store, serving(store, limits=limits) as server, connect(address_of(server)) as sock:
        sock.sendall(sent)
        reject = reject_in(read_all(sock))
        assert (reject.code, reject.message) == ("timeout", "the first frame was not complete within 0.3 s")
        eventually(lambda: server.counters.connections == 0)
    assert "the first frame was not complete within 0.3 s (timeout)" in caplog.text


def test_a_client_that_does_not_trust_the_certificate(
    tls_context: tuple[ssl.SSLContext, ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    """It goes behind the handshake, as who pins another fingerprint does; the log says so, but not for ever."""
    caplog.set_level(logging.INFO)
    with MemoryStore() as store, serving(store, tls=tls_context[0], fingerprint="ab" * 32) as server:
        for _ in range(15):
            with connect(address_of(server)) as sock, tls_context[1].wrap_socket(sock, server_hostname="localhost"):
                pass
        eventually(lambda: server.counters.refused_peers["tls"] == 15)
        eventually(lambda: server.counters.connections == 0)
    lines = [record.getMessage() for record in caplog.records if "closed before it said hello" in record.getMessage()]
    assert len(lines) == 10
    assert f"if its worker pins a fingerprint, it may be another one: ours is {'ab' * 32}" in lines[0]


def test_a_tls_handshake_that_is_never_begun(tls_context: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    limits = quick(session=CollectorLimits(first_frame_seconds=0.3))
    with MemoryStore() as store, serving(store, limits=limits, tls=tls_context[0]) as server:
        with connect(address_of(server)) as sock:
            assert read_all(sock) == b""
        eventually(lambda: server.counters.refused_peers["timeout"] == 1)


def test_too_many_connections() -> None:
    with MemoryStore() as store, serving(store, limits=quick(connections=3)) as server:
        peers = [Peer(address_of(server)) for _ in range(3)]
        with connect(address_of(server)) as sock:
            reject = reject_in(read_all(sock))
        assert (reject.code, reject.retry_after) == ("busy", 2.0)
        assert "3 connections are open" in (reject.message or "")
        peers.pop().close()
        eventually(lambda: server.counters.connections == 2)
        with Peer(address_of(server)):
            pass
        for peer in peers:
            peer.close()
        assert server.counters.refused_peers["busy"] == 1


def test_too_many_of_one_address_that_say_nothing() -> None:
    with MemoryStore() as store, serving(store, limits=quick(unknown_per_address=2)) as server:
        silent = [connect(address_of(server)) for _ in range(2)]
        eventually(lambda: server.counters.connections == 2)
        with connect(address_of(server)) as sock:
            assert "have not said yet what they are" in (reject_in(read_all(sock)).message or "")
        with Peer(address_of(server), source="127.0.0.2") as peer:  # another address has room
            peer.open(A)
        for sock in silent:
            sock.close()
        eventually(lambda: server.counters.connections == 0)
        with Peer(address_of(server)):  # and so has the first one again
            pass


def test_a_peer_that_does_not_read_is_given_up() -> None:
    limits = quick(flush_seconds=0.5)
    with MemoryStore() as store, serving(store, limits=limits) as server:
        with Peer(address_of(server)) as peer:
            peer.open(A)
            for seq in range(1, 61):
                peer.send(A, seq, LogEntry("r", "info", "x" * 500_000))
            peer.wait_acked(A, 60)
        reader = Peer(address_of(server))
        reader.session.subscribe("r", 0, time.monotonic())
        reader.sock.sendall(reader.session.data_to_send())
        eventually(lambda: server.counters.refused_peers["slow_reader"] == 1)
        eventually(lambda: server.counters.subscriptions == 0)
        assert server.counters.sent < 60, "what it doesn't read waits in the store"
        reader.close()


def test_frames_under_way_are_bounded() -> None:
    limits = quick(bytes_unfinished=1024 * 1024)
    with MemoryStore() as store, serving(store, limits=limits) as server:
        head = struct.pack(">I", 1_000_000)
        socks = []
        for _ in range(3):
            sock = connect(address_of(server))
            sock.sendall(head + b"{" + b" " * 600_000)
            socks.append(sock)
            time.sleep(0.1)
        eventually(lambda: server.counters.refused_peers["busy"] >= 2)
        assert reject_in(read_all(socks[0])).code == "busy", "the one begun first is given up"
        for sock in socks:
            sock.close()


# ------------------------------------------------------------------------------------------ keys


@pytest.fixture
def keyring(tmp_path: Path) -> tuple[Keyring, str]:
    ring = Keyring(tmp_path / "keys.json", new=True)
    _, key = ring.add("ann")
    return ring, key


def test_wrong_keys_have_to_wait(keyring: tuple[Keyring, str], caplog: pytest.LogCaptureFixture) -> None:
    ring, key = keyring
    store = MemoryStore()
    access = AccessControl(store, ring)
    with serving(store, access=access, limits=quick(key_failures=3, key_wait=(0.5, 1.0))) as server:
        wrong = f"{key[:-6]}AAAAAA"
        for _ in range(3):
            with Peer(address_of(server), key=wrong, welcome=False) as peer:
                assert peer.wait_rejected().code == "unauthorized"
        with Peer(address_of(server), key=key, welcome=False) as peer:  # even the right one
            rejected = peer.wait_rejected()
            assert rejected.code == "busy"
            assert 0 < (rejected.retry_after or 0) <= 0.7
        with Peer(address_of(server), key=key, source="127.0.0.2") as peer:  # of another address
            peer.open(A)
        time.sleep(0.7)
        with Peer(address_of(server), key=key) as peer:
            peer.open(A)
        assert server.counters.refused_peers["unauthorized"] == 3
    assert wrong not in caplog.text
    assert key not in caplog.text
    store.close()


def test_a_plain_worker_where_keys_are_asked_for(keyring: tuple[Keyring, str]) -> None:
    store = MemoryStore()
    with serving(store, access=AccessControl(store, keyring[0])) as server, connect(address_of(server)) as sock:
        from event_builders import a_run, capture

        sock.sendall(capture(a_run()))
        assert reject_in(read_all(sock)).code == "unauthorized"
        assert store.list_runs() == []


def test_the_run_of_somebody_else(keyring: tuple[Keyring, str]) -> None:
    ring, ann = keyring
    _, bob = ring.add("bob")
    store = MemoryStore()
    from xtrack_protocol.session import StreamRefused

    with serving(store, access=AccessControl(store, ring)) as server:
        with Peer(address_of(server), key=ann) as first, Peer(address_of(server), key=bob) as second:
            first.open(A)
            first.send(A, 3)
            first.wait_acked(A, 3)
            second.session.open_stream(A, time.monotonic())
            second.wait_for(StreamRefused, code="forbidden")
            first.send(A, 5)  # it was not fenced by who may not write
            first.wait_acked(A, 5)
        assert server.counters.fenced == 0
        assert server.counters.refused_peers["forbidden"] == 1


def test_a_key_that_is_removed_ends_its_sessions(keyring: tuple[Keyring, str]) -> None:
    ring, key = keyring
    store = MemoryStore()
    with serving(store, access=AccessControl(store, ring)) as server, Peer(address_of(server), key=key) as peer:
        peer.open(A)
        [info] = ring.keys()
        ring.remove(info.key_id)
        assert peer.wait_rejected().code == "unauthorized"


# ------------------------------------------------------------------------------------------ listening


def test_beyond_this_machine_takes_keys_and_tls(keyring: tuple[Keyring, str]) -> None:
    store = MemoryStore()
    with pytest.raises(ConfigurationError, match=r"Add --keys and --tls-self-signed or --tls-cert; or, .* --insecure"):
        CollectorServer(store, tcp=("0.0.0.0", 0))
    with pytest.raises(ConfigurationError, match="Add --tls-self-signed or --tls-cert; or"):
        CollectorServer(store, tcp=("", 0), access=AccessControl(store, keyring[0]))
    with pytest.raises(ConfigurationError, match="--keys"):
        CollectorServer(store, tcp=("::", 0), access=AccessControl(store, None))
    CollectorServer(store, tcp=("0.0.0.0", 0), insecure=True)
    CollectorServer(store, tcp=("localhost", 0))
    with pytest.raises(ConfigurationError, match="a server listens somewhere"):
        CollectorServer(store)
    with pytest.raises(ConfigurationError, match=r"^tcp='127.0.0.1:9999': is a text. Give tcp=\(host, port\)$"):
        CollectorServer(store, tcp="127.0.0.1:9999")  # type: ignore[arg-type]


def test_somebody_listens_there_already(tmp_path: Path) -> None:
    with MemoryStore() as store, serving(store, unix=tmp_path / "s") as server:
        with pytest.raises(TransportError, match=r"somebody listens there already.*ss -ltnp"):
            CollectorServer(store, tcp=("127.0.0.1", server.port)).run_in_thread().start()
        with pytest.raises(TransportError, match="somebody listens there already"):
            CollectorServer(store, unix=tmp_path / "s").run_in_thread().start()
        with Peer(tmp_path / "s"):
            pass


def test_an_address_that_is_none_of_ours() -> None:
    with MemoryStore() as store:
        with pytest.raises(TransportError, match="is no address of this machine"):
            CollectorServer(store, tcp=("198.51.100.1", 0), insecure=True).run_in_thread().start()
        with pytest.raises(TransportError, match="no such address"):
            CollectorServer(store, tcp=("no.such.host.invalid", 1), insecure=True).run_in_thread().start()


def test_a_socket_file_is_replaced_only_where_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "s"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with MemoryStore() as store:
        with CollectorServer(store, unix=path).run_in_thread(), Peer(path):
            pass
        path.write_text("mine")
        with pytest.raises(TransportError, match="is there already, and no socket"):
            CollectorServer(store, unix=path).run_in_thread().start()
        assert path.read_text() == "mine"
        with pytest.raises(TransportError, match="too long"):
            CollectorServer(store, unix=tmp_path / ("x" * 200)).run_in_thread().start()


# ------------------------------------------------------------------------------------------ what it costs


def rss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(pid)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_refusal_costs_next_to_nothing(tmp_path: Path) -> None:
    """Fifty peers refused at once, each still there: less than 64 KiB of memory for each."""
    kinds = [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", struct.pack(">I", 8_000_000), b"SSH-2.0-x\r\n"]
    with ServeProcess("--tcp", "127.0.0.1:0", "--store", "memory:", folder=tmp_path) as server:
        for first in kinds:  # what is loaded at the first time costs once
            with connect(server.address) as sock:
                sock.sendall(first)
                read_all(sock)
        before = rss_kib(server.process.pid)
        socks = [connect(server.address) for _ in range(48)]
        for number, sock in enumerate(socks):
            sock.sendall(kinds[number % len(kinds)])
        for sock in socks:
            sock.recv(1)
        grown = rss_kib(server.process.pid) - before
        for sock in socks:
            sock.close()
    assert grown < 64 * len(socks), f"{grown / len(socks):.0f} KiB each"


def test_the_log_can_not_be_flooded(caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(logging.getLogger("xtrack.test"))
    with caplog.at_level(logging.INFO):
        for number in range(100):
            journal.note("refused x", f"peer {number} \x1b[31m\n", now=float(number) / 10)
        assert len(caplog.records) == 10
        assert "\x1b" not in caplog.text.replace("\\x1b", "")
        journal.flush(70.0)
        assert "90 more" in caplog.text
        journal.note("refused x", "y" * 1000, now=100.0)
        assert len(caplog.records[-1].message) <= 400


def test_text_of_peers_is_printable() -> None:
    assert printable("a\x1b\u202e\ud800é") == "a\\x1b\\u202e\\ud800é"


def test_guesses_are_forgotten_in_a_bounded_table() -> None:
    guesses = KeyGuesses(quick(addresses=100, key_failures=2, key_wait=(1.0, 8.0)))
    waits = []
    for _ in range(7):
        guesses.wrong("a", 0.0)
        waits.append(guesses.wait("a", 0.0))
    assert waits == [0.0, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert guesses.wait("a", 9.0) == 0.0
    for number in range(500):
        guesses.wrong(str(number), 0.0)
    assert len(guesses._addresses) == 100
    guesses.right("499")
    assert guesses.wait("499", 0.0) == 0.0


def test_the_doorkeeper_counts_to_nothing() -> None:
    doors = Doorkeeper(quick())
    for known in (True, False):
        doors.enter("a")
        if known:
            doors.known("a")
        doors.leave("a", known=known)
    assert not doors._unknown
    assert not doors._by_address
