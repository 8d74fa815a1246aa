"""Cases of CTL: what stands at the edge of a rule, just within it, or against it, where the other modules have one of these."""

from __future__ import annotations

from typing import Any

from generate.ctl_commands import SERVED, TAKES, W1, W2, answered, commanded
from generate.dsl import Group, Json
from generate.serving import (
    R,
    ack,
    acked,
    closed,
    command,
    connect,
    event,
    expect,
    flat,
    frame,
    held,
    in_time,
    join,
    octets,
    one,
    open_,
    published,
    quiet,
    raw,
    result,
    send,
    seqs,
    skip,
    start,
    stored,
    stream,
    subscribe,
    words,
)

S = stream("s", letter="b")
BUSY = {"retry_after": {"$min": 0}}


def add_to(group: Group) -> None:
    """Add the cases."""
    _streams(group)
    _subscriptions(group)
    _commands(group)
    _connections(group)
    _bounds(group)


def _streams(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **more)

    session = [start(), join("w"), open_("w", R)]
    second = stream(letter="d")
    add("ctl-ack-second-open", "CTL-3.3", "from the second open on, acks of the first stream name it, too", *session,
        send("w", seqs(R, 1)), acked("w", ack(R, 1)), open_("w", second), send("w", seqs(R, 2)), acked("w", ack(R, 2)),
        kind="boundary", kills="ack-unnamed")  # fmt: skip
    add("ctl-ack-skip-of-what-is-there", "CTL-3.10 CTL-9", "a skip is acked to its end, whatever else has come by another way",
        *session, connect("p"), send("p", seqs(R, 1, 5)), in_time("r", held(R, seqs(R, 1, 5))), send("w", skip(R, 1, 2)),
        acked("w", ack(R, 2)), *quiet("w"), stored("r", held(R, seqs(R, 1, 5))), kind="boundary",
        kills="acks-what-it-has")  # fmt: skip
    broken = raw('{"t":"ping","v":1,"m":{"seq":0,"ts":1},"p":7}')
    add("ctl-ack-bad-control-frame", "CTL-3.12 CTL-3", "a bad frame that was to be a control event was no event of the stream",
        *session, send("w", seqs(R, 1), broken, seqs(R, 2)), acked("w", ack(R, 2)), stored("r", held(R, seqs(R, 1, 2))),
        kills="bad-controls-refused")  # fmt: skip
    named = stream("r" * 300, letter="d")
    add("ctl-open-300", "CTL-8.7 CTL-8.1", "nor is an id of 300 bytes a reason to refuse a stream", start(), join("w"),
        open_("w", named), send("w", seqs(named, 1)), acked("w", ack(named, 1)), kills="ids-of-255")  # fmt: skip
    add("ctl-open-unreadable", "CTL-8.1 CTL-1.2", "an open without a session id opens nothing, and isn't answered", start(),
        join("w"), send("w", raw('{"t":"open","v":1,"m":{"seq":0,"ts":1},"p":{"run_id":"r"}}')), *quiet("w"),
        open_("w", R), send("w", seqs(R, 1)), acked("w", ack(R, 1)), kind="invalid", kills="bad-frame-closes")  # fmt: skip
    add("ctl-session-disorder", "CTL-12 STR-6", "an event that comes behind a later one is taken all the same", *session,
        send("w", seqs(R, 1), seqs(R, 3), seqs(R, 2)), acked("w", ack(R, 3)),
        in_time("r", held(R, seqs(R, 1), seqs(R, 3), seqs(R, 2))), kind="invalid", kills="session-order-kept")  # fmt: skip
    add("ctl-session-gap", "CTL-12.1 CTL-3.16 STR-6", "what an emitter has left out on purpose is a gap, and no more", *session,
        send("w", seqs(R, 1), seqs(R, 5)), acked("w", ack(R, 5)), stored("r", held(R, seqs(R, 1), seqs(R, 5))), kind="invalid",
        kills="session-order-kept")  # fmt: skip
    told = frame("ack", status="error", seq=0, error={"$not": "fenced"})
    add("ctl-hold-silent", "CTL-17.6 CTL-3.6", "a peer that has sent nothing is told to wait, too, and to go on", *session,
        join("n"), open_("n", S), {"do": "trouble", "on": True}, send("w", seqs(R, 1)), expect("w", told),
        expect("n", told), {"do": "trouble", "on": False}, expect("n", frame("ack", status="ok", seq=0)),
        send("n", seqs(S, 1)), acked("n", ack(S, 1)), kind="boundary", needs=["store_faults"],
        kills="hold-untold hold-tells-senders")  # fmt: skip
    odd = [seqs(R, 1), event("log", R, 2, level="info", msg="\u8bad\u7ec3 \u00e9\u00df \U0001f600\n\t\"'\\"),
           event("tags", R, 3, tags={"\u540d a.b/c": "\u03b1%s", "$x": "{}"})]  # fmt: skip
    add("ctl-texts", "CTL-17.7 CTL-3", "texts of any script, with quotes and line feeds, are kept like all others", *session,
        send("w", *odd), acked("w", ack(R, 3)), stored("r", held(R, *odd)), kills="ascii-alone-kept")  # fmt: skip


