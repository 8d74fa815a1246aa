"""What an emitter does with a peer that doesn't answer hello: VER-3, VER-4."""

from __future__ import annotations

from generate.emitting import (
    CLOSED,
    CONNECT,
    DISCONNECT,
    HELLO,
    OPEN,
    PLAIN,
    Emitting,
    ack,
    call,
    command,
    connection,
    control,
    do,
    expect,
    log,
    metric,
    never,
    saw,
    send,
    session,
    start,
    tick,
)


def cases() -> Emitting:
    """Return the group."""
    g = Emitting("emf")
    fallback_cases(g)
    form_cases(g)
    again_cases(g)
    no_fallback_cases(g)
    return g


def fallback_cases(g: Emitting) -> None:
    """When, and when not."""
    g.one(
        "after-two-seconds", "VER-3", "no answer for 2 s: a peer of before, which gets the events at once",
        metric("m3"), PLAIN, expect(saw("run_start", 1), saw("metric", 3)), OPEN, kills="emitter-never-falls-back",
    )  # fmt: skip
    g.one(
        "not-before", "VER-3 CTL-5.1", "an answer may still come",
        metric(), CONNECT, HELLO, never({}, ms=1950), tick(150), expect(saw("metric")),
        kind="boundary", kills="emitter-falls-back-early emitter-never-falls-back",
    )  # fmt: skip
    g.one(
        "reject-in-time", "VER-3", "a reject is an answer, too: its peer is none of before, and is asked again",
        metric(), CONNECT, HELLO, tick(1900), send(control("reject", code="busy", retry_after=1)), CLOSED, CONNECT, HELLO,
        never({}, ms=1000), kind="invalid", kills="emitter-falls-back-early",
    )  # fmt: skip
    g.one(
        "answer-at-the-last-moment", "VER-3", "a welcome after 1.9 s is one in time",
        metric(), CONNECT, HELLO, tick(1900), do("welcome"), do("opened"), ack(0), expect(saw("run_start", 1)),
        kind="boundary", kills="emitter-falls-back-early",
    )  # fmt: skip
    g.twice(
        "late-welcome", "VER-3.6", "the peer was slow: from now on it is a session, and nothing of before counts",
        metric("m3"), PLAIN, expect(saw("metric", 3)), do("welcome"), do("opened"), ack(0),
        expect(saw("run_start", 1), saw("status", 2), saw("metric", 3)),
        kills="emitter-ignores-a-late-welcome emitter-forgets-what-it-sent",
    )  # fmt: skip
    g.one(
        "late-welcome-with-a-cursor", "VER-3.6 CTL-8.2", "the cursor is the collector's word, as ever",
        metric("m3"), PLAIN, expect(saw("metric", 3)), do("welcome"), do("opened"), ack(2), metric("m4"),
        expect(saw("metric", 3), saw("metric", 4)), kind="boundary", kills="emitter-ignores-a-late-welcome",
    )  # fmt: skip
    g.one(
        "late-welcome-of-another-version", "VER-3.6 CTL-6.5", "such a welcome is none at any time",
        metric("m3"), PLAIN, expect(saw("metric", 3)), do("welcome", body={"protocol": 9}), CLOSED, kind="invalid",
        kills="emitter-takes-any-version",
    )  # fmt: skip
    g.one(
        "stays-on-the-line", "VER-3 CTL-14.2", "a plain peer says nothing for hours, and is there",
        PLAIN, expect(saw("run_start")), tick(200_000, 20_000), OPEN, metric(), expect(saw("metric")),
        kind="boundary", kills="emitter-pings-a-plain-peer",
    )  # fmt: skip


