"""Legal but unusual testees. None of them may fail: what is held against one of these is a fault of the suite."""

from __future__ import annotations

import json
import queue
import re
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from tools import Json, Mutation, decoding, distorts, everywhere, framing, refusal, writing


def _hello(**changes: Any) -> Mutation:
    """Make a variant that says other things of itself."""

    def mutate(module: ModuleType) -> None:
        module.HELLO = {**module.HELLO, **changes}

    return mutate


def _main(answer_all: Callable[[Any], None]) -> Mutation:
    """Make a variant that reads and writes lines in another way."""

    def mutate(module: ModuleType) -> None:
        module.main = answer_all

    return mutate


def _out_of_order(testee: Any) -> None:
    """Answer what has come in the meantime in reversed order."""
    lines: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    going = True
    while going:
        batch = [lines.get()]
        while len(batch) < 16 and not lines.empty():
            batch.append(lines.get())
        going = None not in batch
        requests = [json.loads(line) for line in batch if line is not None]
        answers = [{"id": request["id"], **testee.answer(request)} for request in requests]
        for answer in reversed(answers):
            sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _byte_by_byte(testee: Any) -> None:
    """Write each byte by itself."""
    for line in sys.stdin.buffer:
        request = json.loads(line)
        for byte in (json.dumps({"id": request["id"], **testee.answer(request)}) + "\n").encode():
            sys.stdout.buffer.write(bytes([byte]))
            sys.stdout.buffer.flush()


def _spacious(testee: Any) -> None:
    """Write white space, members nobody asked for, and carriage returns; talk on stderr."""
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answer = {"took_us": 12, "note": "\u00e9 \u2028", **testee.answer(request), "id": request["id"]}
        sys.stderr.write(f"answered {request['id']}\n")
        sys.stdout.buffer.write(json.dumps(answer, separators=(" , ", " : "), ensure_ascii=False).encode() + b" \r\n")
        sys.stdout.flush()


def _explicit(event: Json) -> Json:
    """Tell of absence as null, of run ids as objects, of defaults and members that nobody knows."""
    body = dict(event["p"]) if isinstance(event["p"], dict) else event["p"]
    if event["t"] == "metric":
        body |= {name: None for name in ("step", "epoch", "ctx") if name not in body} | {"colour": "red"}
    if event["t"] == "log":
        body = {"logger": None, "fields": {}, **body}
    if event["t"] == "artifact":
        body = {"upload": "reference", "meta": {}, **body}
    if event["t"] == "alert":
        body = {"level": "warning", **body}
    if event["t"] in {"log", "metric", "tags"} and isinstance(body.get("run_id"), str):
        body["run_id"] = {"id": body["run_id"], "exp_id": None}
    return {"x": 1, **event, "m": {"wid": None, "sid": "", **event["m"]}, "p": body}


def _digest(event: Json) -> None:
    checksum = event["p"].get("checksum") if isinstance(event["p"], dict) else None
    if isinstance(checksum, str) and re.fullmatch("[0-9a-fA-F]{64}", checksum):
        event["p"]["checksum"] = f"sha256:{checksum.lower()}"


def _twice(honest: Any, payload: bytes, reader: str, _module: ModuleType) -> Json:
    """Refuse a payload in which a name stands twice in one object."""
    answer: Json = honest(payload, reader)
    doubled = False

    def pairs(found: list[tuple[str, Any]]) -> Json:
        nonlocal doubled
        doubled = doubled or len(dict(found)) < len(found)
        return dict(found)

    if "event" in answer:
        json.loads(payload, object_pairs_hook=pairs)
    return refusal("bad_json") if doubled else answer


def _by_binary64(honest: Any, payload: bytes, reader: str, _module: ModuleType) -> Json:
    """Read integers with a fraction by way of binary64, and -0 as the integer 0."""
    spelled = re.sub(rb'(?<="step":)9\d+\.0', lambda found: b"%d" % int(float(found[0])), payload)
    answer: Json = honest(re.sub(rb'("value":)-0(?=[,}])', rb"\g<1>0", spelled), reader)
    return answer


