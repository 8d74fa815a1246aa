"""Runs cases against a testee: many requests in flight, and no behaviour of the testee that stops the run or passes.

Where a testee crashes, hangs or says what is no answer, the runs that were under way are suspects: each is asked once
more, alone, of a fresh process. A run that fails alone again has that verdict. Where none does, the first suspect is
*flaky*, which is never a pass.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal

import attrs

from xtrack_conformance.cases import Case
from xtrack_conformance.judge import differing, judge, no_answer
from xtrack_conformance.judgement import NOTHING_FOUND, RANK, Judgement, weigh
from xtrack_conformance.plan import Run, missing_capability, plan
from xtrack_conformance.process import Event, StartFailed, Testee, exit_text
from xtrack_conformance.protocol import (
    Answer,
    BadAnswer,
    Hello,
    Request,
    hello_request,
    read_answer,
    read_hello,
    read_line,
    write,
)
from xtrack_conformance.scripts import Conversation
from xtrack_conformance.values import shown

Verdict = Literal[
    "pass", "nonstrict", "fail", "crash", "timeout", "harness-error", "flaky", "not-applicable", "could-not-run"
]

WORST_FIRST: Final[tuple[Verdict, ...]] = (
    "crash", "timeout", "harness-error", "fail", "flaky", "could-not-run", "nonstrict", "pass", "not-applicable",
)  # fmt: skip
"""A case has the worst verdict of its runs."""

HELLO_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 5.0
TIMEOUTS_MAX: Final = 5
"""Runs that may time out before the rest isn't run: a testee that hangs always must not take hours."""

BREAKDOWNS_MAX: Final = 60
"""Runs that may end the testee, in other ways, before the rest isn't run."""


@attrs.frozen
class Result:
    """What came of a run. ``stderr``: the last lines of a testee that broke down."""

    verdict: Verdict
    judgement: Judgement = NOTHING_FOUND
    reason: str = ""
    stderr: tuple[str, ...] = ()


@attrs.frozen
class CaseResult:
    """What came of a case: its verdict, and of its runs the first with that verdict."""

    case: Case
    verdict: Verdict
    runs: int
    variant: str = ""
    judgement: Judgement = NOTHING_FOUND
    reason: str = ""
    run: Run | None = None
    stderr: tuple[str, ...] = ()


class HelloFailed(Exception):
    """The testee doesn't introduce itself, so that nothing can be asked of it."""

    def __init__(self, reason: str, stderr: Sequence[str] = ()) -> None:
        self.stderr = list(stderr)
        super().__init__(reason)


