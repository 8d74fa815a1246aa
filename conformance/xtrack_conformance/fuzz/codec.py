"""What must hold of a decoder, an encoder and a framer, whatever comes: the properties that a search tries to break."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from xtrack_conformance.fuzz.asking import Asker, Broken
from xtrack_conformance.fuzz.findings import Finding, Found
from xtrack_conformance.fuzz.framing import LeftOpen, in_recording, on_connection, problem_of, tiling_problem
from xtrack_conformance.fuzz.reading import Wanted, wanted_of
from xtrack_conformance.payloads import read_frame
from xtrack_conformance.protocol import Answer, Request, Yielded, bytes_text
from xtrack_conformance.slots import CONTROL, Fault, normal
from xtrack_conformance.values import Value, difference, shown, tag

READERS = ("strict", "lenient")


@attrs.define
class Codec:
    """The properties, of one testee or of two that are compared. Each method raises Found."""

    testee: Asker
    other: Asker | None = None
    _sessions: int = 0

    @property
    def readers(self) -> list[str]:
        """The readers that the testee has."""
        return [name for name in READERS if name in self.testee.hello.capabilities]

    # ------------------------------------------------------------------------------------------ decoder

    def payload(self, payload: bytes) -> None:
        """A payload is accepted or refused as the specification says, twice alike, and reads as its event."""
        self.testee.log.clear()
        for reader in self.readers:
            about = Finding(
                "decoder", "", "", input={"payload": as_parts(payload), "reader": reader}, bytes=payload.hex()
            )
            request = {"op": "decode", "reader": reader, "payload": bytes_text(payload)}
            first, second = self._ask(about, self.testee, [request, request])
            if not _alike(first, second):
                raise _found(about, "stable", "the same payload came to two things", _told(first), _told(second))
            wanted = wanted_of(payload, reader)
            _check_reading(about, wanted, first)
            if self.other and reader in self.other.hello.capabilities and "decoder" in self.other.hello.roles:
                [theirs] = self._ask(about, self.other, [request])
                if wanted.outcome != "either" and wanted.event is not None and not _alike(first, theirs):
                    raise _found(about, "same-in-both", "two testees disagree", _told(theirs), _told(first))
            if isinstance(first.event, dict) and wanted.event is not None and "encoder" in self.testee.hello.roles:
                self._written_again(about, wanted.event)

    def _written_again(self, about: Finding, event: dict[str, Value]) -> None:
        """What was read can be written, if at all, as what it was."""
        if not _is_written_as_it_is(event):
            return
        [answer] = self._ask(about, self.testee, [{"op": "encode", "event": tag(event)}])
        if answer.frame is not None:
            _check_frame(attrs.evolve(about, role="encoder", input={"value": tag(event)}), answer.frame, event)

    # ------------------------------------------------------------------------------------------ encoder

    def event(self, event: dict[str, Value]) -> None:
        """An event that a writer may write is written, twice alike, legally, and reads as itself."""
        self.testee.log.clear()
        about = Finding("encoder", "", "", input={"value": tag(event)})
        request: Request = {"op": "encode", "event": tag(event)}
        first, second = self._ask(about, self.testee, [request, request])
        if first.frame is None:
            raise _found(about, "writable", "refused an event that can be written", "a frame", _told(first))
        about = attrs.evolve(about, bytes=first.frame.hex())
        if second.frame != first.frame:
            raise _found(about, "stable", "the same event came out as other bytes (ENV-7.3)", got=_told(second))
        _check_frame(about, first.frame, event)
        for asker in (self.testee, self.other):
            if asker is None or "decoder" not in asker.hello.roles:
                continue
            for reader in READERS:
                if reader not in asker.hello.capabilities:
                    continue
                decode = {"op": "decode", "reader": reader, "payload": bytes_text(first.frame[4:])}
                [answer] = self._ask(about, asker, [decode])
                if answer.rejected is not None or difference(normal(event), normal(answer.event)):
                    who = "it" if asker is self.testee else "the other testee"
                    message = f"{who} reads what was written as something else, {reader} (ENV-7.4)"
                    raise _found(about, "round-trip", message, shown(event, 2000), _told(answer))

    # ------------------------------------------------------------------------------------------ framer

    def stream(self, data: bytes, source: str, cuts: Sequence[int]) -> None:
        """Bytes come to the same in every chunking, are covered once, and come to what the specification says."""
        self.testee.log.clear()
        reader = self.readers[-1]
        about = Finding(
            "framer", "", "", bytes=data.hex(), input={"feed": as_parts(data), "source": source, "reader": reader}
        )
        pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        whole = self._fed(about, self.testee, source, reader, [data])
        for name, chunks in (("in pieces", pieces), ("byte by byte", [data[i : i + 1] for i in range(len(data))])):
            divided = self._fed(about, self.testee, source, reader, chunks)
            if list(map(_outcome, divided)) != list(map(_outcome, whole)):
                message = f"not the same {name} as at once (FRM-1.5)"
                raise _found(about, "chunking", message, _list_of(whole), _list_of(divided))
        if problem := tiling_problem(whole, len(data)):
            raise _found(about, "tiling", f"{problem} (ERR-3.3)", got=_list_of(whole))
        for frame in whole:
            if (
                frame.payload is not None
                and frame.payload != data[frame.offset + 4 : frame.offset + (frame.length or 0)]
            ):
                raise _found(about, "payload", "the payload isn't as it came (FRM-8)", got=_list_of(whole))
        try:
            due = (in_recording if source == "recording" else on_connection)(data, reader)
        except LeftOpen:
            return
        if problem := problem_of(due, whole):
            raise _found(about, "frames", problem, "; ".join(map(str, due)) or "nothing", _list_of(whole))
        if self.other is None or "framer" not in self.other.hello.roles or any(item.accepted is None for item in due):
            return
        if source in {"connection", *self.other.hello.capabilities} and reader in self.other.hello.capabilities:
            theirs = self._fed(about, self.other, source, reader, [data])
            if problem_of(due, theirs):
                raise _found(about, "same-in-both", "two testees disagree", _list_of(theirs), _list_of(whole))

    def _fed(
        self, about: Finding, asker: Asker, source: str, reader: str, chunks: Sequence[bytes]
    ) -> tuple[Yielded, ...]:
        self._sessions += 1
        options: Request = {"session": f"fuzz {self._sessions}", "source": source, "reader": reader}
        requests = [{"op": "frame.feed", **options, "bytes": bytes_text(chunk)} for chunk in chunks if chunk]
        answers = self._ask(about, asker, [*requests, {"op": "frame.finish", **options}])
        return tuple(frame for answer in answers for frame in answer.frames or ())

    def _ask(self, about: Finding, asker: Asker, requests: Sequence[Request]) -> list[Answer]:
        try:
            answers = asker.ask_all(requests)
        except Broken as error:
            who = "" if asker is self.testee else "the other testee: "
            raise _found(about, "breakdown", f"{who}{error}") from None
        if unsupported := next((answer.unsupported for answer in answers if answer.unsupported is not None), None):
            raise _found(about, "breakdown", f"{unsupported} is unsupported, and what it needs was declared")
        return answers


def as_parts(data: bytes) -> list[dict[str, Any]]:
    """Return bytes as a case holds them, as text where that is plain to read."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return [{"hex": data.hex(" ")}]
    return [{"text": text}] if text.isprintable() and text else [{"hex": data.hex(" ")}] if data else []


