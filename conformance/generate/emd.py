"""How an emitter gets its events there, what it promises, and how it ends: DLV, STR, EMT-3."""

from __future__ import annotations

from generate.dsl import Json
from generate.emitting import (
    CLOSED,
    CONNECT,
    DISCONNECT,
    HELLO,
    Emitting,
    ack,
    call,
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


def is_(what: str, **more: object) -> Json:
    """See what became of the last call."""
    return do("call_is", **{"is": what, **more})


def cases() -> Emitting:
    """Return the group."""
    g = Emitting("emd")
    identity_cases(g)
    again_cases(g)
    pause_cases(g)
    wait_cases(g)
    end_cases(g)
    loss_cases(g)
    return g


def identity_cases(g: Emitting) -> None:
    """STR-1, ENV-4."""
    g.one(
        "a-session-id-for-each-start", "STR-1.1 STR-2.6", "128 random bits: no two starts share one",
        {**start(run_id="a"), "of": "one"}, {**session(), "of": "one"},
        {**start(run_id="a"), "of": "two"}, {**session(), "of": "two"},
        {**start(run_id="b"), "of": "three"}, {**session(), "of": "three"}, do("distinct", all=["one", "two", "three"]),
        kills="emitter-reuses-session-ids",
    )  # fmt: skip
    g.one(
        "form-of-a-session-id", "STR-1.1 STR-2.6 ENV-3.4", "32 lower-case hexadecimal digits, in every event",
        session(), expect({"t": "run_start", "m": {"sid": {"$re": "^[0-9a-f]{32}$"}}}), metric(),
        expect({"t": "metric", "m": {"sid": "@sid@"}}), kind="boundary",
        kills="emitter-session-ids-in-capitals emitter-legacy-session-ids",
    )  # fmt: skip
    g.one(
        "begins-with-run-start", "ENV-4 EVT-RUN_START-2 EVT-RUN_START-3", "seq 1 is the start, seq 2 says that it runs",
        session(), expect(saw("run_start", 1), saw("status", 2, status="running")),
        kills="emitter-no-run-start emitter-seq-from-0 emitter-no-running",
    )  # fmt: skip
    g.one(
        "seqs-without-a-gap", "ENV-4.1 CTL-12 CTL-12.1 ENV-4.5", "each event has the seq behind the one before it",
        {**metric("m@n@"), "times": 20}, session(), {**log("l@n@"), "times": 20},
        expect(saw("metric", 3, key="m0"), saw("metric", 22, key="m19"), saw("log", 23), saw("log", 42, msg="l19")),
        kills="emitter-seq-gap emitter-out-of-order",
    )  # fmt: skip
    g.one(
        "nothing-but-its-ends", "ENV-4 ENV-4.1 EVT-RUN_START-2 EVT-RUN_START-3",
        "a training that logs nothing: its start is the first event, that it runs the second, and its end the third",
        session(), call("end", timeout=1),
        expect(saw("run_start", 1), saw("status", 2, status="running"), saw("run_end", 3)), kind="boundary",
        kills="emitter-no-run-start emitter-seq-from-0 emitter-no-running",
    )  # fmt: skip
    g.one(
        "worker-in-every-event", "ENV-3 ENV-3.5 EVT-1.7", "a worker with an id names it",
        start(worker_id="w/1"), session(), metric(), expect({"t": "metric", "m": {"wid": "w/1"}}),
        kills="emitter-forgets-the-worker",
    )  # fmt: skip
    g.one(
        "no-worker", "ENV-3.5", "without an id, wid is left out",
        session(), expect({"t": "run_start", "m": {"wid": {"$absent": True}}}), kind="boundary", kills="emitter-worker-0-by-default",
    )  # fmt: skip


def again_cases(g: Emitting) -> None:
    """DLV-6, DLV-8."""
    g.one(
        "logged-before-there-is-a-connection", "DLV-6 DLV-8 EMT-3.6", "nothing waits, and nothing is lost",
        metric("m3"), log("four"), session(), expect(saw("metric", 3), saw("log", 4)), kills="emitter-calls-wait-for-acks emitter-sends-what-comes-alone",
    )  # fmt: skip
    g.one(
        "logged-while-nobody-listens", "DLV-6 EMT-3.6", "it comes when there is somebody",
        do("refuse"), metric("m3"), do("refuse"), metric("m4"), session(),
        expect(saw("run_start", 1), saw("metric", 3), saw("metric", 4)), kills="emitter-sends-what-comes-alone",
    )  # fmt: skip
    g.one(
        "sent-again", "DLV-6 STR-1", "what was not acked comes again, the same to the letter",
        metric("m3"), session(), expect(saw("metric")), ack(1), DISCONNECT, session(1),
        expect(saw("status", 2), saw("metric", 3)),
        kills="emitter-forgets-what-it-sent emitter-resend-changes-events",
    )  # fmt: skip
    g.one(
        "sent-again-and-again", "DLV-6", "as often as a connection breaks",
        metric("m3"), *([session(), expect(saw("metric", 3)), DISCONNECT] * 5), session(2), expect(saw("metric", 3)),
        kind="boundary", kills="emitter-forgets-what-it-sent emitter-resend-changes-events",
    )  # fmt: skip
    g.one(
        "acked-is-not-sent-again", "CTL-8.2 DLV-8.2", "from the cursor on, and nothing before it",
        metric("m3"), session(), expect(saw("metric")), ack(3), DISCONNECT, metric("m4"), session(3),
        {**expect(saw("metric", 4)), "without": [saw("metric", 3)]}, kind="invalid",
        kills="emitter-ignores-the-cursor",
    )  # fmt: skip
    g.one(
        "sent-again-after-an-impossible-ack", "DLV-6 CTL-3.13", "what nobody can have acked was not acked: it comes again",
        metric("m3"), session(), expect(saw("metric")), ack(4), CLOSED, session(0),
        expect(saw("run_start", 1), saw("status", 2), saw("metric", 3)), kind="invalid",
        kills="emitter-takes-impossible-acks",
    )  # fmt: skip
    g.one(
        "broken-in-the-middle", "DLV-6 CTL-8", "a connection that ends before the cursor was named",
        metric("m3"), CONNECT, HELLO, do("welcome"), do("opened"), DISCONNECT, session(), expect(saw("metric", 3)),
        kind="boundary", kills="emitter-sends-what-comes-alone",
    )  # fmt: skip
    g.one(
        "broken-at-hello", "DLV-6", "a connection that ends at once",
        metric("m3"), CONNECT, DISCONNECT, session(), expect(saw("metric", 3)), kind="boundary", kills="emitter-sends-what-comes-alone",
    )  # fmt: skip
    g.one(
        "many-events", "DLV-6 CTL-12 DLV-8", "more than one write can hold, over two connections",
        {**metric("m@n@"), "times": 300}, session(), expect(saw("metric", key="m299")), DISCONNECT, session(150),
        expect(saw("metric", 151), saw("metric", 302, key="m299")), kind="boundary", kills="emitter-forgets-what-it-sent",
    )  # fmt: skip


def pause_cases(g: Emitting) -> None:
    """DLV-6.3."""
    g.one(
        "pauses", "DLV-6.3", "random parts of times that double, lest all come back at once",
        do("pauses", attempts=24), level="SHOULD",
        kills="emitter-no-pauses emitter-pauses-too-long emitter-pauses-never-grow",
    )  # fmt: skip
    g.one(
        "never-gives-up", "DLV-6.3", "a collector that is back after an hour finds it",
        *([do("refuse")] * 60), session(), expect(saw("run_start")), level="SHOULD", kind="boundary",
        kills="emitter-gives-up",
    )  # fmt: skip
    g.one(
        "pauses-begin-anew", "DLV-6.3", "after a session the first pause is a short one again",
        *([do("refuse")] * 12), session(), expect(saw("run_start")), DISCONNECT, connection("wanted", within=200),
        level="SHOULD", kind="boundary", kills="emitter-pauses-never-reset",
    )  # fmt: skip
    g.one(
        "a-pause-after-each-closing", "DLV-6.3", "a peer that takes and closes connections isn't asked without a pause",
        *([CONNECT, HELLO, DISCONNECT] * 2), do("pauses", attempts=24, before=2), level="SHOULD",
        kills="emitter-no-pauses",
    )  # fmt: skip


def wait_cases(g: Emitting) -> None:
    """DLV-3, DLV-1, EMT-3.6."""
    g.one(
        "flush-accepted", "DLV-1 DLV-8", "accepted is said at once, whatever a collector does",
        metric(), call("flush", until="accepted"), is_("returned"), kills="emitter-flush-waits-for-acks",
    )  # fmt: skip
    g.one(
        "flush-waits-for-acks", "DLV-3 DLV-4", "it returns when the last event is covered, and not before",
        metric("m3"), session(), expect(saw("metric")), call("flush", until="acked", timeout=20), tick(100),
        is_("waits"), ack(2), tick(100), is_("waits"), ack(3), tick(1000), is_("returned", value=True),
        kills="emitter-flush-doesnt-wait emitter-acked-when-sent",
    )  # fmt: skip
    g.one(
        "flush-that-isnt-acked", "DLV-3 DLV-4", "no ack, no promise",
        metric("m3"), session(), expect(saw("metric")), ack(2), call("flush", until="acked", timeout=3), tick(2500),
        is_("waits"), tick(1500), is_("returned", value=False), kind="invalid",
        kills="emitter-flush-doesnt-wait",
    )  # fmt: skip
    g.one(
        "flush-without-a-connection", "DLV-3 DLV-4", "nobody is there who could ack",
        metric(), call("flush", until="acked", timeout=3), tick(4000), is_("returned", value=False), kind="invalid", kills="emitter-flush-always-true",
    )  # fmt: skip
    g.one(
        "flush-over-a-break", "DLV-3 DLV-6", "the ack may come on another connection",
        metric("m3"), session(), expect(saw("metric")), call("flush", until="acked", timeout=25), DISCONNECT,
        session(3), tick(1000), is_("returned", value=True), kind="boundary", kills="emitter-flush-doesnt-wait",
    )  # fmt: skip
    g.one(
        "calls-dont-wait", "DLV-8 EMT-3.6", "a collector that takes connections and answers nothing",
        CONNECT, HELLO, metric(), log(), call("param", key="a", value=1), call("tags", tags={"a": "b"}),
        call("status", status="training"), call("summary", values={"a": 1.0}), call("alert", title="t"),
        call("checkpoint", path="ckpt.pt", step=1), kind="invalid", kills="emitter-calls-wait-for-acks",
    )  # fmt: skip


def end_cases(g: Emitting) -> None:
    """EMT-3.3, EMT-3.7, EVT-RUN_END-2."""
    g.one(
        "end", "EVT-RUN_END-2 EVT-RUN_END-2.1", "by itself: completed, and nothing after it",
        session(), metric(), call("end"), expect(saw("metric"), saw("run_end", status="completed")), ack("all"),
        tick(1000), is_("returned"), CLOSED, kills="emitter-no-run-end emitter-always-failed",
    )  # fmt: skip
    g.one(
        "end-failed", "EVT-RUN_END-2 EVT-RUN_END-3", "by an error, which is told",
        session(), call("end", status="failed", error="loss is NaN"),
        expect(saw("run_end", status="failed", error={"message": {"$re": "loss is NaN"}})),
        kills="emitter-always-completed emitter-failed-without-error",
    )  # fmt: skip
    g.one(
        "end-failed-and-nobody-says-why", "EVT-RUN_END-3", "error must be there all the same",
        session(), call("end", status="failed"), expect(saw("run_end", status="failed", error={})), kind="invalid",
        kills="emitter-always-completed emitter-failed-without-error",
    )  # fmt: skip
    g.one(
        "end-killed", "EVT-RUN_END-2", "somebody has stopped it",
        session(), call("end", status="killed"), expect(saw("run_end", status="killed")),
        kills="emitter-always-completed emitter-always-failed",
    )  # fmt: skip
    g.one(
        "end-with-a-wrong-status", "VAL-6 EMT-3.1 EVT-RUN_END-2", "no word of the closed set: one that is, and no error",
        session(), call("end", status="exploded"),
        expect(saw("run_end", status={"$in": ["completed", "failed", "killed"]})), kind="invalid", kills="emitter-any-end-status",
    )  # fmt: skip
    g.one(
        "end-twice", "EVT-RUN_END-2.1 EMT-3.1", "the second call does nothing",
        session(), call("end", timeout=5), expect(saw("run_end")), ack("all"), tick(6000), call("end"), tick(1000),
        is_("returned"), never(saw("run_end")),
        kind="invalid", kills="emitter-second-end-raises",
    )  # fmt: skip
    g.one(
        "calls-after-the-end", "EVT-RUN_END-2.1 EMT-3.1", "run_end is the last event, whatever is called then",
        session(), call("end", timeout=5), expect(saw("run_end")), ack("all"), tick(6000), metric("late"), log("late"),
        call("tags", tags={"a": "b"}), call("flush", until="accepted"), kind="invalid",
        kills="emitter-raises-after-the-end",
    )  # fmt: skip
    g.one(
        "events-after-the-end-while-it-waits", "EVT-RUN_END-2.1", "nothing comes behind run_end on a new connection",
        session(), metric(), call("end", timeout=20), expect(saw("run_end")), DISCONNECT, session(2),
        expect(saw("metric", 3), saw("run_end", 4)), never(saw("metric"), ms=500), kind="boundary",
        kills="emitter-events-after-the-end",
    )  # fmt: skip
    g.one(
        "end-waits-for-acks", "EMT-3.3", "as long as there is hope, and at most 30 s",
        session(), call("end"), expect(saw("run_end")), tick(30_500, 1000), is_("returned"),
        kind="boundary", kills="emitter-end-waits-for-ever",
    )  # fmt: skip
    g.one(
        "end-tells-what-is-left", "EMT-3.3", "the user is told how to ship what wasn't delivered",
        session(), call("end"), expect(saw("run_end")), do("lines"), tick(30_500, 1000), is_("returned"),
        do("lines", min=1), kills="emitter-end-says-nothing",
    )  # fmt: skip
    g.one(
        "end-without-a-collector", "EMT-3.3 EMT-3.7", "nobody was ever there: it may give up sooner, and no later",
        metric(), call("end"), tick(30_500, 1000), is_("returned"), kills="emitter-end-waits-for-ever",
    )  # fmt: skip
    g.one(
        "end-when-nobody-listens", "EMT-3.3 EMT-3.7 EMT-3.6", "attempts that fail don't make it wait longer",
        do("refuse"), do("refuse"), metric(), call("end"), tick(30_500, 1000), is_("returned"), kind="boundary", kills="emitter-end-waits-for-ever",
    )  # fmt: skip
    g.one(
        "end-with-a-plain-peer", "EMT-3.3 VER-3.3", "acks that never come are not waited for longer than that",
        do("plain"), expect(saw("run_start")), call("end"), expect(saw("run_end")), tick(30_500, 1000),
        is_("returned"), kind="boundary", kills="emitter-end-waits-for-ever",
    )  # fmt: skip
    g.one(
        "end-at-once", "EMT-3.3 DLV-3", "once all is acked there is nothing to wait for",
        session(), call("end"), expect(saw("run_end")), ack("all"), tick(2500), is_("returned"), kind="boundary",
        level="SHOULD",
    )  # fmt: skip
    g.one(
        "end-while-it-is-held", "EMT-3.3 CTL-3.6", "a collector that takes nothing doesn't hold the process",
        metric(), session(), expect(saw("metric")), ack(1, status="error", error="full"), call("end"),
        tick(31_000, 1000), is_("returned"), kind="invalid", kills="emitter-end-waits-for-ever",
    )  # fmt: skip
    g.one(
        "end-and-reject", "EMT-3.3 CTL-7.1", "nor one that asks for an hour",
        session(), metric(), expect(saw("metric")), send(control("reject", code="busy", retry_after=3600)),
        call("end"), tick(31_000, 1000), is_("returned"), kind="invalid", kills="emitter-end-waits-for-ever",
    )  # fmt: skip


def loss_cases(g: Emitting) -> None:
    """DLV-7, STR-7.2."""
    full, room = do("full", full=True), do("full", full=False)
    g.one(
        "what-is-dropped-is-declared", "STR-7.2 DLV-7.1 CTL-9 ENV-4.1", "the seqs that nobody will ever see",
        metric("m3"), full, metric("m4"), metric("m5"), room, metric("m6"), session(),
        expect(saw("metric", 3), saw("skip", **{"from": 4, "to": 5, "run_id": "a", "sid": "@sid@"}), saw("metric", 6)),
        needs=["full"], kills="emitter-declares-no-loss emitter-loss-without-seq emitter-skip-off-by-one",
    )  # fmt: skip
    g.one(
        "the-newest-are-dropped", "DLV-7", "and the oldest stay",
        {**metric("m@n@"), "times": 5}, full, metric("lost"), room, metric("after"), session(),
        expect(saw("metric", 3, key="m0"), saw("metric", 7, key="m4"), saw("metric", 9, key="after")), needs=["full"], kills="emitter-loss-without-seq",
    )  # fmt: skip
    g.one(
        "a-drop-is-told", "DLV-7.1 EMT-3.2", "in what it counts, and to people",
        do("lines"), full, metric("lost"), room, metric(), do("counts", are={"dropped": 1}), do("lines", min=1),
        needs=["full"], kills="emitter-drops-in-silence",
    )  # fmt: skip
    g.one(
        "many-drops-are-few-lines", "EMT-3.2", "at a limited rate: a full disk mustn't fill the log",
        do("lines"), full, {**metric("m@n@"), "times": 300}, room, do("lines", min=1, max=30), needs=["full"],
        kind="boundary", kills="emitter-warns-each-time emitter-drops-in-silence",
    )  # fmt: skip
    g.one(
        "drops-raise-nothing", "EMT-3.1 DLV-7 DLV-7.1", "the training goes on",
        full, metric(), log(), call("checkpoint", path="c.pt", step=1), call("param", key="a", value=1), room,
        call("tags", tags={"a": "b"}), session(), expect(saw("skip", **{"from": 3, "to": 6}), saw("tags", 7)),
        needs=["full"], kind="invalid", kills="emitter-raises-when-full emitter-declares-no-loss",
    )  # fmt: skip
    g.one(
        "dropped-in-a-session", "STR-7.2 CTL-12.1", "declared on the connection there is, before what follows",
        session(), metric("m3"), expect(saw("metric", 3)), full, metric("m4"), room, metric("m5"),
        expect(saw("skip", **{"from": 4, "to": 4}), saw("metric", 5)), needs=["full"],
        kills="emitter-declares-no-loss emitter-loss-without-seq",
    )  # fmt: skip
    g.one(
        "dropped-twice", "STR-7.2 DLV-7.1", "two losses, with an event between",
        full, metric("m3"), room, metric("m4"), full, metric("m5"), room, metric("m6"), session(),
        expect(saw("skip", **{"from": 3, "to": 3}), saw("metric", 4), saw("skip", **{"from": 5, "to": 5}),
               saw("metric", 6)), needs=["full"], kind="boundary",
        kills="emitter-declares-no-loss emitter-loss-without-seq",
    )  # fmt: skip
    g.one(
        "a-skip-is-declared-again", "DLV-6 CTL-12.1", "the next connection knows nothing of it",
        full, metric("m3"), room, metric("m4"), session(), expect(saw("skip"), saw("metric", 4)), DISCONNECT,
        session(0), expect(saw("run_start"), saw("skip", **{"from": 3, "to": 3}), saw("metric", 4)),
        needs=["full"], kind="boundary", kills="emitter-declares-no-loss",
    )  # fmt: skip
    g.one(
        "lost-at-the-end", "DLV-7.1 STR-7.2 DLV-7", "there is room again before the run ends",
        metric("m3"), full, metric("m4"), room, call("end", timeout=20), session(),
        expect(saw("metric", 3), saw("skip", **{"from": 4, "to": 4}), saw("run_end", 5)), needs=["full"],
        kind="boundary", kills="emitter-declares-no-loss",
    )  # fmt: skip
