"""The handler of ``logging``, on the real ``logging``."""

from __future__ import annotations

import io
import logging
import logging.handlers
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import xtrack_protocol as xtrack
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.integrations.logs import XTrackHandler
from xtrack_protocol.ir import LogEntry
from xtrack_protocol.transport import MemoryTransport


@pytest.fixture
def logger(request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    logger = logging.getLogger(f"test.{request.node.name}")
    logger.setLevel(1)
    logger.propagate = False
    yield logger
    for handler in tuple(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def logged(memory: MemoryTransport) -> list[LogEntry]:
    return [event.payload for event in memory.events if isinstance(event.payload, LogEntry)]


@pytest.mark.parametrize(
    ("number", "level"),
    [(1, "debug"), (10, "debug"), (20, "info"), (25, "info"), (30, "warning"), (40, "error"), (50, "error")],
)
def test_levels(run: xtrack.Run, memory: MemoryTransport, logger: logging.Logger, number: int, level: str) -> None:
    logger.addHandler(XTrackHandler(run))
    logger.log(number, "step %d of %d", 3, 10)
    (entry,) = logged(memory)
    assert (entry.level, entry.message, entry.logger_name, entry.step, entry.fields) == (
        level, "step 3 of 10", logger.name, None, {},
    )  # fmt: skip


def test_the_handlers_own_level(run: xtrack.Run, memory: MemoryTransport, logger: logging.Logger) -> None:
    logger.addHandler(XTrackHandler(run, "WARNING"))
    logger.info("no")
    logger.warning("yes")
    assert [entry.message for entry in logged(memory)] == ["yes"]


def test_extra_fields_and_step(run: xtrack.Run, memory: MemoryTransport, logger: logging.Logger) -> None:
    logger.addHandler(XTrackHandler(run))
    logger.info("a", extra={"step": 7, "lr": 0.5, "shape": (2, 3), "level": "L5", "logger": "x", "self": 1})
    logger.info("b", extra={"step": "warm-up"})
    first, second = logged(memory)
    assert first.step == 7
    assert first.fields == {"lr": 0.5, "shape": [2, 3], "level_": "L5", "logger_": "x", "self_": 1}
    assert (second.step, second.fields) == (None, {"step_": "warm-up"})
    assert run.stats().refused == 0


def test_exceptions_are_fields(run: xtrack.Run, memory: MemoryTransport, logger: logging.Logger) -> None:
    logger.addHandler(XTrackHandler(run))
    try:
        raise ValueError("no such file")
    except ValueError:
        logger.exception("can't load")
    logger.info("here", stack_info=True)
    logger.error("nothing was raised", exc_info=True)
    failed, here, nothing = logged(memory)
    assert (failed.level, failed.message) == ("error", "can't load")
    assert failed.fields["exception"] == "ValueError: no such file"
    assert "test_exceptions_are_fields" in failed.fields["traceback"]
    assert "test_exceptions_are_fields" in here.fields["stack"]
    assert nothing.fields == {}


def test_a_formatter_makes_the_message(run: xtrack.Run, memory: MemoryTransport, logger: logging.Logger) -> None:
    handler = XTrackHandler(run)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        raise ValueError("x")
    except ValueError:
        logger.exception("y")
    (entry,) = logged(memory)
    assert entry.message.startswith("ERROR y\nTraceback")
    assert entry.fields == {}


def test_the_formatter_of_basic_config_is_none(
    run: xtrack.Run, memory: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "root", logging.RootLogger(logging.WARNING))
    logging.basicConfig(level="INFO", handlers=[XTrackHandler(run)])
    logging.root.info("as it was said")
    assert logged(memory)[0].message == "as it was said"


def test_the_current_run_is_looked_up_at_each_record(
    memory: MemoryTransport, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("xtrack_protocol.emitter.current._runs", [])
    logger.addHandler(XTrackHandler())
    logger.info("before")
    with xtrack.start_run(transport=memory, quiet=True) as run:
        logger.info("during")
    logger.info("after")
    assert [entry.message for entry in logged(memory)] == ["during"]
    assert run.stats().refused == 0
    assert capsys.readouterr().err == ""


def test_a_run_that_has_ended(memory: MemoryTransport, logger: logging.Logger) -> None:
    run = xtrack.Tracker.start_run(transport=memory, quiet=True)
    logger.addHandler(XTrackHandler(run))
    run.end()
    logger.info("after")
    assert logged(memory) == []
    assert run.stats().refused == 0


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigurationError, match="is no run"):
        XTrackHandler("run-1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="LOUD"):
        XTrackHandler(level="LOUD")


def test_what_cannot_be_formatted_does_not_raise(
    run: xtrack.Run, memory: MemoryTransport, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    handler = XTrackHandler(run)  # not by the logger: pytest's own handler would raise
    for message, arguments, extra in (("%d", ("x",), None), ("fine", (), {"o": Broken()}), ("%s", (Broken(),), None)):
        handler.handle(logger.makeRecord("x", logging.INFO, "f.py", 1, message, arguments, None, extra=extra))
    assert [entry.message for entry in logged(memory)] == ["fine"]
    assert "--- Logging error ---" in capsys.readouterr().err


def test_a_record_that_is_logged_by_logging_is_not_logged_again(
    run: xtrack.Run, memory: MemoryTransport, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = xtrack.Run.log

    def log(self: xtrack.Run, message: str, **options: Any) -> None:
        logger.info("a listener heard %s", message)
        original(self, message, **options)

    monkeypatch.setattr(xtrack.Run, "log", log)
    logger.addHandler(XTrackHandler(run))
    logger.info("once")
    assert [entry.message for entry in logged(memory)] == ["once"]


def test_many_threads(run: xtrack.Run, memory: MemoryTransport, logger: logging.Logger) -> None:
    logger.addHandler(XTrackHandler(run))

    def work(number: int) -> None:
        for place in range(200):
            logger.info("%d", number * 200 + place)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(entry.message) for entry in logged(memory)) == list(range(1600))


def test_records_of_other_processes(run: xtrack.Run, memory: MemoryTransport, logger: logging.Logger) -> None:
    """As ``QueueHandler`` prepares them to be pickled: formatted, the exception as a text."""
    handler = XTrackHandler(run)
    try:
        raise ValueError("there")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
        record = logger.makeRecord("far", logging.ERROR, "f.py", 1, "bad", (), info)
    record.exc_text, record.exc_info = logging.Formatter().formatException(info), None
    handler.handle(record)
    (entry,) = logged(memory)
    assert (entry.logger_name, entry.message, entry.fields["exception"]) == ("far", "bad", "ValueError: there")


def test_it_stands_beside_other_handlers(run: xtrack.Run, memory: MemoryTransport, logger: logging.Logger) -> None:
    text = io.StringIO()
    logger.addHandler(XTrackHandler(run))
    logger.addHandler(logging.StreamHandler(text))
    logger.warning("both")
    assert (text.getvalue(), logged(memory)[0].message) == ("both\n", "both")