def _subscriptions(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{"kind": "invalid", "needs": ["follow"], **more})

    worker = [start(), join("w"), open_("w", R)]
    ten = [*worker, send("w", seqs(R, 1, 10)), acked("w", ack(R, 10)), join("s", features=["follow"])]
    broken = one("subscribe", {"run_id": "r", "from": "0"})
    begins = expect("s", frame("subscribe", run_id="r", from_=10))
    add("ctl-sub-unreadable", "CTL-11 CTL-11.1 CTL-11.5", "a subscribe that can't be read begins nothing", *ten,
        send("s", broken), *quiet("s"), send("w", seqs(R, 11)), acked("w", ack(R, 11)), *quiet("s"),
        send("s", subscribe("r", 11)), expect("s", frame("subscribe", run_id="r", from_=11)),
        kills="bad-frame-closes")  # fmt: skip
    add("ctl-sub-again-unreadable", "CTL-11.7", "nor does it replace the one there is", *ten, send("s", subscribe("r", 10)),
        begins, send("s", broken), *quiet("s"), send("w", seqs(R, 11)), published("s", seqs(R, 11)), *quiet("s"),
        kills="bad-frame-closes")  # fmt: skip
    add("ctl-sub-refused-events", "CTL-11 CTL-11.2", "an event that was refused isn't sent to anybody", *worker, join("s"),
        send("s", subscribe("r", 0)), send("w", seqs(R, 1, 2)), acked("w", ack(R, 2)), published("s", seqs(R, 1, 2)),
        send("w", seqs(R, 2, value=9.0), seqs(R, 3)), published("s", seqs(R, 3)), *quiet("s"), needs=[],
        kills="refused-published")  # fmt: skip
    two = [start(bounds={"subscriptions": 2}), join("s", features=["follow"]), send("s", subscribe("a", 0), subscribe("b", 0)),
           expect("s", frame("subscribe", run_id="a"), frame("subscribe", run_id="b"), any_order=True)]  # fmt: skip
    bounded = {"needs": ["bounds", "follow"]}
    add("ctl-sub-as-many", "CTL-11.8 CTL-11.3 CTL-11.10", "as many as may be, and another one in place of one that was ended", *two,
        send("s", one("unsubscribe", {"run_id": "a"}), subscribe("c", 0)), expect("s", frame("subscribe", run_id="c")),
        **bounded, kind="valid", kills="subscriptions-never-freed")  # fmt: skip
    add("ctl-sub-far-too-many", "CTL-11.8 CTL-11.6", "each that is too many is refused by its name", *two,
        send("s", *[subscribe(run, 0) for run in "cdef"]),
        expect("s", *[frame("unsubscribe", run_id=run, code="busy") for run in "cdef"], any_order=True), *quiet("s"),
        **bounded, kills="refusal-unsaid")  # fmt: skip


