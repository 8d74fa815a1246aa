"""xtrack access."""

import json

import pytest
from storage.older import make_old

from xtrack_protocol.storage import RunAccess, open_store
from xtrack_protocol.testing import Worker


def shown(xtrack, *args):
    done = xtrack("access", *args, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.fixture(params=["store", "local"])
def where(request):
    """The same runs in a SQLite store, and in the local one."""
    value = request.getfixturevalue(request.param)
    return ["--store", value] if value else []


def test_a_run_without_an_owner(xtrack, where):
    assert shown(xtrack, "good-1", *where) == {
        "run_id": "good-1",
        "owner": None,
        "public": False,
        "readers": [],
        "writers": [],
    }
    assert xtrack("access", "base", *where).out == "run\towner\tpublic\treaders\twriters\ngood-1\t\tfalse\t\t\n"


def test_changes(xtrack, where):
    assert shown(xtrack, "base", "--owner", "ann", "--public", *where)["owner"] == "ann"
    after = shown(xtrack, "good-1", "--grant", "bob", "--grant", "ci:write", "--grant", "a b:read", *where)
    assert after == {
        "run_id": "good-1",
        "owner": "ann",
        "public": True,
        "readers": ["a b", "bob"],
        "writers": ["ci"],
    }
    after = shown(xtrack, "good-1", "--grant", "bob:write", "--grant", "ci", "--revoke", "a b", "--private", *where)
    assert (after["public"], after["readers"], after["writers"]) == (False, ["ci"], ["bob"])
    assert shown(xtrack, "good-1", *where) == after
    assert shown(xtrack, "good-1", "--revoke", "nobody", *where) == after
    assert xtrack("access", "good-1", *where).out.endswith("good-1\tann\tfalse\tci\tbob\n")
    assert shown(xtrack, "bad-1", *where)["owner"] is None


def test_names_that_end_in_a_right(xtrack, local):
    after = shown(xtrack, "good-1", "--grant", "x:write:read", "--grant", "y:write:write", "--owner", "z:write")
    assert (after["owner"], after["readers"], after["writers"]) == ("z:write", ["x:write"], ["y:write"])


def test_a_run_that_was_claimed_and_has_no_events(xtrack, local):
    with open_store("local:") as store:
        store.claim_run("early", "ann")
    assert shown(xtrack, "early")["owner"] == "ann"
    assert shown(xtrack, "early", "--owner", "bob")["owner"] == "bob"
    done = xtrack("access", "absent", "--owner", "ann")
    assert (done.code, done.out) == (1, "")
    assert "no run 'absent'" in done.err


def test_wrong_use(xtrack, local):
    for options, said in (
        (["--grant", "bob", "--grant", "bob:write"], "named twice"),
        (["--grant", "bob", "--revoke", "bob"], "named twice"),
        (["--grant", ":write"], "is empty"),
        (["--owner", ""], "is empty"),
        (["--owner", "a\nb"], "control characters"),
        (["--revoke", " x"], "white space"),
        (["--grant", "x" * 201], "more than 200"),
        (["--public", "x"], "unexpected extra argument"),
    ):
        done = xtrack("access", "good-1", *options)
        assert done.code == 2, options
        assert said in done.err
    assert shown(xtrack, "good-1")["owner"] is None


def test_a_deleted_run(xtrack, local):
    assert shown(xtrack, "good-1", "--owner", "ann")["owner"] == "ann"
    xtrack("rm", "--yes", "good-1")
    assert "no run 'good-1'" in xtrack("access", "good-1", "--owner", "bob").err


def test_a_store_of_before_is_brought_up_to_date(xtrack, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'old.db'}"
    make_old(tmp_path / "old.db", [Worker("r").start("n")], monkeypatch, version=1)
    assert shown(xtrack, "r", "--store", url)["owner"] is None
    assert xtrack("store", "check", "--store", url).code == 0
    assert shown(xtrack, "r", "--owner", "ann", "--store", url)["owner"] == "ann"
    assert xtrack("store", "backup", tmp_path / "copy.db", "--store", url).code == 0
    copy = f"sqlite:///{tmp_path / 'copy.db'}"
    assert shown(xtrack, "r", "--store", copy)["owner"] == "ann"
    with open_store(copy, read_only=True) as store:
        assert store.get_access("r") == RunAccess(owner="ann")
    assert xtrack("store", "info", "--store", copy).code == 0
