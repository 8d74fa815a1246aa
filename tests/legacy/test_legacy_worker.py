"""Workers of before, as bytes, with our server: over TCP and Unix sockets, into SQLite. spec: STR-2, VER-3"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from legacy_worker import T0, LegacyWorker, event, frame
from server_peers import eventually

from xtrack_protocol.client import CollectorClient
from xtrack_protocol.errors import RunNotFound
from xtrack_protocol.runs import RunState
from xtrack_protocol.server import CollectorServer
from xtrack_protocol.server.access import AccessControl
from xtrack_protocol.server.commands import NO_ANSWER
from xtrack_protocol.server.keys import Keyring
from xtrack_protocol.settings import Settings
from xtrack_protocol.storage import SQLiteStore


@attrs.frozen
class Served:
    """A server on a store, and where workers reach it."""

    server: CollectorServer
    store: SQLiteStore
    address: Any
    spec: str

    def worker(self, run: str = "r", wid: str | None = None, **options: Any) -> LegacyWorker:
        return LegacyWorker(self.address, run, wid, **options)

    def wait(self, events: int, run: str = "r") -> RunState:
        """Wait until the run has so many events; return its state."""
        eventually(lambda: self.count(run) >= events)
        time.sleep(0.05)  # for one too many
        assert self.count(run) == events
        return self.store.get_run(run)

    def count(self, run: str) -> int:
        try:
            return self.store.get_run(run).events
        except RunNotFound:
            return 0

    def raws(self, run: str = "r") -> list[bytes]:
        return [stored.raw for stored in self.store.events(run)]


@pytest.fixture(params=["tcp", "unix"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    path = tmp_path / "s"
    with SQLiteStore(tmp_path / "store.db") as store:
        where: dict[str, Any] = {"tcp": ("127.0.0.1", 0)} if request.param == "tcp" else {"unix": path}
        with CollectorServer(store, **where).run_in_thread() as server:
            address = ("127.0.0.1", server.port) if request.param == "tcp" else path
            spec = f"tcp://127.0.0.1:{server.port}" if request.param == "tcp" else f"unix:{path}"
            yield Served(server, store, address, spec)


def test_a_whole_run(served: Served) -> None:
    """All published types, nulls, bare NaN, a bare hex checksum, an object and then a text for the run's id."""
    with served.worker() as worker:
        run = {"run_id": "r"}
        digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
        worker.send(
            worker.start_bytes()
            + worker.made("status", {**run, "status": "running", "msg": None, "progress": None})
            + worker.made("param", {**run, "key": "optimizer", "value": 0.1, "nested_key": ["lr"]})
            + worker.metric_bytes(float("nan"), 1)
            + worker.metric_bytes(float("-inf"), 2)
            + worker.made("metric_batch", {**run, "metrics": {"acc": 1, "loss": 0.5}, "step": 3, "ctx": None})
            + worker.made("artifact", {**run, "path": "m.pt", "type": "model", "checksum": digest, "upload": None})
            + worker.made("checkpoint", {**run, "step": 3, "path": "c.pt", "metrics": {"loss": float("inf")}})
            + worker.made("log", {**run, "level": "info", "msg": "half way", "logger": None, "fields": {"x": None}})
            + worker.end_bytes()
        )
        state = served.wait(10)
    assert (state.status, state.name, state.experiment_id) == ("completed", None, None)
    assert state.params == {"optimizer.lr": 0.1}
    points = [(point.step, repr(point.value)) for point in served.store.get_metrics("r", "loss")]
    assert points == [(1, "nan"), (2, "-inf"), (3, "0.5")]
    assert state.artifacts[0].artifact.checksum in {digest, f"sha256:{digest}"}
    assert state.final_metrics == {"loss": float("inf")}
    assert served.raws() == worker.sent  # to the byte
    assert b"NaN" in worker.sent[3]
    (stream,) = state.streams
    assert stream.stream.session_id == f"legacy-{T0 + 1000}"


