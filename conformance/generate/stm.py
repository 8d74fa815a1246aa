"""Streams: identity, derived session ids, duplicates (STR-1 to STR-4)."""

from __future__ import annotations

from generate import stm_gaps, stm_same
from generate.collecting import (
    Collecting,
    Worker,
    feed,
    run,
    stream,
    text,
    values,
)
from generate.dsl import Group, dump

MAX = 2**63 - 1


def cases() -> Group:
    """Return the cases."""
    group = Collecting("str")
    _identity(group)
    _derived(group)
    _derived_sources(group)
    _duplicates(group)
    stm_gaps.add(group)
    stm_same.add(group)
    return group


def _identity(group: Collecting) -> None:
    one, two = Worker("s", wid="w1"), Worker("s", wid="w2")
    group.folds(
        "str-identity-worker", "STR-1 STR-1.3", "two workers with one session id are two streams",
        feed(one.start(), one.metric(1), two.start(), two.metric(2)),
        run(streams=[stream("s", "w1", has=[[1, 2]]), stream("s", "w2", has=[[1, 2]])], series={"k": {"count": 2}}),
        kills="stream-without-worker duplicates-per-run",
    )  # fmt: skip
    one, two = Worker("s1"), Worker("s2")
    group.folds(
        "str-identity-session", "STR-1 STR-1.3 STR-1.2", "two sessions of one worker are two streams",
        feed(one.start(), one.metric(1), two.start(), two.metric(2)),
        run(streams=[stream("s1", has=[[1, 2]]), stream("s2", has=[[1, 2]])], series={"k": {"count": 2}}),
        kills="stream-without-session duplicates-per-run",
    )  # fmt: skip
    one, two = Worker("s", run="a"), Worker("s", run="b")
    group.folds(
        "str-identity-run", "STR-1", "one session id in two runs: two streams",
        feed(one.start(), one.metric(1), two.start(), two.metric(2)),
        run("a", streams=[stream(has=[[1, 2]])], series={"k": {"count": 1, "last": 1}}),
        run("b", streams=[stream(has=[[1, 2]])], series={"k": {"count": 1, "last": 2}}),
        kills="one-run-a-source",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "str-identity-no-worker", "STR-1 JSN-6.6", "no wid, null and an empty one are the same worker id",
        feed(
            who.start(),
            text(dump(who.metric(1)).replace('"sid"', '"wid":null,"sid"')),
            text(dump(who.metric(2)).replace('"sid"', '"wid":"","sid"')),
        ),
        run(streams=[stream("s", "", has=[[1, 3]], gaps=[])]),
        kind="boundary", kills="null-wid-is-a-worker",
    )  # fmt: skip
    strange = [
        "x",
        "legacy",
        "Legacy-1",
        "\u00e9/\u0000 \U0001f600",
        "S",
        "5F0C9D1E2B3A48576A7B8C9D0E1F2A3B",
        "y" * 2000,
    ]
    group.folds(
        "str-session-id-any", "STR-1.2", "any string is a session id, and none of them is changed",
        feed(*(Worker(sid).start() for sid in strange)),
        run(streams=[stream(sid, has=[[1, 1]]) for sid in strange]),
        kind="boundary", kills="session-id-folded",
    )  # fmt: skip
    upper, lower = Worker("AB"), Worker("ab")
    group.folds(
        "str-session-id-case", "STR-1 STR-1.2", "session ids that differ in case alone are two",
        feed(upper.start(), upper.metric(1), lower.start(), lower.metric(2)),
        run(streams=[stream("AB", has=[[1, 2]]), stream("ab", has=[[1, 2]])]),
        kind="boundary", kills="session-id-folded",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "str-run-id-forms", "STR-1.4", "a run id as text and as object: one stream, no gap",
        feed(
            who.start(run_id={"id": "a", "exp_id": "e"}),
            who.metric(1),
            who.metric(2, run_id={"id": "a"}),
            who.metric(3),
        ),
        run("a", streams=[stream(has=[[1, 4]], gaps=[])], series={"k": {"count": 3}}),
        kills="run-id-object-is-another-run",
    )  # fmt: skip
    one = Worker(None)
    group.folds(
        "str-run-id-forms-derived", "STR-1.4 STR-2.3", "the form of the run id doesn't matter to a derived one, either",
        feed(one.start(run_id={"id": "a"}, ts=1000), one.metric(1), one.metric(2, run_id={"id": "a", "parent_id": "b"})),
        run("a", streams=[stream("legacy-1000", has=[[1, 3]])]),
        kills="run-id-object-is-another-run",
    )  # fmt: skip
    who = Worker("s")
    group.folds(
        "str-run-id-of-no-form", "STR-1.4 EVT-1.3", "what is neither form names no run: the event is refused, and its seq is missing",
        feed(
            who.start(), who.metric(1, run_id=5), who.metric(2, run_id={"exp_id": "e"}), who.metric(3, run_id={"id": None}),
            who.metric(4, run_id=["a"]), who.metric(5),
        ),
        run("a", streams=[stream(has=[[1, 1], [6, 6]], gaps=[[2, 5]])], series={"k": {"count": 1}}, experiment=None),
        kind="invalid", kills="gaps-not-told",
    )  # fmt: skip
    one, two = Worker("s1"), Worker("s2")
    group.folds(
        "str-gaps-of-each-stream", "STR-1.3 STR-6", "what one stream has closes no gap of another",
        feed(one.start(), one.metric(1, seq=5), *(two.metric(2, seq=seq) for seq in (1, 2, 3, 4, 5))),
        run(streams=[stream("s1", gaps=[[2, 4]]), stream("s2", gaps=[])]),
        kills="duplicates-per-run",
    )  # fmt: skip


