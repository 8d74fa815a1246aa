"""The fold, second part: series, aggregates, resumed runs, parameters (FLD-3, FLD-8, FLD-10)."""

from __future__ import annotations

from typing import Any

from generate.collecting import (
    INFINITE,
    NAN,
    Collecting,
    Worker,
    aggregate,
    feed,
    points,
    run,
    stream,
    values,
)
from generate.dsl import Json, event


def add(group: Collecting) -> None:
    """Add the cases."""
    _series(group)
    _aggregates(group)
    _rewinds(group)
    _parameters(group)


def _series(group: Collecting) -> None:
    who = Worker("s")
    group.folds(
        "fld-series-by-step", "FLD-3 FLD-3.1 FLD-2.8", "by step, and those without one at the end",
        feed(
            who.start(), who.metric(0), who.metric(1, step=7),
            who.metric(2, step=-1), who.metric(3), who.metric(4, step=0), who.metric(5, step=10),
        ),
        values(2, 4, 1, 5, 0, 3),
        kills="points-by-arrival null-steps-first steps-as-texts",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-series-same-step", "FLD-3 FLD-3.2 EVT-METRIC-1.1", "points with the same step are all kept, by seq",
        feed(who.start(), who.metric(1, step=1, ts=900), who.metric(2, step=1, ts=800), who.metric(3, step=1, ts=700)),
        values(1, 2, 3), run(series={"k": {"count": 3, "last": 3}}),
        kind="boundary", kills="one-point-a-step points-by-time",
    )  # fmt: skip
    old, new = Worker("s2", at=1000), Worker("s1", at=5000)
    group.folds(
        "fld-series-sessions", "FLD-3 FLD-2.2", "at the same step session order comes before seq",
        feed(old.start(), new.start(), new.metric(2, step=1, seq=2), old.metric(1, step=1, seq=90), new.metric(4), old.metric(3)),
        values(1, 2, 3, 4),
        kills="points-by-seq points-by-session-id",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-series-last", "FLD-3.3 FLD-3.4", "the last one written, which needn't be that of the highest step",
        feed(who.start(), who.metric(1, step=100), who.metric(2, step=5)),
        run(series={"k": {"count": 2, "last": 2, "least": 1, "greatest": 2}}),
        kills="last-by-step",
    )  # fmt: skip
    old, new = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-series-last-of-workers", "FLD-3.4 FLD-2.1", "of several workers the latest time",
        feed(old.start(), new.start(), old.metric(1, seq=2, ts=9000), new.metric(2, seq=9, ts=8000)),
        run(series={"k": {"count": 2, "last": 1}}),
        kills="last-by-seq",
    )  # fmt: skip
    old, new = Worker("s1", at=1000), Worker("s2", at=5000)
    group.folds(
        "fld-series-last-of-sessions", "FLD-3.4 FLD-2", "of one worker the last session, whatever the time",
        feed(old.start(), new.start(), old.metric(1, seq=9, ts=9000), new.metric(2, seq=2, ts=6000)),
        run(series={"k": {"last": 2}}),
        kills="last-by-time",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-series-greatest-step", "FLD-3.1 FLD-3", "no step is behind all steps, the greatest there is included",
        feed(who.start(), who.metric(3), who.metric(2, step=2**63 - 1), who.metric(1, step=-(2**63))),
        values(1, 2, 3),
        kind="boundary", kills="null-steps-first",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-series-last-tie", "FLD-3.4 FLD-2.1", "at the same time that of the greater worker id, whatever the seq",
        feed(one.start(), two.start(), one.metric(1, seq=9, ts=9000), two.metric(2, seq=2, ts=9000)),
        run(series={"k": {"count": 2, "last": 2}}),
        kind="boundary", kills="last-by-seq",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-series-nan", "FLD-3.5 FLD-3.3", "not-a-number is neither the least nor the greatest, and counts",
        feed(who.start(), who.metric("NaN"), who.metric(1), who.metric(-1), who.metric("NaN")),
        run(series={"k": {"count": 4, "last": NAN, "least": -1, "greatest": 1}}),
        kills="nan-as-greatest nan-not-counted",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-series-nan-alone", "FLD-3.5", "a series of nothing else has neither",
        feed(who.start(), who.metric("NaN"), who.metric("NaN")),
        run(series={"k": {"count": 2, "last": NAN, "least": None, "greatest": None}}),
        kind="boundary", kills="nan-as-greatest nan-not-counted",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-series-infinities", "FLD-3.5 VAL-3.3", "infinities are numbers",
        feed(who.start(), who.metric("-Infinity"), who.metric(0), who.metric("Infinity")),
        run(series={"k": {"least": {"$float": "-Infinity"}, "greatest": INFINITE, "last": INFINITE}}),
        kind="boundary", kills="infinities-left-out",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-series-big-integers", "FLD-3.3 VAL-2.1", "integers beyond 2^53 are compared and kept exactly",
        feed(who.start(), who.metric(2**53 + 1), who.metric(2**53), who.metric(-(2**63))),
        run(series={"k": {"greatest": 2**53 + 1, "least": -(2**63)}}),
        kind="boundary", kills="series-by-way-of-binary64",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-series-mixed", "FLD-3.3 VAL-2.1", "an integer and a binary64 are compared by value",
        feed(who.start(), who.metric(2**53 + 1), who.metric(float(2**53)), who.metric(0.5), who.metric(1)),
        run(series={"k": {"greatest": 2**53 + 1, "least": 0.5}}),
        kind="boundary", kills="series-by-way-of-binary64",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-series-batch", "EVT-METRIC_BATCH-1.1 FLD-3", "a batch gives a point of each series, and is one event",
        feed(
            who.start(), who.metric(1, step=1),
            who.event("metric_batch", {"metrics": {"k": 2, "l": "NaN"}, "step": 2, "epoch": 1, "ctx": {"phase": "val"}}),
        ),
        points({"value": 1, "step": 1}, {"value": 2, "step": 2, "epoch": 1, "seq": 3, "ts": 1030, "ctx": {"phase": "val"}}),
        points({"value": NAN, "step": 2, "epoch": 1, "seq": 3, "ts": 1030}, key="l"),
        run(streams=[stream(has=[[1, 3]])], series={"k": {"count": 2}, "l": {"count": 1}}),
        kills="batches-lose-contexts batches-give-one-point",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-series-empty-batch", "EVT-METRIC_BATCH-1.1", "an empty batch is an event and no point",
        feed(who.start(), who.event("metric_batch", {"metrics": {}})),
        run(streams=[stream(has=[[1, 2]])], series={}),
        kind="boundary", kills="empty-batches-are-nothing",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-series-contexts", "EVT-METRIC-3.1 EVT-METRIC-1.1", "points with different contexts stay in one series",
        feed(who.start(), who.metric(1, step=1, ctx={"phase": "train"}), who.metric(2, step=1, ctx={"phase": "val"})),
        points({"value": 1, "ctx": {"phase": "train"}}, {"value": 2, "ctx": {"phase": "val"}}),
        run(series={"k": {"count": 2}}),
        kills="a-series-a-context contexts-lost",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-series-of-checkpoints", "EVT-CHECKPOINT-1.1", "what a checkpoint says of a metric is no point",
        feed(who.start(), who.metric(1), who.checkpoint(5, metrics={"k": 0.2, "l": 0.3})),
        values(1), values(key="l"),
        run(series={"k": {"count": 1}}, checkpoints=[{"p": {"metrics": {"k": 0.2, "l": 0.3}}}]),
        kills="checkpoints-give-points",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1", at=1000), Worker("s2", wid="w2", at=2000)
    group.folds(
        "fld-final-metrics", "EVT-RUN_END-1.2 FLD-11", "final metrics: by name, of the end with the greatest time",
        feed(
            one.start(), two.start(), two.summary(acc=3),
            one.end("completed", ts=9000, final_metrics={"acc": 1, "loss": "NaN"}),
            two.end("completed", ts=8000, final_metrics={"acc": 2, "f1": 0.5}),
        ),
        run(final={"acc": 1, "loss": NAN, "f1": 0.5}, summary={"acc": 3}, series={}),
        kills="final-is-summary final-of-the-first-end",
    )  # fmt: skip
    one, two = Worker("s1", wid="w1"), Worker("s2", wid="w2")
    group.folds(
        "fld-final-metrics-tie", "EVT-RUN_END-1.2 FLD-2.8", "at the same time that of the greater worker id",
        feed(
            two.start(), one.start(), two.end(ts=9000, final_metrics={"acc": 2}), one.end(ts=9000, final_metrics={"acc": 1}),
        ),
        run(final={"acc": 2}),
        kind="boundary", kills="final-of-the-first-end",
    )  # fmt: skip


def _aggregates(group: Collecting) -> None:
    def workers(*rows: list[tuple[Any, Any]]) -> list[Json]:
        told: list[Json] = []
        for number, row in enumerate(rows, 1):
            who = Worker(f"s{number}", wid=f"w{number}")
            told += [
                who.start(),
                *(who.metric(value, **({} if step is None else {"step": step})) for step, value in row),
            ]
        return told

    group.folds(
        "fld-aggregate", "FLD-3.7 FLD-3.8", "mean, least and greatest of all workers, step by step",
        feed(*workers([(1, 1), (2, 2)], [(1, 3), (2, 6.0)], [(2, 1)])),
        aggregate(
            {"step": 1, "mean": 2, "least": 1, "greatest": 3, "nan": 0},
            {"step": 2, "mean": 3, "least": 1, "greatest": 6, "nan": 0},
        ),
        kills="aggregate-without-the-greatest",
    )  # fmt: skip
    group.folds(
        "fld-aggregate-last-of-step", "FLD-3.7", "of a worker that has a step twice the last point counts",
        feed(*workers([(1, 1), (1, 5)], [(1, 7)])),
        aggregate({"step": 1, "mean": 6, "least": 5, "greatest": 7}),
        kind="boundary", kills="aggregate-of-points aggregate-of-first-points",
    )  # fmt: skip
    old, new, other = Worker("s9", wid="w1", at=1000), Worker("s1", wid="w1", at=5000), Worker("s5", wid="w2")
    group.folds(
        "fld-aggregate-sessions", "FLD-3.7 FLD-2.2", "the last point of a step is that of the last session",
        feed(
            old.start(), new.start(), other.start(),
            old.metric(1, step=1, seq=50, ts=9000), new.metric(3, step=1, seq=2), other.metric(5, step=1),
        ),
        aggregate({"step": 1, "mean": 4, "least": 3, "greatest": 5}),
        kind="boundary", kills="aggregate-of-points aggregate-of-first-points aggregate-of-sessions",
    )  # fmt: skip
    group.folds(
        "fld-aggregate-no-step", "FLD-3.7", "points without a step are left out",
        feed(*workers([(None, 1), (3, 2)], [(None, 9)])),
        aggregate({"step": 3, "mean": 2}),
        kind="boundary", kills="aggregate-with-null-steps",
    )  # fmt: skip
    group.folds(
        "fld-aggregate-nan", "FLD-3.8", "not-a-number is left out, and counted by itself",
        feed(*workers([(1, 1), (2, "NaN")], [(1, "NaN"), (2, "NaN")], [(1, 3)])),
        aggregate(
            {"step": 1, "mean": 2, "least": 1, "greatest": 3, "nan": 1},
            {"step": 2, "mean": None, "least": None, "greatest": None, "nan": 2},
        ),
        kills="aggregate-takes-nan-as-0 aggregate-counts-no-nan",
    )  # fmt: skip
    group.folds(
        "fld-aggregate-infinities", "FLD-3.8", "infinities are numbers, and the mean of both is none",
        feed(*workers([(1, "Infinity"), (2, "Infinity")], [(1, "-Infinity"), (2, 1)])),
        aggregate(
            {"step": 1, "mean": NAN, "least": {"$float": "-Infinity"}, "greatest": INFINITE, "nan": 0},
            {"step": 2, "mean": INFINITE, "least": 1, "greatest": INFINITE, "nan": 0},
        ),
        kind="boundary", kills="aggregate-without-infinities",
    )  # fmt: skip
    old, new, other = Worker("s1", wid="w1", at=1000), Worker("s2", wid="w1", at=5000), Worker("s3", wid="w2")
    group.folds(
        "fld-aggregate-hidden", "FLD-3.7 FLD-8.1", "points that a resume hides are left out",
        feed(
            old.start(), old.metric(1, step=1), old.metric(100, step=2), other.start(), other.metric(3, step=1),
            new.start(resume={"sids": ["s1"], "rewind_to": 1}),
        ),
        aggregate({"step": 1, "mean": 2}),
        kills="rewind-hides-nothing aggregate-with-hidden",
    )  # fmt: skip


def _rewinds(group: Collecting) -> None:
    old, new = Worker("s1", at=1000), Worker("s2", at=5000)
    group.folds(
        "fld-rewind", "FLD-8.1 FLD-8.2 FLD-8", "points and checkpoints above rewind_to are hidden, and not gone",
        feed(
            old.start(), old.metric(1, step=1), old.metric(2, step=2), old.metric(3, step=3), old.checkpoint(2),
            old.checkpoint(3), old.end("failed"), new.start(resume={"sids": ["s1"], "rewind_to": 2}), new.metric(30, step=3),
        ),
        points({"value": 1}, {"value": 2}, {"value": 30}, hidden=[{"value": 3, "step": 3}]),
        run(
            status="running", series={"k": {"count": 3, "least": 1, "greatest": 30}}, checkpoints=[{"p": {"step": 2}}],
            streams=[stream("s1", has=[[1, 7]]), stream("s2", has=[[1, 2]])],
        ),
        kills="rewind-hides-nothing rewind-hides-the-step-itself rewind-deletes checkpoints-stay",
    )  # fmt: skip
    old, new = Worker("s1", at=1000), Worker("s2", at=5000)
    group.folds(
        "fld-rewind-least", "FLD-8.1 FLD-3.3", "what is hidden is neither the last, nor the least, nor the greatest",
        feed(
            old.start(), old.metric(5, step=1), old.metric(-9, step=2), old.metric(99, step=3),
            new.start(resume={"sids": ["s1"], "rewind_to": 1}),
        ),
        run(series={"k": {"count": 1, "last": 5, "least": 5, "greatest": 5}}),
        kind="boundary", kills="rewind-hides-nothing rewind-leaves-the-summary",
    )  # fmt: skip
    old, new = Worker("s1", at=1000), Worker("s2", at=5000)
    group.folds(
        "fld-rewind-none", "FLD-8.3", "without rewind_to nothing is hidden",
        feed(old.start(), old.metric(1, step=9), new.start(resume={"sids": ["s1"]}), new.metric(2, step=1)),
        points({"value": 2}, {"value": 1}, hidden=[]),
        kills="absent-rewind-is-zero",
    )  # fmt: skip
    old, new = Worker("s1", at=1000), Worker("s2", at=5000)
    group.folds(
        "fld-rewind-no-step", "FLD-8.3 FLD-8.2", "points without a step are never hidden",
        feed(old.start(), old.metric(1), old.metric(2, step=1), new.start(resume={"sids": ["s1"], "rewind_to": 0})),
        points({"value": 1}, hidden=[{"value": 2}]),
        kind="boundary", kills="rewind-hides-null-steps rewind-hides-nothing",
    )  # fmt: skip
    old, new, other = Worker("s1", at=1000), Worker("s2", at=5000), Worker("s3", wid="w", at=2000)
    group.folds(
        "fld-rewind-those-sessions", "FLD-8.1", "only of the sessions that are named, and not its own",
        feed(
            old.start(), old.metric(1, step=5), other.start(), other.metric(2, step=5),
            new.start(resume={"sids": ["s1"], "rewind_to": 3}), new.metric(3, step=5),
        ),
        points({"value": 2}, {"value": 3}, hidden=[{"value": 1}]),
        kills="rewind-hides-the-whole-run rewind-hides-nothing",
    )  # fmt: skip
    one, two, three = Worker("s1", at=1000), Worker("s2", at=2000), Worker("s3", at=3000)
    group.folds(
        "fld-rewind-named-alone", "FLD-8.1", "a session that is reached by way of another is not rewound",
        feed(
            one.start(), one.metric(1, step=9), two.start(resume={"sids": ["s1"]}), two.metric(2, step=10),
            three.start(resume={"sids": ["s2"], "rewind_to": 5}),
        ),
        points({"value": 1}, hidden=[{"value": 2}]),
        kind="boundary", kills="rewind-hides-nothing absent-rewind-is-zero",
    )  # fmt: skip
    one, two, three = Worker("s1", at=1000), Worker("s2", at=2000), Worker("s3", at=3000)
    group.folds(
        "fld-rewind-twice", "FLD-8.1", "rewound by two, the lower step counts",
        feed(
            one.start(), *(one.metric(n, step=n) for n in (1, 2, 3, 4)),
            two.start(resume={"sids": ["s1"], "rewind_to": 1}), three.start(resume={"sids": ["s1"], "rewind_to": 3}),
        ),
        points({"value": 1}, hidden=[{"value": 2}, {"value": 3}, {"value": 4}]),
        kind="boundary", kills="last-rewind-counts rewind-hides-nothing",
    )  # fmt: skip
    old, new = Worker("s1", at=1000), Worker("s2", at=5000)
    group.tells(
        "fld-rewind-late", "FLD-8.1 FLD-1", "points that come after the rewind that hides them",
        feed(new.start(resume={"sids": ["s1"], "rewind_to": 1})), feed(old.start(), old.metric(1, step=1)),
        feed(old.metric(2, step=2)),
        points({"value": 1}, hidden=[{"value": 2}]), run(series={"k": {"count": 1}}),
        kills="rewind-hides-nothing",
    )  # fmt: skip
    old, new = Worker("s1", at=1000), Worker("s2", at=5000)
    group.folds(
        "fld-rewind-cells", "FLD-8.1 FLD-2", "parameters, tags and log lines of a rewound session stay",
        feed(
            old.start(), old.param(1), old.tags(x="1"), old.log("l", step=9), old.summary(b=1),
            new.start(resume={"sids": ["s1"], "rewind_to": 0}),
        ),
        run(params={"p": 1}, tags={"x": "1"}, summary={"b": 1}, logs=[{"p": {"msg": "l"}}]),
        kind="boundary", kills="rewind-hides-params",
    )  # fmt: skip


def _parameters(group: Collecting) -> None:
    who = Worker("s")
    group.folds(
        "fld-params-flat", "FLD-10 EVT-PARAM-1.2", "nested names are joined with dots",
        feed(
            who.start(), who.param(0.1, key="optimizer", nested_key=["lr"]),
            who.param(0.9, key="optimizer", nested_key=["betas", "0"]), who.param(3, key="depth"),
        ),
        run(params={"optimizer.lr": 0.1, "optimizer.betas.0": 0.9, "depth": 3}),
        kills="params-by-key-alone",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-params-one-name", "FLD-10.1", "the same flat name is the same parameter, however it is divided",
        feed(
            who.start(), who.param(1, key="a", nested_key=["b", "c"]), who.param(2, key="a.b", nested_key=["c"]),
            who.param(3, key="a.b.c"),
        ),
        run(params={"a.b.c": 3}),
        kills="params-by-key-and-path",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-params-value-not-split", "FLD-10 EVT-PARAM-1.3", "an object is one value, beside one of the same flat name",
        feed(who.start(), who.param({"lr": 1}, key="o"), who.param(2, key="o", nested_key=["lr"])),
        run(params={"o": {"lr": 1}, "o.lr": 2}),
        kind="boundary", kills="params-split",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-params-empty-parts", "FLD-10 EVT-PARAM-1.2", "empty parts, and an empty list of them",
        feed(who.start(), who.param(1, key="a", nested_key=[""]), who.param(2, key="b", nested_key=[]), who.param(3, key="")),
        run(params={"a.": 1, "b": 2, "": 3}),
        kind="boundary", kills="empty-parts-dropped params-by-key-alone",
    )  # fmt: skip
    names = ["__proto__", "constructor", "toString", "\u0000", "\u00e9", "e\u0301"]
    who = Worker("s")
    group.folds(
        "fld-params-odd-names", "FLD-10 JSN-1.9", "names are names, and none of them is normalized",
        feed(who.start(), *(who.param(number, key=name) for number, name in enumerate(names))),
        run(params={name: number for number, name in enumerate(names)}),
        kind="boundary", kills="names-normalized",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "fld-unknown-type", "ENV-5.6 ENV-5 ENV-5.5", "an event of an unknown type takes its seq and changes nothing else",
        feed(
            who.start(name="n"),
            who.event("later", {"name": "x", "status": "failed", "key": "k", "value": 9, "tags": {"x": "y"}}),
            who.metric(1),
        ),
        run(
            status="running", name="n", tags={}, params={}, series={"k": {"count": 1, "last": 1}},
            streams=[stream(has=[[1, 3]], gaps=[])],
        ),
        kills="unknown-types-dropped unknown-types-set-the-name",
    )  # fmt: skip
    group.folds(
        "fld-unknown-type-alone", "ENV-5.6", "of a run that has sent nothing else, it is still an event",
        feed(Worker("s").event("later", {"name": "x", "status": "failed"})),
        run(status="pending", name=None, started=None, ended=None, streams=[stream(has=[[1, 1]])]),
        kind="boundary", kills="unknown-types-dropped unknown-types-set-the-name",
    )  # fmt: skip
    control = [event("later", {"run_id": "a"}, seq=seq, sid="t") for seq in (0, -1)]
    who = Worker("s")
    group.folds(
        "fld-unknown-control", "ENV-5.5", "an unknown type with a seq below 1 is a control event: no stream has it",
        feed(who.start(), *control, who.metric(1)),
        run(streams=[stream("s", has=[[1, 2]])]),
        kind="boundary", kills="unknown-control-is-an-event",
    )  # fmt: skip
