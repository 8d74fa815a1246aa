"""A run that is shipped in the background, against a real collector that does whatever collectors do. spec: DLV-8"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest
from session_machines import welcome_frame
from small_collector import SmallCollector, until

from xtrack_protocol.emitter import Run
from xtrack_protocol.ir import Ack, Command, Envelope, Metric
from xtrack_protocol.session import CollectorLimits, EmitterSession, Refusal, StreamId
from xtrack_protocol.spool.shipping import read_note
from xtrack_protocol.wire import FrameDecoder, decode, encode_frame, frame_payload


def log(run: Run, count: int, first: int = 0) -> None:
    for step in range(first, first + count):
        run.log_metric("loss", float(step), step=step)


def lane_of(run: Run) -> Any:
    return run._out.transport._lane


def sender_of(run: Run) -> Any:
    return run._out.transport._sender


def values(collector: SmallCollector) -> list[float]:
    """What arrived of the metric, in the order of seqs."""
    (events,) = collector.events.values()
    payloads = [decode(events[seq]).payload for seq in sorted(events)]
    return [payload.value for payload in payloads if isinstance(payload, Metric)]


def test_everything_is_acked(start, collector, capsys):
    run = start(collector.spec, quiet=False)
    log(run, 1000)
    assert run.flush("acked")
    assert collector.seqs() == list(range(1, 1003))
    run.end()
    assert values(collector) == [float(step) for step in range(1000)]
    assert run.flush("acked")  # what held then
    delivery = run.stats().delivery
    assert (delivery.acked, delivery.waiting, delivery.unconfirmed, delivery.rejected) == (1003, 0, 0, {})
    assert delivery.connections == collector.hellos == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"xtrack: tracking run r to {collector.spec}"
    assert lines[1].endswith(f"1003 events, all acked by {collector.spec}.")
    assert len(lines) == 2


def test_over_a_unix_socket(start, tmp_path):
    with SmallCollector(tmp_path / "c") as collector:
        run = start(collector.spec)
        log(run, 100)
        run.end()
        assert run.stats().delivery.acked == 103
        assert run.stats().delivery.address == f"unix:{tmp_path}/c"


def test_what_is_logged_arrives_soon_without_anybody_asking(start, collector):
    run = start(collector.spec)
    for step in range(5):
        log(run, 1, step)
        until(lambda count=step + 3: len(collector.seqs()) == count)
        time.sleep(0.05)  # the sender sleeps, and is to be woken


def test_a_collector_that_comes_late(start, capsys):
    with SmallCollector() as gone:
        port = gone.port
    run = start(f"tcp://127.0.0.1:{port}")
    log(run, 100)
    until(lambda: run.stats().warnings)
    assert not run.flush("acked", 0.05)
    assert run.flush("durable")
    with SmallCollector(port=port) as collector:
        assert run.flush("acked")
        assert len(collector.seqs()) == 102
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "nobody listens there (connection refused)" in error
    assert "Events are kept in the spool" in error


def test_a_collector_that_never_comes_costs_no_time_and_no_event(start, home, capsys):
    with SmallCollector() as gone:
        spec = gone.spec
    begin = time.monotonic()
    run = start(spec)
    log(run, 100)
    run.end(timeout=0)
    assert time.monotonic() - begin < 10
    delivery = run.stats().delivery
    assert (delivery.acked, delivery.waiting, delivery.connected) == (0, 103, False)
    left = [line for line in capsys.readouterr().err.splitlines() if "103 events of r have not reached" in line]
    assert len(left) == 1
    assert left[0].endswith(f"ship them with: xtrack sync {home} --to {spec}")


def test_the_end_waits_no_longer_than_it_is_told(start, collector):
    collector.acks = False
    run = start(collector.spec, end_timeout=0.3)
    log(run, 10)
    begin = time.monotonic()
    run.end()
    assert 0.3 <= time.monotonic() - begin < 8
    assert run.stats().delivery.waiting == 13


@pytest.mark.parametrize("timeout", ["soon", -1, float("nan")])
def test_a_wrong_timeout_is_told_and_the_default_taken(start, collector, timeout, capsys):
    run = start(collector.spec)
    run.end(timeout=timeout)
    assert run.stats().delivery.acked == 3
    assert "is no number of seconds; 30 is taken" in capsys.readouterr().err


def test_cut_connections_lose_nothing_and_double_nothing(start, collector):
    run = start(collector.spec)
    for part in range(10):
        log(run, 200, part * 200)
        until(lambda upto=part * 200: len(collector.arrived) > upto)
        collector.drop_all()
    run.end()
    assert run.stats().delivery.acked == 2003
    assert values(collector) == [float(step) for step in range(2000)]
    assert run.stats().delivery.connections > 1
    assert not run.stats().warnings  # it was there again in a moment


def test_a_frame_that_was_cut_off_is_no_damage(start, collector):
    run = start(collector.spec)
    assert run.flush("acked")

    def cut_in_a_frame() -> None:
        for connection in list(collector.connections):
            connection.socket.sendall(frame_payload(b'{"type":"pong"}')[:-3])
        collector.drop_all()

    cut_in_a_frame()
    log(run, 10)
    assert run.flush("acked")
    run.end()
    assert run.stats().delivery.connections == 2
    assert not run.stats().warnings


def test_a_port_that_refuses_the_protocol_is_told_at_once(start, collector, capsys):
    refusal = Refusal("protocol_error", "this port speaks TLS: set XTRACK_TLS=1")
    collector.session_options["authenticate"] = lambda auth: refusal
    run = start(collector.spec, quiet=False)
    log(run, 1)
    until(lambda: run.stats().warnings)
    assert "this port speaks TLS: set XTRACK_TLS=1 (protocol_error). Events are kept" in capsys.readouterr().err


def test_a_collector_that_was_restored_from_a_backup(start, collector):
    run = start(collector.spec)
    log(run, 100)
    assert run.flush("acked")
    (stream,) = collector.events
    collector.forget(stream, 40)
    assert collector.seqs() == list(range(1, 41))
    log(run, 10, 100)
    run.end()
    assert collector.seqs() == list(range(1, 114))


def test_refused_events(start, collector, home):
    collector.rejects = {5: "seq_conflict", 7: "out_of_range"}
    run = start(collector.spec)
    log(run, 10)
    assert not run.flush("acked")  # two are not committed, and never will be
    assert run.stats().delivery.rejected == {"seq_conflict": 1, "out_of_range": 1}
    assert run.stats().delivery.acked == 10
    (stream,) = collector.events
    collector.rejects = {}
    collector.forget(stream, 3)
    log(run, 1)
    until(lambda: 13 in collector.seqs())
    assert not {5, 7} & set(collector.seqs())  # never sent again, but declared
    assert [(first, last) for _, first, last, _ in collector.skipped] == [(5, 5), (7, 7)]
    run.end()
    assert not run.flush("acked")
    note = read_note(lane_of(run).run_dir, stream)
    assert note is not None
    assert sorted(note.rejected) == [(5, "seq_conflict"), (7, "out_of_range")]


def test_a_stream_that_is_held(start, collector, capsys):
    run = start(collector.spec)
    assert run.flush("acked")
    (stream,) = collector.events
    collector.on_each(lambda session: session.hold_stream(stream, "the disk is full"))
    until(lambda: run.stats().warnings)
    log(run, 10)
    assert not run.flush("acked", 0.1)
    assert run.stats().delivery.problem == "the disk is full"
    assert len(collector.seqs()) == 2
    collector.on_each(lambda session: session.accept_stream(stream, 2))
    assert run.flush("acked")
    assert run.stats().delivery.problem == ""
    assert "takes no events for now: the disk is full" in capsys.readouterr().err


def test_small_windows(start, home):
    limits = CollectorLimits(window_events=3, window_bytes=400)
    with SmallCollector(limits=limits) as collector:
        run = start(collector.spec)
        log(run, 300)
        run.end()
        assert len(collector.seqs()) == 303


def test_what_the_collector_takes_no_frame_for_is_declared(start):
    with SmallCollector(limits=CollectorLimits(max_frame=65536)) as collector:
        run = start(collector.spec)
        run.log("x" * 100_000)
        run.log("short")
        run.end()
        assert collector.seqs() == [1, 2, 4, 5]
        assert [item[1:3] for item in collector.skipped] == [(3, 3)]
        assert run.stats().delivery.rejected == {"frame_too_large": 1}


def test_a_key_that_is_mended_while_it_runs(start, home, tmp_path, capsys):
    good = "xtk_1_" + "b" * 43

    def authenticate(auth: Any) -> object:
        return "me" if auth is not None and auth.key == good else Refusal("unauthorized", "no such key")

    file = tmp_path / "key"
    file.write_text("xtk_1_" + "a" * 43)
    file.chmod(0o600)
    with SmallCollector(authenticate=authenticate) as collector:
        run = start(collector.spec, key_file=file)
        log(run, 10)
        until(lambda: run.stats().warnings)
        assert "the key was not accepted" in run.stats().delivery.problem
        file.write_text(good)
        assert run.flush("acked", 60)
        assert len(collector.seqs()) == 12
    error = capsys.readouterr().err
    assert "Set XTRACK_KEY or XTRACK_KEY_FILE" in error
    assert "xtk_" not in error


def test_a_run_that_the_key_does_not_cover(start, collector, capsys):
    collector.forbids = {"r"}
    run = start(collector.spec)
    until(lambda: run.stats().warnings)
    assert "this key may not write to run 'r' (forbidden)" in capsys.readouterr().err
    collector.forbids = set()
    assert run.flush("acked", 60)


def test_a_sender_that_is_fenced_stops_for_good(start, collector, capsys):
    run = start(collector.spec)
    assert run.flush("acked")
    (stream,) = collector.events
    collector.on_each(lambda session: session.fence(stream))
    until(lambda: run.stats().warnings)
    log(run, 10)
    accepted = collector.accepted
    assert not run.flush("acked", 5)  # returns at once: it can't come
    assert "fenced" in run.stats().delivery.problem
    time.sleep(0.5)
    assert collector.accepted == accepted
    assert "another sender has taken over this stream" in capsys.readouterr().err


def test_retry_after_is_obeyed(start):
    answers = [Refusal("busy", "too many", 1.0)]

    def authenticate(_: Any) -> object:
        return answers.pop() if answers else "me"

    with SmallCollector(authenticate=authenticate) as collector:
        begin = time.monotonic()
        run = start(collector.spec)
        assert run.flush("acked")
        assert time.monotonic() - begin >= 1.0
        assert collector.accepted == 2


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (welcome_frame(max_frame=1000), "fewer than 65536"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it speaks HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "it speaks SSH"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS, and XTRACK_TLS is off"),
    ],
)
def test_a_peer_that_is_no_collector(start, answer, problem):
    """Told, and tried again, slowly."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        run = start(f"tcp://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()
        until(lambda: problem in run.stats().delivery.problem)


