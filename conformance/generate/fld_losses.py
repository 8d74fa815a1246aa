"""The fold, last part: losses, observers, derived sessions, late events, expected and deleted runs (FLD-4 to FLD-9)."""

from __future__ import annotations

from generate.collecting import (
    Collecting,
    Worker,
    delete,
    expect,
    feed,
    points,
    run,
    stream,
    unknown,
)


def add(group: Collecting) -> None:
    """Add the cases."""
    _losses(group)
    _observers(group)
    _derived(group)
    _late(group)
    _known(group)


def _losses(group: Collecting) -> None:
    for reason, status in (("died", "killed"), ("vanished", "lost")):
        who = Worker("s")
        group.folds(
            f"fld-lost-{reason}", "FLD-6 FLD-6.1 FLD-6.2 FLD-4.3", f"{reason} is a vote for {status}, and takes no seq",
            feed(who.start(), who.metric(1)), who.lost(reason, 9000, 2),
            run(status=status, ended=9000, streams=[stream(has=[[1, 2]], gaps=[], last_seq=2, late=0)]),
            kills="losses-ignored",
        )  # fmt: skip
        who = Worker("s")
        group.folds(
            f"fld-lost-{reason}-then-end", "FLD-6.3", "a run_end outweighs the loss, whenever it comes",
            feed(who.start(), who.end("completed", ts=4000)), who.lost(reason, 3000, 2),
            run(status="completed", ended=4000),
            kills="losses-outweigh-ends",
        )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-lost-died-outweighs", "FLD-6.4", "died outweighs vanished, earlier or later",
        feed(who.start()), who.lost("vanished", 1000, 1), who.lost("died", 5000, 1), who.lost("vanished", 9000, 1),
        run(status="killed", ended=5000),
        kills="last-loss-counts vanished-outweighs",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-lost-died-earliest", "FLD-6.4", "of several that saw it die the earliest counts",
        feed(who.start()), who.lost("died", 5000, 1), who.lost("died", 4000, 1), who.lost("died", 6000, 1),
        run(ended=4000),
        kind="boundary", kills="last-loss-counts latest-loss-counts",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-lost-vanished-largest", "FLD-6.4 FLD-6.6", "of several that missed it the one that names the largest seq",
        feed(who.start(), *(who.metric(n) for n in range(9))), who.lost("vanished", 9000, 3),
        who.lost("vanished", 8000, 10), who.lost("vanished", 7000, 9),
        run(status="lost", ended=8000),
        kills="last-loss-counts latest-loss-counts earliest-loss-counts",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-lost-and-found", "FLD-6.6 FLD-5.7", "an event above the seq that was named: it lives",
        feed(who.start(), who.metric(1), who.metric(2)), who.lost("vanished", 9000, 2),
        run(status="running", ended=None),
        kills="vanished-is-final",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-lost-at-its-seq", "FLD-6.6 FLD-6.1", "the event that it names proves nothing",
        feed(who.start(), who.metric(1), who.metric(2)), who.lost("vanished", 9000, 3),
        run(status="lost"),
        kind="boundary", kills="vanished-needs-a-later-seq losses-ignored",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-lost-late-below", "FLD-6.6", "nor does a late event from a gap below it, whatever its time",
        feed(who.start(), who.metric(1, seq=5), who.metric(2, seq=3, ts=99000)), who.lost("vanished", 9000, 5),
        run(status="lost"),
        kind="boundary", kills="found-by-time",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-lost-died-is-final", "FLD-6.6", "who was seen to die and sent more before has died",
        feed(who.start(), who.metric(1), who.metric(2)), who.lost("died", 9000, 2),
        run(status="killed"),
        kind="boundary", kills="died-and-found losses-ignored",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s1", wid="w2")
    group.folds(
        "fld-lost-its-stream", "FLD-6 STR-1", "a loss is that of the stream it names, worker and all",
        feed(one.start(), one.end("completed"), two.start()), one.lost("died", 9000, 2),
        run(status="running"),
        kind="boundary", kills="stream-without-worker",
    )  # fmt: skip
    old, new = Worker("s1"), Worker("s2", at=2000)
    group.folds(
        "fld-lost-superseded", "FLD-4.1 FLD-6", "a loss of a session that was resumed doesn't count",
        feed(old.start(), new.start(resume={"sids": ["s1"]}), new.end("completed")), old.lost("died", 99000, 1),
        run(status="completed", ended=2020),
        kind="boundary", kills="resume-leaves-the-vote",
    )  # fmt: skip


