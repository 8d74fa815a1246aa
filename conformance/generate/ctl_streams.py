"""Cases of CTL about streams: open, ack, skip, fencing, holding."""

from __future__ import annotations

from generate.dsl import Group, Json
from generate.serving import (
    KILL,
    PING,
    STOP,
    R,
    ack,
    acked,
    closed,
    connect,
    derived,
    end,
    event,
    expect,
    flat,
    frame,
    held,
    hello,
    in_time,
    join,
    nosid,
    one,
    open_,
    opens,
    quiet,
    raw,
    result,
    send,
    seqs,
    skip,
    start,
    stored,
    stream,
)

S = stream("s", letter="b")
LOST = {"t": "ack", "p": {"status": "error"}}


def add_to(group: Group) -> None:
    """Add the cases."""
    _opening(group)
    _acking(group)
    _ignoring(group)
    _skipping(group)
    _fencing(group)
    _holding(group)
    _surviving(group)


def session(*streams: list[str]) -> list[Json]:
    """Return the steps of a server with one worker, whose streams are open."""
    return [start(), join("w"), *[open_("w", one) for one in streams]]


def _opening(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: object) -> None:
        group.script(case_id, "server", clauses, why, *steps, **more)

    add(
        "ctl-open-new",
        "CTL-8.1 CTL-3 CTL-1",
        "a stream that was never seen has the cursor 0",
        *session(R),
        *quiet("w"),
        kills="cursor-is-the-next",
    )
    add("ctl-open-again", "CTL-8.1 CTL-3 DLV-6.1", "behind a reconnect it goes on where it was acked", *session(R),
        send("w", seqs(R, 1, 7)), acked("w", ack(R, 7)), {"do": "close", "conn": "w"}, join("v"), open_("v", R, 7),
        send("v", seqs(R, 8, 9)), acked("v", ack(R, 9)), stored("r", held(R, seqs(R, 1, 9))),
        kills="cursor-always-0")  # fmt: skip
    add("ctl-open-after-restart", "CTL-8.1 CTL-6.1", "the cursor is the store's, not the process's", *session(R),
        send("w", seqs(R, 1, 4)), acked("w", ack(R, 4)), STOP, closed("w", may_reject=["*"]), start(store="kept"),
        join("v"), open_("v", R, 4), stored("r", held(R, seqs(R, 1, 4))), kills="cursor-always-0")  # fmt: skip
    add("ctl-open-with-a-gap", "CTL-8.1 CTL-3 STR-6", "what is missing is what the emitter goes on with", start(),
        connect("p"), send("p", seqs(R, 1, 3), seqs(R, 6)), in_time("r", held(R, seqs(R, 1, 3), seqs(R, 6))),
        join("w"), open_("w", R, 3), send("w", seqs(R, 4, 7)), acked("w", ack(R, 7)),
        stored("r", held(R, seqs(R, 1, 3), seqs(R, 6), seqs(R, 4, 5), seqs(R, 7))),
        kind="boundary", kills="cursor-is-highest")  # fmt: skip
    add("ctl-open-run-object", "STR-1.4 CTL-8.1 CTL-8.3", "a run id as an object names the same stream", start(), join("w"),
        send("w", opens(R) | {"event": {**opens(R)["event"], "p": {"run_id": {"id": "r", "exp_id": "e"}, "sid": R[2]}}}),
        acked("w", ack(R, 0)), send("w", seqs(R, 1, 3)), acked("w", ack(R, 3)), kind="boundary", kills="run-object-is-another-run")  # fmt: skip
    add("ctl-open-empty-wid", "CTL-8.1 STR-1", "an empty worker id is none", start(), join("w"),
        send("w", opens(R, wid="")), acked("w", ack(R, 0)), send("w", seqs(R, 1)), acked("w", ack(R, 1)),
        kind="boundary", kills="empty-wid-refused")  # fmt: skip
    many = [stream(f"run{n}", f"w{n % 3}", "abcdef"[n % 6]) for n in range(40)]
    add("ctl-open-many", "CTL-3.3 CTL-8.1 CTL-17", "forty streams of forty runs, each with acks of its own",
        start(), join("w"), *[open_("w", one) for one in many],
        send("w", *[seqs(one, 1, 5) for one in many]), acked("w", *[ack(one, 5) for one in many]),
        *[stored(one[0], held(one, seqs(one, 1, 5))) for one in many[::13]], kills="ack-unnamed")  # fmt: skip
    derived_id = derived()
    add("ctl-open-derived", "CTL-8.4 CTL-8.3", "events without sid are of the derived stream that was opened",
        *session(derived_id), send("w", nosid(R, 1, 4)), acked("w", ack(derived_id, 4)),
        stored("r", held(derived_id, nosid(R, 1, 4))), kills="derived-not-resolved")  # fmt: skip
    other = derived(ts=5)
    add("ctl-open-derived-last", "CTL-8.4", "of two derived streams, the one that was opened last",
        *session(other, derived_id), send("w", nosid(R, 1, 4)), acked("w", ack(derived_id, 4)),
        stored("r", held(derived_id, nosid(R, 1, 4))), kind="boundary", kills="derived-first-opened")  # fmt: skip
    add("ctl-open-derived-by-worker", "CTL-8.4", "each worker has derived streams of its own",
        *session(derived(wid="a"), derived(wid="b", ts=9)), send("w", nosid(stream(wid="a"), 1, 2)),
        acked("w", ack(derived(wid="a"), 2)), *quiet("w"), kind="boundary", kills="derived-not-resolved")  # fmt: skip
    long = stream("r" * 1024, letter="d")
    add("ctl-open-1024", "CTL-8.7 CTL-8.1", "an id of 1,024 bytes is no reason to refuse", *session(long),
        send("w", seqs(long, 1)), acked("w", ack(long, 1)), kind="boundary", kills="long-ids-refused")  # fmt: skip
    longer = stream("r" * 1025, letter="d")
    add("ctl-open-1025", "CTL-8.7 CTL-3.11", "a longer one may be refused, for good", start(), join("w"),
        send("w", opens(longer)), expect("w", frame("ack", status={"$in": ["ok", "error"]})),
        *quiet("w"), kind="boundary", level="MAY")  # fmt: skip


