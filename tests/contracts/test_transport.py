from __future__ import annotations

import contextlib
import os
import socket
import threading

import pytest
from small_collector import SmallCollector

from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import SpoolDir, open_segment, read_segment, segments
from xtrack_protocol.testing import TransportContract
from xtrack_protocol.transport import FileTransport, LocalTransport, MemoryTransport, NullTransport, StdioTransport
from xtrack_protocol.transport.remote import RemoteTransport, TcpTransport, UnixTransport
from xtrack_protocol.wire import Record, TornTail, frame_payload


def split(data: bytes) -> list[bytes]:
    """The five lines that read plain frames in any language."""
    found, position = [], 0
    while position + 4 <= len(data):
        end = position + 4 + int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            break
        found.append(data[position + 4 : end])
        position = end
    return found


class Drain:
    """Reads a socket or pipe to its end in a thread, as a launcher does."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.data = bytearray()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(ConnectionResetError):  # the worker was killed with commands unread
            while chunk := os.read(self.fd, 65536):
                self.data += chunk
        os.close(self.fd)

    def payloads(self) -> list[bytes]:
        self._thread.join(10)
        assert not self._thread.is_alive(), "somebody still has the descriptor"
        return split(bytes(self.data))


class TestLocal(TransportContract):
    def make_transport(self):
        return LocalTransport(self.directory / "home")

    def make_broken_transport(self):
        (self.directory / "file").write_text("not a folder")
        return LocalTransport(self.directory / "file")

    def read_back(self, transport):
        by_stream: dict[StreamId, list[bytes]] = {}
        for path in segments(SpoolDir(transport.address).run_dir("contract")):
            segment = open_segment(path)
            assert segment is not None
            items = [item for item, _ in read_segment(segment, finished=True)]
            if items and isinstance(items[-1], TornTail):
                items.pop()  # of a write in which kill -9 came: the kernel may end it at a page's end
            assert all(isinstance(item, Record) for item in items)
            by_stream.setdefault(segment.stream, []).extend(item.payload for item in items)
        return [payload for _, found in sorted(by_stream.items()) for payload in found]

    def send_command(self, transport, payload):
        from xtrack_protocol.spool import make_private_dir, safe_name, write_private
        from xtrack_protocol.wire import decode

        folder = SpoolDir(transport.address).mailbox("contract")
        make_private_dir(folder)
        write_private(folder / f"{safe_name(decode(payload).payload.command_id)}.json", payload)
        return True


class TestFile(TransportContract):
    def make_transport(self):
        return FileTransport(self.directory / "events.bin")

    def make_broken_transport(self):
        return FileTransport(self.directory / "no such folder" / "events.bin")

    def read_back(self, transport):
        return [payload for path in sorted(self.directory.glob("events.bin*")) for payload in split(path.read_bytes())]


class TestStdioOverAPipe(TransportContract):
    def make_transport(self):
        reading, writing = os.pipe()
        self._drain, self._writing = Drain(reading), writing
        return StdioTransport(writing)

    def make_broken_transport(self):
        fd = os.open(os.devnull, os.O_RDONLY)
        os.close(fd)
        return StdioTransport(fd)

    def read_back(self, transport):
        os.close(self._writing)
        self._writing = -1
        return self._drain.payloads()

    @pytest.fixture(autouse=True)
    def _close(self):
        self._writing = -1
        yield
        if self._writing >= 0:
            os.close(self._writing)


class TestStdioOverASocket(TransportContract):
    def make_transport(self):
        ours, theirs = socket.socketpair()
        self._ours, self._writing = ours, theirs
        self._all += [ours, theirs]
        self._drain = Drain(os.dup(ours.fileno()))
        return StdioTransport(theirs.fileno())

    def read_back(self, transport):
        self._writing.close()
        return self._drain.payloads()

    def send_command(self, transport, payload):
        self._ours.sendall(frame_payload(payload))
        return True

    @pytest.fixture(autouse=True)
    def _close(self):
        self._all: list[socket.socket] = []
        yield
        for end in self._all:
            end.close()


class Remote(TestLocal):
    """What is accepted is in the spool, as with local, whether a collector takes it or not; then it is acked."""

    kind: type[RemoteTransport]

    def make_transport(self):
        return self.kind(self.collector.endpoint, self.directory / "home")

    def make_broken_transport(self):
        (self.directory / "file").write_text("not a folder")
        return self.kind(self.collector.endpoint, self.directory / "file")

    def read_back(self, transport):
        return super().read_back(LocalTransport(transport.root))

    def send_command(self, transport, payload):
        return super().send_command(LocalTransport(transport.root), payload)

    @pytest.fixture(autouse=True)
    def _serve(self, _directory):
        with SmallCollector(*self.listening()) as self.collector:
            yield

    def listening(self):
        return ()


class TestTcp(Remote):
    kind = TcpTransport


class TestUnix(Remote):
    kind = UnixTransport

    def listening(self):
        return (self.directory / "c.sock",)


class TestTcpWithNobodyThere(Remote):
    kind = TcpTransport

    def make_transport(self):
        self.collector.stop()
        return super().make_transport()


del Remote


class TestMemory(TransportContract):
    child_is_read_back = False  # the child's memory is its own

    def make_transport(self):
        return MemoryTransport()

    def read_back(self, transport):
        return transport.payloads

    def send_command(self, transport, payload):
        transport.inbox.append(payload)
        return True


class TestNull(TransportContract):
    keeps_events = False

    def make_transport(self):
        return NullTransport()
