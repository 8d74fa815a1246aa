"""What a run calls before its end."""

from __future__ import annotations

import os
from typing import Any

import pytest
from scripts import Script

from xtrack_protocol.ir import LogEntry, RunEnd
from xtrack_protocol.transport import MemoryTransport


def test_they_are_called_in_order_and_may_log(memory: Any) -> None:
    run = memory.run
    for text in ("first", "second"):
        run.call_at_end(lambda text=text: run.log(text))
    run.end()
    run.end()
    *_, first, second, end = [event.payload for event in memory.transport.events]
    assert isinstance(first, LogEntry)
    assert isinstance(end, RunEnd)
    assert (first.message, second.message) == ("first", "second")
    run.call_at_end(lambda: pytest.fail("called after the end"))
    run.end()


def test_what_they_raise_is_counted_and_the_others_are_called(memory: Any, capsys: Any) -> None:
    run, called = memory.run, []

    def broken() -> None:
        raise RuntimeError("no more")

    run.call_at_end(broken)
    run.call_at_end(lambda: called.append(1))
    run.end()
    assert called == [1]
    assert run.stats().refused == 1
    assert "call_at_end failed: RuntimeError: no more" in capsys.readouterr().err
    assert isinstance(memory.transport.events[-1].payload, RunEnd)


def test_ctrl_c_stops_them_and_the_run_ends_all_the_same(memory: Any) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    memory.run.call_at_end(interrupted)
    memory.run.call_at_end(lambda: pytest.fail("called after Ctrl-C"))
    memory.run.end()
    assert memory.transport.events[-1].payload.status == "completed"


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit()])
def test_what_is_no_error_goes_on_and_the_run_ends_all_the_same(memory: Any, error: BaseException) -> None:
    def leaving() -> None:
        raise error

    memory.run.call_at_end(leaving)
    with pytest.raises(type(error)):
        memory.run.end()
    assert memory.transport.events[-1].payload.status == "completed"


def test_they_may_end_the_run_themselves(memory: Any) -> None:
    memory.run.call_at_end(memory.run.end)
    memory.run.end("failed", error="x")
    transport: MemoryTransport = memory.transport
    assert [event.payload.status for event in transport.events if isinstance(event.payload, RunEnd)] == ["failed"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_each_process_has_its_own(script: Script, spool: Any) -> None:
    done = script(
        """
        import os
        import xtrack_protocol as xtrack
        run = xtrack.start_run(run_id="r")
        run.call_at_end(lambda: run.log("parent"))
        child = os.fork()
        if not child:
            run.log("hello")
            run.call_at_end(lambda: run.log("child"))
            run.end()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert done.returncode == 0, done.stderr
    streams = [
        [one.payload.message for one in events if isinstance(one.payload, LogEntry)]
        for events in spool.streams().values()
    ]
    assert sorted(streams) == [["hello", "child"], ["parent"]]
