"""Roles with a memory, as machines that Hypothesis drives: what they tell must be what a small model says.

The model knows which identities came first (STR-4, STR-5), which seqs are there, missing or declared lost (STR-6,
STR-7), and what was deleted (FLD-9). The fold it leaves alone: of that, two orders of arrival must give the same
(FLD-1).
"""

from __future__ import annotations

import base64
import json
import random
from typing import Any, ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from xtrack_conformance.fuzz.asking import Asker, Broken
from xtrack_conformance.fuzz.findings import Finding, Found
from xtrack_conformance.protocol import BadAnswer, bytes_text
from xtrack_conformance.scripts.states import ABSENT
from xtrack_conformance.values import BadValue, shown, untag

Json = dict[str, Any]
RUN: Final = "a"
SEQS: Final = st.integers(1, 6)
PLACES: Final = st.sampled_from([("", "s1"), ("", "s2"), ("w", "s3")])
VALUES: Final = st.sampled_from([0, 1, -1, 0.5, 2**53 + 1, "NaN", "Infinity"])
STEPS: Final = st.none() | st.integers(0, 3)

_BODIES: Final[st.SearchStrategy[tuple[str, Json]]] = st.one_of(
    st.tuples(
        st.just("metric"), st.fixed_dictionaries({"key": st.sampled_from(["k", "l"]), "value": VALUES, "step": STEPS})
    ),
    st.tuples(st.just("param"), st.fixed_dictionaries({"key": st.sampled_from(["p", "q"]), "value": VALUES})),
    st.tuples(
        st.just("tags"), st.fixed_dictionaries({"tags": st.fixed_dictionaries({"x": st.sampled_from(["1", "2"])})})
    ),
    st.tuples(st.just("summary"), st.fixed_dictionaries({"values": st.fixed_dictionaries({"k": VALUES})})),
    st.tuples(st.just("log"), st.fixed_dictionaries({"level": st.just("info"), "msg": st.sampled_from(["m", "n"])})),
    st.tuples(st.just("checkpoint"), st.fixed_dictionaries({"step": st.integers(0, 3), "path": st.just("c")})),
    st.tuples(st.just("energy"), st.fixed_dictionaries({"joules": st.integers(0, 1)})),
    st.tuples(st.just("run_end"), st.fixed_dictionaries({"status": st.sampled_from(["completed", "killed"])})),
    st.tuples(
        st.just("run_start"),
        st.fixed_dictionaries(
            {"name": st.sampled_from(["n", "o"])},
            optional={
                "resume": st.fixed_dictionaries({"sids": st.sampled_from([["s1"], ["s2"]]), "rewind_to": STEPS}),
                "world_size": st.integers(1, 3),
                "sub": st.booleans(),
            },
        ),
    ),
)


class Known:
    """What a receiver must have: payloads by seq and stream, losses that were declared, and conflicts."""

    def __init__(self) -> None:
        self.streams: dict[tuple[str, str], dict[int, Json]] = {}
        self.skipped: dict[tuple[str, str], set[int]] = {}
        self.conflicts: set[tuple[str, str]] = set()

    def take(self, place: tuple[str, str], event: Json) -> None:
        """Take an event."""
        stream = self.streams.setdefault(place, {})
        there = stream.setdefault(event["m"]["seq"], event)
        if there != event:
            self.conflicts.add(place)

    def highest(self, place: tuple[str, str]) -> int:
        """Return the highest seq of a stream."""
        return max(self.streams.get(place, {0: None}))

    def lost(self, place: tuple[str, str]) -> set[int]:
        """Return what was declared lost and didn't come."""
        return self.skipped.get(place, set()) - set(self.streams[place])


