"""ls, show, metrics, compare: exactly what programs get, and what people see."""

import csv
import io
import json
import re

import pytest

LS = """\
run_id	name	status	experiment	started	duration_ms	events	lost	metrics
bad-1	=cmd|' /C calc'!A0\\x1b[31m\\tred	failed		2023-11-14T22:14:20.000000Z	5000	6	0	loss=inf
good-1	base	completed	exp	2023-11-14T22:13:20.000000Z	9000	11	0	acc=1 loss=0.5
"""


def test_ls(xtrack, store):
    done = xtrack("ls", "--store", store)
    assert (done.code, done.out, done.err) == (0, LS, "")


def test_ls_reads_the_local_store_and_xtrack_store(xtrack, local, store, monkeypatch, tmp_path):
    assert xtrack("ls").out == LS
    monkeypatch.setenv("XTRACK_DIR", str(tmp_path / "other"))
    assert xtrack("ls").out.count("\n") == 1
    monkeypatch.setenv("XTRACK_STORE", store)
    assert xtrack("ls").out == LS


READING = [
    ["ls"], ["ls", "--json"], ["show", "latest"], ["metrics", "latest"], ["compare", "a", "b"], ["plot", "latest"],
    ["watch", "latest", "--once"], ["watch", "a*", "--once"], ["tail", "latest"], ["access", "latest"],
    ["export", "latest", "--csv", "-"], ["store", "info"], ["store", "check"], ["store", "backup", "copy.db"],
    ["doctor"], ["keys", "ls"], ["env", "slurm"], ["sync"], ["sync", "--to", "tcp://127.0.0.1:1"], ["tag", "latest"],
    ["command", "latest", "stop"], ["conformance", "list"],
]  # fmt: skip


@pytest.mark.parametrize("args", READING, ids=" ".join)
@pytest.mark.parametrize("variable", ["XTRACK_DIR", "XTRACK_STORE"])
def test_reading_makes_no_folder_that_is_mistyped(xtrack, tmp_path, monkeypatch, variable, args):
    wrong = tmp_path / "mistyped" / "folder"
    monkeypatch.setenv(variable, str(wrong) if variable == "XTRACK_DIR" else f"sqlite:///{wrong}/runs.db")
    before = {path.name for path in tmp_path.iterdir()}
    xtrack(*args)
    assert {path.name for path in tmp_path.iterdir()} - before <= {"copy.db"}


def test_ls_json(xtrack, store):
    first, second = json.loads(xtrack("ls", "--json", "--store", store).out)
    assert first["metrics"] == {"loss": "Infinity"}
    assert first["name"] == "=cmd|' /C calc'!A0\x1b[31m\tred"
    assert second == {
        "run_id": "good-1",
        "name": "base",
        "status": "completed",
        "experiment_id": "exp",
        "parent_run_id": None,
        "started_at": "2023-11-14T22:13:20.000000Z",
        "ended_at": "2023-11-14T22:13:30.000000Z",
        "updated_at": "2023-11-14T22:13:30.000000Z",
        "duration_ms": 9000,
        "events": 11,
        "lost_events": 0,
        "tags": {"seed": "1"},
        "note": None,
        "metrics": {"acc": 1, "loss": 0.5},
    }


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--status", "failed"], ["bad-1"]),
        (["--status", "failed", "--status", "completed"], ["bad-1", "good-1"]),
        (["--experiment", "exp"], ["good-1"]),
        (["--tag", "seed=1"], ["good-1"]),
        (["--tag", "seed=2"], []),
        (["--name", "ba*"], ["good-1"]),
        (["--order", "started"], ["good-1", "bad-1"]),
        (["--limit", "1"], ["bad-1"]),
        (["-n", "1", "--all"], ["bad-1", "good-1"]),
        (["--parent", "good-1"], []),
    ],
)
def test_ls_filters(xtrack, store, args, expected):
    runs = json.loads(xtrack("ls", "--json", "--store", store, *args).out)
    assert [run["run_id"] for run in runs] == expected


def test_ls_says_that_there_are_more(xtrack, store):
    assert "--all" in xtrack("ls", "-n", "1", "--store", store).err


