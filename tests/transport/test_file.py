from __future__ import annotations

import errno
import os

import pytest

from xtrack_protocol.errors import TransportClosed, TransportError
from xtrack_protocol.session import StreamId
from xtrack_protocol.transport import FileTransport, StreamInfo
from xtrack_protocol.transport import file as file_module
from xtrack_protocol.wire import frame_payload


def info(worker_id="", session_id="5e55"):
    return StreamInfo(stream=StreamId("r", worker_id, session_id))


def opened(path, *args):
    transport = FileTransport(path)
    transport.open(info(*args))
    return transport


def test_a_second_writer_appends_its_worker_id_to_the_name(tmp_path):
    path = tmp_path / "events.bin"
    transports = [
        opened(path, "w0"),
        opened(path, "w1"),
        opened(path, "w/1"),
        opened(path, "w1", "other"),
        opened(path),
    ]
    names = ["events.bin", "events.bin.w1", "events.bin.w%2F1", "events.bin.w1.other", "events.bin.5e55"]
    assert [transport.address for transport in transports] == [str(tmp_path / name) for name in names]
    for number, transport in enumerate(transports):
        transport.send(1, b"%d" % number)
        transport.close()
    for number, name in enumerate(names):
        assert (tmp_path / name).read_bytes() == frame_payload(b"%d" % number)


def test_a_second_writer_tells_where_it_writes(tmp_path):
    first = opened(tmp_path / "events.bin")
    told = []
    second = FileTransport(tmp_path / "events.bin")
    stream = StreamId("r", "w1", "5e55")
    second.open(StreamInfo(stream=stream, warn=lambda kind, text: told.append((kind, text))))
    assert [kind for kind, _ in told] == ["file"]
    assert str(tmp_path / "events.bin.w1") in told[0][1]
    first.close()
    second.close()


def test_when_all_names_are_taken_it_says_so(tmp_path):
    path = tmp_path / "events.bin"
    transports = [opened(path, "w") for _ in range(3)]
    with pytest.raises(TransportError, match=r"other processes write to this file.*XTRACK_FILE"):
        opened(path, "w")
    for transport in transports:
        transport.close()


def test_a_later_run_goes_on_in_the_same_file(tmp_path):
    path = tmp_path / "events.bin"
    for number in range(3):
        transport = opened(path)
        assert transport.address == str(path)
        transport.send(1, b"%d" % number)
        transport.close()
    assert path.read_bytes() == b"".join(frame_payload(b"%d" % number) for number in range(3))


@pytest.mark.parametrize("tail", [b"\0", b"\0\0\0\x05", b"\0\0\0\x05abcd", b"\0\0\0\0", b"\xff\0\0\x01a"])
def test_nothing_is_written_behind_a_torn_or_damaged_frame(tmp_path, tail):
    path = tmp_path / "events.bin"
    before = frame_payload(b"whole") + tail
    path.write_bytes(before)
    transport = opened(path, "w")
    assert transport.address == f"{path}.w"
    transport.send(1, b"x")
    transport.close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"#!/bin/sh\n", b"XTRKSEG1" + bytes(8184), b"\x7fELF"])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "events.bin"
    path.write_bytes(content)
    with pytest.raises(TransportError, match=r"something else than frames.*XTRACK_FILE"):
        opened(path)
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["events.bin"]


def test_a_very_large_file_is_not_looked_through(tmp_path, monkeypatch):
    path = tmp_path / "events.bin"
    path.write_bytes(frame_payload(b"x" * 1000))
    monkeypatch.setattr(file_module, "APPEND_MAX", 1000)
    transport = opened(path, "w")
    assert transport.address == f"{path}.w"
    transport.close()


def test_what_is_no_regular_file_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name in ("folder", "fifo", "/dev/null"):
        with pytest.raises(TransportError, match="no regular file"):
            opened(tmp_path / name)
    with pytest.raises(TransportError, match="XTRACK_FILE"):
        opened(tmp_path / "no" / "such" / "folder.bin")
    with pytest.raises(TransportError):
        opened(tmp_path / "a\0b")


def test_the_path_stays_when_the_script_changes_its_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    transport = FileTransport("events.bin")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    transport.open(info())
    transport.close()
    assert (tmp_path / "events.bin").exists()
    assert FileTransport("x").for_child().address == str(tmp_path / "elsewhere" / "x")


class Fault:
    """Stands in for os.write: fails, or writes a part, at the calls that ``plan`` names."""

    def __init__(self, monkeypatch, plan):
        self.plan, self.calls, self.real = plan, 0, os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, fd, data):
        self.calls += 1
        step = self.plan.get(self.calls)
        if isinstance(step, BaseException):
            raise step
        return self.real(fd, data if step is None else data[:step])


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=["full", "interrupt"])
@pytest.mark.parametrize("part", [1, 3, 4, 10])
def test_a_short_write_is_completed_or_cut_off_again(tmp_path, monkeypatch, error, part):
    path = tmp_path / "events.bin"
    transport = opened(path)
    transport.send(1, b"first")
    with monkeypatch.context() as patch:
        Fault(patch, {1: part, 3: part, 4: error})
        transport.send(2, b"second second")
        with pytest.raises((TransportError, KeyboardInterrupt)):
            transport.send(3, b"third third third")
    transport.send(4, b"fourth")
    transport.close()
    assert path.read_bytes() == b"".join(map(frame_payload, [b"first", b"second second", b"fourth"]))


def test_what_can_not_be_cut_off_ends_the_file(tmp_path, monkeypatch):
    path = tmp_path / "events.bin"
    transport = opened(path)
    transport.send(1, b"first")

    def no_truncate(_fd, _size):
        raise OSError(errno.EIO, "EIO")

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", no_truncate)
        Fault(patch, {1: 5, 2: OSError(errno.ENOSPC, "full")})
        with pytest.raises(TransportError):
            transport.send(2, b"second")
    size = path.stat().st_size
    with pytest.raises(TransportClosed, match="ends inside an event"):
        transport.send(3, b"third")
    transport.close()
    assert path.stat().st_size == size


def test_flush(tmp_path, monkeypatch):
    transport = opened(tmp_path / "events.bin")
    transport.send(1, b"x")
    synced = []
    monkeypatch.setattr(file_module, "sync_file", lambda fd: synced.append("file"))
    monkeypatch.setattr(file_module, "sync_dir", lambda path: synced.append(path))
    assert transport.flush("accepted", 1)
    assert synced == []
    assert transport.flush("durable", 1)
    assert transport.flush("durable", 1)
    assert synced == ["file", tmp_path, "file"]
    assert transport.flush("acked", 1) is False

    def fails(_fd):
        raise OSError(errno.EIO, "EIO")

    monkeypatch.setattr(file_module, "sync_file", fails)
    with pytest.raises(TransportError, match="durable"):
        transport.flush("durable", 1)
    transport.close()
    assert transport.flush("durable", 1) is False


def test_a_child_that_outlives_its_parent_does_not_hold_the_file(tmp_path):
    path = tmp_path / "events.bin"
    transport = opened(path)
    child = transport.for_child()  # as in a child: our copies are closed
    child.open(info("w"))
    assert child.address == str(path)
    child.close()
