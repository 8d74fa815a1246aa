"""Mutants of the framer that look for the next frame of a damaged recording otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools import Mutation

from xtrack_protocol.errors import DecodeError
from xtrack_protocol.wire import decode


def _salvaging(subclass: Callable[[Any], type]) -> Mutation:
    """Make a mutant that looks for frames otherwise."""

    def mutate(module: Any) -> None:
        module.SalvageDecoder = subclass(module.SalvageDecoder)

    return mutate


def _seeming(applies: Callable[[bytes], bool]) -> Mutation:
    """Make a mutant to whom a frame seems to begin where ``applies`` to what follows a bad one."""

    def subclass(base: Any) -> type:
        class Decoder(base):  # type: ignore[misc]
            def _is_frame_start(self, data: bytes, position: int, at_end: bool) -> bool | None:
                found: bool | None = super()._is_frame_start(data, position, at_end)
                return True if applies(data[position:]) else found

        return Decoder

    return _salvaging(subclass)


def _implausible(applies: Callable[[bytes], bool]) -> Mutation:
    """Make a mutant to whom a frame that it has found by searching is none where ``applies`` to its payload."""

    def subclass(base: Any) -> type:
        class Decoder(base):  # type: ignore[misc]
            def _is_whole_frame(self, data: bytes, position: int, at_end: bool) -> str:
                found: str = super()._is_whole_frame(data, position, at_end)
                end = position + 4 + int.from_bytes(data[position : position + 4], "big")
                return "no" if found == "yes" and applies(data[position + 4 : end]) else found

        return Decoder

    return _salvaging(subclass)


def _is_no_event(payload: bytes) -> bool:
    try:
        decode(payload)
    except DecodeError:
        return True
    return False


MUTANTS: dict[str, Mutation] = {
    "arrays-seem-frames": _seeming(lambda rest: rest[4:5] == b"["),
    "four-bytes-seem-a-frame": _seeming(lambda rest: len(rest) == 4),
    "search-finds-no-white-space": _implausible(lambda payload: payload[:1] != b"{"),
    "search-finds-events-alone": _implausible(_is_no_event),
}
"""Where a frame begins."""
