"""Every encoder against every decoder: what one implementation writes, the others must read as the same event.

The events are those of the encoders' cases. Each testee that is an encoder writes them; each that is a decoder reads
what all of them wrote, with each reader it has. Two events are the same where :func:`xtrack_conformance.slots.normal`
makes the same of them, so that no freedom that the specification gives is a difference.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from xtrack_conformance.cases import Case
from xtrack_conformance.judge import no_answer
from xtrack_conformance.judgement import Judgement
from xtrack_conformance.payloads import read_frame
from xtrack_conformance.plan import Run, missing_capability, plan
from xtrack_conformance.protocol import Answer, Hello, bytes_text
from xtrack_conformance.runner import Runner
from xtrack_conformance.slots import Fault, normal, read_event
from xtrack_conformance.values import Value, difference, shown

READERS = ("strict", "lenient")
EVENT_SHOWN = 2000


@attrs.frozen
class Difference:
    """An event that didn't come through. ``decoder`` is empty where it wasn't even written.

    ``reader``: strict, lenient, or both, where they say the same. ``blames``: encoder, where what it wrote doesn't
    stand for the event; decoder, where it does.
    """

    case: str
    encoder: str
    decoder: str
    reader: str
    blames: str
    message: str
    event: dict[str, Any]
    frame: str = ""
    got: str = ""


@attrs.frozen
class Pair:
    """How many of an encoder's frames a decoder was given, and how many of them it has read as the event they are."""

    encoder: str
    decoder: str
    given: int
    agreed: int


@attrs.frozen
class Matrix:
    """What came of all pairs. ``testees``: who they are, by name."""

    testees: dict[str, dict[str, Any]]
    events: int
    pairs: tuple[Pair, ...]
    differences: tuple[Difference, ...]
    problems: tuple[str, ...]

    @property
    def encoders(self) -> list[str]:
        """Names of those that encode."""
        return [name for name, testee in self.testees.items() if "encoder" in testee["roles"]]

    @property
    def decoders(self) -> list[str]:
        """Names of those that decode."""
        return [name for name, testee in self.testees.items() if "decoder" in testee["roles"]]

    def as_json(self) -> str:
        """Return all of it as JSON."""
        return json.dumps({"schema": "xtrack-conformance-matrix/1", **attrs.asdict(self)}, indent=1) + "\n"


@attrs.frozen
class Testee:
    """A testee that takes part."""

    __test__ = False  # for pytest, which takes the name for a test's

    name: str
    command: tuple[str, ...]
    hello: Hello


@attrs.define
class _Exchange:
    """What is asked of testees, and what they said."""

    timeout: float
    in_flight: int
    problems: list[str] = attrs.field(factory=list)

    def introduce(self, names: Sequence[str], commands: Sequence[Sequence[str]]) -> list[Testee]:
        """Return who the testees are. One without a name has that which it gives itself."""
        found: list[Testee] = []
        for index, command in enumerate(commands):
            runner = Runner(command, timeout=self.timeout)
            try:
                hello = runner.start()
            finally:
                runner.kill()
            name = base = names[index] if index < len(names) else hello.name
            number = 2
            while name in {testee.name for testee in found}:
                name, number = f"{base} {number}", number + 1
            found.append(Testee(name, tuple(command), hello))
        return found

    def ask(self, testee: Testee, runs: Iterable[Run]) -> dict[str, Answer | str]:
        """Return the answer to the one request of each run; what came instead, where none did."""
        answers: dict[str, Answer | str] = {}

        def keep(run: Run, given: Sequence[Answer]) -> Judgement:
            failure = no_answer(given[0])
            answers[run.id] = f"{failure.message}: {failure.got}" if failure else given[0]
            return Judgement("pass")

        runner = Runner(testee.command, timeout=self.timeout, in_flight=self.in_flight, judge=keep)
        try:
            runner.start()
            results = runner.run_each(runs)
        finally:
            runner.kill()
        for run_id, result in results.items():
            if result.verdict != "pass":
                answers[run_id] = f"{result.verdict}: {result.reason}"
        self.problems += [f"{testee.name}: {problem}" for problem in runner.problems]
        return answers


