"""Testees that break the testee protocol, each in one way: ``python harnesses.py NAME``.

Most behave until they are asked for the integer 9223372036854775807, so that a run shows what else that costs.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from tools import Json, load_testee

TRIGGER = b"9223372036854775807"
FOREVER = 3600


def write(text: str) -> None:
    """Write to stdout at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def line(answer: Json) -> str:
    """Return an answer as a line."""
    return json.dumps(answer) + "\n"


def crash(_answer: Json) -> None:
    """End without a word."""
    os._exit(7)


def abort(_answer: Json) -> None:
    """Be killed by a signal."""
    os.abort()


def hang(_answer: Json) -> None:
    """Never answer."""
    time.sleep(FOREVER)


def silent(_answer: Json) -> None:
    """Answer everything but this."""


def noisy(answer: Json) -> None:
    """Say something on stdout that is no answer."""
    write("decoding an event\n" + line(answer))


def wrong_id(answer: Json) -> None:
    """Answer something nobody asked."""
    write(line({**answer, "id": 10**6}))


def twice(answer: Json) -> None:
    """Answer twice."""
    write(line(answer) * 2)


def half_a_line(answer: Json) -> None:
    """End in the middle of an answer."""
    write(line(answer)[:20])
    os._exit(0)


def half_a_line_and_hang(answer: Json) -> None:
    """Stop in the middle of an answer."""
    write(line(answer)[:20])
    time.sleep(FOREVER)


def huge(_answer: Json) -> None:
    """Write a line without an end."""
    piece = "x" * 1_000_000
    while True:
        sys.stdout.write(piece)


def closes_stdout(_answer: Json) -> None:
    """Close stdout and live on."""
    os.close(1)
    time.sleep(FOREVER)


def no_result(answer: Json) -> None:
    """Answer with nothing but the id."""
    write(line({"id": answer["id"]}))


def two_results(answer: Json) -> None:
    """Accept and refuse."""
    write(line({**answer, "rejected": {"class": "bad_json"}}))


def unknown_class(answer: Json) -> None:
    """Refuse with a class that isn't there."""
    write(line({"id": answer["id"], "rejected": {"class": "ugly"}}))


def untagged(answer: Json) -> None:
    """Hand on plain JSON for a value."""
    write(line({"id": answer["id"], "event": {"t": "metric", "v": 1}}))


def no_utf8(answer: Json) -> None:
    """Write bytes that are no text."""
    sys.stdout.buffer.write(b'{"id":%d,"event":"\xff"}\n' % answer["id"])
    sys.stdout.flush()


def internal_error(answer: Json) -> None:
    """Report a fault of its own."""
    write(line({"id": answer["id"], "internal_error": "out of cheese"}))


def unsupported(answer: Json) -> None:
    """Say that it can't what it has declared."""
    write(line({"id": answer["id"], "unsupported": {"capability": "lenient"}}))


AT_TRIGGER: dict[str, Callable[[Json], None]] = {
    "crash": crash, "abort": abort, "hang": hang, "silent": silent, "noisy": noisy, "wrong-id": wrong_id,
    "twice": twice,
    "half-a-line": half_a_line, "half-a-line-and-hang": half_a_line_and_hang, "huge-answer": huge,
    "closes-stdout": closes_stdout, "no-result": no_result, "two-results": two_results, "unknown-class": unknown_class,
    "untagged": untagged, "no-utf8": no_utf8, "internal-error": internal_error, "unsupported": unsupported,
}  # fmt: skip


def at_trigger(name: str, marker: Path | None) -> None:
    """Answer, and misbehave at the trigger; with a marker file only the first time."""
    module = load_testee()
    testee = module.Testee()
    for text in sys.stdin.buffer:
        request = json.loads(text)
        answer = {"id": request["id"], **testee.answer(request)}
        payload = base64.b64decode(request.get("payload", ""))
        if TRIGGER in payload and (marker is None or not marker.exists()):
            if marker:
                marker.touch()
            AT_TRIGGER[name](answer)
        else:
            write(line(answer))
    if name == "noise-at-the-end":
        write("goodbye\n")


def no_answer_to_hello() -> None:
    """Never introduce itself."""
    time.sleep(FOREVER)


def _with_hello(change: Callable[[Json], Any]) -> Callable[[], None]:
    def introduce() -> None:
        sys.stdin.readline()
        hello = load_testee().HELLO
        write(line({"id": 0, **change(dict(hello))}))
        sys.stdin.read()

    return introduce


def _judging(accepts: Callable[[bool], bool]) -> Callable[[], None]:
    """Return a testee that accepts or refuses by another rule than the bytes."""

    def answer_all() -> None:
        module = load_testee()
        testee = module.Testee()
        some = module.to_tagged({"t": "ping", "v": 1, "m": {"seq": 0, "ts": 0}, "p": {}})
        payload = b'{"t":"ping","v":1,"m":{"seq":0,"ts":0},"p":{}}'
        frame = len(payload).to_bytes(4, "big") + payload
        for text in sys.stdin.buffer:
            request = json.loads(text)
            answer = testee.answer(request)
            if request["op"] in {"decode", "encode"}:
                good = (
                    {"event": some} if request["op"] == "decode" else {"frame": module.to_base64(b"\0\0\0\x2f" + frame)}
                )
                answer = good if accepts("rejected" not in answer) else {"rejected": {}}
            write(line({"id": request["id"], **answer}))

    return answer_all


WHOLE: dict[str, Callable[[], None]] = {
    "ends-at-once": lambda: None,
    "no-answer-to-hello": no_answer_to_hello,
    "hello-no-json": lambda: write("Welcome to my testee!\n"),
    "hello-wrong-id": lambda: write('{"id":1}\n'),
    "hello-no-roles": _with_hello(lambda hello: {**hello, "roles": []}),
    "hello-unknown-role": _with_hello(lambda hello: {**hello, "roles": ["cook"]}),
    "hello-protocol-2": _with_hello(lambda hello: {**hello, "protocol": [2]}),
    "hello-no-reader": _with_hello(lambda hello: {**hello, "capabilities": {}}),
    "accepts-all": _judging(lambda _: True),
    "refuses-all": _judging(lambda _: False),
    "inverted": _judging(lambda honest: not honest),
}


def main(name: str, marker: Path | None = None) -> None:
    """Be the testee of that name."""
    if name in WHOLE:
        WHOLE[name]()
    else:
        at_trigger(name, marker)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
