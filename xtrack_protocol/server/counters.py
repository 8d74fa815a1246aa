"""What a server has done, as numbers."""

from __future__ import annotations

from collections import Counter

import attrs


@attrs.define
class Counters:
    """Counts since the start, except for those of what there is ``now``. Written by the server's loop alone."""

    accepted: int = 0
    connections: int = 0
    """Now."""
    sessions: int = 0
    """Now: connections with a welcome."""
    plain: int = 0
    """Now: connections of plain version 1."""
    streams: int = 0
    """Now: streams open on sessions."""
    subscriptions: int = 0
    """Now."""
    events: int = 0
    """Stored."""
    duplicates: int = 0
    skips: int = 0
    """Declared losses."""
    sent: int = 0
    """Events sent to subscribers."""
    lost_streams: int = 0
    """Workers reported as lost. spec: FLD-6.1"""
    fenced: int = 0
    commits: int = 0
    store_errors: int = 0
    bytes_received: int = 0
    bytes_in_flight: int = 0
    """Now: taken and not committed."""
    events_in_flight: int = 0
    """Now."""
    refused_peers: Counter[str] = attrs.field(factory=Counter)
    """Connections, streams and requests that were refused or given up, by code."""
    refused_events: Counter[str] = attrs.field(factory=Counter)
    """Events, by code. spec: CTL-3.9"""

    def line(self, before: Counters, seconds: float) -> str:
        """Return the counts as one line; rates are over the ``seconds`` since ``before``."""
        rate = (self.events - before.events) / seconds if seconds > 0 else 0.0
        parts = [
            f"{self.connections} connections ({self.sessions} sessions, {self.plain} plain)",
            f"{self.streams} streams",
            f"{self.subscriptions} subscriptions",
            f"{rate:,.0f} events/s",
            f"{self.events:,} events",
            f"{self.duplicates:,} duplicates",
            f"{self.bytes_in_flight:,} bytes in flight",
        ]
        for what, counts in (("refused peers", self.refused_peers), ("refused events", self.refused_events)):
            if counts:
                parts.append(f"{what}: " + ", ".join(f"{code} {count}" for code, count in sorted(counts.items())))
        if self.store_errors:
            parts.append(f"{self.store_errors} store errors")
        if self.lost_streams:
            parts.append(f"{self.lost_streams} workers lost")
        return ", ".join(parts)

    def copy(self) -> Counters:
        """Return the counts as they are now."""
        return attrs.evolve(
            self, refused_peers=Counter(self.refused_peers), refused_events=Counter(self.refused_events)
        )
