"""Tables of pandas and pyarrow: exact, typed, and without an object a point."""

import json
import math
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pytest

from xtrack_protocol import Tracker
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.views import open_runs

UTC_US = "datetime64[us, UTC]"


def same(a, b):
    """Whether numbers are the same, NaN included."""
    return [*map(repr, a)] == [*map(repr, b)]


def test_points_of_a_run(base):
    frame = open_runs()["base"].to_pandas()
    assert [*frame.columns] == ["key", "worker", "step", "timestamp", "value"]
    assert (str(frame.step.dtype), str(frame.timestamp.dtype), str(frame.value.dtype)) == ("Int64", UTC_US, "float64")
    assert [*frame.key] == ["count", "count", *["loss"] * 5, "system/gpu"]
    assert [*frame.worker] == [""] * 8
    loss = frame[frame.key == "loss"]
    assert [*loss.step] == [-1, 1, 2, 3, 3]
    assert same(loss.value.tolist(), [math.inf, 0.5, math.nan, 0.25, 0.125])
    assert loss.timestamp.iloc[0] == pd.Timestamp(10**15 - 1, unit="us", tz="UTC")
    assert frame.step[frame.key == "system/gpu"].isna().all()
    assert frame.value.iloc[-1] == -math.inf


def test_points_of_a_run_in_arrow(base):
    table = open_runs()["base"].to_arrow()
    assert table.schema.equals(
        pa.schema(
            {
                "key": pa.string(),
                "worker": pa.string(),
                "step": pa.int64(),
                "timestamp": pa.timestamp("us", "UTC"),
                "value": pa.float64(),
            }
        )
    )
    assert table["step"].to_pylist() == [1, None, -1, 1, 2, 3, 3, None]
    assert same(table["value"].to_pylist()[2:], [math.inf, 0.5, math.nan, 0.25, 0.125, -math.inf])
    table.validate(full=True)
    frame = open_runs()["base"].to_pandas()
    assert [*table["timestamp"].to_pandas()] == [*frame.timestamp]


def test_of_several_workers(four):
    run = open_runs()["four"]
    frame = run.to_pandas()
    assert [*frame.groupby(["key", "worker"]).size().items()] == [
        (("loss", "0"), 10),
        (("loss", "1"), 10),
        (("loss", "2"), 10),
        (("loss", "3"), 10),
        (("own", "1"), 1),
    ]
    table = run.to_arrow()
    assert (table["key"].to_pylist(), table["worker"].to_pylist()) == ([*frame.key], [*frame.worker])
    assert same(table["value"].to_pylist(), frame.value.tolist())
    assert len(run.to_pandas(worker="1")) == 11 == len(run.to_arrow(worker="1"))
    with pytest.raises(KeyError, match="no worker"):
        run.to_pandas(worker="one")
    with pytest.raises(KeyError, match="no worker"):
        run.to_arrow(worker="one")


def test_wide(base, four):
    runs = open_runs()
    wide = runs["base"].to_pandas(wide=True)
    assert (wide.index.name, [*wide.index], [*wide.columns]) == ("step", [-1, 1, 2, 3], ["count", "loss", "system/gpu"])
    assert same(wide["loss"].tolist(), [math.inf, 0.5, math.nan, 0.125])
    assert same(wide["count"].tolist(), [math.nan, 7.0, math.nan, math.nan])
    mean = runs["four"].to_pandas(wide=True)
    assert mean["loss"].tolist() == [step + 1.5 if step != 5 else 6.0 for step in range(10)]
    assert same(mean["own"].tolist(), [1.5] + [math.nan] * 9)
    assert same(runs["four"].to_pandas(wide=True, worker="3")["loss"].tolist()[4:7], [7.0, math.nan, 9.0])


def test_a_series(base):
    loss = open_runs()["base"].series("loss")
    frame = loss.to_pandas()
    assert [*frame.columns] == ["step", "timestamp", "value"]
    assert same(frame.value.tolist(), [math.inf, 0.5, math.nan, 0.25, 0.125])
    assert loss.to_arrow()["step"].to_pylist() == [-1, 1, 2, 3, 3]
    frame.loc[0, "value"] = 1.0  # it is a copy
    assert loss.series.values[0] == math.inf


def test_nothing_at_all():
    Tracker.start_run("empty", run_id="empty").end()
    runs = open_runs()
    assert [*runs[0].to_pandas().columns] == ["key", "worker", "step", "timestamp", "value"]
    assert [str(kind) for kind in runs[0].to_pandas().dtypes[2:]] == ["Int64", UTC_US, "float64"]
    assert runs[0].to_arrow().num_rows == len(runs[0].to_pandas(wide=True)) == 0
    assert runs[0].to_pandas(wide=True).index.name == "step"
    none = open_runs(name="nosuch")
    assert [*none.to_pandas().columns] == none.to_arrow().column_names
    assert (len(none.to_pandas()), none.to_arrow().num_rows) == (0, 0)


