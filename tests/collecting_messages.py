"""The rows of the troubleshooting page about collecting, each provoked for real: see docs/test_troubleshooting.py."""

from __future__ import annotations

import io
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from doc_pages import environment
from server_peers import Peer, ServeProcess, connect, eventually, quick, read_all, stream

from xtrack_protocol.errors import StoreFull
from xtrack_protocol.ir import LogEntry
from xtrack_protocol.server import CollectorServer
from xtrack_protocol.session import StreamHeld
from xtrack_protocol.storage import AppendResult, Incoming, MemoryStore

A_STREAM = stream("r")

COLLECTING: dict[str, Callable[[Path], str]] = {}


def row(message: str) -> Callable[[Callable[[Path], str]], Callable[[Path], str]]:
    """Say which row of the page a provocation is for."""

    def register(provoke: Callable[[Path], str]) -> Callable[[Path], str]:
        assert message not in COLLECTING
        COLLECTING[message] = provoke
        return provoke

    return register


def xtrack(folder: Path, *argv: str) -> str:
    """Return what the command says, which doesn't begin to serve."""
    done = subprocess.run(
        [sys.executable, "-m", "xtrack_protocol.cli", *argv],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {1, 2}, done
    return done.stdout + done.stderr


def served(folder: Path, *argv: str, first: bytes = b"", prefix: tuple[str, ...] = (), until: str = "") -> str:
    """Return what `xtrack serve` says, to a peer that begins with ``first``, until ``until`` stands in its log."""
    with ServeProcess("--tcp", "127.0.0.1:0", *argv, folder=folder, prefix=prefix) as server:
        with connect(server.address) as sock:
            sock.sendall(first)
            answer = read_all(sock).decode(errors="replace") if first else ""
            eventually(lambda: until in server.errors)
        assert server.stop(signal.SIGTERM) == 0
        return server.said + server.errors + answer


@row(
    "tcp='...': listening beyond this machine takes a key and TLS, .... "
    "Add ...; or, in a network where everybody may, --insecure"
)
def _(folder: Path) -> str:
    return xtrack(folder, "serve", "--tcp", "0.0.0.0:0")


@row("...: somebody listens there already. Stop it (...), or choose another port")
def _(folder: Path) -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return xtrack(folder, "serve", "--tcp", f"127.0.0.1:{taken.getsockname()[1]}")


@row("unix:...: is there already, and no socket. Choose another path")
def _(folder: Path) -> str:
    (folder / "notes").write_text("mine")
    return xtrack(folder, "serve", "--unix", "notes")


@row("...: is no address of this machine. ...")
def _(folder: Path) -> str:
    return xtrack(folder, "serve", "--tcp", "198.51.100.1:9999", "--insecure")


@row("warning: the store is in memory: acks promise nothing, and all is gone when the server ends")
def _(folder: Path) -> str:
    return served(folder, "--store", "memory:")


@row("refused ...: the peer speaks HTTP; this port speaks the XTrack protocol (wrong_protocol)")
def _(folder: Path) -> str:
    said = served(folder, first=b"GET /health HTTP/1.1\r\n\r\n", until="wrong_protocol")
    assert "400 Bad Request" in said
    return said


@row("refused ...: the peer speaks TLS, and this port doesn't. ...")
def _(folder: Path) -> str:
    return served(folder, first=b"\x16\x03\x01\x02\x00\x01", until="wrong_protocol")


@row("refused ...: the peer speaks no TLS; this port speaks TLS (wrong_protocol)")
def _(folder: Path) -> str:
    pytest.importorskip("cryptography")
    said = served(folder, "--tls-self-signed", first=b"\0\0\0\x10{", until="wrong_protocol")
    assert "set XTRACK_TLS=1" in said
    return said


@row("... closed before it said hello; if its worker pins a fingerprint, it may be another one: ours is ...")
def _(folder: Path) -> str:
    pytest.importorskip("cryptography")
    inherited = environment(folder)
    with ServeProcess("--tcp", "127.0.0.1:0", "--tls-self-signed", folder=folder) as server:
        host, port = server.address
        worker = "import xtrack_protocol\nwith xtrack_protocol.start_run() as run:\n    run.log_metric('loss', 1)\n"
        there = {"XTRACK_TRANSPORT": "tcp", "XTRACK_HOST": host, "XTRACK_PORT": str(port), "XTRACK_END_TIMEOUT": "2"}
        subprocess.run(
            [sys.executable, "-c", worker],
            env=inherited | there | {"XTRACK_TLS_FINGERPRINT": "ab" * 32},
            cwd=folder,
            capture_output=True,
            timeout=60,
            check=True,
        )
        eventually(lambda: "closed before it said hello" in server.errors)
        assert server.stop(signal.SIGTERM) == 0
        fingerprint = server.said.partition("XTRACK_TLS_FINGERPRINT=")[2].split()[0]
        assert f"ours is {fingerprint}" in server.errors
        return server.errors


@row("refused ...: the first frame was not complete within 5 s (timeout)")
def _(folder: Path) -> str:
    return served(folder, until="(timeout)")


@row("refused ...: a length of ... bytes is more than the limit of 1048576 (frame_too_large)")
def _(folder: Path) -> str:
    said = served(folder, first=b"\0\x20\0\0{", until="frame_too_large")
    assert '"code":"frame_too_large"' in said
    return said


@row("refused ...: its last ... frames were all unreadable (protocol_error)")
def _(folder: Path) -> str:
    return served(folder, first=b"\0\0\0\2{}" * 10_001, until="(protocol_error)")


@row("refused ...: ... connections of this address have not said yet what they are (busy)")
def _(folder: Path) -> str:
    with ServeProcess("--tcp", "127.0.0.1:0", folder=folder) as server, ExitStack() as stack:
        for _ in range(65):
            sock = stack.enter_context(connect(server.address))
        answer = read_all(sock).decode(errors="replace")
        assert '"code":"busy"' in answer
        assert '"retry_after":2' in answer
        eventually(lambda: "(busy)" in server.errors)
        return server.errors


@row("more workers are connected than locks can be held (...), ...")
def _(folder: Path) -> str:
    few = ("bash", "-c", 'ulimit -n 90; exec "$@"', "few")
    with ServeProcess("--tcp", "127.0.0.1:0", folder=folder, prefix=few) as server, Peer(server.address) as peer:
        for number in range(31):
            peer.open(stream(f"run-{number}"))
        eventually(lambda: "more workers are connected" in server.errors)
        return server.errors


@row("a connection can't be accepted: .... ...")
def _(folder: Path) -> str:
    few = ("bash", "-c", 'ulimit -n 40; exec "$@"', "few")
    with ServeProcess("--tcp", "127.0.0.1:0", folder=folder, prefix=few) as server, ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connect(server.address))
        eventually(lambda: "can't be accepted" in server.errors)
        assert server.stop(signal.SIGTERM) == 0
        return server.errors