def form_cases(g: Emitting) -> None:
    """What a plain peer gets."""
    g.one(
        "no-pings", "VER-3.2 CTL-10.1 CTL-10.2", "a plain peer knows no ping, and its silence means nothing",
        PLAIN, expect(saw("run_start")), never(saw("ping"), saw("pong"), ms=120_000), OPEN, kind="invalid",
        kills="emitter-pings-a-plain-peer emitter-gives-up-a-plain-peer",
    )  # fmt: skip
    g.one(
        "ping-of-a-plain-peer", "VER-3.2", "not even where it sends a ping of its own",
        PLAIN, expect(saw("run_start")), send(control("ping")), never(saw("pong"), ms=1000), OPEN, metric(),
        expect(saw("metric")), kind="boundary", kills="emitter-pongs-to-a-plain-peer",
    )  # fmt: skip
    g.one(
        "tags-as-log", "VER-3.1", "a peer of before doesn't know tags",
        PLAIN, call("tags", tags={"team": "vision"}),
        expect(saw("log", 3, level="info", msg="tags", logger="xtrack", fields={"team": "vision"})),
        never(saw("tags")), kills="emitter-tags-to-a-plain-peer emitter-other-logger",
    )  # fmt: skip
    g.one(
        "summary-as-log", "VER-3.1", "nor summaries", PLAIN, call("summary", values={"best": 0.25}),
        expect(saw("log", 3, level="info", msg="summary", logger="xtrack", fields={"best": 0.25})),
        kills="emitter-tags-to-a-plain-peer emitter-other-logger",
    )  # fmt: skip
    g.one(
        "alert-as-log", "VER-3.1", "title, colon, space and text, at the alert's level",
        PLAIN, call("alert", title="NaN", text="loss at step 7", level="error"),
        expect(saw("log", 3, level="error", msg="NaN: loss at step 7", logger="xtrack")),
        kills="emitter-tags-to-a-plain-peer emitter-alert-without-text",
    )  # fmt: skip
    g.one(
        "alert-without-text-as-log", "VER-3.1", "without a text, the title alone",
        PLAIN, call("alert", title="slow"), expect(saw("log", 3, level="warning", msg="slow", logger="xtrack")),
        kind="boundary", kills="emitter-tags-to-a-plain-peer",
    )  # fmt: skip
    g.one(
        "added-types-keep-their-seq", "VER-3.1 ENV-4.1", "in their place in the stream, between published events",
        metric("m3"), call("tags", tags={"a": "b"}), metric("m5"), PLAIN,
        expect(saw("metric", 3), saw("log", 4), saw("metric", 5)), kind="boundary",
        kills="emitter-tags-to-a-plain-peer",
    )  # fmt: skip
    g.one(
        "published-types-as-they-are", "VER-3.1", "all others go as ever",
        call("param", key="lr", value=0.1), metric(), call("metrics", values={"a": 1.0, "b": 2.0}), log("hello"),
        call("status", status="training"), PLAIN,
        expect(saw("param", 3), saw("metric", 4), saw("metric_batch", 5), saw("log", 6), saw("status", 7)), kills="emitter-never-falls-back",
    )  # fmt: skip
    g.one(
        "command-answer-as-log", "VER-3.1 CTL-4", "the answer has a seq of the stream there",
        PLAIN, expect(saw("run_start")), send(command("c1")), do("commands", ids=["c1"]),
        expect(saw("log", 3, level="info", msg="command_result", logger="xtrack",
                   fields={"cmd_id": "c1", "status": "ok"})),
        level="SHOULD", kills="emitter-no-answers emitter-other-logger",
    )  # fmt: skip
    g.twice(
        "command-of-a-plain-peer", "CTL-2 VER-3", "the one control event that such peers have",
        PLAIN, expect(saw("run_start")), send(command("c1", "stop")), do("commands", ids=["c1"]),
        kills="emitter-drops-commands",
    )  # fmt: skip
    g.one(
        "no-skip", "VER-3.2 STR-7.2", "what is lost stays a gap there, for it knows no skip",
        metric("m3"), do("full", full=True), metric("m4"), do("full", full=False), metric("m5"), PLAIN,
        expect(saw("metric", 3), saw("metric", 5)), never(saw("skip")), needs=["full"], kind="invalid",
        kills="emitter-skip-to-a-plain-peer",
    )  # fmt: skip


