"""Follows what an emitter writes on its connections, and raises Broken for what no emitter may write there.

It knows what the suite, as the collector, has sent: from that follows what may come. All rules here bind every
emitter, whatever a case is about.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import attrs

from xtrack_conformance.payloads import PREFIX, read_payload
from xtrack_conformance.slots import CONTROL, EVENTS, Fault
from xtrack_conformance.values import shown

Json = dict[str, Any]
Stream = tuple[str, str, str]
"""Run id, worker id, session id."""

SESSION_ID: Final = re.compile(r"[0-9a-f]{32}\Z")
ADDED: Final = frozenset({"tags", "alert", "summary"})
FRAME_MAX: Final = 1_048_576
ID_MAX: Final = 1024
FALLBACK_MS: Final = 2000
FINAL: Final = ("fenced", "forbidden")


class Broken(Exception):
    """What was written breaks a clause."""

    def __init__(self, message: str, clause: str, *, expected: str = "", got: str = "") -> None:
        self.clause, self.expected, self.got = clause, expected, got
        super().__init__(message)


@attrs.frozen
class Written:
    """A frame of the emitter: its JSON, its payload, the connection it came on, and when."""

    tree: Json
    payload: bytes
    line: int
    now: int

    @property
    def type(self) -> str:
        """The event's type."""
        return str(self.tree["t"])

    @property
    def seq(self) -> int:
        """The event's seq."""
        return int(self.tree["m"]["seq"])

    @property
    def body(self) -> Json:
        """The event's body."""
        body: Json = self.tree["p"]
        return body

    @property
    def run(self) -> str:
        """The run that it names."""
        run = self.body.get("run_id", "")
        return str(run["id"] if isinstance(run, dict) else run)

    def told(self) -> str:
        """Return the frame for people."""
        return shown(self.payload.decode("utf-8", "replace"), 300)


@attrs.define
class Sent:
    """A stream on one connection. ``ascent``: the last seq of its events here, ``passed``: all that were sent or
    skipped. ``cursor`` is None until the ack of its opening has come. ``starts``: seqs that may come next although
    they are not above the last one.
    """

    cursor: int | None = None
    acked: int = 0
    ascent: int = 0
    passed: set[int] = attrs.field(factory=set)
    skips: list[tuple[int, int]] = attrs.field(factory=list)
    on_their_way: dict[int, int] = attrs.field(factory=dict)
    starts: set[int] = attrs.field(factory=set)
    held: bool = False
    final: str = ""

    def lacks(self, seq: int) -> int | None:
        """Return the first seq between the cursor and ``seq`` that was neither sent nor skipped."""
        found = (self.cursor or 0) + 1
        while found < seq:
            skip = next((last for first, last in self.skips if first <= found <= last), None)
            if skip is not None:
                found = skip + 1
            elif found in self.passed:
                found += 1
            else:
                return found
        return None


class Line:
    """One connection. ``mode``: new, waiting (for the answer to hello), session, plain or over."""

    def __init__(self, number: int, *, secure: bool, hello_may_lack: bool) -> None:
        self.number = number
        self.mode = "new"
        self.hello: Json | None = None
        self.hello_at = 0
        self.secure = secure
        self.hello_may_lack = hello_may_lack
        self.streams: dict[Stream, Sent] = {}
        self.plain: dict[Stream, int] = {}
        self.max_frame = FRAME_MAX
        self.window_events: int | None = None
        self.window_bytes: int | None = None
        self.answered: list[str] = []
        self.data = bytearray()

    def only(self) -> Stream | None:
        """Return the stream of a connection that has one."""
        return next(iter(self.streams)) if len(self.streams) == 1 else None


