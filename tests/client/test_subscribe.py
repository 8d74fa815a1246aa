"""Following a run of a real collector, over real sockets."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from remote_workers import PATIENCE, Proxy, client_of, count, serving, until, working

from xtrack_protocol.client import CollectorClient, PublishedEvent
from xtrack_protocol.errors import TransportError
from xtrack_protocol.ir import Envelope, Metric, RunEnd, RunStart
from xtrack_protocol.server.server import CollectorServer
from xtrack_protocol.session import Backoff
from xtrack_protocol.settings import Settings
from xtrack_protocol.storage import MemoryStore
from xtrack_protocol.wire import encode


def steps(events: list[PublishedEvent]) -> list[Any]:
    return [
        event.envelope.payload.step for event in events if event.envelope and isinstance(event.envelope.payload, Metric)
    ]


def test_history_then_what_comes_until_the_end(server: CollectorServer) -> None:
    with working(server) as worker, client_of(server) as client:
        worker.metrics(100)
        subscription = client.subscribe("run-1", until_end=True, timeout=PATIENCE)
        events = [next(subscription) for _ in range(101)]
        worker.metrics(50)
        worker.log(RunEnd("run-1", "completed"))
        events += list(subscription)
    assert [event.position for event in events] == list(range(1, 153))
    assert steps(events) == [*range(100), *range(50)]
    assert not subscription.timed_out
    assert subscription.connections == 1
    stored = [event.raw for event in server.store.events("run-1")]
    assert [event.raw for event in events] == stored


def test_from_a_cursor_and_from_now_on(server: CollectorServer) -> None:
    with working(server) as worker, client_of(server) as client:
        worker.metrics(10)
        until(lambda: count(server.store) == 11)
        [event] = list(client.subscribe("run-1", 10, timeout=0.5))
        assert (event.position, steps([event])) == (11, [9])
        live = client.subscribe("run-1", None, timeout=0.5)
        assert live.position is None
        assert list(live) == []
        assert live.timed_out
        assert live.position == 11
        worker.metrics(1)
        assert next(live).position == 12, "a subscription that timed out can be asked again"
        assert not live.timed_out, "it tells how the last wait went"


def test_a_run_that_is_not_there_yet(server: CollectorServer) -> None:
    with client_of(server) as client:
        subscription = client.subscribe("later", timeout=PATIENCE)
        seen: list[PublishedEvent] = []
        thread = threading.Thread(target=lambda: seen.append(next(subscription)))
        thread.start()
        time.sleep(0.2)
        with working(server, "later"):
            thread.join(PATIENCE)
    assert [event.position for event in seen] == [1]


def test_a_run_that_is_deleted(server: CollectorServer) -> None:
    with working(server) as worker, client_of(server) as client:
        worker.metrics(3)
        subscription = client.subscribe("run-1", timeout=PATIENCE)
        for _ in range(4):
            next(subscription)
        worker.close()
        server.store.delete_run("run-1")
        assert list(subscription) == []
    assert subscription.is_deleted
    assert not subscription.timed_out


def test_closing_from_another_thread(server: CollectorServer) -> None:
    client = client_of(server)
    subscription = client.subscribe("run-1")
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.extend(subscription))
    thread.start()
    time.sleep(0.3)
    client.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert seen == []


def test_a_server_that_is_restarted(tmp_path: Path) -> None:
    """The subscription goes on behind the last event: none is lost, none comes twice."""
    store = MemoryStore()
    troubles: list[TransportError] = []
    with contextlib.ExitStack() as first:
        server = first.enter_context(serving(store))
        port = server.port
        worker = first.enter_context(working(server))
        worker.metrics(500)
        client = client_of(server)
        subscription = client.subscribe("run-1", timeout=PATIENCE, trouble=troubles.append)
        events = [next(subscription) for _ in range(300)]
        until(lambda: count(store) == 501)
    with serving(store, port) as server:
        events += [next(subscription) for _ in range(201)]
        with working(server, "run-1", "other") as worker:
            worker.metrics(5)
            events += [next(subscription) for _ in range(6)]
    assert [event.position for event in events] == list(range(1, 508))
    assert [event.raw for event in events] == [event.raw for event in store.events("run-1")]
    assert subscription.connections == 2
    assert troubles
    client.close()


def test_every_connection_breaks_somewhere(server: CollectorServer) -> None:
    """Connections that break after some hundred bytes, inside frames and between them."""
    with working(server) as worker:
        worker.metrics(60)
        worker.log(RunEnd("run-1", "completed"))
        until(lambda: count(server.store) == 62)
        proxy = Proxy(server.port, lambda number: 600 + 37 * number)
        client = CollectorClient(f"tcp://127.0.0.1:{proxy.port}", Settings())
        subscription = client.subscribe("run-1", until_end=True, timeout=PATIENCE)
        events = list(subscription)
        proxy.close()
    assert [event.position for event in events] == list(range(1, 63))
    assert [event.raw for event in events] == [event.raw for event in server.store.events("run-1")]
    assert subscription.connections > 3


def test_an_event_larger_than_a_socket_takes(server: CollectorServer) -> None:
    large = encode(Envelope.of(RunStart("run-1", name="x" * 2_000_000), seq=1, timestamp_us=1, session_id="s"))
    server.collector.push_event(
        Envelope.of(RunStart("run-1", name="x" * 2_000_000), seq=1, timestamp_us=1, session_id="s"), raw=large
    )
    with client_of(server) as client, client.subscribe("run-1", timeout=PATIENCE) as subscription:
        assert next(subscription).raw == large


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_connection_that_breaks_after_each_byte(server: CollectorServer) -> None:
    """The first connection breaks after so many bytes of what comes back; the second goes on where that one was."""
    with working(server) as worker:
        worker.metrics(8)
        worker.log(RunEnd("run-1", "completed"))
        until(lambda: count(server.store) == 10)
    expected = [event.raw for event in server.store.events("run-1")]
    limit, refused, at = [0], 0, 0
    proxy = Proxy(server.port, lambda number: limit[0] if number % 2 else 2**62)
    while True:
        limit[0] = at
        proxy.connections = 0
        client = CollectorClient(f"tcp://127.0.0.1:{proxy.port}", Settings())
        with client.subscribe("run-1", until_end=True, timeout=PATIENCE) as subscription:
            subscription._backoff = Backoff(0.001, 0.01)
            try:
                events = list(subscription)
            except TransportError:
                refused += 1
                assert subscription.connections == 0, "nobody has answered yet: whoever asks is told"
            else:
                assert [event.raw for event in events] == expected
                assert [event.position for event in events] == list(range(1, 11))
                if proxy.connections == 1:
                    break  # all of it came before the cut
        at += 1
    proxy.close()
    assert at > 1500
    assert 100 < refused < 500
