"""Wrong arguments, of every method and of every kind: never an exception, always a count, at most a line a minute.

A row is a method, the arguments of a good call, and of each argument values that are wrong. spec: EMT-3.1, EMT-3.2
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from emitter_values import Hostile, HostileAttributes, HostileMapping

from xtrack_protocol.emitter import Run, Tracker
from xtrack_protocol.emitter.stream import say
from xtrack_protocol.errors import ConfigurationError, RunEnded
from xtrack_protocol.ir import LogEntry, Metric, MetricBatch, RunEnd
from xtrack_protocol.wire import decode

NO_TEXT = [b"x", 5, None, object(), Hostile(), HostileAttributes()]
NO_NAME = [value for value in NO_TEXT if value is not None]
NO_WHOLE = ["x", 1.5, 2**63, -(2**63) - 1, float("nan"), float("inf"), [1], {}, object(), Hostile()]
NO_NUMBER = ["x", b"1", None, [1.0], {}, object(), 10**400, Hostile(), HostileAttributes()]
NO_MAPPING = [5, "x", [("a", 1)], {1}, object(), Hostile(), HostileMapping(a=1)]
NO_PATH = [None, 5, object(), Hostile(), HostileAttributes()]
NO_CHOICE = ["loud", b"info", None, 5, [], {}, object(), Hostile(), "\ud800"]

CONTEXT = {
    "phase": NO_NAME,
    "batch_size": NO_WHOLE,
    "dataset_size": NO_WHOLE,
    "agg": NO_NAME,
    "epoch": NO_WHOLE,
    "step": NO_WHOLE,
    "timestamp_us": NO_WHOLE,
}

TABLE: list[tuple[str, dict[str, Any], dict[str, list[Any]]]] = [
    ("log_metric", {"key": "k", "value": 1.0}, {"key": NO_TEXT, "value": NO_NUMBER, **CONTEXT}),
    ("log_metrics", {"metrics": {"k": 1.0}}, {"metrics": [*NO_MAPPING, None, {"k": "x"}, {5: 1.0}], **CONTEXT}),
    ("summary", {"values": {"k": 1.0}}, {"values": [*NO_MAPPING, None, {"k": None}]}),
    ("log_param", {"key": "k", "value": 1}, {"key": NO_TEXT}),
    ("log_params", {"params": {"k": 1}}, {"params": [value for value in NO_MAPPING if not isinstance(value, Hostile)]}),
    ("set_tags", {"tags": {"k": "v"}}, {"tags": [*NO_MAPPING, None]}),
    ("set_tag", {"key": "k", "value": "v"}, {"key": NO_TEXT}),
    (
        "log_batch",
        {"metrics": {"k": 1.0}, "params": {"k": 1}, "tags": {"k": "v"}},
        {
            "metrics": [
                *NO_MAPPING,
                [5],
                [{"key": "k"}],
                [{"key": "k", "value": "x"}],
                [{"key": 5, "value": 1.0}],
                *([{"key": "k", "value": 1.0, "step": step}] for step in NO_WHOLE),
                *([{"key": "k", "value": 1.0, "timestamp": when}] for when in NO_WHOLE),
                [{"key": "k", "value": 1.0, "timestamp": 2**62}],
                {"k": "x"},
            ],
            "params": [*(value for value in NO_MAPPING if not isinstance(value, Hostile)), [{"key": 5, "value": 1}]],
            "tags": [*NO_MAPPING, [{"value": 1}]],
        },
    ),
    (
        "log_artifact",
        {"path": "s3://x"},
        {
            "path": NO_PATH,
            "type": NO_NAME,
            "name": NO_NAME,
            "metadata": NO_MAPPING,
            "size": NO_WHOLE,
            "checksum": [5, b"x", object(), Hostile()],
            "upload": ["carrier pigeon", 5, object()],
        },
    ),
    (
        "log_checkpoint",
        {"path": "x.pt", "step": 1},
        {
            "path": NO_PATH,
            "step": [*NO_WHOLE, None],
            "epoch": NO_WHOLE,
            "metrics": [*NO_MAPPING, {"k": "x"}],
            "is_best": [Hostile()],
            "best_key": NO_NAME,
            "metadata": NO_MAPPING,
        },
    ),
    ("log", {"message": "m"}, {"level": NO_CHOICE, "logger": NO_NAME, "step": NO_WHOLE}),
    ("alert", {"title": "t"}, {"level": NO_CHOICE, "key": NO_NAME}),
    (
        "set_status",
        {"status": "training"},
        {
            "status": NO_CHOICE,
            "progress": [5, "ab", (1,), (1, 2, "x", 3), (1, "x"), ("x", 2), (1, 2, 5), object(), Hostile()],
        },
    ),
    ("set_terminated", {"status": "FINISHED"}, {"status": [*NO_CHOICE, "RUNNING"]}),
    ("on_command", {"callback": print}, {"callback": [None, 5, "x"], "type": NO_NAME}),
    ("flush", {}, {"until": NO_CHOICE, "timeout": ["x", None, object(), Hostile()]}),
]

ROWS = [
    pytest.param(method, {**good, name: value}, id=f"{method}-{name}-{type(value).__name__}{number}")
    for method, good, wrong in TABLE
    for name, values in wrong.items()
    for number, value in enumerate(values)
]


@pytest.mark.parametrize(("method", "arguments"), ROWS)
def test_wrong_arguments(
    memory: Any, capsys: pytest.CaptureFixture[str], method: str, arguments: dict[str, Any]
) -> None:
    call: Callable[..., object] = getattr(memory.run, method)
    for _ in range(3):
        call(**arguments)
    stats = memory.run.stats()
    assert stats.refused >= 3
    told = capsys.readouterr().err.splitlines()
    assert len({*told}) == len(told) >= len(stats.warnings) >= 1
    assert all(line.startswith("xtrack: warning: ") for line in told)
    # What is sent all the same is legal, and in order.
    memory.run.log("still here")
    payloads = memory.transport.payloads
    assert [decode(payload, lenient=False).meta.seq for payload in payloads] == list(range(1, len(payloads) + 1))
    assert memory.last == LogEntry("r", "info", "still here")


def test_each_wrong_metric_is_told_of(memory: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """That one metric is wrong tells nobody that another is; at the end stands how many calls had no line."""
    for step in range(3):
        memory.run.log_metric("a", None, step=step)
        memory.run.log_metric("b", [1, 2], step=step)
        memory.run.log_metrics({"c": "x", "d": 1.0}, step=step)
        memory.run.log_metric("d", 1.0, step="five")
    told = capsys.readouterr().err.splitlines()
    assert [next(name for name in ("'a'", "'b'", "'c'", "step=") if name in line) for line in told] == [
        "'a'", "'b'", "'c'", "step=",
    ]  # fmt: skip
    assert memory.run.stats().warnings == {"value": 12}
    memory.run.end()
    assert "8 more calls of r were wrong like those warned of above" in capsys.readouterr().err


def test_wrong_metrics_without_end_have_few_lines(memory: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1000):
        memory.run.log_metric(f"wrong-{number}", None)
    assert 2 <= capsys.readouterr().err.count("\n") <= 20
    assert memory.run.stats().warnings == {"value": 1000}


@pytest.mark.parametrize(("method", "arguments"), ROWS)
def test_wrong_arguments_when_strict(strict: Any, method: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever tells most
        getattr(strict.run, method)(**arguments)
    assert isinstance(caught.value, (TypeError, ValueError, ZeroDivisionError, RuntimeError))
    assert strict.run.stats().refused == 1


@pytest.mark.parametrize(("method", "good"), [(method, good) for method, good, _ in TABLE])
def test_good_calls(strict: Any, method: str, good: dict[str, Any]) -> None:
    getattr(strict.run, method)(**good)
    assert strict.run.stats().refused == 0


END_ROWS = [
    {"status": "finished"},
    {"status": []},
    {"error": "a text"},
    {"error": 5, "status": "failed"},
    {"error": Hostile(), "status": "failed"},
    {"final_metrics": 5},
    {"final_metrics": {"a": "x", "b": 2}},
    {"final_metrics": HostileMapping(a=1)},
]


@pytest.mark.parametrize("arguments", END_ROWS)
def test_an_end_is_an_end(memory: Any, arguments: dict[str, Any]) -> None:
    memory.run.end(**arguments)
    assert isinstance(memory.last, RunEnd)
    assert memory.run.ended


def test_an_exception_that_can_not_be_shown(memory: Any) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    with pytest.raises(Mute), memory.run:
        raise Mute("x")
    assert memory.last.status == "failed"
    assert memory.last.error.type == "Mute"


def test_wrong_numbers_in_a_batch_cost_only_themselves(memory: Any) -> None:
    memory.run.log_metrics({"good": 1.0, "bad": "x", 5: 2.0}, step=2**70)
    assert memory.last == MetricBatch("r", {"good": 1.0, "5": 2.0})
    assert memory.run.stats().refused == 3


def test_a_metric_goes_without_what_is_wrong(memory: Any) -> None:
    memory.run.log_metric("k", 1, step="x", epoch=1.5, batch_size=[1], phase="train")
    assert memory.last.step is None
    assert memory.last.epoch is None
    assert memory.last.context.phase == "train"
    assert memory.last.context.batch_size is None


def test_log_of_a_mapping_names_log_metrics(memory: Any) -> None:
    with pytest.raises(TypeError, match="log_metrics"):
        memory.run.log({"loss": 0.5})
    assert memory.sent == []


def test_a_wrong_signature_raises_as_everywhere(memory: Any) -> None:
    with pytest.raises(TypeError, match="stepp"):
        memory.run.log_metric("k", 1, stepp=3)
    with pytest.raises(TypeError, match="path"):
        memory.run.log_artifact()


def test_lone_surrogates_everywhere(strict: Any) -> None:
    """EMT-5.3: changed, not refused."""
    bad = "a\ud800"
    run = strict.run
    run.log_metric(bad, 1.0)
    run.log_metric(bad, 1, phase=bad, agg=bad)
    run.log_metrics({bad: 1.0})
    run.log_params({bad: {bad: bad}})
    run.set_tags({bad: bad})
    run.log(bad, logger=bad, f=bad)
    run.alert(bad, bad, key=bad)
    run.log_artifact(f"s3://{bad}", bad, name=bad, metadata={bad: [bad]}, checksum=bad)
    run.log_checkpoint(f"s3://{bad}", 1, best_key=bad, metrics={bad: 1.0}, metadata={bad: bad})
    run.set_status("training", bad, progress=(1, 2, bad))
    run.summary({bad: 1.0})
    run.end(error=bad, final_metrics={bad: 1.0})
    assert len(strict.sent) == 12
    assert all(b"\\\\ud800" in payload for payload in strict.transport.payloads[2:])


def test_calls_after_the_end(memory: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run: Run = memory.run
    run.end()
    sent = len(memory.transport.payloads)
    for method, good, _ in TABLE:
        getattr(run, method)(**good)
    run.end()
    assert len(memory.transport.payloads) == sent
    assert run.stats().warnings["ended"] == len(TABLE) - 2  # flush and on_command say nothing of the run
    assert "Tracker.attach('r')" in capsys.readouterr().err


def test_calls_after_the_end_when_strict(strict: Any) -> None:
    strict.run.end()
    with pytest.raises(RunEnded) as caught:
        strict.run.log_metric("k", 1.0)
    assert (caught.value.run_id, caught.value.call) == ("r", "log_metric")


def test_one_line_a_minute_and_kind(
    memory: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("xtrack_protocol.emitter.stream.time.monotonic", lambda: now[0])
    for _ in range(10):
        memory.run.log_metric("k", "x")
        memory.run.log_metric("k", 1, phase=5)
    assert capsys.readouterr().err.count("\n") == 2
    now[0] += 61
    memory.run.log_metric("k", "x\n\x1b[31m")
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "(11 so far)" in err
    assert "\x1b" not in err


def test_what_is_said_has_no_controls_that_turn_or_hide_text(capsys: pytest.CaptureFixture[str]) -> None:
    say("warning: run 'a\u202eb\u2066c\u200bd\r\x85\x1b[31m' is no run\n")
    written = "xtrack: warning: run 'a\\u202eb\\u2066c\\u200bd\\r\\x85\\x1b[31m' is no run\\n\n"
    assert capsys.readouterr().err == written


def test_a_run_is_not_pickled(memory: Any) -> None:
    import pickle

    with pytest.raises(TypeError, match=r"Tracker.attach\('r'\)"):
        pickle.dumps(memory.run)


def test_metrics_are_what_was_logged(strict: Any) -> None:
    strict.run.log_metric("loss", 0.5, step=3, epoch=1, phase="val", batch_size=32, dataset_size=9, agg="mean")
    metric = strict.last
    assert isinstance(metric, Metric)
    assert (metric.key, metric.value, metric.step, metric.epoch) == ("loss", 0.5, 3, 1)
    assert metric.context is not None
    assert (metric.context.phase, metric.context.batch_size, metric.context.agg) == ("val", 32, "mean")
    strict.run.log_metric("loss", 0.5, timestamp_us=5)
    assert strict.sent[-1].meta.timestamp_us == 5
    for size in range(600):  # more contexts than are remembered
        strict.run.log_metric("loss", 0.5, batch_size=size)
        assert strict.last.context.batch_size == size


@pytest.mark.parametrize("call", [Tracker.start_run, lambda **given: Tracker.attach("r", **given)])
def test_a_wrong_transport_is_named_as_the_argument_that_it_is(spool: Any, call: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^transport='tcps': no such transport\. Known: local"):
        call(transport="tcps")
    with pytest.raises(ConfigurationError, match=r"^transport=7: must be a name, as in local, .*, or a Transport"):
        call(transport=7)
    assert spool.streams() == {}


def test_a_run_whose_start_strict_mode_refuses_is_not_left_open(spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="names with values"):
        Tracker.start_run(run_id="params", strict=True, params=5)
    monkeypatch.setenv("XTRACK_SIGNALS", "TERM=end")
    with ThreadPoolExecutor() as pool, pytest.raises(ConfigurationError, match="only the main thread"):
        pool.submit(Tracker.start_run, run_id="signals", strict=True).result()
    for run_id, kind in (("params", "TypeError"), ("signals", "ConfigurationError")):
        state = spool.state(run_id)
        assert (state.status, state.error.type) == ("failed", kind)
