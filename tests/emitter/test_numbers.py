"""Numbers by the short way are the numbers by the long one, byte for byte, and what is none takes the long one."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from typing import Any

import pytest
from emitter_values import Scalar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtrack_protocol.emitter import Run, Tracker
from xtrack_protocol.limits import INT64_MAX, INT64_MIN
from xtrack_protocol.transport import MemoryTransport
from xtrack_protocol.wire import decode, encode

INTS = st.one_of(
    st.integers(-3, 3),
    st.integers(INT64_MIN - 2, INT64_MAX + 2),
    st.sampled_from([INT64_MIN, INT64_MAX, 2**30 - 1, 2**30, 2**64, 10**400]),
)


class OddFloat(float):
    """As numpy's float64."""


class OddInt(int):
    """As an IntEnum's member."""


class OddText(str):
    """As numpy's str_."""

    __slots__ = ()


TEXTS = st.one_of(
    st.text(max_size=6), st.text(st.characters(), max_size=4), st.sampled_from(["loss", "null", "\ud800", '"'])
)
VALUES = st.one_of(
    st.floats(),
    INTS,
    st.booleans(),
    st.none(),
    st.text(max_size=2),
    st.floats().map(OddFloat),
    st.integers(0, 9).map(OddInt),
    st.floats().map(Scalar),
    st.floats(width=32),
)
STEPS = st.one_of(st.none(), INTS, st.booleans(), st.floats(), st.text(max_size=2), st.integers(0, 9).map(OddInt))
KEYS = st.one_of(TEXTS, TEXTS.map(OddText), st.integers(0, 3), st.none())
OPTIONS = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {},
        optional={
            "epoch": STEPS,
            "phase": st.sampled_from(["train", "val", 3]),
            "batch_size": STEPS,
            "dataset_size": STEPS,
            "agg": st.sampled_from([None, "mean"]),
            "timestamp_us": st.one_of(st.none(), st.integers(0, 2**50), st.just("soon")),
        },
    ),
)


class Pair:
    """Two runs that are told the same; one of them knows only the long way."""

    def __init__(self) -> None:
        self.transports = (MemoryTransport(), MemoryTransport())
        self.short, self.long = (
            Tracker.start_run(run_id="r", worker_id="w", transport=transport, quiet=True)
            for transport in self.transports
        )
        self.long._emit_numbers = lambda _kind, _payload: None  # type: ignore[method-assign,assignment]
        self.long._check.finite_floats = lambda _values: None  # type: ignore[method-assign]

    def both(self, call: str, *arguments: Any, **options: Any) -> list[dict[str, Any]]:
        """Make a call on each; return the events that came, the same of both but for time and session."""
        before = [len(transport.payloads) for transport in self.transports]
        for run in (self.short, self.long):
            getattr(run, call)(*arguments, **options)
        found = []
        for run, transport, count in zip((self.short, self.long), self.transports, before, strict=True):
            events = []
            for payload in transport.payloads[count:]:
                envelope = decode(payload)
                assert encode(envelope) == payload
                assert envelope.meta.session_id == run.session_id
                events.append((envelope.event_type, envelope.meta.seq, envelope.meta.worker_id, repr(envelope.payload)))
            found.append((events, run.stats().refused, run.stats().warnings, run.events_logged))
        assert found[0] == found[1]
        return found[0][0]  # type: ignore[return-value]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XTRACK_QUIET", "1")
        made = Pair()
        yield made
        made.short.end()
        made.long.end()


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(KEYS, VALUES, STEPS, OPTIONS)
def test_a_number_by_either_way(pair: Pair, key: Any, value: Any, step: Any, options: dict[str, Any]) -> None:
    pair.both("log_metric", key, value, step, **options)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(KEYS, VALUES), max_size=5), STEPS, OPTIONS)
def test_numbers_by_either_way(pair: Pair, metrics: Any, step: Any, options: dict[str, Any]) -> None:
    for _ in range(2):  # the second time, the names are known
        pair.both("log_metrics", dict(metrics), step, **options)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(), min_size=3, max_size=3), st.lists(st.tuples(st.integers(0, 2), VALUES), max_size=2))
def test_known_names_with_values_of_any_kind(pair: Pair, floats: list[float], others: list[tuple[int, Any]]) -> None:
    names = ["a", "b", "c"]
    pair.both("log_metrics", dict.fromkeys(names, 0.5))
    metrics: dict[str, Any] = dict(zip(names, floats, strict=True))
    metrics.update({names[place]: value for place, value in others})
    pair.both("log_metrics", metrics, 7)


def test_known_names_are_known_as_texts_only(pair: Pair) -> None:
    pair.both("log_metrics", {"a": 0.5, "b": 1.5})
    for names in ([OddText("a"), "b"], ["a", OddText("b")], ["b", "a"], ["a", 1], ["a", b"b"], ["a", "\ud800"]):
        pair.both("log_metrics", dict.fromkeys(names, 0.5))
    pair.both("log_metrics", {"null": 0.5})
    assert len(pair.both("log_metrics", {OddText("null"): 0.5}, timestamp_us=5)) == 1


def test_sums_beyond_all_floats_are_no_fault(pair: Pair) -> None:
    huge = {"a": 1.5e308, "b": 1.5e308}
    for metrics in (huge, huge, {"a": math.inf, "b": -math.inf}, {"a": math.nan, "b": 1.0}):
        assert len(pair.both("log_metrics", metrics)) == 1


@pytest.mark.parametrize("call", ["log_metric", "log_metrics"])
@pytest.mark.parametrize("ended", [False, True])
def test_a_wrong_argument_name_raises_as_any_call(spool: Any, call: str, ended: bool) -> None:
    run = Tracker.start_run(transport=MemoryTransport())
    if ended:
        run.end()
    arguments = ("loss", 0.5) if call == "log_metric" else ({"loss": 0.5},)
    with pytest.raises(TypeError, match=rf"Run\.{call}\(\) got an unexpected keyword argument 'setp'"):
        getattr(run, call)(*arguments, setp=3)
    assert run.stats().refused == 0
    run.end()


@pytest.mark.parametrize("call", ["log_metric", "log_metrics"])
def test_the_options_are_those_that_the_type_names(call: str) -> None:
    from xtrack_protocol.emitter.numbers import MetricOptions

    parameters = inspect.signature(getattr(Run, f"_{call}")).parameters
    options = {name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY}
    assert options == set(MetricOptions.__annotations__)


def test_after_the_end_numbers_are_refused_and_told(spool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = Tracker.start_run(transport=MemoryTransport())
    run.log_metrics({"a": 0.5})
    run.end()
    run.log_metric("a", 0.5)
    run.log_metrics({"a": 0.5})
    assert run.stats().refused == 2
    assert "log_metric" in capsys.readouterr().err


def test_a_batch_too_large_for_a_frame_is_split_by_the_short_way_too(spool: Any) -> None:
    run = Tracker.start_run(strict=True)
    metrics = {f"{'n' * 1000}{number}": 0.5 for number in range(1500)}
    for _ in range(2):
        run.log_metrics(metrics, step=1)
    run.log_metric("after", 1.0)
    run.end()
    events = spool.events()
    assert [event.meta.seq for event in events] == list(range(1, len(events) + 1))
    batches = [event.payload.metrics for event in events if event.event_type == "metric_batch"]
    assert sum(map(len, batches)) == 3000
    assert len(batches) == 4
