"""The fold, third part: votes, statuses, sizes, times, errors (FLD-4, FLD-5)."""

from __future__ import annotations

from itertools import pairwise

from generate.collecting import (
    Collecting,
    Worker,
    feed,
    run,
)
from generate.dsl import Json


def add(group: Collecting) -> None:
    """Add the cases."""
    _votes(group)
    _statuses(group)
    _sizes(group)
    _times(group)
    _errors(group)


def _votes(group: Collecting) -> None:
    who = Worker("s")
    group.folds(
        "fld-vote-of-start", "FLD-4 FLD-4.3 FLD-5.4", "a run_start and nothing more: running",
        feed(who.start()), run(status="running", ended=None),
        kills="no-vote-before-the-end",
    )  # fmt: skip
    group.folds(
        "fld-vote-of-end", "FLD-4 FLD-4.3 STR-6.3", "a run_end alone votes, its run_start lost on the way",
        feed(Worker("s").end("failed", seq=5)), run(status="failed", started=None),
        kind="boundary", kills="no-vote-without-start",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-vote-none", "FLD-4 FLD-5.1 FLD-5.9", "a stream that only annotates has no vote: pending",
        feed(who.tags(x="1"), who.param(1)), run(status="pending", started=None, ended=None, tags={"x": "1"}, params={"p": 1}),
        kind="boundary", kills="every-session-votes",
    )  # fmt: skip
    who, note = Worker("s1"), Worker("s2")
    group.folds(
        "fld-vote-annotated", "FLD-5.9 FLD-4", "a note to a run that is over changes nothing of its status",
        feed(who.start(), who.end("completed"), note.tags(ts=9000, **{"xtrack.note": "n"})),
        run(status="completed", note="n", ended=1020),
        kills="every-session-votes notes-ignored",
    )  # fmt: skip
    parent, child = Worker("s1"), Worker("s2")
    group.folds(
        "fld-vote-sub", "FLD-4 EVT-RUN_START-7", "a forked child has no vote, neither by its end nor by its silence",
        feed(parent.start(), child.start(sub=True), parent.end("completed"), child.end("failed", error={"type": "E"})),
        run(status="completed", error=None),
        kills="sub-votes",
    )  # fmt: skip
    child = Worker("s2")
    group.folds(
        "fld-vote-sub-alone", "FLD-4 FLD-5.1", "of a child alone nobody votes: pending",
        feed(child.start(sub=True), child.metric(1)), run(status="pending", series={"k": {"count": 1}}),
        kind="boundary", kills="sub-votes",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-vote-sub-false", "FLD-4 EVT-RUN_START-7", "sub false and null are no sub",
        feed(who.start(sub=False, observer=None)), run(status="running"),
        kind="boundary", kills="no-vote-before-the-end",
    )  # fmt: skip
    old, new = Worker("s1"), Worker("s2", at=2000)
    group.folds(
        "fld-vote-superseded", "FLD-4 FLD-4.1 FLD-8", "who resumes a session takes its vote",
        feed(old.start(), old.end("failed", error={"type": "E"}), new.start(resume={"sids": ["s1"]})),
        run(status="running", ended=None, error=None),
        kills="resume-leaves-the-vote",
    )  # fmt: skip
    old, new = Worker("s1"), Worker("s2", at=2000)
    group.folds(
        "fld-vote-superseded-ended", "FLD-4.1 FLD-8 FLD-5.7", "failed, resumed, completed",
        feed(old.start(), old.end("failed"), new.start(resume={"sids": ["s1"]}), new.end("completed")),
        run(status="completed", ended=2020),
        kills="resume-leaves-the-vote",
    )  # fmt: skip
    one, two, new = Worker("s1", wid="w1"), Worker("s2", wid="w2"), Worker("s3", wid="w3", at=2000)
    group.folds(
        "fld-vote-superseded-all", "FLD-4.1 FLD-8", "every session in sids loses its vote, of whatever worker",
        feed(one.start(), one.end("failed"), two.start(), new.start(resume={"sids": ["s1", "s2"]}), new.end("completed")),
        run(status="completed"),
        kills="resume-leaves-the-vote resume-takes-the-first-alone resume-of-the-same-worker-alone",
    )  # fmt: skip
    old, new = Worker("s1"), Worker("s2", at=2000)
    group.folds(
        "fld-vote-not-superseded", "FLD-4.1", "a later session that resumes nobody leaves the earlier its vote",
        feed(old.start(), old.end("failed"), new.start(), new.end("completed")),
        run(status="failed"),
        kind="boundary", kills="a-later-session-takes-the-vote",
    )  # fmt: skip
    one, two, three = Worker("s1"), Worker("s2", at=2000), Worker("s3", at=3000)
    group.folds(
        "fld-vote-superseded-by-superseded", "FLD-4.1 FLD-5.7 FLD-8", "who was superseded itself has still taken the vote it took",
        feed(
            one.start(), one.end("failed"), two.start(resume={"sids": ["s1"]}), two.end("killed"),
            three.start(resume={"sids": ["s2"]}), three.end("completed"),
        ),
        run(status="completed"),
        kind="boundary", kills="resume-leaves-the-vote superseded-supersede-nobody",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-vote-first-end", "FLD-4.4", "of two run_ends the one with the lower seq counts",
        feed(who.start(), who.end("completed", ts=9000), who.end("failed", seq=3, ts=5, error={"type": "E"})),
        run(status="completed", ended=9000, error=None),
        kills="last-run-end-counts first-run-end-by-time",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-vote-status", "EVT-STATUS-2 FLD-4.3", "what a status says of completed or failed is no vote",
        feed(who.start(), who.says("failed"), who.says("completed")), run(status="running"),
        kills="status-votes",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-vote-status-after-end", "EVT-STATUS-2 FLD-4.3", "nor is a status that comes after the end",
        feed(who.start(), who.end("completed"), who.says("running")), run(status="completed"),
        kind="boundary", kills="status-votes",
    )  # fmt: skip


