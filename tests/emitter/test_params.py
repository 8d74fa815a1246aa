"""Hyperparameters, tags, fields and meta data of all kinds."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime as dt
import enum
import math
import pathlib
import types
from typing import Any, ClassVar, NamedTuple

import attrs
import pytest
from emitter_values import Array, Hostile, HostileAttributes, HostileMapping, Scalar

from xtrack_protocol.emitter.values import Converter, flatten_params
from xtrack_protocol.ir import Artifact, LogEntry, Param, Tags


@dataclasses.dataclass
class Optimizer:
    lr: float
    betas: tuple[float, float] = (0.9, 0.99)
    kind: ClassVar[str] = "not a field"


@dataclasses.dataclass
class HalfMade:
    given: int
    missing: int = dataclasses.field(init=False)


@attrs.define
class Schedule:
    warmup: int


class Point(NamedTuple):
    x: int
    y: int


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Endless(dict):  # type: ignore[type-arg]
    """Holds itself at two keys: two to the power of its depth leaves on paper."""

    def __init__(self) -> None:
        super().__init__()
        self["a"] = self["b"] = self


def flat(params: Any) -> dict[str, Any]:
    return {".".join((key, *below)): value for key, below, value in flatten_params(params)}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"lr": 0.1}, {"lr": 0.1}),
        ({"opt": {"lr": 0.1, "deep": {"x": None}}}, {"opt.lr": 0.1, "opt.deep.x": None}),
        ({}, {}),
        ({"empty": {}}, {"empty": {}}),
        ({"a": {"b": {}}}, {"a.b": {}}),
        ({1: "one", None: "none", (1, 2): "pair"}, {"1": "one", "None": "none", "(1, 2)": "pair"}),
        ({"list": [{"a": 1}]}, {"list": [{"a": 1}]}),
        (argparse.Namespace(lr=0.1, sub=argparse.Namespace(x=1)), {"lr": 0.1, "sub.x": 1}),
        (types.SimpleNamespace(a=1), {"a": 1}),
        ({"ns": types.SimpleNamespace(a=1)}, {"ns.a": 1}),
        (Optimizer(0.1), {"lr": 0.1, "betas": (0.9, 0.99)}),
        ({"opt": Optimizer(0.1)}, {"opt.lr": 0.1, "opt.betas": (0.9, 0.99)}),
        (HalfMade(1), {"given": 1}),
        (Schedule(5), {"warmup": 5}),
        ({"p": Point(1, 2)}, {"p.x": 1, "p.y": 2}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
        ({"a\ud800": {"b\ud800": 1}}, {"a\\ud800.b\\ud800": 1}),
    ],
)
def test_flattening(params: Any, expected: dict[str, Any]) -> None:
    assert flat(params) == expected


def test_objects_with_attributes() -> None:
    class Config:
        def __init__(self) -> None:
            self.lr = 0.1

    assert flat(Config()) == {"lr": 0.1}


@pytest.mark.parametrize("params", [None, 5, "lr", b"lr", [("a", 1)], Optimizer, object(), {1, 2}])
def test_what_has_no_names(params: Any) -> None:
    with pytest.raises(TypeError, match="names with values"):
        flatten_params(params)


def test_cycles_and_depth() -> None:
    assert len(flatten_params(Endless())) == 2
    cycle: dict[str, Any] = {"x": 1}
    cycle["self"] = cycle
    assert [name for name, _, _ in flatten_params(cycle)] == ["x", "self"]
    deep: dict[str, Any] = {"leaf": 1}
    for _ in range(200):
        deep = {"d": deep}
    ((_, below, rest),) = flatten_params(deep)
    assert len(below) < 60
    assert isinstance(rest, dict)


def test_shared_values_do_not_explode() -> None:
    tree: Any = {"leaf": 1}
    for _ in range(40):
        tree = {"a": tree, "b": tree}
    assert len(flatten_params(tree)) < 11_000
    nested: Any = [1]
    for _ in range(40):
        nested = [nested, nested]
    converter = Converter()
    converter.convert(nested)
    assert converter.replaced


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (None, None),
        (True, True),
        (1, 1),
        (2**70, 2**70),
        (0.5, 0.5),
        ("text", "text"),
        ("\ud800", "\\ud800"),
        ((1, 2), [1, 2]),
        ([1, [2, {"a": (3,)}]], [1, [2, {"a": [3]}]]),
        ({"a": {1: 2}}, {"a": {"1": 2}}),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset("ba"), ["a", "b"]),
        (collections.deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc), "2024-01-02T03:04:05+00:00"),
        (dt.date(2024, 1, 2), "2024-01-02"),
        (Color.RED, "red"),
        (Level.HIGH, 3),
        (Optimizer(0.1), {"lr": 0.1, "betas": [0.9, 0.99]}),
        (Schedule(1), {"warmup": 1}),
        (Point(1, 2), {"x": 1, "y": 2}),
        (Scalar(0.5), 0.5),
        (Array(1, 2.5), [1, 2.5]),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
    ],
)
def test_json(value: Any, json: Any) -> None:
    converter = Converter()
    assert converter.convert(value) == json
    assert converter.replaced == []


@pytest.mark.parametrize(
    "value",
    [
        object(),
        b"bytes",
        memoryview(b"x"),
        1j,
        Hostile(),
        HostileAttributes(),
        HostileMapping(a=1),
        Optimizer,
        len,
        Array(*range(1001)),
        10**5000,
        (number for number in range(3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_json(value: Any) -> None:
    converter = Converter()
    assert isinstance(converter.convert(value), str)
    assert converter.replaced
    # and inside of others, whose neighbours stay what they are
    converter = Converter()
    converted = converter.convert({"bad": [value], "good": 1})
    assert isinstance(converted["bad"][0], str)
    assert converted["good"] == 1


def test_non_finite_numbers_come_back(memory: Any) -> None:
    memory.run.log_param("x", [math.inf, {"deep": -math.inf}])
    assert memory.last == Param("r", "x", [math.inf, {"deep": -math.inf}])


def test_params_on_the_wire(memory: Any) -> None:
    memory.run.log_params({"optimizer": {"lr": 0.1, "extra": {}}, "epochs": 3})
    assert [event.payload for event in memory.sent] == [
        Param("r", "optimizer", 0.1, ["lr"]),
        Param("r", "optimizer", {}, ["extra"]),
        Param("r", "epochs", 3),
    ]


def test_one_param(memory: Any) -> None:
    memory.run.log_param("model", {"layers": 2})
    memory.run.log_param("name", "x")
    assert [event.payload for event in memory.sent] == [Param("r", "model", 2, ["layers"]), Param("r", "name", "x")]


def test_a_repr_is_one_warning_and_takes_its_turn(memory: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """EMT-5: a text that shows it, with one warning; no seq is passed over."""
    for number in range(5):
        memory.run.log_param(f"p{number}", object())
    memory.run.log_metric("loss", 1.0)
    assert [event.meta.seq for event in memory.transport.events] == list(range(1, 9))
    assert memory.sent[0].payload.value.startswith("<object object")
    assert memory.run.stats().warnings == {"repr": 5}
    assert capsys.readouterr().err.count("\n") == 1


def test_tags_fields_and_metadata(memory: Any) -> None:
    run = memory.run
    run.set_tags({"a": 1, 2: None, "\ud800": "\ud800"})
    run.set_tag("k", 0.5)
    run.log("hello", step=3, logger="me", where=pathlib.PurePosixPath("/x"))
    run.log_artifact("s3://bucket/x", "model", metadata={"shape": (1, 2), 3: {4}})
    assert [event.payload for event in memory.sent] == [
        Tags("r", {"a": "1", "2": "None", "\\ud800": "\\ud800"}),
        Tags("r", {"k": "0.5"}),
        LogEntry("r", "info", "hello", "me", 3, {"where": "/x"}),
        Artifact("r", "s3://bucket/x", "model", metadata={"shape": [1, 2], "3": [4]}, upload_strategy="reference"),
    ]
