"""What a server has read and not yet committed, and the deadlines of what it reads. spec: CTL-14, CTL-10.3"""

from __future__ import annotations

import math

import attrs


@attrs.define
class Reading:
    """Stops when too much is in flight or the driver says so; and with the reading stop its deadlines."""

    limit: int
    """Bytes in flight from which on nothing more is read."""
    frame_seconds: float
    in_flight: int = 0
    held_back: bool = False
    paused_at: float | None = None
    first_due: float = math.inf
    """When the first frame must be complete."""
    _frame_at: int | None = None
    _frame_due: float = math.inf

    @property
    def late_due(self) -> float:
        """When a frame is late."""
        return math.inf if self.paused_at is not None else min(self.first_due, self._frame_due)

    def began(self, offset: int | None, now: float) -> None:
        """Note at which offset there is an incomplete frame, if there is: each has its own time. spec: CTL-14.1"""
        if offset is None:
            self._frame_due = math.inf
        elif offset != self._frame_at:
            self._frame_due = now + self.frame_seconds
        self._frame_at = offset

    def pause_or_resume(self, now: float) -> float:
        """Stop or start, as things are; return the seconds that were missed, by which deadlines move."""
        reading = not self.held_back and self.in_flight < self.limit
        if not reading and self.paused_at is None:
            self.paused_at = now
        elif reading and self.paused_at is not None:
            missed = now - self.paused_at
            self.paused_at = None
            self.first_due += missed
            self._frame_due += missed
            return missed
        return 0.0

    def end(self) -> None:
        """Have no deadlines any more."""
        self.first_due = self._frame_due = math.inf
