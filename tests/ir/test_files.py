"""Checksums of artifacts."""

from __future__ import annotations

import pytest
from hypothesis import given
from strategies import texts

from xtrack_protocol.ir import checksum_sha256

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.mark.parametrize("text", [DIGEST, f"sha256:{DIGEST}", DIGEST.upper(), f"sha256:{DIGEST.upper()}"])
def test_sha256_in_both_forms(text: str) -> None:
    assert checksum_sha256(text) == DIGEST


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        DIGEST[:-1],
        DIGEST + "0",
        f"md5:{DIGEST}",
        f"SHA256:{DIGEST}",
        f"sha256: {DIGEST}",
        DIGEST + "\n",
        "d41d8cd98f00b204e9800998ecf8427e",
        "g" * 64,
        chr(0x661) * 64,
        f"sha256:sha256:{DIGEST}",
    ],
)
def test_other_forms_are_no_sha256(text: str) -> None:
    assert checksum_sha256(text) is None


@given(texts(80))
def test_no_text_is_an_error(text: str) -> None:
    assert checksum_sha256(text) in {None, text.lower().removeprefix("sha256:")}
