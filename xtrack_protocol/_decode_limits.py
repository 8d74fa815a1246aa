"""What a decoder takes; public in ``xtrack_protocol.limits``."""

from __future__ import annotations

from typing import Final

import attrs

from xtrack_protocol.limits import DEPTH_MAX, FRAME_HARD_MAX, FRAME_MAX_FILE, FRAME_MAX_SOCKET


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
