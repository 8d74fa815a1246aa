"""What came of a run against what must: accept or refuse, what was read, which bytes an error covers.

Which class an error has is a SHOULD (ERR-1): the wrong one is *nonstrict*, and no failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import attrs

from xtrack_conformance.cases import Case, Expect, Item
from xtrack_conformance.judgement import RANK, Judgement, weigh
from xtrack_conformance.payloads import read_frame
from xtrack_conformance.plan import Run
from xtrack_conformance.protocol import Answer, Yielded
from xtrack_conformance.slots import Fault, normal, read_event
from xtrack_conformance.values import difference, shown, untag


def judge(run: Run, answers: Sequence[Answer]) -> Judgement:
    """Judge a run by its case's expectation, or by what the case allows beside it."""
    for answer in answers:
        if failure := no_answer(answer):
            return failure
    first = _judge_by(run, answers, run.case.expect)
    if first.verdict == "pass":
        return first
    found = [first, *(_judge_by(run, answers, allowed) for allowed in run.case.also_allowed)]
    best = min(found, key=lambda judgement: RANK[judgement.verdict])
    if best.verdict == "fail":
        best = first
    return weigh(best, run.case.level)


def no_answer(answer: Answer) -> Judgement | None:
    """Return the failure of a testee that doesn't do what it was asked; None where it has done something."""
    if answer.internal_error is not None:
        return _fail("the testee reports an internal error, which is no refusal", got=answer.internal_error)
    if answer.unsupported is not None:
        return _fail(f"the testee says that {answer.unsupported} is unsupported, and has declared what this needs")
    return None


def differing(judgements: Sequence[Judgement], runs: Sequence[Run]) -> Judgement | None:
    """Return the failure of a case whose runs came to different things although only the pieces differ."""
    first, name = judgements[0], runs[0].variant
    for judgement, run in zip(judgements, runs, strict=True):
        if judgement.outcome != first.outcome:
            return _fail(
                f"not the same in every chunking: fed as {name!r} and as {run.variant!r}",
                expected=first.outcome,
                got=judgement.outcome,
            )
    return None


def _fail(message: str, *, expected: str = "", got: str = "", offset: int | None = None) -> Judgement:
    return Judgement("fail", message, expected, got, offset)


def _judge_by(run: Run, answers: Sequence[Answer], expect: Expect) -> Judgement:
    if run.case.role == "framer":
        return _judge_frames(run, answers, expect)
    judgement = (_judge_decoded if run.case.role == "decoder" else _judge_encoded)(run.case, answers[0], expect)
    if run.case.role == "encoder" and answers[-1].frame != answers[0].frame:
        return _fail("the same event came out as other bytes the second time (ENV-7.3)")
    return judgement


# ------------------------------------------------------------------------------------------ decoder


def _judge_decoded(_case: Case, answer: Answer, expect: Expect) -> Judgement:
    if expect.rejected is not None:
        wanted = expect.rejected.class_
        if answer.rejected is None:
            return _fail("accepted what must be refused", expected=_refusal(wanted), got=shown(answer.event, 400))
        if answer.rejected.fatal:
            return _fail("called fatal what costs one frame", expected=f"{_refusal(wanted)}, not fatal", got="fatal")
        return _judge_class(wanted, answer.rejected.class_)
    expected = normal(read_event(expect.event))
    if answer.rejected is not None:
        return _fail("refused what must be accepted", expected="an event", got=_refusal(answer.rejected.class_))
    if found := difference(expected, normal(answer.event)):
        return _fail(f"read another event: {found}", expected=shown(expected, 2000), got=shown(answer.event, 2000))
    return Judgement("pass", outcome="accepted")


def _judge_class(wanted: str | None, got: str | None) -> Judgement:
    outcome = _refusal(got)
    if wanted in {None, got}:
        return Judgement("pass", outcome=outcome)
    message = "refused, as it must be, with another class of error (ERR-1, ERR-2)"
    return Judgement("nonstrict", message, _refusal(wanted), outcome, outcome=outcome)


def _refusal(class_: str | None) -> str:
    return f"a refusal ({class_})" if class_ else "a refusal"


# ------------------------------------------------------------------------------------------ encoder


def _judge_encoded(case: Case, answer: Answer, expect: Expect) -> Judgement:
    if answer.rejected is not None:
        if expect.rejected is not None:
            return Judgement("pass", outcome="refused")
        return _fail("refused an event that can be written", expected="a frame", got=_refusal(answer.rejected.class_))
    assert answer.frame is not None
    try:
        written = read_frame(answer.frame, case.input.codec)
    except Fault as fault:
        return _fail(f"wrote what no writer may: {fault}", expected="a legal frame", got=shown(answer.frame, 2000))
    got = normal(written.event)
    if expect.rejected is not None:
        return _fail("wrote what can't be written", expected="a refusal", got=shown(answer.frame, 2000))
    if expect.not_event is not None:
        if difference(normal(untag(expect.not_event)), got) is None:
            return _fail("wrote a text that means something else than what was given", got=shown(answer.frame, 2000))
        return Judgement("pass", outcome="written otherwise")
    if found := difference(normal(read_event(expect.event)), got):
        message = f"what was written reads as another event: {found}"
        return _fail(message, expected=shown(expect.event, 2000), got=shown(answer.frame, 2000))
    wanted = expect.codec or case.input.codec
    if written.codec != wanted:
        return _fail(f"wrote {written.codec}, and not {wanted} (VER-2.6, VER-2.7)", got=shown(answer.frame, 2000))
    if case.input.limit is not None and len(written.payload) > case.input.limit:
        return _fail(f"the payload has {len(written.payload)} bytes, and {case.input.limit} are taken (FRM-3.9)")
    if written.notes and "ENV-7" in case.clauses:
        return Judgement("nonstrict", f"{written.notes[0][1]} ({written.notes[0][0]})", outcome="written")
    return Judgement("pass", outcome="written")