def _acking(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: object) -> None:
        group.script(case_id, "server", clauses, why, *steps, **more)

    add("ctl-ack-stored", "CTL-3 CTL-3.1 CTL-3.2", "what is acked is stored by then", *session(R),
        send("w", seqs(R, 1, 300)), acked("w", ack(R, 300)), stored("r", held(R, seqs(R, 1, 300))),
        kills="ack-before-commit")  # fmt: skip
    add("ctl-ack-one", "CTL-3 CTL-3.1", "one event is acked without waiting for more", *session(R), send("w", seqs(R, 1)),
        acked("w", ack(R, 1)), stored("r", held(R, seqs(R, 1))), kind="boundary",
        kills="ack-before-commit ack-only-in-tens")  # fmt: skip
    add("ctl-ack-one-by-one", "CTL-3.2 CTL-3 FRM-5.1", "each event waits for its ack", *session(R),
        *flat(*[[send("w", seqs(R, n)), acked("w", ack(R, n))] for n in range(1, 9)]), kills="ack-above")  # fmt: skip
    add("ctl-ack-bytes", "CTL-3 FRM-1.5", "an event that comes byte by byte", *session(R),
        send("w", seqs(R, 1, 3), pieces=1), acked("w", ack(R, 3)), stored("r", held(R, seqs(R, 1, 3))),
        kind="boundary", kills="a-read-is-a-frame")  # fmt: skip
    add("ctl-ack-12000", "CTL-3 CTL-17 CTL-17.2", "more than any window, as fast as the server reads", *session(R),
        send("w", seqs(R, 1, 12000)), acked("w", ack(R, 12000)), kind="boundary", kills="window-enforced")  # fmt: skip
    add("ctl-ack-two-streams", "CTL-3.3 CTL-3", "with two streams, an ack names its own", *session(R, S),
        send("w", seqs(R, 1, 3), seqs(S, 1, 5), seqs(R, 4)), acked("w", ack(R, 4), ack(S, 5)),
        kills="ack-unnamed")  # fmt: skip
    add("ctl-ack-two-workers", "CTL-3.3 STR-1.3", "two workers of one run have cursors of their own",
        *session(stream(wid="a"), stream(wid="b")), send("w", seqs(stream(wid="a"), 1, 5), seqs(stream(wid="b"), 1, 2)),
        acked("w", ack(stream(wid="a"), 5), ack(stream(wid="b"), 2)), kills="ack-unnamed cursor-of-the-run")  # fmt: skip
    add("ctl-ack-repeated", "STR-4.3 DLV-6.2 CTL-3 CTL-3.5", "an event that is sent again is acked like any, and stored once",
        *session(R), send("w", seqs(R, 1, 3)), acked("w", ack(R, 3)), send("w", seqs(R, 2, 3), seqs(R, 4)),
        acked("w", ack(R, 4)), stored("r", held(R, seqs(R, 1, 4))),
        kills="duplicate-stops-acks repeats-rejected")  # fmt: skip
    add("ctl-ack-repeated-elsewhere", "STR-4.3 DLV-6.2 CTL-3.10",
        "what another connection has brought is acked here when it comes here", *session(R), connect("p"),
        send("p", seqs(R, 1, 5)), in_time("r", held(R, seqs(R, 1, 5))), send("w", seqs(R, 1, 3)), acked("w", ack(R, 3)),
        send("w", seqs(R, 4, 6)), acked("w", ack(R, 6)), stored("r", held(R, seqs(R, 1, 6))),
        kills="duplicate-stops-acks acks-what-it-has")  # fmt: skip
    add("ctl-ack-conflict", "CTL-3.5 CTL-3.9 STR-5 STR-4.3", "another event of a seq that is there is refused, and named",
        *session(R), send("w", seqs(R, 1, 2)), acked("w", ack(R, 2)), send("w", seqs(R, 2, value=9.0), seqs(R, 3)),
        acked("w", ack(R, 3, [2, "seq_conflict"])), stored("r", held(R, seqs(R, 1, 3))), kind="invalid",
        kills="rejected-unnamed")  # fmt: skip
    add("ctl-ack-conflict-above", "CTL-3.5 CTL-3.9 STR-5", "a conflict above the cursor, with what a plain peer brought",
        start(), connect("p"), send("p", seqs(R, 1), seqs(R, 3)), in_time("r", held(R, seqs(R, 1), seqs(R, 3))),
        join("w"), open_("w", R, 1), send("w", seqs(R, 2, 3, value=9.0), seqs(R, 4)),
        acked("w", ack(R, 4, [3, "seq_conflict"])), kind="boundary", kills="rejected-unnamed")  # fmt: skip
    add("ctl-ack-deleted", "CTL-3.9 CTL-3.5 FLD-9", "events of a run that was deleted are refused, each by its name",
        *session(R), send("w", seqs(R, 1, 2)), acked("w", ack(R, 2)), {"do": "delete", "run_id": "r"},
        send("w", seqs(R, 3, 4)), acked("w", ack(R, 4, [3, "run_deleted"], [4, "run_deleted"])), stored("r"),
        kind="invalid", kills="rejected-unnamed")  # fmt: skip
    late = stream(letter="c")
    add("ctl-ack-deleted-again", "CTL-3.9 FLD-9", "also those of a stream that is opened behind the deletion", *session(R),
        send("w", seqs(R, 1)), acked("w", ack(R, 1)), {"do": "close", "conn": "w"}, {"do": "delete", "run_id": "r"},
        join("v"), open_("v", S), open_("v", late), send("v", seqs(late, 1)),
        acked("v", ack(late, 1, [1, "run_deleted"])), stored("r"), kind="boundary",
        kills="rejected-unnamed")  # fmt: skip
    bad = raw(f'{{"t":"metric","v":1,"m":{{"seq":2,"ts":1,"sid":"{R[2]}"}},"p":{{"run_id":"r","key":"k"}}}}')
    add("ctl-ack-bad-frame-named", "CTL-3.12 CTL-3.5", "a bad frame that says which event it was to be",
        *session(R), send("w", seqs(R, 1), bad, seqs(R, 3)), acked("w", ack(R, 3, [2, None])),
        stored("r", held(R, seqs(R, 1), seqs(R, 3), lost=[[2, 2]])), kind="invalid", level="SHOULD",
        kills="bad-frame-forgotten")  # fmt: skip
    add("ctl-ack-bad-frame-missing", "CTL-3.12", "one that says nothing is the event that is missing",
        *session(R), send("w", seqs(R, 1), raw("{"), seqs(R, 3)), acked("w", ack(R, 3, [2, None])),
        stored("r", held(R, seqs(R, 1), seqs(R, 3), lost=[[2, 2]])), kind="boundary", level="SHOULD",
        kills="bad-frame-forgotten")  # fmt: skip
    add("ctl-ack-bad-frame-class", "CTL-3.9 ERR-1 CTL-3.12", "its code is the class of the error", *session(R),
        send("w", seqs(R, 1), raw("{"), seqs(R, 3)), acked("w", ack(R, 3, [2, "bad_json"])), kind="invalid",
        level="SHOULD", kills="bad-frame-forgotten bad-frames-are-gaps")  # fmt: skip
    add("ctl-ack-bad-frame-costs-itself", "ERR-4 CTL-3 FRM-5.4", "whatever becomes of it, its neighbours are stored",
        *session(R), send("w", seqs(R, 1), raw("{"), seqs(R, 3)), in_time("r", held(R, seqs(R, 1), seqs(R, 3), lost="any")),
        {"do": "quiet", "conn": "w", "ignore": [frame("ack")]}, kind="invalid", kills="bad-frame-closes")  # fmt: skip
    add("ctl-ack-unknown-type", "CTL-3 ENV-5 ENV-5.3", "an event of a later type is stored and acked", *session(R),
        send("w", seqs(R, 1), event("vision", R, 2, x=[1, {"y": None}])), acked("w", ack(R, 2)),
        stored("r", held(R, seqs(R, 1), event("vision", R, 2, x=[1, {"y": None}]))), kind="boundary", kills="unknown-type-closes")  # fmt: skip
    add("ctl-ack-behind-the-end", "CTL-3 FLD-7", "an event behind the run_end is taken, and acked", *session(R),
        send("w", seqs(R, 1, 2), end(R, 3), seqs(R, 4)), acked("w", ack(R, 4)),
        stored("r", held(R, seqs(R, 1, 2), end(R, 3), seqs(R, 4)), status="completed"), kind="boundary", kills="nothing-behind-the-end end-is-a-farewell")  # fmt: skip


