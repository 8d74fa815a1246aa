"""The fold, first part: cells, the order of sessions, names (FLD-1, FLD-2, FLD-11)."""

from __future__ import annotations

from generate import fld_given, fld_losses, fld_refused, fld_series, fld_votes
from generate.collecting import (
    NAN,
    Collecting,
    Worker,
    feed,
    points,
    run,
    stream,
    values,
)
from generate.dsl import Group


def cases() -> Group:
    """Return the cases."""
    group = Collecting("fld")
    _whole(group)
    _cells(group)
    _session_order(group)
    _starts(group)
    fld_series.add(group)
    fld_votes.add(group)
    fld_losses.add(group)
    fld_refused.add(group)
    fld_given.add(group)
    return group


def _whole(group: Collecting) -> None:
    one, two = Worker("s1", wid="w1", at=1000), Worker("s2", wid="w2", at=1100)
    told = [
        one.start(name="n", tags={"team": "x"}, world_size=2, source={"git_commit": "c1"}),
        one.says("training"), one.param(0.1, key="lr"), one.metric(1, step=1), one.metric(2, step=2),
        one.log("hello"), one.summary(best=1), one.checkpoint(2), one.end("completed", duration_ms=5),
        two.start(env={"hostname": "h"}), two.param(0.2, key="lr"), two.metric(3, step=1), two.metric("NaN", step=2),
        two.event("artifact", {"path": "m.pt"}), two.summary(best=2), two.end("failed", error={"type": "E"}),
    ]  # fmt: skip
    group.folds(
        "fld-order-of-arrival", "FLD-1 FLD-11", "two workers, and everything they say, in any order, any number of times",
        feed(*told),
        run(
            status="failed", name="n", tags={"team": "x"}, params={"lr": 0.2}, summary={"best": 2}, started=1010,
            ended=1170, source={"git_commit": "c1"}, env={"hostname": "h"}, error={"type": "E"},
            series={"k": {"count": 4, "last": NAN, "least": 1, "greatest": 3}},
            logs=[{"p": {"msg": "hello"}}], checkpoints=[{"p": {"step": 2}}], artifacts=[{"p": {"path": "m.pt"}}],
            streams=[stream("s1", "w1", has=[[1, 9]]), stream("s2", "w2", has=[[1, 7]])],
        ),
        values(1, 3, 2, {"$float": "NaN"}),
        kills="points-by-arrival nan-as-greatest last-by-arrival absence-is-given",
    )  # fmt: skip
    who = Worker("s", wid="w")
    group.folds(
        "fld-nothing-lost", "FLD-1.1 EVT-METRIC-1.1 FLD-11.1", "context, epoch, durations, errors and the worker's times are told",
        feed(
            who.start(),
            who.metric(0.5, step=3, epoch=1, ctx={"phase": "val", "batch_size": 8, "agg": "mean"}, ts=777),
            who.log("l", logger="a.b", step=3, fields={"x": [1, None, {"$float": "NaN"}]}, ts=778),
            who.event("artifact", {"path": "m.pt", "name": "n", "size": 5, "type": "model", "meta": {"z": 1}}, ts=779),
            who.checkpoint(3, epoch=1, metrics={"k": 0.5}, is_best=True, best_key="k", meta={"z": 2}, ts=780),
            who.end(
                "failed", error={"type": "E", "message": "m", "traceback": "t\n"}, duration_ms=1234,
                final_metrics={"acc": 0.9, "nan": "NaN"}, ts=781,
            ),
        ),
        points({
            "value": 0.5, "step": 3, "epoch": 1, "ts": 777, "wid": "w", "sid": "s", "seq": 2,
            "ctx": {"phase": "val", "batch_size": 8, "agg": "mean"},
        }),
        run(
            error={"type": "E", "message": "m", "traceback": "t\n"}, final={"acc": 0.9, "nan": NAN},
            logs=[{
                "wid": "w", "sid": "s", "seq": 3, "ts": 778,
                "p": {"msg": "l", "level": "info", "logger": "a.b", "step": 3, "fields": {"x": [1, None, NAN]}},
            }],
            artifacts=[{
                "seq": 4, "ts": 779, "p": {"path": "m.pt", "name": "n", "size": 5, "type": "model", "meta": {"z": 1}},
            }],
            checkpoints=[{"seq": 5, "ts": 780, "p": {
                "step": 3, "path": "3.pt", "epoch": 1, "metrics": {"k": 0.5}, "is_best": True, "best_key": "k",
                "meta": {"z": 2},
            }}],
            streams=[stream("s", "w", duration_ms=1234)],
        ),
        kills="contexts-lost errors-lost durations-lost times-of-receipt",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-state-of-workers", "FLD-11 EVT-STATUS-2", "what each worker is doing, and not the last one alone",
        feed(
            one.start(), one.says("initializing"), one.says("training", msg="epoch 1", progress={"cur": 1, "total": 3}),
            two.start(), two.says("training"), two.says("evaluating", progress={"cur": 7}),
        ),
        run(
            status="running",
            workers={
                "w1": {"status": "training", "msg": "epoch 1", "progress": {"cur": 1, "total": 3}},
                "w2": {"status": "evaluating", "progress": {"cur": 7}},
            },
        ),
        kills="one-activity-a-run first-activity-stays",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-state-of-experiment", "FLD-11 EVT-TAGS-2.1", "experiment, parent, note and tags of a run",
        feed(
            who.start(run_id={"id": "a", "exp_id": "e", "parent_id": "p"}, tags={"x": "1"}),
            who.tags(**{"xtrack.note": "a note", "y": "2"}),
        ),
        run(experiment="e", parent="p", note="a note", tags={"x": "1", "y": "2"}),
        kills="tags-of-run-start-ignored notes-ignored",
    )  # fmt: skip
    group.folds(
        "fld-state-last-seq", "FLD-11 FLD-2.8", "the last seq of each stream, which is the greatest",
        feed(*(Worker("s").log(seq=seq) for seq in (9, 10, 100, 11))),
        run(streams=[stream("s", last_seq=100)]),
        kind="boundary", kills="last-seq-is-the-number",
    )  # fmt: skip
    line = {
        "t": "log",
        "v": 1,
        "m": {"seq": 0, "ts": 0, "sid": "s"},
        "p": {"run_id": "a", "level": "info", "msg": "l@"},
    }
    group.folds(
        "fld-state-of-logs", "FLD-11.1 FLD-3.6", "of 1200 log lines the last 1000 at least",
        feed({"each": [1, 1200], "event": line}),
        run(logs={"includes": [{"p": {"msg": f"l{n}"}} for n in (201, 202, 700, 1199, 1200)]}),
        kind="boundary", kills="keeps-999-logs",
    )  # fmt: skip


