"""What a server takes from all its peers together, with units and reasons."""

from __future__ import annotations

from typing import Final

import attrs

from xtrack_protocol.limits import COMMAND_SECONDS, MIB
from xtrack_protocol.session import CollectorLimits

FIRST_FRAME_KEYED: Final = 64 * 1024
"""Bytes of the first frame where everybody must say hello: a stranger can't make us keep more."""

RIGHTS_SECONDS: Final = 5.0
"""After which it is asked again whether a peer may read or write what it does: rights are taken back, too."""


@attrs.frozen(kw_only=True)
class ServerLimits:
    """What a server takes from all its peers together, and how long it waits for them. spec: CTL-17.1

    ``session``: what it takes from each. Times in seconds.
    """

    session: CollectorLimits = attrs.field(factory=CollectorLimits)
    connections: int = 1024
    """Connections at once; each further one is told that we are busy."""
    unknown_per_address: int = 64
    """Connections of one address that haven't said yet what they are: a flood of them leaves room for others."""
    per_address: int = 1024
    """Connections of one address."""
    subscriptions: int = 4096
    """Subscriptions at once; each looks into the store now and then."""
    subscriptions_per_connection: int = 256
    bytes_in_flight: int = 64 * MIB
    """Bytes taken and not committed, of all connections; from here on nobody is read."""
    events_in_flight: int = 100_000
    """The same in events, each of which costs about 1 KiB beside its bytes while it waits."""
    bytes_unfinished: int = 32 * MIB
    """Bytes of frames that were begun, of all connections; beyond them the frame begun first is given up."""
    unreadable_frames: int = 10_000
    """Frames of one connection, one after the other, that are no event of anybody's: then it is no worker.
    spec: CTL-17.13"""
    batch_events: int = 4096
    """Events of one transaction at most: what comes later doesn't wait long for it."""
    batch_bytes: int = 4 * MIB
    linger_seconds: float = 0.002
    """How long a transaction waits for more to come with it, while fewer than ``linger_events`` are there."""
    linger_events: int = 64
    linger_bulk: int = 1024
    """With so many nothing is waited for; below it, and from ``linger_events`` on, as long as more keep coming."""
    retry_seconds: tuple[float, float] = (0.1, 5.0)
    """The shortest and the longest wait before what a store has refused is tried again; it doubles."""
    flush_seconds: float = 30.0
    """How long a peer may read nothing of what waits for it."""
    farewell_seconds: float = 2.0
    """How long a connection that is over stays, for its last words to be read."""
    shutdown_seconds: float = 10.0
    """How long stopping may take until everything taken is committed."""
    retry_after: float = 2.0
    """What peers are told that find us busy or stopping."""
    key_failures: int = 5
    """Wrong keys of one address from which on it has to wait."""
    key_wait: tuple[float, float] = (1.0, 60.0)
    """The first and the longest of these waits; it doubles."""
    addresses: int = 4096
    """Addresses of which wrong keys are remembered; the one heard of longest ago is forgotten first."""
    lost_seconds: float = 300.0
    """How long the connection of a worker that hasn't ended its run may be gone. spec: FLD-6.1"""
    command_seconds: float = COMMAND_SECONDS
    """How long a worker's answer to a command is waited for. spec: CTL-15.6"""
    report_seconds: float = 60.0
    """Between two lines of counters in the log."""