def _ignoring(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: object) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{"kind": "invalid", **more})

    add("ctl-event-unopened", "CTL-8.3 CTL-8", "an event of a stream that isn't open is ignored, and not acked", start(),
        join("w"), send("w", seqs(R, 1, 3)), open_("w", S), send("w", seqs(S, 1)), acked("w", ack(S, 1)), stored("r"),
        kills="unopened-taken")  # fmt: skip
    add("ctl-event-before-open", "CTL-8.3 CTL-8.1", "also where its open comes right behind it", start(), join("w"),
        send("w", seqs(R, 1, 3), opens(R)), acked("w", ack(R, 0)), send("w", seqs(R, 1)), acked("w", ack(R, 1)),
        stored("r", held(R, seqs(R, 1))), kind="boundary", kills="unopened-taken")  # fmt: skip
    add("ctl-event-other-session", "CTL-8.3 STR-1", "an event of another session of the run isn't the open stream's",
        *session(R), send("w", seqs(stream(letter="c"), 1, 2), seqs(R, 1)), acked("w", ack(R, 1)),
        stored("r", held(R, seqs(R, 1))), kind="boundary", kills="unopened-taken")  # fmt: skip
    add("ctl-event-other-worker", "CTL-8.3 STR-1", "nor is one of another worker", *session(R),
        send("w", seqs(stream(wid="x"), 1, 2), seqs(R, 1)), acked("w", ack(R, 1)), stored("r", held(R, seqs(R, 1))),
        kills="unopened-taken")  # fmt: skip
    add("ctl-event-sid-less", "CTL-8.4 CTL-8.3", "an event without sid isn't that of a stream with one", *session(R),
        send("w", nosid(R, 1, 2), seqs(R, 1, 3)), acked("w", ack(R, 3)), stored("r", held(R, seqs(R, 1, 3))),
        kills="unopened-taken")  # fmt: skip
    add("ctl-skip-unopened", "CTL-8.3 CTL-9", "a skip of a stream that isn't open is ignored", start(), join("w"),
        send("w", skip(R, 1, 5)), open_("w", R, 0), send("w", seqs(R, 1)), acked("w", ack(R, 1)),
        stored("r", held(R, seqs(R, 1))), kills="unopened-taken")  # fmt: skip
    add("ctl-hello-twice", "CTL-5 CTL-1.4", "a second hello makes no sense, and isn't answered", *session(R),
        send("w", hello()), *quiet("w"), send("w", seqs(R, 1)), acked("w", ack(R, 1)), kills="late-hello-answered")  # fmt: skip
    for name, said in (
        ("welcome", one("welcome", {"protocol": 1, "codec": "json", "durability": "none"})),
        ("reject", one("reject", {"code": "fenced"})),
        ("ack", one("ack", {"seq": 5, "status": "ok", "run_id": "r", "sid": R[2]})),
        ("pong", one("pong", {})),
        ("result", result("r", "nobody-asked")),
        ("unsubscribe", one("unsubscribe", {"run_id": "r"})),
    ):
        add(f"ctl-stray-{name}", "CTL-1.4 CTL-1.3", f"a {name} that makes no sense here is ignored", *session(R),
            send("w", said), *quiet("w"), send("w", seqs(R, 1)), acked("w", ack(R, 1)),
            stored("r", held(R, seqs(R, 1))), kills="stray-closes")  # fmt: skip
    add("ctl-control-unknown", "CTL-1.3 CTL-1.1 ENV-5.5", "an unknown type with seq 0 is a control event, and not stored",
        *session(R), send("w", one("later", {"run_id": "r"}, of=R), seqs(R, 1)), acked("w", ack(R, 1)),
        stored("r", held(R, seqs(R, 1))), kind="boundary", kills="controls-stored")  # fmt: skip
    add("ctl-control-plain", "CTL-1.3 ENV-5.5", "nor is one on a plain connection", start(), connect("p"),
        send("p", one("later", {"run_id": "r"}, of=R), PING, one("command", {"cmd_id": "c", "type": "stop", "run_id": "r"}),
             seqs(R, 1)),
        in_time("r", held(R, seqs(R, 1))), kind="boundary", kills="controls-stored")  # fmt: skip
    add("ctl-control-seq", "CTL-1.1 CTL-1.3 ENV-4.4", "a control event with a seq takes no place in a stream", *session(R),
        send("w", one("ping", {}, seq=1, of=R)), expect("w", frame("pong")), send("w", seqs(R, 1)), acked("w", ack(R, 1)),
        stored("r", held(R, seqs(R, 1))), kind="boundary", kills="control-seq-counts")  # fmt: skip
    add("ctl-ping", "CTL-10", "a ping is answered", start(), join("w"), send("w", PING), expect("w", frame("pong")),
        kind="valid", kills="pong-missing")  # fmt: skip
    add("ctl-ping-between", "CTL-10 CTL-3", "also between events", *session(R),
        send("w", seqs(R, 1), PING, seqs(R, 2)),
        expect("w", frame("pong"), ignore=[frame("ack", status="ok")]), kind="boundary",
        kills="pong-missing")  # fmt: skip