# ------------------------------------------------------------------------------------------ framer


def _judge_frames(run: Run, answers: Sequence[Answer], expect: Expect) -> Judgement:
    data = b"".join(run.chunks)
    expected = list(expect.frames or ())
    found = [(index, frame) for index, answer in enumerate(answers) for frame in answer.frames or ()]
    outcome = "; ".join(_told(frame) for _, frame in found) or "nothing"
    worst = Judgement("pass", outcome=outcome)
    for number, item in enumerate(expected):
        if number >= len(found):
            return attrs.evolve(_at(item, f"expected {len(expected)}, got {len(found)}", expected), got=outcome)
        index, frame = found[number]
        judgement = _judge_item(item, frame, data) or _judge_due(run, item, index)
        if judgement is None:
            continue
        if judgement.verdict == "fail":
            return attrs.evolve(judgement, expected=_list_of(expected), got=outcome, outcome=outcome)
        worst = attrs.evolve(judgement, outcome=outcome)
    if len(found) > len(expected):
        frame = found[len(expected)][1]
        message = f"yielded what isn't there: {_told(frame)}"
        return Judgement("fail", message, _list_of(expected), outcome, frame.offset, outcome)
    if early := _closed_wrongly(run.case, answers, expected):
        return Judgement("fail", early, _list_of(expected), outcome, outcome=outcome)
    return worst


def _judge_item(item: Item, frame: Yielded, data: bytes) -> Judgement | None:
    """Return what is wrong with one thing that was yielded, or None."""
    if frame.offset != item.offset:
        return _fail(f"its offset is {frame.offset}, not {item.offset} (ERR-3)", offset=item.offset)
    if item.rejected is None:
        if frame.rejected is not None:
            return _fail("refused a frame that must be accepted", offset=item.offset)
        if frame.length != item.length:
            return _fail(f"the frame takes {item.length} bytes, not {frame.length}", offset=item.offset)
        assert item.length is not None
        if frame.payload != data[item.offset + 4 : item.offset + item.length]:
            return _fail("the payload isn't as it came (FRM-8)", offset=item.offset + 4)
        if frame.verified != item.verified:
            marked = "unverified" if item.verified else "verified"
            return _fail(f"the frame is marked as {marked} (FRM-6.9, FRM-7)", offset=item.offset)
        return None
    if frame.rejected is None:
        return _fail("accepted a frame that must be refused", offset=item.offset)
    if item.rejected != "truncated" and frame.rejected.fatal != item.fatal:
        return _fail(f"the error is {'' if item.fatal else 'not '}fatal (FRM-5)", offset=item.offset)
    if item.length is not None and frame.length != item.length:
        return _fail(f"the error covers {item.length} bytes, not {frame.length} (ERR-3.2)", offset=item.offset)
    judgement = _judge_class(item.rejected, frame.rejected.class_)
    return None if judgement.verdict == "pass" else attrs.evolve(judgement, offset=item.offset)


def _judge_due(run: Run, item: Item, index: int) -> Judgement | None:
    """Return what is wrong when it came too late: ``index`` is that of the answer it came with."""
    if item.due is None:
        return None
    ends = accumulate(map(len, run.chunks))
    if index <= next((number for number, end in enumerate(ends) if end >= item.due), len(run.chunks)):
        return None
    return _fail(f"it must come once {item.due} bytes are there, and came later", offset=item.offset)


def _closed_wrongly(case: Case, answers: Sequence[Answer], expected: Sequence[Item]) -> str | None:
    """Say where an input counts as closed without a reason, or goes on after one. spec: FRM-5, FRM-6.12"""
    is_fatal = any(item.fatal or (item.rejected and case.input.stop_at_damage) for item in expected)
    states = [answer.state for answer in answers[:-1]]
    if is_fatal and states and states[-1] != "closed":
        return "the input counts as open after a fatal error"
    if not is_fatal and "closed" in states:
        return "the input counts as closed without a fatal error"
    return None


def _at(item: Item, counts: str, expected: Sequence[Item]) -> Judgement:
    message = f"nothing was yielded for offset {item.offset}: {counts}"
    return Judgement("fail", message, _list_of(expected), offset=item.offset)


def _list_of(items: Sequence[Item]) -> str:
    return "; ".join(map(_told_item, items)) or "nothing"


def _told_item(item: Item) -> str:
    return _entry(item.offset, item.length, item.rejected, fatal=item.fatal, verified=item.verified)


def _told(frame: Yielded) -> str:
    rejected = frame.rejected
    class_ = None if rejected is None else rejected.class_ or "error"
    return _entry(frame.offset, frame.length, class_, fatal=bool(rejected and rejected.fatal), verified=frame.verified)


def _entry(offset: int, length: int | None, class_: str | None, *, fatal: bool, verified: bool) -> str:
    end = "" if length is None else str(offset + length)
    what = class_ or "frame"
    # Whether the end of the input is called fatal is nobody's business: nothing can follow it.
    marks = (" fatal" if fatal and class_ != "truncated" else "") + ("" if verified or class_ else " unverified")
    return f"[{offset}, {end}) {what}{marks}"
