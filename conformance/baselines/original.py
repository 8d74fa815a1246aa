"""The original published implementation as a testee, as far as it is described: what is not known to be otherwise there
is done as the reference does it.

    python -m xtrack_conformance run --baseline baselines/original-1.0.json -- python baselines/original.py

It shows that the suite finds what the original is known for: names of data structures where the names of the wire
belong, a receive buffer that one bad frame throws away, no limit on a frame, duplicates and gaps that are judged for a
run as a whole, a gap after which everything is refused, and context, errors, durations and times that don't reach the
state of a run. ``python original.py FAULT...`` has only some of these faults; ``make.py`` finds out with that which
one a failure comes of.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "testees" / "python"))

import as_collector
import testee

Json = dict[str, Any]

FAULTS = {
    "names": "it writes the names of its data structures where the names of the wire belong",
    "buffer": "one bad frame throws away its whole receive buffer",
    "limit": "it has no limit on the length of a frame",
    "run": "it judges duplicates for a run as a whole, so that of several workers all but one are dropped",
    "gap": "after one gap it refuses everything, the end of the run included",
    "lost": "context, final metrics, errors, durations and the worker's times don't reach the state of its runs",
    "later": "session ids, and the types, members and watching of workers that this rests on, were added after it",
}
"""What it is known for, each with the reason that stands in the baseline."""

PUBLISHED = {
    "run_start", "run_end", "param", "metric", "metric_batch", "artifact", "checkpoint", "status", "log", "command",
    "ack",
}  # fmt: skip
"""The types it knows; others are noted, and no error."""

ADDED = {
    "run_start": {"resume", "world_size", "sub", "observer"},
    "command": {"run_id", "wid"},
    "ack": {"run_id", "wid", "sid", "rejected"},
}
"""Members that were added later, by type: it ignores them, as it ignores ``sid`` of the meta data."""

NAMES = {
    "t": "event_type", "v": "version", "m": "meta", "p": "payload", "ts": "timestamp_us", "wid": "worker_id",
    "exp_id": "experiment_id", "parent_id": "parent_run_id", "env": "environment", "ctx": "context", "msg": "message",
    "size": "size_bytes", "upload": "upload_strategy", "best_key": "best_metric_key", "cur": "current",
    "logger": "logger_name",
}  # fmt: skip
"""Names of its data structures, in place of those of the wire."""

NAMES_OF = {
    "artifact": {"type": "artifact_type", "meta": "metadata"},
    "checkpoint": {"metrics": "metrics_snapshot", "meta": "metadata"},
    "ack": {"error": "error_message"},
}
"""More of them, by type."""

LATER = "later."
"""Before the type of an event that was added later, so that the reference doesn't know it either."""

LOST = {"metric": {"ctx"}, "metric_batch": {"ctx"}, "run_end": {"final_metrics", "error", "duration_ms"}}
"""Members that don't reach the state of a run, by type."""


class Raw(str):
    """A number as it is spelled, or a bare token."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object as it stands, names given twice included."""

    def get(self, name: str) -> Any:
        """Return the last value under a name."""
        return next((value for other, value in reversed(self) if other == name), None)


def parse(payload: bytes) -> Any:
    """Return what a payload holds. Raises ValueError or RecursionError."""
    return json.loads(
        payload.decode("utf-8"), object_pairs_hook=Pairs, parse_int=Raw, parse_float=Raw, parse_constant=Raw
    )


