"""Where a key is read from, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.net.endpoint import parse_endpoint
from xtrack_protocol.settings import Settings

posix = pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")


def key_of(**settings: Any) -> str | None:
    return parse_endpoint("tcp", Settings(**settings)).key


def refused(**settings: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        key_of(**settings)
    assert "canary" not in f"{caught.value} {caught.value!r} {caught.value.value}"
    return caught.value


def key_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "collector.key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("content", [b"xtk_k1_abc", b"xtk_k1_abc\n", b"  xtk_k1_abc\r\n\r\n"])
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_from_its_file(tmp_path: Path, content: bytes, mode: int) -> None:
    assert key_of(key_file=key_file(tmp_path, content, mode)) == "xtk_k1_abc"


def test_a_key_that_is_rotated(tmp_path: Path) -> None:
    path = key_file(tmp_path, b"first")
    endpoint = parse_endpoint("tcp", Settings(key_file=path))
    path.write_bytes(b"second")
    assert endpoint.key == "first"
    assert endpoint.renewed().key == "second"
    path.unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        endpoint.renewed()
    fixed = parse_endpoint("tcp", Settings(key="abc"))
    assert fixed.renewed() is fixed


@pytest.mark.parametrize("key", ["", " ", "can ary", "canary\n", "canary\0", "cänary", "canary\x7f"])
def test_what_is_no_key(key: str) -> None:
    error = refused(key=key)
    assert error.setting == "XTRACK_KEY"
    assert "is empty" in str(error) if not key else "no key has" in str(error)


def test_quotation_marks_and_endless_keys() -> None:
    assert "quotation marks" in str(refused(key='"canary"'))
    assert "quotation marks" in str(refused(key="'canary'"))
    assert "4096" in str(refused(key="canary" * 1000))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"canary\ncanary2\n", "no key has"),
        (b"canary\xff", "holds something else than a key"),
        ("canaryé".encode(), "holds something else than a key"),
        (b"canary" * 1000, "has more than 4096 bytes"),
    ],
)
def test_a_file_that_holds_no_key(tmp_path: Path, content: bytes, problem: str) -> None:
    error = refused(key_file=key_file(tmp_path, content))
    assert error.setting == "XTRACK_KEY_FILE"
    assert problem in str(error)
    assert str(tmp_path) in str(error)


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610, 0o777])
def test_a_file_that_others_may_read(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, b"canary", mode)
    error = refused(key_file=path)
    assert f"others may read it (its mode is {mode:04o}). Run `chmod 600 {path}`" in str(error)


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_that_users_business(tmp_path: Path) -> None:
    path = key_file(tmp_path, b"abc", 0o640)
    os.chown(path, 12345, 0)
    assert key_of(key_file=path) == "abc"


@posix
def test_what_can_not_be_read(tmp_path: Path) -> None:
    assert "No such file" in str(refused(key_file=tmp_path / "none"))
    assert "is no file" in str(refused(key_file=tmp_path))
    os.mkfifo(tmp_path / "pipe", 0o600)  # to wait for it would be to wait for ever
    assert "is no file" in str(refused(key_file=tmp_path / "pipe"))


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    assert "Permission denied" in str(refused(key_file=key_file(tmp_path, b"canary", 0o000)))


def test_both_a_key_and_a_file(tmp_path: Path) -> None:
    error = refused(key="canary", key_file=key_file(tmp_path, b"canary"))
    assert error.setting == "XTRACK_KEY"
    assert "XTRACK_KEY_FILE" in str(error)
    assert "Unset one of them" in str(error)


def test_a_key_from_a_file_that_would_go_in_clear(tmp_path: Path) -> None:
    path = key_file(tmp_path, b"canary")
    error = refused(host="192.0.2.1", key_file=path)
    assert (error.setting, error.value) == ("XTRACK_KEY_FILE", str(path))