SHOW = """\
run	run_id	good-1	
run	name	base	
run	status	completed	
run	experiment_id	exp	
run	started_at	2023-11-14T22:13:20.000000Z	
run	ended_at	2023-11-14T22:13:30.000000Z	
run	updated_at	2023-11-14T22:13:30.000000Z	
run	duration_ms	9000	
run	events	11	
run	lost_events	0	
tag	seed	1	
param	lr	0.1	
param	model.kind	mlp	
metric	acc	1	count=1 step=2 min=1 max=1
metric	loss	0.5	count=2 step=2 min=0.5 max=0.75
summary	best	0.5	
artifact	plot.png	plot	
checkpoint	ckpt-2.bin	2	best
alert	warning	look	here
log	info	half way	
stream	sid-good-1	completed	
"""  # noqa: W291


@pytest.mark.parametrize("ref", ["good-1", "goo", "base"])
def test_show(xtrack, store, ref):
    assert xtrack("show", ref, "--store", store).out == SHOW


def test_show_json(xtrack, store):
    state = json.loads(xtrack("show", "latest", "--json", "--store", store).out)
    assert state["run_id"] == "bad-1"
    assert state["error"] == {"type": "ValueError", "message": "diverged", "traceback": "Traceback:\n  boom"}
    assert state["metrics"]["loss"] == {
        "count": 2, "nan_count": 1, "last": "Infinity", "last_step": 2, "min": "Infinity", "max": "Infinity"
    }  # fmt: skip
    assert state["streams"][0]["session_id"] == "sid-bad-1"
    state = json.loads(xtrack("show", "good-1", "--json", "--store", store).out)
    assert state["checkpoints"][0]["metrics"] == {"loss": 0.5}
    assert state["artifacts"][0]["size"] == 12
    assert state["logs"][0]["msg"] == "half way"
    assert state["alerts"][0]["title"] == "look"
    assert state["params"] == {"lr": 0.1, "model.kind": "mlp"}


def test_show_says_how_many_lines_of_log(xtrack, store):
    assert "log\t" not in xtrack("show", "good-1", "--logs", "0", "--store", store).out


def test_no_control_character_of_data_gets_out(xtrack, store):
    for args in (["ls"], ["show", "latest"], ["show", "latest", "--json"], ["compare", "good-1", "bad-1"]):
        text = xtrack(*args, "--store", store).out
        assert not {"\x1b", "\r", "\u202e"} & set(text)


METRICS = """\
key	count	last	step	min	max	nan
acc	1	1	2	1	1	0
loss	2	0.5	2	0.5	0.75	0
"""
POINTS = """\
step	value	epoch	time	worker	phase	session	seq
1	0.75		2023-11-14T22:13:23.000000Z		train	sid-good-1	4
2	0.5	1	2023-11-14T22:13:24.000000Z			sid-good-1	5
"""


def test_metrics(xtrack, store):
    assert xtrack("metrics", "good-1", "--store", store).out == METRICS
    assert xtrack("metrics", "good-1", "loss", "--store", store).out == POINTS


def test_metrics_formats(xtrack, store):
    lines = xtrack("metrics", "bad-1", "loss", "--format", "jsonl", "--store", store).out.splitlines()
    assert [json.loads(line)["value"] for line in lines] == ["NaN", "Infinity"]
    table = list(csv.reader(io.StringIO(xtrack("metrics", "bad-1", "loss", "--format", "csv", "--store", store).out)))
    assert [row[1] for row in table] == ["value", "nan", "inf"]
    assert [row["value"] for row in json.loads(xtrack("metrics", "bad-1", "loss", "--json", "--store", store).out)] == [
        "NaN",
        "Infinity",
    ]
    assert json.loads(xtrack("metrics", "good-1", "--json", "--store", store).out)["acc"]["last"] == 1


@pytest.mark.parametrize(
    ("args", "steps"),
    [
        (["--min-step", "2"], [2]),
        (["--max-step", "1"], [1]),
        (["--limit", "1"], [1]),
        (["--worker", "w"], []),
    ],
)
def test_metrics_ranges(xtrack, store, args, steps):
    done = xtrack("metrics", "good-1", "loss", "--json", "--store", store, *args)
    assert [point["step"] for point in json.loads(done.out)] == steps


def test_metrics_of_another_name(xtrack, store):
    done = xtrack("metrics", "good-1", "lozz", "--store", store)
    assert done.code == 1
    assert "no metric 'lozz'" in done.err
    assert xtrack("metrics", "good-1", "--min-step", "2", "--store", store).code == 2


