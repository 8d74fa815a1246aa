"""One request after the other, answered at once: what a search needs that goes by the answers."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from typing import Any

from xtrack_conformance.process import Event, Testee, exit_text
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
from xtrack_conformance.runner import HELLO_SECONDS, HelloFailed
from xtrack_conformance.values import shown


class Broken(Exception):
    """The testee crashed, hung, broke the testee protocol, or reports an internal error: says which."""


class Asker:
    """A testee that is asked, and started again when it broke down.

    ``timeout``: seconds for an answer. ``log``: requests and answers since it was emptied, for a finding.
    """

    def __init__(self, command: Sequence[str], timeout: float) -> None:
        self.command = list(command)
        self.timeout = timeout
        self.log: list[dict[str, Any]] = []
        self._events: queue.Queue[Event] = queue.Queue()
        self._testee: Testee | None = None
        self._generation = -1
        self._next_id = 1
        self.hello = self._start()

    def ask(self, request: Request) -> Answer:
        """Return the answer to a request. Raises Broken."""
        return self.ask_all([request])[0]

    def ask_all(self, requests: Sequence[Request]) -> list[Answer]:
        """Return the answers to requests, as many of them under way as the testee allows. Raises Broken."""
        if self._testee is None:
            try:
                self._start()
            except HelloFailed as error:
                raise Broken(f"it could not be started again: {error}") from error
        answers: dict[int, Answer] = {}
        first, logged = self._next_id, len(self.log)
        try:
            for index, request in enumerate(requests):
                self.log.append(dict(request))
                self._send({"id": first + index, **request})
                while index + 1 - len(answers) >= self.hello.max_in_flight:
                    self._take(answers, requests, first, logged)
            while len(answers) < len(requests):
                self._take(answers, requests, first, logged)
        except Broken:
            self.close()
            raise
        finally:
            self._next_id = first + len(requests)
        return [answers[first + index] for index in range(len(requests))]

    @property
    def is_running(self) -> bool:
        """Whether it has not broken down since it was last started."""
        return self._testee is not None

    def close(self) -> None:
        """End the testee."""
        testee, self._testee = self._testee, None
        if testee:
            testee.kill()

    def _start(self) -> Hello:
        self._generation += 1
        self._testee = Testee(self.command, self._events, self._generation)
        self._testee.send(write(hello_request()))
        try:
            return read_hello(read_line(self._line(HELLO_SECONDS)))
        except (Broken, BadAnswer) as error:
            stderr = self._testee.stderr()
            self.close()
            raise HelloFailed(str(error), stderr) from error

    def _send(self, request: Request) -> None:
        assert self._testee is not None
        self._testee.send(write(request))

    def _take(self, answers: dict[int, Answer], requests: Sequence[Request], first: int, logged: int) -> None:
        line = self._line(self.timeout)
        try:
            found = read_line(line)
            index = found["id"] - first
            if not 0 <= index < len(requests) or found["id"] in answers:
                raise BadAnswer(f"an answer with the id {found['id']}, which nothing waits for")
            answer = read_answer(found, requests[index]["op"])
        except BadAnswer as error:
            raise Broken(f"harness-error: {error}") from error
        self.log[logged + index]["answer"] = {name: value for name, value in found.items() if name != "id"}
        if answer.internal_error is not None:
            raise Broken(f"internal error: {answer.internal_error}")
        answers[found["id"]] = answer

    def _line(self, seconds: float) -> bytes:
        until = time.monotonic() + seconds
        while True:
            try:
                event = self._events.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise Broken(f"timeout: no answer for {seconds:g} s") from None
            if event.generation != self._generation:
                continue
            if event.kind == "line":
                return event.line
            status = self._testee.wait(1.0) if self._testee else None
            raise Broken(f"crash: its output has ended ({event.kind}: {shown(event.line)}), {exit_text(status)}")
