"""The envelope: version, type, who sent it when, and the event itself. spec: ENV-1

One envelope class an event type, tagged by ``t``, so that a frame is decoded in a single pass over its bytes.
Outside of this module only the codec cares: ``Envelope.of`` makes the right one, and matching goes by payload::

    match envelope:
        case Envelope(payload=Metric(key="loss", value=value, step=step)): ...
        case Envelope(payload=UnknownEvent(event_type=kind)): ...
"""

from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import field

from xtrack_protocol.ir._slots import Int64, Json, OptionalId, WireStruct
from xtrack_protocol.ir.control import (
    Ack,
    Command,
    CommandResult,
    Hello,
    OpenStream,
    Ping,
    Pong,
    Reject,
    Skip,
    Subscribe,
    Unsubscribe,
    Welcome,
)
from xtrack_protocol.ir.files import Artifact, Checkpoint
from xtrack_protocol.ir.identity import run_id_text
from xtrack_protocol.ir.lifecycle import RunEnd, RunStart, StatusUpdate, Tags
from xtrack_protocol.ir.messages import Alert, LogEntry
from xtrack_protocol.ir.values import Metric, MetricBatch, Param, Summary


class EventMeta(WireStruct, frozen=True):
    """Who sent an event and when. spec: ENV-3

    ``seq``: place in its stream, from 1 on; 0 for control events. ``timestamp_us`` (``ts``): microseconds since
    the Unix epoch by the worker's clock. ``worker_id`` (``wid``). ``session_id`` (``sid``, additive): the
    emitter's start that numbers its events from 1. When it was received stands in stored rows, not here.
    """

    seq: Int64
    timestamp_us: Int64 = field(name="ts")
    worker_id: OptionalId = field(name="wid", default=None)
    session_id: OptionalId = field(name="sid", default=None)


class UnknownEvent(WireStruct, frozen=True):
    """An event of a type this version doesn't know: kept, stored, and no error. spec: ENV-5"""

    event_type: str
    payload: Json


class Envelope(WireStruct, frozen=True):
    """Base of all envelopes; make one with :meth:`of`. ``version`` is the protocol's (1). spec: ENV-1, ENV-2"""

    version: Literal[1] = field(name="v")
    meta: EventMeta = field(name="m")
    if TYPE_CHECKING:  # each subclass has its own, last in order, so that ``t`` and ``m`` stand before ``p``
        payload: "Payload"

    @staticmethod
    def of(
        payload: "Payload",
        *,
        seq: int,
        timestamp_us: int,
        worker_id: str | None = None,
        session_id: str | None = None,
    ) -> "Envelope":
        """Wrap ``payload`` in the envelope of its type. An id of "" is none. Raises TypeError for other payloads."""
        try:
            envelope = _ENVELOPE_OF[type(payload)]
        except KeyError:
            raise TypeError(f"{type(payload).__name__} is no event") from None
        return envelope(1, EventMeta(seq, timestamp_us, worker_id or None, session_id or None), payload)

    @property
    def event_type(self) -> str:
        """The wire's ``t``, such as ``"metric"``."""
        if type(self) is UnknownEnvelope:
            return self.payload.event_type
        return str(type(self).__struct_config__.tag)

    @property
    def run_id(self) -> str | None:
        """The run's id as text, whichever form it was sent in; None where the event names no run."""
        run_id = getattr(self.payload, "run_id", None)
        if run_id is not None:
            return run_id_text(run_id)
        if type(self) is UnknownEnvelope:
            return _run_id_of_json(self.payload.payload)
        return None


def _run_id_of_json(payload: object) -> str | None:
    """Find the run id of an unknown event, which by convention stands where all others have it. spec: ENV-5"""
    run_id = payload.get("run_id") if isinstance(payload, dict) else None
    if isinstance(run_id, dict):
        run_id = run_id.get("id")
    return run_id if isinstance(run_id, str) else None


class RunStartEnvelope(Envelope, frozen=True, tag_field="t", tag="run_start"):  # noqa: D101
    payload: RunStart = field(name="p")


class RunEndEnvelope(Envelope, frozen=True, tag_field="t", tag="run_end"):  # noqa: D101
    payload: RunEnd = field(name="p")


class ParamEnvelope(Envelope, frozen=True, tag_field="t", tag="param"):  # noqa: D101
    payload: Param = field(name="p")


class MetricEnvelope(Envelope, frozen=True, tag_field="t", tag="metric"):  # noqa: D101
    payload: Metric = field(name="p")


class MetricBatchEnvelope(Envelope, frozen=True, tag_field="t", tag="metric_batch"):  # noqa: D101
    payload: MetricBatch = field(name="p")


class ArtifactEnvelope(Envelope, frozen=True, tag_field="t", tag="artifact"):  # noqa: D101
    payload: Artifact = field(name="p")


class CheckpointEnvelope(Envelope, frozen=True, tag_field="t", tag="checkpoint"):  # noqa: D101
    payload: Checkpoint = field(name="p")


