"""Emitters that behave unusually, and as the specification allows: none of them may fail a case."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from swapped import Edit, swapping
from tools import Mutation

Json = dict[str, Any]

EDITS: dict[str, tuple[Edit, ...]] = {
    "emitter-batches-for-a-second": (("sender/link.py", "self._clock() + linger\n", "self._clock() + 1.0\n"),),
    "emitter-hardly-batches": (("sender/link.py", "self._clock() + linger\n", "self._clock() + 0.001\n"),),
    "emitter-longest-pauses": (("session/backoff.py", "return ceiling * random +",
    "return ceiling * (0.5 + random / 2) +"),),
    "emitter-asks-for-an-hour-at-most": (("session/backoff.py", "return min(float(seconds), RETRY_AFTER_MAX)",
    "return float(seconds)"),),
    "emitter-pings-often": (("session/_connection.py", "max(self._heard_at, self._pinged_at) + self._ping_after",
    "max(self._heard_at, self._pinged_at) + 3"),),
    "emitter-waits-less-at-the-end": (("emitter/ending.py", "    if not delivery.connections:\n", "    if True:\n"),),
    "emitter-waits-long-for-known-peers": (("sender/shipper.py", "hello_timeout=0.0 if plain else seconds",
    "hello_timeout=0.0 if plain else 20.0 if known else seconds"),),
    # Members backwards, with white space: ENV-7 says SHOULD. A window of bytes counts what is written.
    "emitter-writes-unusually": (("wire/codec.py", """ and codec == "json":
        try:
            payload = encode_json(envelope)
""", """ and codec == "json":
        try:
            import json
            tree = json.loads(encode_json(envelope))
            payload = json.dumps(dict(reversed(tree.items())), ensure_ascii=False).encode()
"""), ("wire/codec.py", """    if codec == "json":
        try:
            payload = encode_json(envelope)
""", """    if codec == "json":
        try:
            import json
            tree = json.loads(encode_json(envelope))
            payload = json.dumps(dict(reversed(tree.items())), ensure_ascii=False).encode()
""")),
}  # fmt: skip


def telling(change: Callable[[Json], None]) -> Mutation:
    """Make a variant whose answers are told in another way."""

    def mutate(module: ModuleType) -> None:
        original = module.Testee.answer

        def answer(self: Any, request: Json) -> Json:
            found: Json = original(self, request)
            if request["op"].startswith("emit.") and "written" in found.get("ok", {}):
                change(found["ok"])
            return found

        module.Testee.answer = answer

    return mutate


def tell_no_counts(ok: Json) -> None:
    """Tell nothing that needn't be told."""
    ok["counts"] = dict.fromkeys(ok["counts"])
    ok.pop("value", None)


VARIANTS: dict[str, Mutation] = {name: swapping(name, edits) for name, edits in EDITS.items()} | {
    "emitter-tells-no-counts": telling(tell_no_counts),
}
"""The variants by name."""
