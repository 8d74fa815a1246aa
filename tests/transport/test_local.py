from __future__ import annotations

import errno
import os

import pytest

from xtrack_protocol.errors import ConfigurationError, TransportClosed, TransportError
from xtrack_protocol.ir import Command, CommandResult, Envelope
from xtrack_protocol.session import StreamId
from xtrack_protocol.settings import Settings
from xtrack_protocol.spool import SpoolDir, is_alive, segments
from xtrack_protocol.spool import writer as writer_module
from xtrack_protocol.spool.mailbox import post, wait_for_answers
from xtrack_protocol.transport import (
    TRANSPORTS,
    FileTransport,
    LocalTransport,
    MemoryTransport,
    NullTransport,
    StdioTransport,
    StreamInfo,
    open_transport,
)
from xtrack_protocol.transport.remote import TcpTransport, UnixTransport
from xtrack_protocol.wire import encode

STREAM = StreamId("r", "", "5e55")
INFO = StreamInfo(stream=STREAM)


def test_opening_takes_the_lock_and_writes_nothing_yet(tmp_path):
    transport = LocalTransport(tmp_path / "home")
    assert not (tmp_path / "home").exists()
    transport.open(INFO)
    run_dir = SpoolDir(tmp_path / "home").run_dir("r")
    assert [path.name for path in run_dir.iterdir()] == ["5e55.lock"]
    assert is_alive(run_dir, STREAM)
    transport.close()
    assert not is_alive(run_dir, STREAM)


def test_a_deleted_run_takes_no_events(tmp_path):
    tombstone = SpoolDir(tmp_path).tombstone("r")
    tombstone.parent.mkdir(parents=True)
    tombstone.touch()
    with pytest.raises(TransportError, match="was deleted here"):
        LocalTransport(tmp_path).open(INFO)


@pytest.mark.parametrize("stream", [StreamId("x" * 1025, "", "s"), StreamId("\x01" * 900, "", "s")])
def test_ids_that_do_not_fit_are_told_at_open(tmp_path, stream):
    with pytest.raises(TransportError, match="can't hold this stream"):
        LocalTransport(tmp_path).open(StreamInfo(stream=stream))


def test_two_emitters_of_one_stream(tmp_path):
    first, second = LocalTransport(tmp_path), LocalTransport(tmp_path)
    first.open(INFO)
    with pytest.raises(TransportError, match=r"another process writes this stream\. Give this one"):
        second.open(INFO)
    first.close()


@pytest.mark.parametrize("root", ["a\0b", "/proc/nowhere", "\ud800"])
def test_folders_that_can_not_be(root):
    with pytest.raises((TransportError, ConfigurationError)):
        LocalTransport(root).open(INFO)


def test_a_failure_names_the_file_once_and_its_cure(tmp_path, monkeypatch):
    transport = LocalTransport(tmp_path)
    transport.open(INFO)
    transport.send(1, b"{}")

    def fails(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fails)
        with pytest.raises(TransportError) as caught:
            transport.send(2, b"{}")
    (path,) = segments(SpoolDir(tmp_path).run_dir("r"))
    assert str(caught.value) == (
        f"{path}: can't be written: No space left on device. "
        "Make room or set XTRACK_DIR to a folder that can be written"
    )
    monkeypatch.setattr(writer_module, "sync_file", fails)
    with pytest.raises(TransportError, match="durable"):
        transport.flush("durable", 1)
    with pytest.raises(TransportError, match="durable"):
        transport.close()
    transport.close()
    with pytest.raises(TransportClosed):
        transport.send(3, b"{}")
    assert transport.flush("durable", 1) is False


def test_a_command_and_its_answer(tmp_path):
    transport = LocalTransport(tmp_path)
    transport.open(INFO)
    folder = SpoolDir(tmp_path).mailbox("r")
    assert transport.receive() == []
    post(folder, Command("c1", "stop"))
    assert len(transport.receive()) == 1
    answer = encode(Envelope.of(CommandResult("r", "c1", "ok", "done", None), seq=0, timestamp_us=1))
    assert transport.send_control(answer) is True
    assert transport.send_control(b"rubbish") is False
    assert [result.message for result in wait_for_answers(folder, "c1", expected=1, timeout=1)] == ["done"]
    transport.close()
    assert transport.send_control(answer) is False
    assert transport.receive() == []


# ---------------------------------------------------------------------------------------------- by name


def test_transports_by_name(tmp_path):
    settings = Settings(dir=tmp_path / "home", file=tmp_path / "f.bin", socket=tmp_path / "s", fd=7)
    cases = {
        "local": (LocalTransport, str(tmp_path / "home")),
        "local:/elsewhere": (LocalTransport, "/elsewhere"),
        "file": (FileTransport, str(tmp_path / "f.bin")),
        "file:/a:b.bin": (FileTransport, "/a:b.bin"),
        "stdio": (StdioTransport, "fd:7"),
        "stdio:1": (StdioTransport, "fd:1"),
        "unix": (UnixTransport, f"unix:{tmp_path / 's'}"),
        "tcp": (TcpTransport, "tcp://localhost:9999"),
        "tcp://h:1": (TcpTransport, "tcp://h:1"),
        "tls:h:1": (TcpTransport, "tls://h:1"),
        "unix:/x.sock": (UnixTransport, "unix:/x.sock"),
        "memory": (MemoryTransport, "memory:"),
        "null": (NullTransport, "null:"),
    }
    for spec, (kind, address) in cases.items():
        transport = open_transport(spec, settings)
        assert type(transport) is kind
        assert transport.address == address
        assert transport.name == spec.split(":")[0].replace("tls", "tcp")
    assert {spec.split(":")[0] for spec in cases} == set(TRANSPORTS)


@pytest.mark.parametrize("spec", ["", "locale", "LOCAL", "tcps", "stdio:one", "stdio:-1", "http://x", "nul"])
def test_transports_that_there_are_not(spec):
    with pytest.raises(ConfigurationError, match="XTRACK_TRANSPORT") as caught:
        open_transport(spec, Settings())
    if not spec.startswith("stdio"):
        assert "Known: local, tcp" in str(caught.value)
