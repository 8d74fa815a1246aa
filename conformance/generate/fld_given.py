"""The fold, fifth part: what a second run_start, an empty object and an event in between give (FLD-2.4, FLD-2.6, FLD-2.10)."""

from __future__ import annotations

from generate.collecting import Collecting, Worker, feed, run


def add(group: Collecting) -> None:
    """Add the cases."""
    _second_starts(group)
    _given(group)
    _ties(group)


def _second_starts(group: Collecting) -> None:
    old, new = Worker("s1", at=1000), Worker("s2", at=5000)
    group.folds(
        "fld-second-start-rewinds-nothing", "FLD-2.4 FLD-8.1", "a later run_start of a session hides nothing of another",
        feed(
            old.start(), old.metric(1, step=1), old.metric(2, step=9), old.end("failed"),
            new.start(), new.metric(3, step=2), new.start(resume={"sids": ["s1"], "rewind_to": 0}),
        ),
        run(status="failed", series={"k": {"count": 3, "greatest": 3}}),
        kind="boundary", kills="every-start-rewinds",
    )  # fmt: skip
    old, new = Worker("s1", at=1000), Worker("s2", at=5000)
    group.folds(
        "fld-second-start-keeps-the-first", "FLD-2.4 FLD-8.1", "nor does one that resumes nothing take back what the first hides",
        feed(
            old.start(), old.metric(1, step=1), old.metric(2, step=9),
            new.start(resume={"sids": ["s1"], "rewind_to": 5}), new.metric(3, step=6), new.start(),
        ),
        run(series={"k": {"count": 2, "greatest": 3}}),
        kind="boundary", kills="rewind-hides-nothing",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-second-start-writes", "FLD-2.4 FLD-2.10", "what a later run_start writes to cells is written: its tags, the experiment, the parent",
        feed(
            who.start(tags={"a": "first", "b": "first"}, name="first"), who.metric(1),
            who.start(run_id={"id": "a", "exp_id": "e", "parent_id": "p"}, tags={"b": "second"}, name="second"),
        ),
        run(name="first", tags={"a": "first", "b": "second"}, experiment="e", parent="p"),
        kills="second-start-writes-nothing",
    )  # fmt: skip


def _given(group: Collecting) -> None:
    one, two = Worker("s1", at=1000), Worker("s2", at=5000)
    group.folds(
        "fld-source-empty", "FLD-2.6 JSN-6.7", "an empty object is given: nothing is left of the one before",
        feed(one.start(source={"git_commit": "c1"}, env={"hostname": "h"}), two.start(source={})),
        run(source={"one_of": [None, {"git_commit": None}]}, env={"hostname": "h"}),
        kind="boundary", kills="empty-objects-are-absent",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-experiment-of-any-event", "FLD-2.10 FLD-2", "any event that names the experiment writes it",
        feed(
            who.start(run_id={"id": "a", "exp_id": "first"}), who.metric(1, run_id={"id": "a", "exp_id": "second"}),
            who.log(run_id={"id": "a", "parent_id": "p"}),
        ),
        run(experiment="second", parent="p"),
        kills="experiment-of-run-starts-alone",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-experiment-of-unknown", "FLD-2.10 ENV-5.6", "an event of unknown type writes to no cell",
        feed(who.start(run_id={"id": "a", "exp_id": "e"}), who.event("later", {"run_id": {"id": "a", "exp_id": "x"}})),
        run(experiment="e"),
        kind="invalid", kills="experiment-of-unknown-types",
    )  # fmt: skip


def _ties(group: Collecting) -> None:
    one, two = Worker("s2", wid="w1", at=5000), Worker("s1", wid="w2", at=1000)
    group.folds(
        "fld-error-tie", "FLD-5.10 FLD-2.8", "of two that failed at the same time, that of the lesser worker id, whoever began first",
        feed(
            one.start(), two.start(), one.end("failed", ts=9000, error={"type": "of w1"}),
            two.end("failed", ts=9000, error={"type": "of w2"}),
        ),
        run(error={"type": "of w1"}),
        kind="boundary", kills="error-tie-by-start",
    )  # fmt: skip
    one, two = Worker("s1", at=5000), Worker("s2", at=1000)
    group.folds(
        "fld-error-tie-of-sessions", "FLD-5.10", "of one worker, that of the lesser session id",
        feed(
            one.start(), two.start(), one.end("failed", ts=9000, error={"type": "of s1"}),
            two.end("failed", ts=9000, error={"type": "of s2"}),
        ),
        run(error={"type": "of s1"}),
        kind="boundary", kills="error-tie-by-start",
    )  # fmt: skip
