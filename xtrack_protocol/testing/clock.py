"""A clock that stands still until it is told to go on."""

from __future__ import annotations


class FakeClock:
    """``time_us`` and ``monotonic`` stand in for wall time and for timers; both move by ``advance`` only."""

    def __init__(self, time_us: int = 1_700_000_000_000_000, monotonic: float = 1000.0) -> None:
        self._time_us = time_us
        self._monotonic_us = round(monotonic * 1_000_000)

    def time_us(self) -> int:
        """Return microseconds since the Unix epoch."""
        return self._time_us

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return self._monotonic_us / 1_000_000

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises ValueError for a negative number of seconds."""
        if seconds < 0:
            raise ValueError("time passes in one direction; set_time changes the wall clock alone")
        self._time_us += round(seconds * 1_000_000)
        self._monotonic_us += round(seconds * 1_000_000)

    def set_time(self, time_us: int) -> None:
        """Set the wall clock, back or forth, as people and time servers do. Timers don't notice."""
        self._time_us = time_us
