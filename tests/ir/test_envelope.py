"""Events as values: frozen, matched by pattern, made by Envelope.of."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from strategies import PAYLOADS, envelopes, same

import xtrack_protocol.ir as ir
from xtrack_protocol.ir import (
    CONTROL_TYPES,
    ENVELOPES,
    Envelope,
    EventMeta,
    LogEntry,
    Metric,
    Param,
    Ping,
    RunId,
    RunStart,
    UnknownEnvelope,
    UnknownEvent,
    WireStruct,
    run_id_text,
)


def structs() -> list[type]:
    found = [cls for cls in vars(ir).values() if isinstance(cls, type) and issubclass(cls, WireStruct)]
    return [*found, *ENVELOPES.values()]


def test_every_type_of_the_protocol_is_there() -> None:
    published = {"run_start", "run_end", "param", "metric", "metric_batch", "artifact", "checkpoint", "status", "log"}
    published |= {"command", "ack"}
    added = {"tags", "alert", "summary", "hello", "welcome", "reject", "open", "skip", "ping", "pong", "subscribe"}
    added |= {"unsubscribe", "command_result"}
    assert ENVELOPES.keys() == published | added
    assert ENVELOPES.keys() > CONTROL_TYPES
    assert not {"run_start", "metric", "log", "tags"} & CONTROL_TYPES


@pytest.mark.parametrize("cls", structs(), ids=lambda cls: cls.__name__)
def test_structs_are_frozen_and_strict(cls: type) -> None:
    config = cls.__struct_config__  # type: ignore[attr-defined]
    assert config.frozen
    assert not config.gc
    assert config.omit_defaults
    assert config.forbid_unknown_fields
    if cls not in ENVELOPES.values():
        assert cls.__doc__
        assert "spec: " in cls.__doc__ or cls in {WireStruct, UnknownEnvelope}


def test_all_names_are_exported() -> None:
    assert set(ir.__all__) <= set(vars(ir))
    assert sorted(set(ir.__all__)) == sorted(ir.__all__)


@given(envelopes())
def test_envelopes_are_values(envelope: Envelope) -> None:
    for again in (copy.copy(envelope), copy.deepcopy(envelope), pickle.loads(pickle.dumps(envelope))):
        assert same(again, envelope)
    assert envelope.version == 1
    assert isinstance(envelope.meta, EventMeta)
    assert repr(envelope).startswith(type(envelope).__name__)
    with pytest.raises(AttributeError):
        envelope.meta.seq = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        envelope.payload = None  # type: ignore[assignment,misc]
    if not isinstance(envelope, UnknownEnvelope):
        assert ENVELOPES[envelope.event_type] is type(envelope)


@pytest.mark.parametrize("event_type", sorted(PAYLOADS))
def test_event_type_is_the_wires(event_type: str) -> None:
    cls = ENVELOPES[event_type]
    assert cls.__struct_config__.tag == event_type
    assert cls.__struct_fields__ == ("version", "meta", "payload")
    assert cls.__struct_encode_fields__ == ("v", "m", "p")


def describe(envelope: Envelope) -> Any:
    match envelope:
        case Envelope(payload=Metric(key="loss", value=value, step=step)):
            return "loss", value, step
        case Envelope(payload=Metric(run_id=RunId(id=run), key=key)):
            return run, key
        case Envelope(payload=UnknownEvent(event_type=kind), meta=EventMeta(seq=seq)):
            return kind, seq
        case Envelope(payload=LogEntry(level="error" | "warning" as level, message=message)):
            return level, message
        case _:
            return None


def test_pattern_matching() -> None:
    def of(payload: Any) -> Envelope:
        return Envelope.of(payload, seq=3, timestamp_us=1)

    assert describe(of(Metric("r", "loss", 0.5, 7))) == ("loss", 0.5, 7)
    assert describe(of(Metric(RunId("r"), "acc", 1))) == ("r", "acc")
    assert describe(of(UnknownEvent("energy", {}))) == ("energy", 3)
    assert describe(of(LogEntry("r", "error", "m"))) == ("error", "m")
    assert describe(of(LogEntry("r", "info", "m"))) is None


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (Metric("r", "k", 1), "r"),
        (Metric(RunId("r", "e"), "k", 1), "r"),
        (Metric("", "k", 1), ""),
        (Ping(), None),
        (ir.Ack(1, "ok"), None),
        (ir.Ack(1, "ok", run_id="r"), "r"),
        (UnknownEvent("x", {"run_id": "r"}), "r"),
        (UnknownEvent("x", {"run_id": {"id": "r"}}), "r"),
        (UnknownEvent("x", {"run_id": 5}), None),
        (UnknownEvent("x", [1]), None),
        (UnknownEvent("x", {}), None),
    ],
)
def test_run_id_of_any_form(payload: Any, expected: str | None) -> None:
    assert Envelope.of(payload, seq=1, timestamp_us=1).run_id == expected


def test_run_id_text() -> None:
    assert run_id_text("r") == run_id_text(RunId("r", "e", "p")) == "r"


@pytest.mark.parametrize("payload", [None, {}, "metric", RunId("r"), EventMeta(1, 1), Envelope])
def test_envelope_of_takes_payloads_only(payload: Any) -> None:
    with pytest.raises(TypeError, match="is no event"):
        Envelope.of(payload, seq=1, timestamp_us=1)


def test_empty_ids_are_none() -> None:
    meta = Envelope.of(Ping(), seq=0, timestamp_us=0, worker_id="", session_id="").meta
    assert (meta.worker_id, meta.session_id) == (None, None)


def test_param_path() -> None:
    assert Param("r", "k", 1).path == "k"
    assert Param("r", "optimizer", 1, ["lr", "x.y"]).path == "optimizer.lr.x.y"


def test_defaults_are_not_shared() -> None:
    first, second = RunStart("r"), RunStart("r")
    first.tags["a"] = "b"
    assert second.tags == {}


def test_same_tells_types_zeros_and_nan_apart() -> None:
    assert same(Metric("r", "k", math.nan), Metric("r", "k", float("nan")))
    assert not same(Metric("r", "k", 1), Metric("r", "k", 1.0))
    assert not same(Metric("r", "k", 0.0), Metric("r", "k", -0.0))


def test_structs_convert_by_wire_names() -> None:
    assert msgspec.to_builtins(EventMeta(1, 2, "w", "s")) == {"seq": 1, "ts": 2, "wid": "w", "sid": "s"}
