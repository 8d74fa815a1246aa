"""What an emitter says to a collector, and makes of what that says: CTL."""

from __future__ import annotations

from typing import Any

from generate import emc_edges
from generate.dsl import Json
from generate.emc_acks import ack_cases, refusal_cases
from generate.emitting import (
    CLOSED,
    CONNECT,
    DISCONNECT,
    HELLO,
    OPEN,
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


def welcome(**body: Any) -> Json:
    """Welcome it."""
    return do("welcome", body=body) if body else do("welcome")


def cases() -> Emitting:
    """Return the group."""
    g = Emitting("emc")
    hello_cases(g)
    welcome_cases(g)
    reject_cases(g)
    open_cases(g)
    ack_cases(g)
    refusal_cases(g)
    command_cases(g)
    silence_cases(g)
    key_cases(g)
    emc_edges.add_to(g)
    return g


def hello_cases(g: Emitting) -> None:
    """CTL-5, CTL-1."""
    g.one(
        "hello-is-first", "CTL-5 CTL-1 CTL-1.2", "a new connection begins with hello, whatever waits to be sent",
        metric(), CONNECT, HELLO, never({}, ms=1500), kills="emitter-no-hello emitter-hello-with-seq",
    )  # fmt: skip
    g.one(
        "hello-on-each-connection", "CTL-5 VER-3.9 VER-3.10", "the next connection is a new one",
        session(), DISCONNECT, CONNECT, HELLO, kills="emitter-hello-once",
    )  # fmt: skip
    g.one(
        "silent-after-hello", "CTL-5.1", "what the peer is isn't known yet, and every event would be a guess",
        metric(), CONNECT, HELLO, log(), never({}, ms=1900),
        kind="invalid", kills="emitter-speaks-too-early emitter-falls-back-early",
    )  # fmt: skip
    g.twice(
        "no-second-hello", "CTL-5", "hello stands at the beginning and in no other place",
        session(), expect(saw("run_start")), metric(), expect(saw("metric")), never(saw("hello"), ms=1000),
        kind="invalid", kills="emitter-hello-again",
    )  # fmt: skip
    g.one(
        "hello-without-key", "CTL-16 CTL-5", "where no key is configured there is none to send",
        CONNECT, do("hello", body={"auth": {"$absent": True}, "protocols": {"$any": True}}), kills="emitter-empty-auth",
    )  # fmt: skip


def welcome_cases(g: Emitting) -> None:
    """CTL-6."""
    for name, body, why in (
        ("version-2", {"protocol": 2}, "a version that its hello did not name"),
        ("version-0", {"protocol": 0}, "a version that never was"),
        ("codec", {"codec": "cbor"}, "a codec that its hello did not name"),
        ("small-frames", {"limits": {"max_frame": 65_535}}, "one byte below what a server may name"),
        ("no-frames", {"limits": {"max_frame": 0}}, "no event would fit"),
    ):
        clauses = "CTL-6.5 " + ("CTL-6.4" if "limits" in body else "VER-2.3 CTL-6" if "codec" in body else "CTL-6")
        g.twice(
            f"welcome-{name}", clauses, f"{why}: nothing that is sent could be relied on",
            metric(), CONNECT, HELLO, welcome(**body), CLOSED,
            kind="boundary" if name == "small-frames" else "invalid",
            kills="emitter-takes-any-version" if "version" in name else
            "emitter-takes-small-frames" if "limits" in body else "emitter-takes-any-codec",
        )  # fmt: skip
    g.one(
        "welcome-smallest-frames", "CTL-6.5 CTL-6.4 FRM-3.9", "65,536 bytes are enough: the connection goes on",
        metric(), CONNECT, HELLO, welcome(limits={"max_frame": 65_536}), do("opened"), ack(0), expect(saw("metric")),
        kind="boundary", kills="emitter-wants-larger-frames",
    )  # fmt: skip
    g.one(
        "welcome-json", "CTL-6.5 VER-2.3", "every peer speaks JSON, whether its hello lists it or not",
        session(codec="json"), expect(saw("run_start")), OPEN, kills="emitter-msgpack-unasked",
    )  # fmt: skip
    g.one(
        "nothing-but-json-when-json-was-chosen", "MSG-1.1 VER-2.6",
        "MessagePack goes where a welcome chose it, and only there",
        metric(), session(codec="json"), expect(saw("run_start"), saw("metric")), call("tags", tags={"a": "b"}),
        expect(saw("tags")), kind="invalid", kills="emitter-msgpack-unasked",
    )  # fmt: skip
    g.one(
        "welcome-open-members", "CTL-6 ENV-6", "features and limits that nobody knows change nothing",
        session(features=["telepathy"], limits={"window_moons": 3}, hint="later"), expect(saw("run_start")), kills="emitter-wants-known-features",
    )  # fmt: skip
    g.one(
        "absent-max-frame", "CTL-6.2 FRM-3.8", "without max_frame, 1,048,576 bytes may be sent",
        session(), {**call("log"), "bulk": {"into": "msg", "text": "x", "times": 1_000_000}},
        expect(saw("log", msg={"$re": "^x{1000000}$"})), kind="boundary", kills="emitter-cuts-too-early",
    )  # fmt: skip
    g.one(
        "event-above-max-frame", "FRM-3.9 CTL-9 DLV-8.2",
        "it was logged before anybody knew the limit: it is declared lost, or sent shorter, and what follows goes on",
        {**call("log"), "bulk": {"into": "msg", "text": "x", "times": 100_000}}, metric("after"),
        session(limits={"max_frame": 65_536}), expect(saw("metric", key="after")),
        kind="boundary", kills="emitter-ignores-max-frame",
    )  # fmt: skip
    for events in (1, 2, 5):
        g.one(
            f"window-of-{events}", "CTL-6.3", f"{events} events at once and no more, and each ack makes room",
            {**metric("m@n@"), "times": 8}, session(limits={"window_events": events}), tick(3000),
            *([ack("all"), tick(1500)] * (11 if events == 1 else 6)),
            expect(saw("metric", key="m7")), kind="boundary", kills="emitter-ignores-windows",
        )  # fmt: skip
    g.one(
        "window-of-no-events", "CTL-6.3", "one event may always be on its way: else nothing ever would be",
        metric(), session(limits={"window_events": 0}), tick(1500), *([ack("all"), tick(1500)] * 2),
        expect(saw("metric", key="k")), kind="boundary", kills="emitter-stops-at-window-0",
    )  # fmt: skip
    g.one(
        "window-of-bytes", "CTL-6.3", "bytes of payload are bounded as well",
        {**metric("m@n@"), "times": 8}, session(limits={"window_bytes": 400}), tick(3000),
        *([ack("all"), tick(1500)] * 10), expect(saw("metric", key="m7")),
        kind="boundary", kills="emitter-ignores-windows",
    )  # fmt: skip
    g.one(
        "window-below-one-event", "CTL-6.3", "one event may be larger than the window",
        {**call("log"), "bulk": {"into": "msg", "text": "x", "times": 5000}},
        session(limits={"window_bytes": 100}), tick(1500), *([ack("all"), tick(1500)] * 2), expect(saw("log")),
        kind="boundary", kills="emitter-stops-at-window-0",
    )  # fmt: skip
    g.one(
        "no-window", "CTL-6.2", "absent windows are no bound: nothing waits for an ack",
        {**metric("m@n@"), "times": 200}, session(), expect(saw("metric", key="m199")), kills="emitter-window-of-its-own",
    )  # fmt: skip


def reject_cases(g: Emitting) -> None:
    """CTL-7."""
    for name, seconds in (("whole", 5), ("minute", 60)):
        g.twice(
            f"retry-after-{name}", "CTL-7.1", f"{seconds} s are asked for, and not a moment less is waited",
            CONNECT, HELLO, send(control("reject", code="busy", retry_after=seconds)), CLOSED,
            {**tick(seconds * 1000 - 10, 500), "unwanted": True}, connection("none"), connection("wanted",
            within=40_000),
            kind="boundary", kills="emitter-ignores-retry-after",
        )  # fmt: skip
    g.one(
        "retry-after-a-part-of-a-second", "CTL-7.1", "retry_after is a number, and not a whole one",
        CONNECT, HELLO, send(control("reject", code="busy", retry_after=0.75)), {**tick(740, 20), "unwanted": True},
        connection("none"),
        kind="boundary", kills="emitter-ignores-retry-after emitter-retry-after-in-whole-seconds",
    )  # fmt: skip
    g.one(
        "retry-after-an-hour", "CTL-7.1 CTL-7.3", "an hour is obeyed in full",
        CONNECT, HELLO, send(control("reject", code="busy", retry_after=3600)), {**tick(3_599_900, 4000),
        "unwanted": True},
        connection("none"), kind="boundary", kills="emitter-ignores-retry-after",
    )  # fmt: skip
    g.one(
        "retry-after-a-day", "CTL-7.1 CTL-7.3", "more than an hour may be taken as an hour, and as no less",
        CONNECT, HELLO, send(control("reject", code="busy", retry_after=86_400)), {**tick(3_599_900, 4000),
        "unwanted": True},
        connection("none"), kind="boundary", kills="emitter-ignores-retry-after",
    )  # fmt: skip
    g.one(
        "retry-after-0", "CTL-7.3 DLV-6.3", "nothing to wait for: it comes again as after any failure",
        CONNECT, HELLO, send(control("reject", code="busy", retry_after=0)), connection("wanted", within=40_000),
        level="SHOULD", kind="boundary",
    )  # fmt: skip
    g.one(
        "retry-after-negative", "CTL-7.3 DLV-6.3", "no positive number: as good as absent",
        CONNECT, HELLO, send(control("reject", code="busy", retry_after=-5)), connection("wanted", within=40_000),
        level="SHOULD", kind="invalid",
    )  # fmt: skip
    g.one(
        "reject-in-a-session", "CTL-7.4 CTL-7.1 CTL-7.3 CTL-13.2 DLV-6", "a server that stops says busy, and the rest comes later",
        session(), expect(saw("run_start")), ack(1), metric(), expect(saw("metric")),
        send(control("reject", code="busy", retry_after=2)), {**tick(1900, 100), "unwanted": True}, connection("none"),
        session(1), expect(saw("metric")), kills="emitter-ignores-retry-after emitter-takes-busy-for-fenced",
    )  # fmt: skip
    g.one(
        "reject-unknown-code", "CTL-7 DLV-6.3", "codes are an open set: an unknown one is a failure like others",
        CONNECT, HELLO, send(control("reject", code="gone_fishing", msg="back soon")),
        connection("none", "wanted"), connection("wanted", within=60_000), level="SHOULD",
    )  # fmt: skip
    g.one(
        "refused-for-its-key", "DLV-8.7 DLV-6.3", "a key can be mended: it goes on trying",
        start(key="sesame"), CONNECT, HELLO, send(control("reject", code="unauthorized")),
        connection("wanted", within=120_000), level="SHOULD",
    )  # fmt: skip


def open_cases(g: Emitting) -> None:
    """CTL-8."""
    g.twice(
        "open-before-events", "CTL-8 CTL-8.2 CTL-5.1", "a collector ignores events of a stream that isn't open",
        metric(), CONNECT, HELLO, welcome(), expect(saw("open", run_id="a", sid={"$any": True})), ack(0),
        expect(saw("run_start", 1), saw("metric")),
        kills="emitter-no-open emitter-events-before-the-cursor emitter-speaks-too-early",
    )  # fmt: skip
    g.one(
        "events-wait-for-the-cursor", "CTL-8.2", "where to begin is the collector's to say",
        metric(), CONNECT, HELLO, welcome(), do("opened"), never(saw("run_start"), saw("metric"), ms=3000),
        kind="invalid", kills="emitter-events-before-the-cursor",
    )  # fmt: skip
    g.one(
        "open-with-worker", "CTL-8 ENV-3", "the worker belongs to the stream's name",
        start(worker_id="7"), CONNECT, HELLO, welcome(), do("opened", body={"wid": "7"}), ack(0),
        expect({"t": "run_start", "m": {"wid": "7"}}), kills="emitter-forgets-the-worker",
    )  # fmt: skip
    g.one(
        "open-on-the-next-connection", "CTL-8 CTL-8.5 STR-1",
        "a new connection knows no stream; the session is the same",
        CONNECT, HELLO, welcome(), expect(saw("open", sid={"$bind": "first"})), ack(0), expect(saw("run_start")),
        DISCONNECT, metric(), CONNECT, HELLO, welcome(), expect(saw("open", sid="@first@")), ack(1),
        expect(saw("metric")), kills="emitter-no-open emitter-opens-another-session",
    )  # fmt: skip
    g.one(
        "open-once", "CTL-8.5", "an open stream stays open, whatever acks come",
        session(), expect(saw("run_start")), ack(0), ack(1), metric(), expect(saw("metric")), ack("all"),
        never(saw("open"), ms=2000), kind="invalid", kills="emitter-opens-twice",
    )  # fmt: skip
    g.twice(
        "from-the-cursor", "CTL-8.2 DLV-8.2", "it has the first two: the third is next",
        metric("m3"), metric("m4"), session(2), expect(saw("metric", 3, key="m3"), saw("metric", 4)),
        kills="emitter-ignores-the-cursor emitter-cursor-off-by-one",
    )  # fmt: skip
    g.one(
        "cursor-at-the-end", "CTL-8.2", "it has everything: nothing is sent but what is new",
        metric("m3"), session(3), never(saw("metric"), saw("run_start"), ms=1000), metric("m4"),
        expect(saw("metric", 4, key="m4")), kind="boundary", kills="emitter-ignores-the-cursor",
    )  # fmt: skip
    g.one(
        "cursor-goes-back", "CTL-8.2 DLV-8.2 DLV-5.1 CTL-3.7",
        "a collector restored from a backup has less than it acked",
        metric("m3"), session(), expect(saw("metric")), ack(3), DISCONNECT, session(1),
        expect(saw("status", 2), saw("metric", 3, key="m3")), kills="emitter-goes-on-behind-its-own-note",
    )  # fmt: skip
    g.one(
        "cursor-goes-back-to-nothing", "CTL-8.2 CTL-3.7", "a collector that has lost all gets all again",
        metric("m3"), session(), expect(saw("metric")), ack(3), DISCONNECT, session(0),
        expect(saw("run_start", 1), saw("status", 2), saw("metric", 3)),
        kind="boundary", kills="emitter-goes-on-behind-its-own-note",
    )  # fmt: skip
    g.one(
        "cursor-above-what-it-sent", "CTL-8.2", "the collector has it from elsewhere, a spool that was copied",
        metric("m3"), metric("m4"), session(), expect(saw("run_start")), DISCONNECT, session(4),
        never(saw("metric"), ms=500), log(), expect(saw("log", 5)), kind="boundary", kills="emitter-cursor-off-by-one",
    )  # fmt: skip
    g.one(
        "while-it-was-away", "CTL-12 DLV-6 ENV-4.1",
        "what was logged between two connections has its place in the order",
        metric("m3"), session(), expect(saw("metric")), DISCONNECT, metric("m4"), metric("m5"), session(2),
        metric("m6"), expect(*(saw("metric", seq, key=f"m{seq}") for seq in (3, 4, 5, 6))),
        kills="emitter-forgets-what-it-sent",
    )  # fmt: skip


def command_cases(g: Emitting) -> None:
    """CTL-2, CTL-4."""
    here = (session(), expect(saw("run_start")))

    def look(*ids: str) -> Json:
        return do("commands", ids=list(ids))

    g.twice(
        "command-is-handed-on", "CTL-2 CTL-2.1", "without run_id and wid it is meant for every run and worker",
        *here, send(command("c1", "adjust_lr", payload={"lr": 0.001})), look("c1"),
        kills="emitter-drops-commands",
    )  # fmt: skip
    g.one(
        "command-is-answered", "CTL-4 CTL-2.3", "who asked hears what came of it",
        *here, send(command("c1")), look("c1"),
        expect(saw("command_result", 0, cmd_id="c1", status="ok", run_id="a")), level="SHOULD",
        kills="emitter-no-answers",
    )  # fmt: skip
    g.one(
        "command-answer-names-the-worker", "CTL-4 CTL-15.3", "a run may have several",
        start(worker_id="3"), *here, send(command("c1")), look("c1"),
        expect(saw("command_result", cmd_id="c1", wid="3")), level="SHOULD",
    )  # fmt: skip
    g.one(
        "command-of-another-run", "CTL-2.2", "it is none of this worker's business",
        *here, send(command("c1", run_id="b"), command("c2", run_id="a")), look("c2"),
        kind="invalid", kills="emitter-takes-others-commands",
    )  # fmt: skip
    g.one(
        "command-of-this-run", "CTL-2 CTL-2.1 CTL-2.2", "the run is named",
        *here, send(command("c1", run_id="a")), look("c1"), kills="emitter-ignores-named-runs",
    )  # fmt: skip
    g.one(
        "command-of-this-run-as-object", "CTL-2 EVT-1.4", "a run id slot has two forms, and both name the run",
        *here, send(command("c1", run_id={"id": "a", "exp_id": "e"}), command("c2", run_id={"id": "b"})), look("c1"),
        kind="boundary", kills="emitter-compares-run-objects",
    )  # fmt: skip
    g.one(
        "command-of-another-worker", "CTL-2.2", "worker 1 is meant, and this is 0",
        start(worker_id="0"), *here, send(command("c1", wid="1"), command("c2", wid="0")), look("c2"),
        kind="invalid", kills="emitter-takes-others-commands",
    )  # fmt: skip
    g.one(
        "command-of-a-worker-and-we-have-no-id", "CTL-2.2", "a worker without an id is none with one",
        *here, send(command("c1", wid="1"), command("c2")), look("c2"), kind="boundary",
        kills="emitter-takes-others-commands",
    )  # fmt: skip
    g.one(
        "command-of-every-worker", "CTL-2.1", "without wid every worker is meant",
        start(worker_id="5"), *here, send(command("c1", run_id="a")), look("c1"), kind="boundary", kills="emitter-commands-need-a-wid",
    )  # fmt: skip
    g.one(
        "command-repeated", "CTL-2.3", "it is carried out once",
        *here, send(command("c1", "checkpoint_now")), look("c1"), send(command("c1", "checkpoint_now")), look(),
        kind="invalid", kills="emitter-repeats-commands",
    )  # fmt: skip
    g.one(
        "command-repeated-before-it-was-looked-at", "CTL-2.3", "two that are one",
        *here, send(command("c1"), command("c1")), look("c1"), kind="boundary", kills="emitter-repeats-commands",
    )  # fmt: skip
    g.one(
        "command-repeated-on-another-connection", "CTL-2.3", "a collector that has lost the answer asks again",
        *here, send(command("c1")), look("c1"), DISCONNECT, session(), send(command("c1")), look(),
        kind="boundary", kills="emitter-repeats-commands",
    )  # fmt: skip
    g.one(
        "command-repeated-is-answered", "CTL-2.3 CTL-4", "with the same result as before",
        *here, send(command("c1")), look("c1"), expect(saw("command_result", cmd_id="c1", status="ok")),
        send(command("c1")), look(), expect(saw("command_result", cmd_id="c1", status="ok")), level="SHOULD",
        kills="emitter-answers-once",
    )  # fmt: skip
    g.one(
        "command-answered-once", "CTL-4", "one answer each",
        *here, send(command("c1")), look("c1"), expect(saw("command_result", cmd_id="c1")), look(),
        never(saw("command_result"), ms=3000), level="SHOULD", kind="invalid", kills="emitter-answers-twice",
    )  # fmt: skip
    g.one(
        "commands-in-order", "CTL-2", "each is handed on, in the order in which they came",
        *here, send(command("c2"), command("c1"), command("c3")), look("c2", "c1", "c3"), kills="emitter-newest-command-first",
    )  # fmt: skip
    g.one(
        "command-alike", "CTL-2.3", "another cmd_id is another command, whatever else is the same",
        *here, send(command("c1"), command("c2")), look("c1", "c2"), kind="boundary", kills="emitter-alike-commands-are-one",
    )  # fmt: skip
    g.one(
        "command-and-the-run-ends", "CTL-4 CTL-2", "nobody carried it out, and that is said",
        *here, send(command("c1")), call("end"),
        expect(saw("command_result", cmd_id="c1", status="error")), level="SHOULD", kind="boundary",
        kills="emitter-leaves-commands-unanswered",
    )  # fmt: skip
    g.one(
        "command-answer-waits-for-a-connection", "CTL-4", "the answer comes on the next connection",
        *here, send(command("c1")), DISCONNECT, look("c1"), session(), expect(saw("command_result", cmd_id="c1")),
        level="SHOULD", kind="boundary",
    )  # fmt: skip


def silence_cases(g: Emitting) -> None:
    """CTL-10, CTL-1.4."""
    here = (session(), expect(saw("run_start")))
    g.twice(
        "ping", "CTL-10 CTL-1.4", "a ping is answered", *here, send(control("ping")),
        expect(saw("pong", 0)), kills="emitter-no-pong",
    )  # fmt: skip
    g.one(
        "ping-and-ping", "CTL-10", "the next one as well",
        *here, send(control("ping")), expect(saw("pong")), tick(1000), send(control("ping")), expect(saw("pong")),
        kind="boundary", kills="emitter-no-pong",
    )  # fmt: skip
    g.one(
        "ping-between-events", "CTL-10 CTL-12", "a full window doesn't keep the pong back",
        {**metric("m@n@"), "times": 5}, session(limits={"window_events": 1}), tick(100), send(control("ping")),
        expect(saw("pong")), kind="boundary", kills="emitter-no-pong",
    )  # fmt: skip
    g.one(
        "no-pong-to-a-pong", "CTL-10 CTL-1.4", "else two peers would never stop",
        *here, send(control("pong")), never(saw("pong"), ms=3000), OPEN, kind="invalid", kills="emitter-answers-pongs",
    )  # fmt: skip
    g.one(
        "ping-into-silence", "CTL-10.1", "after 20 s without a word it asks",
        *here, tick(20_500, 500), expect(saw("ping")), level="SHOULD", kills="emitter-no-ping",
    )  # fmt: skip
    g.one(
        "closes-after-a-minute", "CTL-10.2", "who says nothing for 60 s is gone",
        *here, tick(61_000, 1000), connection("none", "wanted", within=1000), level="SHOULD", kind="boundary",
        kills="emitter-never-gives-up-a-peer",
    )  # fmt: skip
    g.one(
        "stays-while-something-comes", "CTL-10.2", "a pong now and then is a sign of life",
        *here, *([tick(19_000, 1000), send(control("pong"))] * 5), OPEN, metric(), expect(saw("metric")),
        level="SHOULD", kind="boundary", kills="emitter-counts-from-the-start",
    )  # fmt: skip
    for t, body in (
        ("open", {"run_id": "a", "sid": "0" * 32}),
        ("hello", {"protocols": [1]}),
        ("skip", {"run_id": "a", "sid": "@sid@", "from": 1, "to": 9}),
        ("subscribe", {"run_id": "a"}),
        ("command_result", {"run_id": "a", "cmd_id": "c9", "status": "ok"}),
        ("unsubscribe", {"run_id": "a"}),
    ):
        g.one(
            f"out-of-place-{t.replace('_', '-')}", "CTL-1.4", f"a collector has no {t} to say here: it is passed over",
            *here, send(control(t, **body)), tick(500), OPEN, metric(), expect(saw("metric", 3)), kind="invalid",
            kills="emitter-closes-on-strange-frames" if t in {"open", "hello", "skip"} else
            "emitter-closes-on-answers-to-nothing",
        )  # fmt: skip
    g.one(
        "second-welcome", "CTL-1.4", "the first one counts",
        *here, send(control("welcome", protocol=1, codec="json", durability="none", limits={"window_events": 0})),
        tick(500), OPEN, {**metric("m@n@"), "times": 4}, expect(saw("metric", key="m3")), kind="invalid",
        kills="emitter-takes-a-second-welcome",
    )  # fmt: skip
    g.one(
        "unknown-control", "CTL-1.4 ENV-5 ENV-5.5", "a control event of a later version",
        *here, send(control("weather", sunny=True)), tick(500), OPEN, metric(), expect(saw("metric", 3)),
        kind="invalid", kills="emitter-closes-on-strange-frames",
    )  # fmt: skip
    g.twice(
        "frame-with-an-error", "ERR-4", "an error in a frame costs that frame, and not the connection",
        *here, do("send", bytes=[{"frame": [{"text": '{"t":"ack","v":1,"m":{'}]}]), send(control("ping")),
        expect(saw("pong")), OPEN, kind="invalid", kills="emitter-closes-on-bad-frames",
    )  # fmt: skip
    g.one(
        "ack-that-is-no-ack", "ERR-4 CTL-1.2", "an ack without seq acks nothing, and the next one does",
        metric("m3"), session(), expect(saw("metric")),
        do("send", bytes=[{"frame": [{"text": '{"t":"ack","v":1,"m":{"seq":0,"ts":1},"p":{"status":"ok"}}'}]}]),
        tick(100), do("counts", are={"acked": 0}), ack(3), tick(100), do("counts", are={"acked": 3}), OPEN,
        kind="invalid", kills="emitter-closes-on-bad-frames",
    )  # fmt: skip
    g.one(
        "frame-too-large", "FRM-5.2 FRM-3.4", "behind such a length nothing can be read",
        *here, do("send", bytes=[{"hex": "7f ff ff ff 7b 22"}]), CLOSED, kind="invalid", kills="emitter-ignores-fatal-frames",
    )  # fmt: skip


def key_cases(g: Emitting) -> None:
    """CTL-16, CTL-5.4."""
    auth = {"auth": {"scheme": "key", "key": "open-sesame"}}
    g.one(
        "key-in-hello", "CTL-16", "the key stands in the auth of hello, with the scheme key",
        start(key="open-sesame"), CONNECT, do("hello", body=auth), kills="emitter-other-auth-scheme",
    )  # fmt: skip
    g.one(
        "key-nowhere-else", "CTL-16", "no event holds it",
        start(key="open-sesame"), session(), call("log", msg="x"), metric(), call("end", timeout=0), tick(1000),
        never({"t": "run_start", "p": {"source": {"entrypoint": "open-sesame"}}}, saw("hello")),
        do("lines", without="open-sesame"), kind="invalid", kills="emitter-key-in-the-ship-command",
    )  # fmt: skip
    g.one(
        "key-is-not-shown", "CTL-5.4", "an error text goes into logs that others read",
        start(key="open-sesame"), CONNECT, HELLO,
        send(control("reject", code="unauthorized", msg="no such key")), tick(60_000, 5000),
        do("lines", without="open-sesame"), kind="invalid", kills="emitter-shows-the-key",
    )  # fmt: skip
    for name, address, host in (
        ("far", "192.0.2.7", "collector.example"),
        ("false-localhost", "192.0.2.7", "localhost"),
        ("far-ipv6", "2001:db8::7", "collector.example"),
        ("near-by-name-only", "10.0.0.7", "localhost"),
    ):
        g.one(
            f"key-in-clear-{name}", "CTL-16.1 CTL-16.2", "the address that it is connected to counts, and no name",
            {**start(key="open-sesame", host=host), "raises": "may"}, {**CONNECT, "address": address},
            never({}, ms=1900), kind="invalid",
            kills="emitter-key-in-clear" if host == "localhost" else "emitter-key-anywhere",
        )  # fmt: skip
    for name, address in (("ipv4", "127.0.0.1"), ("other-ipv4", "127.8.8.8"), ("ipv6", "::1")):
        g.one(
            f"key-on-this-machine-{name}", "CTL-16.2 CTL-16.1", "a loopback address is this machine",
            start(key="open-sesame"), {**CONNECT, "address": address}, do("hello", body=auth),
            kind="valid" if name == "ipv4" else "boundary",
            kills="emitter-key-in-clear-nowhere" + (" emitter-only-one-loopback" if name != "ipv4" else ""),
        )  # fmt: skip
    g.one(
        "key-in-tls", "CTL-16.1", "inside of TLS a key may go anywhere",
        start(key="open-sesame", tls=True, host="collector.example"), {**CONNECT, "address": "192.0.2.7"},
        do("hello", body=auth), kills="emitter-takes-tls-for-clear",
    )  # fmt: skip
    g.one(
        "no-key-far-away", "CTL-16.1", "without a key there is nothing to hide",
        start(host="collector.example"), {**CONNECT, "address": "192.0.2.7"}, HELLO, kind="boundary", kills="emitter-refuses-far-hosts",
    )  # fmt: skip
