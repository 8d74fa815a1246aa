"""Streams, second part: conflicts, gaps, skips, ambiguous streams (STR-5 to STR-8)."""

from __future__ import annotations

from generate.collecting import (
    Collecting,
    Worker,
    feed,
    run,
    skip,
    stream,
    text,
    unknown,
    values,
)
from generate.dsl import dump, event, metric


def add(group: Collecting) -> None:
    """Add the cases."""
    _conflicts(group)
    _gaps(group)
    _skips(group)
    _ambiguous(group)


def _conflicts(group: Collecting) -> None:
    who = Worker()
    start, first, second = who.start(), who.metric(1), who.metric(2, seq=2)
    group.tells(
        "str-conflict", "STR-5 STR-5.1 STR-4 STR-4.1 DLV-6.2", "the first that came stands, and the conflict is counted",
        feed(start, first, second), feed(who.end()),
        values(1),
        run(series={"k": {"count": 1, "last": 1}}, streams=[stream(has=[[1, 3]], conflicts=1)], status="completed"),
        kind="invalid", kills="conflict-last-wins conflicts-not-counted",
    )  # fmt: skip
    who = Worker()
    group.tells(
        "str-conflict-later", "STR-5", "by time and content the second would win; it came second",
        feed(who.start(), who.param("first", ts=9000)), feed(who.param("second", seq=2, ts=1), source="y"),
        run(params={"p": "first"}, streams=[stream(conflicts=1)]),
        kind="invalid", kills="conflict-last-wins",
    )  # fmt: skip
    who = Worker()
    group.tells(
        "str-conflict-other-type", "STR-5 STR-5.1 STR-4.1 STR-4.2", "another type under the same seq",
        feed(who.start(), who.metric(1), who.log("late", seq=2), who.log("next", seq=3)),
        run(series={"k": {"count": 1}}, logs=[{"p": {"msg": "next"}}], streams=[stream(has=[[1, 3]], conflicts=1)]),
        kind="invalid", kills="conflict-last-wins conflicts-not-counted",
    )  # fmt: skip
    who = Worker()
    start, first = who.start(), who.metric(1)
    group.tells(
        "str-conflict-then-duplicate", "STR-4.1 STR-5 STR-5.1", "the first comes again: that is no conflict",
        feed(start, first, who.metric(2, seq=2), first, start),
        run(streams=[stream(conflicts=1)]),
        kind="boundary", kills="conflicts-count-duplicates",
    )  # fmt: skip
    who = Worker()
    group.tells(
        "str-conflicts-counted", "STR-5.1", "three events that conflict are three",
        feed(who.start(), who.metric(1), who.metric(2, seq=2), who.metric(3, seq=2), who.log(seq=1)),
        run(streams=[stream(conflicts=3)]),
        kind="invalid", kills="conflicts-not-counted conflicts-counted-once",
    )  # fmt: skip
    one, two = Worker("s1"), Worker("s2")
    group.tells(
        "str-conflict-of-its-stream", "STR-1.3 STR-5.1", "it is counted for its stream, and no other",
        feed(one.start(), two.start(), one.metric(1), two.metric(2), two.metric(3, seq=2)),
        run(streams=[stream("s1", conflicts=0), stream("s2", conflicts=1)]),
        kind="invalid", kills="conflicts-counted-for-the-run conflicts-not-counted duplicates-per-run",
    )  # fmt: skip
    who = Worker()
    group.tells(
        "str-conflict-time-alone", "STR-4.2 STR-5", "two events that differ in their time alone are different",
        feed(who.start(), who.metric(1, ts=50), who.metric(1, seq=2, ts=51)),
        run(series={"k": {"count": 1}}, streams=[stream(conflicts=1)]),
        kind="boundary", kills="content-without-meta conflicts-not-counted",
    )  # fmt: skip
    who = Worker()
    group.tells(
        "str-conflict-boolean", "STR-4.2 STR-5 VAL-4.8", "true and 1 are different",
        feed(who.start(), who.param(1), who.param(True, seq=2, ts=1020)),
        run(params={"p": 1}, streams=[stream(conflicts=1)]),
        kind="boundary", kills="true-is-1 conflicts-not-counted",
    )  # fmt: skip
    who = Worker()
    group.tells(
        "str-conflict-non-finite", "STR-4.2 STR-5 VAL-3.3", "not-a-number and infinity are different",
        feed(who.start(), who.metric("NaN"), who.metric("Infinity", seq=2, ts=1020)),
        run(streams=[stream(conflicts=1)]),
        kind="boundary", kills="conflicts-not-counted non-finite-is-one-value",
    )  # fmt: skip
    who = Worker()
    group.tells(
        "str-conflict-big-integers", "STR-4.2 STR-5 VAL-2.1", "2^53 and 2^53 + 1 are different",
        feed(who.start(), who.metric(2**53), who.metric(2**53 + 1, seq=2, ts=1020)),
        run(series={"k": {"count": 1, "last": 2**53}}, streams=[stream(conflicts=1)]),
        kind="boundary", kills="conflicts-not-counted content-by-way-of-binary64",
    )  # fmt: skip
    who = Worker()
    group.tells(
        "str-conflict-of-starts", "STR-5 FLD-5.5", "a second run_start under the same seq changes nothing",
        feed(who.start(name="first", ts=1000), who.start(name="second", seq=1, ts=500)),
        run(name="first", started=1000, streams=[stream(has=[[1, 1]], conflicts=1)]),
        kind="invalid", kills="conflict-last-wins",
    )  # fmt: skip