def _statuses(group: Collecting) -> None:
    def workers(*statuses: str) -> list[Json]:
        told: list[Json] = []
        for number, status in enumerate(statuses, 1):
            who = Worker(f"s{number}", wid=f"w{number}")
            told += [who.start(), *([] if status == "running" else [who.end(status)])]
        return told

    order = ["failed", "killed", "running", "completed"]
    kills = {
        ("failed", "killed"): "killed-before-failed",
        ("killed", "running"): "running-before-killed",
        ("running", "completed"): "completed-before-running",
    }
    for first, second in pairwise(order):
        group.folds(
            f"fld-status-{first}-{second}", "FLD-5", f"{first} comes before {second}",
            feed(*workers(second, first, second)), run(status=first),
            kills=kills[first, second],
        )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-status-killed-lost", "FLD-5 FLD-6 FLD-6.1", "killed comes before lost",
        feed(one.start(), two.start()), one.lost("vanished", 9000, 1), two.lost("died", 8000, 1), run(status="killed"),
        kills="lost-before-killed",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-status-lost-running", "FLD-5 FLD-6.1", "lost comes before running",
        feed(one.start(), two.start()), one.lost("vanished", 9000, 1), run(status="lost", ended=9000),
        kills="running-before-killed losses-ignored running-before-lost",
    )  # fmt: skip
    group.folds(
        "fld-status-completed", "FLD-5", "all have completed",
        feed(*workers("completed", "completed")), run(status="completed"), kills="completed-needs-a-size",
    )  # fmt: skip
    who = Worker("s", at=0)
    group.folds(
        "fld-status-silence", "FLD-5.4", "a run that has said nothing since 1970 is running",
        feed(who.start(ts=1)), run(status="running", ended=None),
        kind="boundary", kills="silence-is-a-loss",
    )  # fmt: skip
    who = Worker("s")
    again = Worker("t", at=9000)
    group.tells(
        "fld-status-changes", "FLD-5.7 FLD-6.3 FLD-8", "each status may follow each",
        feed(who.tags(x="1", seq=2)), run(status="pending"),
        feed(who.start(seq=1)), run(status="running"),
        who.lost("vanished", 5000, 2), run(status="lost", ended=5000),
        feed(who.metric(1, seq=3)), run(status="running", ended=None),
        who.lost("died", 6000, 3), run(status="killed", ended=6000),
        feed(who.end("failed", seq=4)), run(status="failed", ended=1040),
        feed(again.start(resume={"sids": ["s"]})), run(status="running", ended=None),
        feed(again.end("completed")), run(status="completed", ended=9020),
        kills="losses-ignored",
    )  # fmt: skip