COMPARE = """\
	base	bad-1
run_id	good-1	bad-1
status	completed	failed
param lr	0.1	10
param model.kind	mlp	-
loss last	0.5	inf
loss min	0.5	inf
loss max	0.75	inf
"""


def test_compare(xtrack, store):
    done = xtrack("compare", "good-1", "bad-1", "--metric", "loss", "--store", store)
    assert done.out == COMPARE.replace("\tbad-1\n", "\t=cmd|' /C calc'!A0\\x1b[31m\\tred\n", 1)
    made = json.loads(xtrack("compare", "good-1", "bad-1", "--json", "--store", store).out)
    assert made["params"] == {"lr": {"good-1": 0.1, "bad-1": 10}, "model.kind": {"good-1": "mlp"}}
    assert made["metrics"]["acc"]["good-1"]["last"] == 1
    assert xtrack("compare", "good-1", "--store", store).code == 2


def test_params_that_are_the_same_are_left_out(xtrack, store):
    assert "param" not in xtrack("compare", "good-1", "good-1", "--store", store).out
    assert "param lr\t0.1\t0.1" in xtrack("compare", "good-1", "good-1", "--all-params", "--store", store).out


def test_names_that_no_run_has_are_told_of(xtrack, store):
    """A misspelt name would else be a list of nothing, an order of nothing, without a word."""
    done = xtrack("compare", "good-1", "bad-1", "--metric", "acx", "--store", store)
    assert (done.code, done.out) == (1, "")
    assert done.err == "xtrack: error: none of the runs has a metric 'acx'. Did you mean 'acc'?\n"
    assert xtrack("compare", "good-1", "bad-1", "--metric", "a*", "--store", store).code == 0
    told = "xtrack: none of these runs has 'acx'. Did you mean 'acc'?\n"
    for arguments in (
        ["compare", "good-1", "bad-1", "--sort", "acx"],
        ["ls", "--where", "acx > 0"],
        ["ls", "--order", "-acx"],
        ["ls", "--column", "acx"],
    ):
        done = xtrack(*arguments, "--store", store)
        assert (done.code, done.err) == (0, told), arguments
    for known in ("acc", "lr", "name", "duration", "max(acc)"):
        assert xtrack("ls", "--where", f"{known} = 1", "--order", known, "--store", store).err == ""
    assert xtrack("ls", "--where", "acx > 0").err == ""  # where there are no runs, none is wrong
    done = xtrack("metrics", "good-1", "acx", "--store", store)
    assert (done.code, done.err) == (1, "xtrack: error: run good-1 has no metric 'acx'. Did you mean 'acc'?\n")


def test_an_export_into_no_folder_names_what_was_given(xtrack, store):
    for kind in ("--csv", "--parquet", "--sqlite"):
        done = xtrack("export", "good-1", kind, "absent/file", "--store", store)
        assert (done.code, done.err) == (1, "xtrack: error: absent/file: there is no folder absent\n")


def test_usage_errors_are_sentences(xtrack, store):
    for arguments in (["plot", "good-1", "--size", "abc"], ["ls", "--since", "yesterday"], ["ls", "--statuss", "x"]):
        done = xtrack(*arguments)
        assert done.code == 2
        assert re.search(r"[.?] `xtrack \w+ --help` shows the usage\n$", done.err), done.err


def test_runs_that_are_not_there(xtrack, store, tmp_path):
    done = xtrack("show", "nope", "--store", store)
    assert (done.code, done.out) == (1, "")
    assert done.err == "xtrack: error: no run 'nope'. `xtrack ls` lists the runs there are\n"
    assert xtrack("show", "", "--store", store).code == 1
    assert xtrack("show", "god-1", "--store", store).err.startswith(
        "xtrack: error: no run 'god-1'. Did you mean 'good-1'"
    )
    assert xtrack("show", "latest").err == (
        f"xtrack: error: no run 'latest'. There are no runs yet in local:{tmp_path / 'xd'}\n"
    )
    done = xtrack("ls", "--store", f"sqlite:///{tmp_path}/typo.db")
    assert done.code == 1
    assert not (tmp_path / "typo.db").exists()
    assert xtrack("ls", "--store", "foo").code == 2
    assert xtrack("ls", "--store", "memory:").code == 2