def _cells(group: Collecting) -> None:
    who = Worker("s")
    group.folds(
        "fld-cell-by-seq", "FLD-2 EVT-PARAM-1.4", "of one worker the greatest seq wins, whatever the clock says",
        feed(who.start(), who.param("first", ts=9000), who.param("last", ts=5)),
        run(params={"p": "last"}),
        kills="cells-by-time cells-by-arrival first-write-wins",
    )  # fmt: skip
    group.folds(
        "fld-cell-by-value-of-seq", "FLD-2 FLD-2.8", "seq 10 is after seq 9, though not as a text",
        feed(Worker("s").param("ninth", seq=9, ts=50), Worker("s").param("tenth", seq=10, ts=50)),
        run(params={"p": "tenth"}),
        kind="boundary", kills="seqs-compared-as-texts cells-by-arrival",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-cell-of-workers", "FLD-2.1", "of several workers the latest time wins, whatever the seq",
        feed(one.start(), two.start(), one.param("later", seq=2, ts=9000), two.param("earlier", seq=50, ts=8000)),
        run(params={"p": "later"}),
        kills="cells-by-seq-alone time-ignored",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-cell-last-of-each-worker", "FLD-2 FLD-2.1", "a worker's last write counts, and not its latest time",
        feed(
            one.start(), two.start(),
            one.param("withdrawn", ts=9000), one.param("w1 last", ts=100), two.param("w2 last", ts=200),
        ),
        run(params={"p": "w2 last"}),
        kind="boundary", kills="cells-by-time cells-by-arrival",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-cell-tie", "FLD-2.1", "at the same time the greater worker id wins",
        feed(one.start(), two.start(), two.param("w2", seq=2, ts=50), one.param("w1", seq=9, ts=50)),
        run(params={"p": "w2"}),
        kind="boundary", kills="ties-to-the-lower-worker cells-by-seq-alone",
    )  # fmt: skip
    one, two = Worker("s1", wid="\uff5e"), Worker("s2", wid="\U0001f600")
    group.folds(
        "fld-cell-tie-code-points", "FLD-2.8 FLD-2.1", "U+1F600 is greater than U+FF5E, though not in UTF-16 units",
        feed(one.param("ff5e", seq=2, ts=50), two.param("1f600", seq=2, ts=50)),
        run(params={"p": "1f600"}),
        kind="boundary", kills="strings-by-utf16",
    )  # fmt: skip
    one, two = Worker("s1", wid="B"), Worker("s2", wid="a")
    group.folds(
        "fld-cell-tie-case", "FLD-2.8 FLD-2.1", "a is greater than B: no locale, no folding of case",
        feed(one.param("B", seq=2, ts=50), two.param("a", seq=2, ts=50)),
        run(params={"p": "a"}),
        kind="boundary", kills="strings-without-case",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-cell-times-by-value", "FLD-2.8 FLD-2.1", "a time of four digits is later than one of three",
        feed(one.param("later", seq=2, ts=1000), two.param("earlier", seq=2, ts=999)),
        run(params={"p": "later"}),
        kind="boundary", kills="times-compared-as-texts",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-cell-times-below-zero", "FLD-2.1 ENV-3.2", "-5 is later than -500",
        feed(one.param("later", seq=2, ts=-5), two.param("earlier", seq=2, ts=-500)),
        run(params={"p": "later"}),
        kind="boundary", kills="times-compared-as-texts",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-cell-times-beyond-binary64", "FLD-2.1 VAL-1.4", "two times that are one binary64",
        feed(one.param("later", seq=2, ts=2**60 + 1), two.param("earlier", seq=2, ts=2**60)),
        run(params={"p": "later"}),
        kind="boundary", kills="times-by-way-of-binary64",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-cell-of-tags", "FLD-2 EVT-TAGS-1.1", "tags are set one by one; the others stay",
        feed(who.start(tags={"x": "1", "y": "1"}), who.tags(y="2", z="2"), who.tags(z="3")),
        run(tags={"x": "1", "y": "2", "z": "3"}),
        kills="tags-replaced-as-a-whole tags-of-run-start-ignored cells-by-arrival first-write-wins",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-cell-of-summary", "FLD-2 EVT-SUMMARY-1.1 EVT-SUMMARY-1.2", "summary values one by one, and no points",
        feed(who.start(), who.summary(a=1, b="NaN"), who.summary(a=0.5, c="-Infinity"), who.metric(9, key="a")),
        run(
            summary={"a": 0.5, "b": NAN, "c": {"$float": "-Infinity"}},
            series={"a": {"count": 1, "last": 9, "least": 9, "greatest": 9}},
        ),
        values(9, key="a"), values(key="c"),
        kills="summary-gives-points summary-replaced-as-a-whole first-write-wins cells-by-arrival",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-cell-of-nothing", "FLD-2 EVT-SUMMARY-1.1 EVT-TAGS-1.1", "an empty map names nothing, and clears nothing",
        feed(who.start(), who.summary(a=1), who.summary(), who.tags(x="1"), who.tags()),
        run(summary={"a": 1}, tags={"x": "1"}),
        kind="boundary", kills="summary-replaced-as-a-whole tags-replaced-as-a-whole",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-note-empty", "EVT-TAGS-2.1 FLD-2", "an empty note is a note, and comes after the one before it",
        feed(who.start(), who.tags(**{"xtrack.note": "a note"}), who.tags(**{"xtrack.note": ""})),
        run(note=""),
        kind="boundary", kills="notes-ignored first-write-wins",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1", at=1000), Worker("s2", wid="w2", at=2000)
    group.folds(
        "fld-cell-of-experiment", "FLD-2 FLD-2.1", "experiment and parent are cells, each by itself",
        feed(
            one.start(run_id={"id": "a", "exp_id": "e1", "parent_id": "p1"}),
            two.start(run_id={"id": "a", "exp_id": "e2"}),
            one.metric(1, ts=1500, run_id="a"),
        ),
        run(experiment="e2", parent="p1"),
        kills="experiment-cleared-by-absence",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-cell-experiment-in-any-event", "FLD-2 EVT-1.4 FLD-2.10", "an object form with an experiment, in a later event",
        feed(
            who.start(run_id={"id": "a", "exp_id": "e1"}),
            who.metric(1, run_id={"id": "a", "exp_id": "e2"}), who.metric(2),
        ),
        run(experiment="e2"),
        kind="boundary", kills="experiment-first-wins experiment-of-run-start-alone",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-cell-null", "FLD-2 JSN-6.2", "null is a value that can be the last",
        feed(who.start(), who.param(1), who.param(None)),
        run(params={"p": None}),
        kind="boundary", kills="null-is-no-write first-write-wins",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-cell-values", "FLD-2 VAL-3.3 EVT-PARAM-1.3 FLD-1.1", "values of every kind are kept as they are",
        feed(
            who.start(), who.param({"b": [1, 2.5, None, True]}, key="o"), who.param([], key="l"),
            who.param({}, key="e"), who.param(NAN, key="n"), who.param("NaN", key="t"), who.param(False, key="f"),
            who.param(2**53 + 1, key="i"), who.param({"$float": "x"}, key="x"), who.param("", key=""),
        ),
        run(params={
            "o": {"b": [1, 2.5, None, True]}, "l": [], "e": {}, "n": NAN, "t": "NaN", "f": False, "i": 2**53 + 1,
            "x": {"$float": "x"}, "": "",
        }),
        kind="boundary", kills="params-split",
    )  # fmt: skip


def _session_order(group: Collecting) -> None:
    old, new = Worker("s1", at=1000), Worker("s2", at=5000)
    group.folds(
        "fld-sessions-by-start", "FLD-2 FLD-2.2 FLD-2.3", "of one worker the later session wins, whatever its seq and time",
        feed(old.start(), new.start(), old.param("old", seq=90, ts=99000), new.param("new", seq=2, ts=5)),
        run(params={"p": "new"}),
        kills="sessions-are-like-workers",
    )  # fmt: skip
    old, new = Worker("s9", at=1000), Worker("s1", at=5000)
    group.folds(
        "fld-sessions-not-by-id", "FLD-2.2", "the start counts before the session id",
        feed(old.start(), new.start(), old.param("old", ts=7000), new.param("new", ts=7000)),
        run(params={"p": "new"}),
        kills="sessions-by-id sessions-are-like-workers",
    )  # fmt: skip
    one, two = Worker("s1", at=1000), Worker("s2", at=1000)
    group.folds(
        "fld-sessions-tie", "FLD-2.2 FLD-2.8", "equal in all else, the greater session id is the later one",
        feed(one.start(), two.start(), two.param("s2", seq=2, ts=5), one.param("s1", seq=9, ts=9000)),
        run(params={"p": "s2"}),
        kind="boundary", kills="sessions-tie-by-arrival",
    )  # fmt: skip
    one, two = Worker("s2", wid="w1", at=1000), Worker("s1", wid="w2", at=1000)
    group.folds(
        "fld-sessions-tie-worker", "FLD-2.2", "the worker id counts before the session id",
        feed(one.start(name="of w1"), two.start(name="of w2")),
        run(name="of w2"),
        kind="boundary", kills="sessions-tie-by-session-first first-given-wins",
    )  # fmt: skip
    old, new = Worker("s1", at=5000), Worker("s2", at=1000)
    group.folds(
        "fld-sessions-resumed", "FLD-2.2 FLD-8", "a session comes after the one that it resumes, though its clock was set back",
        feed(old.start(), old.param("old"), new.start(resume={"sids": ["s1"]}), new.param("new")),
        run(params={"p": "new"}),
        kills="resume-orders-nothing",
    )  # fmt: skip
    one, two, three = Worker("s1", at=9000), Worker("s2", at=5000), Worker("s3", at=1000)
    group.folds(
        "fld-sessions-chain", "FLD-2.2", "reached by way of another: the third comes after the first",
        feed(
            one.start(), one.param("first", key="x"), two.start(resume={"sids": ["s1"]}), two.param("second", key="y"),
            three.start(resume={"sids": ["s2"]}), three.param("third", key="x"), three.param("third", key="y"),
        ),
        run(params={"x": "third", "y": "third"}),
        kills="resume-orders-nothing",
    )  # fmt: skip
    one, two = Worker("s2", at=1000), Worker("s1", at=1000)
    group.folds(
        "fld-sessions-resumed-tie", "FLD-2.2", "at the same time the one that resumes comes later, whatever its id",
        feed(one.start(), one.param("s2"), two.start(resume={"sids": ["s2"]}), two.param("s1")),
        run(params={"p": "s1"}),
        kind="boundary", kills="reach-not-counted resume-orders-nothing",
    )  # fmt: skip
    one, two = Worker("s1", at=1000), Worker("s2", at=5000)
    group.folds(
        "fld-sessions-circle", "FLD-2.2", "two that name each other are still in an order: that of their ids",
        feed(
            one.start(resume={"sids": ["s2"]}), two.start(resume={"sids": ["s1"]}),
            one.param("s1", ts=9000), two.param("s2", ts=8000),
        ),
        run(params={"p": "s2"}),
        kind="boundary", kills="sessions-tie-by-arrival",
    )  # fmt: skip
    one, two = Worker("s2", at=1000), Worker("s1", at=5000)
    group.folds(
        "fld-sessions-circle-back", "FLD-2.2", "the same circle, the ids exchanged: the starts don't count in it",
        feed(
            one.start(resume={"sids": ["s1"]}), two.start(resume={"sids": ["s2"]}),
            one.param("s2", ts=9000), two.param("s1", ts=8000),
        ),
        run(params={"p": "s2"}),
        kind="boundary", kills="resume-orders-nothing",
    )  # fmt: skip
    one, two = Worker("s2", at=1000), Worker("s1", at=1000)
    group.folds(
        "fld-sessions-self", "FLD-2.2 FLD-4.1", "a session that names itself reaches no other, and keeps its vote",
        feed(two.start(resume={"sids": ["s1"]}), one.start(), two.param("s1"), one.param("s2"), one.end(), two.end("failed")),
        run(params={"p": "s2"}, status="failed"),
        kind="boundary", kills="self-counts-as-reached self-resume-loses-its-vote",
    )  # fmt: skip
    old, new = Worker("s1", at=5000), Worker("s2", at=1000)
    group.folds(
        "fld-sessions-resume-unknown", "FLD-2.2 FLD-8", "a session that nobody knows is none of the run's, and orders nothing",
        feed(old.start(), old.param("s1"), new.start(resume={"sids": ["nobody"]}), new.param("s2")),
        run(params={"p": "s1"}, status="running"),
        kind="boundary", kills="sessions-by-id",
    )  # fmt: skip
    old, new = Worker("s1", at=1000), Worker("s2", at=1000)
    group.folds(
        "fld-sessions-without-start", "FLD-2.3", "without run_start the lowest time of its events is its start",
        feed(
            old.metric(1, seq=5, ts=9000), old.param("s1", seq=7, ts=100),
            new.metric(2, seq=3, ts=8000), new.param("s2", seq=4, ts=101),
        ),
        run(params={"p": "s2"}),
        kind="boundary", kills="start-by-greatest-time",
    )  # fmt: skip
    old, new = Worker("s1", at=1000), Worker("s2", at=2000)
    group.folds(
        "fld-sessions-start-before-events", "FLD-2.3", "with a run_start its time counts, and no lower one of its events",
        feed(old.start(ts=1000), new.start(ts=2000), new.param("new", ts=5), old.param("old", ts=6)),
        run(params={"p": "new"}),
        kind="boundary", kills="start-by-lowest-time",
    )  # fmt: skip
    old, new = Worker("s1", at=1000), Worker("s2", at=1000)
    group.folds(
        "fld-start-lowest-seq", "FLD-2.4", "of two run_starts in a session the one with the lower seq is its run_start",
        feed(
            old.start(seq=1, ts=1000, name="first"), old.start(seq=5, ts=9000, name="second"),
            new.start(seq=1, ts=5000), old.param("s1", seq=6), new.param("s2", seq=2),
        ),
        run(name="first", params={"p": "s2"}, started=1000),
        kills="last-run-start-counts absence-is-given",
    )  # fmt: skip
    group.folds(
        "fld-start-lowest-seq-resume", "FLD-2.4 FLD-4.1", "what a later run_start of a session resumes has no effect on votes",
        feed(
            Worker("s1").start(), Worker("s1").end("failed", seq=2), Worker("s2").start(ts=9000),
            Worker("s2").start(seq=2, ts=9001, resume={"sids": ["s1"]}), Worker("s2").end("completed", seq=3),
        ),
        run(status="failed"),
        kind="boundary", kills="last-run-start-counts",
    )  # fmt: skip


def _starts(group: Collecting) -> None:
    one, two = Worker("s1", at=1000), Worker("s2", at=2000)
    group.folds(
        "fld-name-last", "FLD-2.5", "the last session that gives a name names the run",
        feed(one.start(name="first"), two.start(name="second")), run(name="second"),
        kills="first-given-wins",
    )  # fmt: skip
    one, two = Worker("s1", at=1000), Worker("s2", at=2000)
    group.folds(
        "fld-name-given", "FLD-2.5", "a later session that gives none leaves the name",
        feed(one.start(name="first"), two.start()), run(name="first"),
        kind="boundary", kills="absence-is-given",
    )  # fmt: skip
    one, two = Worker("s1", at=1000), Worker("s2", at=9000)
    group.folds(
        "fld-name-tag", "FLD-2.5 EVT-TAGS-2", "the tag comes before every run_start, a later one included",
        feed(one.start(name="first"), one.tags(**{"xtrack.name": "tagged"}), two.start(name="second")),
        run(name="tagged"),
        kills="name-tag-ignored",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-name-tags", "FLD-2.5 FLD-2.1 EVT-TAGS-2", "of several such tags the one that wins as a cell",
        feed(
            one.start(name="x"), one.tags(ts=9000, **{"xtrack.name": "later"}),
            two.start(), two.tags(ts=8000, **{"xtrack.name": "earlier"}),
        ),
        run(name="later"),
        kills="name-tag-ignored time-ignored",
    )  # fmt: skip
    one = Worker("s1")
    group.folds(
        "fld-name-empty-tag", "FLD-2.5 EVT-TAGS-2", "an empty tag is a tag: the run's name is empty",
        feed(one.start(name="first"), one.tags(**{"xtrack.name": ""})),
        run(name=""),
        kind="boundary", kills="empty-name-is-none name-tag-ignored",
    )  # fmt: skip
    one, two = Worker("s1", at=1000), Worker("s2", at=2000)
    group.folds(
        "fld-source-as-a-whole", "FLD-2.6", "source and env are taken whole, never mixed of two",
        feed(
            one.start(source={"git_commit": "c1", "git_branch": "b1"}, env={"hostname": "h1", "platform": "p1"}),
            two.start(source={"git_commit": "c2"}, env={"platform": "p2"}),
        ),
        run(source={"git_commit": "c2", "git_branch": None}, env={"platform": "p2", "hostname": None}), kills="first-given-wins",
    )  # fmt: skip
    one, two = Worker("s1", at=1000), Worker("s2", at=2000)
    group.folds(
        "fld-source-each-by-itself", "FLD-2.6", "source of one session, env of another",
        feed(one.start(source={"git_commit": "c1"}, env={"hostname": "h1"}), two.start(env={"hostname": "h2"})),
        run(source={"git_commit": "c1"}, env={"hostname": "h2"}),
        kind="boundary", kills="absence-is-given",
    )  # fmt: skip
    worker, watcher = Worker("s1", at=1000), Worker("s2", wid="launcher", at=2000)
    group.folds(
        "fld-observer-gives-way", "FLD-2.7 FLD-2.5 FLD-2.6", "what an observer gives counts where no other gives it",
        feed(
            worker.start(name="of the worker", source={"git_commit": "c1"}),
            watcher.start(observer=True, name="of the launcher", source={"git_commit": "c2"}, env={"hostname": "h2"}),
        ),
        run(name="of the worker", source={"git_commit": "c1"}, env={"hostname": "h2"}),
        kills="observers-like-others observers-give-nothing",
    )  # fmt: skip
    worker, child = Worker("s1", at=1000), Worker("s2", at=2000)
    group.folds(
        "fld-name-of-a-child", "FLD-2.5 FLD-2.6", "a forked child's run_start gives its name like any other",
        feed(worker.start(name="x"), child.start(sub=True, name="y", source={"git_commit": "c"})),
        run(name="y", source={"git_commit": "c"}),
        kind="boundary", kills="children-give-nothing",
    )  # fmt: skip
