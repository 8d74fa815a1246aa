"""xtrack keys."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from xtrack_protocol.ir import Auth
from xtrack_protocol.server.keys import Keyring, Principal


def who(key, path="xd/keys.json"):
    found = Keyring(path).authenticate(Auth("key", key))
    return found if isinstance(found, Principal) else None


def listed(xtrack, *args):
    return json.loads(xtrack("keys", "ls", "--json", *args).out)


def test_add_shows_a_key_once(xtrack):
    done = xtrack("keys", "add", "--owner", "ann")
    assert done.code == 0
    key = done.out.rstrip("\n")
    assert key.startswith("xtk_")
    assert "\n" not in key
    assert "export XTRACK_KEY=" in done.err
    assert f"`xtrack serve --keys {os.path.abspath('xd/keys.json')}`" in done.err
    assert key.split("_", 2)[2] not in done.err
    assert who(key).owner == "ann"
    for shown in (xtrack("keys", "ls"), xtrack("keys", "ls", "--json")):
        assert key.split("_", 2)[2][:8] not in shown.out + shown.err
        assert key.split("_")[1] in shown.out


@pytest.mark.parametrize(
    ("options", "rights"),
    [
        ([], "read write"),
        (["--read"], "read"),
        (["--write"], "write"),
        (["--read", "--write"], "read write"),
    ],
)
def test_rights(xtrack, options, rights):
    made = json.loads(xtrack("keys", "add", "--owner", "ann", "--experiment", "my exp", *options, "--json").out)
    key = made.pop("key")
    assert (made["owner"], made["experiment"], made["rights"]) == ("ann", "my exp", rights)
    assert made["old_secret_until"] is None
    assert listed(xtrack) == [made]
    found = who(key)
    assert (found.may_read, found.may_write, found.experiment) == ("read" in rights, "write" in rights, "my exp")


def test_ls_is_a_table(xtrack):
    for owner in ("zoe", "ann"):
        xtrack("keys", "add", "--owner", owner)
    lines = xtrack("keys", "ls").out.splitlines()
    assert lines[0] == "id\towner\texperiment\trights\tcreated\told_secret_until"
    assert [line.split("\t")[1:4] for line in lines[1:]] == [["zoe", "", "read write"], ["ann", "", "read write"]]


def test_rm(xtrack):
    keys = [xtrack("keys", "add", "--owner", f"o{number}").out.strip() for number in range(3)]
    ids = [key.split("_")[1] for key in keys]
    assert xtrack("keys", "rm", ids[0]).err == f"removed key {ids[0]} of o0\n"
    done = xtrack("keys", "rm", keys[1], "--json")  # a whole key means its id, and isn't shown
    assert json.loads(done.out) == {"removed": [ids[1]]}
    assert [who(key) is not None for key in keys] == [False, False, True]
    done = xtrack("keys", "rm", keys[0])
    assert done.code == 2
    assert f"no key of this id is in {os.path.abspath('xd/keys.json')}. `xtrack keys ls`" in done.err
    assert keys[0] not in done.err


def test_rotate(xtrack):
    old = xtrack("keys", "add", "--owner", "ann", "--read").out.strip()
    key_id = old.split("_")[1]
    new = json.loads(xtrack("keys", "rotate", key_id, "--grace", "3600", "--json").out)
    assert new["old_secret_until"] is not None
    assert (who(old).version, who(new["key"]).version) == (1, 2)
    assert listed(xtrack)[0]["old_secret_until"] == new["old_secret_until"]
    done = xtrack("keys", "rotate", key_id)
    newest = done.out.strip()
    assert "shown this once" in done.err
    assert [who(key) is not None for key in (old, new["key"], newest)] == [False, False, True]
    assert xtrack("keys", "rotate", key_id, "--grace", "-1").code == 2
    assert xtrack("keys", "rotate", "nope").code == 2


def test_another_file(xtrack, tmp_path):
    path = tmp_path / "elsewhere" / "team.json"
    key = xtrack("keys", "add", "--owner", "ann", "--keys", path).out.strip()
    assert who(key, path)
    assert not Path("xd").exists()
    assert [one["owner"] for one in listed(xtrack, "--keys", path)] == ["ann"]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_folder_of_the_settings(xtrack, tmp_path, monkeypatch):
    monkeypatch.delenv("XTRACK_DIR")
    (tmp_path / "xtrack.toml").write_text('dir = "other"\n')
    xtrack("keys", "add", "--owner", "ann")
    assert (tmp_path / "other" / "keys.json").exists()


def test_errors_name_the_cure(xtrack, tmp_path):
    assert "`xtrack keys add --owner NAME` makes it" in xtrack("keys", "ls").err
    assert "--owner" in xtrack("keys", "add").err
    assert "control characters" in xtrack("keys", "add", "--owner", "a\nb").err
    key = xtrack("keys", "add", "--owner", "ann").out.strip()
    path = tmp_path / "xd" / "keys.json"
    if os.name == "posix":
        path.chmod(0o644)
        for verb in (["ls"], ["add", "--owner", "x"], ["rm", "x"], ["rotate", "x"]):
            done = xtrack("keys", *verb)
            assert (done.code, done.out) == (2, "")
            assert f"is open to other users (mode 0644). `chmod 600 {path}` closes it" in done.err
        path.chmod(0o600)
    path.write_text(path.read_text()[:-20])
    done = xtrack("keys", "ls")
    assert done.code == 2
    assert "is damaged: " in done.err
    assert key.split("_", 2)[2] not in done.err


def test_a_key_into_a_file(process, tmp_path):
    """As a shell does it: the key alone is on standard output."""
    done = process("keys", "add", "--owner", "ann")
    (tmp_path / "ann.key").write_text(done.out)
    assert who((tmp_path / "ann.key").read_text().strip()).owner == "ann"


def test_many_at_once(tmp_path):
    import sys

    command = [sys.executable, "-m", "xtrack_protocol.cli", "keys", "add", "--owner", "ann"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(6)]
    keys = [process.communicate(timeout=60)[0].decode().strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * 6
    assert all(who(key) for key in keys)
    assert len(Keyring("xd/keys.json").keys()) == 6
