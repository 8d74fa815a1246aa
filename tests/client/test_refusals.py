"""Whom a client may find in place of a collector that does what it asks."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from remote_workers import PATIENCE, serving, stranger

from xtrack_protocol.client import CollectorClient
from xtrack_protocol.errors import CollectorRefused, TransportError
from xtrack_protocol.ir import Envelope, RunStart
from xtrack_protocol.net.tls import fingerprint_of, keep_self_signed, server_context
from xtrack_protocol.server.access import AccessControl
from xtrack_protocol.server.keys import Keyring
from xtrack_protocol.settings import Settings
from xtrack_protocol.storage import MemoryStore


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = CollectorClient(f"tcp://127.0.0.1:{port}", Settings())
    begun = time.monotonic()
    with pytest.raises(TransportError, match=f"tcp://127.0.0.1:{port}: "):
        next(client.subscribe("run-1"))
    with pytest.raises(TransportError, match=f"tcp://127.0.0.1:{port}: "):
        client.send_command("run-1", "stop")
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize(
    ("says", "closes", "problem"),
    [
        (b"", True, "it closes the connection at hello"),
        (b"", False, "it doesn't answer: it is none, or one of plain version 1"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", True, "what it says is no session"),
    ],
)
def test_no_collector(says: bytes, closes: bool, problem: str) -> None:
    with stranger(says, closes=closes) as where:
        client = CollectorClient(where, Settings(), connect_timeout=1)
        with pytest.raises(CollectorRefused) as caught:
            client.send_command("run-1", "stop")
        assert caught.value.code == "no_session"
        assert problem in str(caught.value)
        assert "`xtrack serve`" in str(caught.value)
        with pytest.raises(CollectorRefused):
            next(client.subscribe("run-1"))


def test_over_tls_with_a_key(tmp_path: Path) -> None:
    """The right certificate and key; then a wrong fingerprint, and no TLS at all."""
    pytest.importorskip("cryptography")
    store = MemoryStore()
    keyring = Keyring(tmp_path / "keys.json", new=True)
    _, key = keyring.add("ann")
    cert, private = keep_self_signed(tmp_path / "tls", ["127.0.0.1"])
    with serving(store, access=AccessControl(store, keyring), tls=server_context(cert, private)) as server:
        where = f"tls://127.0.0.1:{server.port}"
        good = Settings(key=key, tls_fingerprint=fingerprint_of(cert))
        store.claim_run("run-1", "ann")
        start = Envelope.of(RunStart("run-1"), seq=1, timestamp_us=1, session_id="s")
        server.collector.push_event(start)
        with CollectorClient(where, good) as client, client.subscribe("run-1", timeout=PATIENCE) as events:
            assert next(events).envelope == start
            [answer] = client.send_command("run-1", "stop", timeout=PATIENCE)
            assert answer.message == "no worker of run 'run-1' is connected to this collector to take a command"
        with pytest.raises(CollectorRefused) as refused:
            CollectorClient(where, Settings(key=key, tls_fingerprint="0" * 64)).send_command("run-1", "stop")
        assert refused.value.code.startswith("tls")
        with pytest.raises(TransportError):
            CollectorClient(f"tcp://127.0.0.1:{server.port}", Settings(key=key)).send_command("run-1", "stop")
