"""Commands on their way into a training loop, and their answers. spec: CTL-2, CTL-4"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.emitter import Tracker
from xtrack_protocol.ir import Command, CommandResult, Envelope, LogEntry
from xtrack_protocol.settings import load_settings
from xtrack_protocol.spool import SpoolDir
from xtrack_protocol.spool.mailbox import post, wait_for_answers
from xtrack_protocol.transport import StdioTransport
from xtrack_protocol.wire import FrameDecoder, decode, encode, encode_frame


def command(kind: str, number: int = 1, **options: Any) -> Command:
    return Command(f"c{number}", kind, **options)


def send(memory: Any, *commands: Command) -> None:
    for one in commands:
        memory.transport.inbox.append(encode(Envelope.of(one, seq=0, timestamp_us=1)))


def answers(memory: Any) -> list[CommandResult]:
    return [decode(payload).payload for payload in memory.transport.answers]  # type: ignore[misc]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_polling(memory: Any) -> None:
    send(memory, command("pause", 1), command("update_params", 2, payload={"lr": 0.1}))
    seen = []
    for one in memory.run.commands():
        seen.append((one.type, one.payload, len(answers(memory))))
    assert seen == [("pause", {}, 0), ("update_params", {"lr": 0.1}, 1)]  # answered when the next one is asked for
    assert answers(memory) == [CommandResult("r", "c1", "ok"), CommandResult("r", "c2", "ok")]
    assert list(memory.run.commands()) == []


def test_leaving_the_loop_answers(memory: Any) -> None:
    send(memory, command("pause", 1), command("resume", 2))
    for _ in memory.run.commands():
        break
    assert [answer.command_id for answer in answers(memory)] == ["c1"]
    assert [one.command_id for one in memory.run.commands()] == ["c2"]


def test_should_stop(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not memory.run.should_stop
    send(memory, command("stop"))
    until(lambda: bool(memory.run.should_stop))
    assert memory.run.should_stop
    assert answers(memory) == [CommandResult("r", "c1", "ok")]
    assert [one.type for one in memory.run.commands()] == ["stop"]  # still there for who asks
    assert len(answers(memory)) == 1


def test_should_stop_is_cheap(memory: Any) -> None:
    looks = 0
    receive = memory.transport.receive

    def counting() -> list[bytes]:
        nonlocal looks
        looks += 1
        return receive()  # type: ignore[no-any-return]

    memory.transport.receive = counting
    begun = time.monotonic()
    for _ in range(10_000):
        _ = memory.run.should_stop
    assert looks <= 2 + (time.monotonic() - begun) * 11


def test_callbacks(memory: Any) -> None:
    called = []
    memory.run.on_command(lambda one: called.append((one.type, threading.current_thread().name)) or "done", "pause")
    memory.run.on_command(lambda one: called.append((one.type, "all")))
    send(memory, command("pause", 1), command("adjust_lr", 2))
    until(lambda: len(answers(memory)) == 2)
    assert called == [("pause", "xtrack-commands"), ("pause", "all"), ("adjust_lr", "all")]
    assert answers(memory) == [CommandResult("r", "c1", "ok", "done"), CommandResult("r", "c2", "ok")]
    assert list(memory.run.commands()) == []


def test_a_callback_that_raises(memory: Any) -> None:
    def callback(one: Command) -> None:
        raise ValueError("can't")

    memory.run.on_command(callback)
    send(memory, command("custom", 1), command("custom", 2))
    until(lambda: len(answers(memory)) == 2)
    assert answers(memory)[0] == CommandResult("r", "c1", "error", "ValueError: can't")


def test_a_slow_callback_holds_up_nobody(memory: Any) -> None:
    """And may itself use the run, commands included."""
    begin, go_on = threading.Event(), threading.Event()

    def callback(one: Command) -> str:
        begin.set()
        assert go_on.wait(10)
        memory.run.log("from the callback")
        return f"stop: {memory.run.should_stop}, {len(list(memory.run.commands()))}"

    memory.run.on_command(callback, "checkpoint_now")
    send(memory, command("checkpoint_now", 1))
    assert begin.wait(10)
    send(memory, command("stop", 2), command("pause", 3))
    until(lambda: bool(memory.run.should_stop))
    assert [one.type for one in memory.run.commands()] == ["stop", "pause"]
    go_on.set()
    until(lambda: len(answers(memory)) == 3)
    assert answers(memory)[-1] == CommandResult("r", "c1", "ok", "stop: True, 0")


def test_a_repeated_command(memory: Any) -> None:
    """Carried out once, and answered as the first time. spec: CTL-2.3"""
    send(memory, command("pause"), command("pause"))
    assert [one.type for one in memory.run.commands()] == ["pause"]
    assert len(answers(memory)) == 1
    send(memory, command("pause"))
    assert list(memory.run.commands()) == []
    assert answers(memory) == [CommandResult("r", "c1", "ok")] * 2


def test_what_is_not_for_us(memory: Any) -> None:
    send(
        memory, command("pause", 1, run_id="other"), command("pause", 2, worker_id="7"), command("pause", 3, run_id="r")
    )
    memory.transport.inbox.append(b"no json")
    memory.transport.inbox.append(encode(Envelope.of(LogEntry("r", "info", "m"), seq=1, timestamp_us=1)))
    assert [one.command_id for one in memory.run.commands()] == ["c3"]
    assert memory.run.stats().warnings == {"command": 1}


def test_what_waits_at_the_end_is_answered(memory: Any) -> None:
    send(memory, command("pause", 1))
    assert not memory.run.should_stop  # looks
    memory.run.end()
    (answer,) = answers(memory)
    assert (answer.status, answer.command_id) == ("error", "c1")
    assert list(memory.run.commands()) == []


def test_what_nobody_has_looked_at_is_answered_at_the_end(memory: Any) -> None:
    send(memory, command("pause", 1))
    memory.run.end()
    assert [(answer.status, answer.command_id) for answer in answers(memory)] == [("error", "c1")]


def test_by_the_mailbox(spool: Any) -> None:
    run = Tracker.start_run(run_id="r", worker_id="w")
    folder = SpoolDir(spool.root).mailbox("r")
    assert list(run.commands()) == []
    post(folder, command("stop", 1))
    until(lambda: bool(run.should_stop))
    assert wait_for_answers(folder, "c1", expected=1, timeout=5) == [CommandResult("r", "c1", "ok", None, "w")]
    run.on_command(lambda one: f"lr is {one.payload['lr']}")
    post(folder, command("adjust_lr", 2, payload={"lr": 0.5}))
    assert wait_for_answers(folder, "c2", expected=1, timeout=5)[0].message == "lr is 0.5"
    run.end()


def test_a_command_nobody_waits_for_any_more(spool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = Tracker.start_run(run_id="r")
    folder = SpoolDir(spool.root).mailbox("r")
    post(folder, command("pause", 1))
    for _ in run.commands():
        assert wait_for_answers(folder, "c1", expected=1, timeout=0) == []
    assert run.stats().warnings == {"unheard": 1}
    assert capsys.readouterr().err == ""
    assert not list(Path(folder).iterdir())
    run.end()


@pytest.mark.parametrize("additive", [True, False])
def test_over_a_socket(spool: Any, additive: bool) -> None:
    ours, theirs = socket.socketpair()
    settings = load_settings({"XTRACK_ADDITIVE": str(int(additive))})
    run = Tracker.start_run(run_id="r", transport=StdioTransport(ours.fileno()), settings=settings, quiet=True)
    theirs.sendall(encode_frame(Envelope.of(command("pause"), seq=0, timestamp_us=1)))
    seen: list[str] = []
    until(lambda: bool(seen.extend(one.type for one in run.commands()) or seen))
    run.end()
    theirs.settimeout(5)
    decoder, events = FrameDecoder(), []
    ours.close()
    while chunk := theirs.recv(65536):
        events += [frame.envelope for frame in decoder.feed(chunk) if frame.envelope]
    theirs.close()
    results = [event.payload for event in events if isinstance(event.payload, CommandResult)]
    if additive:
        assert results == [CommandResult("r", "c1", "ok")]
    else:
        assert results == []
        (log,) = [event.payload for event in events if isinstance(event.payload, LogEntry)]
        assert log.message == "command_result"
        assert log.fields == {"cmd_id": "c1", "status": "ok", "msg": None}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_leaves_its_parents_commands_alone(spool: Any) -> None:
    """Over a channel that both share, what a child reads its parent would miss."""
    ours, theirs = socket.socketpair()
    run = Tracker.start_run(run_id="r", transport=StdioTransport(ours.fileno()), quiet=True)
    theirs.sendall(encode_frame(Envelope.of(command("pause"), seq=0, timestamp_us=1)))
    pid = os.fork()
    if pid == 0:
        try:
            run.log_metric("child", 1.0)
            os._exit(len(list(run.commands())))
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [one.type for one in run.commands()] == ["pause"]
    run.end()
    ours.close()
    theirs.close()