def _commands(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{"needs": ["commands"], **more})

    add("ctl-cmd-inner-id-taken", "CTL-15.2", "an id that was made for one client's command is not another client's",
        *SERVED, join("d", **TAKES), send("c", command("r", "c1")), commanded(),
        send("d", command("r", "@inner@", payload={"of": "d"})),
        expect("w", frame("command", cmd_id={"$bind": "other", "$not": "@inner@"}, payload={"of": "d"})),
        send("w", result("r", "@other@", wid="w1", msg="for d")), answered("d", "@inner@", msg="for d"),
        send("w", result("r", "@inner@", wid="w1", msg="for c")), answered(msg="for c"), *quiet("c", "d"),
        kind="invalid", kills="inner-id-is-the-clients")  # fmt: skip
    both = [*SERVED, join("v", **TAKES), open_("v", W2), send("c", command("r", "c1")), commanded("v"), commanded("w")]
    again = result("r", "@inner@", wid="w1")
    add("ctl-cmd-answers-twice", "CTL-15.4 CTL-15.3", "a result too many isn't counted", *both, send("w", again, again),
        answered(wid="w1", left=1), *quiet("w", "c"), send("v", result("r", "@inner@", wid="w2")), answered(wid="w2"),
        *quiet("c"), kind="invalid", kills="every-answer-passed")  # fmt: skip
    add("ctl-cmd-gone-after-answer", "CTL-15.6", "a worker that goes behind its answer has answered", *SERVED,
        send("c", command("r", "c1")), commanded(), send("w", again), answered(wid="w1"), {"do": "close", "conn": "w"},
        send("c", command("r", "c2")), answered(cmd_id="c2", status="error"), *quiet("c"),
        kills="gone-answered-again")  # fmt: skip
    add("ctl-cmd-two-under-way", "CTL-15.11 CTL-15.2", "another command under another id needn't wait for the first", *SERVED,
        send("c", command("r", "c1")), commanded(), send("c", command("r", "c2")), commanded(bind="other"),
        send("w", result("r", "@other@", wid="w1", msg="2")), answered(cmd_id="c2", msg="2"),
        send("w", result("r", "@inner@", wid="w1", msg="1")), answered(msg="1"), kills="one-command-at-a-time")  # fmt: skip
    plain = [
        start(),
        connect("p"),
        send("p", seqs(W1, 1, 2)),
        in_time("r", held(W1, seqs(W1, 1, 2))),
        join("c", **TAKES),
    ]
    add("ctl-cmd-plain-beside", "CTL-15.7 CTL-15.4", "of a plain worker and another, the plain one's answer comes at once",
        *plain, join("v", **TAKES), open_("v", W2), send("c", command("r", "c1")), commanded("v"),
        answered(wid="w1", left=1, msg={"$not": ""}), send("v", result("r", "@inner@", wid="w2", msg="done")),
        answered(wid="w2", msg="done"), kind="boundary", kills="plain-awaited left-always-0")  # fmt: skip
    add("ctl-cmd-plain-answers", "CTL-15.7 CTL-15.3", "a plain worker that answers all the same: its answer was given already",
        *plain, send("c", command("r", "c1")), answered(wid="w1", msg={"$not": ""}),
        expect("p", frame("command", cmd_id={"$bind": "inner"}, type="pause")), send("p", again, seqs(W1, 3)),
        in_time("r", held(W1, seqs(W1, 1, 3))), *quiet("c"), kind="invalid", kills="plain-awaited")  # fmt: skip


