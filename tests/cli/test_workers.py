"""Runs of several workers: each one's points, all of them together."""

import csv
import io
import json

from cli_runs import CROWD

AGGREGATE = """\
step\tcount\tmean\tmin\tmax\tnan
0\t64\t31.5\t0.0\t63.0\t0
2\t63\t32.48412698412698\t0.5\t63.5\t1
"""


def test_aggregate(xtrack, crowd):
    assert xtrack("metrics", "crowd", "loss", "--aggregate", "--store", crowd).out == AGGREGATE
    lines = xtrack("metrics", "crowd", "loss", "--aggregate", "--format", "jsonl", "--store", crowd).out.splitlines()
    assert json.loads(lines[0]) == {"step": 0, "count": 64, "mean": 31.5, "min": 0.0, "max": 63.0, "nan": 0}
    done = xtrack("metrics", "crowd", "loss", "--aggregate", "--json", "--store", crowd, "--min-step", "1")
    assert [line["step"] for line in json.loads(done.out)] == [2]
    assert xtrack("metrics", "crowd", "loss", "--aggregate", "-n", "1", "--store", crowd).out.count("\n") == 2
    assert xtrack("metrics", "crowd", "--aggregate", "--store", crowd).code == 2
    assert xtrack("metrics", "crowd", "lozz", "--aggregate", "--store", crowd).code == 1


def test_columns_of_workers(xtrack, crowd):
    done = xtrack(
        *("metrics", "crowd", "loss", "--aggregate", "--worker", "1", "--worker", "63", "--worker", "no such"),
        *("--format", "csv", "--store", crowd),
    )
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [(row["worker 1"], row["worker 63"], row["worker no such"]) for row in rows] == [
        ("1.0", "63.0", ""),
        ("nan", "63.5", ""),
    ]


def test_points_of_some_workers(xtrack, crowd):
    done = xtrack("metrics", "crowd", "loss", "--worker", "7", "--worker", "9", "--json", "--store", crowd)
    found = [(point["step"], point["worker"]) for point in json.loads(done.out)]
    assert found == [(0, "7"), (0, "9"), (2, "7"), (2, "9")]
    done = xtrack("metrics", "crowd", "loss", "--worker", "7", "--worker", "9", "-n", "3", "--json", "--store", crowd)
    assert len(json.loads(done.out)) == 3


def test_show_for_programs(xtrack, crowd):
    shown = json.loads(xtrack("show", "crowd", "--json", "--store", crowd).out)
    told = shown["metrics"]["loss"]["workers"]
    assert told == {"count": 63, "nan_count": 1, "mean": 32.48412698412698, "min": 0.5, "max": 63.5}
    assert len(shown["streams"]) == CROWD
    line = next(line for line in xtrack("show", "crowd", "--store", crowd).out.splitlines() if "\tloss\t" in line)
    assert line.endswith(" workers=63 mean=32.48412698412698 low=0.5 high=63.5")


def test_compare(xtrack, crowd):
    out = xtrack("compare", "crowd", "crowd", "--store", crowd).out
    assert "loss mean of workers' last\t32.48412698412698\t32.48412698412698\n" in out
