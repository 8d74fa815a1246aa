"""Conditions on runs, and what ls and compare do with them."""

import json
import math
import time

import click
import pytest
from cli_runs import T0, capture, stream
from terminals import look

from xtrack_protocol.cli._where import parse_conditions, parse_operand, sort_runs
from xtrack_protocol.cli.compare import best_runs
from xtrack_protocol.ir import Metric, Param, RunEnd, RunId, RunStart, Summary
from xtrack_protocol.storage import open_store

NAN = math.nan
LOSSES = [0.5, 0.1, NAN, 0.3, None, 0.2]


@pytest.fixture
def sweep(xtrack, tmp_path):
    """Six runs, an hour apart."""
    events = []
    for n, loss in enumerate(LOSSES):
        run = f"run-{n}"
        payloads = [
            RunStart(RunId(run, "exp"), name=f"sweep-{n}", tags={"team": "a" if n % 2 else "b"}),
            Param(run, "lr", 10**-n),
            Param(run, "opt", "adam" if n < 3 else "sgd", nested_key=["name"]),
            Param(run, "text", str(n)),
            Param(run, "nesterov", n > 2),
        ]
        if loss is not None:
            payloads += [Metric(run, "val/loss", 2.0, step=1), Metric(run, "val/loss", loss, step=2)]
        payloads += [
            Metric(run, "my metric", n, step=1),
            Metric(run, "accuracy", n / 10, step=1),
            Summary(run, {"best": n}),
        ]
        events += stream(run, [*payloads, RunEnd(run, "completed", duration_ms=n * 1000)], at=T0 + n * 3_600_000_000)
    (tmp_path / "sweep.bin").write_bytes(capture(events))
    assert xtrack("replay", "sweep.bin").code == 0


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("val/loss < 0.3", "15"),
        ("val/loss<=0.3", "135"),
        ("val/loss > 0.2", "03"),
        ("val/loss >= .2 and val/loss < 0.5", "35"),
        ("metrics.val/loss = 0.1", "1"),
        ("val/loss == 0.1", "1"),
        ("val/loss != 0.1", "0235"),
        ("val/loss = nan", "2"),
        ("val/loss != nan", "0135"),
        ("min(val/loss) > 0.4", "02"),
        ("max( val/loss ) = 2 AND lr < 0.05", "235"),
        ("last(metrics.val/loss) < 1e-1", ""),
        ("`my metric` >= 4", "45"),
        ("metrics.`my metric` >= 4", "45"),
        ("lr = 0.01", "2"),
        ("params.lr < 0.005", "345"),
        ("opt.name = adam", "012"),
        ("params.opt.name != 'adam'", "345"),
        ('opt.name ~ "s*"', "345"),
        ("text = 3", "3"),
        ("text < 2", "01"),
        ("nesterov = true", "345"),
        ("nesterov != true", "012"),
        ("tags.team = a", "135"),
        ("summary.best > 4", "5"),
        ("name ~ *-?", "012345"),
        ("status = completed and duration < 2", "01"),
        ("experiment = exp and id = run-4", "4"),
        ("name = 'and'", ""),
        ("nosuch = 1", ""),
        ("nosuch != 1", ""),
        ("opt.name < b", "012"),
        ("opt.name < 1", ""),
    ],
)
def test_conditions(xtrack, sweep, where, found):
    done = xtrack("ls", "-q", "--where", where)
    assert (done.code, done.err) == (0, "xtrack: none of these runs has 'nosuch'\n" if "nosuch" in where else "")
    assert "".join(sorted(line.removeprefix("run-") for line in done.out.split())) == found


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("", "expected the name of a metric or a param at the end of '' (character 1)"),
        ("loss", "expected one of < <= > >= = != ~ at the end of 'loss' (character 5)"),
        ("loss <", "expected a number or a text at the end of 'loss <' (character 7)"),
        ("loss << 1", "expected a number or a text at '< 1' behind 'loss <' (character 7)"),
        ("loss < 1 or x = 2", "expected 'and', or the end: there is no other way to join conditions, at 'or x = 2'"),
        ("loss < 1 and", "expected the name of a metric or a param at the end of 'loss < 1 and' (character 13)"),
        ("loss < 1 android", "expected 'and', or the end"),
        ("= 1", "expected the name of a metric or a param at '= 1' (character 1)"),
        ("min(loss < 1", "expected ')' at '< 1' behind 'min(loss ' (character 10)"),
        ("loss = 'open", 'expected a number or a text at "\'open"'),
        ("loss\x1b[31m", "character"),
    ],
)
def test_a_bad_condition_says_where(xtrack, where, problem):
    with pytest.raises(click.BadParameter) as caught:
        parse_conditions([where])
    assert problem in caught.value.message
    done = xtrack("ls", "--where", where)
    assert done.code == 2
    assert "\x1b" not in done.err
    assert done.err.count("\n") == 1


def test_other_filters(xtrack, sweep):
    def ids(*args):
        done = xtrack("ls", "--quiet", *args)
        assert done.code == 0, done.err
        return [int(line.removeprefix("run-")) for line in done.out.split()]

    assert ids() == [5, 4, 3, 2, 1, 0]
    assert ids("--param", "opt.name=sgd", "--param", "lr=0.001") == [3]
    assert ids("--since", "2023-11-15T00:00Z") == [5, 4, 3, 2]
    assert ids("--since", "2023-11-15T00:00Z", "--until", "2023-11-15T02:00Z") == [3, 2]
    assert ids("--since", "1h") == []
    assert ids("--where", "lr < 0.05", "--where", "lr > 0.0005", "--limit", "1") == [3]
    assert ids("--order", "val/loss") == [1, 5, 3, 0, 2, 4]
    assert ids("--order", "-val/loss") == [0, 3, 5, 1, 2, 4]
    assert ids("--order", "-max(accuracy)", "-n", "2") == [5, 4]
    assert ids("--order", "params.opt.name") == [2, 1, 0, 5, 4, 3]
    assert ids("--order", "name") == [0, 1, 2, 3, 4, 5]
    for args in (["--since", "5x"], ["--param", "lr"], ["--order", "a b"], ["--column", "min(x"]):
        assert xtrack("ls", *args).code == 2


