"""The router of commands, driven by hand, and against a model. Time is in seconds, from 0 on."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrack_protocol.ir import Command, CommandResult, RunId
from xtrack_protocol.limits import COMMAND_ID_MAX, COMMAND_MAX, COMMANDS_PER_ASKER, COMMANDS_PER_WORKER
from xtrack_protocol.server.commands import NO_ANSWER, CommandRouter


@attrs.define(eq=False)
class Peer:
    """A connection that keeps what it is sent."""

    name: str = ""
    commands: list[Command] = attrs.field(factory=list)
    results: list[CommandResult] = attrs.field(factory=list)
    takes: bool = True

    def send_command(self, command: Command) -> bool:
        if self.takes:
            self.commands.append(command)
        return self.takes

    def send_command_result(self, result: CommandResult) -> None:
        self.results.append(result)

    def take(self) -> list[CommandResult]:
        taken, self.results = self.results, []
        return taken


def router_with(*workers: str, run_id: str = "run-1", **options: Any) -> tuple[CommandRouter, list[Peer]]:
    router = CommandRouter(**options)
    peers = [Peer(worker) for worker in workers]
    for peer in peers:
        router.register(peer, run_id, peer.name, f"sid-{peer.name}", is_plain=False)
    return router, peers


def stop(command_id: str = "c1", worker_id: str | None = None, **payload: Any) -> Command:
    return Command(command_id, "stop", payload, "run-1", worker_id)


def answer(peer: Peer, status: Any = "ok", message: str | None = None, which: int = -1) -> CommandResult:
    return CommandResult("run-1", peer.commands[which].command_id, status, message, peer.name or None)


def test_to_all_workers_and_back() -> None:
    router, [w0, w1] = router_with("w0", "w1")
    asker = Peer()
    assert router.request(asker, stop(now=True), 0)
    assert asker.results == []
    [inner] = w0.commands
    assert w1.commands == [inner]
    assert (inner.type, inner.payload, inner.run_id, inner.worker_id) == ("stop", {"now": True}, "run-1", None)
    assert inner.command_id != "c1"
    router.result(w1, answer(w1, "ok", "bye"))
    assert asker.take() == [CommandResult("run-1", "c1", "ok", "bye", "w1", 1)]
    router.result(w0, answer(w0, "error", "no"))
    assert asker.take() == [CommandResult("run-1", "c1", "error", "no", "w0", 0)]
    assert router.next_timer() is None


def test_to_one_worker() -> None:
    router, [w0, w1] = router_with("w0", "w1")
    asker = Peer()
    assert router.request(asker, stop(worker_id="w1"), 0)
    assert w0.commands == []
    router.result(w1, answer(w1))
    assert asker.take() == [CommandResult("run-1", "c1", "ok", None, "w1", 0)]


def test_a_run_id_that_is_an_object() -> None:
    router, [worker] = router_with("")
    asker = Peer()
    assert router.request(asker, Command("c1", "stop", {}, RunId("run-1", "exp")), 0)
    router.result(worker, answer(worker))
    assert asker.take() == [CommandResult("run-1", "c1", "ok", None, None, 0)]


def test_nobody_is_there() -> None:
    router, [_] = router_with("w0")
    asker = Peer()
    for command in (Command("c1", "stop", {}, "run-2"), stop("c2", worker_id="w9")):
        assert router.request(asker, command, 0) is False
        assert len(asker.results) == 0 or command.command_id == "c2"
        router.refuse_unreachable(asker, command)
    first, second = asker.take()
    assert (first.status, first.left, first.command_id) == ("error", 0, "c1")
    assert first.message == "no worker of run 'run-2' is connected to this collector to take a command"
    assert second.message == "no worker 'w9' of run 'run-1' is connected to this collector to take a command"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (Command("c1", "stop"), "names no run_id"),
        (Command("c1", "stop", {}, ""), "names no run_id"),
        (stop(""), "cmd_id must have 1 to 128 bytes"),
        (stop("é" * (COMMAND_ID_MAX // 2 + 1)), "cmd_id must have 1 to 128 bytes"),
        (stop(text="x" * COMMAND_MAX), "passes on at most 65536"),
    ],
)
def test_what_is_not_passed_on(command: Command, says: str) -> None:
    router, [worker] = router_with("w0")
    asker = Peer()
    assert router.request(asker, command, 0)
    [result] = asker.take()
    assert says in (result.message or "")
    assert (result.status, result.left, result.command_id) == ("error", 0, command.command_id)
    assert worker.commands == []


def test_two_askers_with_one_id() -> None:
    router, [worker] = router_with("w0")
    one, two = Peer(), Peer()
    router.request(one, stop(a=1), 0)
    router.request(two, stop(a=2), 0)
    assert len({command.command_id for command in worker.commands}) == 2
    router.result(worker, answer(worker, message="second", which=1))
    assert one.results == []
    assert [result.message for result in two.take()] == ["second"]
    router.result(worker, answer(worker, message="first", which=0))
    assert [result.message for result in one.take()] == ["first"]
    assert two.results == []


def test_owners_never_meet() -> None:
    router, [worker] = router_with("w0")
    one, two = Peer(), Peer()
    router.request(one, stop(), 0, owner="ann")
    router.request(two, stop(), 0, owner="bob")
    assert len({command.command_id for command in worker.commands}) == 2


def test_another_command_under_the_same_id() -> None:
    router, [worker] = router_with("w0")
    asker = Peer()
    router.request(asker, stop(a=1), 0)
    router.request(asker, stop(a=2), 0)
    [refused] = asker.take()
    assert refused.message == "another command with this cmd_id is under way"
    assert len(worker.commands) == 1


def test_a_repeated_command() -> None:
    router, [w0, w1] = router_with("w0", "w1")
    asker, again = Peer(), Peer()
    router.request(asker, stop(), 0, owner="ann")
    router.result(w0, answer(w0))
    asker.take()
    router.request(again, stop(), 0, owner="ann")
    assert again.take() == [CommandResult("run-1", "c1", "ok", None, "w0", 1)], "what there is"
    router.request(asker, stop(), 0, owner="ann")
    asker.take()
    router.result(w1, answer(w1))
    last = [CommandResult("run-1", "c1", "ok", None, "w1", 0)]
    assert asker.take() == again.take() == last
    router.request(again, stop(), 9, owner="ann")
    assert [(result.worker_id, result.left) for result in again.take()] == [("w0", 1), ("w1", 0)]
    assert len(w0.commands) == len(w1.commands) == 1, "nobody was asked twice"


def test_a_long_answer_is_asked_for_again() -> None:
    router, [worker] = router_with("w0")
    asker = Peer()
    for _ in range(2):
        router.request(asker, stop(), 0)
        router.result(worker, answer(worker, message="x" * 5000))
    assert len(asker.take()) == 2
    assert len(worker.commands) == 2
    assert worker.commands[0] == worker.commands[1], "under the same id, so that it is carried out once"


def test_a_result_nobody_asked_for() -> None:
    router, [w0, w1] = router_with("w0", "w1")
    asker, stranger = Peer(), Peer("w0")
    router.request(asker, stop(worker_id="w0"), 0)
    [inner] = w0.commands
    for peer, result in [
        (stranger, answer(w0)),
        (w1, answer(w0)),
        (w1, CommandResult("run-1", inner.command_id, "ok", None, "w1")),
        (w1, CommandResult("run-1", inner.command_id, "ok")),
        (w0, CommandResult("run-2", inner.command_id, "ok", None, "w0")),
        (w0, CommandResult("run-1", inner.command_id, "ok", None, "w1")),
        (w0, CommandResult("run-1", "c1", "ok", None, "w0")),
    ]:
        router.result(peer, result)
        assert asker.results == []
    assert router.counts["ignored"] == 7
    router.result(w0, CommandResult("run-1", inner.command_id, "ok"))
    assert [result.worker_id for result in asker.take()] == ["w0"], "the only one of its connection"
    router.result(w0, answer(w0, "error"))
    assert asker.results == [], "the first answer counts"


def test_plain_workers() -> None:
    router, [worker] = router_with("w0")
    plain, asker = Peer(), Peer()
    router.register(plain, "run-1", "p", "legacy-1", is_plain=True)
    router.request(asker, stop(), 0)
    assert asker.take() == [CommandResult("run-1", "c1", "ok", NO_ANSWER, "p", 1)]
    assert len(plain.commands) == 1
    router.result(worker, answer(worker))
    assert [result.left for result in asker.take()] == [0]


def test_a_worker_that_goes() -> None:
    router, [w0, w1] = router_with("w0", "")
    asker = Peer()
    router.request(asker, stop(), 0)
    router.gone(w0)
    router.gone(w1)
    first, second = asker.take()
    assert (first.status, first.worker_id, first.left) == ("error", "w0", 1)
    assert first.message == "worker 'w0' lost its connection before it answered"
    assert (second.status, second.worker_id, second.left) == ("error", None, 0)
    assert router.request(asker, stop("c2"), 2) is False
    again = Peer("w0")
    router.register(again, "run-1", "w0", "sid-w0", is_plain=False)
    assert router.request(asker, stop(), 3), "a repetition is passed on again: it had no answer of its worker"
    assert again.commands == w0.commands


def test_a_worker_whose_stream_ends() -> None:
    router, [w0] = router_with("w0")
    router.register(w0, "run-1", "w0", "second", is_plain=False)
    router.register(w0, "run-2", "w0", "third", is_plain=False)
    asker = Peer()
    router.request(asker, stop(), 0)
    router.ended(w0, "run-1", "w0", "sid-w0")
    assert asker.results == [], "another session of the same worker is there"
    router.ended(w0, "run-1", "w0", "second")
    assert [result.message for result in asker.take()] == ["worker 'w0' ended before it answered"]
    assert router.workers("run-1") == []
    assert router.workers("run-2") == ["w0"]
    router.ended(w0, "run-1", "w0", "second")
    router.ended(Peer(), "run-1", "w0", "second")


def test_an_asker_that_goes() -> None:
    router, [w0] = router_with("w0")
    asker, other = Peer(), Peer()
    router.request(asker, stop(), 0)
    router.request(other, stop(), 0)
    router.gone(asker)
    router.result(w0, answer(w0))
    assert asker.results == []
    assert len(other.take()) == 1
    router.request(asker, stop("c2"), 3)
    router.gone(asker)
    router.result(w0, answer(w0))
    assert asker.results == []
    assert router.next_timer() is None


def test_answers_that_do_not_come() -> None:
    router, [w0, w1] = router_with("w0", "w1", seconds=10)
    asker = Peer()
    router.request(asker, stop("c1"), 0)
    router.request(asker, stop("c2"), 5)
    router.result(w1, answer(w1, which=0))
    asker.take()
    assert router.next_timer() == 10
    router.handle_timer(9.9)
    assert asker.results == []
    router.handle_timer(10)
    [late] = asker.take()
    assert late.message == "worker 'w0' has not answered within 10 s; it may still carry the command out"
    assert (late.command_id, late.left) == ("c1", 0)
    assert router.next_timer() == 15
    router.result(w0, answer(w0, which=0))
    assert asker.results == []
    router.handle_timer(100)
    assert [(result.worker_id, result.left) for result in asker.take()] == [("w0", 1), ("w1", 0)]
    assert router.next_timer() is None


def test_bounds() -> None:
    router, [w0] = router_with("w0")
    one = Peer()
    for number in range(COMMANDS_PER_WORKER + 1):
        router.request(one, stop(f"c{number}"), 0)
    [refused] = one.take()
    assert refused.message == f"worker 'w0': {COMMANDS_PER_WORKER} commands wait for its answer already"
    assert len(w0.commands) == COMMANDS_PER_WORKER
    others = [Peer(f"v{number}") for number in range(COMMANDS_PER_ASKER // COMMANDS_PER_WORKER)]
    for other in others:
        router.register(other, "run-2", other.name, "sid", is_plain=False)
    for number in range(COMMANDS_PER_ASKER - COMMANDS_PER_WORKER + 1):
        worker_id = others[number // COMMANDS_PER_WORKER].name
        router.request(one, Command(f"d{number}", "stop", {}, "run-2", worker_id), 0)
    [refused] = one.take()
    assert refused.message == f"{COMMANDS_PER_ASKER} commands of this connection wait for answers already"


def test_a_worker_that_does_not_read() -> None:
    router, [w0] = router_with("w0")
    w0.takes = False
    asker = Peer()
    assert router.request(asker, stop(), 0)
    [refused] = asker.take()
    assert refused.message == "worker 'w0': its connection takes no command now"
    w0.takes = True
    assert router.request(asker, stop(), 0)
    assert len(w0.commands) == 1


def test_one_connection_with_two_workers_gets_one_command() -> None:
    router, [both] = router_with("w0")
    router.register(both, "run-1", "w1", "sid", is_plain=False)
    asker = Peer()
    router.request(asker, stop(), 0)
    [inner] = both.commands
    router.result(both, CommandResult("run-1", inner.command_id, "ok"))
    assert asker.results == [], "nobody knows which of them it is"
    for wid in ("w0", "w1"):
        router.result(both, CommandResult("run-1", inner.command_id, "ok", None, wid))
    assert [(result.worker_id, result.left) for result in asker.take()] == [("w0", 1), ("w1", 0)]


def test_a_result_without_worker_id() -> None:
    """It is that of the worker without an id, also where it says so twice. spec: CTL-15.12"""
    router, [both] = router_with("")
    router.register(both, "run-1", "w1", "sid", is_plain=False)
    asker = Peer()
    router.request(asker, stop(), 0)
    [inner] = both.commands
    for _ in range(2):
        router.result(both, CommandResult("run-1", inner.command_id, "ok"))
    assert [(result.worker_id, result.left) for result in asker.take()] == [(None, 1)]
    router.result(both, CommandResult("run-1", inner.command_id, "ok", None, "w1"))
    assert [(result.worker_id, result.left) for result in asker.take()] == [("w1", 0)]


def test_the_order_of_names_makes_no_other_command() -> None:
    """spec: CTL-15.8, VAL-9.7"""
    router, [worker] = router_with("w0")
    router.request(Peer(), stop(a=1, b={"c": 2, "d": 3}), 0)
    router.request(Peer(), stop(b={"d": 3, "c": 2}, a=1), 0)
    assert len(worker.commands) == 1


STEPS = st.tuples(
    st.sampled_from(["ask", "ask", "ask", "answer", "answer", "wrong", "gone", "join", "tick", "plain", "end"]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([None, "w0", "w1"]),
)


@settings(max_examples=400)
@given(st.lists(STEPS, max_size=60))
def test_every_asker_gets_every_answer_once(steps: list[tuple[str, int, int, str | None]]) -> None:
    """Whatever happens: to each command as many results as the first one announced, and no foreign ones."""
    router = CommandRouter(seconds=5)
    workers: list[Peer] = []
    askers = [Peer(f"asker {number}") for number in range(3)]
    asked: dict[tuple[int, str], int] = defaultdict(int)
    now, number = 0.0, 0
    for what, which, other, worker_id in steps:
        peer = workers[which % len(workers)] if workers else None
        if what in {"join", "plain"}:
            workers.append(Peer(f"w{which % 2}"))
            router.register(workers[-1], "run-1", workers[-1].name, f"sid-{which}", is_plain=what == "plain")
        elif what == "ask":
            asker = askers[other % 3]
            number += 1
            command = stop(f"c{number}", worker_id)
            if not router.request(asker, command, now):
                router.refuse_unreachable(asker, command)
            asked[other % 3, command.command_id] += 1
        elif what == "tick":
            now += 1 + other
            router.handle_timer(now)
        elif peer and what == "answer" and peer.commands:
            router.result(peer, answer(peer, message=peer.name, which=other % len(peer.commands)))
        elif peer and what == "wrong" and workers[other % len(workers)].commands:
            router.result(peer, answer(workers[other % len(workers)]))
        elif peer and what == "end":
            router.ended(peer, "run-1", peer.name, f"sid-{other}")
        elif peer and what == "gone":
            workers.remove(peer)
            router.gone(peer)
    router.handle_timer(now + 1000)
    assert router.next_timer() is None
    for place, asker in enumerate(askers):
        by_command: dict[str, list[CommandResult]] = defaultdict(list)
        for result in asker.results:
            by_command[result.command_id].append(result)
        assert {(place, command_id) for command_id in by_command} == {key for key in asked if key[0] == place}
        for results in by_command.values():
            assert [result.left for result in results] == list(range(len(results) - 1, -1, -1))
