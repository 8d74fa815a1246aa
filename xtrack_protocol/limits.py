"""Every bound of the protocol and of this implementation, with its unit and its reason."""

from __future__ import annotations

from typing import Final

import attrs

MIB: Final = 1024 * 1024

FRAME_HARD_MAX: Final = 16 * MIB - 1
"""Bytes a payload can never exceed. The first byte of every legal frame is therefore 0x00, so that a peer that
speaks HTTP, TLS, SSH or Redis is refused at its first byte. spec: FRM-3"""

FRAME_MAX_FILE: Final = FRAME_HARD_MAX
"""Bytes of payload a reader of local files takes by default: what is on our own disk can't flood us. spec: FRM-3"""

FRAME_MAX_SOCKET: Final = 1 * MIB
"""Bytes of payload taken from pipes and sockets by default: 1 MiB of hostile JSON costs at most 38 MiB and 61 ms
to parse, 16 MiB more than half a GiB. spec: FRM-3"""

FRAME_MAX_EMIT: Final = 1 * MIB
"""Bytes of payload an emitter sends at most, so that every receiver's default takes it. spec: FRM-3"""

DEPTH_MAX: Final = 64
"""Levels of nesting in a payload, its outermost object included. spec: JSN-2"""

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
"""An integer slot is a signed 64-bit integer. spec: VAL-1"""

LOG_TAIL: Final = 1000
"""Log events kept in a run's state; the store holds them all."""

SERIES_TAIL: Final = 64
"""Latest points of each metric kept in a run's state, enough for a sparkline; the store holds them all."""

RUN_ID_MAX: Final = 1024
"""Bytes of UTF-8 an emitter takes for a run id, worker id or session id: all three stand in one 4 KiB block at
the head of every segment. Readers take any length. spec: RST-2"""

SEGMENT_MAX: Final = 8 * MIB
"""Bytes after which a spool begins a new segment: small enough to ship, verify or lose one at a time."""

METRIC_NAMES_WARN: Final = 10_000
"""Metric names of a run after which one warning is given. The next ones are stored all the same."""

LIVENESS_LOST_US: Final = 5 * 60 * 1_000_000
"""Microseconds without any sign of life after which a worker that never ended counts as lost. spec: FLD-6"""


@attrs.frozen(kw_only=True)
class DecodeLimits:
    """What a decoder takes.

    ``max_frame``: bytes of payload, at most 16 MiB - 1; larger announcements are refused before anything is
    allocated (spec: FRM-3, FRM-4). ``max_depth``: levels of nesting (spec: JSN-2).
    """

    max_frame: int = attrs.field(default=FRAME_MAX_SOCKET)
    max_depth: int = attrs.field(default=DEPTH_MAX)

    @max_frame.validator
    def _check_max_frame(self, _attribute: object, value: int) -> None:
        if not 1 <= value <= FRAME_HARD_MAX:
            raise ValueError(f"max_frame must be 1 to {FRAME_HARD_MAX} bytes, not {value}")

    @max_depth.validator
    def _check_max_depth(self, _attribute: object, value: int) -> None:
        if not 1 <= value <= DEPTH_MAX:
            raise ValueError(f"max_depth must be 1 to {DEPTH_MAX} levels, not {value}")


SOCKET_LIMITS: Final = DecodeLimits()
"""For pipes and sockets."""

FILE_LIMITS: Final = DecodeLimits(max_frame=FRAME_MAX_FILE)
"""For files on this machine."""
