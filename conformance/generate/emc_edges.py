"""Cases of CTL about an emitter: what stands at the edge of a rule, just within it, or against it, where emc.py and
emc_acks.py have one of these.
"""

from __future__ import annotations

from generate.emitting import (
    CONNECT,
    DISCONNECT,
    HELLO,
    Emitting,
    ack,
    command,
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


def add_to(g: Emitting) -> None:
    """Add the cases."""
    here = (session(), expect(saw("run_start")))
    nameless = '{"t":"command","v":1,"m":{"seq":0,"ts":1},"p":{"type":"pause"}}'
    g.one(
        "command-without-an-id", "CTL-2 CTL-1.2", "without cmd_id it is no command: it is passed over, and the next one isn't",
        *here, do("send", bytes=[{"frame": [{"text": nameless}]}]), send(command("c2")), do("commands", ids=["c2"]),
        kind="invalid", kills="emitter-closes-on-bad-frames",
    )  # fmt: skip
    g.one(
        "command-that-names-a-part", "CTL-2.1 CTL-2.2", "every worker of another run is meant, or another worker of every run",
        start(worker_id="5"), *here, send(command("c1", run_id="b"), command("c2", wid="4"), command("c3")),
        do("commands", ids=["c3"]), kind="invalid", kills="emitter-takes-others-commands emitter-absent-wid-is-any-run",
    )  # fmt: skip
    g.one(
        "ack-of-open-without-sid", "CTL-3.4 CTL-8.2", "also the ack that names the cursor: there is one stream",
        metric("m3"), CONNECT, HELLO, do("welcome"), do("opened"), {**ack(2), "bare": True}, expect(saw("metric", 3)),
        kind="boundary", kills="emitter-needs-sid-in-acks",
    )  # fmt: skip
    g.one(
        "ack-before-there-is-a-stream", "CTL-3.4 CTL-1.4", "without a stream it is meant for none, and answers no open to come",
        metric("m3"), CONNECT, HELLO, send(control("ack", seq=0, status="ok")), do("welcome"), do("opened"),
        never(saw("run_start"), saw("metric"), ms=1000), ack(0), expect(saw("run_start", 1), saw("metric", 3)),
        kind="invalid", kills="emitter-events-before-the-cursor",
    )  # fmt: skip
    g.one(
        "refused-by-an-unknown-code", "CTL-3.9 CTL-3.8", "codes are an open set: refused is refused",
        metric("m3"), metric("m4"), session(), expect(saw("metric", key="m4")), ack(4, rejected=[[3, "wrong_moon"]]),
        tick(100), do("counts", are={"acked": 3}), DISCONNECT, session(2), expect(saw("metric", 4)),
        kills="emitter-sends-refused-again",
    )  # fmt: skip
    g.one(
        "refused-last", "CTL-3.8 CTL-12.1", "the last event there is, and what comes behind it has the next seq",
        metric("m3"), session(), expect(saw("metric")), ack(3, rejected=[[3, "seq_conflict"]]), DISCONNECT, session(2),
        expect(saw("skip", **{"from": 3, "to": 3})), metric("m4"), expect(saw("metric", 4, key="m4")),
        kind="boundary", kills="emitter-sends-refused-again",
    )  # fmt: skip
    g.one(
        "window-with-room", "CTL-6.3", "what is acked has left the window: seven events, of which four are never on their way",
        session(limits={"window_events": 4}), expect(saw("status", 2)), ack(2), metric("m3"), metric("m4"),
        expect(saw("metric", 4)), ack(4), metric("m5"), metric("m6"), expect(saw("metric", 6)), ack(6), metric("m7"),
        expect(saw("metric", 7, key="m7")), kills="emitter-window-never-freed",
    )  # fmt: skip
    g.one(
        "window-below-0", "CTL-6.3", "no window is smaller than one event, whatever stands there",
        metric(), session(limits={"window_events": -1, "window_bytes": -9}), tick(1500), *([ack("all"), tick(1500)] * 2),
        expect(saw("metric", key="k")), kind="invalid", kills="emitter-stops-at-window-0",
    )  # fmt: skip
    g.one(
        "ping-after-each-silence", "CTL-10.1", "the next silence is one, too",
        *here, *([tick(20_500, 500), expect(saw("ping")), send(control("pong"))] * 3), level="SHOULD", kind="boundary",
        kills="emitter-pings-once",
    )  # fmt: skip
    g.one(
        "nearly-fenced", "CTL-13.2 CTL-3.11", "fencedoff is not fenced: on the next connection the stream is opened again",
        metric("m3"), session(), expect(saw("metric")), ack(2, status="error", error="fencedoff"), DISCONNECT,
        session(2), expect(saw("metric", 3)), kind="boundary", kills="emitter-final-by-prefix",
    )  # fmt: skip
    g.one(
        "key-in-each-hello", "CTL-16 CTL-5", "each connection begins with a hello, and each hello has the key",
        start(key="open-sesame"), session(), DISCONNECT, CONNECT,
        do("hello", body={"auth": {"scheme": "key", "key": "open-sesame"}}), kind="boundary",
        kills="emitter-other-auth-scheme emitter-key-once",
    )  # fmt: skip