def test_it_is_told_nothing_and_not_kept_waiting(served: Served) -> None:
    """A server says nothing to who has not asked: the worker would take any byte for a command."""
    with served.worker() as worker:
        worker.send(worker.start_bytes())
        served.wait(1)
        worker.send(b"".join(worker.metric_bytes(0.5, step) for step in range(2000)) + worker.end_bytes())
        assert served.wait(2002).status == "completed"
        worker.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            worker.sock.recv(1)


def test_bytes_in_any_pieces(served: Served) -> None:
    with served.worker() as worker:
        data = worker.start_bytes() + worker.metric_bytes(float("inf"), 1) + worker.end_bytes()
        for place in range(len(data)):
            worker.send(data[place : place + 1])
            if place % 100 == 0:
                time.sleep(0.002)
        assert served.wait(3).status == "completed"
    assert served.raws() == worker.sent


def test_threads_out_of_order_and_a_permanent_gap(served: Served) -> None:
    """Several threads number their events and send them as they get to it; one could not be written at all."""
    with served.worker() as worker:
        start = worker.start_bytes()
        events = [worker.metric_bytes(float(step), step) for step in range(1, 31)]
        end = worker.end_bytes()
        shuffled = events[1::2] + events[:16:2] + events[18::2]  # without the one of step 17
        worker.send(b"".join(shuffled[:10]) + start + b"".join(shuffled[10:20]) + end + b"".join(shuffled[20:]))
        eventually(lambda: served.count("r") == 31)
    state = served.store.get_run("r")
    assert state.status == "completed"
    assert [point.step for point in served.store.get_metrics("r", "loss")] == [*range(1, 17), *range(18, 31)]
    assert sorted(served.raws()) == sorted(raw for raw in worker.sent if b'"step": 17,' not in raw)


def test_duplicates_are_taken_once(served: Served) -> None:
    """Within a connection, and when the same recording is sent again."""
    with served.worker() as worker:
        data = worker.start_bytes() + worker.metric_bytes(1.0, 1)
        worker.send(data + data[-len(worker.sent[1]) - 4 :] + worker.end_bytes())
        served.wait(3)
    with served.worker() as again:
        again.send(b"".join(frame(raw) for raw in worker.sent) + frame(event("metric", 9, {"run_id": "r", "key": "k"})))
        again.send(again.made("metric", {"run_id": "r", "key": "late", "value": 1}, seq=4))
        state = served.wait(4)
    assert len(state.streams) == 1
    assert state.metrics["loss"].count == 1


def test_a_restart_that_counts_from_1_again(served: Served) -> None:
    """The same run id, a new process: another session, and no duplicate among its events."""
    with served.worker() as first:
        first.send(first.start_bytes() + b"".join(first.metric_bytes(float(step), step) for step in (1, 2, 3)))
        served.wait(4)
    with served.worker(started=T0 + 10**9) as second:
        second.send(second.start_bytes() + b"".join(second.metric_bytes(float(step), step) for step in (4, 5)))
        second.send(second.end_bytes())
        state = served.wait(8)
    assert [point.step for point in served.store.get_metrics("r", "loss")] == [1, 2, 3, 4, 5]
    assert [stream.stream.session_id for stream in state.streams] == [
        f"legacy-{T0 + 1000}",
        f"legacy-{T0 + 10**9 + 1000}",
    ]


def test_several_workers_on_connections_of_their_own(served: Served) -> None:
    """Each counts from 1: duplicates and gaps are judged by worker."""
    workers = [served.worker(wid=str(rank)) for rank in range(4)]
    for worker in workers:
        worker.send(worker.start_bytes())
    for step in range(1, 51):
        for rank, worker in enumerate(workers):
            worker.send(worker.metric_bytes(rank + step / 64, step))
    eventually(lambda: served.count("r") == 204)
    assert served.store.get_run("r").status == "running"
    for worker in workers:
        worker.send(worker.end_bytes())
    state = served.wait(208)
    for worker in workers:
        worker.close()
    assert (state.status, state.workers) == ("completed", ("0", "1", "2", "3"))
    for rank in range(4):
        assert len(served.store.get_metrics("r", "loss", worker_id=str(rank))) == 50
    lines = served.store.get_metric_aggregate("r", "loss")
    assert len(lines) == 50
    assert [(line.count, line.mean) for line in lines[:2]] == [(4, 1.5 + 1 / 64), (4, 1.5 + 2 / 64)]


