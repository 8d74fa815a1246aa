"""Scripts of the role collector: what becomes of events, without a network.

docs/reference/testee-collector.md has the requests. The steps ``feed``, ``lost``, ``expect`` and ``delete`` tell
something, the others ask. What stands between two questions is a *block*: it is told as it stands, event by event, and
by a recording. The axis *order* tells the same block backwards, shuffled, and twice over, and the answers must be the
same (FLD-1).
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import attrs

from xtrack_conformance.judgement import NOTHING_FOUND, Judgement
from xtrack_conformance.protocol import BadAnswer, bytes_text
from xtrack_conformance.scripts.states import difference_of_list, difference_of_run, difference_of_set
from xtrack_conformance.values import BadValue, shown, untag

if TYPE_CHECKING:
    from xtrack_conformance.cases import Case
    from xtrack_conformance.scripts import Begin

Json = dict[str, Any]

TELLS: Final = ("feed", "lost", "expect", "delete")
ASKS: Final = ("run", "points", "aggregate")
STEPS: Final = (*TELLS, *ASKS)

SHUFFLES: Final = 4
"""Random orders in which a block is told."""

ONE_BY_ONE_MAX: Final = 40
"""Events of a block that are fed each by itself; of more, many at a time."""


@attrs.frozen
class Told:
    """Something that is told: an event of a source, or a step of another kind. ``stays``: not before those of its

    source that stay, too, because its session id is derived from what came before it (STR-2).
    """

    step: Json
    source: str = ""
    payload: bytes = b""
    stays: bool = False


def runs(case: Case, capabilities: frozenset[str]) -> list[tuple[str, Begin]]:
    """Return the variants of a case, and how the conversation of each begins."""
    variants: dict[str, Variant] = {"as told": Variant(), "one by one": Variant(alone=True)}
    if "order" in case.axes:
        variants["backwards"] = Variant(_backwards, alone=True)
        for number in range(1, SHUFFLES + 1):
            variants[f"shuffled {number}"] = Variant(_shuffle(f"{case.id} {number}"), alone=True)
        variants["twice"] = Variant(_twice)
        variants["twice, shuffled"] = Variant(lambda told: _twice(_shuffle(case.id)(told)), alone=True)
    if "recording" in capabilities:
        variants["recorded"] = Variant(kind="recording")
    return [(name, _begin(case, name, variant)) for name, variant in variants.items()]


@attrs.frozen
class Variant:
    """A way to tell a block. ``alone``: each event by itself."""

    arrange: Callable[[list[Told]], list[Told]] = lambda told: told
    alone: bool = False
    kind: str = "connection"


def _begin(case: Case, name: str, variant: Variant) -> Begin:
    return lambda: _converse(case, f"{case.id} {name}", variant)


def _converse(case: Case, session: str, variant: Variant) -> Generator[Json, Json, Judgement]:
    judgement = NOTHING_FOUND
    numbered = list(enumerate(case.script, 1))
    for tells, steps in groupby(numbered, key=lambda item: item[1]["do"] in TELLS):
        if tells:
            for request in _requests([step for _, step in steps], variant):
                yield {**request, "session": session}
            continue
        for number, step in steps:
            members: Json = {name: step[name] for name in ("run_id", "key") if name in step}
            answer = yield {"op": f"collect.{step['do']}", "session": session, **members}
            if problem := _problem(step, answer):
                about = ", ".join(shown(value) for value in members.values())
                clause = f" {step['clause']}" if "clause" in step else ""
                told = f"step {number} ({step['do']} of {about}){clause}: {problem[0]}"
                judgement = Judgement("fail", told, *problem[1:])
                break
        if judgement is not NOTHING_FOUND:
            break
    yield {"op": "collect.close", "session": session}
    return judgement


# ------------------------------------------------------------------------------------------ telling


def payload_of(entry: Json) -> bytes:
    """Return the payload that an entry of a step's ``events`` stands for: an event, or the ``text`` of one."""
    if "text" in entry:
        return str(entry["text"]).encode()
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()


def entries_of(step: Json) -> Iterator[Json]:
    """Yield the entries of a feed. ``{"each": [1, 3], "event": E}`` stands for several events: of each the seq is the

    number and the time a thousand more, and ``@`` in a text is the number.
    """
    for entry in step["events"]:
        if "each" not in entry:
            yield entry
            continue
        first, last = entry["each"]
        for number in range(first, last + 1):
            event = json.loads(json.dumps(entry["event"]).replace("@", str(number)))
            yield {**event, "m": {**event["m"], "seq": number, "ts": 1000 + number}}