class Machine(RuleBasedStateMachine):
    """What machines have in common: a session, and the script of what was done in it."""

    role: ClassVar[str]
    asker: ClassVar[Asker]
    last: ClassVar[list[Found]]
    sessions: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        Machine.sessions += 1
        self.session = f"fuzz {Machine.sessions}"
        self.known = Known()
        self.script: list[Json] = []
        self.asker.log.clear()

    def ask(self, op: str, session: str = "", **members: Any) -> Json:
        """Return the ``ok`` of an answer. Raises Found."""
        request = {"op": f"{self.prefix}.{op}", "session": session or self.session, **members}
        try:
            answer = self.asker.ask(request)
        except Broken as error:
            raise self.found("breakdown", str(error)) from None
        if answer.ok is None:
            raise self.found("breakdown", f"{answer.unsupported} is unsupported, and the role was declared")
        return answer.ok

    @property
    def prefix(self) -> str:
        """The first word of the role's ops."""
        return {"collector": "collect", "store": "store"}[self.role]

    def found(self, name: str, message: str, expected: object = "", got: object = "") -> Found:
        """Return what is raised where something doesn't hold."""
        script, steps = json.loads(json.dumps([self.script, self.asker.log]))
        finding = Finding(self.role, name, message, 0, str(expected), str(got), script=script, steps=steps)
        self.last[:] = [Found(finding)]
        return self.last[0]

    def value(self, answer: Json, name: str) -> Any:
        """Return a tagged member of an answer."""
        try:
            return untag(answer.get(name), name)
        except (BadValue, BadAnswer) as error:
            raise self.found("breakdown", f"harness-error: {error}") from error

    def told(self, events: list[Json], source: str, kind: str) -> None:
        """Take part in the script."""
        self.script.append({"do": "feed" if self.role == "collector" else "put", "source": source, "events": events})
        if self.role == "collector" and kind == "recording":
            self.script[-1]["kind"] = kind


def event_of(place: tuple[str, str], seq: int, body: tuple[str, Json], late: int) -> Json:
    """Return an event of the run."""
    wid, sid = place
    meta = {"seq": seq, "ts": 1000 * seq + late, **({"wid": wid} if wid else {}), "sid": sid}
    return {
        "t": body[0],
        "v": 1,
        "m": meta,
        "p": {"run_id": RUN, **{k: v for k, v in body[1].items() if v is not None}},
    }


def frames_of(events: list[Json]) -> str:
    """Return the frames of events, as they stand in a request."""
    payloads = [json.dumps(event, separators=(",", ":")).encode() for event in events]
    return bytes_text(b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads))


def ranges(seqs: set[int]) -> list[list[int]]:
    """Return seqs as pairs of a first and a last one."""
    found: list[list[int]] = []
    for seq in sorted(seqs):
        if found and found[-1][1] == seq - 1:
            found[-1][1] = seq
        else:
            found.append([seq, seq])
    return found


