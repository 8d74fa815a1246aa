"""A world with a clock of its own, in which real threads take turns: time passes when the main thread says so.

Each thread runs until it waits for something. So whatever the emitter does with threads and time-outs is done in an
order that is the same each time, and is complete when ``settle`` returns.
"""

from __future__ import annotations

import math
import select
import threading
from collections.abc import Callable
from typing import Any

from xtrack_protocol.sender.wake import Pollable, Wake

STUCK_SECONDS = 20.0
"""Real seconds after which a thread that neither waits nor ends is an error of the testee."""


class Waiter:
    """A thread that waits until ``due``, or until ``ready()``."""

    def __init__(self, due: float, ready: Callable[[], bool]) -> None:
        self.due = due
        self.ready = ready
        self.turn = threading.Event()


class World:
    """Its clock, in seconds, and its threads. The main thread's alone are ``settle`` and ``advance``."""

    def __init__(self) -> None:
        self.now = 0.0
        self._guard = threading.Condition()
        self._waiters: list[Waiter] = []
        self._running = 0

    def clock(self) -> float:
        """Return what the clock shows."""
        return self.now

    # ------------------------------------------------------------------------------------------ its threads

    def wait(self, seconds: float, ready: Callable[[], bool]) -> bool:
        """Wait until ``ready()``, but no longer than ``seconds``; return whether it is."""
        if not ready() and seconds > 0:
            self._give_turn(Waiter(self.now + seconds, ready))
        return ready()

    def enter(self) -> None:
        """Wait for the first turn."""
        self._give_turn(Waiter(self.now, lambda: True))

    def _give_turn(self, waiter: Waiter) -> None:
        with self._guard:
            self._waiters.append(waiter)
            self._running -= 1
            self._guard.notify_all()
        waiter.turn.wait()

    def begin(self) -> None:
        """Count a thread that is about to start; it waits for its turn first."""
        with self._guard:
            self._running += 1

    def end(self) -> None:
        """Count a thread that ends."""
        with self._guard:
            self._running -= 1
            self._guard.notify_all()

    # ------------------------------------------------------------------------------------------ the main thread

    def settle(self) -> None:
        """Let every thread do what it can do now."""
        while True:
            with self._guard:
                if not self._guard.wait_for(lambda: self._running == 0, STUCK_SECONDS):
                    raise RuntimeError("a thread of the emitter is stuck")
                waiter = next((one for one in self._waiters if one.due <= self.now or one.ready()), None)
                if waiter is None:
                    return
                self._waiters.remove(waiter)
                self._running += 1
            waiter.turn.set()

    def advance(self, now: float) -> None:
        """Let time pass until ``now``, and each thread do what is due on the way."""
        self.settle()
        while self._waiters and (due := min(waiter.due for waiter in self._waiters)) <= now:
            self.now = max(self.now, due)
            self.settle()
        self.now = max(self.now, now)

    # ------------------------------------------------------------------------------------------ what threads use

    def thread(self, target: Callable[[], None], **options: Any) -> threading.Thread:
        """Return a thread of this world."""
        return _Thread(self, target, options)

    def condition(self) -> Any:
        """Return a condition whose waits take this world's time."""
        return _Condition(self)

    def wake(self) -> Wake:
        """Return what the sender waits with."""
        return _Wake(self)


class _Thread(threading.Thread):
    def __init__(self, world: World, target: Callable[[], None], options: dict[str, Any]) -> None:
        super().__init__(target=target, **options)
        self._world = world
        self.is_over = False

    def start(self) -> None:
        self._world.begin()
        super().start()

    def run(self) -> None:
        try:
            self._world.enter()
            super().run()
        finally:
            self.is_over = True
            self._world.end()

    def join(self, timeout: float | None = None) -> None:
        """Wait in this world's time."""
        self._world.wait(1e9 if timeout is None else timeout, lambda: self.is_over)

    def is_alive(self) -> bool:
        return not self.is_over and super().is_alive()


class _Condition:
    """A condition of threads that take turns: no lock is needed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._told = 0

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        return None

    def notify_all(self) -> None:
        """Wake whoever waits."""
        self._told += 1

    notify = notify_all

    def wait(self, timeout: float) -> bool:
        """Wait until somebody notifies."""
        before = self._told
        return self._world.wait(timeout, lambda: self._told > before)


class _Wake(Wake):
    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def wait(self, seconds: float, channel: Pollable | None = None, events: int = 0) -> None:
        def ready() -> bool:
            return self._is_set or (channel is not None and is_ready(channel, events))

        self._world.wait(math.ceil(seconds * 1000) / 1000, ready)  # in whole milliseconds, as the real one
        self._is_set = False


def is_ready(channel: Pollable, events: int) -> bool:
    """Whether a socket can be read or written, as ``events`` asks."""
    if not events or channel.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(channel, events)
    return bool(poll.poll(0))
