"""What an emitter makes of acks and refusals: CTL-3, CTL-13."""

from __future__ import annotations

from typing import Any

from generate.dsl import Json
from generate.emitting import (
    CLOSED,
    CONNECT,
    DISCONNECT,
    HELLO,
    OPEN,
    Emitting,
    ack,
    call,
    connection,
    control,
    do,
    expect,
    metric,
    never,
    saw,
    send,
    session,
    start,
    tick,
)


def welcome(**body: Any) -> Json:
    """Welcome it."""
    return do("welcome", body=body) if body else do("welcome")


def ack_cases(g: Emitting) -> None:
    """CTL-3, apart from refusals."""
    two = (metric("m3"), session(), expect(saw("metric")))
    g.twice(
        "ack-without-sid", "CTL-3.4 DLV-3", "the connection has one stream: it is meant",
        *two, {**ack(3), "bare": True}, tick(100), do("counts", are={"acked": 3}),
        call("flush", until="acked", timeout=5), do("call_is", **{"is": "returned", "value": True}),
        kills="emitter-needs-sid-in-acks",
    )  # fmt: skip
    for name, other in (
        ("session", {"sid": "0" * 32, "run_id": "a"}),
        ("run", {"sid": "@sid@", "run_id": "b"}),
        ("worker", {"sid": "@sid@", "run_id": "a", "wid": "9"}),
    ):
        g.one(
            f"ack-of-another-{name}", "DLV-3 CTL-3.3 STR-1.3", "a stream is run, worker and session, all three",
            *two, send(control("ack", seq=3, status="ok", **other)), tick(100), do("counts", are={"acked": 0}),
            call("flush", until="acked", timeout=1), tick(1500), do("call_is", **{"is": "returned", "value": False}),
            kind="invalid", kills="emitter-takes-any-ack" + ("" if name == "session" else " emitter-matches-acks-by-sid"),
        )  # fmt: skip
    g.one(
        "ack-in-parts", "DLV-3 CTL-3 CTL-3.2 CTL-3.13", "acked is what an ack has covered, and no more",
        *two, tick(100), do("counts", are={"acked": 0}), ack(1), tick(100), do("counts", are={"acked": 1}), ack(3),
        tick(100), do("counts", are={"acked": 3}), kills="emitter-acked-when-sent",
    )  # fmt: skip
    g.twice(
        "ack-lower-than-before", "CTL-3.7", "a collector restored from a backup is no broken one",
        *two, ack(3), ack(1), tick(1000), OPEN, metric("m4"), expect(saw("metric", key="m4")),
        kills="emitter-refuses-lower-acks",
    )  # fmt: skip
    g.one(
        "ack-again", "CTL-3.7 CTL-3.2", "the same seq once more is nothing new",
        *two, ack(3), ack(3), tick(100), OPEN, metric("m4"), expect(saw("metric", 4)), kind="boundary", kills="emitter-repeated-ack-is-a-fault",
    )  # fmt: skip
    g.twice(
        "ack-above-all-that-was-sent", "CTL-3.13 CTL-3.10 DLV-3", "a spool would be trimmed for it: nothing in it is taken",
        *two, ack(4), CLOSED, do("counts", are={"acked": 0}), kind="boundary", kills="emitter-takes-impossible-acks",
    )  # fmt: skip
    g.one(
        "ack-far-above", "CTL-3.13 CTL-3.10", "no event has that seq",
        *two, ack(2**62), CLOSED, do("counts", are={"acked": 0}), kind="invalid", kills="emitter-takes-impossible-acks",
    )  # fmt: skip
    g.one(
        "ack-below-0", "CTL-3.13 CTL-3.7", "no cursor is below 0",
        *two, ack(-1), CLOSED, do("counts", are={"acked": 0}), kind="invalid", kills="emitter-takes-negative-acks",
    )  # fmt: skip
    g.one(
        "ack-of-open-below-0", "CTL-3.13", "nor the one that answers open",
        CONNECT, HELLO, welcome(), do("opened"), ack(-1), CLOSED, kind="invalid", kills="emitter-takes-negative-acks",
    )  # fmt: skip
    g.one(
        "ack-of-the-last", "CTL-3.13 DLV-3", "the last seq that was sent may be acked",
        *two, ack(3), tick(500), OPEN, do("counts", are={"acked": 3}), kind="boundary", kills="emitter-last-ack-off-by-one",
    )  # fmt: skip
    g.one(
        "ack-of-the-cursor", "CTL-3.13", "the cursor that it named on this connection may be acked again",
        metric("m3"), metric("m4"), session(4), ack(4), tick(500), OPEN, kind="boundary", kills="emitter-doubts-the-cursor",
    )  # fmt: skip
    g.one(
        "ack-error-is-a-pause", "CTL-3.6 CTL-3.14", "a disk that is full will be emptied: the connection stays",
        *two, ack(2, status="error", error="the store is full"), tick(5000), OPEN, ack(2), expect(saw("metric", 3)),
        kills="emitter-closes-on-error-acks emitter-goes-on-where-it-was",
    )  # fmt: skip
    g.one(
        "ack-error-keeps-its-seq", "CTL-3.6", "what it covers is committed all the same",
        *two, ack(2, status="error", error="the store is full"), tick(100), do("counts", are={"acked": 2}),
        kind="boundary", kills="emitter-error-acks-nothing",
    )  # fmt: skip
    g.twice(
        "ack-after-an-error", "CTL-3.14", "it is the cursor: from there on, whatever was sent",
        metric("m3"), metric("m4"), session(), expect(saw("metric", key="m4")), ack(1, status="error", error="wait"),
        metric("m5"), tick(200), ack(1), expect(saw("status", 2), saw("metric", 3), saw("metric", 4), saw("metric", 5)),
        kills="emitter-goes-on-where-it-was",
    )  # fmt: skip
    g.one(
        "ack-error-twice", "CTL-3.6 CTL-3.14 CTL-8.5", "two pauses are one",
        *two, ack(1, status="error", error="wait"), ack(1, status="error", error="still"), tick(200), ack(1),
        expect(saw("status", 2), saw("metric", 3)), kind="boundary", kills="emitter-goes-on-where-it-was emitter-opens-again-after-a-hold",
    )  # fmt: skip


