"""Streams, third part: which events are the same, and what is counted of those that are not (STR-2.8, STR-4.4 to STR-8.2)."""

from __future__ import annotations

from generate.collecting import Collecting, Worker, feed, run, skip, stream, text
from generate.dsl import dump


def add(group: Collecting) -> None:
    """Add the cases."""
    _same(group)
    _counted(group)
    _known_by_form(group)


def _spelled(event: object, before: str, after: str) -> dict[str, str]:
    """Return the text of an event in which something is spelled in another way."""
    told = dump(event)
    assert told.count(before) == 1, (told, before)
    return text(told.replace(before, after))


def _same(group: Collecting) -> None:
    who = Worker()
    start, point, free = who.start(), who.metric(1), who.param({"a": [1, 0.0]})
    group.folds(
        "str-same-numbers", "STR-4.4 STR-4.2", "1 and 1.0, 0.0 and -0.0: equal in a number slot and in a free one",
        feed(
            start, point, free, _spelled(point, '"value":1', '"value":1.0'), _spelled(free, "[1,0.0]", "[1.0,-0.0]"),
            _spelled(free, "[1,0.0]", "[1e0,0]"),
        ),
        run(streams=[stream(has=[[1, 3]], conflicts=0)]),
        kind="boundary", kills="numbers-by-their-spelling content-by-bytes",
    )  # fmt: skip
    who = Worker()
    start, point = who.start(), who.metric(1)
    group.folds(
        "str-same-but-for-the-unknown", "STR-4.4 ENV-6", "members that nobody knows make no other event",
        feed(start, point, _spelled(point, '"key"', '"colour":"red","key"'), _spelled(point, '"seq"', '"host":[1],"seq"')),
        run(series={"k": {"count": 1}}, streams=[stream(conflicts=0)]),
        kind="boundary", kills="content-with-unknown-members content-by-bytes",
    )  # fmt: skip
    who = Worker()
    start, free = who.start(), who.param({"x": 1, "y": {"b": 2, "a": 3}})
    group.folds(
        "str-same-order-of-names", "STR-4.4 VAL-9.7", "maps in another order are equal, at any depth",
        feed(start, free, _spelled(free, '{"x":1,"y":{"b":2,"a":3}}', '{"y":{"a":3,"b":2},"x":1}')),
        run(streams=[stream(conflicts=0)]),
        kind="boundary", kills="content-by-bytes",
    )  # fmt: skip
    who = Worker()
    start, free = who.start(), who.param(["1", [1, 2]])
    group.tells(
        "str-same-not", "STR-4.4 STR-5.1", "a text is no number, and a list has an order",
        feed(start, free, _spelled(free, '"1"', "1"), _spelled(free, "[1,2]", "[2,1]")),
        run(params={"p": ["1", [1, 2]]}, streams=[stream(conflicts=2)]),
        kind="invalid", kills="conflicts-not-counted conflicts-counted-once",
    )  # fmt: skip


def _counted(group: Collecting) -> None:
    who = Worker()
    start, first, other = who.start(), who.metric(1), who.metric(2, seq=2)
    group.tells(
        "str-conflict-again", "STR-5.1 STR-4.2", "one other content, however often it comes and however it is spelled: one conflict",
        feed(start, first, other, other), feed(_spelled(other, '"value":2', '"value":2.0'), text(" " + dump(other))),
        run(series={"k": {"count": 1, "last": 1}}, streams=[stream(conflicts=1)]),
        kind="boundary", kills="conflicts-counted-each-time conflicts-by-bytes",
    )  # fmt: skip
    who = Worker()
    start, first, other, third = who.start(), who.metric(1), who.metric(2, seq=2), who.metric(3, seq=2)
    group.tells(
        "str-conflict-of-three", "STR-5.1", "three contents of one seq, told twice: two of them are conflicts",
        feed(start, first, other, third), feed(other, first, third),
        run(series={"k": {"count": 1, "last": 1}}, streams=[stream(conflicts=2)]),
        kind="invalid", kills="conflicts-counted-each-time conflicts-counted-once",
    )  # fmt: skip
    who = Worker()
    group.folds(
        "str-gap-below-a-skip", "STR-6 STR-6.1 STR-7", "what is missing below a declared loss is a gap, also where no event stands above",
        feed(who.start(), who.metric(1), skip(6, 7)),
        run(streams=[stream(has=[[1, 2]], gaps=[[3, 5]], lost=[[6, 7]], last_seq=2)]),
        kind="boundary", kills="gaps-below-events-alone",
    )  # fmt: skip


def _known_by_form(group: Collecting) -> None:
    who = Worker()
    group.tells(
        "str-ambiguous-with-ids", "STR-8.2 STR-5.1", "with a session id two contents of one seq are a conflict, and no more",
        feed(who.start(), who.metric(1), who.metric(2, seq=2)),
        run(streams=[stream(ambiguous=False, conflicts=1)]),
        kind="invalid", kills="ambiguous-with-ids",
    )  # fmt: skip
    who = Worker("legacy")
    group.tells(
        "str-ambiguous-with-almost-derived-id", "STR-8.2 STR-5.1", "nor is it where the id is all of that but the last letter",
        feed(who.start(), who.metric(1), who.metric(2, seq=2)),
        run(streams=[stream("legacy", ambiguous=False, conflicts=1)]),
        kind="boundary", kills="ambiguous-with-ids",
    )  # fmt: skip
    who = Worker("legacy-of-a-relay")
    group.folds(
        "str-derived-by-its-form", "STR-2.8 FLD-4", "a session id that begins with legacy- is a derived one, whoever gave it",
        feed(who.metric(1)), run(status="running", streams=[stream("legacy-of-a-relay")]),
        kills="derived-ids-have-digits no-vote-without-start",
    )  # fmt: skip
    group.folds(
        "str-derived-by-its-beginning", "STR-2.8 FLD-4", "legacy- and nothing behind it is one, and without its last letter it is none",
        feed(Worker("legacy-", run="a").metric(1), Worker("legacy", run="b").metric(1)),
        run("a", status="running"), run("b", status="pending"),
        kind="boundary", kills="derived-ids-have-digits",
    )  # fmt: skip
    who = Worker("Legacy-1")
    group.folds(
        "str-derived-not-by-its-form", "STR-2.8 FLD-4", "letters of another case don't make one",
        feed(who.metric(1)), run(status="pending", streams=[stream("Legacy-1")]),
        kind="invalid", kills="derived-in-any-case",
    )  # fmt: skip