def _derived(group: Collecting) -> None:
    first, second = Worker(None), Worker(None)
    group.folds(
        "str-derived-example", "STR-2 STR-2.1 STR-5", "the example: two starts of a run in one file",
        feed(first.start(ts=1000), first.metric(1), second.start(ts=9000), second.metric(2)),
        run(streams=[stream("legacy-1000", has=[[1, 2]], conflicts=0), stream("legacy-9000", has=[[1, 2]], conflicts=0)]),
        values(1, 2),
        kills="derived-by-wall-time no-derived-ids derived-by-first-start",
    )  # fmt: skip
    one = Worker(None)
    group.folds(
        "str-derived-none-yet", "STR-2.2", "before any run_start it is legacy-0",
        feed(one.metric(1), one.metric(2)),
        run(streams=[stream("legacy-0", has=[[1, 2]])]),
        kills="derived-by-first-event no-derived-ids",
    )  # fmt: skip
    one = Worker(None)
    group.folds(
        "str-derived-before-and-after", "STR-2.1 STR-2.2", "what came before the run_start stays where it was",
        feed(one.metric(1, seq=2), one.start(seq=1, ts=1000), one.metric(2, seq=3)),
        run(streams=[stream("legacy-0", has=[[2, 2]]), stream("legacy-1000", has=[[1, 1], [3, 3]])]),
        kind="boundary", kills="derived-by-first-event",
    )  # fmt: skip
    one = Worker(None)
    group.folds(
        "str-derived-is-it", "STR-2.1", "the run_start itself belongs to the session that it begins",
        feed(one.start(ts=1000)),
        run(streams=[stream("legacy-1000", has=[[1, 1]])]),
        kind="boundary", kills="derived-from-the-next-event",
    )  # fmt: skip
    one = Worker(None)
    group.folds(
        "str-derived-negative", "STR-2.1 ENV-3.2", "a time before 1970 in decimal digits",
        feed(one.start(ts=-5), one.metric(1)),
        run(streams=[stream("legacy--5", has=[[1, 2]])], started=-5),
        kind="boundary", kills="derived-from-the-next-event",
    )  # fmt: skip
    one = Worker(None)
    group.folds(
        "str-derived-large", "STR-2.1", "a time beyond 2^53 keeps all of its digits",
        feed(one.start(ts=MAX), one.metric(1)),
        run(streams=[stream(f"legacy-{MAX}", has=[[1, 2]])], started=MAX),
        kind="boundary", kills="derived-by-way-of-binary64",
    )  # fmt: skip
    one = Worker(None)
    group.folds(
        "str-derived-spelling", "STR-2.1 JSN-4", "a time that is written with a fraction gives the same digits",
        feed(text(dump(one.start(ts=1000)).replace('"ts":1000', '"ts":1000.0')), one.metric(1)),
        run(streams=[stream("legacy-1000", has=[[1, 2]])]),
        kind="boundary", kills="derived-from-the-next-event",
    )  # fmt: skip
    one = Worker(None)
    group.folds(
        "str-derived-empty-sid", "STR-2 JSN-6.6", "an empty sid and null are no session id",
        feed(
            text(dump(one.start(ts=1000)).replace('"ts":1000', '"ts":1000,"sid":""')),
            text(dump(one.metric(1)).replace('"seq":2', '"seq":2,"sid":null')),
            one.metric(2),
        ),
        run(streams=[stream("legacy-1000", has=[[1, 3]])]),
        kind="boundary", kills="derived-from-the-next-event",
    )  # fmt: skip
    one = Worker(None)
    group.folds(
        "str-derived-after-the-end", "STR-2.1", "a run_end ends no derived session",
        feed(one.start(ts=1000), one.end(), one.log()),
        run(streams=[stream("legacy-1000", has=[[1, 3]], late=1)]),
        kills="run-end-ends-derived",
    )  # fmt: skip
    old, new = Worker(None, at=1000), Worker("s", at=5000)
    group.folds(
        "str-derived-and-sid", "STR-2.5", "a run_start with a session id does not change the derived one",
        feed(old.start(ts=1000), old.metric(1), new.start(ts=5000), new.metric(2), old.metric(3)),
        run(streams=[stream("legacy-1000", has=[[1, 3]]), stream("s", has=[[1, 2]])]),
        kills="any-run-start-changes-derived",
    )  # fmt: skip
    first, second = Worker(None), Worker(None)
    group.folds(
        "str-derived-known-again", "STR-2.4", "a run_start that is known makes its session current again",
        feed(
            first.start(ts=1000), first.metric(1), second.start(ts=9000), second.metric(2),
            first.start(seq=1, ts=1000), first.metric(1, seq=2), first.metric(3, seq=3),
        ),
        run(streams=[
            stream("legacy-1000", has=[[1, 3]], conflicts=0), stream("legacy-9000", has=[[1, 2]], conflicts=0),
        ]),
        kills="known-start-stays-back known-start-is-new",
    )  # fmt: skip
    first, second = Worker(None), Worker(None)
    group.tells(
        "str-derived-known-again-conflict", "STR-2.4 STR-5", "a run_start that is known, with other content: its session is current, and the first stands",
        feed(
            first.start(ts=1000, name="first"), first.metric(1), second.start(ts=9000), second.metric(2),
            first.start(seq=1, ts=1000, name="other"), first.metric(3, seq=3),
        ),
        run(streams=[
            stream("legacy-1000", has=[[1, 3]], conflicts=1), stream("legacy-9000", has=[[1, 2]], conflicts=0),
        ]),
        kind="invalid", kills="known-start-stays-back known-start-is-new",
    )  # fmt: skip
    one = Worker(None)
    group.folds(
        "str-derived-at-time-0", "STR-2.1 STR-2.2 STR-2.4", "a run_start at the time 0 begins the session that is there already",
        feed(one.metric(1, seq=2), one.start(seq=1, ts=0), one.metric(2, seq=3)),
        run(streams=[stream("legacy-0", has=[[1, 3]], conflicts=0)], started=0),
        kind="boundary", kills="derived-by-first-event no-derived-ids",
    )  # fmt: skip
    old, new = Worker(None, at=1000), Worker("legacy-9000")
    group.folds(
        "str-derived-beside-its-like", "STR-2.5 STR-1.2", "a run_start that gives a session id of this form does not change the current one",
        feed(old.start(ts=1000), new.start(ts=9000), old.metric(1), new.metric(2)),
        run(streams=[stream("legacy-1000", has=[[1, 2]]), stream("legacy-9000", has=[[1, 2]])]),
        kind="boundary", kills="any-run-start-changes-derived",
    )  # fmt: skip
    one, two = Worker(None, wid="w1"), Worker(None, wid="w2")
    group.folds(
        "str-derived-refused-start", "STR-2.1 STR-2.2 ENV-2", "a run_start that must be refused begins no session",
        feed(
            one.start(ts=1000), {**one.start(ts=9000), "v": 9}, one.metric(1),
            {**two.start(ts=9000), "v": 9}, two.metric(2),
        ),
        run(streams=[
            stream("legacy-1000", "w1", has=[[1, 1], [3, 3]], gaps=[[2, 2]]), stream("legacy-0", "w2", has=[[2, 2]]),
        ]),
        kind="invalid", kills="refused-events-are-folded",
    )  # fmt: skip
    one = Worker(None)
    group.folds(
        "str-derived-sid-of-another-type", "STR-2 STR-2.5 STR-1.2 ENV-3", "a sid that is no string is not an absent one: the event is refused",
        feed(
            one.start(ts=1000), text(dump(one.start(ts=9000)).replace('"ts":9000', '"ts":9000,"sid":5000')),
            text(dump(one.metric(1)).replace('"seq":3', '"seq":3,"sid":["s"]')), one.metric(2),
        ),
        run(streams=[stream("legacy-1000", has=[[1, 1], [4, 4]], gaps=[[2, 3]])]),
        kind="invalid", kills="sids-of-any-type",
    )  # fmt: skip


