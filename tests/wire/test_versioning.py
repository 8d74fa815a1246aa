"""Which version, codec and features two peers speak."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrack_protocol.ir import Hello
from xtrack_protocol.wire import Agreement, Disagreement, fallback, negotiate


@pytest.mark.parametrize(
    ("hello", "expected"),
    [
        (Hello([1]), Agreement(1, "json")),
        (Hello([1, 2, 9]), Agreement(1, "json")),
        (Hello([1], ["json"]), Agreement(1, "json")),
        (Hello([1], ["msgpack", "json"]), Agreement(1, "msgpack")),
        (Hello([1], ["json", "msgpack"]), Agreement(1, "json")),
        (Hello([1], ["cbor", "msgpack"]), Agreement(1, "msgpack")),
        (Hello([1], ["cbor"]), Agreement(1, "json")),
        (Hello([1], features=["zip", "acks"]), Agreement(1, "json", ("acks",))),
    ],
)
def test_negotiate(hello: Hello, expected: Agreement) -> None:
    assert negotiate(hello, features=("acks", "later")) == expected


@pytest.mark.parametrize("protocols", [[], [0], [2], [2, 3], [-1]])
def test_no_version_in_common(protocols: list[int]) -> None:
    result = negotiate(Hello(protocols))
    assert isinstance(result, Disagreement)
    assert result.code == "unsupported_version"
    assert "collector 1" in result.message


def test_the_highest_version_in_common() -> None:
    for theirs in itertools.permutations([1, 2, 3, 5]):
        assert negotiate(Hello(list(theirs)), versions=(1, 2, 3, 4)) == Agreement(3, "json")


@given(
    st.lists(st.sampled_from(["json", "msgpack", "cbor", ""])),
    st.permutations(["json", "msgpack"]).flatmap(lambda names: st.integers(1, 2).map(lambda n: names[:n])),
    st.lists(st.sampled_from("abc")),
    st.lists(st.sampled_from("abc"), unique=True),
)
def test_only_what_both_know(theirs: list[str], ours: list[str], asked: list[str], had: list[str]) -> None:
    result = negotiate(Hello([1], theirs, asked), codecs=ours, features=had)  # type: ignore[arg-type]
    assert isinstance(result, Agreement)
    assert result.codec == "json" or (result.codec in theirs and result.codec in ours)
    assert set(result.features) == set(asked) & set(had)
    assert len(set(result.features)) == len(result.features)


def test_fallback_is_the_published_protocol() -> None:
    assert fallback() == Agreement(1, "json", ())