def _gaps(group: Collecting) -> None:
    who = Worker()
    group.folds(
        "str-gap", "STR-6 STR-6.1", "what comes above a gap is taken, and its range is known",
        feed(who.start(), who.metric(1), who.metric(2, seq=6)),
        run(series={"k": {"count": 2}}, streams=[stream(has=[[1, 2], [6, 6]], gaps=[[3, 5]], last_seq=6)]),
        kind="invalid", kills="gap-refuses-the-rest gaps-not-told",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-gap-and-end", "STR-6 STR-6.3", "a run_end above a gap ends the run as it says",
        feed(who.start(), who.end("completed", seq=9)),
        run(status="completed", ended=1090, streams=[stream(gaps=[[2, 8]])]),
        kind="invalid", kills="gap-refuses-the-rest",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-gap-while-it-runs", "STR-6.3", "a gap alone is no sign of death",
        feed(who.start(), who.metric(1, seq=9)),
        run(status="running", streams=[stream(gaps=[[2, 8]], lost=[])]),
        kind="invalid", kills="gap-is-a-failure gap-refuses-the-rest",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-gap-at-the-beginning", "STR-6 STR-6.1", "events from the third on: the first two are a gap",
        feed(who.metric(1, seq=3), who.metric(2, seq=4)),
        run(series={"k": {"count": 2}}, streams=[stream(has=[[3, 4]], gaps=[[1, 2]])]),
        kind="boundary", kills="gaps-from-the-first-that-came gap-refuses-the-rest",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-gap-none", "STR-6", "without a missing seq there is no gap, in whatever order they come",
        feed(who.start(), who.metric(1), who.metric(2), who.metric(3)),
        run(streams=[stream(has=[[1, 4]], gaps=[], lost=[])]),
        kind="boundary", kills="gap-refuses-the-rest",
    )  # fmt: skip
    who = Worker()
    start = who.start()
    group.tells(
        "str-gap-narrowed", "STR-6.2 STR-6.4", "late events are taken, and narrow the gap until it is none",
        feed(start, who.metric(9, seq=9)),
        run(streams=[stream(gaps=[[2, 8]])]),
        feed(who.metric(5, seq=5), source="y"),
        run(streams=[stream(has=[[1, 1], [5, 5], [9, 9]], gaps=[[2, 4], [6, 8]])]),
        feed(who.metric(2, seq=2), who.metric(8, seq=8)),
        run(streams=[stream(gaps=[[3, 4], [6, 7]])]),
        feed(*(who.metric(seq, seq=seq) for seq in (3, 4, 6, 7))),
        run(series={"k": {"count": 8}}, streams=[stream(has=[[1, 9]], gaps=[])]),
        kills="gap-refuses-the-rest keeps-the-last-seq-alone",
    )  # fmt: skip
    who = Worker()
    group.tells(
        "str-gap-default", "STR-6 STR-6.4", "to refuse what stands above a gap is not the default",
        feed(who.metric(1, seq=2)), feed(who.metric(2, seq=4)), feed(who.metric(3, seq=1)), feed(who.metric(4, seq=5)),
        run(series={"k": {"count": 4}}, streams=[stream(has=[[1, 2], [4, 5]], gaps=[[3, 3]])]),
        kind="boundary", kills="gap-refuses-the-rest",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-gap-of-a-damaged-frame", "STR-6 ERR-4 STR-4 STR-6.2", "a payload that must be refused costs its own seq alone",
        feed(who.start(), text(dump(who.metric(1)).replace('"value":1', '"value":[]')), text("{}"), text("x"), who.metric(2, seq=3)),
        run(status="running", series={"k": {"count": 1}}, streams=[stream(has=[[1, 1], [3, 3]], gaps=[[2, 2]])]),
        kind="invalid", kills="gap-refuses-the-rest gaps-not-told",
    )  # fmt: skip