def test_columns(xtrack, sweep):
    done = xtrack("ls", "--column", "val/loss", "--column", "opt.name", "--where", "text > 3")
    rows = [line.split("\t")[3:5] for line in done.out.splitlines()]
    assert rows == [["val/loss", "opt.name"], ["0.2", "sgd"], ["", "sgd"]]
    told = json.loads(xtrack("ls", "--column", "val/loss", "--json", "--where", "text = 2").out)
    assert told[0]["columns"] == {"val/loss": {"$float": "NaN"}}
    text = look("ls", "--column", "min(val/loss)", "--order", "val/loss", columns=60)
    assert "min(val/loss)" in text
    assert "no runs match" in look("ls", "--where", "lr > 5")


def test_sorting_keeps_what_has_no_value(sweep):
    with open_store("local:") as store:
        states = store.list_runs()
    assert [state.run_id for state in sort_runs(states, parse_operand("nosuch"), downward=True)] == [
        state.run_id for state in states
    ]


# ------------------------------------------------------------------------------------------ compare


def test_compare_with_a_line_a_run(xtrack, sweep):
    done = xtrack("compare", "sweep-*", "--rows", "--sort", "-val/loss", "--metric", "val*")
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert lines[0] == ["run_id", "run", "status", "val/loss", "lr", "nesterov", "opt.name", "text"]
    assert [line[0] for line in lines[1:]] == ["run-0", "run-3", "run-5", "run-1", "run-2", "run-4"]
    assert [line[3] for line in lines[1:]] == ["0.5", "0.3", "0.2", "0.1", "nan", ""]
    assert "\t".join(["", *(f"sweep-{n}" for n in range(6))]) in xtrack("compare", "sweep-*").out


def test_the_best_has_a_star(sweep):
    text = look("compare", "sweep-*", columns=120)
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith(" sweep-")}
    assert len(rows) == 6
    assert "0.1 *" in rows["sweep-1"]
    assert "0.5 *" in rows["sweep-5"]
    assert sum(line.count("*") for line in text.splitlines()) == 2
    text = look("compare", "run-0", "run-1", columns=120)
    assert "0.1 *" in text


def test_the_best_is_told(xtrack, sweep):
    told = json.loads(xtrack("compare", "sweep-*", "--json").out)
    assert told["best"] == {"accuracy": "run-5", "val/loss": "run-1"}
    told = json.loads(xtrack("compare", "sweep-*", "--json", "--high", "val/loss", "--low", "my metric").out)
    assert told["best"] == {"accuracy": "run-5", "my metric": "run-0", "val/loss": "run-0"}
    done = xtrack("compare", "sweep-*", "--low", "nosuch")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("xtrack: error: none of the runs has a metric 'nosuch'. There are 'accuracy', ")


@pytest.mark.parametrize(
    ("key", "best"),
    [
        ("loss", "low"), ("val_loss", "low"), ("train/Loss", "low"), ("eval.rmse", "low"), ("word_error", "low"),
        ("acc", "high"), ("val_accuracy", "high"), ("F1", "high"), ("roc_auc", "high"), ("mean_reward", "high"),
        ("lr", ""), ("epoch", ""), ("blossom", ""), ("accelerator", ""), ("interval", ""), ("mapped", ""),
    ],
)  # fmt: skip
def test_what_is_better(key, best):
    from xtrack_protocol.runs import fold
    from xtrack_protocol.session import StreamId

    states = []
    for n in (1, 2):
        events = stream(f"run-{n}", [RunStart(f"run-{n}"), Metric(f"run-{n}", key, n, step=1)])
        states.append(fold(f"run-{n}", [(StreamId(f"run-{n}", "", event.meta.session_id), event) for event in events]))
    assert best_runs(states, [key]) == {"low": {key: "run-1"}, "high": {key: "run-2"}, "": {}}[best]


def test_a_long_name_is_judged_at_once():
    begun = time.monotonic()
    assert best_runs([], ["1" * 50_000]) == {}
    assert time.monotonic() - begun < 5


def test_nothing_is_the_best_of_equals(xtrack, store):
    assert json.loads(xtrack("compare", "good-1", "good-1", "--json", "--store", store).out)["best"] == {}


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_compare_fifty(xtrack, tmp_path, columns):
    events = []
    for n in range(50):
        run = f"run-{n}"
        name = f"sweep-with-a-name-that-goes-on-and-on-lr-{n:05}-and-ends-alike"
        payloads = [RunStart(run, name=name), Param(run, "text", "x" * n), Param(run, "名前" * 20, n)]
        for key in ("loss", "名前"):
            payloads.append(Metric(run, f"a/metric/with/a/name/too/long/for/any/table/{key}", n, step=1))
        events += stream(run, [*payloads, RunEnd(run, "completed")], at=T0 + n)
    (tmp_path / "fifty.bin").write_bytes(capture(events))
    xtrack("replay", "fifty.bin")
    text = look("compare", "sweep-*", columns=columns)
    lines = [line for line in text.splitlines() if line.startswith(" …")]
    assert len(lines) == 50
    assert len({line.split()[0] for line in lines}) == 50  # the names can be told apart
    assert all(len(line) <= columns for line in text.splitlines() if "--metric" not in line)
    assert columns > 100 or "don't fit here. --metric chooses" in text