def _refusals(change: Callable[[Json], Json]) -> Mutation:
    """Make a variant that tells of errors in another way."""

    def frames(base: Any) -> type:
        class Session(base):  # type: ignore[misc]
            def told(self, frame: Any) -> Json:
                entry: Json = super().told(frame)
                return {**entry, "rejected": change(entry["rejected"])} if "rejected" in entry else entry

        return Session

    def read(honest: Any, payload: bytes, reader: str, _module: ModuleType) -> Json:
        answer: Json = honest(payload, reader)
        return {"rejected": change(answer["rejected"])} if "rejected" in answer else answer

    def mutate(module: ModuleType) -> None:
        framing(frames)(module)
        decoding(read)(module)

    return mutate


def _telling(change: Callable[[Json], Json]) -> Mutation:
    def frames(base: Any) -> type:
        class Session(base):  # type: ignore[misc]
            def told(self, frame: Any) -> Json:
                return change(super().told(frame))

        return Session

    return framing(frames)


def _fatal_length(entry: Json) -> Json:
    rejected = entry.get("rejected", {})
    return {**entry, "length": 0} if rejected.get("fatal") and entry["length"] is None else entry


def _end_not_fatal(entry: Json) -> Json:
    rejected = entry.get("rejected", {})
    if rejected.get("class") == "truncated":
        return {**entry, "rejected": {**rejected, "fatal": False}}
    return entry


def _reordered(payload: bytes, _event: Json) -> bytes:
    """Write the members backwards, with white space."""

    def backwards(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: backwards(value[name]) for name in reversed(value)}
        return [backwards(item) for item in value] if isinstance(value, list) else value

    return json.dumps(backwards(json.loads(payload)), ensure_ascii=False, indent=1).encode()


def _spelled(payload: bytes, _event: Json) -> bytes:
    """Write floats with a capital exponent and too many digits."""

    class Float(float):
        def __repr__(self) -> str:
            return f"{float(self):.25E}"

    def floats(value: Any) -> Any:
        return everywhere(lambda leaf: f"@{Float(leaf)!r}@" if isinstance(leaf, float) else leaf)(value)

    text = json.dumps(floats(json.loads(payload)), separators=(",", ":"), ensure_ascii=False)
    return re.sub(r'"@([-+.\dE]+)@"', r"\1", text).encode()


VARIANTS: dict[str, Mutation] = {
    "one-in-flight": _hello(max_in_flight=1),
    "a-thousand-in-flight": _hello(max_in_flight=1000),
    "strict-only": _hello(capabilities={"strict": True, "lenient": False}),
    "lenient-only": _hello(capabilities={"lenient": True, "limits": True}),
    "decoder-only": _hello(roles=["decoder"]),
    "answers-out-of-order": _main(_out_of_order),
    "one-byte-a-write": _main(_byte_by_byte),
    "spacious-and-talkative": _main(_spacious),
    "tells-more-than-it-must": distorts(_explicit),
    "gives-digests-their-prefix": distorts(_digest),
    "refuses-names-given-twice": decoding(_twice),
    "reads-integers-by-binary64": decoding(_by_binary64),
    "names-no-class": _refusals(lambda rejected: {"fatal": rejected["fatal"]}),
    "has-one-class": _refusals(lambda rejected: {**rejected, "class": "bad_json"}),
    "fatal-errors-of-length-0": _telling(_fatal_length),
    "end-of-input-not-fatal": _telling(_end_not_fatal),
    "writes-backwards-with-spaces": writing(_reordered),
    "escapes-all-but-ascii": writing(
        lambda payload, _: json.dumps(json.loads(payload), separators=(",", ":")).encode()
    ),
    "escapes-slashes": writing(lambda payload, _: payload.replace(b"/", b"\\/")),
    "spells-floats-at-length": writing(_spelled),
}
"""By name. The specification allows each of them, or says SHOULD NOT at most."""

OWN_PROCESS = {
    "one-in-flight",
    "a-thousand-in-flight",
    "answers-out-of-order",
    "one-byte-a-write",
    "spacious-and-talkative",
}
"""What shows only where lines go to and fro."""