class FullStore(MemoryStore):
    def append(self, batch: Sequence[Incoming]) -> AppendResult:
        raise StoreFull("runs.db")


@row("nothing can be stored, peers are told to wait: ...")
def _(folder: Path) -> str:
    with logged() as said, FullStore() as store:
        with CollectorServer(store, unix=folder / "s", limits=quick()).run_in_thread(), Peer(folder / "s") as peer:
            peer.open(A_STREAM)
            peer.send(A_STREAM, 2)
            assert "the disk is full" in peer.wait_for(StreamHeld).reason
        return said.getvalue()


@row("refused ...: it has read nothing of what waits for it for ... s (slow_reader)")
def _(folder: Path) -> str:
    with logged() as said, MemoryStore() as store:
        limits = quick(flush_seconds=0.3)
        collector = CollectorServer(store, unix=folder / "s", limits=limits)
        with collector.run_in_thread() as server, Peer(folder / "s") as peer:
            peer.open(A_STREAM)
            for seq in range(1, 21):
                peer.send(A_STREAM, seq, LogEntry("r", "info", "x" * 500_000))
            peer.wait_acked(A_STREAM, 20)
            peer.session.subscribe("r", 0, time.monotonic())
            peer.sock.sendall(peer.session.data_to_send())
            eventually(lambda: server.counters.refused_peers["slow_reader"])
        return said.getvalue()


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Gather what the server's log says."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logger = logging.getLogger("xtrack.server")
    logger.addHandler(handler)
    try:
        yield text
    finally:
        logger.removeHandler(handler)