def again_cases(g: Emitting) -> None:
    """What counts as sent, and the next connection."""
    g.one(
        "nothing-counts-as-acked", "VER-3.3 DLV-4 DLV-3", "sent is less than acked",
        metric("m3"), PLAIN, expect(saw("metric")), tick(5000, 500), do("counts", are={"acked": 0}),
        call("flush", until="acked", timeout=2), tick(3000), do("call_is", **{"is": "returned", "value": False}),
        kind="invalid", kills="emitter-plain-is-acked",
    )  # fmt: skip
    g.one(
        "sent-and-unconfirmed", "VER-3.3", "what was sent is told as that",
        metric("m3"), PLAIN, expect(saw("metric")), tick(5000, 500),
        do("counts", are={"unconfirmed": {"$in": [3]}, "acked": 0}), level="SHOULD",
    )  # fmt: skip
    g.one(
        "goes-on-behind-what-was-sent", "DLV-8.3 VER-3.9", "a plain peer would have it twice",
        metric("m3"), PLAIN, expect(saw("metric", 3)), tick(5000, 500), DISCONNECT, metric("m4"), PLAIN,
        {**expect(saw("metric", 4)), "without": [saw("metric", 3), saw("run_start")]},
        kills="emitter-plain-begins-again",
    )  # fmt: skip
    g.one(
        "sent-to-a-plain-peer-and-then-a-session", "VER-3.3 CTL-8.2 DLV-8.2", "a collector that acks says what it has",
        metric("m3"), PLAIN, expect(saw("metric", 3)), tick(5000, 500), DISCONNECT, session(0),
        expect(saw("run_start", 1), saw("status", 2), saw("metric", 3)), kind="boundary",
        kills="emitter-goes-on-behind-its-own-note",
    )  # fmt: skip
    g.one(
        "closed-at-hello", "VER-3.8 VER-3.9 CTL-5", "a connection or two that end at hello prove nothing",
        CONNECT, HELLO, DISCONNECT, CONNECT, HELLO, DISCONNECT, connection("none", "wanted"), kind="boundary", kills="emitter-falls-back-at-once",
    )  # fmt: skip
    g.one(
        "hello-after-a-connection-without", "VER-3.9 VER-3.8", "the peer may have been replaced by one that answers",
        *([CONNECT, HELLO, DISCONNECT] * 3), CONNECT, tick(2500),
        expect(saw("run_start")), DISCONNECT, CONNECT, HELLO, kills="emitter-never-says-hello-again",
    )  # fmt: skip
    g.one(
        "known-peers-always-get-hello", "VER-3.10 VER-3.8", "one that has welcomed it is no peer of before",
        session(), expect(saw("run_start")), DISCONNECT, *([CONNECT, HELLO, DISCONNECT] * 6),
        kind="invalid", kills="emitter-no-hello-to-known-peers",
    )  # fmt: skip
    g.one(
        "late-welcome-is-remembered", "VER-3.10 VER-3.6", "a peer that has welcomed it late has welcomed it",
        PLAIN, expect(saw("run_start")), do("welcome"), do("opened"), ack(0), DISCONNECT,
        *([CONNECT, HELLO, DISCONNECT] * 6), kind="boundary", kills="emitter-no-hello-to-known-peers",
    )  # fmt: skip
    g.one(
        "known-peers-are-waited-for", "DLV-8.5", "its silence is that of a busy collector",
        session(), expect(saw("run_start")), DISCONNECT, metric(), CONNECT, HELLO, never(saw("metric"), ms=2500),
        level="SHOULD", kills="emitter-forgets-who-welcomed-it",
    )  # fmt: skip
    g.one(
        "known-peer-answers-late", "DLV-8.5 CTL-6", "a welcome after more than two seconds is still in time",
        session(), expect(saw("run_start")), DISCONNECT, metric(), CONNECT, HELLO, never(saw("metric"), ms=2500),
        do("welcome"), do("opened"), ack(2), expect(saw("metric", 3)), level="SHOULD", kind="boundary",
        kills="emitter-forgets-who-welcomed-it",
    )  # fmt: skip


def no_fallback_cases(g: Emitting) -> None:
    """VER-4."""
    for name, options in (
        ("key", {"key": "open-sesame"}),
        ("tls", {"tls": True}),
        ("both", {"key": "k1", "tls": True}),
    ):
        g.one(
            f"none-with-{name}", "VER-4", "whoever answers nothing may be anybody: no event goes there",
            start(**options), metric(), CONNECT, HELLO, never({}, ms=30_000), connection("none", "wanted"),
            kind="invalid", kills="emitter-falls-back-with-a-key",
        )  # fmt: skip
        g.one(
            f"tries-again-with-{name}", "VER-4 DLV-6.3", "without an answer it closes the connection and tries again",
            start(**options), metric(), CONNECT, HELLO, connection("wanted", within=60_000), session(),
            expect(saw("metric")), kills="emitter-falls-back-with-a-key",
        )  # fmt: skip
    g.one(
        "closings-with-a-key", "VER-4 VER-3.8", "not after many closings either",
        start(key="open-sesame"), *([CONNECT, HELLO, DISCONNECT] * 5), kind="boundary",
        kills="emitter-no-hello-to-known-peers",
    )  # fmt: skip