def make_matrix(
    commands: Sequence[Sequence[str]],
    cases: Sequence[Case],
    *,
    names: Sequence[str] = (),
    timeout: float = 10.0,
    in_flight: int = 64,
) -> Matrix:
    """Have each encoder write the events of ``cases``, and each decoder read what all of them wrote.

    Raises StartFailed or HelloFailed for a testee that can't be asked.
    """
    exchange = _Exchange(timeout, in_flight)
    testees = exchange.introduce(names, commands)
    asked = {case.id: case for case in cases if case.role == "encoder" and case.expect.event is not None}
    differences: list[Difference] = []
    frames: dict[str, dict[str, bytes]] = {}
    for testee in testees:
        if "encoder" in testee.hello.roles:
            frames[testee.name], unwritten = _encode(exchange, testee, asked.values())
            differences += unwritten
    pairs: list[Pair] = []
    for testee in testees:
        if "decoder" in testee.hello.roles:
            for pair, misread in _decode(exchange, testee, asked, frames):
                pairs.append(pair)
                differences += misread
    told = {
        testee.name: {**attrs.asdict(testee.hello), "capabilities": sorted(testee.hello.capabilities)}
        | {"command": list(testee.command)}
        for testee in testees
    }
    return Matrix(told, len(asked), tuple(pairs), tuple(differences), tuple(exchange.problems))


def _encode(exchange: _Exchange, testee: Testee, cases: Iterable[Case]) -> tuple[dict[str, bytes], list[Difference]]:
    """Return the frames that a testee has written, by case, and the events for which it has written none."""
    frames: dict[str, bytes] = {}
    unwritten: list[Difference] = []
    asked = [case for case in cases if not missing_capability(case, testee.hello.capabilities)]
    runs = [Run(case, "", plan(case, testee.hello.capabilities)[0].requests[:1]) for case in asked]
    answers = exchange.ask(testee, runs)
    for case in asked:
        answer = answers[case.id]
        if not isinstance(answer, str) and answer.frame is not None:
            frames[case.id] = answer.frame
        elif isinstance(answer, str) or not any(allowed.rejected for allowed in case.also_allowed):
            message = answer if isinstance(answer, str) else "refused an event that can be written"
            unwritten.append(Difference(case.id, testee.name, "", "", "encoder", message, case.expect.event or {}))
    return frames, unwritten


def _decode(
    exchange: _Exchange, testee: Testee, cases: Mapping[str, Case], frames: Mapping[str, Mapping[str, bytes]]
) -> list[tuple[Pair, list[Difference]]]:
    """Return for each encoder how its frames were read. The same bytes are read once, whoever wrote them."""
    readers = [name for name in READERS if name in testee.hello.capabilities]
    able = {name for name, case in cases.items() if not missing_capability(case, testee.hello.capabilities)}
    runs: dict[tuple[str, bytes, str], Run] = {}
    for written in frames.values():
        for case_id in written.keys() & able:
            frame = written[case_id]
            for reader in readers:
                request = {"op": "decode", "reader": reader, "payload": bytes_text(frame[4:])}
                if cases[case_id].input.codec != "json":
                    request["codec"] = cases[case_id].input.codec
                runs.setdefault((case_id, frame, reader), Run(cases[case_id], f"{len(runs)} {reader}", (request,)))
    answers = exchange.ask(testee, runs.values())
    found = []
    for encoder, written in frames.items():
        misread = []
        given = {case_id: frame for case_id, frame in written.items() if case_id in able}
        for case_id, frame in given.items():
            event = cases[case_id].expect.event or {}
            stands_for = _meaning(cases[case_id], frame)
            wrong: dict[tuple[str, str], list[str]] = {}
            for reader in readers:
                expected = normal(read_event(event)) if stands_for is None else stands_for
                found_wrong = _misread(expected, answers[runs[case_id, frame, reader].id])
                if found_wrong:
                    wrong.setdefault(found_wrong, []).append(reader)
            blames = "encoder" if stands_for is None else "decoder"
            shown_frame = frame[:EVENT_SHOWN].hex()
            misread += [
                Difference(case_id, encoder, testee.name, ", ".join(by), blames, message, event, shown_frame, got)
                for (message, got), by in wrong.items()
            ]
        agreed = len(given) - len({entry.case for entry in misread})
        found.append((Pair(encoder, testee.name, len(given), agreed), misread))
    return found


def _misread(expected: Value, answer: Answer | str) -> tuple[str, str] | None:
    """Return what is wrong with what was read, and what was read; None where it is the event."""
    if isinstance(answer, str):
        return answer, ""
    if answer.rejected is not None:
        return f"refused it{f' ({answer.rejected.class_})' if answer.rejected.class_ else ''}", "a refusal"
    found = difference(expected, normal(answer.event))
    return (f"read another event: {found}", shown(answer.event, EVENT_SHOWN)) if found else None


def _meaning(case: Case, frame: bytes) -> Value:
    """Return the event that a frame stands for; None where it isn't legal, or stands for none that the case allows."""
    try:
        written = normal(read_frame(frame, case.input.codec).event)
    except Fault:
        return None
    allowed = [expect.event for expect in (case.expect, *case.also_allowed) if expect.event is not None]
    return written if any(difference(normal(read_event(event)), written) is None for event in allowed) else None