class CollectorMachine(Machine):
    """A collector: duplicates, conflicts, gaps and losses by the model; the state, in two orders, the same."""

    role = "collector"

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[Json] = []
        self.is_told = False

    def feed(self, events: list[Json], source: str, session: str = "") -> None:
        """Feed events."""
        kind = "recording" if source.startswith("file") else "connection"
        if not session:
            self.told(events, source, kind)
        self.ask("feed", session, source=source, kind=kind, frames=frames_of(events))

    @rule(
        place=PLACES,
        seq=SEQS,
        body=_BODIES,
        late=st.sampled_from([0, 0, 1]),
        twice=st.booleans(),
        source=st.sampled_from("xy"),
    )
    def event(self, place: Any, seq: int, body: Any, late: int, twice: bool, source: str) -> None:
        """An event comes, once or twice."""
        event = event_of(place, seq, body, late)
        self.known.take(place, event)
        self.feed([event] * (1 + twice), source)

    @precondition(lambda self: self.known.streams)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        """An event comes again, by another connection."""
        place = data.draw(st.sampled_from(sorted(self.known.streams)))
        seq = data.draw(st.sampled_from(sorted(self.known.streams[place])))
        self.feed([self.known.streams[place][seq]], "z")

    @rule(text=st.sampled_from(["{}", "[1]", '{"t":"metric","v":1,"m":{"seq":1,"ts":1},"p":{"run_id":"a"}}', "{"]))
    def refused(self, text: str) -> None:
        """A payload comes that must be refused: it costs nothing else."""
        self.script.append({"do": "feed", "source": "x", "events": [{"text": text}]})
        payload = text.encode()
        frame = len(payload).to_bytes(4, "big") + payload
        self.ask("feed", source="x", kind="connection", frames=bytes_text(frame))

    @precondition(lambda self: self.known.streams)
    @rule(data=st.data(), reason=st.sampled_from(["died", "vanished"]), at=st.integers(7000, 9000))
    def watcher(self, data: st.DataObject, reason: str, at: int) -> None:
        """A worker is seen to be gone."""
        wid, sid = data.draw(st.sampled_from(sorted(self.known.streams)))
        after = data.draw(SEQS)
        lost: Json = {"run_id": RUN, "wid": wid, "sid": sid, "at": at, "reason": reason, "after_seq": after}
        self.lost.append(lost)
        self.script.append({"do": "lost", **lost})
        self.ask("lost", **lost)

    @rule()
    def look(self) -> None:
        """The streams are as the model says."""
        answer = self.ask("run", run_id=RUN)
        if not self.known.streams:
            if not answer.get("unknown"):
                raise self.found("unknown", "a run is known of which nothing came", "unknown", shown(answer))
            return
        if answer.get("unknown"):
            raise self.found("unknown", "a run is unknown of which events came", "a run", "unknown")
        streams = {(one.get("wid") or "", one["sid"]): one for one in self.value(answer, "run").get("streams") or []}
        if streams.keys() != self.known.streams.keys():
            message = "other streams than those that came (STR-1)"
            raise self.found("streams", message, sorted(self.known.streams), sorted(streams))
        for place, events in self.known.streams.items():
            told, present = streams[place], set(events)
            gaps = set(range(1, max(present))) - present - self.known.lost(place)
            rows: list[tuple[str, str, Any]] = [
                ("has", "STR-4", ranges(present)),
                ("gaps", "STR-6.1", ranges(gaps)),
                ("lost", "STR-7", ranges(self.known.lost(place))),
                ("last_seq", "STR-6.1", max(present)),
            ]
            for name, clause, expected in rows:
                got = told.get(name)
                if got != expected and not (got in ABSENT and expected in ABSENT):
                    raise self.found(name, f"stream {place}: {name} is wrong ({clause})", expected, shown(got))
            if bool(told.get("conflicts")) != (place in self.known.conflicts):
                message = f"stream {place}: conflicts are {told.get('conflicts')} (STR-5.1)"
                raise self.found("conflicts", message, place in self.known.conflicts, told.get("conflicts"))

    def teardown(self) -> None:
        """Tell the same in other orders: the state is the same."""
        try:
            if self.known.streams and not self.is_told:
                self.is_told = True
                self.look()
                wanted = self.state(self.session)
                for number in (1, 2):
                    other = f"{self.session} {number}"
                    self.tell_again(other, number)
                    found = self.state(other)
                    self.ask("close", other)
                    if found != wanted:
                        name = next(key for key in wanted if wanted[key] != found[key])
                        message = f"another order of arrival gives another {name} (FLD-1)"
                        raise self.found("order", message, shown(wanted[name], 2000), shown(found[name], 2000))
        finally:
            if self.asker.is_running:
                self.ask("close")

    def tell_again(self, session: str, number: int) -> None:
        """Tell what counted in another order: backwards, or shuffled."""
        events = [(place, event) for place, stream in self.known.streams.items() for event in stream.values()]
        told: list[Any] = [*events, *self.lost]
        random.Random(number).shuffle(told)  # noqa: S311 - the same order each time
        for item in told[::-1] if number == 1 else told:
            if isinstance(item, dict):
                self.ask("lost", session, **item)
            else:
                self.feed([item[1]], f"of {number}", session)

    def state(self, session: str) -> Json:
        """Return what is told of the run, in one form."""
        run = self.value(self.ask("run", session, run_id=RUN), "run")
        for stream in run.get("streams") or []:
            for name in ("conflicts", "ambiguous"):
                stream.pop(name, None)
        found: Json = {name: _one_form(value) for name, value in sorted(run.items())}
        for key in ("k", "l"):
            points = self.value(self.ask("points", session, run_id=RUN, key=key), "points")
            found[f"points of {key}"] = repr([_one_form(point) for point in points if not point.get("hidden")])
            found[f"hidden points of {key}"] = _one_form([point for point in points if point.get("hidden")])
        return {name: value for name, value in found.items() if value is not None}