class StatusUpdateEnvelope(Envelope, frozen=True, tag_field="t", tag="status"):  # noqa: D101
    payload: StatusUpdate = field(name="p")


class LogEntryEnvelope(Envelope, frozen=True, tag_field="t", tag="log"):  # noqa: D101
    payload: LogEntry = field(name="p")


class TagsEnvelope(Envelope, frozen=True, tag_field="t", tag="tags"):  # noqa: D101
    payload: Tags = field(name="p")


class AlertEnvelope(Envelope, frozen=True, tag_field="t", tag="alert"):  # noqa: D101
    payload: Alert = field(name="p")


class SummaryEnvelope(Envelope, frozen=True, tag_field="t", tag="summary"):  # noqa: D101
    payload: Summary = field(name="p")


class CommandEnvelope(Envelope, frozen=True, tag_field="t", tag="command"):  # noqa: D101
    payload: Command = field(name="p")


class CommandResultEnvelope(Envelope, frozen=True, tag_field="t", tag="command_result"):  # noqa: D101
    payload: CommandResult = field(name="p")


class AckEnvelope(Envelope, frozen=True, tag_field="t", tag="ack"):  # noqa: D101
    payload: Ack = field(name="p")


class HelloEnvelope(Envelope, frozen=True, tag_field="t", tag="hello"):  # noqa: D101
    payload: Hello = field(name="p")


class WelcomeEnvelope(Envelope, frozen=True, tag_field="t", tag="welcome"):  # noqa: D101
    payload: Welcome = field(name="p")


class RejectEnvelope(Envelope, frozen=True, tag_field="t", tag="reject"):  # noqa: D101
    payload: Reject = field(name="p")


class OpenStreamEnvelope(Envelope, frozen=True, tag_field="t", tag="open"):  # noqa: D101
    payload: OpenStream = field(name="p")


class SkipEnvelope(Envelope, frozen=True, tag_field="t", tag="skip"):  # noqa: D101
    payload: Skip = field(name="p")


class PingEnvelope(Envelope, frozen=True, tag_field="t", tag="ping"):  # noqa: D101
    payload: Ping = field(name="p")


class PongEnvelope(Envelope, frozen=True, tag_field="t", tag="pong"):  # noqa: D101
    payload: Pong = field(name="p")


class SubscribeEnvelope(Envelope, frozen=True, tag_field="t", tag="subscribe"):  # noqa: D101
    payload: Subscribe = field(name="p")


class UnsubscribeEnvelope(Envelope, frozen=True, tag_field="t", tag="unsubscribe"):  # noqa: D101
    payload: Unsubscribe = field(name="p")


class UnknownEnvelope(Envelope, frozen=True):
    """The envelope of an :class:`UnknownEvent`; its ``t`` is the event's own."""

    payload: UnknownEvent = field(name="p")


KnownEnvelope: TypeAlias = (
    RunStartEnvelope
    | RunEndEnvelope
    | ParamEnvelope
    | MetricEnvelope
    | MetricBatchEnvelope
    | ArtifactEnvelope
    | CheckpointEnvelope
    | StatusUpdateEnvelope
    | LogEntryEnvelope
    | TagsEnvelope
    | AlertEnvelope
    | SummaryEnvelope
    | CommandEnvelope
    | CommandResultEnvelope
    | AckEnvelope
    | HelloEnvelope
    | WelcomeEnvelope
    | RejectEnvelope
    | OpenStreamEnvelope
    | SkipEnvelope
    | PingEnvelope
    | PongEnvelope
    | SubscribeEnvelope
    | UnsubscribeEnvelope
)
"""What a frame of a known type decodes to."""

Payload: TypeAlias = (
    RunStart
    | RunEnd
    | Param
    | Metric
    | MetricBatch
    | Artifact
    | Checkpoint
    | StatusUpdate
    | LogEntry
    | Tags
    | Alert
    | Summary
    | Command
    | CommandResult
    | Ack
    | Hello
    | Welcome
    | Reject
    | OpenStream
    | Skip
    | Ping
    | Pong
    | Subscribe
    | Unsubscribe
    | UnknownEvent
)
"""What an envelope can hold."""

ENVELOPES: dict[str, type[Envelope]] = {
    str(cls.__struct_config__.tag): cls for cls in Envelope.__subclasses__() if cls is not UnknownEnvelope
}
"""The envelope class of each wire type."""

_ENVELOPE_OF: dict[type, type[Envelope]] = {cls.__annotations__["payload"]: cls for cls in Envelope.__subclasses__()}

CONTROL_TYPES: frozenset[str] = frozenset(
    {"command", "command_result", "ack", "hello", "welcome", "reject", "open", "skip", "ping", "pong", "subscribe"}
    | {"unsubscribe"}
)
"""Types that travel with seq 0, belong to no stream and are never stored as a run's events. spec: CTL-1"""
