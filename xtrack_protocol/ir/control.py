"""What peers say to each other about events: commands, acks and the session's own vocabulary.

Control events travel with seq 0 and belong to no stream. All but ``command`` and ``ack`` are additive.
spec: CTL-1
"""

from typing import Literal, TypeAlias

from msgspec import field

from xtrack_protocol.ir._slots import Int64, Json, OptionalId, WireStruct
from xtrack_protocol.ir.identity import RunId

AckStatus: TypeAlias = Literal["ok", "error"]
"""Closed. spec: CTL-3, VAL-6"""

Durability: TypeAlias = Literal["none", "process", "power"]
"""What an ack promises: nothing, surviving the collector's process, surviving a power loss. Closed. spec: CTL-6"""

COMMAND_TYPES = ("pause", "resume", "stop", "checkpoint_now", "update_params", "adjust_lr", "custom")
"""Well-known command types; any other text is legal. spec: CTL-2, VAL-7"""


class Command(WireStruct, frozen=True):
    """Collector to worker: do something; client to collector: have a worker do it. spec: CTL-2, CTL-15

    ``command_id`` (``cmd_id``) comes back in the answer. ``payload``: the arguments. Additive: ``run_id`` and
    ``worker_id`` (``wid``): who is meant, where a connection carries several; absent: every worker.
    """

    command_id: str = field(name="cmd_id")
    type: str
    payload: dict[str, Json] = field(default_factory=dict)
    run_id: str | RunId | None = None
    worker_id: OptionalId = field(name="wid", default=None)


class CommandResult(WireStruct, frozen=True):
    """Worker to collector: what came of a command. Additive. spec: CTL-4

    ``left``: how many answers are still to come, in those that a collector passes to a client. spec: CTL-15.4
    """

    run_id: str | RunId
    command_id: str = field(name="cmd_id")
    status: AckStatus
    message: str | None = field(name="msg", default=None)
    worker_id: OptionalId = field(name="wid", default=None)
    left: Int64 | None = None


class Ack(WireStruct, frozen=True):
    """Collector to worker: everything up to ``seq`` is committed, skipped or rejected. spec: CTL-3

    ``error_message`` (``error``). Additive: ``run_id``, ``worker_id`` (``wid``), ``session_id`` (``sid``): the
    stream, absent where the connection has only one; ``rejected``: pairs of seq and code.
    """

    seq: Int64
    status: AckStatus
    error_message: str | None = field(name="error", default=None)
    run_id: str | RunId | None = None
    worker_id: OptionalId = field(name="wid", default=None)
    session_id: OptionalId = field(name="sid", default=None)
    rejected: list[tuple[Int64, str]] = field(default_factory=list)


class Auth(WireStruct, frozen=True):
    """A credential. Its repr never shows the key. A key of "" is one, and no absence. spec: CTL-5, JSN-6"""

    scheme: str
    key: str | None = None

    def __repr__(self) -> str:
        return f"Auth(scheme={self.scheme!r}, key=***)"


class Hello(WireStruct, frozen=True):
    """Emitter to collector, first frame of a connection: what it speaks, best first. spec: CTL-5"""

    protocols: list[Int64]
    codecs: list[str] = field(default_factory=list)
    features: list[str] = field(default_factory=list)
    agent: str | None = None
    auth: Auth | None = None


class SessionLimits(WireStruct, frozen=True):
    """What the collector takes: bytes a frame, events and bytes unacknowledged at a time. spec: CTL-6"""

    max_frame: Int64 | None = None
    window_events: Int64 | None = None
    window_bytes: Int64 | None = None


class Welcome(WireStruct, frozen=True):
    """Collector to emitter: what was chosen, and what its acks promise. spec: CTL-6"""

    protocol: Int64
    codec: str
    durability: Durability
    features: list[str] = field(default_factory=list)
    limits: SessionLimits | None = None


class Reject(WireStruct, frozen=True):
    """Collector to emitter: no. ``message`` (``msg``); ``retry_after`` in seconds. spec: CTL-7"""

    code: str
    message: str | None = field(name="msg", default=None)
    retry_after: Int64 | float | None = None


class OpenStream(WireStruct, frozen=True):
    """Emitter to collector: a stream begins or goes on; answered by an ack with its cursor. spec: CTL-8

    ``passive``: it is shipped for a worker that isn't here, and takes no commands. spec: CTL-8.6
    """

    run_id: str | RunId
    session_id: str = field(name="sid")
    worker_id: OptionalId = field(name="wid", default=None)
    passive: bool = False


class Skip(WireStruct, frozen=True):
    """Emitter to collector: the seqs ``first`` to ``last`` (``from``, ``to``) are lost for good. spec: CTL-9, STR-7"""

    run_id: str | RunId
    session_id: str = field(name="sid")
    first: Int64 = field(name="from")
    last: Int64 = field(name="to")
    reason: str | None = None
    worker_id: OptionalId = field(name="wid", default=None)


class Ping(WireStruct, frozen=True):
    """Are you there? spec: CTL-10"""


class Pong(WireStruct, frozen=True):
    """I am. spec: CTL-10"""


class Subscribe(WireStruct, frozen=True):
    """Reader to collector: send a run's events, from a cursor on. spec: CTL-11

    ``until_end``: only until the run has ended. From a collector: they follow from ``cursor`` + 1 on (CTL-11.5).
    """

    run_id: str | RunId
    cursor: Int64 | None = field(name="from", default=None)
    until_end: bool = False


class Unsubscribe(WireStruct, frozen=True):
    """Reader to collector: no more of that run. spec: CTL-11

    From a collector: no more of it follows; ``code`` and ``message`` (``msg``) say why (CTL-11.6).
    """

    run_id: str | RunId
    code: str | None = None
    message: str | None = field(name="msg", default=None)