def _one_form(value: Any) -> Any:
    """Return a value without what is absent, its lists in one order, as a text where it is one of those."""
    if isinstance(value, dict):
        inner = {name: _one_form(item) for name, item in sorted(value.items())}
        return {name: item for name, item in inner.items() if item is not None} or None
    if isinstance(value, list):
        return sorted(repr(_one_form(item)) for item in value) or None
    return None if value in ABSENT and not isinstance(value, (int, float)) else repr(value)


class StoreMachine(Machine):
    """A store: what was put is there, once, as it came, however the store is opened again."""

    role = "store"

    def __init__(self) -> None:
        super().__init__()
        self.deleted = False

    @initialize()
    def open(self) -> None:
        """Open a store."""
        self.ask("open")

    @rule(
        puts=st.lists(st.tuples(PLACES, SEQS, _BODIES, st.sampled_from([0, 0, 1])), min_size=1, max_size=4),
        twice=st.booleans(),
    )
    def put(self, puts: Any, twice: bool) -> None:
        """A batch comes, once or twice."""
        events = [event_of(place, seq, body, late) for place, seq, body, late in puts]
        if not self.deleted:
            for (place, *_), event in zip(puts, events, strict=True):
                self.known.take(place, event)
        for _ in range(1 + twice):
            self.told(events, "x", "connection")
            self.ask("put", source="x", frames=frames_of(events))

    @rule(how=st.sampled_from(["closed", "crash", "reindex"]))
    def reopen(self, how: str) -> None:
        """The store is opened again."""
        if how in {"closed", *self.asker.hello.capabilities}:
            self.script.append({"do": "reopen", "how": how})
            self.ask("reopen", how=how)
            self.look()

    @precondition(lambda self: self.known.streams)
    @rule()
    def delete(self) -> None:
        """The run is deleted, for good."""
        self.deleted = True
        self.known = Known()
        self.script.append({"do": "delete", "run_id": RUN})
        self.ask("delete", run_id=RUN)

    @rule()
    def look(self) -> None:
        """The store holds what came."""
        answer = self.ask("events", run_id=RUN)
        if not self.known.streams:
            if not answer.get("unknown"):
                raise self.found("unknown", "a run is known of which there is nothing", "unknown", shown(answer, 800))
            return
        if answer.get("unknown"):
            raise self.found("unknown", "a run is unknown of which events came", "a run", "unknown")
        expected = {
            (*place, seq): frames_of([event])
            for place, stream in self.known.streams.items()
            for seq, event in stream.items()
        }
        got: dict[Any, str] = {}
        for entry in answer.get("events") or []:
            identity = (entry.get("wid") or "", entry.get("sid"), entry.get("seq"))
            if identity in got:
                raise self.found("once", f"the event {identity} is there twice (STR-4.1)", got=shown(entry))
            got[identity] = _framed_again(entry.get("payload"))
        if got != expected:
            name = next(one for one in (*expected, *got) if expected.get(one) != got.get(one))
            message = f"the event {name} isn't there as it came, or is none of those that came (FLD-12)"
            raise self.found("events", message, expected.get(name), got.get(name))
        for place, stream in self.known.streams.items():
            told = self.ask("cursor", run_id=RUN, wid=place[0], sid=place[1]).get("ranges")
            if told != ranges(set(stream)):
                raise self.found("cursor", f"stream {place}: the cursor is wrong (FLD-12.2)", ranges(set(stream)), told)

    def teardown(self) -> None:
        """Look once more, and close."""
        try:
            if self.asker.is_running:
                self.look()
        finally:
            if self.asker.is_running:
                self.ask("close")


def _framed_again(payload: Any) -> str:
    data = base64.b64decode(payload) if isinstance(payload, str) else b""
    return bytes_text(len(data).to_bytes(4, "big") + data)


MACHINES: Final[dict[str, type[Machine]]] = {"collector": CollectorMachine, "store": StoreMachine}
