"""Values of all kinds, as training scripts have them."""

from __future__ import annotations

import importlib.util
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from emitter_values import Array, Hostile, HostileAttributes, Scalar

from xtrack_protocol.emitter.values import NotANumber, brief, describe, to_int64, to_number, to_text


class Index:
    def __index__(self) -> int:
        return 7


class FloatLike:
    def __float__(self) -> float:
        return 0.25


class MyFloat(float):
    pass


class MyInt(int):
    pass


NUMBERS = [
    (1.5, 1.5),
    (3, 3),
    (True, 1),
    (False, 0),
    (Scalar(0.5), 0.5),
    (Scalar(2), 2),
    (Scalar(True), 1),
    (Array(4.0), 4.0),
    (Decimal("0.1"), 0.1),
    (Fraction(1, 4), 0.25),
    (Index(), 7),
    (FloatLike(), 0.25),
    (MyFloat(2.5), 2.5),
    (MyInt(5), 5),
    (2**53 + 1, 2**53 + 1),
    (2**63 - 1, 2**63 - 1),
    (-(2**63), -(2**63)),
    (2**63, float(2**63)),
    (10**300, 1e300),
    (Scalar(2**70), float(2**70)),
    (math.inf, math.inf),
    (-math.inf, -math.inf),
    (-0.0, -0.0),
    (Decimal("-Infinity"), -math.inf),
]


@pytest.mark.parametrize(("value", "number"), NUMBERS)
def test_numbers(value: Any, number: float) -> None:
    result = to_number(value)
    assert (repr(result), type(result) in {int, float}) == (repr(number), True)


@pytest.mark.parametrize("value", [math.nan, Decimal("NaN"), Scalar(math.nan), MyFloat("nan")])
def test_nan(value: Any) -> None:
    result = to_number(value)
    assert type(result) is float
    assert math.isnan(result)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "0.5",
        b"0.5",
        bytearray(b"1"),
        Scalar("0.5"),
        Scalar(b"1"),
        Scalar(None),
        Array(1.0, 2.0),
        Array(),
        [0.5],
        {},
        object(),
        1j,
        10**400,
        -(10**400),
        Scalar(10**400),
        Decimal("sNaN"),
        Hostile(),
        Hostile(RecursionError),
        HostileAttributes(),
        float,
        lambda: 1.0,
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_numbers(value: Any) -> None:
    with pytest.raises(NotANumber):
        to_number(value)


def test_ctrl_c_in_a_conversion_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        to_number(Hostile(KeyboardInterrupt))


@pytest.mark.parametrize(("value", "number"), [(3, 3), (3.0, 3), (True, 1), (Scalar(4), 4), (Array(5.0), 5)])
def test_whole_numbers(value: Any, number: int) -> None:
    assert to_int64(value) == number
    assert type(to_int64(value)) is int


@pytest.mark.parametrize("value", [1.5, 2**63, -(2**63) - 1, 1e300, math.nan, math.inf, "1", None, Hostile()])
def test_no_whole_numbers(value: Any) -> None:
    with pytest.raises(NotANumber):
        to_int64(value)


class LoudStr(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("é🚀", "é🚀"),
        ("\ud800", "\\ud800"),
        ("a\udfffb", "a\\udfffb"),
        (5, "5"),
        (None, "None"),
        (LoudStr("kept"), "kept"),
        (b"x", "b'x'"),
    ],
)
def test_texts(value: Any, text: str) -> None:
    result = to_text(value)
    assert result == text
    assert type(result) is str
    result.encode()


@pytest.mark.parametrize("error", [ZeroDivisionError, RecursionError, MemoryError, TypeError])
def test_a_repr_that_raises(error: type[Exception]) -> None:
    assert "Hostile" in brief(Hostile(error))
    assert "Hostile" in to_text(Hostile(error))


def test_a_repr_is_bounded() -> None:
    assert len(brief("x" * 10**6)) <= 200
    assert len(brief(list(range(10**6)), 4000)) <= 4000
    endless: Any = []
    for _ in range(60):
        endless = [endless, endless]
    assert len(brief(endless)) <= 200
    assert len(brief(10**5000)) <= 200


def test_an_error_is_described_even_if_it_refuses() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    assert describe(Mute("x")).startswith("Mute: ")
    assert describe(ValueError()) == "ValueError"
    assert describe(ValueError("a\ud800")) == "ValueError: a\\ud800"


@pytest.mark.skipif(importlib.util.find_spec("numpy") is None, reason="numpy isn't installed; stand-ins are tested")
def test_numpy_itself() -> None:
    import numpy as np

    assert to_number(np.float32(0.5)) == 0.5
    assert to_number(np.float64(0.1)) == 0.1
    assert to_number(np.int64(2**62)) == 2**62
    assert to_number(np.bool_(True)) == 1
    assert to_number(np.array(3.0)) == 3.0
    assert to_number(np.array([[7]])) == 7
    assert type(to_number(np.float64(0.1))) is float
    assert to_text(np.str_("x")) == "x"
    with pytest.raises(NotANumber):
        to_number(np.array([1.0, 2.0]))
    with pytest.raises(NotANumber):
        to_number(np.array("3"))
