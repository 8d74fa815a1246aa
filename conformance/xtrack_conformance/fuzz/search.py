"""A search by Hypothesis: for so many examples, or for so long; what it finds is shrunk. The seed makes it the same."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

import attrs
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from xtrack_conformance.fuzz.asking import Asker
from xtrack_conformance.fuzz.codec import Codec
from xtrack_conformance.fuzz.edits import as_payload, edited_events, with_less
from xtrack_conformance.fuzz.findings import Finding, Found
from xtrack_conformance.fuzz.machines import MACHINES
from xtrack_conformance.fuzz.strategies import EVENTS_WRITTEN, Pairs, payloads, streams

EDITED: Final = tuple(map(as_payload, edited_events()))

BATCH = 200
"""Examples before the time is looked at."""

MACHINE_SHARE: Final = 10
"""Of so many examples one is tried of a role with a memory, which takes as many steps."""

EDITS: Final = "edits"
"""What is no search: a list, which is tried once, whole."""

Trial = Callable[[int, int], None]
"""Tries so many examples with a seed. Raises Found."""


def trials(asker: Asker, other: Asker | None, roles: Sequence[str]) -> Iterator[tuple[str, Trial]]:
    """Yield what can be tried of the roles: a name, and the trial. ``other``: for what two testees are compared by."""
    codec = Codec(asker, other)
    if "decoder" in roles:
        yield EDITS, _sweep(asker, codec)
        yield "payloads", _trial(asker, payloads(), codec.payload)
    if "encoder" in roles:
        yield "events", _trial(asker, EVENTS_WRITTEN, codec.event)
    if "framer" in roles:
        sources = [
            source for source in ("connection", "recording") if source in {"connection", *asker.hello.capabilities}
        ]
        for source in sources:
            yield f"{source}s", _trial(asker, streams(), partial(_stream, codec, source))
    for role, machine in MACHINES.items():
        if role in roles:
            yield f"{role}s", _machine_trial(machine, asker)


def _stream(codec: Codec, source: str, item: tuple[bytes, list[int]]) -> None:
    codec.stream(item[0], source, item[1])


_OF_MACHINES: Final = frozenset(f"{role}s" for role in MACHINES)


def search(
    chosen: Sequence[tuple[str, Trial]], seed: int, *, examples: int | None, seconds: float
) -> Iterator[tuple[str, int, Finding | None]]:
    """Try everything in turn; yield, of each trial that found something, its name, how many were tried, and what.

    ``examples``: of each; None: until ``seconds`` are over. At the end each is yielded with its count, and None.
    """
    until = time.monotonic() + seconds
    tried = dict.fromkeys((name for name, _ in chosen), 0)
    waiting = list(chosen)
    step = 0
    while waiting:
        for name, trial in list(waiting):
            most = BATCH // MACHINE_SHARE if name in _OF_MACHINES else BATCH
            count = most if examples is None else min(most, examples - tried[name])
            if name == EDITS:
                count = 0 if step else len(EDITED)
            if count <= 0 or (examples is None and step and time.monotonic() >= until):
                waiting.remove((name, trial))
                continue
            tried[name] += count
            try:
                trial(seed + step, count)
            except Found as found:
                waiting.remove((name, trial))
                yield name, tried[name], found.finding
        step += 1
    for name, _ in chosen:
        yield name, tried[name], None


def _settings(count: int) -> settings:
    return settings(
        max_examples=count,
        stateful_step_count=30,
        deadline=None,
        database=None,
        verbosity=Verbosity.quiet,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


def _trial(asker: Asker, inputs: st.SearchStrategy[Any], check: Callable[[Any], None]) -> Trial:
    def trial(seed: int, count: int) -> None:
        last: list[Found] = []

        def one(item: Any) -> None:
            try:
                check(item)
            except Found as found:
                steps = json.loads(json.dumps(asker.log))  # a copy: the next example empties it
                last[:] = [Found(attrs.evolve(found.finding, steps=steps))]
                raise last[0] from None

        _told(seed, last, seeded(seed)(_settings(count)(given(inputs)(one))))

    return trial


def _machine_trial(machine: Any, asker: Asker) -> Trial:
    def trial(seed: int, count: int) -> None:
        last: list[Found] = []
        bound = type(machine.__name__, (machine,), {"asker": asker, "last": last})
        bound = seeded(seed)(bound)
        _told(seed, last, lambda: run_state_machine_as_test(bound, settings=_settings(count)))

    return trial


def _sweep(asker: Asker, codec: Codec) -> Trial:
    def look(payload: bytes) -> Finding | None:
        try:
            codec.payload(payload)
        except Found as found:
            return attrs.evolve(found.finding, steps=list(asker.log))
        return None

    def trial(seed: int, _: int) -> None:
        for number, payload in enumerate(EDITED):
            if finding := look(payload):
                smallest = _shrunk(next(islice(edited_events(), number, None)), finding, look)
                raise Found(attrs.evolve(smallest, seed=seed))

    return trial


def _shrunk(event: Pairs, finding: Finding, look: Callable[[bytes], Finding | None]) -> Finding:
    """Return what is found still when all is left out that can be."""
    for smaller in with_less(event):
        less = look(as_payload(smaller))
        if less and less.rule == finding.rule:
            return _shrunk(smaller, less, look)
    return finding


def _told(seed: int, last: list[Found], run: Callable[[], None]) -> None:
    """Run a search; a finding gets its seed, and one that doesn't come again says so."""
    try:
        run()
    except Found as found:
        raise Found(attrs.evolve(found.finding, seed=seed)) from None
    except Flaky:
        if not last:
            raise
        message = f"{last[0].finding.message} (once, and not again: flaky)"
        raise Found(attrs.evolve(last[0].finding, seed=seed, message=message)) from None