def _skipping(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: object) -> None:
        group.script(case_id, "server", clauses, why, *steps, **more)

    add("ctl-skip", "CTL-9 CTL-9.1 STR-7 CTL-3", "what is declared lost is acked and recorded", *session(R),
        send("w", seqs(R, 1), skip(R, 2, 4), seqs(R, 5)), acked("w", ack(R, 5)),
        stored("r", held(R, seqs(R, 1), seqs(R, 5), lost=[[2, 4]])), kills="skip-ignored")  # fmt: skip
    add("ctl-skip-last", "CTL-9 CTL-3", "a skip alone is acked", *session(R), send("w", seqs(R, 1), skip(R, 2, 2)),
        acked("w", ack(R, 2)), stored("r", held(R, seqs(R, 1), lost=[[2, 2]])), kind="boundary",
        kills="skip-ignored")  # fmt: skip
    add("ctl-skip-first", "CTL-9 CTL-8.1", "a stream may begin with a loss", *session(R), send("w", skip(R, 1, 3)),
        acked("w", ack(R, 3)), {"do": "close", "conn": "w"}, join("v"), open_("v", R, 3), kind="boundary",
        kills="skip-ignored")  # fmt: skip
    add("ctl-skip-late-event", "STR-7.1 CTL-9", "an event that comes in spite of it is no loss", *session(R),
        send("w", seqs(R, 1), skip(R, 2, 4)), acked("w", ack(R, 4)), send("w", seqs(R, 3), seqs(R, 5)),
        acked("w", ack(R, 5)), stored("r", held(R, seqs(R, 1), seqs(R, 3), seqs(R, 5), lost=[[2, 2], [4, 4]])),
        kind="boundary", kills="skipped-stays-out")  # fmt: skip
    for name, first, last in (("backwards", 5, 2), ("from-0", 0, 5), ("negative", -3, -1)):
        add(f"ctl-skip-{name}", "CTL-9.1", f"a skip from {first} to {last} is none", *session(R),
            send("w", seqs(R, 1), skip(R, first, last), seqs(R, 2)), acked("w", ack(R, 2)),
            stored("r", held(R, seqs(R, 1, 2))), kind="invalid",
            kills="bad-skip-closes" if name == "negative" else "skip-unchecked")  # fmt: skip


