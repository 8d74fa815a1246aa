from __future__ import annotations

import os
import random
import stat
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrack_protocol.errors import ConfigurationError, SpoolError
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import (
    SpoolDir,
    StreamWriter,
    default_dir,
    make_private_dir,
    open_segment,
    safe_name,
    segments,
    streams_of,
    write_private,
)
from xtrack_protocol.spool.layout import segment_path

HOSTILE_IDS = [
    "..",
    ".",
    "",
    "/",
    "/etc/passwd",
    "../../x",
    "a/b",
    "a\\b",
    "C:\\x",
    "a\0b",
    "\0",
    "\n",
    " ",
    "trailing ",
    "trailing.",
    "-rf",
    "~",
    "~root",
    "$HOME",
    "%2E%2E",
    "%",
    "🚀" * 3,
    "über",
    "u\u0308ber",  # the same to the eye, and to macOS
    "\u202egnp.exe",
    "a" * 120,
    "a" * 121,
    "a" * 1000,
    "a" * 999 + "b",
    "🚀" * 250,
    "Run",
    "run",
    "RUN",
    "rUn",
    "con",
    "CON",
    "nul",
    "NUL",
    "com1",
    "lpt9",
    "con.txt",
    "aux",
    "DELETED",
    ".lock",
    "x.000001.xseg",
    "commands",
    safe_name("a" * 1000),
    safe_name("Run"),
]

DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


def test_hostile_ids_have_different_names_where_case_does_not_count_either():
    names = [safe_name(text) for text in HOSTILE_IDS]
    assert len({name.casefold() for name in names}) == len(HOSTILE_IDS)


@pytest.mark.parametrize("text", HOSTILE_IDS, ids=range(len(HOSTILE_IDS)))
def test_a_name_is_plain_short_and_no_device(text):
    name = safe_name(text)
    assert 1 <= len(name) <= 120
    assert set(name) <= set(string.ascii_letters + string.digits + "-_+=@%~")
    assert name.casefold() not in DEVICES


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=60), min_size=2, max_size=2, unique=True))
def test_different_ids_have_different_names(pair):
    first, second = (safe_name(text).casefold() for text in pair)
    assert first != second


@pytest.mark.parametrize("text", ["falcon", "a-nul", "mycom1", "con1", "com12", "console"])
def test_an_id_that_only_ends_or_begins_like_a_device_is_its_own_name(text):
    assert safe_name(text) == text


def test_a_name_can_not_be_chosen_to_meet_the_name_of_a_long_one():
    long = "b" * 500
    assert safe_name(safe_name(long)) != safe_name(long)


@pytest.mark.parametrize("text", [text for text in HOSTILE_IDS if text], ids=lambda text: repr(text)[:20])
def test_hostile_ids_come_back_from_the_header(tmp_path, text):
    spool = SpoolDir(tmp_path)
    stream = StreamId(text, text, text)
    writer = StreamWriter(spool.run_dir(text), stream)
    writer.append(1, b"{}")
    writer.close()
    (run_dir,) = spool.run_dirs()
    assert run_dir.parent == tmp_path / "spool"
    (path,) = segments(run_dir)
    segment = open_segment(path)
    assert segment is not None
    assert segment.stream == stream
    assert streams_of(run_dir) == [stream]


def test_case_insensitive_twins_do_not_share_a_folder(tmp_path):
    spool = SpoolDir(tmp_path)
    for run_id in ("run", "Run", "RUN"):
        writer = StreamWriter(spool.run_dir(run_id), StreamId(run_id, "", "s"))
        writer.append(1, b"{}")
        writer.close()
    assert len({path.name.casefold() for path in spool.run_dirs()}) == 3


@pytest.mark.parametrize(
    "stream", [StreamId("x" * 1025, "", "s"), StreamId("\x01" * 900, "", "s"), StreamId("\ud800", "", "s")]
)
def test_ids_that_no_header_holds_are_refused_before_anything_is_made(tmp_path, stream):
    with pytest.raises((SpoolError, ValueError), match=r"hold|surrogates"):
        StreamWriter(SpoolDir(tmp_path).run_dir("r"), stream)
    assert not list(tmp_path.iterdir())


def test_default_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("XTRACK_DIR", "relative")
    monkeypatch.chdir(tmp_path)
    assert default_dir() == tmp_path / "relative"
    monkeypatch.setenv("XTRACK_DIR", "")
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(default_dir()) == "/somewhere/.xtrack"
    monkeypatch.setenv("XTRACK_DIR", "~no-such-user/x")
    with pytest.raises(ConfigurationError, match="absolute path"):
        default_dir()


def test_a_relative_root_stays_when_the_script_changes_its_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spool = SpoolDir("here")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert spool.root == tmp_path / "here"


def test_segments_of_a_stream_are_in_order_beyond_a_million(tmp_path):
    numbers = [1, 2, 10, 999_999, 1_000_000, 1_000_001, 10_000_000]
    paths = [segment_path(tmp_path, session, number) for session in ("a", "b") for number in numbers]
    for path in random.Random(3).sample(paths, len(paths)):
        path.touch()
    (tmp_path / "b.lock").touch()
    (tmp_path / "no-number.xseg").touch()
    assert [path for path in segments(tmp_path) if path.name != "no-number.xseg"] == paths


def test_no_spool_is_no_runs(tmp_path):
    assert SpoolDir(tmp_path / "nothing").run_dirs() == []
    (tmp_path / "spool").write_text("a file")
    assert SpoolDir(tmp_path).run_dirs() == []
    assert list(segments(tmp_path / "nothing")) == []
    assert list(segments(tmp_path / "spool")) == []


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_folders_and_files_are_their_owners(tmp_path):
    old = os.umask(0)
    try:
        run_dir = SpoolDir(tmp_path / "home").run_dir("r")
        writer = StreamWriter(run_dir, StreamId("r", "", "s"))
        writer.append(1, b"{}")
        write_private(run_dir / "note", b"x")
        make_private_dir(run_dir / "commands")
        writer.close()
    finally:
        os.umask(old)
    for path in (tmp_path / "home").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_write_private_leaves_all_or_nothing(tmp_path):
    long = tmp_path / ("n" * 255)
    write_private(long, b"first")
    write_private(long, b"second")
    assert long.read_bytes() == b"second"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_private(tmp_path / "folder", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["folder", long.name])


def test_a_symbolic_link_for_a_run_is_refused(tmp_path):
    spool = SpoolDir(tmp_path / "home")
    (tmp_path / "elsewhere").mkdir()
    spool.runs.mkdir(parents=True)
    spool.run_dir("r").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpoolError, match="symbolic link"):
        StreamWriter(spool.run_dir("r"), StreamId("r", "", "s"))
    assert not list((tmp_path / "elsewhere").iterdir())