def _derived_sources(group: Collecting) -> None:
    first, second = Worker(None), Worker(None)
    group.folds(
        "str-derived-of-each-source", "STR-2.3", "each connection has a current session of its own",
        feed(first.start(ts=1000), first.metric(1), source="x"),
        feed(second.start(ts=9000), second.metric(2), source="y"),
        feed(first.metric(3), source="x"),
        feed(second.metric(4), source="y"),
        run(streams=[stream("legacy-1000", has=[[1, 3]]), stream("legacy-9000", has=[[1, 3]])]),
        kills="derived-without-source",
    )  # fmt: skip
    one, two = Worker(None), Worker(None)
    group.folds(
        "str-derived-source-without-start", "STR-2.2 STR-2.3", "the run_start of another connection means nothing here",
        feed(one.start(ts=1000), one.metric(1), source="x"),
        feed(two.metric(2, seq=7), source="y"),
        run(streams=[stream("legacy-1000", has=[[1, 2]]), stream("legacy-0", has=[[7, 7]])]),
        kind="boundary", kills="derived-without-source",
    )  # fmt: skip
    one, two = Worker(None, wid="w1"), Worker(None, wid="w2")
    group.folds(
        "str-derived-of-each-worker", "STR-2.3", "two workers that share a file, each with its own session",
        feed(one.start(ts=1000), two.start(ts=2000), one.metric(1), two.metric(2)),
        run(streams=[stream("legacy-1000", "w1", has=[[1, 2]]), stream("legacy-2000", "w2", has=[[1, 2]])]),
        kills="derived-without-worker",
    )  # fmt: skip
    one, two = Worker(None, wid="w1"), Worker(None, wid="w2")
    group.folds(
        "str-derived-other-worker", "STR-2.2 STR-2.3", "the run_start of another worker means nothing to this one",
        feed(one.start(ts=1000), two.metric(2, seq=2)),
        run(streams=[stream("legacy-1000", "w1", has=[[1, 1]]), stream("legacy-0", "w2", has=[[2, 2]])]),
        kind="boundary", kills="derived-without-worker",
    )  # fmt: skip
    one, two = Worker(None, run="a"), Worker(None, run="b")
    group.folds(
        "str-derived-of-each-run", "STR-2.3", "two runs in one file, each with its own session",
        feed(one.start(ts=1000), two.start(ts=2000), one.metric(1), two.metric(2)),
        run("a", streams=[stream("legacy-1000", has=[[1, 2]])]),
        run("b", streams=[stream("legacy-2000", has=[[1, 2]])]),
        kills="derived-without-run",
    )  # fmt: skip
    first, second = Worker(None), Worker(None)
    capture = [first.start(ts=1000), first.metric(1), second.start(ts=9000), second.metric(2), second.end()]
    group.folds(
        "str-derived-read-twice", "STR-2.4 STR-4.1 DLV-6.2 STR-8", "a file that is read twice gives no second run",
        feed(*capture, source="x"),
        feed(*capture, source="y"),
        feed(*capture, source="x"),
        run(
            streams=[
                stream("legacy-1000", has=[[1, 2]], conflicts=0, ambiguous=False),
                stream("legacy-9000", has=[[1, 3]], conflicts=0, ambiguous=False),
            ],
            series={"k": {"count": 2}},
        ),
        kills="derived-by-wall-time known-start-is-new duplicates-count",
    )  # fmt: skip


