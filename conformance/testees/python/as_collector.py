"""The reference implementation as a collector: the production one, with a store in memory behind it.

docs/reference/testee-collector.md tells what it is asked.
"""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

import msgspec
from values_told import to_tagged

from xtrack_protocol.collector import Collector
from xtrack_protocol.errors import RunNotFound
from xtrack_protocol.limits import FILE_LIMITS, SOCKET_LIMITS
from xtrack_protocol.runs import RunState, SeriesPoint, StreamLost, StreamSummary
from xtrack_protocol.session import RangeSet, StreamId
from xtrack_protocol.storage import MemoryStore
from xtrack_protocol.wire import FrameDecoder, SalvageDecoder

Json = dict[str, Any]


class Part:
    """Answers for the role; each session has a collector of its own."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}

    def answer(self, request: Json) -> Json:
        """Return the answer to a request, without its id."""
        session = self.sessions.get(request["session"])
        if session is None:
            session = self.sessions[request["session"]] = Session()
        op = request["op"].removeprefix("collect.")
        if op == "close":
            del self.sessions[request["session"]]
            return {"ok": {}}
        try:
            return {"ok": getattr(session, op)(request)}
        except RunNotFound:
            return {"ok": {"unknown": True}}


class Session:
    """A collector that was empty when its first request came. Each op has its method."""

    def __init__(self) -> None:
        self.store = MemoryStore(clock=lambda: 0)
        self.collector = Collector(self.store, clock=lambda: 0)
        self.ambiguous: set[StreamId] = set()

    # ------------------------------------------------------------------------------------------ what comes

    def feed(self, request: Json) -> Json:
        """Take frames of a source."""
        is_recording = request["kind"] == "recording"
        decoder = SalvageDecoder(FILE_LIMITS, True) if is_recording else FrameDecoder(SOCKET_LIMITS, True)
        frames = [*decoder.feed(base64.b64decode(request["frames"])), *decoder.finish()]
        for pushed in self.collector.push_frames(frames, source=request["source"]):
            if pushed.ambiguous and pushed.stream is not None:
                self.ambiguous.add(pushed.stream)
        return {}

    def lost(self, request: Json) -> Json:
        """Take a StreamLost."""
        stream = StreamId(request["run_id"], request["wid"], request["sid"])
        self.store.mark_lost(StreamLost(stream, request["at"], request["reason"], request["after_seq"]))
        return {}

    def expect(self, request: Json) -> Json:
        """Expect a run."""
        self.collector.start_collector(request["run_id"])
        return {}

    def delete(self, request: Json) -> Json:
        """Delete a run."""
        self.store.delete_run(request["run_id"])
        return {}

    # ------------------------------------------------------------------------------------------ what is asked

    def run(self, request: Json) -> Json:
        """Tell a run's state."""
        state = self.collector.get_run(request["run_id"])
        conflicts = Counter(event.stream for event in self.store.conflicts(state.run_id))
        streams = [self.stream(summary, conflicts[summary.stream]) for summary in state.streams]
        return {"run": to_tagged(told(state) | {"streams": streams})}

    def stream(self, summary: StreamSummary, conflicts: int) -> Json:
        """Tell of a stream."""
        has = self.store.cursor(summary.stream) - RangeSet(summary.skipped)
        return {
            "wid": summary.stream.worker_id,
            "sid": summary.stream.session_id,
            "has": pairs(has),
            "gaps": pairs(summary.gaps),
            "lost": pairs(summary.skipped),
            "last_seq": summary.last_seq,
            "conflicts": conflicts,
            "ambiguous": summary.stream in self.ambiguous,
            "late": summary.late,
            "duration_ms": summary.duration_ms,
        }

    def points(self, request: Json) -> Json:
        """Tell the points of a series."""
        points = self.store.get_metrics(request["run_id"], request["key"], include_hidden=True)
        return {"points": to_tagged([point_told(point) for point in points])}

    def aggregate(self, request: Json) -> Json:
        """Tell a series over all workers."""
        steps = self.store.get_metric_aggregate(request["run_id"], request["key"])
        return {
            "steps": to_tagged([
                {"step": one.step, "mean": one.mean, "least": one.min, "greatest": one.max, "nan": one.nan_count}
                for one in steps
            ])
        }  # fmt: skip


def told(state: RunState) -> Json:
    """Return a state with the names of the page, without its streams."""
    return {
        "status": state.status,
        "name": state.name,
        "note": state.note,
        "experiment": state.experiment_id,
        "parent": state.parent_run_id,
        "started": state.started_at_us,
        "ended": state.ended_at_us,
        "error": msgspec.to_builtins(state.error),
        "params": dict(state.params),
        "tags": dict(state.tags),
        "summary": dict(state.summary),
        "final": dict(state.final_metrics),
        "series": {
            key: {"count": one.count, "last": one.last.value, "least": one.min, "greatest": one.max}
            for key, one in state.metrics.items()
        },
        "source": msgspec.to_builtins(state.source),
        "env": msgspec.to_builtins(state.environment),
        "workers": {
            worker_id: {"status": one.status, "msg": one.message, "progress": msgspec.to_builtins(one.progress)}
            for worker_id, one in state.activities.items()
        },
        "logs": [event_told(one, one.entry) for one in state.logs],
        "artifacts": [event_told(one, one.artifact) for one in state.artifacts],
        "checkpoints": [event_told(one, one.checkpoint) for one in state.checkpoints if not one.hidden],
    }


def event_told(stored: Any, event: Any) -> Json:
    """Return an event that a state holds as a whole, and whose it is."""
    return {**whose(stored), "p": msgspec.to_builtins(event)}


def point_told(point: SeriesPoint) -> Json:
    """Return a point."""
    return {
        **whose(point),
        "step": point.step,
        "value": point.value,
        "epoch": point.epoch,
        "ctx": msgspec.to_builtins(point.context),
        "hidden": point.hidden,
    }


def whose(stored: Any) -> Json:
    """Return the stream, the seq and the time of something that came with an event."""
    return {"wid": stored.worker_id, "sid": stored.session_id, "seq": stored.seq, "ts": stored.timestamp_us}


def pairs(ranges: Any) -> list[list[int]]:
    """Return ranges as pairs of their ends."""
    return [[first, last] for first, last in ranges]