def _sizes(group: Collecting) -> None:
    def ended(number: int, **body: object) -> list[Json]:
        who = Worker(f"s{number}", wid=f"w{number}")
        return [who.start(**body), who.end("completed")]

    group.folds(
        "fld-size", "FLD-5.2", "two of three have completed, the third has not begun: running",
        feed(*ended(1, world_size=3), *ended(2)), run(status="running", ended=None),
        kills="world-size-ignored",
    )  # fmt: skip
    group.folds(
        "fld-size-reached", "FLD-5.2", "as many workers as the run needs",
        feed(*ended(1, world_size=2), *ended(2)), run(status="completed"),
        kind="boundary", kills="world-size-one-more",
    )  # fmt: skip
    group.folds(
        "fld-size-exceeded", "FLD-5.2", "more workers than it needs",
        feed(*ended(1, world_size=1), *ended(2)), run(status="completed"),
        kind="boundary", kills="world-size-exactly",
    )  # fmt: skip
    one, two = Worker("s1", wid="w"), Worker("s2", wid="w", at=2000)
    group.folds(
        "fld-size-different-workers", "FLD-5.2", "two sessions of one worker are one worker",
        feed(one.start(world_size=2), one.end("completed"), two.start(world_size=2), two.end("completed")),
        run(status="running"),
        kind="boundary", kills="world-size-counts-sessions world-size-ignored",
    )  # fmt: skip
    watcher = Worker("s9", wid="launcher")
    group.folds(
        "fld-size-observers", "FLD-5.2", "an observer is none of the workers",
        feed(*ended(1, world_size=2), watcher.start(observer=True), watcher.end("completed")), run(status="running"),
        kind="boundary", kills="world-size-counts-observers world-size-ignored",
    )  # fmt: skip
    group.folds(
        "fld-size-failed", "FLD-5.2", "it stands in the way of completed alone",
        feed(*ended(1, world_size=3), Worker("s2", wid="w2").start(), Worker("s2", wid="w2").end("failed", seq=2)),
        run(status="failed"),
        kind="boundary", kills="world-size-before-failure",
    )  # fmt: skip
    group.folds(
        "fld-size-greatest", "FLD-5.3", "of several sizes the greatest counts",
        feed(*ended(1, world_size=3), *ended(2, world_size=2)), run(status="running"),
        kills="world-size-ignored world-size-of-the-last",
    )  # fmt: skip
    old, new = Worker("s1", wid="w1"), Worker("s2", wid="w1", at=2000)
    group.folds(
        "fld-size-of-superseded", "FLD-5.3", "a launch that was begun again with fewer workers",
        feed(old.start(world_size=8), old.end("killed"), new.start(world_size=1, resume={"sids": ["s1"]}), new.end("completed")),
        run(status="completed"),
        kills="world-size-of-superseded",
    )  # fmt: skip
    old, new = Worker("s1", wid="w1"), Worker("s2", wid="w1", at=2000)
    group.folds(
        "fld-size-of-superseded-alone", "FLD-5.3", "nobody names a size any more: one worker is enough",
        feed(old.start(world_size=8), old.end("killed"), new.start(resume={"sids": ["s1"]}), new.end("completed")),
        run(status="completed"),
        kind="boundary", kills="world-size-of-superseded",
    )  # fmt: skip
    group.folds(
        "fld-size-zero", "EVT-RUN_START-7.3 FLD-5.2", "0, and less, is no size",
        feed(*ended(1, world_size=0), *ended(2, world_size=-3)), run(status="completed"),
        kind="boundary", kills="completed-needs-a-size",
    )  # fmt: skip
    child = Worker("s3", wid="w3")
    group.folds(
        "fld-size-of-children", "FLD-5.2 FLD-4", "a forked child has no vote, and doesn't fill a place",
        feed(*ended(1, world_size=2), child.start(sub=True), child.end("completed")), run(status="running"),
        kind="boundary", kills="world-size-ignored sub-votes",
    )  # fmt: skip