def test_a_collector_that_is_silent_for_long_is_left(start, collector, monkeypatch):
    import functools

    from xtrack_protocol.sender import shipper

    monkeypatch.setattr(shipper, "EmitterSession", functools.partial(EmitterSession, ping_after=0.1, idle_after=0.4))
    run = start(collector.spec)
    assert run.flush("acked")
    collector.is_deaf = True
    until(lambda: "nothing has come for" in run.stats().delivery.problem)
    collector.is_deaf = False
    log(run, 10)
    assert run.flush("acked")


# ---------------------------------------------------------------------------------------------- commands


def test_commands_and_answers(start, collector):
    run = start(collector.spec)
    assert run.flush("acked")
    collector.send_command(Command("c1", "pause"))
    collector.send_command(Command("c2", "stop", run_id="r"))
    collector.send_command(Command("c3", "stop", run_id="another"))
    seen: list[str] = []
    until(lambda: (seen.extend(command.command_id for command in run.commands()), len(seen) == 2)[1])
    assert run.should_stop
    until(lambda: len(collector.results) == 2)
    assert [(result.command_id, result.status, result.run_id) for result in collector.results] == [
        ("c1", "ok", "r"),
        ("c2", "ok", "r"),
    ]


def test_an_answer_waits_for_the_next_connection(start, collector):
    run = start(collector.spec)
    assert run.flush("acked")
    collector.send_command(Command("c1", "pause"))
    until(lambda: run._out.transport._commands)
    collector.drop_all()
    assert [command.command_id for command in run.commands()] == ["c1"]
    until(lambda: [result.command_id for result in collector.results] == ["c1"])