def _fencing(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: object) -> None:
        group.script(case_id, "server", clauses, why, *steps, **more)

    both = [*session(R, S), send("w", seqs(R, 1, 2)), acked("w", ack(R, 2)), join("v"), open_("v", R, 2)]
    add("ctl-fence-taken", "CTL-13 CTL-3", "a stream that a newer connection has opened isn't the older one's any more",
        *both, send("w", seqs(R, 3, value=9.0), seqs(S, 1)), {**acked("w", ack(S, 1)), "ignore": [LOST]},
        send("v", seqs(R, 3)), acked("v", ack(R, 3)), stored("r", held(R, seqs(R, 1, 3))),
        kills="fenced-taken newer-fenced fenced-all")  # fmt: skip
    add("ctl-fence-told", "CTL-13.1 CTL-3.11", "where the older one has more streams, an ack tells it", *both,
        expect("w", frame("ack", status="error", error="fenced", run_id="r", sid=R[2])), *quiet("w"),
        send("w", seqs(S, 1)), acked("w", ack(S, 1)), level="SHOULD", kills="fenced-untold fenced-all")  # fmt: skip
    add("ctl-fence-closed", "CTL-13.1 CTL-7", "where it has no other, it is rejected", *session(R), join("v"),
        open_("v", R, 0), closed("w", "fenced"), send("v", seqs(R, 1)), acked("v", ack(R, 1)), level="SHOULD",
        kills="fenced-untold")  # fmt: skip
    add("ctl-fence-other-session", "CTL-13", "another session of the same run and worker fences nobody", *session(R),
        join("v"), open_("v", stream(letter="c")), *quiet("w"), send("w", seqs(R, 1)), acked("w", ack(R, 1)),
        kind="boundary", kills="fenced-by-run")  # fmt: skip
    add("ctl-fence-same-connection", "CTL-13 CTL-13.1 CTL-1.4", "a stream that is opened twice on a connection can be gone on with",
        *session(R), send("w", seqs(R, 1)), acked("w", ack(R, 1)), send("w", opens(R)),
        {"do": "quiet", "conn": "w", "ignore": [frame("ack", status="ok", seq=1)]},
        join("v"), open_("v", R, 1), send("v", seqs(R, 2)), acked("v", ack(R, 2)), kind="boundary", kills="second-open-fences")  # fmt: skip
    add("ctl-fence-under-way", "CTL-13.3 CTL-17 DLV-6.2", "what the older one has sent is settled before the newer goes on",
        *session(R), send("w", seqs(R, 1, 400)), join("v"), open_("v", R, {"$any": True}),
        send("v", {"stream": R, "seqs": ["next", 500]}), acked("v", ack(R, 500)), stored("r", held(R, seqs(R, 1, 500))),
        kind="boundary", kills="newer-fenced")  # fmt: skip
    third = [*session(R, S), join("v"), open_("v", R, 0), join("u"), open_("u", R, 0)]
    add("ctl-fence-three", "CTL-13 CTL-13.3", "of three connections the newest has the stream", *third,
        send("w", seqs(R, 1, value=9.0), seqs(S, 1)), {**acked("w", ack(S, 1)), "ignore": [LOST]},
        send("u", seqs(R, 1, 2)), acked("u", ack(R, 2)), stored("r", held(R, seqs(R, 1, 2))),
        kills="newer-fenced")  # fmt: skip