def _connections(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **more)

    add("ctl-in-time", "CTL-14 CTL-14.1", "a deadline that was met is over", start(deadlines={"first_frame": 0.2, "frame": 0.2}),
        join("x"), join("w"), open_("w", R), send("w", seqs(R, 1), cut=20), *quiet("x", "x"),
        {"do": "send", "conn": "w", "rest": True}, acked("w", ack(R, 1)),
        {"do": "wait", "seconds": 0.25}, *quiet("w"), level="SHOULD", needs=["deadlines"],
        kills="first-deadline-stays frame-deadline-stays")  # fmt: skip
    add("ctl-late-length", "CTL-14", "two bytes of a length are no frame", start(deadlines={"first_frame": 0.2}), connect("w"),
        send("w", octets("00 00")), closed("w", may_reject=["timeout"]), level="SHOULD", kind="invalid",
        needs=["deadlines"], kills="first-frame-waits")  # fmt: skip
    add("ctl-listen-here", "CTL-14.3", "on the machine itself a server needs neither keys nor TLS", start(host="127.0.0.1"),
        join("w"), kills="listens-with-keys-alone")  # fmt: skip
    text = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    add("ctl-http-bytewise", "CTL-17.8", "what it speaks shows in its first bytes, in however many pieces they come", start(),
        connect("w"), send("w", words(text), pieces=1), closed("w", answer=[{"text": "HTTP/1."}]), level="SHOULD",
        kind="boundary", kills="http-unanswered")  # fmt: skip
    gone = [start(deadlines={"gone": 0.3}), join("w"), open_("w", R), send("w", seqs(R, 1)), acked("w", ack(R, 1))]
    add("ctl-gone-others-stay", "CTL-17.10", "a connection that has not opened the stream is no sign of its worker's life",
        *gone, join("n"), open_("n", stream(wid="n")), {"do": "close", "conn": "w"},
        in_time("r", held(R, seqs(R, 1)), status="lost"), *quiet("n"), kind="invalid", needs=["deadlines"],
        kills="never-lost")  # fmt: skip


def _bounds(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: Any) -> None:
        group.script(case_id, "server", clauses, why, *steps, **more)

    three = [start(bounds={"connections": 3}), join("a"), join("b"), join("c")]
    add("ctl-far-too-many", "CTL-17.1", "whoever comes again without waiting is turned away again", *three,
        *flat(*[[connect(name), closed(name, "busy", body=BUSY)] for name in "def"]), *quiet("a", "b", "c"),
        needs=["bounds"], level="SHOULD", kind="invalid", kills="unbounded")  # fmt: skip

    def halves(size: int, cut: int) -> list[Json]:
        """Two peers with a frame of about ``size`` bytes each, of which ``cut`` have come when the others are sent."""
        both = [("w", R), ("n", S)]
        return flat(
            *[[join(name), open_(name, of), send(name, seqs(of, 1))] for name, of in both],
            *[acked(name, ack(of, 1)) for name, of in both],
            *[send(name, seqs(of, 2, text=size), cut=cut) for name, of in both],
            join("x"),
            *quiet("x", "x"),
            *[{"do": "send", "conn": name, "rest": True} for name, _ in both],
            *[acked(name, ack(of, 2)) for name, of in both],
        )

    add("ctl-unfinished-completed", "CTL-17.3 CTL-3", "frames that are under way at once are completed, one after the other",
        start(), *halves(20000, 10000), kills="unfinished-given-up")  # fmt: skip
    add("ctl-unfinished-within", "CTL-17.3", "nobody is given up for 140,000 bytes where 150,000 may be kept",
        start(bounds={"unfinished": 150000}), *halves(80000, 70000), needs=["bounds"], level="SHOULD", kind="boundary",
        kills="unfinished-given-up")  # fmt: skip
    full = {**event("log", R, 2, level="info", msg="%pad%"), "pad": 0}
    add("ctl-limit-100000", "CTL-6.4 CTL-3", "a limit well above the least", start(max_frame=100000), join("w"),
        open_("w", R), send("w", seqs(R, 1), full), acked("w", ack(R, 2)), needs=["limits"],
        kills="limit-off-by-one")  # fmt: skip