def test_commands_through_the_mailbox_work_too(start, collector, home):
    from xtrack_protocol.spool import SpoolDir
    from xtrack_protocol.spool.mailbox import post, wait_for_answers

    run = start(collector.spec)
    folder = SpoolDir(home).mailbox("r")
    post(folder, Command("m1", "pause"))
    seen: list[str] = []
    until(lambda: (seen.extend(command.command_id for command in run.commands()), seen)[1])
    assert [answer.command_id for answer in wait_for_answers(folder, "m1", expected=1, timeout=20)] == ["m1"]
    assert not collector.results


# ---------------------------------------------------------------------------------------------- what stays behind


def test_the_note_beside_the_segments(start, collector, home):
    run = start(collector.spec)
    log(run, 10)
    assert run.flush("acked")
    run.end()
    (stream,) = collector.events
    note = read_note(lane_of(run).run_dir, stream)
    assert note is not None
    assert (note.to, note.acked, note.durability, note.buffer) == (collector.spec, 13, "power", True)


def test_a_spool_that_may_be_the_collectors_own_is_no_buffer(start, collector):
    """A collector that knows the stream before anything was sent has it from somewhere: from this folder perhaps."""
    run = start("tcp://127.0.0.1:9")
    log(run, 10)
    stream = run._out.stream
    run.end(timeout=0)
    collector._note(stream, 1, 8)
    from xtrack_protocol.sender.sync import Syncer
    from xtrack_protocol.spool import SpoolDir

    assert read_note(lane_of(run).run_dir, stream).buffer
    report = Syncer(SpoolDir(run._out.transport.root), collector.endpoint).sync()
    assert report.is_complete
    assert not read_note(lane_of(run).run_dir, stream).buffer