def _holding(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: object) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{"needs": ["store_faults"], **more})

    begun = [*session(R), send("w", seqs(R, 1)), acked("w", ack(R, 1)), {"do": "trouble", "on": True}]
    over = {"do": "trouble", "on": False}
    told = expect("w", frame("ack", status="error", seq=1, error={"$not": "fenced"}))
    again = expect("w", frame("ack", status="ok", seq={"$in": [1, 2]}))
    add("ctl-hold", "CTL-3.6 CTL-17.6 CTL-3.1", "while the store refuses, peers are told to wait, and nothing is acked",
        *begun, send("w", seqs(R, 2)), told, *quiet("w"), stored("r", held(R, seqs(R, 1))),
        kills="hold-untold ack-before-commit")  # fmt: skip
    add("ctl-hold-over", "CTL-3.6 CTL-17.6 CTL-3.14 CTL-3.15", "when it takes events again, the peers are told the cursor",
        *begun, send("w", seqs(R, 2)), told, over, again, send("w", seqs(R, 2, 3)), acked("w", ack(R, 3)),
        stored("r", held(R, seqs(R, 1, 3))), kills="hold-untold hold-for-ever hold-deaf")  # fmt: skip
    add("ctl-hold-ignores", "CTL-3.15 CTL-3.6 CTL-3.14 CTL-3.1", "what comes between is ignored: the emitter sends it again",
        *begun, send("w", seqs(R, 2)), told, send("w", seqs(R, 3, value=9.0)), *quiet("w"), over, again,
        send("w", seqs(R, 2, 3)), acked("w", ack(R, 3)), stored("r", held(R, seqs(R, 1, 3))), kind="invalid",
        kills="hold-for-ever ack-before-commit")  # fmt: skip
    add("ctl-hold-behind", "CTL-3.15", "also what comes behind the second ack, until the stream goes on there", *begun,
        send("w", seqs(R, 2)), told, over, again, send("w", seqs(R, 5, value=9.0)), *quiet("w"),
        send("w", seqs(R, 2, 5)), acked("w", ack(R, 5)), stored("r", held(R, seqs(R, 1, 5))), kind="boundary",
        kills="hold-jumps")  # fmt: skip
    add("ctl-hold-skip", "CTL-3.15", "skips too", *begun, send("w", seqs(R, 2)), told, send("w", skip(R, 3, 4)),
        *quiet("w"), over, again, send("w", seqs(R, 2, 4)), acked("w", ack(R, 4)), stored("r", held(R, seqs(R, 1, 4))),
        kind="boundary", kills="hold-takes-skips")  # fmt: skip
    add("ctl-hold-plain", "CTL-17.6 DLV-6.2", "what a plain peer sent will not be sent again, and is kept", start(),
        connect("p"), send("p", seqs(R, 1, 2)), in_time("r", held(R, seqs(R, 1, 2))), {"do": "trouble", "on": True},
        send("p", seqs(R, 3, 9)), {"do": "wait", "seconds": 0.2}, stored("r", held(R, seqs(R, 1, 2))), over, in_time("r", held(R, seqs(R, 1, 9))),
        kills="plain-lost-in-trouble")  # fmt: skip