def _times(group: Collecting) -> None:
    one, two = Worker("s1", wid="w1", at=3000), Worker("s2", wid="w2", at=2000)
    group.folds(
        "fld-times", "FLD-5.5 FLD-5.6", "from the first start to the last end",
        feed(one.start(), two.start(), one.end(ts=4000), two.end(ts=5000)),
        run(started=2010, ended=5000),
        kills="start-of-the-first-that-came",
    )  # fmt: skip
    parent, child = Worker("s1", at=3000), Worker("s2", at=1000)
    group.folds(
        "fld-times-of-children", "FLD-5.5 FLD-5.6", "the times of a child don't count",
        feed(parent.start(), child.start(sub=True), parent.end(ts=4000), child.end(ts=9000)),
        run(started=3010, ended=4000),
        kind="boundary", kills="start-of-children sub-votes",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-times-while-running", "FLD-5.6", "one has ended, another runs: the run has no end",
        feed(one.start(), two.start(), one.end(ts=4000)), run(status="running", ended=None),
        kills="end-while-running",
    )  # fmt: skip
    old, new = Worker("s1", at=1000), Worker("s2", at=2000)
    group.folds(
        "fld-times-superseded", "FLD-5.5 FLD-5.6", "the start of a superseded session counts, its end doesn't",
        feed(old.start(), old.end("failed", ts=99000), new.start(resume={"sids": ["s1"]}), new.end(ts=3000)),
        run(started=1010, ended=3000),
        kind="boundary", kills="end-of-superseded start-of-those-that-vote",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-times-of-losses", "FLD-5.6", "a loss ends a run when it was seen",
        feed(one.start(), two.start(), one.end("failed", ts=4000)), two.lost("died", 7000, 1),
        run(status="failed", ended=7000),
        kind="boundary", kills="losses-have-no-time losses-ignored",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-times-end-before-start", "FLD-5.6 ENV-3.2", "a clock that was set back: the end is before the start",
        feed(who.start(ts=9000), who.end(ts=-5)), run(status="completed", started=9000, ended=-5),
        kind="boundary", kills="end-not-before-start",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-times-of-events", "FLD-5.5", "events before the run_start, by time and seq, don't move the start",
        feed(who.start(seq=2, ts=5000), who.metric(1, seq=1, ts=10)), run(started=5000),
        kind="boundary", kills="start-of-the-first-event",
    )  # fmt: skip


def _errors(group: Collecting) -> None:
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-error", "FLD-5.10", "of two that failed the one that ended first",
        feed(
            one.start(), two.start(), one.end("failed", ts=9000, error={"type": "later"}),
            two.end("failed", ts=8000, error={"type": "first"}),
        ),
        run(error={"type": "first"}),
        kills="last-error",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-error-of-the-status", "FLD-5.10", "the error of a killed one doesn't explain that the run failed",
        feed(
            one.start(), two.start(), one.end("killed", ts=7000, error={"type": "killed"}),
            two.end("failed", ts=8000, error={"type": "failed"}),
        ),
        run(status="failed", error={"type": "failed"}),
        kills="any-error",
    )  # fmt: skip
    worker, watcher = Worker("s1", wid="w1"), Worker("s2", wid="launcher")
    group.folds(
        "fld-error-of-observers", "FLD-5.10", "what an observer saw comes after what a worker says",
        feed(
            worker.start(), watcher.start(observer=True), watcher.end("failed", ts=7000, error={"type": "exit status 1"}),
            worker.end("failed", ts=8000, error={"type": "E"}),
        ),
        run(error={"type": "E"}),
        kills="errors-of-observers-first",
    )  # fmt: skip
    worker, watcher = Worker("s1", wid="w1"), Worker("s2", wid="launcher")
    group.folds(
        "fld-error-of-observers-alone", "FLD-5.10 FLD-6.5", "a worker that was seen to die, and who launched it knows why",
        feed(worker.start(), watcher.start(observer=True), watcher.end("failed", error={"type": "oom"})),
        worker.lost("died", 9000, 1),
        run(status="failed", error={"type": "oom"}),
        kind="boundary", kills="observers-never-vote",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-error-none", "FLD-5.10 EVT-RUN_END-3.1", "failed without a word: no error",
        feed(who.start(), who.end("failed")), run(status="failed", error=None),
        kind="boundary", kills="errors-made-up",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-error-completed", "FLD-5.10 EVT-RUN_END-3.2", "an error beside completed is the error of the run, too",
        feed(who.start(), who.end("completed", error={"message": "m"})), run(status="completed", error={"message": "m"}),
        kind="boundary", kills="errors-of-failures-alone errors-lost",
    )  # fmt: skip