def _check_reading(about: Finding, wanted: Wanted, answer: Answer) -> None:
    if answer.rejected is not None and answer.rejected.fatal:
        raise _found(about, "fatal", "called fatal what costs one frame", "not fatal", "fatal")
    if wanted.outcome == "refuse" and answer.rejected is None:
        raise _found(about, "refused", f"accepted what must be refused: {wanted.why}", "a refusal", _told(answer))
    if wanted.outcome == "accept" and answer.rejected is not None:
        raise _found(about, "accepted", "refused what must be accepted", "an event", _told(answer))
    if wanted.event is not None and (found := difference(normal(wanted.event), normal(answer.event))):
        raise _found(about, "event", f"read another event: {found}", shown(wanted.event, 2000), _told(answer))


def _check_frame(about: Finding, frame: bytes, event: dict[str, Value]) -> None:
    try:
        written = read_frame(frame)
    except Fault as fault:
        raise _found(about, "legal", f"wrote what no writer may: {fault}", got=shown(frame, 2000)) from fault
    if found := difference(normal(event), normal(written.event)):
        message = f"what was written reads as another event: {found}"
        raise _found(about, "written", message, shown(event, 2000), shown(frame, 2000))


def _is_written_as_it_is(event: dict[str, Value]) -> bool:
    """Whether a writer has no choice of what to write of an event that was read."""
    meta, body = event["m"], event["p"]
    assert isinstance(meta, dict)
    assert isinstance(body, dict)
    if event["t"] in CONTROL:
        return meta.get("seq") == 0 and not meta.get("sid") and not isinstance(body.get("run_id"), dict)  # CTL-1
    if event["t"] == "run_start":
        return "env" not in body  # EVT-RUN_START-5.3
    return not isinstance(body.get("run_id"), dict)  # EVT-1.9


def _alike(one: Answer, other: Answer) -> bool:
    if (one.rejected is None) != (other.rejected is None):
        return False
    return one.rejected is not None or difference(normal(one.event), normal(other.event)) is None


def _found(about: Finding, name: str, message: str, expected: str = "", got: str = "") -> Found:
    return Found(attrs.evolve(about, rule=name, message=message, expected=expected, got=got))


def _told(answer: Answer) -> str:
    if answer.rejected is not None:
        return f"a refusal ({answer.rejected.class_})"
    return shown(answer.frame if answer.frame is not None else answer.event, 2000)


def _outcome(frame: Yielded) -> tuple[object, ...]:
    rejected = frame.rejected
    class_ = rejected and rejected.class_
    is_fatal = bool(rejected and rejected.fatal) and class_ != "truncated"
    return frame.offset, frame.length, frame.payload, class_, is_fatal, frame.verified or rejected is not None


def _list_of(frames: Sequence[Yielded]) -> str:
    told = []
    for frame in frames:
        what = (
            f"{frame.rejected.class_ or 'error'}{' fatal' if frame.rejected.fatal else ''}"
            if frame.rejected
            else "frame"
        )
        end = "" if frame.length is None else frame.offset + frame.length
        told.append(f"[{frame.offset}, {end}) {what}{'' if frame.verified or frame.rejected else ' unverified'}")
    return "; ".join(told) or "nothing"
