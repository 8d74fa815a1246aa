"""Commands through a real collector, over real sockets, to workers driven by hand."""

from __future__ import annotations

import socket
import threading

import pytest
from remote_workers import PATIENCE, Proxy, client_of, until, working

from xtrack_protocol.client import CollectorClient
from xtrack_protocol.errors import LaunchError
from xtrack_protocol.ir import Command, CommandResult, Envelope, RunEnd, RunStart
from xtrack_protocol.server.server import CollectorServer
from xtrack_protocol.settings import Settings
from xtrack_protocol.wire import FrameDecoder, encode_frame


def test_a_command_reaches_its_workers(server: CollectorServer) -> None:
    def refuse(command: Command) -> CommandResult:
        return CommandResult("run-1", command.command_id, "error", "can't", "w1")

    with (
        working(server, "run-1", "w0") as w0,
        working(server, "run-1", "w1", answer=refuse) as w1,
        working(server, "run-2") as other,
        client_of(server) as client,
    ):
        answers = client.send_command("run-1", "adjust_lr", {"lr": 0.5}, timeout=PATIENCE)
        [answer] = client.send_command("run-1", "stop", worker_id="w0", timeout=PATIENCE)
        assert other.commands == []
    assert {(one.worker_id, one.status, one.message) for one in answers} == {
        ("w0", "ok", "done"),
        ("w1", "error", "can't"),
    }
    assert (answer.worker_id, answer.status) == ("w0", "ok")
    assert [command.type for command in w1.commands] == ["adjust_lr"]
    assert w0.commands[0].payload == {"lr": 0.5}


def test_no_worker(server: CollectorServer) -> None:
    with client_of(server) as client:
        [answer] = client.send_command("run-1", "stop", timeout=PATIENCE)
        assert answer.status == "error"
        assert answer.message == "no worker of run 'run-1' is connected to this collector to take a command"
        with working(server) as worker:
            worker.log(RunEnd("run-1", "completed"))
            until(lambda: server.router.workers("run-1") == [])
            [answer] = client.send_command("run-1", "stop", timeout=PATIENCE)
        assert answer.status == "error"


def test_a_worker_that_takes_no_commands(server: CollectorServer) -> None:
    with working(server, features=()), client_of(server) as client:
        [answer] = client.send_command("run-1", "stop", timeout=PATIENCE)
    assert "no worker" in (answer.message or "")


def test_a_stream_that_is_shipped_for_another(server: CollectorServer) -> None:
    """Who ships what a dead worker has left isn't that worker, and nobody waits for its answer."""
    with working(server, "run-1", "w0"), working(server, "run-1", "w1", passive=True), client_of(server) as client:
        [answer] = client.send_command("run-1", "stop", timeout=PATIENCE)
        assert (answer.worker_id, answer.left) == ("w0", 0)


def test_a_worker_that_does_not_answer(server: CollectorServer) -> None:
    with working(server, answer=lambda _: None) as worker, client_of(server) as client:
        with pytest.raises(LaunchError, match=r"no worker of run 'run-1' answered within 0\.5 s"):
            client.send_command("run-1", "stop", timeout=0.5)
        seen: list[CommandResult] = []
        thread = threading.Thread(target=lambda: seen.extend(client.send_command("run-1", "stop", timeout=PATIENCE)))
        thread.start()
        until(lambda: len(worker.commands) == 2)
        worker.close()
        thread.join(PATIENCE)
    assert [answer.message for answer in seen] == ["the worker lost its connection before it answered"]


def test_a_plain_worker(server: CollectorServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as plain, client_of(server) as client:
        plain.sendall(encode_frame(Envelope.of(RunStart("run-1"), seq=1, timestamp_us=1)))
        until(lambda: server.router.workers("run-1"))
        [answer] = client.send_command("run-1", "stop", {"soon": True}, timeout=PATIENCE)
        assert (answer.status, answer.message) == ("ok", "delivered; a plain worker does not answer")
        plain.settimeout(PATIENCE)
        frames = FrameDecoder().feed(plain.recv(65536))
    [command] = [frame.envelope.payload for frame in frames if frame.envelope]
    assert isinstance(command, Command)
    assert (command.type, command.payload, command.run_id) == ("stop", {"soon": True}, "run-1")


def test_a_connection_that_breaks_before_the_answer(server: CollectorServer) -> None:
    """The command is sent again under the same id, and both are one to the worker."""
    go_on = threading.Event()
    known: dict[str, CommandResult] = {}

    def answer(command: Command) -> CommandResult:
        go_on.wait(PATIENCE)
        known.setdefault(command.command_id, CommandResult("run-1", command.command_id, "ok", f"no. {len(known)}"))
        return known[command.command_id]

    with working(server, answer=answer):
        proxy = Proxy(server.port, lambda number: 300 if number == 1 else 2**62)
        client = CollectorClient(f"tcp://127.0.0.1:{proxy.port}", Settings())
        timer = threading.Timer(0.5, go_on.set)
        timer.start()
        [result] = client.send_command("run-1", "stop", timeout=PATIENCE)
        timer.join()
        proxy.close()
    assert result.message == "no. 0"
    assert len(known) == 1
    assert proxy.connections >= 2


def test_many_at_once(server: CollectorServer) -> None:
    with working(server, "run-1", "w0"), working(server, "run-1", "w1"), client_of(server) as client:
        results: list[list[CommandResult]] = []
        threads = [
            threading.Thread(
                target=lambda n=number: results.append(
                    client.send_command("run-1", "custom", {"n": n}, timeout=PATIENCE)
                )
            )
            for number in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert len(results) == 20
    assert all(sorted(one.worker_id or "" for one in answers) == ["w0", "w1"] for answers in results)