def _observers(group: Collecting) -> None:
    worker, watcher = Worker("s1", wid="w1"), Worker("s2", wid="launcher")
    group.folds(
        "fld-observer-silent", "FLD-6.5", "the worker has completed; the observer says nothing: completed",
        feed(worker.start(), worker.end("completed"), watcher.start(observer=True)),
        run(status="completed"),
        kills="silent-observers-vote",
    )  # fmt: skip
    watcher = Worker("s2", wid="launcher")
    group.folds(
        "fld-observer-alone", "FLD-6.5 FLD-4", "an observer alone: running, until a worker is heard of",
        feed(watcher.start(observer=True)), run(status="running"),
        kind="boundary", kills="observers-never-vote",
    )  # fmt: skip
    worker, watcher = Worker("s1", wid="w1"), Worker("s2", wid="launcher")
    group.folds(
        "fld-observer-ended", "FLD-6.5 FLD-4.3", "an observer that ended has a vote beside the worker",
        feed(worker.start(), worker.end("completed"), watcher.start(observer=True), watcher.end("killed")),
        run(status="killed"),
        kills="observers-never-vote",
    )  # fmt: skip
    worker, watcher = Worker("s1", wid="w1"), Worker("s2", wid="launcher")
    group.folds(
        "fld-observer-lost", "FLD-6.5", "the loss of an observer is no vote while a worker has one",
        feed(worker.start(), worker.end("completed"), watcher.start(observer=True)), watcher.lost("died", 9000, 1),
        run(status="completed", ended=1020),
        kind="boundary", kills="silent-observers-vote",
    )  # fmt: skip
    one, two = Worker("s1", wid="l1", at=1000), Worker("s2", wid="l2", at=2000)
    group.folds(
        "fld-observers-alone", "FLD-2.7 FLD-2.5 FLD-2.6", "where there are only observers the last of them gives the name",
        feed(
            one.start(observer=True, name="first", source={"git_commit": "c1"}), two.start(observer=True, name="second"),
        ),
        run(name="second", source={"git_commit": "c1"}),
        kind="boundary", kills="observers-give-nothing first-given-wins",
    )  # fmt: skip
    child, watcher = Worker("s1", wid="w1"), Worker("s2", wid="launcher")
    group.folds(
        "fld-observer-and-child", "FLD-6.5 FLD-4", "a child has no vote, so that the observer keeps its own",
        feed(child.start(sub=True), child.end("completed"), watcher.start(observer=True)),
        run(status="running"),
        kind="boundary", kills="observers-never-vote",
    )  # fmt: skip


def _derived(group: Collecting) -> None:
    first, second = Worker(None), Worker(None, at=9000)
    group.folds(
        "fld-derived-superseded", "FLD-4.2", "a worker of before that ended, and began the run again: the later one counts",
        feed(first.start(), first.end("failed"), second.start(), second.end("completed")),
        run(status="completed", ended=9020),
        kills="derived-never-superseded",
    )  # fmt: skip
    first, second = Worker(None), Worker(None, at=9000)
    group.folds(
        "fld-derived-lost", "FLD-4.2 FLD-6", "the earlier session has a loss: superseded",
        feed(first.start(), first.metric(1), second.start(), second.end("completed")), first.lost("died", 5000, 2),
        run(status="completed"),
        kills="derived-never-superseded",
    )  # fmt: skip
    first, second = Worker(None), Worker(None, at=9000)
    group.folds(
        "fld-derived-open", "FLD-4.2", "the earlier session has neither end nor loss: it may still live",
        feed(first.start(), first.metric(1), second.start(), second.end("completed")),
        run(status="running"),
        kind="boundary", kills="derived-superseded-at-once",
    )  # fmt: skip
    first, second = Worker(None), Worker(None, at=9000)
    group.folds(
        "fld-derived-found", "FLD-4.2 FLD-6.6", "a loss without effect supersedes nobody",
        feed(first.start(), first.metric(1), first.metric(2), second.start(), second.end("completed")),
        first.lost("vanished", 5000, 2),
        run(status="running"),
        kind="boundary", kills="vanished-is-final losses-without-effect-supersede",
    )  # fmt: skip
    first, second = Worker(None, wid="w1"), Worker(None, wid="w2", at=9000)
    group.folds(
        "fld-derived-other-worker", "FLD-4.2", "only of the same worker",
        feed(first.start(), first.end("failed"), second.start(), second.end("completed")),
        run(status="failed"),
        kind="boundary", kills="derived-superseded-by-any-worker",
    )  # fmt: skip
    first, second = Worker(None), Worker("s", at=9000)
    group.folds(
        "fld-derived-and-sid", "FLD-4.2", "a later session with an id of its own takes no vote",
        feed(first.start(), first.end("failed"), second.start(), second.end("completed")),
        run(status="failed"),
        kind="boundary", kills="a-later-session-takes-the-vote",
    )  # fmt: skip
    first, second = Worker(None, at=9000), Worker(None, at=1000)
    group.folds(
        "fld-derived-earlier", "FLD-4.2 FLD-2.2", "an earlier session takes no vote of a later one, whichever came first",
        feed(first.start(), first.end("failed"), second.start(), second.end("completed")),
        run(status="failed"),
        kind="boundary", kills="derived-superseded-by-any-session",
    )  # fmt: skip
    first = Worker(None)
    group.folds(
        "fld-derived-no-start", "FLD-4 FLD-5", "a derived session has a vote without run_start or run_end",
        feed(first.metric(1)), run(status="running", started=None),
        kind="boundary", kills="no-vote-without-start",
    )  # fmt: skip
    first, second = Worker(None), Worker(None, at=5000)
    group.folds(
        "fld-derived-before-start", "FLD-4.5", "what came before a run_start is no session of its own",
        feed(first.metric(1, seq=2), second.start(), second.end("completed")),
        run(status="completed"),
        kills="legacy-0-votes",
    )  # fmt: skip
    first, second = Worker(None, wid="w1"), Worker(None, wid="w2", at=5000)
    group.folds(
        "fld-derived-before-start-other", "FLD-4.5", "of another worker it is one",
        feed(first.metric(1, seq=2), second.start(), second.end("completed")),
        run(status="running"),
        kind="boundary", kills="legacy-0-never-votes",
    )  # fmt: skip
    first, second = Worker(None), Worker(None, at=5000)
    group.folds(
        "fld-derived-before-start-ended", "FLD-4.5 FLD-4.2", "with a run_end it is one, until a later one takes its vote",
        feed(first.end("failed", seq=7, ts=6000), second.start(), second.end("completed")),
        run(status="failed", started=5010),
        kind="boundary", kills="legacy-0-never-votes",
    )  # fmt: skip