def dump(value: Any) -> str:
    """Return the text of a value."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(name)}:{dump(item)}" for name, item in value) + "}"
    return "[" + ",".join(map(dump, value)) + "]" if isinstance(value, list) else json.dumps(value)


def changed(payload: bytes, change: Callable[[str, Pairs, Pairs, Pairs], None]) -> bytes:
    """Return a payload after ``change`` of its type, envelope, meta data and body; the same where it has none."""
    try:
        tree = parse(payload)
    except (ValueError, RecursionError):
        return payload
    if not isinstance(tree, Pairs):
        return payload
    event_type, meta, body = tree.get("t"), tree.get("m"), tree.get("p")
    if not isinstance(event_type, str) or isinstance(event_type, Raw):
        return payload
    if not isinstance(meta, Pairs) or not isinstance(body, Pairs):
        return payload
    change(event_type, tree, meta, body)
    return dump(tree).encode("utf-8", "surrogatepass")


def as_published(event_type: str, tree: Pairs, meta: Pairs, body: Pairs) -> None:
    """Leave of an event what was known when the original was published."""
    meta[:] = [pair for pair in meta if pair[0] != "sid"]
    body[:] = [pair for pair in body if pair[0] not in ADDED.get(event_type, ())]
    if event_type not in PUBLISHED:
        tree[:] = [(name, LATER + value if name == "t" and value == event_type else value) for name, value in tree]


def without_what_is_lost(event_type: str, _tree: Pairs, meta: Pairs, body: Pairs) -> None:
    """Leave of an event what reaches the state of a run."""
    meta[:] = [(name, Raw("0") if name == "ts" else value) for name, value in meta]
    body[:] = [pair for pair in body if pair[0] not in LOST.get(event_type, ())]


def without_worker(_type: str, _tree: Pairs, meta: Pairs, _body: Pairs) -> None:
    """Leave of an event what tells of the run: all its workers are one."""
    meta[:] = [pair for pair in meta if pair[0] != "wid"]


class Original(testee.Testee):
    """The testee, with all of its faults or some."""

    def __init__(self, faults: Iterable[str] = FAULTS) -> None:
        super().__init__()
        self.faults = frozenset(faults)

    def answer(self, request: Json) -> Json:
        """Return the answer to a request, without its id."""
        if request["op"] == "hello":
            # No strict reader, no limit that could be configured; nothing is known of damaged files.
            has = {"lenient": True, "lone_surrogates": True}
            impl = {"name": "xtrack-original", "version": "1.0", "language": "as described"}
            roles = ["encoder", "decoder", "framer", "collector"]
            return testee.HELLO | {"impl": impl, "roles": roles, "capabilities": has}
        if request["op"].startswith("collect."):
            part = self.parts.setdefault("collect", Collectors(self))
            answer: Json = part.answer(request)
            return answer
        return super().answer(request)

    def encode(self, request: Json) -> Json:
        """Write the names of data structures."""
        answer = super().encode(request)
        if "frame" not in answer or "names" not in self.faults:
            return answer
        tree = parse(base64.b64decode(answer["frame"])[4:])
        event_type = tree.get("t")
        body = tree.get("p")
        body[:] = [(NAMES_OF.get(event_type, {}).get(name, name), value) for name, value in body]
        payload = dump(renamed(tree)).encode("utf-8", "surrogatepass")
        return {"frame": testee.to_base64(len(payload).to_bytes(4, "big") + payload)}

    def decode(self, request: Json) -> Json:
        """Read what was known then."""
        if "later" not in self.faults:
            return super().decode(request)
        payload = changed(base64.b64decode(request["payload"]), as_published)
        answer = super().decode({**request, "payload": testee.to_base64(payload)})
        for pair in answer.get("event", {}).get("v", ()):
            if pair[0] == "t":
                pair[1]["v"] = pair[1]["v"].removeprefix(LATER)
        return answer

    def session(self, request: Json) -> Any:
        """Return the session of a request, begun if it is new."""
        if not self.faults & {"buffer", "limit"}:
            return super().session(request)
        found = self.sessions.get(request["session"])
        if found is None:
            found = self.sessions[request["session"]] = Framer(self)
        return found


def renamed(value: Any) -> Any:
    """Return a tree with other names."""
    if isinstance(value, Pairs):
        return Pairs((NAMES.get(name, name), renamed(item)) for name, item in value)
    return [renamed(item) for item in value] if isinstance(value, list) else value


class Framer:
    """A buffer that is thrown away at a bad frame, and has no limit."""

    def __init__(self, reader: Original) -> None:
        self.reader = reader
        self.faults = reader.faults
        self.buffer = b""
        self.offset = 0
        self.closed = False

    def feed(self, data: bytes) -> Json:
        """Take the next bytes."""
        self.buffer += data
        frames = []
        while len(self.buffer) >= 4 and not self.closed:
            size = 4 + int.from_bytes(self.buffer[:4], "big")
            if size == 4 or ("limit" not in self.faults and size > 4 + 1_048_576):
                self.closed = True
                rejected = {"class": "empty_frame" if size == 4 else "frame_too_large", "fatal": True}
                frames.append({"offset": self.offset, "length": None, "rejected": rejected})
                break
            if len(self.buffer) < size:
                break
            payload = testee.to_base64(self.buffer[4:size])
            answer = self.reader.decode({"reader": "lenient", "payload": payload})
            frame = {"offset": self.offset, "length": size}
            if "rejected" in answer:
                frames.append({**frame, "rejected": answer["rejected"]})
                size = len(self.buffer) if "buffer" in self.faults else size
            else:
                frames.append({**frame, "payload": payload})
            self.buffer, self.offset = self.buffer[size:], self.offset + size
        return {"frames": frames, "state": "closed" if self.closed else "need-more" if self.buffer else "between"}

    def finish(self) -> Json:
        """Take the end of the input."""
        rejected = {"class": "truncated", "fatal": False}
        frames = [{"offset": self.offset, "length": len(self.buffer), "rejected": rejected}]
        return {"frames": frames if self.buffer and not self.closed else [], "state": "closed"}


class Collectors(as_collector.Part):
    """Answers for the role collector."""

    def __init__(self, reader: Original) -> None:
        super().__init__()
        self.reader = reader

    def answer(self, request: Json) -> Json:
        """Return the answer to a request, without its id."""
        if request["session"] not in self.sessions:
            self.sessions[request["session"]] = Session(self.reader)
        answer: Json = super().answer(request)
        return answer


class Session(as_collector.Session):
    """A collector that judges duplicates and gaps for each run as a whole."""

    def __init__(self, reader: Original) -> None:
        super().__init__()
        self.reader = reader
        self.faults = reader.faults
        self.seen: dict[object, set[int]] = {}

    def feed(self, request: Json) -> Json:
        """Take frames of a source."""
        taken = b""
        data = base64.b64decode(request["frames"])
        while data:
            size = 4 + int.from_bytes(data[:4], "big")
            payload, data = data[4:size], data[size:]
            if not self.is_good(payload):
                if "buffer" in self.faults:
                    break  # with all that stands behind it
            elif not self.is_taken(payload, request["source"]):
                continue
            stored = self.stored(payload)
            taken += len(stored).to_bytes(4, "big") + stored
        answer: Json = super().feed({**request, "frames": testee.to_base64(taken)})
        return answer

    def stored(self, payload: bytes) -> bytes:
        """Return what is left of a payload on its way into the state of a run."""
        for fault, change in (("later", as_published), ("lost", without_what_is_lost), ("run", without_worker)):
            if fault in self.faults:
                payload = changed(payload, change)
        return payload

    def lost(self, request: Json) -> Json:
        """Nobody watches a worker there."""
        return {} if "later" in self.faults else super().lost(request)

    def is_good(self, payload: bytes) -> bool:
        """Whether a payload is read."""
        return "event" in self.reader.decode({"reader": "lenient", "payload": testee.to_base64(payload)})

    def is_taken(self, payload: bytes, source: str) -> bool:
        """Whether an event is none that came already, and none behind a gap."""
        tree = parse(payload)
        run, meta = tree.get("p").get("run_id"), tree.get("m")
        name = run.get("id") if isinstance(run, Pairs) else run
        seq = int(float(meta.get("seq")))
        if not isinstance(name, str) or seq < 1 or not self.faults & {"run", "gap"}:
            return True
        sid = meta.get("sid")
        of = name if "run" in self.faults else (name, meta.get("wid"), sid or source)
        if tree.get("t") == "run_start" and not sid and "run" not in self.faults:
            self.seen.pop(of, None)
        seen = self.seen.setdefault(of, set())
        if "run" in self.faults and seq in seen:
            return False
        if "gap" in self.faults and seq > len(seen) + 1:
            return False
        seen.add(seq)
        return True


if __name__ == "__main__":
    testee.main(Original(sys.argv[1:] or FAULTS))
