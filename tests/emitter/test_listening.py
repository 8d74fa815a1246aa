"""Listeners hear what is logged, in a thread of their own, and never harm the training."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import xtrack_protocol as xtrack
from xtrack_protocol.emitter import HeardEvent, Tracker, tracker
from xtrack_protocol.emitter.listening import HeardStream
from xtrack_protocol.emitter.stream import StreamEmitter
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.ir import RunEnd, RunStart

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if this process had started no run yet; no test leaves a listener."""
    monkeypatch.setattr(tracker, "_bound", {})
    yield
    assert tracker.stream_class is StreamEmitter


def test_starts_ends_and_metrics(spool: Any) -> None:
    heard: list[tuple[str, HeardEvent]] = []
    with xtrack.listen(
        on_start=lambda event: heard.append(("start", event)),
        on_end=lambda event: heard.append(("end", event)),
        on_metric=lambda event: heard.append(("metric", event)),
    ) as listener:
        with xtrack.start_run("r", worker_id="3") as run:
            run.log_metric("loss", 0.5, step=1)
            run.log_metrics({"a": 1.0, "b": 2.0}, step=2)
            run.log_metric("loss", "no number")
            run.log("text")
        assert listener.wait()
    assert [kind for kind, _ in heard] == ["start", "metric", "metric", "end"]
    start, one, batch, end = (event for _, event in heard)
    assert isinstance(start.payload, RunStart)
    assert (one.run_id, one.worker_id, one.metrics, one.step) == (run.run_id, "3", {"loss": 0.5}, 1)
    assert (batch.metrics, batch.step, batch.status) == ({"a": 1.0, "b": 2.0}, 2, None)
    assert isinstance(end.payload, RunEnd)
    assert end.status == "completed"
    assert spool.events()[0].meta.timestamp_us == start.timestamp_us
    assert (listener.called, listener.failed, listener.dropped) == (4, 0, 0)


def test_every_event(spool: Any) -> None:
    heard: list[str] = []
    with xtrack.listen(on_event=lambda event: heard.append(type(event.payload).__name__)) as listener:
        with xtrack.start_run("r", params={"a": 1}) as run:
            run.log("text")
            run.set_tag("a", "b")
        listener.wait()
    assert heard == ["RunStart", "StatusUpdate", "Param", "LogEntry", "Tags", "RunEnd"]


def test_nobody_listens_any_more(spool: Any) -> None:
    heard: list[Any] = []
    listener = xtrack.listen(on_metric=heard.append)
    run = xtrack.start_run("r")
    listener.close()
    listener.close()
    run.log_metric("loss", 0.5)
    run.end()
    assert listener.wait()
    assert heard == []
    assert isinstance(run._out, HeardStream)
    other = xtrack.start_run("other")
    assert type(other._out) is StreamEmitter  # which costs nothing
    other.end()
    assert spool.state(run.run_id).metrics["loss"].count == 1