def test_a_table_of_runs(base, four, failed):
    frame = open_runs(order="name").to_pandas().set_index("run_id")
    assert [*frame.index] == ["bad", "base", "four"]
    assert [*frame.status] == ["failed", "completed", "completed"]
    assert (str(frame.started.dtype), str(frame.duration.dtype)) == (UTC_US, "timedelta64[ms]")
    row = frame.loc["base"]
    assert (row["experiment"], row["tags.kind"], row["summary.best"]) == ("exp", "a", 0.125)
    assert (row["params.lr"], row["params.layers"]) == (0.1, [1, 2])
    assert (frame.loc["bad", "params.lr"], frame.loc["four", "params.lr"]) == ("<img src=x>", None)
    assert math.isinf(row["metrics.loss.max"])
    assert (row["metrics.loss.last"], row["metrics.loss.min"]) == (math.inf, 0.125)
    assert row["metrics.count.max"] == 2**53 + 1, "integers stay exact"
    assert pd.isna(frame.loc["bad", "metrics.count.max"])
    assert str(frame["metrics.count.max"].dtype) == "Int64"
    assert frame.started.notna().all()


def test_a_table_of_runs_in_arrow(base, four, failed):
    table = open_runs(order="name").to_arrow()
    table.validate(full=True)
    rows = {row["run_id"]: row for row in table.to_pylist()}
    assert (rows["base"]["params.lr"], rows["bad"]["params.lr"], rows["four"]["params.lr"]) == (
        "0.1",
        '"<img src=x>"',
        None,
    )
    assert json.loads(rows["base"]["params.layers"]) == [1, 2]
    assert rows["base"]["metrics.count.max"] == 2**53 + 1
    assert table.schema.field("duration").type == pa.duration("ms")
    assert table.schema.field("started").type == pa.timestamp("us", "UTC")


def test_kinds_of_params():
    values = [
        {"int": 1, "mixed": 1, "flag": True, "text": "a", "nan": math.nan, "large": 2**60, "wide": 2**60},
        {"int": -2, "mixed": 0.5, "flag": False, "text": "b", "nan": 1.0, "large": 1, "wide": 0.5},
        {"none": None},
    ]
    for number, params in enumerate(values):
        Tracker.start_run(run_id=f"r{number}", params=params).end()
    frame = open_runs().to_pandas().set_index("run_id").loc[["r0", "r1", "r2"]]
    kinds = {name: str(frame[f"params.{name}"].dtype) for name in values[0]}
    assert kinds["text"] in {"str", "object"}
    assert {name: kind for name, kind in kinds.items() if name != "text"} == {
        "int": "Int64",
        "mixed": "float64",
        "flag": "boolean",
        "nan": "float64",
        "large": "Int64",
        "wide": "object",
    }
    assert [*frame["params.wide"]][:2] == [2**60, 0.5]
    assert frame["params.large"].iloc[0] == 2**60
    table = open_runs().to_arrow()
    types = {name: str(table.schema.field(f"params.{name}").type) for name in values[0]}
    assert types == {
        "int": "int64",
        "mixed": "double",
        "flag": "bool",
        "text": "string",
        "nan": "double",
        "large": "int64",
        "wide": "string",
    }


MISSING = """
import sys
sys.modules["pandas"] = sys.modules["pyarrow"] = None
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.views import open_runs
runs = open_runs()
runs._repr_html_(), runs[0]._repr_html_(), runs[0].series("loss").svg()
for call in (runs.to_pandas, runs[0].to_pandas, runs[0].series("loss").to_pandas, runs.to_arrow, runs[0].to_arrow,
             runs[0].series("loss").to_arrow, lambda: runs.to_parquet("x.parquet")):
    try:
        call()
    except ConfigurationError as error:
        print(error)
    else:
        raise SystemExit("no error")
"""


def test_without_pandas_and_pyarrow(base, tmp_path):
    done = subprocess.run([sys.executable, "-W", "error", "-c", MISSING], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.rpartition("pip install ")[2] for line in lines] == ["'xtrack-protocol[pandas]'"] * 3 + [
        "'xtrack-protocol[arrow]'"
    ] * 4
    assert not list(tmp_path.glob("*parquet*"))


def test_the_error_is_a_configuration_error(base, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"pyarrow.*can't be imported.*pip install 'xtrack-protocol\[arrow\]'"):
        open_runs()["base"].to_arrow()