def test_several_runs_in_a_process(start, collector):
    runs = [start(collector.spec, f"r{number}") for number in range(5)]
    for step in range(100):
        for run in runs:
            log(run, 1, step)
    for run in runs:
        run.end()
    assert {stream.run_id: len(events) for stream, events in collector.events.items()} == {
        f"r{number}": 103 for number in range(5)
    }


def test_many_threads(start, collector):
    run = start(collector.spec)
    threads = [threading.Thread(target=log, args=(run, 200, number * 200)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.end()
    assert sorted(values(collector)) == [float(step) for step in range(1600)]


def test_attached_runs_are_shipped_too(start, collector, home):
    from xtrack_protocol.emitter import Tracker
    from xtrack_protocol.settings import Settings

    run = Tracker.attach("elsewhere", transport=collector.spec, settings=Settings(dir=home))
    run.set_tags({"a": "b"})
    run.end()
    assert collector.seqs(StreamId("elsewhere", "", run.session_id)) == [1]


def test_a_large_event_does_not_wait_for_an_ack(start, tmp_path):
    """What the peer's slowness kept back goes on when it reads again, though it says nothing."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "c"))
        listening.listen()
        run = start(f"unix:{tmp_path / 'c'}")
        for letter in "ab":
            run.log(letter * 900_000)
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(5.0)
            decoder = FrameDecoder()
            kinds = []
            while kinds != ["hello", "open"]:
                kinds += [frame.envelope.event_type for frame in decoder.feed(connection.recv(65536)) if frame.envelope]
                if kinds == ["hello"]:
                    connection.sendall(welcome_frame())
            connection.sendall(encode_frame(Envelope.of(Ack(0, "ok"), seq=0, timestamp_us=1)))
            time.sleep(0.3)  # the first of the two fills the socket, and the second waits
            kinds.clear()
            while kinds.count("log") < 2:
                kinds += [frame.envelope.event_type for frame in decoder.feed(connection.recv(65536)) if frame.envelope]