def _late(group: Collecting) -> None:
    who = Worker("s")
    group.folds(
        "fld-late", "FLD-7", "what comes above the run_end is folded, and marked",
        feed(who.start(), who.metric(1), who.end("completed"), who.metric(2), who.param("late")),
        run(status="completed", series={"k": {"count": 2, "last": 2}}, params={"p": "late"}, streams=[stream(late=2, has=[[1, 5]])]),
        kills="late-events-dropped late-not-marked",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-late-not", "FLD-7", "an event below the run_end is not late, though it comes after it",
        feed(who.start(), who.end("completed", seq=9), who.metric(1, seq=5, ts=99000)),
        run(streams=[stream(late=0)], series={"k": {"count": 1}}),
        kind="boundary", kills="late-events-dropped",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-late-of-its-stream", "FLD-7 STR-1.3", "the run_end of another stream makes nothing late",
        feed(one.start(), one.end("completed"), two.start(), *(two.metric(n) for n in range(5))),
        run(streams=[stream("s1", "w1", late=0), stream("s2", "w2", late=0)]),
        kind="boundary", kills="stream-without-worker",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-late-second-end", "FLD-7 FLD-4.4", "a second run_end is late itself",
        feed(who.start(), who.end("completed"), who.end("failed"), who.log()),
        run(status="completed", streams=[stream(late=2)]),
        kind="boundary", kills="late-not-marked last-run-end-counts",
    )  # fmt: skip


def _known(group: Collecting) -> None:
    group.folds(
        "fld-expected", "FLD-5.8 FLD-5.1", "a run that is expected is known, and pending",
        expect(), run(status="pending", streams=[], series={}, started=None, ended=None),
        kills="expected-runs-are-running expectations-ignored",
    )  # fmt: skip
    who = Worker("s")
    group.tells(
        "fld-expected-begun", "FLD-5.8", "until its first event",
        expect(), run(status="pending"), feed(who.start()), run(status="running"), expect(), run(status="running"),
        feed(who.end("completed")), run(status="completed"), expect(), run(status="completed"),
        kind="boundary", kills="expectations-begin-anew",
    )  # fmt: skip
    group.tells(
        "fld-unknown", "FLD-9.2", "a run that nobody has named is unknown",
        feed(Worker(run="b").start()), unknown(of="a"), unknown("points", of="a", key="k"),
        unknown("aggregate", of="a", key="k"),
        kind="invalid", kills="unknown-runs-are-pending",
    )  # fmt: skip
    who = Worker("s")
    group.tells(
        "fld-deleted", "FLD-9 FLD-9.2", "a deleted run is as unknown",
        feed(who.start(), who.metric(1)), delete(), unknown(), unknown("points", key="k"), unknown("aggregate", key="k"),
        kind="invalid", kills="deletion-does-nothing",
    )  # fmt: skip
    who = Worker("s")
    group.tells(
        "fld-deleted-later-events", "FLD-9 FLD-9.1", "what comes later of a deleted run is dropped: new, known, and of a new session",
        feed(who.start(), who.metric(1)), delete(), feed(who.metric(2)), unknown(),
        feed(who.start(seq=1), who.metric(1, seq=2)), unknown(), feed(Worker("t").start(), Worker(None).start()), unknown(),
        kind="invalid", kills="deleted-runs-come-back deletion-does-nothing",
    )  # fmt: skip
    one, two = Worker("s", run="a"), Worker("s", run="b")
    group.tells(
        "fld-deleted-alone", "FLD-9.1", "the runs beside it live on, in the same frames as well",
        feed(one.start(), two.start()), delete("a"), feed(one.metric(1), two.metric(2), one.end(), two.end()),
        unknown(of="a"), run("b", status="completed", series={"k": {"count": 1}}),
        points({"value": 2}, of="b"),
        kills="deleted-runs-come-back deletion-takes-all",
    )  # fmt: skip
    who = Worker("s")
    group.tells(
        "fld-deleted-lost", "FLD-9.1 FLD-9.2", "a loss that is reported later doesn't make it known again",
        feed(who.start()), delete(), who.lost("died", 9000, 1), unknown(),
        kind="boundary", kills="losses-bring-runs-back",
    )  # fmt: skip