def _skips(group: Collecting) -> None:
    who = Worker()
    group.folds(
        "str-skip", "STR-7 CTL-9", "a declared loss is no gap, and is told as lost",
        feed(who.start(), skip(2, 4), who.metric(1, seq=5)),
        run(status="running", streams=[stream(has=[[1, 1], [5, 5]], gaps=[], lost=[[2, 4]], last_seq=5)]),
        kills="skip-does-not-close-gaps skips-ignored lost-not-told",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-skip-of-one", "STR-7 CTL-9.1", "from and to are the same: one event",
        feed(who.start(), skip(2, 2), who.metric(1, seq=3)),
        run(streams=[stream(gaps=[], lost=[[2, 2]])]),
        kind="boundary", kills="skip-ends-before-to skip-does-not-close-gaps skips-ignored",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-skip-part", "STR-7 STR-7.3", "what a skip leaves of a gap is still one",
        feed(who.start(), skip(3, 4), who.metric(1, seq=7)),
        run(streams=[stream(gaps=[[2, 2], [5, 6]], lost=[[3, 4]])]),
        kills="skip-ends-before-to skip-does-not-close-gaps skips-ignored",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-skip-comes-after-all", "STR-7.1", "an event that comes in spite of a skip is taken, and is no loss",
        feed(who.start(), skip(2, 4), who.metric(1, seq=3), who.metric(2, seq=5)),
        run(series={"k": {"count": 2}}, streams=[stream(has=[[1, 1], [3, 3], [5, 5]], gaps=[], lost=[[2, 2], [4, 4]])]),
        kills="skipped-stays-lost",
    )  # fmt: skip
    who = Worker()
    group.tells(
        "str-skip-then-event", "STR-7.1", "the skip first, the event later: taken",
        feed(who.start(), skip(2, 2)), run(streams=[stream(lost=[[2, 2]])]),
        feed(who.metric(1, seq=2)), run(series={"k": {"count": 1}}, streams=[stream(has=[[1, 2]], lost=[])]),
        kind="boundary", kills="skipped-stays-lost",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-skip-and-refused", "STR-7.1 STR-7.3 ENV-2", "an event that comes in spite of a skip and must be refused has not come",
        feed(who.start(), skip(2, 4), {**who.metric(1, seq=3), "v": 9}, who.metric(2, seq=5)),
        run(series={"k": {"count": 1}}, streams=[stream(has=[[1, 1], [5, 5]], gaps=[], lost=[[2, 4]])]),
        kind="invalid", kills="refused-events-are-folded",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-skip-over-what-came", "STR-7.1 STR-4.1", "a skip of what is there takes nothing away",
        feed(who.start(), who.metric(1), who.metric(2), skip(1, 3)),
        run(series={"k": {"count": 2}}, streams=[stream(has=[[1, 3]], gaps=[], lost=[])]),
        kind="boundary", kills="skipped-stays-lost",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-skip-overlapping", "STR-7 STR-7.3", "skips that overlap and touch are one loss",
        feed(who.start(), skip(2, 5), skip(4, 8), skip(9, 9), skip(3, 4), who.metric(1, seq=10)),
        run(streams=[stream(gaps=[], lost=[[2, 9]])]),
        kind="boundary", kills="last-skip-counts skips-ignored",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-skip-at-the-end", "STR-7 STR-7.3", "the last events of a stream may be lost",
        feed(who.start(), who.metric(1), skip(3, 9)),
        run(streams=[stream(has=[[1, 2]], gaps=[], lost=[[3, 9]], last_seq=2)]),
        kind="boundary", kills="skips-ignored skips-count-as-last-seq",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-skip-of-nothing", "CTL-9.1 STR-7 STR-7.3", "a skip that ends before it begins, or begins below 1, is ignored",
        feed(who.start(), skip(4, 2), skip(0, 3), skip(-5, -1), who.metric(1, seq=5)),
        run(streams=[stream(gaps=[[2, 4]], lost=[])]),
        kind="invalid", kills="skips-of-nothing-taken",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s1", wid="w2")
    group.folds(
        "str-skip-of-its-stream", "STR-7 STR-1.3", "it closes the gap of the stream it names, worker and all",
        feed(
            one.start(), two.start(), skip(2, 4, "s1", wid="w2"),
            one.metric(1, seq=5), two.metric(2, seq=5),
        ),
        run(streams=[stream("s1", "w1", gaps=[[2, 4]], lost=[]), stream("s1", "w2", gaps=[], lost=[[2, 4]])]),
        kills="skip-without-worker skips-ignored",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-skip-and-status", "STR-7 STR-7.3 STR-6.3", "known loss is shown with the run and changes no status",
        feed(who.start(), skip(2, 4), who.end("completed", seq=5)),
        run(status="completed", streams=[stream(lost=[[2, 4]])]),
        kills="lost-not-told skips-ignored",
    )  # fmt: skip
    who = Worker()
    control = [
        event("ping", {}, seq=0),
        event("ack", {"seq": 9, "status": "ok", "run_id": "a", "sid": "s"}, seq=0),
        event("command_result", {"run_id": "a", "cmd_id": "c", "status": "ok"}, seq=0),
        event("open", {"run_id": "a", "sid": "t"}, seq=0),
    ]
    group.folds(
        "str-control-in-between", "CTL-1.1 CTL-1.5", "control events belong to no stream",
        feed(who.start(), *control, who.metric(1)),
        run(streams=[stream("s", has=[[1, 2]], gaps=[], lost=[])], series={"k": {"count": 1}}), kills="control-events-are-events",
    )  # fmt: skip


def _ambiguous(group: Collecting) -> None:
    one = Worker(None)
    start = one.start(ts=1000)
    group.tells(
        "str-ambiguous", "STR-8 STR-5", "two workers without ids write one file: the stream is reported",
        feed(start, one.metric(1, seq=2), one.metric(2, seq=2), one.metric(3, seq=3)),
        run(series={"k": {"count": 2, "least": 1}}, streams=[stream("legacy-1000", ambiguous=True, conflicts=1, has=[[1, 3]])]),
        values(1, 3),
        kind="invalid", kills="ambiguous-not-told",
    )  # fmt: skip
    one = Worker(None)
    group.tells(
        "str-ambiguous-no-start", "STR-8 STR-2.2", "the same before any run_start",
        feed(metric(1, seq=2), metric(2, seq=2)),
        run("a", streams=[stream("legacy-0", ambiguous=True)]),
        kind="boundary", kills="ambiguous-not-told ambiguous-only-when-started",
    )  # fmt: skip
    one = Worker(None)
    start, point = one.start(ts=1000), one.metric(1)
    group.folds(
        "str-ambiguous-not", "STR-8 STR-4.1", "the same content twice, and two starts, are not ambiguous",
        feed(start, point, point, start, point, Worker(None).start(ts=2000), Worker(None).metric(2, seq=2)),
        run(streams=[
            stream("legacy-1000", ambiguous=False, conflicts=0), stream("legacy-2000", ambiguous=False, conflicts=0),
        ]),
        kind="boundary", kills="ambiguous-when-repeated known-start-is-new derived-by-wall-time",
    )  # fmt: skip
    one, two = Worker(None, wid="w1"), Worker(None, wid="w2")
    group.tells(
        "str-ambiguous-of-its-stream", "STR-8", "the stream that it is, and no other",
        feed(one.start(ts=1000), two.start(ts=2000), one.metric(1), two.metric(1), two.metric(2, seq=2)),
        run(streams=[stream("legacy-1000", "w1", ambiguous=False), stream("legacy-2000", "w2", ambiguous=True)]),
        kind="invalid", kills="ambiguous-not-told ambiguous-for-the-run",
    )  # fmt: skip
    one = Worker(None)
    group.tells(
        "str-ambiguous-far-apart", "STR-8", "the two events needn't follow each other",
        feed(one.start(ts=1000), one.metric(1), one.metric(2), one.metric(3)), feed(one.metric(9, seq=2)),
        run(streams=[stream("legacy-1000", ambiguous=True, conflicts=1)], series={"k": {"count": 3}}),
        kind="invalid", kills="ambiguous-not-told",
    )  # fmt: skip
    group.tells(
        "str-no-run", "ENV-5.4 STR-2", "an event that names no run belongs to none, and disturbs nobody",
        feed(event("later", {"x": 1}, seq=1), Worker(run="b").start()),
        run("b", streams=[stream(has=[[1, 1]])]), unknown(of=""),
        kind="boundary", kills="one-run-a-source",
    )  # fmt: skip
