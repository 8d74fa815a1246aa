"""Every bound of the protocol and of this implementation, with its unit and its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xtrack_protocol._lazy import lazily

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

SYNC_SECONDS: Final = 1.0
"""Seconds between two syncs of a spool: what a power loss can cost. A sync takes 1 to 30 ms of a disk, and no time of
the thread that logs. spec: DLV-2"""

SYNC_RETRY_SECONDS_MAX: Final = 60.0
"""Seconds between two attempts at most after syncs that failed; each attempt writes what is in doubt once more."""

ON_FULL_SECONDS: Final = (0.05, 1.0)
"""The shortest and the longest wait between two attempts to write to a full disk, where a training is to wait."""

SPOOL_RESERVE: Final = 0.05
SPOOL_RESERVE_MAX: Final = 1024 * MIB
"""The part of the disk, and the bytes at most, that a spool which is only a buffer for a collector leaves free: what
else lies there, checkpoints above all, is worth more than the copy of an event. On a disk of 20 TB the part alone would
be a terabyte. A spool that is the only copy takes all there is."""

LAST_WORDS_ROOM: Final = 64 * 1024
"""Bytes of the disk that each stream keeps back, so that one whose disk stays full can still declare its losses and end
its run: a segment's header, a ``skip`` and a ``run_end`` with its traceback. spec: DLV-7.2"""

KEEP_ACKED_US: Final = 24 * 3600 * 1_000_000
"""Microseconds that acked segments stay: a collector may be restored from last night's backup. spec: DLV-5.1"""

REJECTED_NOTED_MAX: Final = 1000
"""Events that a collector refuses for good of which the seqs are noted; more are counted."""

METRIC_NAMES_WARN: Final = 10_000
"""Metric names of a run after which one warning is given. The next ones are stored all the same."""

LIVENESS_LOST_US: Final = 5 * 60 * 1_000_000
"""Microseconds without any sign of life after which a worker that never ended counts as lost. spec: FLD-6"""

HELLO_SECONDS: Final = 2.0
"""Seconds a client waits for the answer to its hello: long for a collector, short for a training that begins.
spec: VER-3"""

PING_SECONDS: Final = 20.0
"""Seconds of silence after which a peer of a session is asked whether it is there. spec: CTL-10"""

IDLE_SECONDS: Final = 60.0
"""Seconds of silence, two unanswered pings in them, after which a session's connection is given up. spec: CTL-10"""

FIRST_FRAME_SECONDS: Final = 5.0
"""Seconds a server waits for the first frame of a connection: whoever has connected has it ready. spec: CTL-14"""

FRAME_SECONDS: Final = 30.0
"""Seconds within which a frame that was begun must be whole: 1 MiB at 35 kB/s, or a slow peer that holds memory.
spec: CTL-14"""

RECONNECT_SECONDS: Final = (0.1, 30.0)
"""The shortest and the longest wait between attempts to connect; it doubles from one to the other. spec: DLV-6"""

RETRY_AFTER_MAX: Final = 3600.0
"""Seconds of ``retry_after`` that a client obeys at most: a mistaken one must not silence it for good. spec: CTL-7"""

SESSION_FRAME_MIN: Final = 64 * 1024
"""Bytes of payload that every server takes at the least; a welcome that names less is refused. spec: CTL-6"""

OUTPUT_MAX: Final = 4 * MIB
"""Bytes that a session keeps for a peer that doesn't read, before it is given up."""

COMMAND_ID_MAX: Final = 128
"""Bytes of a command's id that a collector passes on. spec: CTL-15.9"""

COMMAND_MAX: Final = 64 * 1024
"""Bytes of a command that a collector passes on: arguments, no data. spec: CTL-15.9"""

COMMAND_SECONDS: Final = 600.0
"""Seconds a collector waits for a worker's answer to a command: a checkpoint that is to be saved takes a while.
spec: CTL-15.6"""

COMMANDS_PER_ASKER: Final = 64
"""Commands of one connection that may wait for answers at a collector. spec: CTL-15.9"""

COMMANDS_PER_WORKER: Final = 32
"""Commands that may wait for the answer of one connection: 2 MiB of them, were it not to read. spec: CTL-15.9"""

STREAMS_MAX: Final = 1024
"""Streams that one connection may open."""

WINDOW_EVENTS: Final = 10_000
"""Events of one connection that a server lets be on their way: at 100,000 events/s, 100 ms of commits. spec: CTL-6"""

WINDOW_BYTES: Final = 4 * MIB
"""Bytes of payload of one connection that a server lets be on their way. spec: CTL-6"""

if TYPE_CHECKING:
    from xtrack_protocol._decode_limits import FILE_LIMITS, SOCKET_LIMITS, DecodeLimits
else:
    __getattr__, __dir__ = lazily(__name__, {"_decode_limits": ("FILE_LIMITS", "SOCKET_LIMITS", "DecodeLimits")})

__all__ = [
    "COMMANDS_PER_ASKER",
    "COMMANDS_PER_WORKER",
    "COMMAND_ID_MAX",
    "COMMAND_MAX",
    "COMMAND_SECONDS",
    "DEPTH_MAX",
    "FILE_LIMITS",
    "FIRST_FRAME_SECONDS",
    "FRAME_HARD_MAX",
    "FRAME_MAX_EMIT",
    "FRAME_MAX_FILE",
    "FRAME_MAX_SOCKET",
    "FRAME_SECONDS",
    "HELLO_SECONDS",
    "IDLE_SECONDS",
    "INT64_MAX",
    "INT64_MIN",
    "KEEP_ACKED_US",
    "LAST_WORDS_ROOM",
    "LIVENESS_LOST_US",
    "LOG_TAIL",
    "METRIC_NAMES_WARN",
    "MIB",
    "ON_FULL_SECONDS",
    "OUTPUT_MAX",
    "PING_SECONDS",
    "RECONNECT_SECONDS",
    "REJECTED_NOTED_MAX",
    "RETRY_AFTER_MAX",
    "RUN_ID_MAX",
    "SEGMENT_MAX",
    "SERIES_TAIL",
    "SESSION_FRAME_MIN",
    "SOCKET_LIMITS",
    "SPOOL_RESERVE",
    "SPOOL_RESERVE_MAX",
    "STREAMS_MAX",
    "SYNC_RETRY_SECONDS_MAX",
    "SYNC_SECONDS",
    "WINDOW_BYTES",
    "WINDOW_EVENTS",
    "DecodeLimits",
]
