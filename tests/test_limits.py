"""Bounds: their values are part of the protocol."""

from __future__ import annotations

import attrs
import pytest

from xtrack_protocol import limits
from xtrack_protocol.limits import FILE_LIMITS, FRAME_HARD_MAX, SOCKET_LIMITS, DecodeLimits


def test_values_that_the_specification_names() -> None:
    assert limits.FRAME_HARD_MAX == limits.FRAME_MAX_FILE == 16_777_215
    assert limits.FRAME_MAX_SOCKET == limits.FRAME_MAX_EMIT == 1_048_576
    assert limits.DEPTH_MAX == 64
    assert (limits.INT64_MIN, limits.INT64_MAX) == (-9223372036854775808, 9223372036854775807)
    assert (limits.LOG_TAIL, limits.SERIES_TAIL) == (1000, 64)
    assert limits.RUN_ID_MAX == 1024
    assert limits.SEGMENT_MAX == 8_388_608
    assert limits.LIVENESS_LOST_US == 300_000_000


def test_every_legal_length_begins_with_a_zero_byte() -> None:
    assert limits.FRAME_HARD_MAX.to_bytes(4, "big")[0] == 0
    assert (limits.FRAME_HARD_MAX + 1).to_bytes(4, "big")[0] == 1


def test_defaults() -> None:
    assert (SOCKET_LIMITS.max_frame, SOCKET_LIMITS.max_depth) == (1_048_576, 64)
    assert (FILE_LIMITS.max_frame, FILE_LIMITS.max_depth) == (16_777_215, 64)


@pytest.mark.parametrize("value", [0, -1, FRAME_HARD_MAX + 1, 2**32 - 1])
def test_max_frame_is_checked(value: int) -> None:
    with pytest.raises(ValueError, match=f"not {value}"):
        DecodeLimits(max_frame=value)


@pytest.mark.parametrize("value", [0, -1, 65])
def test_max_depth_is_checked(value: int) -> None:
    with pytest.raises(ValueError, match=f"not {value}"):
        DecodeLimits(max_depth=value)


def test_limits_are_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        SOCKET_LIMITS.max_frame = 1  # type: ignore[misc]
    assert hash(DecodeLimits()) == hash(SOCKET_LIMITS)


def test_every_limit_is_listed() -> None:
    from xtrack_protocol import limits

    defined = {name for name in vars(limits) if name[0].isalpha() and name.isupper()} - {"TYPE_CHECKING"}
    assert {*limits.__all__} == defined | {"DecodeLimits", "FILE_LIMITS", "SOCKET_LIMITS"}
