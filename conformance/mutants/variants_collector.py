"""Legal but unusual collectors: all that docs/reference/testee-collector.md leaves open, told in another way."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from tools import Json, Mutation

ANSWERS = ("run", "points", "steps")
LISTS = ("streams", "logs", "artifacts", "checkpoints")
FREE = ("params", "tags", "summary", "final")


def telling(change: Callable[[str, Any], Any]) -> Mutation:
    """Make a variant that tells ``change(name, value)`` where the reference tells the value of ``name``."""

    def mutate(module: ModuleType) -> None:
        module.HELLO = {**module.HELLO, "roles": ["collector"]}
        original = module.Testee.answer

        def answer(self: Any, request: Json) -> Json:
            found: Json = original(self, request)
            for name in ANSWERS:
                if name in found.get("ok", {}):
                    value = change(name, module.from_tagged(found["ok"][name]))
                    found = {"ok": {**found["ok"], name: module.to_tagged(value)}}
            return found

        module.Testee.answer = answer

    return mutate


def _backwards(name: str, value: Any) -> Any:
    """Lists without an order, and members of objects, the other way round."""
    if name != "run":
        return [dict(reversed(entry.items())) for entry in value]
    state = {key: value[key][::-1] if key in LISTS else value[key] for key in reversed(value)}
    return state | {key: dict(reversed(state[key].items())) for key in FREE}


def _terse(name: str, value: Any) -> Any:
    """Leave out all that says nothing."""
    if name != "run":
        return [_without(entry) for entry in value]
    state = {key: [_without(one) for one in value[key]] if key in LISTS else value[key] for key in value}
    return _without({key: _without(item) if key in {"source", "env"} and item else item for key, item in state.items()})


def _without(entry: Json) -> Json:
    return {key: item for key, item in entry.items() if item is not None and item is not False and item not in ([], {})}


def _as_floats(_name: str, value: Any) -> Any:
    """Tell integers as floats, where they are one."""
    if isinstance(value, dict):
        return {key: _as_floats("", item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_floats("", item) for item in value]
    return float(value) if type(value) is int and abs(value) <= 2**53 else value


def _as_integers(_name: str, value: Any) -> Any:
    """Tell floats as integers, where they are one."""
    if isinstance(value, dict):
        return {key: _as_integers("", item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_integers("", item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _talkative(name: str, value: Any) -> Any:
    """Tell more than is asked for."""
    if name != "run":
        return [{**entry, "workers": 3, "p": {"run_id": {"id": "a"}}} for entry in value]
    state = {**value, "run_id": {"id": "a"}, "alerts": [], "world_size": 4, "color": "red"}
    state["tags"] = {"xtrack.name": "n", "xtrack.note": "n", **value["tags"]}
    state["series"] = {
        "all of it hidden": {"count": 0, "last": None},
        **{key: {**one, "nan": 7, "tail": [1]} for key, one in value["series"].items()},
    }
    for key in LISTS:
        state[key] = [{**one, "color": "red", "votes": True} for one in value[key]]
    return state


def _hidden_last(name: str, value: Any) -> Any:
    """Tell hidden points behind all others, the last one first."""
    if name != "points":
        return value
    hidden = [point for point in value if point.get("hidden")]
    return [point for point in value if not point.get("hidden")] + hidden[::-1]


VARIANTS: dict[str, Mutation] = {
    "collector-backwards": telling(_backwards),
    "collector-terse": telling(_terse),
    "collector-all-floats": telling(_as_floats),
    "collector-all-integers": telling(_as_integers),
    "collector-talkative": telling(_talkative),
    "collector-hidden-points-last": telling(_hidden_last),
}
