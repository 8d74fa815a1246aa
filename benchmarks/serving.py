"""A real ``xtrack serve``, and a client that ships prepared events to it and reads its acks."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from benchmarks import machine
from benchmarks.data import frame

_CHUNK = 256 * 1024


@attrs.define
class Server:
    """A running server. Its process's figures are those of all its threads."""

    process: subprocess.Popen[str]
    port: int
    database: Path

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float | None:
        return machine.cpu_seconds(self.process.pid)

    def memory_mib(self, field: str = "VmRSS") -> float:
        """Return VmRSS or VmHWM of the server; raises RuntimeError where the system doesn't tell."""
        found = machine.memory_mib(field, self.process.pid)
        if found is None:
            raise RuntimeError("this system doesn't tell how much memory another process has")
        return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def serving(folder: Path, *, core: int | None = 0) -> Iterator[Server]:
    """Start ``xtrack serve`` on a free port with a new SQLite store in ``folder``, kept to a core; then end it."""
    folder.mkdir(parents=True, exist_ok=True)
    database = folder / f"store-{secrets.token_hex(4)}.db"
    command = [sys.executable, "-m", "xtrack_protocol.cli", "serve", "--tcp", "127.0.0.1:0"]
    with (folder / "serve.log").open("w") as log, machine.pinned(core):
        process = subprocess.Popen(
            [*command, "--store", f"sqlite:///{database}"], stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            found = re.search(r"listening on \w+://.*:(\d+)", line)
            if found:
                break
        else:
            raise RuntimeError(f"the server did not start: {(folder / 'serve.log').read_text()[-500:]}")
        yield Server(process, int(found[1]), database)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            status = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        assert process.stdout is not None
        process.stdout.close()
    if status != 0:
        raise RuntimeError(f"the server ended with {status}: {(folder / 'serve.log').read_text()[-500:]}")


def control(kind: str, body: dict[str, object]) -> bytes:
    return frame(json.dumps({"t": kind, "v": 1, "m": {"seq": 0, "ts": 1}, "p": body}).encode())


class Shipper:
    """One connection with one stream. ``payloads``: its events, with seqs from ``first`` on; without any it opens none.

    ``address``: of this machine, from which it connects.
    """

    def __init__(
        self,
        port: int,
        run_id: str,
        sid: str,
        payloads: Sequence[bytes],
        *,
        first: int = 1,
        address: str = "127.0.0.1",
    ) -> None:
        self._before = first - 1
        self.frames = bytearray()
        self.ends = [0]
        for payload in payloads:
            self.frames += frame(payload)
            self.ends.append(len(self.frames))
        self.count = len(payloads)
        self.sock = socket.create_connection(("127.0.0.1", port), source_address=(address, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.sock.sendall(control("hello", {"protocols": [1], "agent": "benchmark"}))
        welcome = self._wait_for("welcome")
        limits = welcome.get("limits", {})
        self.window = int(limits.get("window_events", 10_000))
        self.window_bytes = int(limits.get("window_bytes", 4 * 1024 * 1024))
        self.acked = self.sent = 0
        if payloads:
            self.sock.sendall(control("open", {"run_id": run_id, "sid": sid}))
            self._wait_for("ack")
        self.latencies: list[float] = []

    def _wait_for(self, what: str) -> dict[str, object]:
        while True:
            for found in self._read():
                if found["t"] == what:
                    return found["p"]
                if found["t"] == "reject":
                    raise RuntimeError(f"refused: {found['p']}")

    def _read(self) -> list[dict]:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the server has closed the connection")
        self._buffer += data
        found, position = [], 0
        while len(self._buffer) - position >= 4:
            size = int.from_bytes(self._buffer[position : position + 4], "big")
            if len(self._buffer) - position - 4 < size:
                break
            found.append(json.loads(self._buffer[position + 4 : position + 4 + size]))
            position += 4 + size
        self._buffer = self._buffer[position:]
        return found

    def ship(self, upto: int | None = None, *, rate: float = 0.0) -> float:
        """Send so many of the events, all by default, and wait for their acks; return how many seconds that took.

        As fast as the server's window allows, or ``rate`` events a second.
        """
        upto = self.count if upto is None else upto
        view, ends, first = memoryview(self.frames), self.ends, self.sent
        waiting: list[tuple[int, float]] = []
        position = target = ends[self.sent]
        begin = time.perf_counter()
        self.sock.setblocking(False)
        try:
            while self.acked < upto:
                now = time.perf_counter()
                if position == target and self.sent < upto:
                    most = min(upto, self.acked + self.window)
                    if rate:
                        most = min(most, first + int((now - begin) * rate) + 1)
                    room = min(ends[self.acked] + self.window_bytes, target + _CHUNK)
                    most = min(most, bisect_right(ends, room) - 1)
                    if most > self.sent:
                        self.sent, target = most, ends[most]
                        waiting.append((most, now))
                wants = [self.sock] if position < target else []
                readable, writable, _ = select.select([self.sock], wants, [], 0.0005 if rate else 30.0)
                if not (readable or writable or rate):
                    raise TimeoutError(f"nothing was acked for 30 s after {self.acked} of {upto}")
                if writable:
                    position += self.sock.send(view[position:target])
                if readable:
                    self._take_acks(waiting)
        finally:
            self.sock.setblocking(True)
        return time.perf_counter() - begin

    def _take_acks(self, waiting: list[tuple[int, float]]) -> None:
        now = time.perf_counter()
        for found in self._read():
            if found["t"] != "ack":
                continue
            if found["p"].get("error") or found["p"].get("rejected"):
                raise RuntimeError(f"the server refused events: {found['p']}")
            self.acked = max(self.acked, found["p"]["seq"] - self._before)
        while waiting and waiting[0][0] <= self.acked:
            self.latencies.append(now - waiting.pop(0)[1])

    def close(self) -> None:
        self.sock.close()
