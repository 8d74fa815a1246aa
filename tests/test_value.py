"""Plain values: what they promise is what frozen classes of attrs do, without attrs at the import."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import attrs
import cattrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrack_protocol._value import Value
from xtrack_protocol.emitter import RunStats
from xtrack_protocol.session import StreamId
from xtrack_protocol.settings import Settings
from xtrack_protocol.spool import Segment
from xtrack_protocol.transport import Delivery, StreamInfo
from xtrack_protocol.wire import SegmentHeader

STREAM = StreamId("r", "w", "s")
STATS = RunStats(accepted=1, accepted_bytes=2, dropped=0, refused=0, cut=0, warnings={"a": 1})
VALUES = [
    STREAM,
    StreamInfo(stream=STREAM),
    Delivery(address="a", rejected={"bad": 1}),
    STATS,
    Segment(Path("p"), SegmentHeader("r", "s")),
    Settings(key="secret"),
]


def twin(kind: type[Value], *, order: bool = False) -> type:
    """The class of attrs that ``kind`` would be."""
    fields = {field.name: attrs.field(default=field.default) for field in attrs.fields(kind)}
    return attrs.make_class(kind.__name__, fields, frozen=True, order=order)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_as_those_of_attrs(value):
    kind = type(value)
    assert attrs.has(kind)
    assert [field.name for field in attrs.fields(kind)] == list(kind.__struct_fields__)
    content = attrs.asdict(value, recurse=False)
    assert kind(**content) == value == copy.copy(value) == copy.deepcopy(value) == attrs.evolve(value)
    assert pickle.loads(pickle.dumps(value)) == value
    assert value != content
    assert value != twin(kind)(**content)
    if kind is not Settings:  # whose key is hidden
        assert repr(value) == repr(twin(kind)(**content))
    try:
        expected = hash(tuple(content.values()))
    except TypeError:
        with pytest.raises(TypeError):
            hash(value)
    else:
        assert isinstance(expected, int)
        assert hash(value) == hash(kind(**content))
    name = kind.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(value, name, None)
    with pytest.raises(AttributeError):
        value.other = None


@given(*[st.tuples(*[st.text(max_size=2)] * 3)] * 2)
def test_streams_are_ordered_as_their_fields(one, other):
    a, b = StreamId(*one), StreamId(*other)
    assert (a < b, a <= b, a == b, a > b, a >= b) == (
        one < other,
        one <= other,
        one == other,
        one > other,
        one >= other,
    )
    assert (hash(a) == hash(b)) or one != other
    assert attrs.evolve(a, run_id=other[0]) == StreamId(other[0], *one[1:])
    assert attrs.asdict(a) == dict(zip(("run_id", "worker_id", "session_id"), one, strict=True))
    assert cattrs.structure(cattrs.unstructure(a), StreamId) == a


def test_no_order_where_none_was_asked_for():
    with pytest.raises(TypeError):
        assert Delivery(address="a") < Delivery(address="b")
    with pytest.raises(TypeError):
        assert STREAM < ("r", "w", "s")


def test_a_default_that_is_made_is_made_anew():
    assert Delivery(address="a").rejected == {}
    assert Delivery(address="a").rejected is not Delivery(address="a").rejected


def test_settings_never_show_the_key():
    shown = repr(Settings(key="xtk_abc", port=1))
    assert "xtk_abc" not in shown
    assert "key='***'" in shown
    assert "port=1" in shown
    assert "key=None" in repr(Settings())
    assert ("key", "***") in Settings(key="xtk_abc").__rich_repr__()
    assert "xtk_abc" not in str(Settings(key="xtk_abc").__rich_repr__())