def _told(steps: Sequence[Json]) -> list[Told]:
    told = []
    for step in steps:
        if step["do"] != "feed":
            told.append(Told(step))
            continue
        for entry in entries_of(step):
            meta = entry.get("m")
            named = isinstance(meta, dict) and bool(meta.get("sid"))
            told.append(Told(step, step.get("source", "x"), payload_of(entry), stays=not named))
    return told


def _requests(steps: Sequence[Json], variant: Variant) -> Iterator[Json]:
    """Yield the requests that tell a block."""
    told = variant.arrange(_told(steps))
    alone = variant.alone and len(told) <= ONE_BY_ONE_MAX
    fed: list[Told] = []
    for item in told:
        if fed and (alone or item.step["do"] != "feed" or item.source != fed[0].source or len(fed) >= ONE_BY_ONE_MAX):
            yield _feed(fed, variant)
            fed = []
        if item.step["do"] == "feed":
            fed.append(item)
        else:
            yield {"op": f"collect.{item.step['do']}", **{k: v for k, v in item.step.items() if k != "do"}}
    if fed:
        yield _feed(fed, variant)


def _feed(fed: Sequence[Told], variant: Variant) -> Json:
    frames = b"".join(len(item.payload).to_bytes(4, "big") + item.payload for item in fed)
    kind = fed[0].step.get("kind", variant.kind)
    return {"op": "collect.feed", "source": fed[0].source, "kind": kind, "frames": bytes_text(frames)}


def _backwards(told: list[Told]) -> list[Told]:
    return _with_those_that_stay(told, told[::-1])


def _shuffle(seed: str) -> Callable[[list[Told]], list[Told]]:
    def shuffle(told: list[Told]) -> list[Told]:
        mixed = list(told)
        random.Random(zlib.crc32(seed.encode())).shuffle(mixed)  # noqa: S311 - the same order each time
        return _with_those_that_stay(told, mixed)

    return shuffle


def _twice(told: list[Told]) -> list[Told]:
    """Tell all, and then again by another connection for each source, as a file is read again."""
    return told + [attrs.evolve(item, source=f"{item.source} again") for item in told]


def _with_those_that_stay(told: Sequence[Told], mixed: Sequence[Told]) -> list[Told]:
    """Put the events of a source that stay in order back into that order, in the places that they have got."""
    waiting = {
        source: iter([item for item in told if item.stays and item.source == source])
        for source in {item.source for item in told}
    }
    return [next(waiting[item.source]) if item.stays else item for item in mixed]


# ------------------------------------------------------------------------------------------ asking


def _problem(step: Json, answer: Json) -> tuple[str, str, str] | None:
    """Say what is wrong with an answer, what was expected and what came; None where nothing is. Raises BadAnswer."""
    unknown = answer.get("unknown", False)
    if not isinstance(unknown, bool):
        raise BadAnswer("unknown must be true or false")
    if unknown or step.get("unknown"):
        if unknown and step.get("unknown"):
            return None
        told = ("an unknown run", "a run that is known") if unknown else ("a run that is known", "an unknown run")
        return f"{told[0]}, expected {told[1]}", told[1], told[0]
    name = {"run": "run", "points": "points", "aggregate": "steps"}[step["do"]]
    try:
        got: Any = untag(answer.get(name), name)
    except BadValue as error:
        raise BadAnswer(str(error)) from error
    if step["do"] == "run":
        if not isinstance(got, dict):
            raise BadAnswer(f"run must be an object, not {shown(got)}")
        problem = difference_of_run(step["is"], got)
        return (problem, shown(step["is"], 800), shown(got, 800)) if problem else None
    if not isinstance(got, list) or not all(isinstance(entry, dict) for entry in got):
        raise BadAnswer(f"{name} must be a list of objects, not {shown(got)}")
    problem = difference_of_list(step["are"], [entry for entry in got if not entry.get("hidden")], name[:-1])
    if problem is None and "hidden" in step:
        problem = difference_of_set(step["hidden"], [entry for entry in got if entry.get("hidden")], "hidden")
    return (problem, shown(step["are"], 800), shown(got, 800)) if problem else None