def test_a_listener_that_fails_harms_nobody(spool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[Any] = []

    def bad(event: HeardEvent) -> None:
        raise ValueError("no such model")

    with xtrack.listen(on_metric=bad) as first, xtrack.listen(on_metric=heard.append) as second:
        with xtrack.start_run("r") as run:
            for step in range(5):
                run.log_metric("loss", 0.5, step=step)
        assert first.wait()
        assert second.wait()
    assert (first.failed, second.called, len(heard)) == (5, 5, 5)
    assert capsys.readouterr().err.count("a listener failed: ValueError: no such model") == 1
    assert run.stats().refused == 0


def test_a_slow_listener_stalls_nothing(
    spool: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("xtrack_protocol.emitter.listening._QUEUE_MAX", 10)
    gate = threading.Event()
    seen: list[HeardEvent] = []

    def slow(event: HeardEvent) -> None:
        gate.wait()
        seen.append(event)

    with xtrack.listen(on_metric=slow, on_end=seen.append) as listener:
        run = xtrack.start_run("r")
        for step in range(100):
            run.log_metric("loss", float(step), step=step)
        run.end()
        gate.set()
        assert listener.wait()
    assert spool.state().metrics["loss"].count == 100
    assert listener.dropped >= 88
    assert len(seen) == 100 - listener.dropped + 1
    assert seen[-1].status == "completed"  # ends aren't dropped
    assert capsys.readouterr().err.count("too slow") == 1


def test_a_listener_may_track_what_it_does(spool: Any) -> None:
    """As when the end of a training is what starts a deployment. Its own events don't call it again."""
    made: list[str] = []

    def deploy(event: HeardEvent) -> None:
        with xtrack.start_run("deployment", parent_run_id=event.run_id) as run:
            made.append(run.run_id)

    with xtrack.listen(on_end=deploy) as listener:
        with xtrack.start_run("training") as run:
            assert xtrack.current_run() is run
        listener.wait()
    assert len(made) == 1
    assert spool.state(made[0]).parent_run_id == run.run_id
    assert spool.state(made[0]).status == "completed"


def test_a_listeners_run_is_not_the_trainings(spool: Any) -> None:
    held: list[Any] = []
    with xtrack.listen(on_start=lambda event: held.append(xtrack.start_run("of the listener"))) as listener:
        with xtrack.start_run("training") as run:
            assert listener.wait()
            assert len(held) == 1
            assert xtrack.current_run() is run
        held[0].end()


def test_a_batch_that_has_to_be_split_is_heard_once(spool: Any) -> None:
    heard: list[HeardEvent] = []
    with xtrack.listen(on_metric=heard.append) as listener:
        with xtrack.start_run("r") as run:
            run.log_metrics({f"{number:0100}": 1.0 for number in range(12_000)})
        listener.wait()
    assert [len(event.metrics) for event in heard] == [12_000]
    assert run.stats().accepted > 4


def test_an_end_in_the_middle_of_an_event_is_heard(spool: Any) -> None:
    """A signal handler of the script's may end the run inside of a call that logs."""
    from xtrack_protocol.transport import MemoryTransport

    class Interrupted(MemoryTransport):
        run: xtrack.Run | None = None

        def send(self, seq: int, payload: bytes) -> None:
            super().send(seq, payload)
            run, self.run = self.run, None
            if run is not None:
                signal.raise_signal(signal.SIGINT)

    heard: list[HeardEvent] = []
    transport = Interrupted()
    before = signal.getsignal(signal.SIGINT)
    with xtrack.listen(on_end=heard.append) as listener:
        run = Tracker.start_run(transport=transport)
        signal.signal(signal.SIGINT, lambda *_: run.end("killed"))
        try:
            transport.run = run
            run.log_metric("loss", 0.5)
        finally:
            signal.signal(signal.SIGINT, before)
        listener.wait()
    assert [event.status for event in heard] == ["killed"]


def test_many_threads(spool: Any) -> None:
    heard: list[HeardEvent] = []
    with xtrack.listen(on_metric=heard.append) as listener:
        with xtrack.start_run("r") as run:
            threads = [
                threading.Thread(target=lambda: [run.log_metric("loss", float(step)) for step in range(200)])
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert listener.wait()
    assert len(heard) == 800


def test_events_that_no_transport_took_are_not_heard(spool: Any) -> None:
    from xtrack_protocol.transport import MemoryTransport

    class Full(MemoryTransport):
        is_full = False

        def send(self, seq: int, payload: bytes) -> None:
            if self.is_full:
                raise OSError("full")
            super().send(seq, payload)

    heard: list[HeardEvent] = []
    transport = Full()
    with xtrack.listen(on_metric=heard.append) as listener:
        run = Tracker.start_run(transport=transport)
        transport.is_full = True
        run.log_metric("loss", 0.5)
        transport.is_full = False
        run.log_metric("loss", 0.25)
        run.end()
        listener.wait()
    assert [event.metrics for event in heard] == [{"loss": 0.25}]


EXIT = """
import atexit, time
import xtrack_protocol as xtrack

def at_end(event):
    time.sleep(0.1)
    print("heard", event.status, event.payload.error.type, flush=True)

xtrack.listen(on_end=at_end)
xtrack.start_run("r").log_metric("loss", 0.5)
raise ValueError("the end")
"""


def test_the_end_of_the_process_is_heard(script: Any) -> None:
    done = script(EXIT)
    assert done.stdout == "heard failed ValueError\n"


FORK = """
import os, warnings
import xtrack_protocol as xtrack
warnings.simplefilter("ignore", DeprecationWarning)

listener = xtrack.listen(on_metric=lambda event: print(event.metrics, os.getpid() == parent, flush=True))
parent = os.getpid()
run = xtrack.start_run("r", quiet=True)
run.log_metric("parent", 1.0)
listener.wait()
pid = os.fork()
if pid == 0:
    run.log_metric("child", 2.0)
    listener.wait()
    os._exit(0)
os.waitpid(pid, 0)
run.log_metric("parent", 3.0)
run.end()
"""


@posix
def test_a_forked_child_calls_its_own(script: Any) -> None:
    assert script(FORK).stdout.splitlines() == ["{'parent': 1.0} True", "{'child': 2.0} False", "{'parent': 3.0} True"]


@pytest.mark.parametrize("arguments", [{}, {"on_end": 5}, {"on_metric": "print"}])
def test_wrong_listeners(arguments: Any) -> None:
    with pytest.raises(ConfigurationError, match="listen"):
        xtrack.listen(**arguments)