class _Breakdown(Exception):
    """The testee did what ends a process here. ``verdict``: crash, timeout or harness-error."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        self.verdict = verdict
        self.reason = reason
        super().__init__(reason)


Judge = Callable[[Run, Sequence[Answer]], Judgement]


@attrs.define(eq=False)
class _Active:
    """A run under way. ``sent``: requests that were sent. ``judgement``: what ``judge`` says of it, once it is done.

    The requests of a script come one by one, for each depends on the answers before it.
    """

    run: Run
    judge: Judge
    sent: int = 0
    answers: dict[int, Answer] = attrs.field(factory=dict)
    judgement: Judgement | None = None
    _conversation: Conversation | None = None
    _next: Request | None = None

    def begin(self) -> None:
        """Find out what is to be sent first."""
        if self.run.converse is None:
            self._next = self.run.requests[0]
        else:
            self._conversation = self.run.converse()
            self._go_on(next)

    @property
    def has_request(self) -> bool:
        """Whether something can be sent now."""
        return self._next is not None

    def next_request(self) -> Request:
        """Return the next request; it counts as sent."""
        assert self._next is not None
        request, self._next = self._next, None
        self.sent += 1
        if self._conversation is None and self.sent < len(self.run.requests):
            self._next = self.run.requests[self.sent]
        return request

    def take(self, index: int, answer: Answer) -> None:
        """Take the answer to the request with that number. Raises BadAnswer."""
        self.answers[index] = answer
        if self._conversation is None:
            if len(self.answers) == len(self.run.requests):
                self.judgement = self.judge(self.run, [self.answers[number] for number in range(len(self.answers))])
            return
        if failure := no_answer(answer):
            self._conversation.close()
            self.judgement = failure
            return
        ok = answer.ok or {}
        self._go_on(lambda conversation: conversation.send(ok))

    def _go_on(self, step: Callable[[Conversation], Request]) -> None:
        assert self._conversation is not None
        try:
            self._next = step(self._conversation)
        except StopIteration as end:
            self.judgement = weigh(end.value, self.run.case.level)


class Runner:
    """Runs cases against the testee that ``command`` starts.

    ``timeout``: seconds a testee may take for one request while it answers no other. ``in_flight``: requests that are
    not answered yet, at most; a testee may ask for fewer. ``judge``: what is thought of a run without a script.
    """

    def __init__(
        self, command: Sequence[str], *, timeout: float = 10.0, in_flight: int = 64, judge: Judge = judge
    ) -> None:
        self.command = list(command)
        self.timeout = timeout
        self.hello: Hello | None = None
        self.problems: list[str] = []
        self.restarts = -1
        self._in_flight_max = in_flight
        self._judge = judge
        self._events: queue.Queue[Event] = queue.Queue()
        self._testee: Testee | None = None
        self._open: dict[int, tuple[_Active, int, str]] = {}
        self._answered: dict[int, Run] = {}
        self._seconds: dict[str, Result] = {}
        self._next_id = 1
        self._progress = 0.0
        self._timeouts = self._breakdowns = 0
        self._gone = ""

    def start(self) -> Hello:
        """Start the testee and have it introduce itself. Raises StartFailed or HelloFailed."""
        self.restarts += 1
        self._testee = Testee(self.command, self._events, self.restarts)
        self._testee.send(write(hello_request()))
        try:
            event = self._next_event(time.monotonic() + HELLO_SECONDS)
            if event is None:
                raise BadAnswer(f"no answer to hello after {HELLO_SECONDS:g} s")
            if event.kind != "line":
                raise BadAnswer(f"no answer to hello: {self._ending(event)}")
            found = read_line(event.line)
            if found["id"] != 0:
                raise BadAnswer(f"the answer to hello has the id {found['id']}, not 0")
            hello = read_hello(found)
        except BadAnswer as error:
            testee = self._testee
            self.kill()
            raise HelloFailed(str(error), testee.stderr()) from error
        if self.hello is not None and hello != self.hello:
            self.kill()
            raise HelloFailed("after a restart the testee says other things of itself than before")
        self.hello = hello
        return hello

    def run(self, cases: Sequence[Case]) -> list[CaseResult]:
        """Run ``cases`` and return what came of each, in their order. The testee must have been started."""
        assert self.hello is not None
        results: dict[str, CaseResult] = {}
        plans: dict[str, list[Run]] = {}
        for case in cases:
            if case.role not in self.hello.roles:
                continue
            missing = missing_capability(case, self.hello.capabilities)
            if missing:
                results[case.id] = CaseResult(case, "not-applicable", 0, reason=f"the testee has no {missing}")
                continue
            plans[case.id] = plan(case, self.hello.capabilities)
        found = self.run_each(run for runs in plans.values() for run in runs)
        for case_id, runs in plans.items():
            results[case_id] = sum_up(runs[0].case, runs, [found[run.id] for run in runs])
        return [results[case.id] for case in cases if case.id in results]

    def run_each(self, runs: Iterable[Run]) -> dict[str, Result]:
        """Run ``runs`` and return what came of each, by its id; then end the testee, which must have been started."""
        found: dict[str, Result] = {}
        waiting = deque(runs)

        def settle(run: Run, result: Result) -> None:
            found[run.id] = result

        while waiting:
            if self._too_many():
                settle(waiting.popleft(), Result("could-not-run", reason=self._too_many()))
                continue
            self._run_some(waiting, settle)
        self._finish(settle)
        return found

    def kill(self) -> int | None:
        """End the testee, whatever it does."""
        testee, self._testee = self._testee, None
        return testee.kill() if testee else None

    # ------------------------------------------------------------------------------------------ many at a time

    def _run_some(self, waiting: deque[Run], settle: Callable[[Run, Result], None]) -> None:
        """Run what waits until all is done or the testee breaks down, which is then looked into."""
        active: deque[_Active] = deque()
        try:
            self._ensure_started()
            self._exchange(waiting, active, settle)
        except _Breakdown as broken:
            status = self.kill()
            suspects = [entry.run for entry in active]
            self._open.clear()
            if not suspects:  # it broke down between two runs; the next ones will show whether it does so again
                self.problems.append(f"between two runs: {broken.reason}")
                self._breakdowns += 1
                return
            self._ask_alone(suspects, broken, settle, status)

    def _exchange(self, waiting: deque[Run], active: deque[_Active], settle: Callable[[Run, Result], None]) -> None:
        """Send requests and take answers until nothing waits and nothing is active."""
        assert self.hello is not None
        allowed = min(self._in_flight_max, self.hello.max_in_flight)
        sending: deque[_Active] = deque()
        while True:
            while len(self._open) < allowed and (sending or waiting):
                if not sending:
                    entry = _Active(waiting.popleft(), self._judge)
                    entry.begin()
                    active.append(entry)
                    sending.append(entry)
                self._send(sending[0])
                if not sending[0].has_request:
                    sending.popleft()
            if not self._open:
                return
            entry = self._take_answer(settle)
            if entry.judgement is not None:
                active.remove(entry)
                settle(entry.run, self._seconds.get(entry.run.id) or _result(entry.judgement))
            elif entry.has_request and entry not in sending:
                sending.appendleft(entry)

    def _send(self, active: _Active) -> None:
        assert self._testee is not None
        index, request = active.sent, active.next_request()
        if not self._open:
            self._progress = time.monotonic()
        self._open[self._next_id] = (active, index, request["op"])
        self._testee.send(write({"id": self._next_id, **request}))
        self._next_id += 1

    def _take_answer(self, settle: Callable[[Run, Result], None]) -> _Active:
        """Wait for an answer and return the run it belongs to. Raises _Breakdown."""
        assert self._testee is not None
        while True:
            event = self._next_event(self._progress + self.timeout)
            if event is None:
                if self._testee.has_half_a_line:
                    raise _Breakdown("harness-error", f"half a line, and nothing more for {self.timeout:g} s")
                raise _Breakdown("timeout", f"no answer for {self.timeout:g} s")
            if event.kind != "line":
                verdict: Verdict = "crash" if event.kind == "eof" else "harness-error"
                raise _Breakdown(verdict, self._ending(event))
            try:
                found = read_line(event.line)
                if self._is_second(found, settle):
                    continue
                if found["id"] not in self._open:
                    raise BadAnswer(f"an answer with the id {found['id']}, which nothing waits for")
                active, index, op = self._open[found["id"]]
                active.take(index, read_answer(found, op))
            except BadAnswer as error:
                raise _Breakdown("harness-error", str(error)) from error
            del self._open[found["id"]]
            self._answered[found["id"]] = active.run
            self._progress = time.monotonic()
            return active

    def _is_second(self, found: dict[str, Any], settle: Callable[[Run, Result], None]) -> bool:
        """Whether a request was answered before: its run is at fault, whatever came of it, and no other."""
        run = self._answered.get(found["id"])
        if run is None:
            return False
        self._seconds[run.id] = Result("harness-error", reason="a request was answered twice")
        settle(run, self._seconds[run.id])
        return True

    # ------------------------------------------------------------------------------------------ one alone

    def _ask_alone(
        self,
        suspects: Sequence[Run],
        broken: _Breakdown,
        settle: Callable[[Run, Result], None],
        status: int | None,
    ) -> None:
        """Ask each suspect once more, alone; settle all of them."""
        results: list[Result] = []
        for run in suspects:
            if stopped := self._too_many():
                results.append(Result("could-not-run", reason=stopped))
                continue
            results.append(self._alone(run))
        if not any(result.verdict in {"crash", "timeout", "harness-error", "could-not-run"} for result in results):
            ended = f" ({exit_text(status)})" if broken.verdict == "crash" else ""
            reason = f"{broken.verdict} once ({broken.reason}{ended}), and then, alone: {results[0].verdict}"
            results[0] = Result("flaky", results[0].judgement, reason)
            self._breakdowns += 1
        for run, result in zip(suspects, results, strict=True):
            settle(run, result)

    def _alone(self, run: Run) -> Result:
        active: deque[_Active] = deque()
        results: list[Result] = []
        try:
            self._ensure_started()
            self._exchange(deque([run]), active, lambda _, result: results.append(result))
        except _Breakdown as broken:
            testee = self._testee
            status = self.kill()
            self._open.clear()
            if broken.verdict == "timeout":
                self._timeouts += 1
            else:
                self._breakdowns += 1
            is_told = broken.verdict != "crash" or exit_text(status) in broken.reason
            ended = "" if is_told else f" ({exit_text(status)})"
            stderr = tuple(testee.stderr()) if testee else ()
            return Result(broken.verdict, reason=f"{broken.reason}{ended}", stderr=stderr)
        return results[0]

    def _too_many(self) -> str:
        """Say why nothing more is run, if so."""
        if self._gone:
            return self._gone
        if self._timeouts >= TIMEOUTS_MAX:
            return f"the testee hung in {self._timeouts} runs before"
        if self._breakdowns >= BREAKDOWNS_MAX:
            return f"the testee broke down in {self._breakdowns} runs before"
        return ""

    # ------------------------------------------------------------------------------------------ the process

    def _ensure_started(self) -> None:
        if self._testee is None:
            try:
                self.start()
            except (HelloFailed, StartFailed) as error:
                self._gone = f"the testee could not be started again: {error}"
                raise _Breakdown("harness-error", f"after a restart: {error}") from error

    def _next_event(self, until: float) -> Event | None:
        """Return the next event of the process that runs now; None at ``until``."""
        while True:
            try:
                event = self._events.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return None
            if event.generation == self.restarts:
                return event

    def _ending(self, event: Event) -> str:
        """Say how the testee's output ended."""
        if event.kind == "huge-answer":
            return "a line longer than any answer"
        if event.kind == "half-line":
            return f"its output ends with half a line: {shown(event.line)}"
        status = self._testee.wait(1.0) if self._testee else None
        return f"its output has ended, {exit_text(status)}"

    def _finish(self, settle: Callable[[Run, Result], None]) -> None:
        """Close the testee's stdin, and see that it ends without another word."""
        if self._testee is None:
            return
        self._testee.close_input()
        until = time.monotonic() + CLOSE_SECONDS
        while (event := self._next_event(until)) is not None and event.kind == "line":
            try:
                if self._is_second(read_line(event.line), settle):
                    continue
            except BadAnswer:
                pass  # told below, as any line that answers nothing
            self.problems.append(f"a line that answers nothing, after the last request: {shown(event.line)}")
            break
        if event is None:
            self.problems.append(f"the testee still runs {CLOSE_SECONDS:g} s after its stdin was closed")
        elif event.kind == "eof":
            status = self._testee.wait(CLOSE_SECONDS)
            if status != 0:
                self.problems.append(f"after its stdin was closed: {exit_text(status)}")
        elif event.kind != "line":
            self.problems.append(self._ending(event))
        self.kill()


def _result(judgement: Judgement) -> Result:
    verdict: Verdict = {0: "pass", 1: "nonstrict", 2: "fail"}[RANK[judgement.verdict]]  # type: ignore[assignment]
    return Result(verdict, judgement, judgement.message)


def sum_up(case: Case, runs: Sequence[Run], results: Sequence[Result]) -> CaseResult:
    """Return what came of a case of which all runs are done."""
    verdicts = {result.verdict for result in results}
    verdict = next(verdict for verdict in WORST_FIRST if verdict in verdicts)
    of_verdict = [index for index, result in enumerate(results) if result.verdict == verdict]
    # Where nothing is judged all runs pass, and that is shown of which there is something to say.
    index = next((index for index in of_verdict if results[index].judgement.message), of_verdict[0])
    worst, run = results[index], runs[index]
    if case.role == "framer" and case.level != "INFO" and verdict in {"pass", "nonstrict"}:
        unlike = differing([result.judgement for result in results], runs)
        if unlike:
            return CaseResult(case, "fail", len(runs), "", unlike, unlike.message, run)
    return CaseResult(case, verdict, len(runs), run.variant, worst.judgement, worst.reason, run, worst.stderr)
