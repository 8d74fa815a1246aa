"""How long to wait before the next attempt to connect. Randomness is an argument. spec: DLV-6.3, CTL-7.1"""

from __future__ import annotations

import attrs

from xtrack_protocol.limits import RECONNECT_SECONDS, RETRY_AFTER_MAX


@attrs.define
class Backoff:
    """Waits that double from ``first`` to ``longest`` seconds, each a random part of that time, and never end.

    ``reset`` after a connection that was of use: a session, or a fallback, and not merely a connect.
    """

    first: float = RECONNECT_SECONDS[0]
    longest: float = RECONNECT_SECONDS[1]
    attempts: int = 0

    def next_delay(self, random: float, retry_after: float | None = None) -> float:
        """Return the seconds to wait; ``random`` is uniform in [0, 1).

        ``retry_after``: what a reject named, which is waited for in full, and the random part comes on top, lest all
        who were rejected come back at the same moment.
        """
        ceiling = min(self.longest, self.first * 2.0 ** min(self.attempts, 64))
        self.attempts += 1
        return ceiling * random + sane_retry_after(retry_after)

    def reset(self) -> None:
        """Begin with the shortest wait again."""
        self.attempts = 0


def sane_retry_after(seconds: float | None) -> float:
    """Return what is to be obeyed of a ``retry_after``: from 0 to an hour. spec: CTL-7.3"""
    if seconds is None or not seconds > 0:  # NaN included
        return 0.0
    return min(float(seconds), RETRY_AFTER_MAX)
