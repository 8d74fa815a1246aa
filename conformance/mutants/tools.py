"""What mutants are made of: ways to change one behaviour of the reference's testee.

A mutant is a function that patches a fresh copy of the testee's module. It must not break down: a crash kills nobody.
Those that are made here leave MessagePack alone; ``messagepack.py`` has its own.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

Json = dict[str, Any]
Mutation = Callable[[ModuleType], None]

TESTEE = Path(__file__).parents[1] / "testees" / "python" / "testee.py"


def load_testee() -> ModuleType:
    """Return the module of the reference's testee, fresh, so that a patch touches nothing else."""
    if str(TESTEE.parent) not in sys.path:
        sys.path.append(str(TESTEE.parent))  # for the modules beside it
    spec = importlib.util.spec_from_file_location("xtrack_conformance_testee", TESTEE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def decoding(change: Callable[[Callable[[bytes, str], Json], bytes, str, ModuleType], Json]) -> Mutation:
    """Make a mutant whose answer to a payload is ``change(decode, payload, reader, module)``."""

    def mutate(module: ModuleType) -> None:
        original = module.Testee.decode

        def decode(self: Any, request: Json) -> Json:
            if "codec" in request:
                return dict(original(self, request))

            def honest(payload: bytes, reader: str) -> Json:
                text = base64.b64encode(payload).decode()
                answer: Json = original(self, {"payload": text, "reader": reader})
                return answer

            return change(honest, base64.b64decode(request["payload"]), request["reader"], module)

        module.Testee.decode = decode

    return mutate


def misreads(change: Callable[[bytes], bytes]) -> Mutation:
    """Make a mutant that reads other bytes than came, where it would refuse those that came."""

    def read(honest: Any, payload: bytes, reader: str, _module: ModuleType) -> Json:
        answer: Json = honest(payload, reader)
        return honest(change(payload), reader) if "rejected" in answer else answer

    return decoding(read)


def always_misreads(change: Callable[[bytes], bytes]) -> Mutation:
    """Make a mutant that reads other bytes than came."""
    return decoding(lambda honest, payload, reader, _: honest(change(payload), reader))


def takes(applies: Callable[[Any], bool], *classes: str) -> Mutation:
    """Make a mutant that accepts what it should refuse with one of ``classes``, where ``applies`` to the JSON."""

    def read(honest: Any, payload: bytes, reader: str, module: ModuleType) -> Json:
        answer: Json = honest(payload, reader)
        if answer.get("rejected", {}).get("class") not in classes:
            return answer
        try:
            tree = json.loads(payload)
        except (ValueError, RecursionError):
            return answer
        return {"event": module.to_tagged(tree)} if applies(tree) else answer

    return decoding(read)


def refuses(applies: Callable[[Json], bool], class_: str = "bad_value") -> Mutation:
    """Make a mutant that refuses events to which ``applies``."""

    def read(honest: Any, payload: bytes, reader: str, module: ModuleType) -> Json:
        answer: Json = honest(payload, reader)
        if "event" in answer and applies(module.from_tagged(answer["event"])):
            return refusal(class_)
        return answer

    return decoding(read)


def refuses_text(applies: Callable[[bytes], bool], class_: str) -> Mutation:
    """Make a mutant that refuses payloads to whose bytes ``applies``."""
    return decoding(lambda honest, payload, reader, _: refusal(class_) if applies(payload) else honest(payload, reader))


def distorts(change: Callable[[Json], Any]) -> Mutation:
    """Make a mutant that hands on another event than it read; ``change`` may work in place and return nothing."""

    def read(honest: Any, payload: bytes, reader: str, module: ModuleType) -> Json:
        answer: Json = honest(payload, reader)
        if "event" not in answer:
            return answer
        event = module.from_tagged(answer["event"])
        changed = change(event)
        return {"event": module.to_tagged(event if changed is None else changed)}

    return decoding(read)


def refusal(class_: str) -> Json:
    """Return a refusal."""
    return {"rejected": {"class": class_, "fatal": False}}


def everywhere(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a function that changes each leaf of a value."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: walk(item) for name, item in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        return change(value)

    return walk


def member(tree: Any, *path: str) -> Any:
    """Return what stands at a path of a tree; None where nothing does."""
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def writing(change: Callable[[bytes, Json], bytes]) -> Mutation:
    """Make a mutant that writes other payloads: ``change`` has the payload and the event."""

    def mutate(module: ModuleType) -> None:
        original = module.Testee.encode

        def encode(self: Any, request: Json) -> Json:
            answer: Json = original(self, request)
            if "frame" not in answer or "codec" in request:
                return answer
            payload = change(base64.b64decode(answer["frame"])[4:], module.from_tagged(request["event"]))
            return {"frame": module.to_base64(len(payload).to_bytes(4, "big") + payload)}

        module.Testee.encode = encode

    return mutate


def writes_anyway(text_of: Callable[[Json], str | None]) -> Mutation:
    """Make a mutant that writes ``text_of`` an event, where that gives a text, instead of refusing it."""

    def mutate(module: ModuleType) -> None:
        original = module.Testee.encode

        def encode(self: Any, request: Json) -> Json:
            text = None if "codec" in request else text_of(module.from_tagged(request["event"]))
            if text is None:
                answer: Json = original(self, request)
                return answer
            payload = text.encode("utf-8", "surrogatepass")
            return {"frame": module.to_base64(len(payload).to_bytes(4, "big") + payload)}

        module.Testee.encode = encode

    return mutate


def refuses_to_write(applies: Callable[[Json], bool]) -> Mutation:
    """Make a mutant that refuses events to which ``applies`` instead of writing them."""

    def mutate(module: ModuleType) -> None:
        original = module.Testee.encode

        def encode(self: Any, request: Json) -> Json:
            if "codec" not in request and applies(module.from_tagged(request["event"])):
                return {"rejected": {}}
            answer: Json = original(self, request)
            return answer

        module.Testee.encode = encode

    return mutate


def dump(value: Any) -> str:
    """Return compact JSON, with bare tokens and whatever else Python lets through."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def framing(change: Callable[[type], type]) -> Mutation:
    """Make a mutant whose sessions are of another class."""

    def mutate(module: ModuleType) -> None:
        module.Session = change(module.Session)

    return mutate