def _duplicates(group: Collecting) -> None:
    who = Worker()
    start, point = who.start(), who.metric(1)
    group.folds(
        "str-duplicate", "STR-4 STR-4.1 DLV-6.2 STR-5 STR-5.1 STR-8.2", "an event that comes three times has one effect",
        feed(start, point, point), feed(point, start, source="y"),
        run(series={"k": {"count": 1}}, streams=[stream(has=[[1, 2]], conflicts=0, ambiguous=False)]),
        values(1),
        kills="duplicates-count",
    )  # fmt: skip
    who = Worker()
    start, line, file = who.start(), who.log("once"), who.event("artifact", {"path": "m.pt"})
    saved = who.checkpoint(5)
    group.folds(
        "str-duplicate-of-each-type", "STR-4.1", "neither a log line, nor an artifact, nor a checkpoint is told twice",
        feed(start, line, file, saved, line, file, saved),
        run(logs=[{"p": {"msg": "once"}}], artifacts=[{"p": {"path": "m.pt"}}], checkpoints=[{"p": {"step": 5}}]),
        kills="duplicates-count",
    )  # fmt: skip
    who = Worker()
    start, point = who.start(), who.metric(1, step=3)
    backwards = dump({name: point[name] for name in ("p", "m", "v", "t")})
    group.folds(
        "str-duplicate-other-order", "STR-4.2 STR-4.4", "members in another order, and white space: the same event",
        feed(start, point, text(backwards), text(" " + dump(point).replace(",", " ,\n"))),
        run(series={"k": {"count": 1}}, streams=[stream(conflicts=0)]),
        kills="content-by-bytes",
    )  # fmt: skip
    who = Worker()
    start, point = who.start(), who.metric(1)
    group.folds(
        "str-duplicate-other-spelling", "STR-4.2 JSN-6", "absence as null, escapes, 2.0 for a seq: the same event",
        feed(
            start, point,
            text(dump(point).replace('"value"', '"step":null,"value"')),
            text(dump(point).replace('"k"', '"\\u006b"')),
            text(dump(point).replace('"seq":2', '"seq":2.0')),
        ),
        run(series={"k": {"count": 1}}, streams=[stream(conflicts=0)]),
        kind="boundary", kills="content-by-bytes",
    )  # fmt: skip
    who = Worker()
    start, point = who.start(), who.metric("NaN")
    group.folds(
        "str-duplicate-nan", "STR-4.2 VAL-3.4", "not-a-number that comes again is the same event, though it equals nothing",
        feed(start, point, text(" " + dump(point)), point),
        run(series={"k": {"count": 1}}, streams=[stream(conflicts=0)]),
        kind="boundary", kills="nan-differs-from-itself",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-duplicate-ranges", "STR-4 STR-6.1", "any set of ranges is kept exactly",
        feed(*(who.metric(seq, seq=seq) for seq in (1, 2, 4, 5, 6, 9, 12, 13))),
        run(streams=[stream(has=[[1, 2], [4, 6], [9, 9], [12, 13]], gaps=[[3, 3], [7, 8], [10, 11]], last_seq=13)]),
        kills="first-gap-only keeps-the-last-seq-alone last-seq-is-the-number",
    )  # fmt: skip
    who = Worker()
    again = [who.metric(seq, seq=seq) for seq in (1, 2, 7, 9)]
    group.tells(
        "str-duplicate-below-the-last", "STR-4 STR-6.2", "a seq below the last is no duplicate unless it came",
        feed(*again), feed(who.metric(5, seq=5), who.metric(8, seq=8), *again),
        run(series={"k": {"count": 6}}, streams=[stream(has=[[1, 2], [5, 5], [7, 9]])]),
        kills="keeps-the-last-seq-alone",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-duplicate-int64", "STR-4 STR-6.1", "the greatest seq there is; nothing of the range is counted one by one",
        feed(who.start(), who.metric(1, seq=MAX, ts=7), who.metric(2, seq=MAX - 1, ts=7)),
        run(streams=[stream(has=[[1, 1], [MAX - 1, MAX]], gaps=[[2, MAX - 2]], last_seq=MAX)]),
        kind="boundary", kills="seqs-by-way-of-binary64 last-seq-is-the-number",
    )  # fmt: skip
    one, two = Worker("s1"), Worker("s2")
    group.folds(
        "str-duplicate-same-content", "STR-1.3 STR-4.1", "the same measurement in two streams is no duplicate",
        feed(one.start(), two.start(), one.metric(1, ts=50), two.metric(1, ts=50)),
        run(series={"k": {"count": 2}}),
        kills="duplicates-by-content duplicates-per-run",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-duplicate-next-seq", "STR-4.1", "the same measurement under the next seq is no duplicate",
        feed(who.start(), who.metric(1, ts=50), who.metric(1, ts=50)),
        run(series={"k": {"count": 2}}),
        kills="duplicates-by-content",
    )  # fmt: skip