def test_several_workers_and_runs_on_one_connection(served: Served) -> None:
    """As a relay of before sent them."""
    with served.worker() as relay:
        for wid in ("a", "b"):
            for run in ("r", "q"):
                for seq, (kind, body) in enumerate(
                    [
                        ("run_start", {"run_id": {"id": run, "exp_id": None}, "name": None}),
                        ("metric", {"run_id": run, "key": "loss", "value": 1, "step": 1}),
                        ("run_end", {"run_id": run, "status": "completed", "error": None}),
                    ],
                    start=1,
                ):
                    relay.send(frame(event(kind, seq, body, wid=wid)))
        for run in ("r", "q"):
            state = served.wait(6, run)
            assert (state.status, state.workers, state.metrics["loss"].count) == ("completed", ("a", "b"), 2)


def test_what_it_sends_wrong_costs_no_neighbour(served: Served) -> None:
    """A frame that is no JSON, one without what it needs, and a type of another version."""
    with served.worker() as worker:
        worker.send(worker.start_bytes() + worker.metric_bytes(1.0, 1))
        worker.send(frame('{"v":1,"t":"metric","m":{') + frame(event("metric", 90, {"run_id": "r"})))
        worker.send(worker.made("telemetry", {"run_id": "r", "watts": 250}))
        worker.send(worker.metric_bytes(2.0, 2) + worker.end_bytes())
        state = served.wait(5)
        assert state.status == "completed"
    assert [point.value for point in served.store.get_metrics("r", "loss")] == [1.0, 2.0]
    assert [json.loads(raw)["t"] for raw in served.raws()][2] == "telemetry"


def test_it_takes_commands(served: Served) -> None:
    """As frames with the published fields; what is added to them it passes over."""
    with served.worker(wid="0") as worker:
        worker.send(worker.start_bytes())
        served.wait(1)
        answers: list[Any] = []
        client = CollectorClient(served.spec, Settings())
        asking = threading.Thread(
            target=lambda: answers.extend(client.send_command("r", "adjust_lr", {"lr": 0.01}, timeout=10))
        )
        asking.start()
        command = worker.read_frame()
        asking.join(20)
        assert (command["v"], command["t"]) == (1, "command")
        assert isinstance(command["m"]["seq"], int)
        assert isinstance(command["m"]["ts"], int)
        assert (command["p"]["type"], command["p"]["payload"]) == ("adjust_lr", {"lr": 0.01})
        assert command["p"]["cmd_id"]
        # It has no words to answer with: whoever asked is told what is known.
        assert [(answer.worker_id, answer.status, answer.message) for answer in answers] == [("0", "ok", NO_ANSWER)]
        worker.send(worker.metric_bytes(1.0, 1) + worker.end_bytes())
        assert served.wait(3).status == "completed"


def test_where_keys_are_required_it_is_not_served(tmp_path: Path) -> None:
    """It can't say hello: it is told so, in a frame that it passes over, and nothing of it is stored."""
    keyring = Keyring(tmp_path / "keys.json", new=True)
    keyring.add("somebody")
    with SQLiteStore(tmp_path / "store.db") as store:
        access = AccessControl(store, keyring)
        with CollectorServer(store, tcp=("127.0.0.1", 0), access=access).run_in_thread() as server:
            with LegacyWorker(("127.0.0.1", server.port), "r") as worker:
                worker.send(worker.start_bytes() + worker.metric_bytes(1.0, 1))
                told = worker.read_frame()
                assert told["t"] == "reject"
                assert told["p"]["msg"]
                worker.sock.settimeout(20)
                with contextlib.suppress(ConnectionResetError):
                    assert worker.sock.recv(1) == b""
            assert store.list_runs() == []
