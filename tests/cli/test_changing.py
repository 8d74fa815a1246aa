"""tag, note, rename, rm, command."""

import json
import subprocess
import sys

import pytest


def test_tag(xtrack, store):
    assert xtrack("tag", "good-1", "a=b", "c=d=e", "--store", store).out == "tag\tvalue\na\tb\nc\td=e\nseed\t1\n"
    assert json.loads(xtrack("tag", "good-1", "--json", "--store", store).out) == {"a": "b", "c": "d=e", "seed": "1"}
    assert xtrack("tag", "good-1", "a", "--store", store).code == 2


def test_note_and_rename(xtrack, local):
    assert json.loads(xtrack("note", "good-1", "the one", "--json").out)["note"] == "the one"
    assert json.loads(xtrack("rename", "good-1", "renamed", "--json").out)["name"] == "renamed"
    assert xtrack("note", "good-1", "x").err == "noted run good-1\n"
    assert xtrack("rename", "renamed", "again").err == "run good-1 is now named again\n"
    state = json.loads(xtrack("show", "again", "--json").out)
    assert (state["note"], state["status"]) == ("x", "completed")


def test_where_nothing_was_tracked_nothing_is_made(xtrack, tmp_path):
    for args in (["ls"], ["tag", "r", "a=b"], ["store", "info"], ["rm", "r", "--yes"]):
        done = xtrack(*args)
        assert done.code == 0 or "no run 'r'" in done.err, done.err
    assert not (tmp_path / "xd").exists()
    file = tmp_path / "file"
    file.write_text("mine")
    done = xtrack("ls", "--store", f"local:{file}")
    assert (done.code, done.err) == (1, f"xtrack: error: {file}: is a file, not the folder of a local store\n")


def test_rm(xtrack, local):
    done = xtrack("rm", "good-1")
    assert done.code == 2
    assert "--yes" in done.err
    assert json.loads(xtrack("rm", "--yes", "good-1", "--json").out) == {"deleted": ["good-1"]}
    assert xtrack("show", "good-1").code == 1
    assert xtrack("rm", "-y", "bad-1").err == "deleted run bad-1\n"
    assert json.loads(xtrack("ls", "--json").out) == []


WORKER = """
import sys, time
from xtrack_protocol import Tracker
run = Tracker.start_run("w", run_id="live", quiet=True)
run.on_command(lambda command: f"{command.type} {command.payload}")
print("up", flush=True)
sys.stdin.read()
run.end()
"""


@pytest.fixture
def live_run():
    worker = subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout.readline() == b"up\n"
    yield
    worker.communicate()


def test_a_live_run_is_not_deleted_unforced(xtrack, live_run):
    done = xtrack("rm", "--yes", "live")
    assert done.code == 1
    assert "still running: live" in done.err
    assert xtrack("rm", "--yes", "--force", "live").code == 0


def test_command(xtrack, live_run):
    done = xtrack("command", "live", "adjust_lr", "lr=0.5", "why=because", "--json")
    assert json.loads(done.out) == [
        {"worker": None, "status": "ok", "message": "adjust_lr {'lr': 0.5, 'why': 'because'}"}
    ]
    assert xtrack("command", "live", "pause", "--timeout", "10").out.endswith("ok\tpause {}\n")
    assert xtrack("command", "live", "pause", "--worker", "nobody").code == 1


def test_commands_go_to_local_runs_only(xtrack, store, local):
    assert xtrack("command", "good-1", "stop", "--store", store).code == 2
    done = xtrack("command", "good-1", "stop")
    assert done.code == 1
    assert "alive" in done.err