def refusal_cases(g: Emitting) -> None:
    """CTL-3.8, CTL-3.11, CTL-13."""
    g.one(
        "refused-event-again", "CTL-3.8 CTL-12.1", "it will be refused again: its seq is declared lost instead",
        metric("m3"), metric("m4"), session(), expect(saw("metric", key="m4")), ack(4, rejected=[[3, "seq_conflict"]]),
        DISCONNECT, session(2), expect(saw("skip", **{"from": 3, "to": 3}), saw("metric", 4)),
        kills="emitter-sends-refused-again",
    )  # fmt: skip
    g.one(
        "refused-and-rewound", "CTL-3.8 CTL-3.14", "not on the same connection either",
        metric("m3"), metric("m4"), session(), expect(saw("metric", key="m4")), ack(4, rejected=[[3, "out_of_range"]]),
        ack(2, status="error", error="wait"), ack(2), expect(saw("metric", 4)), never(saw("metric", 3)),
        kind="invalid", kills="emitter-sends-refused-again",
    )  # fmt: skip
    g.one(
        "refused-is-told", "CTL-3 DLV-4 DLV-9.2", "a refused event is not one that was acked",
        metric("m3"), session(), expect(saw("metric")), ack(3, rejected=[[3, "run_deleted"]]), tick(100),
        do("counts", are={"acked": 2}), call("flush", until="acked", timeout=1), tick(1500),
        do("call_is", **{"is": "returned", "value": False}), kind="boundary", kills="emitter-refused-is-acked",
    )  # fmt: skip
    for name, error in (("bare", "fenced"), ("with-text", "fenced: another sender has it")):
        g.twice(
            f"fenced-{name}", "CTL-3.11 CTL-13.2", "another has the stream: it is sent no more, and not opened again",
            metric("m3"), session(), expect(saw("metric")), ack(3, status="error", error=error), metric("m4"),
            tick(2000), {**ack(3), "if_open": True}, metric("m5"), tick(30_000, 5000), call("flush", until="accepted"),
            never(saw("metric"), saw("open")), kind="invalid", kills="emitter-ignores-fenced",
        )  # fmt: skip
    g.one(
        "fenced-by-reject", "CTL-13.2 CTL-7.1", "the same, said to a connection with one stream",
        metric("m3"), session(), expect(saw("metric")), send(control("reject", code="fenced")), CLOSED, metric("m4"),
        {**CONNECT, "if_wanted": True}, HELLO, welcome(), never(saw("open"), ms=3000), kind="invalid",
        kills="emitter-comes-back-after-fenced",
    )  # fmt: skip
    for name, error in (("bare", "forbidden"), ("with-text", "forbidden: run b belongs to somebody else")):
        g.one(
            f"forbidden-{name}", "CTL-3.11", "this credential may not bring it, now or in a moment",
            metric("m3"), session(), expect(saw("metric")), ack(3, status="error", error=error), {**ack(3),
            "if_open": True},
            metric("m4"), never(saw("metric"), ms=3000), kind="invalid", kills="emitter-ignores-forbidden",
        )  # fmt: skip
    g.one(
        "forbidden-at-open", "CTL-3.11 CTL-8.7", "nothing of it is sent at all",
        metric("m3"), CONNECT, HELLO, welcome(), do("opened"), ack(0, status="error", error="forbidden"),
        {**ack(0), "if_open": True}, never(saw("run_start"), saw("metric"), ms=3000), kind="invalid",
        kills="emitter-ignores-forbidden",
    )  # fmt: skip
    for name, error in (("longer-word", "fencedoff"), ("no-colon", "forbidden for today"), ("no-space", "fenced:x")):
        g.one(
            f"not-final-{name}", "CTL-3.11 CTL-3.14", "a text that only begins like a final one is for people",
            metric("m3"), session(), expect(saw("metric")), ack(2, status="error", error=error), tick(500), OPEN,
            ack(2), expect(saw("metric", 3)), kind="boundary", kills="emitter-final-by-prefix",
        )  # fmt: skip
    g.one(
        "refused-for-its-key-and-mended", "DLV-8.7", "at the next attempt the key is right, and everything comes",
        start(key="sesame"), metric("m3"), CONNECT, HELLO, send(control("reject", code="unauthorized")),
        connection("wanted", within=120_000), session(), expect(saw("run_start", 1), saw("metric", 3)),
        level="SHOULD", kind="boundary",
    )  # fmt: skip
