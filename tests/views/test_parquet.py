"""Parquet files: every point, exactly, and the runs beside them."""

import json
import math

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from xtrack_protocol import Tracker
from xtrack_protocol.cli._app import app
from xtrack_protocol.errors import StorageError
from xtrack_protocol.storage import LocalStore
from xtrack_protocol.views import POINTS_SCHEMA, open_runs, parquet

EXACT = 2**53 + 1


def export(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)


def test_every_point_exactly(base, tmp_path):
    done = export("base", "--parquet", "run.parquet")
    assert (done.exit_code, done.output) == (0, "run base: 8 rows written to run.parquet\n")
    table = pq.read_table("run.parquet")
    moment = pa.timestamp("us", "UTC")
    types = {"string": pa.string(), "int64": pa.int64(), "double": pa.float64(), "timestamp[us, UTC]": moment}
    assert {field.name: field.type for field in table.schema} == {k: types[kind] for k, kind in POINTS_SCHEMA.items()}
    with LocalStore() as store:
        expected = [(key, point) for key in store.metric_keys("base") for point in store.get_metrics("base", key)]
    for row, (key, point) in zip(table.to_pylist(), expected, strict=True):
        when = row.pop("timestamp")
        assert round(when.timestamp() * 1e6) == point.timestamp_us
        context = point.context
        assert repr(row) == repr(
            {
                "run_id": "base",
                "key": key,
                "worker": "",
                "session": point.session_id,
                "seq": point.seq,
                "step": point.step,
                "epoch": point.epoch,
                "value": float(point.value),
                "integer": point.value if isinstance(point.value, int) else None,
                "phase": context and context.phase,
                "batch_size": context and context.batch_size,
                "dataset_size": context and context.dataset_size,
                "agg": context and context.agg,
            }
        )
    assert EXACT in table["integer"].to_pylist()
    assert float(EXACT) in table["value"].to_pylist()


def test_pandas_reads_it(base):
    export("base", "--parquet", "run.parquet")
    frame = pd.read_parquet("run.parquet")
    loss = frame[frame.key == "loss"]
    assert repr(loss.value.tolist()) == repr([math.inf, 0.5, math.nan, 0.25, 0.125])
    assert str(frame.timestamp.dtype) == "datetime64[us, UTC]"
    exact = pd.read_parquet("run.parquet", dtype_backend="pyarrow")
    assert exact.integer[exact.key == "count"].dropna().tolist() == [7, EXACT]


def test_what_is_known_of_the_run_is_beside_them(base, failed):
    open_runs(order="name").to_parquet("runs.parquet")
    bad, good = json.loads(pq.read_schema("runs.parquet").metadata[b"xtrack.runs"])
    assert (good["run_id"], good["status"], good["experiment"]) == ("base", "completed", "exp")
    assert (good["params"], good["tags"], good["summary"]) == (
        {"lr": 0.1, "layers": [1, 2]},
        {"kind": "a"},
        {"best": 0.125},
    )
    assert good["started_at"] <= good["ended_at"]
    assert bad["error"] == {"type": "ValueError", "message": "<b>no</b>"}
    assert bad["params"] == {"lr": "<img src=x>", "deep": None}
    assert pq.read_table("runs.parquet")["run_id"].to_pylist() == ["bad"] + ["base"] * 8


def test_in_groups_of_rows(monkeypatch, four):
    monkeypatch.setattr(parquet, "ROWS", 16)
    with Tracker.start_run(run_id="large", strict=True) as run:
        for step in range(200):
            run.log_metric("loss", step / 8, step // 2)
            run.log_metric("one step", step, 7)
            run.log_metric("no step", step)
            run.log_metrics({f"m{number}": number for number in range(5)} if step < 4 else {"loss": -1.0}, step)
        run.log_metric("loss", 0.5)  # so that it has to be read as a whole
        for step in (-(2**63), 2**63 - 1):
            run.log_metric("wide", 1, step)
        for step in range(100):
            run.log_metric("wide", step, step - 50)
    assert open_runs().to_parquet("runs.parquet") == 200 * 4 + 1 + 4 * 5 - 4 + 102 + 41
    file = pq.ParquetFile("runs.parquet")
    sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert len(sizes) > 8
    assert sorted(sizes)[-4] <= 3 * 16, "but for those that can't be asked for in parts"
    rows = file.read().to_pylist()
    with LocalStore() as store:
        expected = [
            (run_id, key, point.step, float(point.value), point.worker_id)
            for run_id in ("large", "four")
            for key in store.metric_keys(run_id)
            for point in store.get_metrics(run_id, key)
        ]
    found = [(row["run_id"], row["key"], row["step"], row["value"], row["worker"]) for row in rows]
    assert repr(found) == repr(expected)


def test_points_that_were_rewound_over_are_left_out():
    run = Tracker.start_run(run_id="again")
    for step in range(10):
        run.log_metric("loss", 1.0, step)
    run.end("failed", error="x")
    with Tracker.start_run(run_id="again", resume=True, rewind_to=4) as run:
        run.log_metric("loss", 2.0, 5)
    open_runs().to_parquet("run.parquet")
    assert pq.read_table("run.parquet")["step"].to_pylist() == [0, 1, 2, 3, 4, 5]


def test_a_run_without_points():
    Tracker.start_run(run_id="empty").end()
    assert open_runs().to_parquet("run.parquet") == 0
    assert len(pd.read_parquet("run.parquet")) == 0
    assert open_runs(name="nosuch").to_parquet("none.parquet") == 0


def test_it_is_there_when_it_is_whole(base, tmp_path, monkeypatch):
    (tmp_path / "run.parquet").write_text("mine")
    with pytest.raises(StorageError, match="is there already"):
        open_runs().to_parquet(tmp_path / "run.parquet")
    done = export("base", "--parquet", "run.parquet")
    assert done.exit_code == 1
    assert "is there already" in done.output
    monkeypatch.setattr(LocalStore, "get_metrics", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        open_runs().to_parquet("other.parquet")
    monkeypatch.undo()
    assert (tmp_path / "run.parquet").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"run.parquet", "xd"}


def test_force_and_standard_output(base, tmp_path):
    (tmp_path / "run.parquet").write_text("mine")
    done = export("base", "--parquet", "run.parquet", "--force", "--json")
    assert json.loads(done.output) == {"run_id": "base", "written": {"run.parquet": 8}}
    assert pq.read_table("run.parquet").num_rows == 8
    assert export("base", "--parquet", "-").exit_code == 2
