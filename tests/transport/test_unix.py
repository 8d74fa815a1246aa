from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from xtrack_protocol.errors import TransportClosed, TransportError
from xtrack_protocol.session import StreamId
from xtrack_protocol.transport import StreamInfo
from xtrack_protocol.transport import unix as unix_module
from xtrack_protocol.transport.unix import UnixTransport
from xtrack_protocol.wire import frame_payload

INFO = StreamInfo(stream=StreamId("r", "", "s"))


@pytest.fixture
def server(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.sock"))
        listening.listen(1)
        yield listening


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.sock"


def test_no_collector_is_told_with_its_cure(tmp_path):
    cases = [tmp_path / "nobody.sock", tmp_path / ("long" * 60), tmp_path / "a\0b"]
    (tmp_path / "file").touch()
    cases.append(tmp_path / "file")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    cases.append(tmp_path / "dead.sock")
    for case in cases:
        transport = UnixTransport(case)
        with pytest.raises(TransportError, match=r"no collector answers.*unset to log to this machine") as caught:
            transport.open(INFO)
        assert caught.value.address == f"unix:{case}"
        transport.close()


def test_a_queue_that_is_full_for_a_moment_is_waited_for(server, path):
    waiting = []
    while True:  # fill the queue
        other = socket.socket(socket.AF_UNIX)
        other.setblocking(False)
        try:
            other.connect(str(path))
        except BlockingIOError:
            other.close()
            break
        waiting.append(other)
    accepted = []

    def accept_later():
        time.sleep(0.1)
        accepted.extend(server.accept()[0] for _ in range(len(waiting) + 1))

    thread = threading.Thread(target=accept_later)
    thread.start()
    transport = UnixTransport(path)
    transport.open(INFO)
    transport.send(1, b"x")
    thread.join()
    transport.close()
    for end in (*waiting, *accepted):
        end.close()


def test_a_queue_that_stays_full_is_given_up(server, path, monkeypatch):
    monkeypatch.setattr(unix_module, "CONNECT_TIMEOUT", 0.1)
    transports = [UnixTransport(path) for _ in range(5)]
    begin = time.monotonic()

    def open_all():
        for transport in transports:
            transport.open(INFO)

    with pytest.raises(TransportError, match="no collector answers"):
        open_all()
    assert time.monotonic() - begin < 3
    for transport in transports:
        transport.close()


def test_a_peer_that_dies_in_the_middle(server, path):
    transport = UnixTransport(path)
    transport.open(INFO)
    connection, _ = server.accept()
    transport.send(1, b"first")
    assert connection.recv(100) == frame_payload(b"first")

    def die():
        connection.recv(1000)
        connection.close()

    thread = threading.Thread(target=die)
    thread.start()
    with pytest.raises(TransportClosed, match="is gone"):
        transport.send(2, bytes(1024 * 1024))
    thread.join()
    for _ in range(3):
        with pytest.raises(TransportClosed):
            transport.send(3, b"x")
    assert transport.receive() == []
    assert transport.send_control(b"{}") is False
    transport.close()


def test_a_collector_that_takes_nothing(server, path):
    transport = UnixTransport(path, timeout=0.2)
    transport.open(INFO)
    begin = time.monotonic()

    def send_all():
        for seq in range(1, 10**6):
            transport.send(seq, b"x" * 1000)

    with pytest.raises(TransportError, match=r"within 0\.2 s"):
        send_all()
    assert time.monotonic() - begin < 5
    transport.close()


def test_commands_survive_any_chunking(server, path):
    transport = UnixTransport(path)
    transport.open(INFO)
    connection, _ = server.accept()
    command = b'{"v":1,"t":"command","m":{"seq":0,"ts":0},"p":{"cmd_id":"1","type":"stop"}}'
    received = []
    for byte in frame_payload(command) * 3:
        connection.sendall(bytes([byte]))
        received += transport.receive()
    assert received == [command] * 3
    connection.sendall(frame_payload(b"not json") + frame_payload(command))
    assert transport.receive() == [command]  # a bad frame costs itself alone
    connection.sendall(frame_payload(command) + b"HTTP")
    assert transport.receive() == [command]
    assert transport.receive() == []
    transport.close()
    connection.close()


def test_a_child_has_a_connection_of_its_own(server, path):
    transport = UnixTransport(path)
    transport.open(INFO)
    first, _ = server.accept()
    child = transport.for_child()
    assert first.recv(10) == b""  # here the only copy: in a child the parent's stays open
    child.open(INFO)
    second, _ = server.accept()
    child.send(1, b"x")
    assert second.recv(100) == frame_payload(b"x")
    child.close()
    for end in (first, second):
        end.close()


def test_nothing_is_left_open(server, path):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("counts descriptors in /proc")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        transport = UnixTransport(path)
        transport.open(INFO)
        server.accept()[0].close()
        transport.close()
        with pytest.raises(TransportError):
            UnixTransport(f"{path}.no").open(INFO)
    assert len(os.listdir("/proc/self/fd")) == before
