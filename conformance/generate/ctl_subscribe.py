"""Cases of CTL about subscriptions."""

from __future__ import annotations

from generate.dsl import Group, Json
from generate.serving import (
    R,
    ack,
    acked,
    closed,
    connect,
    end,
    expect,
    frame,
    held,
    in_time,
    join,
    one,
    open_,
    published,
    quiet,
    raw,
    send,
    seqs,
    start,
    stream,
    subscribe,
)

S = stream("s", letter="b")
W2 = stream("r", "w2", "c")
FOLLOW = {"needs": ["follow"]}


def begins(run: str, cursor: int) -> Json:
    """The subscription begins behind so many events."""
    return expect("s", frame("subscribe", run_id=run, from_=cursor))


def ends(run: str, *codes: str) -> Json:
    """The subscription is over."""
    return expect("s", frame("unsubscribe", run_id=run, code={"$in": list(codes)}))


def add_to(group: Group) -> None:
    """Add the cases."""

    def add(case_id: str, clauses: str, why: str, *steps: Json, **more: object) -> None:
        group.script(case_id, "server", clauses, why, *steps, **more)

    worker = [start(), join("w"), open_("w", R)]
    ten = [*worker, send("w", seqs(R, 1, 10)), acked("w", ack(R, 10))]
    plain, reader = join("s"), join("s", features=["follow"])

    add("ctl-sub-history", "CTL-11 CTL-11.1 CTL-11.2 CTL-11.4 CTL-11.11 FRM-8.2", "from 0: all there is, then what comes", *ten, plain,
        send("s", subscribe("r", 0)), published("s", seqs(R, 1, 10)), send("w", seqs(R, 11, 12)),
        published("s", seqs(R, 11, 12)), *quiet("s"),
        kills="subscription-repeats subscription-mute subscription-rewrites")  # fmt: skip
    add("ctl-sub-cursor", "CTL-11.1", "from 4: without the first four", *ten, plain, send("s", subscribe("r", 4)),
        published("s", seqs(R, 5, 10)), *quiet("s"), kills="from-ignored from-off-by-one")  # fmt: skip
    add("ctl-sub-cursor-end", "CTL-11.1 CTL-11", "from as many as there are: only what comes", *ten, plain,
        send("s", subscribe("r", 10)), send("w", seqs(R, 11)), published("s", seqs(R, 11)), kind="boundary",
        kills="from-ignored from-off-by-one")  # fmt: skip
    add("ctl-sub-before-the-run", "CTL-11 CTL-11.1 CTL-11.10", "a run that is still to come", start(), plain,
        send("s", subscribe("r", 0)), *quiet("s"), join("w"), open_("w", R), send("w", seqs(R, 1, 3)),
        published("s", seqs(R, 1, 3)), kind="boundary", kills="subscription-mute")  # fmt: skip
    add("ctl-sub-live", "CTL-11 CTL-11.5", "without from: what is committed from then on", *ten, reader,
        send("s", subscribe("r")), begins("r", 10), send("w", seqs(R, 11, 14)), published("s", seqs(R, 11, 14)),
        *quiet("s"), **FOLLOW, kills="subscription-unannounced subscription-repeats")  # fmt: skip
    add("ctl-sub-follow", "CTL-11.5 CTL-11.1", "with follow it says where it begins", *ten, reader,
        send("s", subscribe("r", 4)), begins("r", 4), published("s", seqs(R, 5, 10)), *quiet("s"), **FOLLOW,
        kills="subscription-unannounced from-off-by-one")  # fmt: skip
    add("ctl-sub-follow-0", "CTL-11.5", "also at the beginning", start(), reader, send("s", subscribe("r", 0)),
        begins("r", 0), **FOLLOW, kind="boundary", kills="subscription-unannounced")  # fmt: skip
    add("ctl-sub-not-follow", "CTL-11.5 VER-2.4", "without the feature nothing is said", *ten, plain,
        send("s", subscribe("r", 9)), published("s", seqs(R, 10)), *quiet("s"), kind="boundary",
        kills="subscription-always-announced")  # fmt: skip
    add("ctl-sub-end", "CTL-11.6", "until_end of a run that has ended", *ten, send("w", end(R, 11)),
        acked("w", ack(R, 11)), reader, send("s", subscribe("r", 0, until_end=True)), begins("r", 0),
        published("s", seqs(R, 1, 10), end(R, 11)), ends("r", "ended"), **FOLLOW, kills="until-end-ignored ends-too-early")  # fmt: skip
    add("ctl-sub-end-live", "CTL-11.6 CTL-11", "and of one that ends while it is watched", *ten, reader,
        send("s", subscribe("r", 10, until_end=True)), begins("r", 10), *quiet("s"), send("w", seqs(R, 11), end(R, 12)),
        published("s", seqs(R, 11), end(R, 12)), ends("r", "ended"), *quiet("s"), **FOLLOW,
        kills="until-end-ignored ends-too-early")  # fmt: skip
    add("ctl-sub-end-unasked", "CTL-11.6", "who didn't ask for the end goes on", *ten, send("w", end(R, 11)),
        acked("w", ack(R, 11)), reader, send("s", subscribe("r", 10)), begins("r", 10), published("s", end(R, 11)),
        {"do": "wait", "seconds": 0.2}, *quiet("s"), send("w", seqs(R, 12)), published("s", seqs(R, 12)), **FOLLOW, kind="boundary",
        kills="ends-unasked")  # fmt: skip
    add("ctl-sub-end-two-workers", "CTL-11.6", "one worker's end isn't the run's", *worker, open_("w", W2),
        send("w", seqs(R, 1), seqs(W2, 1), end(R, 2)), acked("w", ack(R, 2), ack(W2, 1)), reader,
        send("s", subscribe("r", 3, until_end=True)), begins("r", 3), *quiet("s"), send("w", end(W2, 2)),
        published("s", end(W2, 2)), ends("r", "ended"), **FOLLOW, kind="boundary", kills="until-end-ignored")  # fmt: skip
    add("ctl-sub-deleted", "CTL-11.6 CTL-11.3", "of a run that is deleted", *ten, reader, send("s", subscribe("r", 10)),
        begins("r", 10), {"do": "delete", "run_id": "r"}, ends("r", "deleted"), *quiet("s"), **FOLLOW, kills="refusal-unsaid")  # fmt: skip
    add("ctl-unsub", "CTL-11.3 CTL-1.4", "after unsubscribe nothing more comes", *ten, plain, send("s", subscribe("r", 9)),
        published("s", seqs(R, 10)), send("s", one("unsubscribe", {"run_id": "r"})), *quiet("s"), send("w", seqs(R, 11)),
        acked("w", ack(R, 11)), send("s", subscribe("s", 0)), open_("w", S), send("w", seqs(S, 1)),
        published("s", seqs(S, 1)), kills="unsubscribe-ignored")  # fmt: skip
    add("ctl-unsub-one", "CTL-11.3 CTL-11", "of one run; the other goes on", *ten, open_("w", S), plain,
        send("s", subscribe("r", 9), subscribe("s", 0)), published("s", seqs(R, 10)),
        send("s", one("unsubscribe", {"run_id": "r"})), *quiet("s"), send("w", seqs(R, 11), seqs(S, 1)),
        published("s", seqs(S, 1)), kind="boundary", kills="unsubscribe-ignored unsubscribe-ends-all")  # fmt: skip
    add("ctl-sub-again", "CTL-11.7", "a second subscribe replaces the first: nothing comes twice", *ten, reader,
        send("s", subscribe("r", 10)), begins("r", 10), send("s", subscribe("r", 8)), begins("r", 8),
        published("s", seqs(R, 9, 10)), send("w", seqs(R, 11)), published("s", seqs(R, 11)), {"do": "wait", "seconds": 0.2}, *quiet("s"), **FOLLOW,
        kills="subscribes-twice")  # fmt: skip
    add("ctl-sub-again-later", "CTL-11.7 CTL-11.1", "also with a cursor further on", *ten, reader,
        send("s", subscribe("r", 0)), begins("r", 0), published("s", seqs(R, 1, 10)), send("s", subscribe("r", 10)),
        begins("r", 10), send("w", seqs(R, 11, 12)), published("s", seqs(R, 11, 12)), {"do": "wait", "seconds": 0.2}, *quiet("s"), **FOLLOW,
        kind="boundary", kills="subscribes-twice")  # fmt: skip
    add("ctl-sub-two-streams", "CTL-11", "events of all workers, in the order of their commits", *worker, open_("w", W2),
        send("w", seqs(R, 1)), acked("w", ack(R, 1)), send("w", seqs(W2, 1, 2)), acked("w", ack(W2, 2)),
        send("w", seqs(R, 2)), acked("w", ack(R, 2)), plain, send("s", subscribe("r", 0)),
        published("s", seqs(R, 1), seqs(W2, 1, 2), seqs(R, 2)), *quiet("s"), kills="subscription-by-stream")  # fmt: skip
    add("ctl-sub-two-streams-from", "CTL-11.1", "from counts the run's events, not a stream's", *worker, open_("w", W2),
        send("w", seqs(R, 1, 2)), acked("w", ack(R, 2)), send("w", seqs(W2, 1, 2)), acked("w", ack(W2, 2)), plain,
        send("s", subscribe("r", 3)), published("s", seqs(W2, 2)), *quiet("s"), kind="boundary",
        kills="from-ignored")  # fmt: skip
    add("ctl-sub-other-run", "CTL-11", "and of no other run", *ten, open_("w", S), reader, send("s", subscribe("r", 10)),
        begins("r", 10), send("w", seqs(S, 1, 3)), acked("w", ack(S, 3)), send("w", seqs(R, 11)),
        published("s", seqs(R, 11)), *quiet("s"), **FOLLOW, kind="boundary", kills="all-runs-published")  # fmt: skip
    add("ctl-sub-duplicate", "CTL-11 STR-4.1", "an event that was sent twice comes once", *ten, plain,
        send("s", subscribe("r", 9)), published("s", seqs(R, 10)), send("w", seqs(R, 9, 11)), acked("w", ack(R, 11)),
        published("s", seqs(R, 11)), *quiet("s"), kind="boundary", kills="subscription-repeats")  # fmt: skip
    odd = (
        f'{{"v":1,  "t":"metric","x":[1.50,null],"m":{{"ts":7,"seq":2,"sid":"{R[2]}","colour":"red"}},'
        '"p":{"run_id":"r","key":"k","value":5e-1,"later":{"a":1.0}}}'
    )
    add("ctl-sub-bytes", "CTL-11.2 FRM-8.2", "payloads come as they were sent: spaces, spellings, members of later texts",
        *worker, send("w", seqs(R, 1), raw(odd)), acked("w", ack(R, 2)), plain, send("s", subscribe("r", 1)),
        published("s", raw(odd)), *quiet("s"), kind="boundary", kills="subscription-rewrites")  # fmt: skip
    add("ctl-sub-plain-worker", "CTL-11 CTL-11.2", "also events of plain workers, which keep no sid", start(),
        connect("p"), plain, send("s", subscribe("r", 0)), send("p", seqs(["r", "", ""], 1, 3)),
        published("s", seqs(["r", "", ""], 1, 3)), *quiet("s"), kills="subscription-rewrites")  # fmt: skip
    add("ctl-sub-two-readers", "CTL-11", "two subscribers, each with a cursor of its own", *ten, plain, join("t"),
        send("s", subscribe("r", 8)), send("t", subscribe("r", 0)), published("t", seqs(R, 1, 10)),
        published("s", seqs(R, 9, 10)), send("w", seqs(R, 11)), published("s", seqs(R, 11)), published("t", seqs(R, 11)),
        *quiet("s", "t"), kills="subscription-mute")  # fmt: skip
    add("ctl-sub-own", "CTL-11 CTL-3", "a worker may watch the run it sends", *worker, send("w", subscribe("r", 0)),
        send("w", seqs(R, 1, 3)),
        {**published("w", seqs(R, 1, 3)), "ignore": [frame("ack", status="ok")]}, kind="boundary", kills="no-echo")  # fmt: skip
    add("ctl-sub-5000", "CTL-11.1 CTL-11.4 CTL-17.11", "a long history", *worker, send("w", seqs(R, 1, 5000)),
        acked("w", ack(R, 5000)), plain, send("s", subscribe("r", 0)), published("s", seqs(R, 1, 5000)), *quiet("s"),
        kind="boundary", kills="history-cut")  # fmt: skip
    few = [start(bounds={"subscriptions": 2}), reader, send("s", subscribe("a", 0), subscribe("b", 0)),
           expect("s", frame("subscribe", run_id="a"), frame("subscribe", run_id="b"), any_order=True),
           send("s", subscribe("c", 0))]  # fmt: skip
    add("ctl-sub-too-many", "CTL-11.8 CTL-11.6", "one above the bound is refused, and the others go on", *few,
        ends("c", "busy"), join("w"), open_("w", stream("a")), send("w", seqs(stream("a"), 1)),
        published("s", seqs(stream("a"), 1)), needs=["bounds", "follow"], kind="boundary", kills="refusal-unsaid")  # fmt: skip
    add("ctl-sub-no-run", "CTL-1.4 CTL-11.3", "to unsubscribe from what one has not subscribed to means nothing", *ten,
        plain, send("s", one("unsubscribe", {"run_id": "zzz"})), *quiet("s"), send("s", subscribe("r", 9)),
        published("s", seqs(R, 10)), kind="invalid", kills="stray-closes")  # fmt: skip
    add("ctl-sub-from-beyond", "CTL-11.1", "from more than there are: not one of the first so many", *ten, plain,
        send("s", subscribe("r", 12)), *quiet("s"), send("w", seqs(R, 11, 13)), acked("w", ack(R, 13)),
        published("s", seqs(R, 13)), *quiet("s"), kind="boundary", level="INFO")  # fmt: skip
    _ = (closed, held, in_time)
