"""Makes other bytes out of valid ones."""

from __future__ import annotations

import random
from collections.abc import Sequence

from fuzz.corpus import WORDS, length

SIZE_MAX = 1 << 16
"""Bytes of an input: growth by copying ends here."""


def mutate(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Return a member of ``corpus``, changed a few times in ways that readers don't expect."""
    data = bytearray(rng.choice(corpus))
    for _ in range(1 << rng.randrange(4)):
        _WAYS[rng.randrange(len(_WAYS))](rng, data, corpus)
    del data[SIZE_MAX:]
    return bytes(data)


def _flip(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice(b'\x00\x01\x7f\x80\xff{}[]",:\\0123456789-.eE \n')


def _delete(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + 1 + int(rng.expovariate(0.1))]


def _truncate(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _repeat(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    piece = data[at : at + 1 + int(rng.expovariate(0.02))]
    data[at:at] = piece * rng.choice((1, 1, 2, 10, 100))


def _move(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    piece = data[at : at + 1 + int(rng.expovariate(0.02))]
    del data[at : at + len(piece)]
    to = rng.randrange(len(data) + 1)
    data[to:to] = piece


def _insert_word(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(WORDS)


def _replace_by_word(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    word, at = rng.choice(WORDS), rng.randrange(len(data) + 1)
    data[at : at + len(word)] = word


def _replace_value(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    """Put a word where a value of JSON stands: between a colon and what follows."""
    colon = data.find(b":", rng.randrange(len(data) + 1))
    if colon >= 0:
        ends = [end for end in (data.find(mark, colon) for mark in (b",", b"}")) if end > 0]
        data[colon + 1 : min(ends, default=colon + 1)] = rng.choice(WORDS)


def _splice(rng: random.Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    other = rng.choice(corpus)
    data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]


def _noise(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.randrange(1, 40))


def _mend_length(_rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    """Make the first frame's length right, so that what is inside gets read."""
    if len(data) > 4:
        data[:4] = length(len(data) - 4)


def _mend_lengths(rng: random.Random, data: bytearray, corpus: Sequence[bytes]) -> None:
    """Change the inside of one frame of a stream, and keep all lengths right."""
    frames, at = [], 0
    while at + 4 <= len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            break
        frames.append((at, end))
        at = end
    if frames:
        at, end = rng.choice(frames)
        inside = data[at + 4 : end]
        for _ in range(rng.randrange(1, 3)):
            _INSIDE[rng.randrange(len(_INSIDE))](rng, inside, corpus)
        data[at:end] = length(len(inside)) + inside


def _shuffle_frames(rng: random.Random, data: bytearray, _corpus: Sequence[bytes]) -> None:
    """Put the frames of a stream in another order."""
    frames, at = [], 0
    while at + 4 <= len(data) and len(frames) < 200:
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            break
        frames.append(bytes(data[at:end]))
        at = end
    rng.shuffle(frames)
    data[:at] = b"".join(frames)


_INSIDE = (_flip, _set, _delete, _repeat, _insert_word, _replace_by_word, _replace_value, _replace_value)
_WAYS = (
    *_INSIDE,
    _truncate,
    _move,
    _splice,
    _noise,
    _mend_length,
    _mend_lengths,
    _mend_lengths,
    _mend_lengths,
    _shuffle_frames,
)
