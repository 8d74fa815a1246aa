"""Throughput, ack latency and memory of the server, over TCP on the loopback.

    python benchmarks/server.py --store sqlite:////tmp/bench.db --clients 4 --events 50000

The clients are processes of their own, which send frames made beforehand and read acks, and do nothing else.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import re
import secrets
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

HELLO = {"t": "hello", "v": 1, "m": {"seq": 0, "ts": 1}, "p": {"protocols": [1], "agent": "benchmark"}}


def frame(value: object) -> bytes:
    data = json.dumps(value, separators=(",", ":")).encode()
    return len(data).to_bytes(4, "big") + data


def frames_of(run: str, sid: str, count: int) -> list[bytes]:
    made = []
    for seq in range(1, count + 1):
        meta = {"seq": seq, "ts": 1_700_000_000_000_000 + seq, "sid": sid}
        body = {"run_id": run} if seq == 1 else {"run_id": run, "key": "train/loss", "value": 1 / seq, "step": seq}
        made.append(frame({"t": "run_start" if seq == 1 else "metric", "v": 1, "m": meta, "p": body}))
    return made


class Client:
    """One connection with one stream. ``rate``: events a second; 0: as fast as the window allows."""

    def __init__(self, port: int, count: int, rate: float, window: int) -> None:
        run, sid = f"bench-{os.getpid()}", secrets.token_hex(16)
        self.frames = frames_of(run, sid, count)
        self.rate, self.window = rate, window
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.sock.sendall(frame(HELLO))
        self.read_until("welcome")
        opening = {"run_id": run, "sid": sid}
        self.sock.sendall(frame({"t": "open", "v": 1, "m": {"seq": 0, "ts": 1}, "p": opening}))
        self.read_until("ack")
        self.sent = self.acked = 0
        self.sent_at: list[float] = []
        self.latencies: list[float] = []

    def read_until(self, what: str) -> None:
        while not any(found["t"] == what for found in self.read()):
            pass

    def read(self) -> list[dict]:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the server has closed")
        self.buffer += data
        found = []
        while len(self.buffer) >= 4 and len(self.buffer) >= 4 + (size := int.from_bytes(self.buffer[:4], "big")):
            found.append(json.loads(self.buffer[4 : 4 + size]))
            self.buffer = self.buffer[4 + size :]
        return found

    def run(self) -> float:
        count, begun = len(self.frames), time.perf_counter()
        self.sock.setblocking(False)
        pending = b""
        while self.acked < count:
            now = time.perf_counter()
            if not pending and self.sent < count:
                allowed = min(count, self.acked + self.window, self.sent + 500)
                if self.rate:
                    allowed = min(allowed, int((now - begun) * self.rate) + 1)
                if allowed > self.sent:
                    pending = b"".join(self.frames[self.sent : allowed])
                    self.sent_at += [now] * (allowed - self.sent)
                    self.sent = allowed
            wait = 0.001 if self.rate else 1.0
            readable, writable, _ = select.select([self.sock], [self.sock] if pending else [], [], wait)
            if writable:
                pending = pending[self.sock.send(pending) :]
            if readable:
                now = time.perf_counter()
                for found in self.read():
                    if found["t"] == "ack":
                        for seq in range(self.acked, found["p"]["seq"]):
                            self.latencies.append(now - self.sent_at[seq])
                        self.acked = found["p"]["seq"]
        return time.perf_counter() - begun


def client(port: int, count: int, rate: float, window: int, ready, results) -> None:
    one = Client(port, count, rate, window)
    ready.wait()
    seconds = one.run()
    results.put((seconds, sorted(one.latencies)[:: max(1, count // 2000)]))


def rss_mib(pid: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def start_server(store: str, *options: str) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "xtrack_protocol.cli", "serve", "--tcp", "127.0.0.1:0", "--store", store, *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in server.stdout:
        found = re.search(r"listening on \w+://.*:(\d+)", line)
        if found:
            return server, int(found[1])
    raise SystemExit("the server did not start")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--store", default="memory:")
    options.add_argument("--clients", type=int, default=4)
    options.add_argument("--events", type=int, default=50_000, help="of each client")
    options.add_argument("--rate", type=float, default=0, help="events a second of each client; 0: as many as it can")
    options.add_argument("--window", type=int, default=5000)
    given = options.parse_args()
    server, port = start_server(given.store)
    try:
        idle = rss_mib(server.pid)
        ready, results = multiprocessing.Barrier(given.clients + 1), multiprocessing.Queue()
        arguments = (port, given.events, given.rate, given.window, ready, results)
        clients = [multiprocessing.Process(target=client, args=arguments) for _ in range(given.clients)]
        for one in clients:
            one.start()
        ready.wait()
        begun = time.perf_counter()
        answers, peak = [], 0.0
        while len(answers) < given.clients:
            peak = max(peak, rss_mib(server.pid))
            try:
                answers.append(results.get(timeout=0.2))
            except queue.Empty:
                continue
        seconds = time.perf_counter() - begun
        latencies = sorted(one for _, some in answers for one in some)
        total = given.clients * given.events
        cpu = sum(map(int, Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])) / 100
        p50, p99 = (1000 * latencies[len(latencies) * part // 100] for part in (50, 99))
        print(
            f"{given.store.split(':')[0]}, {given.clients} clients: {total / seconds:,.0f} events/s, "
            f"ack p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
            f"RSS {idle:.0f} MiB idle, {peak:.0f} MiB at most, server {cpu:.1f} s CPU of {seconds:.1f} s"
        )
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
