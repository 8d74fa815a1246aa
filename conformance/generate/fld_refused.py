"""The fold, what it is not given: events that must be refused, and losses of nobody, leave the state as it is (ERR-4)."""

from __future__ import annotations

from generate.collecting import (
    Collecting,
    Worker,
    aggregate,
    expect,
    feed,
    points,
    run,
    stream,
    values,
)
from generate.dsl import Json

KILLS = "refused-events-are-folded"


def refused(event: Json) -> Json:
    """Return an event of a version that nobody knows, which every reader refuses. spec: ENV-2"""
    return {**event, "v": 9}


def add(group: Collecting) -> None:
    """Add the cases."""
    _cells_and_starts(group)
    _series(group)
    _votes(group)
    _derived(group)
    _losses(group)


def _cells_and_starts(group: Collecting) -> None:
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-refused-write", "FLD-2 FLD-2.1 ENV-2 EVT-TAGS-1.1 EVT-SUMMARY-1.1 EVT-PARAM-1.4", "a write in an event that is refused is no write, however late it is",
        feed(
            one.start(), two.start(), one.param("kept"), refused(one.param("greater seq")),
            refused(two.param("later time", ts=99000)), one.tags(x="1"), refused(one.tags(x="2", y="2")),
            one.summary(b=1), refused(two.summary(b=2, c=2)),
        ),
        run(params={"p": "kept"}, tags={"x": "1"}, summary={"b": 1}),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-refused-name", "EVT-TAGS-2 EVT-TAGS-2.1 FLD-2.5 ENV-2", "tags of an event that is refused neither name a run nor note anything",
        feed(
            who.start(name="first"), who.tags(**{"xtrack.note": "kept"}),
            refused(who.tags(**{"xtrack.name": "refused", "xtrack.note": "refused"})),
        ),
        run(name="first", note="kept"),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-refused-final", "EVT-RUN_END-1.2 ENV-2", "final metrics of an end that is refused don't count, however late it is",
        feed(
            one.start(), two.start(), one.end(ts=4000, final_metrics={"acc": 1}),
            refused(two.end(ts=9000, final_metrics={"acc": 2, "f1": 0.5})),
        ),
        run(final={"acc": 1}),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
    old, new = Worker("s1", at=0), Worker("s2", at=5000)
    group.folds(
        "fld-refused-start", "FLD-2.3 FLD-2.4 FLD-2.5 FLD-2.6 FLD-5.2 FLD-5.3 ENV-2",
        "a run_start that is refused gives no time, no name, no source and no size, although its seq is the lowest",
        feed(
            refused(old.start(ts=9000, name="refused", source={"git_commit": "c"}, env={"hostname": "h"}, world_size=8)),
            old.start(ts=1000, name="first"), old.param("s1"), old.end(), new.start(), new.param("s2"), new.end(),
        ),
        run(name="first", source=None, env=None, started=1000, params={"p": "s2"}, status="completed"),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
    worker, watcher = Worker("s1", wid="w1"), Worker("s2", wid="launcher")
    group.folds(
        "fld-refused-start-beside-an-observer", "FLD-2.7 FLD-6.5 FLD-4 ENV-2",
        "where the worker's run_start is refused, the observer's gives the name, and has the vote",
        feed(
            refused(worker.start(name="of the worker")), worker.metric(1),
            watcher.start(observer=True, name="of the launcher"),
        ),
        run(name="of the launcher", status="running"),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
    who = Worker("s", wid="w")
    group.folds(
        "fld-refused-lists", "FLD-11 ENV-2", "no line, no artifact, no checkpoint and no activity of events that are refused",
        feed(
            who.start(), who.says("training"), who.log("kept"), refused(who.log("refused")), refused(who.checkpoint(1)),
            refused(who.event("artifact", {"path": "m.pt"})), refused(who.says("evaluating")),
        ),
        run(logs=[{"p": {"msg": "kept"}}], artifacts=[], checkpoints=[], workers={"w": {"status": "training"}}),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-params-refused", "FLD-10 FLD-10.1 EVT-PARAM-1 ENV-2 EVT-PARAM-1.2", "names of another form than the table's make no parameter",
        feed(
            who.start(), who.param(1, key="a", nested_key=["b"]), refused(who.param(2, key="a.b")),
            who.param(3, key="a", nested_key="b"), who.param(4, key="a", nested_key=[1]), who.event("param", {"key": 7, "value": 5}),
        ),
        run(params={"a.b": 1}),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-params-one-empty-name", "FLD-10.1", "an empty part counts, before and behind its dot",
        feed(
            who.start(), who.param(1, key="a", nested_key=[""]), who.param(2, key="a."),
            who.param(3, key="", nested_key=["a"]), who.param(4, key=".a"), who.param(5, key=""),
        ),
        run(params={"a.": 2, ".a": 4, "": 5}),
        kind="boundary", kills="params-by-key-and-path empty-parts-dropped",
    )  # fmt: skip


def _series(group: Collecting) -> None:
    who = Worker("s")
    group.folds(
        "fld-refused-points", "FLD-3.2 FLD-3.3 FLD-3.4 FLD-3.7 ENV-2 EVT-METRIC-1.1 EVT-METRIC_BATCH-1.1", "a point of an event that is refused is none",
        feed(
            who.start(), who.metric(1, step=1), refused(who.metric(9, step=1)), refused(who.metric(-9, step=0)),
            refused(who.metric(5)), refused(who.event("metric_batch", {"metrics": {"k": 7}, "step": 2})),
        ),
        values(1), aggregate({"step": 1, "mean": 1, "least": 1, "greatest": 1}),
        run(series={"k": {"count": 1, "last": 1, "least": 1, "greatest": 1}}),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-series-nan-misspelt", "FLD-3.5 FLD-3.8 VAL-3.2", "nan and inf are no names of numbers: no points, and not counted",
        feed(
            who.start(), who.metric(1, step=1), who.metric("nan", step=1), who.metric("inf", step=2),
            who.metric("+Infinity", step=2),
        ),
        run(series={"k": {"count": 1, "last": 1, "least": 1, "greatest": 1}}),
        aggregate({"step": 1, "mean": 1, "least": 1, "greatest": 1, "nan": 0}),
        kind="invalid", kills="nan-by-any-name",
    )  # fmt: skip
    old, new = Worker("s1", at=1000), Worker("s2", at=5000)
    group.folds(
        "fld-refused-resume", "FLD-4.1 FLD-8 FLD-8.1 FLD-8.3 ENV-2 FLD-5.7",
        "a run_start that is refused takes no vote, hides nothing, and opens nothing again",
        feed(
            old.start(), old.metric(1, step=5), old.end("failed"),
            refused(new.start(resume={"sids": ["s1"], "rewind_to": 1})),
        ),
        points({"value": 1}, hidden=[]), run(status="failed", ended=1030),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
    old, new = Worker("s1", at=5000), Worker("s2", at=1000)
    group.folds(
        "fld-refused-resume-orders-nothing", "FLD-2.2 ENV-2", "and is no reason for its session to come later",
        feed(
            old.start(), old.param("old"), refused(new.start(resume={"sids": ["s1"]})), new.start(), new.param("new"),
        ),
        run(params={"p": "old"}),
        kind="invalid", kills=KILLS,
    )  # fmt: skip


def _votes(group: Collecting) -> None:
    who = Worker("s")
    group.folds(
        "fld-refused-end", "FLD-4.3 FLD-4.4 FLD-5 FLD-5.6 FLD-5.10 ENV-2 VAL-6",
        "a run_end that is refused is no vote, no end and no error, although its seq is the lowest",
        feed(
            who.start(), refused(who.end("failed", ts=9000, error={"type": "E"})), who.end("exploded", ts=8000),
            who.end("completed", ts=4000),
        ),
        run(status="completed", ended=4000, error=None),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-refused-end-and-loss", "FLD-6.3 FLD-7 ENV-2", "a run_end that is refused outweighs no loss, and makes nothing late",
        feed(who.start(), refused(who.end("completed")), who.metric(1)), who.lost("died", 9000, 3),
        run(status="killed", ended=9000, streams=[stream(late=0, has=[[1, 1], [3, 3]])]),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-refused-alone", "FLD-4 FLD-5.1 ENV-2", "of a session whose run_start and run_end are refused nobody votes: pending",
        feed(refused(who.start()), who.tags(x="1"), refused(who.end("failed"))),
        run(status="pending", started=None, ended=None),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
    group.folds(
        "fld-expected-refused", "FLD-5.8 ENV-2", "an event that is refused is not its first event",
        expect(), feed(refused(Worker("s").start())), run(status="pending", started=None),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
    who, note = Worker("s1"), Worker("s2")
    group.folds(
        "fld-vote-annotated-and-ended", "FLD-5.9 FLD-4", "a note's stream that has a run_end after all has a vote after all",
        feed(who.start(), who.end("completed"), note.tags(x="1"), note.end("failed")),
        run(status="failed", tags={"x": "1"}),
        kind="invalid", kills="no-vote-without-start",
    )  # fmt: skip


def _derived(group: Collecting) -> None:
    first, second = Worker(None), Worker(None, at=9000)
    group.folds(
        "fld-derived-refused-end", "FLD-4.2 ENV-2", "the earlier session's run_end is refused: it may still live",
        feed(first.start(), refused(first.end("failed")), second.start(), second.end("completed")),
        run(status="running"),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
    first, second = Worker(None), Worker(None, at=9000)
    group.folds(
        "fld-derived-refused-start", "FLD-4.5 STR-2.2 ENV-2", "a run_start that is refused begins no session, and takes no vote",
        feed(first.metric(1, seq=2), refused(second.start()), second.metric(2, seq=3)),
        run(status="running", started=None, streams=[stream("legacy-0", has=[[2, 3]])]),
        kind="invalid", kills=KILLS,
    )  # fmt: skip


def _losses(group: Collecting) -> None:
    who, nobody, other = Worker("s"), Worker("t"), Worker("s", wid="w")
    group.folds(
        "fld-lost-of-nobody", "FLD-6 FLD-6.1 FLD-4", "the loss of a stream that has no event is nobody's vote",
        feed(who.start()), nobody.lost("died", 9000, 1), other.lost("vanished", 9000, 1), run(status="running", ended=None),
        kind="invalid", kills="every-session-votes",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-lost-takes-no-seq", "FLD-6.2", "the seq behind the last one is still free",
        feed(who.start(), who.metric(1)), who.lost("died", 9000, 1),
        run(series={"k": {"count": 1}}, streams=[stream(has=[[1, 2]], gaps=[], last_seq=2, conflicts=0)]),
        kind="boundary", kills="losses-take-a-seq",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-lost-as-an-event", "FLD-6.2 ENV-5.6", "an event that looks like a loss is none: it is of a type that nobody knows",
        feed(
            who.start(), who.event("stream_lost", {"wid": "", "sid": "s", "at": 9000, "reason": "died", "after_seq": 2}),
        ),
        run(status="running", ended=None, streams=[stream(has=[[1, 2]], gaps=[])]),
        kind="invalid", kills="unknown-types-are-losses",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-lost-and-refused", "FLD-6.6 FLD-6.1 ENV-2", "an event that is refused is no sign of life",
        feed(who.start(), who.metric(1), refused(who.metric(2))), who.lost("vanished", 9000, 2),
        run(status="lost", ended=9000),
        kind="invalid", kills=KILLS,
    )  # fmt: skip
