"""What a terminal isn't handed as it is: all that it obeys, that turns the direction, or that isn't seen."""

from __future__ import annotations

import sys
import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrack_protocol._terminal import escape
from xtrack_protocol.decode.text import escape_json

JOINERS = "\u200c\u200d"
SEEN = {
    *map(chr, (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD)),  # signs that span numbers
    *map(chr, range(0x13430, 0x13440)),  # which join hieroglyphs
}
"""Characters that Unicode counts among the invisible ones, and that are seen."""


def test_all_that_unicode_calls_a_control_or_a_format_is_escaped():
    letters = map(chr, range(sys.maxunicode + 1))
    escaped = {letter for letter in letters if escape(letter) != letter}
    wanted = {
        letter
        for letter in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and letter not in SEEN | {*JOINERS}
    }
    assert wanted <= escaped
    # The others are unassigned, between two that aren't.
    assert all(unicodedata.category(letter) == "Cn" for letter in escaped - wanted)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a\x1b[31m\n\r\t\0", "a\\x1b[31m\\n\\r\\t\\x00"),
        ("run\u202egnp.exe\u2066", "run\\u202egnp.exe\\u2066"),
        ("pay\u200bload\ufeff\xad", "pay\\u200bload\\ufeff\\xad"),
        ("tag \U000e0041", "tag \\U000e0041"),
        ("lone \ud800", "lone \\ud800"),
    ],
)
def test_escapes(text, written):
    assert escape(text) == written


@pytest.mark.parametrize(
    "text", ["", "loss/träin 損失", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "👩\u200d🔬", "a\xa0b"]
)
def test_writing_of_any_language_stays_as_it_is(text):
    assert escape(text) == text


@given(st.text())
def test_json_says_the_same(text):
    encoded = msgspec.json.encode({"text": text}).decode()
    written = escape_json(encoded)
    assert msgspec.json.decode(written) == {"text": text}
    assert escape(written) == written


def test_json_has_letters_beyond_the_first_65536_as_two_escapes():
    assert escape_json('"\U000e0041\u2066"') == '"\\udb40\\udc41\\u2066"'
