"""A worker of before: bytes made by struct and json alone, nothing of ours."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path
from typing import Any

from typing_extensions import Self

T0 = 1_703_123_456_789_000


def frame(text: str | bytes) -> bytes:
    payload = text.encode() if isinstance(text, str) else text
    return struct.pack(">I", len(payload)) + payload


def event(kind: str, seq: int, body: dict[str, Any], *, ts: int | None = None, wid: str | None = None) -> str:
    """An event in the key order, and with the blanks, of a worker in the field."""
    meta: dict[str, Any] = {"seq": seq, "ts": T0 + seq * 1000 if ts is None else ts}
    if wid is not None:
        meta["wid"] = wid
    return json.dumps({"v": 1, "t": kind, "m": meta, "p": body})


class LegacyWorker:
    """A worker of before: no hello, no session id, optionals as null. It reads commands and nothing else."""

    def __init__(self, address: Any, run: str, wid: str | None = None, *, started: int = T0) -> None:
        self.run, self.wid, self.started = run, wid, started
        self.seq = 0
        self.sent: list[bytes] = []
        if isinstance(address, Path):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(str(address))
        else:
            self.sock = socket.create_connection(address)

    def made(self, kind: str, body: dict[str, Any], *, seq: int | None = None, wid: str | None = None) -> bytes:
        """The bytes of the next event, or of another one."""
        if seq is None:
            self.seq += 1
            seq = self.seq
        text = event(kind, seq, body, ts=self.started + seq * 1000, wid=wid or self.wid)
        self.sent.append(text.encode())
        return frame(text)

    def start_bytes(self) -> bytes:
        run = {"id": self.run, "exp_id": None, "parent_id": None}
        body = {"run_id": run, "name": None, "tags": {}, "source": None, "env": {"python_version": "3.8.1"}}
        return self.made("run_start", body)

    def metric_bytes(self, value: float, step: int | None = None, **place: Any) -> bytes:
        body = {"run_id": self.run, "key": "loss", "value": value, "step": step, "epoch": None, "ctx": None}
        return self.made("metric", body, **place)

    def end_bytes(self, status: str = "completed") -> bytes:
        error = {"type": "ValueError", "message": "boom", "traceback": None} if status == "failed" else None
        body = {"run_id": self.run, "status": status, "error": error, "final_metrics": {"loss": float("inf")}}
        return self.made("run_end", body)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read_frame(self, seconds: float = 30) -> dict[str, Any]:
        self.sock.settimeout(seconds)
        return json.loads(self._exactly(struct.unpack(">I", self._exactly(4))[0]))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            chunk = self.sock.recv(count - len(data))
            assert chunk, "the collector closed"
            data += chunk
        return data

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
