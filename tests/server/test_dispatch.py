"""Commands in a real server: permissions, peers that don't read, and the mailboxes of a local store."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from remote_workers import PATIENCE, client_of, serving, until, working

from xtrack_protocol import Tracker
from xtrack_protocol.collector import send_command
from xtrack_protocol.errors import CollectorRefused, LaunchError, TransportError
from xtrack_protocol.ir import Command, CommandResult, Envelope, RunStart
from xtrack_protocol.server.access import AccessControl
from xtrack_protocol.server.keys import Keyring
from xtrack_protocol.settings import Settings
from xtrack_protocol.storage import MemoryStore
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.wire import FrameDecoder, encode_frame


def test_permissions(tmp_path: Path) -> None:
    store = MemoryStore()
    keyring = Keyring(tmp_path / "keys.json", new=True)
    _, ann = keyring.add("ann")
    _, bob = keyring.add("bob")
    _, reader = keyring.add("ann", may_write=False)
    with serving(store, access=AccessControl(store, keyring)) as server, working(server, key=ann) as worker:
        with client_of(server, key=ann) as client:
            [answer] = client.send_command("run-1", "pause", timeout=PATIENCE)
            assert (answer.status, answer.message) == ("ok", "done")
            with client.subscribe("run-1", timeout=PATIENCE) as events:
                assert next(events).position == 1
        for key in (bob, reader):
            with client_of(server, key=key) as client:
                [answer] = client.send_command("run-1", "stop", timeout=PATIENCE)
            assert answer.status == "error"
            assert answer.left == 0
            assert "run-1" in (answer.message or "") or "write" in (answer.message or "")
        with client_of(server, key=bob) as client:
            with client.subscribe("run-1", timeout=PATIENCE) as events, pytest.raises(CollectorRefused) as refused:
                next(events)
            assert refused.value.code == "forbidden"
            [answer] = client.send_command("run-9", "stop", timeout=PATIENCE)
            assert answer.status == "error"
        for wrong in ("xtk_nobody_" + "x" * 43, None):
            with client_of(server, key=wrong) as client, pytest.raises(CollectorRefused) as refused:
                client.send_command("run-1", "stop", timeout=PATIENCE)
            assert refused.value.code == "unauthorized"
            assert "XTRACK_KEY" in str(refused.value)
        assert [command.type for command in worker.commands] == ["pause"]


def test_a_plain_worker_that_does_not_read_keeps_its_connection() -> None:
    with serving(MemoryStore()) as server, socket.socket() as plain, client_of(server) as client:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        plain.connect(("127.0.0.1", server.port))
        plain.sendall(encode_frame(Envelope.of(RunStart("run-1"), seq=1, timestamp_us=1)))
        until(lambda: server.router.workers("run-1"))
        messages: list[Any] = []
        for number in range(200):
            [answer] = client.send_command("run-1", "custom", {"n": number, "text": "x" * 60_000}, timeout=PATIENCE)
            messages.append(answer.message)
            if answer.status == "error":
                break
        assert messages[-1] == "the worker: its connection takes no command now"
        assert server.router.workers("run-1") == [""]
        plain.settimeout(PATIENCE)
        decoder, got = FrameDecoder(), 0
        while got < len(messages) - 1:
            got += len(decoder.feed(plain.recv(1 << 20)))


def test_a_mailbox_reaches_who_is_connected(tmp_path: Path) -> None:
    """`xtrack command RUN ...` on the collector's machine, which knows of no connections."""
    with LocalStore(tmp_path) as store, serving(store) as server:
        with working(server, "run-1", "w0") as w0, working(server, "run-1", "w1"):
            until(lambda: server.locks.runs)
            w0.metrics(1)
            until(lambda: server.counters.events == 3)
            answers = send_command(tmp_path, "run-1", "adjust_lr", {"lr": 1}, timeout=PATIENCE)
            assert sorted((one.worker_id, one.status, one.message) for one in answers) == [
                ("w0", "ok", "done"),
                ("w1", "ok", "done"),
            ]
            [answer] = send_command(tmp_path, "run-1", "stop", worker_id="w0", timeout=PATIENCE)
            assert answer.worker_id == "w0"
            assert [(command.type, command.run_id) for command in w0.commands] == [
                ("adjust_lr", "run-1"),
                ("stop", "run-1"),
            ]
        until(lambda: not server.locks.runs or server.streams.open_count == 0)
    mailbox = next(tmp_path.rglob("mailbox"), None)
    assert mailbox is None or list(mailbox.iterdir()) == []


def test_a_worker_here_that_is_not_connected(tmp_path: Path) -> None:
    with (
        LocalStore(tmp_path) as store,
        serving(store) as server,
        client_of(server) as client,
        Tracker.start_run(run_id="run-1", settings=Settings(dir=tmp_path, quiet=True)) as run,
    ):
        run.on_command(lambda command: f"{command.type}: {command.payload}")
        run.flush()
        [answer] = client.send_command("run-1", "pause", {"a": 1}, timeout=PATIENCE)
        assert (answer.status, answer.message, answer.left) == ("ok", "pause: {'a': 1}", 0)
        [answer] = client.send_command("run-1", "pause", worker_id="w9", timeout=PATIENCE)
        assert answer.message == "no worker 'w9' of run 'run-1' is connected to this collector to take a command"
        [answer] = client.send_command("run-2", "pause", timeout=PATIENCE)
        assert answer.status == "error"


def test_stopping_does_not_wait_for_workers(tmp_path: Path) -> None:
    """Neither for one here that doesn't listen, nor for one that is connected and doesn't answer."""
    asked = threading.Event()

    def silent(_: Command) -> CommandResult | None:
        asked.set()
        return None

    outcomes: list[Any] = []

    def ask(client: Any, run_id: str) -> None:
        try:
            outcomes.append(client.send_command(run_id, "stop", timeout=1.5))
        except (TransportError, LaunchError) as error:
            outcomes.append(error)

    with (
        Tracker.start_run(run_id="run-1", settings=Settings(dir=tmp_path, quiet=True)) as run,
        LocalStore(tmp_path) as store,
        serving(store) as server,
        client_of(server) as client,
        working(server, "run-2", answer=silent),
    ):
        run.flush()
        threads = [threading.Thread(target=ask, args=(client, run_id)) for run_id in ("run-1", "run-2")]
        for thread in threads:
            thread.start()
        assert asked.wait(PATIENCE)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert len(outcomes) == 2
