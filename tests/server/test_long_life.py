"""A server that lives for months: who has come and gone leaves nothing behind."""

from __future__ import annotations

import gc
import time

from event_builders import a_run, capture, metric, start
from server_peers import Peer, address_of, connect, end_of, eventually, quick, serving, stream

from xtrack_protocol.collector import Collector, StreamBatch
from xtrack_protocol.collector.hub import Hub
from xtrack_protocol.ir import Command
from xtrack_protocol.server.connection import Connection
from xtrack_protocol.session import StreamId
from xtrack_protocol.storage import MemoryStore
from xtrack_protocol.wire import Frame, decode


def connections_alive() -> int:
    gc.collect()
    return sum(isinstance(thing, Connection) for thing in gc.get_objects())


def test_connections_that_are_over_are_forgotten() -> None:
    before = connections_alive()
    with MemoryStore() as store, serving(store, limits=quick(lost_seconds=0.2)) as server:
        for number in range(4):
            with connect(address_of(server)) as sock:  # ends its run
                sock.sendall(capture(a_run(20, run=f"plain-{number}")))
                eventually(lambda count=22 * (number + 1): server.counters.events == count)
        for number in range(4):
            with connect(address_of(server)) as sock:  # doesn't
                sock.sendall(capture([start(f"cut-{number}"), metric(2, run=f"cut-{number}")]))
                eventually(lambda count=88 + 2 * (number + 1): server.counters.events == count)
        for number in range(4):
            one = stream("r", f"w{number}", f"{number}")
            with Peer(address_of(server), features=("follow", "commands")) as peer:
                peer.open(one)
                peer.send(one, 3, end_of(one) if number % 2 else None)
                peer.wait_acked(one, 3)
                peer.session.subscribe("r", 0, time.monotonic())
                peer.session.send_command(Command(f"c{number}", "pause", {}, "r"), time.monotonic())
                peer.pump(0.2)
        eventually(lambda: server.counters.connections == 0)
        eventually(lambda: connections_alive() == before)


def test_the_hub_remembers_no_more_runs_than_it_needs() -> None:
    hub = Hub()
    woken: list[int] = []

    def wake() -> None:
        woken.append(1)

    hub.add("followed", wake)
    hub.notify([("followed", 7)])
    for number in range(50_000):
        hub.notify([(f"run-{number}", number)])
    assert hub.last_position("followed") == 7
    assert hub.last_position("run-49999") == 49_999
    assert sum(hub.last_position(f"run-{number}") > 0 for number in range(50_000)) < 10_000
    assert woken == [1]


def test_cursors_kept_for_refusing_gaps_are_bounded() -> None:
    from server_peers import payload_of

    with MemoryStore() as store:
        collector = Collector(store, gap_policy="reject")
        for number in range(12_000):
            one = StreamId("r", "", f"{number:032x}")
            raw = payload_of(one, 1)
            outcome = collector.push_batches([StreamBatch(one, [Frame(decode(raw), None, 0, len(raw), raw)], 0)])
            assert outcome[0].stored == 1
        assert len(collector._cursors) < 10_000
        one = StreamId("r", "", f"{0:032x}")  # forgotten, and found again in the store
        for seq, stored in ((2, 1), (4, 0), (3, 1)):
            raw = payload_of(one, seq)
            assert (
                collector.push_batches([StreamBatch(one, [Frame(decode(raw), None, 0, len(raw), raw)], 0)])[0].stored
                == stored
            )
