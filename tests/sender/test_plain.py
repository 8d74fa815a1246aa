"""Collectors of before, which know no hello and ack nothing, in raw bytes. spec: VER-3, DLV-8.3"""

from __future__ import annotations

import time
from typing import Any

from legacy_collector import LegacyCollector, until
from small_collector import SmallCollector

from xtrack_protocol.errors import CollectorRefused
from xtrack_protocol.net.endpoint import parse_endpoint
from xtrack_protocol.sender.sync import Syncer, SyncReport
from xtrack_protocol.settings import Settings
from xtrack_protocol.spool import SpoolDir
from xtrack_protocol.spool.shipping import read_note


def sync(home: Any, spec: str, **options: Any) -> SyncReport:
    return Syncer(SpoolDir(home), parse_endpoint(spec, Settings()), **options).sync()


def test_a_legacy_collector_gets_everything_and_nothing_that_it_does_not_know(start, home, capsys):
    with LegacyCollector() as collector:
        run = start(collector.spec, quiet=False)
        run.log_metric("loss", 0.5, step=1)
        run.set_tags({"a": "b"})
        run.summary({"best": 0.5})
        run.alert("title", "text")
        for step in range(500):
            run.log_metric("loss", float(step), step=step)
        run.end()
        until(lambda: len(collector.events) == 507)
        assert collector.unknown == ["hello"]
        assert collector.thrown_away == 0
        assert collector.seqs == list(range(1, 508))
        assert collector.kinds()[:6] == ["run_start", "status", "metric", "log", "log", "log"]
        assert collector.kinds()[-1] == "run_end"
    delivery = run.stats().delivery
    assert (delivery.acked, delivery.unconfirmed, delivery.waiting) == (0, 507, 0)
    assert not run.flush("acked")
    assert f"507 sent to {collector.spec}, which confirms nothing" in capsys.readouterr().err
    note = read_note(SpoolDir(home).run_dir("r"), run._out.stream)
    assert note is not None
    assert (note.acked, note.unconfirmed) == (0, 507)


def test_a_connection_that_breaks_goes_on_where_it_was(start):
    with LegacyCollector() as collector:
        run = start(collector.spec)
        until(lambda: run.stats().delivery.unconfirmed == 2)
        collector.drop_all()
        for step in range(20):
            run.log_metric("loss", float(step), step=step)
        run.end()
        until(lambda: collector.seqs[-1] == 23)
        assert sorted(set(collector.seqs)) == list(range(1, 24))
        assert collector.seqs.count(1) == 1
        assert collector.unknown == ["hello"] * collector.accepted


def test_what_did_not_reach_the_other_machine_is_sent_again(start, monkeypatch):
    """Within the last second of a connection nobody knows what came to the collector."""
    with LegacyCollector() as collector:
        run = start(collector.spec)
        until(lambda: len(collector.events) == 2)
        collector.drop_all()  # before it has lasted a second
        until(lambda: len(collector.events) == 4)
        assert collector.seqs == [1, 2, 1, 2]
        until(lambda: run.stats().delivery.unconfirmed == 2)


def test_a_collector_that_closes_at_hello_is_spoken_to_without(start):
    with LegacyCollector(closes_at_unknown=True) as collector:
        run = start(collector.spec)
        run.log_metric("loss", 0.5)
        run.end()
        until(lambda: len(collector.events) == 4)
        assert collector.unknown == ["hello"] * 3
        assert collector.seqs == [1, 2, 3, 4]


def test_with_a_key_nothing_is_ever_sent_in_plain(start):
    for closes, tries in ((False, 2), (True, 5)):
        with LegacyCollector(closes_at_unknown=closes) as collector:
            run = start(collector.spec, f"r{closes}", key="xtk_1_" + "a" * 43)
            run.log_metric("loss", 0.5)
            until(lambda found=collector, least=tries: found.accepted >= least)
            run.end(timeout=0)
            assert collector.events == []
            assert run.stats().delivery.waiting == 4


def test_a_collector_that_is_only_slow_is_no_legacy_one(start, collector):
    """Once it has welcomed us, its silence is no answer: nothing goes out as plain."""
    run = start(collector.spec)
    assert run.flush("acked")
    collector.is_deaf = True
    collector.drop_all()
    run.log_metric("loss", 0.5)
    time.sleep(2.5)
    collector.is_deaf = False
    assert run.flush("acked")
    assert not run.stats().delivery.unconfirmed
    assert collector.seqs() == [1, 2, 3]


def test_a_collector_that_answers_late(start, collector):
    """Taken for a plain one, and then not: what was sent in between is sent once more, and lands once."""
    collector.is_deaf = True
    run = start(collector.spec)
    until(lambda: run._out.transport._sender.is_plain)
    run.log_metric("loss", 0.5)
    time.sleep(0.2)
    collector.is_deaf = False
    assert run.flush("acked") or run.flush("acked")
    assert collector.seqs() == [1, 2, 3]


def test_commands_of_a_legacy_collector_are_answered_with_a_log_event(start):
    with LegacyCollector() as collector:
        run = start(collector.spec)
        until(lambda: len(collector.events) == 2)
        collector.send({"v": 1, "t": "command", "m": {"seq": 0, "ts": 0}, "p": {"cmd_id": "c1", "type": "pause"}})
        seen: list[str] = []
        until(lambda: (seen.extend(command.command_id for command in run.commands()), seen)[1])
        until(lambda: len(collector.events) == 3)
        answer = collector.events[2]
        assert (answer["t"], answer["m"]["seq"]) == ("log", 3)
        assert answer["p"]["msg"] == "command_result"
        assert answer["p"]["fields"]["cmd_id"] == "c1"


def test_sync_to_a_legacy_collector(start, home):
    run = start("tcp://127.0.0.1:9")
    run.set_tags({"a": "b"})
    run.end(timeout=0)
    with LegacyCollector() as collector:
        report = sync(home, collector.spec)
        assert report.is_plain
        assert not report.is_complete
        (stream,) = report.streams
        assert (stream.state, stream.events, stream.acked, stream.unconfirmed) == ("unconfirmed", 4, 0, 4)
        assert collector.kinds() == ["run_start", "status", "log", "run_end"]
        (stream,) = sync(home, collector.spec).streams
        assert stream.state == "unconfirmed"
        assert len(collector.events) == 4  # not sent again
        sync(home, collector.spec, again=True)
        until(lambda: collector.seqs == [1, 2, 3, 4] * 2)
        assert set(collector.unknown) == {"hello"}


def test_sync_after_the_legacy_collector_was_replaced(start, home):
    run = start("tcp://127.0.0.1:9")
    run.end(timeout=0)
    with LegacyCollector() as legacy:
        port = legacy.port
        sync(home, legacy.spec)
    with SmallCollector(port=port) as collector:
        report = sync(home, collector.spec)
        assert report.is_complete
        assert collector.seqs() == [1, 2, 3]


def test_sync_with_a_key_does_not_fall_back(start, home):
    run = start("tcp://127.0.0.1:9")
    run.end(timeout=0)
    with LegacyCollector() as collector:
        endpoint = parse_endpoint(collector.spec, Settings(key="xtk_1_" + "a" * 43))
        try:
            report = Syncer(SpoolDir(home), endpoint, patience=3).sync()
            assert not report.is_complete
            assert "no answer to hello" in report.problem
        except CollectorRefused as error:
            raise AssertionError("a legacy collector refuses nothing") from error
        assert collector.events == []