def _surviving(group: Group) -> None:
    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: object) -> None:
        group.script(case_id, "server", clauses, why, *steps, **{"needs": ["crash"], **more})

    begun = [start(kill=True), join("w"), open_("w", R)]
    back = [KILL, start(store="kept", kill=True), join("v")]
    add("ctl-kill-acked", "CTL-3.1 CTL-6.1 DLV-6.1", "what is acked outlives the death of the process", *begun,
        send("w", seqs(R, 1, 50)), acked("w", ack(R, 50)), *back, open_("v", R, 50),
        stored("r", held(R, seqs(R, 1, 50))), kills="ack-before-commit")  # fmt: skip
    add("ctl-kill-under-way", "DLV-6.1 DLV-6.2 CTL-8.1 STR-4.3", "what was under way is sent again, and is there once", *begun,
        send("w", seqs(R, 1, 3000)), *back, open_("v", R, {"$any": True}), send("v", {"stream": R, "seqs": ["next", 3001]}),
        acked("v", ack(R, 3001)), stored("r", held(R, seqs(R, 1, 3001))), kind="boundary", kills="cursor-is-the-next")  # fmt: skip
    add("ctl-kill-skip", "CTL-3.1 CTL-6.1 CTL-9", "also a loss that was acked", *begun, send("w", seqs(R, 1), skip(R, 2, 3)),
        acked("w", ack(R, 3)), *back, open_("v", R, 3), kind="boundary", kills="ack-before-commit")  # fmt: skip
    _ = PING
