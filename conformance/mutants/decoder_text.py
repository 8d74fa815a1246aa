"""Mutants of the decoder that read text otherwise: its encoding, its pieces, its escapes."""

from __future__ import annotations

import base64
import itertools
import json
import re
import unicodedata
from typing import Any

from tools import Json, Mutation, always_misreads, decoding, misreads, refuses_text

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|"(?:[^"\\]|\\.)*\\?\Z|[\[\]{}:,]|[^\s\[\]{}:,"]+', re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_HIGH, _LOW = re.compile("u[dD][89abAB]"), re.compile("u[dD][c-fC-F]")


def _text(change: Any) -> Any:
    """Return a function that changes a payload as text."""

    def apply(payload: bytes) -> bytes:
        text: str = change(payload.decode("utf-8", "surrogateescape"))
        return text.encode("utf-8", "surrogateescape")

    return apply


def _tokens(change: Any) -> Mutation:
    """Make a mutant that reads the pieces of a text that it would refuse as ``change`` gives them."""
    return misreads(_text(lambda text: "".join(change(_TOKEN.findall(text)))))


def _in_strings(change: Any) -> Any:
    """Return a function that changes the strings of a text, with their quotes."""
    return _text(lambda text: _STRING.sub(lambda found: change(found[0]), text))


# ------------------------------------------------------------------------------------------ encoding


def _loose_utf8(applies: Any) -> Mutation:
    """Make a mutant that reads sequences of bytes to whose first byte and number ``applies``, as they add up."""

    def sequence(found: re.Match[bytes]) -> bytes:
        head, tail = found[0][0], found[0][1:]
        size = 2 if head < 0xE0 else 3 if head < 0xF0 else 4 if head < 0xF8 else 5
        code = head & (0x7F >> size)
        for byte in tail[: size - 1]:
            code = code << 6 | byte & 0x3F
        if len(tail) < size - 1 or not applies(size, code):
            return found[0]
        letter = b"\\u%04x" % code if code < 0x80 else b"?"
        return letter + tail[size - 1 :]

    return misreads(lambda payload: re.sub(rb"[\xc0-\xff][\x80-\xbf]+", sequence, payload))


def _handed_on(honest: Any, payload: bytes, reader: str, module: Any) -> Json:
    """Hand on, as it is, what begins as no text does."""
    if payload[:1].isspace() or 0x20 < payload[0] < 0x7F or payload[:1] == b"\xef":
        return dict(honest(payload, reader))
    return {"event": module.to_tagged({"t": "binary", "p": base64.b64encode(payload).decode()})}


def _off_by_one(*codes: int) -> Mutation:
    """Make a mutant that refuses characters at the ends of a range."""
    letters = [form for code in codes for form in (chr(code), f"\\u{code:04x}")]
    return refuses_text(lambda data: any(letter in data.decode("utf-8", "replace") for letter in letters), "bad_utf8")


# ------------------------------------------------------------------------------------------ pieces


def _is_value_end(piece: str) -> bool:
    return piece not in {"[", "{", ":", ","}


def _with_commas(pieces: list[str]) -> list[str]:
    """Take commas for white space: one stands where a value follows another, whatever the text has."""
    found: list[str] = []
    for piece in pieces:
        if piece == ",":
            continue
        if found and _is_value_end(found[-1]) and piece not in {"]", "}", ":"}:
            found.append(",")
        found.append(piece)
    return found


def _with_colons(pieces: list[str]) -> list[str]:
    """Take the colon between a name and an object for granted."""
    pairs = itertools.zip_longest(pieces, pieces[1:], fillvalue="")
    return [piece + ":" if piece[0] == '"' and following == "{" else piece for piece, following in pairs]


def _no_trailing_commas(pieces: list[str]) -> list[str]:
    pairs = itertools.zip_longest(pieces, pieces[1:], fillvalue="")
    return [piece for piece, following in pairs if not (piece == "," and following in {"]", "}"})]


def _matching(pieces: list[str]) -> list[str]:
    """Take either bracket for the end of whatever is open."""
    opened: list[str] = []
    found = []
    for piece in pieces:
        if piece in {"[", "{"}:
            opened.append("]" if piece == "[" else "}")
        found.append(opened.pop() if piece in {"]", "}"} and opened else piece)
    return found


def _quoted_names(pieces: list[str]) -> list[str]:
    pairs = itertools.zip_longest(pieces, pieces[1:], fillvalue="")
    return [f'"{piece}"' if following == ":" and piece[0] != '"' else piece for piece, following in pairs]


def _cut_deep(pieces: list[str]) -> list[str]:
    """Put null in place of what stands too deep."""
    found, level = [], 0
    for piece in pieces:
        level += piece in {"[", "{"}
        if level <= 64:
            found.append(piece)
        elif level == 65 and piece in {"[", "{"}:
            found.append("null")
        level -= piece in {"]", "}"}
    return found


def _words(words: dict[str, str]) -> Mutation:
    """Make a mutant that takes bare words for others."""
    return _tokens(lambda pieces: [words.get(piece, piece) for piece in pieces])


def _by_first_letter(pieces: list[str]) -> list[str]:
    """Tell bare words by their first letters."""
    words = {"t": "true", "f": "false", "n": "null"}
    return [words.get(piece[0], piece) for piece in pieces]


def _is_open(text: str) -> bool:
    """Say whether a text ends where something must follow."""
    pieces = _TOKEN.findall(text)
    levels = sum(piece in {"[", "{"} for piece in pieces) - sum(piece in {"]", "}"} for piece in pieces)
    last = pieces[-1] if pieces else ""
    return not pieces or levels > 0 or last == "-" or (last[0] == '"' and not _STRING.fullmatch(last))


def _so_far(honest: Any, payload: bytes, reader: str, module: Any) -> Json:
    """Hand on the members that were read when the text ended."""
    answer: Json = honest(payload, reader)
    text = payload.decode("utf-8", "replace")
    if "rejected" not in answer or not _is_open(text):
        return answer
    event: Json = {}
    pair = re.compile(r'[{,]\s*"(\w+)"\s*:')
    at = pair.match(text)
    while at:
        try:
            event[at[1]], end = json.JSONDecoder().raw_decode(text, at.end())
        except (ValueError, RecursionError):
            break
        at = pair.match(text, end)
    return {"event": module.to_tagged(event)}


def _first_text(text: str) -> str:
    """Return the first JSON text of several."""
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return text
    return text[:end]


def _joined_strings(payload: bytes) -> bytes:
    """Join the strings that stand under the same name, as a reader does that collects the characters of a member."""

    def collect(pairs: list[tuple[str, Any]]) -> Json:
        found: Json = {}
        for name, item in pairs:
            found[name] = found[name] + item if isinstance(item, str) and isinstance(found.get(name), str) else item
        doubled.append(len(found) < len(pairs))
        return found

    doubled: list[bool] = []
    try:
        tree = json.loads(payload, object_pairs_hook=collect)
    except (ValueError, RecursionError):
        return payload
    return json.dumps(tree).encode() if any(doubled) else payload


# ------------------------------------------------------------------------------------------ escapes


def _javascript(string: str) -> str:
    """Read escapes as JavaScript has them: any letter stands for itself, and some for more."""

    def read(found: re.Match[str]) -> str:
        letter = found[1][0]
        return found[0] if letter in '"\\/bfnrtux' else "\\u0000" if letter == "0" else letter

    return re.sub(r"\\x([0-9a-f]{2})", r"\\u00\1", _ESCAPE.sub(read, string))


def _padded(string: str) -> str:
    """Read as many hexadecimal digits of an escape as there are, as scanf() does."""
    return re.sub(r"\\u([0-9a-fA-F]{1,3})(?![0-9a-fA-F])", lambda found: f"\\u{found[1]:0>4}", string)


def _no_lone(string: str) -> str:
    """Put a question mark where half of a surrogate pair stands."""
    escapes = list(_ESCAPE.finditer(string))
    pairs = set()
    for one, other in itertools.pairwise(escapes):
        if _HIGH.match(one[1]) and _LOW.match(other[1]) and one.end() == other.start():
            pairs |= {one.start(), other.start()}
    return _ESCAPE.sub(
        lambda found: (
            "?" if found.start() not in pairs and (_HIGH.match(found[1]) or _LOW.match(found[1])) else found[0]
        ),
        string,
    )


ENCODING: dict[str, Mutation] = {
    "overlong-utf8": _loose_utf8(lambda size, code: code < {2: 0x80, 3: 0x800, 4: 0x10000}.get(size, 0)),
    "encoded-surrogates": _loose_utf8(lambda size, code: size == 3 and 0xD800 <= code < 0xE000),
    "utf8-beyond-unicode": _loose_utf8(lambda size, code: size > 4 or code > 0x10FFFF),
    "bad-utf8-replaced": misreads(lambda data: data.decode("utf-8", "replace").encode()),
    "utf8-of-three-bytes": refuses_text(lambda data: re.search(rb"[\xf0-\xf4]", data) is not None, "bad_utf8"),
    "first-of-a-length-refused": _off_by_one(0x80, 0x800, 0x10000),
    "last-of-a-length-refused": _off_by_one(0x7F, 0x7FF, 0xFFFF, 0x10FFFF),
    "surrogates-neighbours-refused": _off_by_one(0xD7FF, 0xE000),
    "utf16-detected": misreads(
        lambda data: (
            data.decode(json.detect_encoding(data)).encode() if b"\0" in data[:2] and len(data) % 2 == 0 else data
        )
    ),
    "unknown-codecs-handed-on": decoding(_handed_on),
    "byte-order-mark-skipped": misreads(lambda data: data.removeprefix(b"\xef\xbb\xbf")),
}
"""How bytes become text."""

TOKENS: dict[str, Mutation] = {
    "commas-are-white-space": _tokens(_with_commas),
    "trailing-commas": _tokens(_no_trailing_commas),
    "colons-before-objects-optional": _tokens(_with_colons),
    "brackets-are-alike": _tokens(_matching),
    "names-without-quotes": _tokens(_quoted_names),
    "single-quotes": misreads(_text(lambda text: text if '"' in text else text.replace("'", '"'))),
    "comments-skipped": misreads(_text(lambda text: re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))),
    "null-for-what-is-too-deep": _tokens(_cut_deep),
    "words-of-python": _words({"True": "true", "False": "false", "None": "null"}),
    "undefined-is-null": _words({"undefined": "null"}),
    "words-by-their-first-letters": _tokens(_by_first_letter),
    "end-not-noticed": decoding(_so_far),
    "trailing-text-ignored": misreads(_text(_first_text)),
    "any-white-space": misreads(_text(str.strip)),
    "white-space-inside-refused": refuses_text(
        lambda data: re.search(rb"\s", re.sub(rb'"(?:[^"\\]|\\.)*"', b"", data.strip())) is not None, "bad_json"
    ),
    "names-twice-join": always_misreads(_joined_strings),
    "names-in-compatibility-form": misreads(_text(lambda text: unicodedata.normalize("NFKC", text))),
    "names-of-members-trimmed": misreads(_text(lambda text: re.sub(r'\s*"(\s*):', r'"\1:', text))),
}
"""How text becomes values."""

ESCAPES: dict[str, Mutation] = {
    "bare-controls": misreads(
        _in_strings(lambda string: re.sub(r"[\0-\x1f]", lambda found: f"\\u{ord(found[0]):04x}", string))
    ),
    "delete-is-a-control": refuses_text(lambda data: b"\x7f" in data, "bad_json"),
    "escapes-of-javascript": misreads(_in_strings(_javascript)),
    "escapes-by-scanf": misreads(_in_strings(_padded)),
    "some-escapes-unknown": refuses_text(lambda data: re.search(rb"\\[/bf]", data) is not None, "bad_json"),
    "lone-surrogates-accepted": misreads(_in_strings(_no_lone)),
    "escaped-pairs-refused": refuses_text(
        lambda data: re.search(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]", data) is not None, "bad_json"
    ),
    "escaped-backslashes-escape": refuses_text(
        lambda data: re.search(rb"\\\\u[dD][89a-fA-F]", data) is not None, "bad_json"
    ),
}
"""How strings are escaped."""

MUTANTS: dict[str, Mutation] = ENCODING | TOKENS | ESCAPES