class Follower:
    """All connections of one emitter, one after the other."""

    def __init__(self, run: str, worker: str, *, secure: bool) -> None:
        self.run = run
        self.worker = worker
        self.secure = secure
        self.line: Line | None = None
        self.lines = 0
        self.events: dict[tuple[Stream, int, bool], Json] = {}
        self.refused: set[tuple[Stream, int]] = set()
        self.fenced: set[Stream] = set()
        self.ends: dict[Stream, int] = {}
        self.any_worker = False
        self.stream: Stream | None = None
        """The stream that was seen last."""

    def connected(self, *, hello_may_lack: bool) -> None:
        """A new connection is there."""
        self.lines += 1
        self.line = Line(self.lines, secure=self.secure, hello_may_lack=hello_may_lack)

    # ------------------------------------------------------------------------------------------ what the suite sends

    def sent(self, tree: Json) -> None:
        """Take note of a frame that the suite is about to send."""
        line = self.line
        assert line is not None
        body = tree["p"]
        if tree["t"] == "welcome" and line.mode in {"waiting", "plain"}:
            limits = body.get("limits", {})
            line.mode = "session"
            line.max_frame = min(FRAME_MAX, limits.get("max_frame", FRAME_MAX))
            line.window_events, line.window_bytes = limits.get("window_events"), limits.get("window_bytes")
        elif tree["t"] == "reject":
            line.mode = "over"
            if body.get("code") == "fenced":
                self.fenced |= line.streams.keys()
        elif tree["t"] == "ack":
            self._acked(line, body)

    def _acked(self, line: Line, body: Json) -> None:
        stream = line.only()
        if "sid" in body:
            stream = (body.get("run_id", ""), body.get("wid", ""), body["sid"])
        entry = line.streams.get(stream) if stream else None
        if stream is None or entry is None or line.mode != "session":
            return
        seq = body["seq"]
        error = body.get("error", "") if body["status"] == "error" else None
        if error is not None and error.partition(": ")[0] in FINAL:
            entry.final = error
            if error.startswith("fenced"):
                self.fenced.add(stream)
        self.refused |= {(stream, refused) for refused, _ in body.get("rejected", [])}
        if entry.cursor is None or entry.held or error is not None:
            self._go_on_at(entry, seq)
        elif seq < entry.acked:
            entry.starts = set(range(seq + 1, entry.acked + 2))
        entry.acked = seq
        entry.held = error is not None
        for passed in [passed for passed in entry.on_their_way if passed <= seq]:
            del entry.on_their_way[passed]

    @staticmethod
    def _go_on_at(entry: Sent, seq: int) -> None:
        entry.cursor, entry.ascent = seq, 0
        entry.passed.clear()
        entry.skips.clear()
        entry.on_their_way.clear()
        entry.starts.clear()

    # ------------------------------------------------------------------------------------------ what the emitter writes

    def take(self, data: bytes, now: int) -> list[Written]:
        """Take bytes that were written, at ``now`` or before; return the frames they complete. Raises Broken."""
        line = self.line
        if line is None:
            raise Broken("bytes were written, and there was no connection", "CTL-5", got=shown(data))
        line.data += data
        found = []
        while len(line.data) >= PREFIX:
            size = int.from_bytes(line.data[:PREFIX], "big")
            if size > FRAME_MAX:
                raise Broken(f"a frame of {size} bytes", "FRM-3.8", got=shown(bytes(line.data[:40])))
            if len(line.data) < PREFIX + size:
                break
            payload = bytes(line.data[PREFIX : PREFIX + size])
            del line.data[: PREFIX + size]
            found.append(self._frame(line, payload, now))
        return found

    def _frame(self, line: Line, payload: bytes, now: int) -> Written:
        try:
            if not payload:
                raise Fault("frame", "its length is 0", "FRM-2.1")
            event = read_payload(payload).event
        except Fault as fault:
            raise Broken(f"a frame that no writer may write: {fault}", fault.clause, got=shown(payload, 300)) from fault
        assert isinstance(event["t"], str)
        frame = Written(as_tree(payload), payload, line.number, now)
        check_control(frame)
        try:
            self._place(line, frame, now)
        except Broken as broken:
            broken.got = broken.got or frame.told()
            raise
        return frame

    def _place(self, line: Line, frame: Written, now: int) -> None:
        if line.mode == "new" and frame.type == "hello":
            line.mode, line.hello, line.hello_at = "waiting", frame.body, now
            return
        if frame.type == "hello":
            raise Broken("a second hello on a connection", "CTL-5")
        if line.mode == "new":
            if not line.hello_may_lack:
                raise Broken("the first frame of the connection is no hello", "CTL-5")
            line.mode = "plain"
        elif line.mode == "waiting":
            if line.secure:
                raise Broken("with a key or TLS it sent something although hello was not answered", "VER-4")
            if now < line.hello_at + FALLBACK_MS:
                raise Broken(f"it sent something {now - line.hello_at} ms after hello, without an answer", "CTL-5.1")
            line.mode = "plain"
        if line.mode == "plain":
            self._plain(line, frame)
        elif line.mode == "session":
            self._session(line, frame)
        elif line.mode == "recording" and frame.type not in CONTROL:
            self._identity(frame, plain=False)

    # ------------------------------------------------------------------------------------------ a plain connection

    def _plain(self, line: Line, frame: Written) -> None:
        if frame.type in CONTROL:
            raise Broken(f"a {frame.type} to a plain peer", "VER-3.2")
        if frame.type in ADDED or frame.type not in EVENTS:
            raise Broken(f"an event of the added type {frame.type} to a plain peer", "VER-3.1")
        stream = self._identity(frame, plain=True)
        if frame.seq <= line.plain.get(stream, 0):
            raise Broken(f"seq {frame.seq} after {line.plain[stream]} on one connection", "CTL-12")
        line.plain[stream] = frame.seq

    # ------------------------------------------------------------------------------------------ a session

    def _session(self, line: Line, frame: Written) -> None:
        if frame.type == "open":
            self._open(line, frame)
        elif frame.type == "skip":
            self._skip(line, frame)
        elif frame.type not in CONTROL:
            self._event(line, frame)

    def _open(self, line: Line, frame: Written) -> None:
        stream = (frame.run, frame.body.get("wid", ""), frame.body["sid"])
        self._check_names(stream)
        if stream in line.streams:
            raise Broken("the stream was opened on this connection before", "CTL-8.5")
        if stream in self.fenced:
            raise Broken("a stream that was fenced was opened again", "CTL-13.2")
        line.streams[stream] = Sent()
        self.stream = stream

    def _opened(self, line: Line, stream: Stream) -> Sent:
        entry = line.streams.get(stream)
        if entry is None:
            raise Broken("its stream was not opened on this connection", "CTL-8")
        if entry.final:
            raise Broken(f"more of a stream whose ack said {entry.final!r}", "CTL-3.11")
        if entry.cursor is None:
            raise Broken("it went on before the ack of its open named the cursor", "CTL-8.2")
        return entry

    def _skip(self, line: Line, frame: Written) -> None:
        body = frame.body
        entry = self._opened(line, (frame.run, body.get("wid", ""), body["sid"]))
        if not 1 <= body["from"] <= body["to"]:
            raise Broken(f"a skip from {body['from']} to {body['to']}", "CTL-9.1")
        entry.skips.append((body["from"], body["to"]))

    def _event(self, line: Line, frame: Written) -> None:
        stream = self._identity(frame, plain=False)
        entry = self._opened(line, stream)
        seq, size = frame.seq, len(frame.payload)
        assert entry.cursor is not None
        if seq in entry.starts:
            entry.starts.clear()
            entry.ascent = seq - 1
        elif entry.ascent == 0 and seq <= entry.cursor:
            raise Broken(f"seq {seq}, although the cursor is {entry.cursor}", "CTL-8.2")
        elif seq <= entry.ascent:
            raise Broken(f"seq {seq} after {entry.ascent} on one connection", "CTL-12")
        if (stream, seq) in self.refused:
            raise Broken(f"seq {seq} was refused, and is sent again", "CTL-3.8")
        lacking = entry.lacks(seq)
        if lacking is not None:
            raise Broken(f"seq {seq} came, and {lacking} neither came nor was skipped", "CTL-12.1")
        if size > line.max_frame:
            raise Broken(f"a payload of {size} bytes, and welcome named {line.max_frame}", "FRM-3.9")
        entry.ascent = seq
        entry.passed.add(seq)
        entry.on_their_way[seq] = size
        self._check_window(line)

    @staticmethod
    def _check_window(line: Line) -> None:
        sizes = [size for entry in line.streams.values() for size in entry.on_their_way.values()]
        if len(sizes) < 2:
            return
        if line.window_events is not None and len(sizes) > line.window_events:
            raise Broken(f"{len(sizes)} events are not acked, and the window is {line.window_events}", "CTL-6.3")
        if line.window_bytes is not None and sum(sizes) > line.window_bytes:
            raise Broken(f"{sum(sizes)} bytes are not acked, and the window is {line.window_bytes}", "CTL-6.3")

    # ------------------------------------------------------------------------------------------ every event

    def _check_names(self, stream: Stream) -> None:
        run, worker, session = stream
        if not run or max(len(name.encode()) for name in stream) > ID_MAX:
            raise Broken("a run id, worker id or session id that is empty or too long", "EVT-1.7", got=shown(run))
        if self.run and run != self.run:
            raise Broken(f"the run is {self.run!r}, not {run!r}", "EVT-1.2")
        if worker != self.worker and not self.any_worker:
            raise Broken(f"the worker is {self.worker!r}, not {worker!r}", "ENV-3")
        if not SESSION_ID.match(session):
            raise Broken(f"the session id {session!r} is not 32 hexadecimal digits", "STR-1.1")

    def _identity(self, frame: Written, *, plain: bool) -> Stream:
        meta = frame.tree["m"]
        if "sid" not in meta:
            raise Broken("an event without sid", "ENV-3.4")
        stream = (frame.run, meta.get("wid", ""), meta["sid"])
        self._check_names(stream)
        check_event(frame)
        before = self.events.setdefault((stream, frame.seq, plain), frame.tree)
        if before != frame.tree:
            raise Broken(f"seq {frame.seq} was another event before", "STR-1", expected=shown(before, 300))
        first = self.events.get((stream, 1, plain))
        if frame.seq == 2 and first and not (first["p"].get("sub") or first["p"].get("observer")):
            check_second(frame)
        end = self.ends.get(stream)
        if end is not None and frame.seq > end:
            raise Broken("an event after the run_end of its stream", "EVT-RUN_END-2.1")
        if frame.type == "run_end":
            self.ends[stream] = frame.seq
        self.stream = stream
        return stream


def check_event(frame: Written) -> None:
    """Check what holds for every event of a stream that trains, wherever it goes."""
    seq = frame.seq
    if seq < 1:
        raise Broken(f"an event with seq {seq}", "ENV-4.3", got=frame.told())
    if seq == 1 and frame.type != "run_start":
        raise Broken("seq 1 is no run_start", "ENV-4", got=frame.told())
    if frame.type != "run_start" and not isinstance(frame.body.get("run_id", ""), str):
        raise Broken("the object form of the run id in another event than run_start", "EVT-1.5", got=frame.told())


def check_second(frame: Written) -> None:
    """Check the second event of a stream that trains."""
    if frame.type != "status" or frame.body["status"] != "running":
        raise Broken("the second event is no status running", "EVT-RUN_START-3", got=frame.told())


def check_control(frame: Written) -> None:
    """Check what holds for every control event."""
    meta = frame.tree["m"]
    if frame.type in CONTROL and (meta["seq"] != 0 or "sid" in meta):
        raise Broken("a control event has seq 0 and no sid in m", "CTL-1", got=frame.told())


def as_tree(payload: bytes) -> Json:
    """Return the JSON of a payload that was read before."""
    tree: Json = json.loads(payload)
    return tree
