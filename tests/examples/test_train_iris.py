"""The example trains for real, and the store holds what it says of itself."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from xtrack_protocol import stream_file
from xtrack_protocol.runs import fold
from xtrack_protocol.session import StreamResolver
from xtrack_protocol.storage import LocalStore

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CAPTURE = EXAMPLES / "data" / "iris-run.xtrack"


def train(folder, *options, check=True):
    environment = {"XTRACK_DIR": str(folder / "spool"), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    command = [sys.executable, str(EXAMPLES / "train_iris.py"), "--out", str(folder / "out"), *options]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=check, timeout=60)


@pytest.fixture
def runs(tmp_path):
    def newest():
        with LocalStore(tmp_path / "spool") as store:
            state = store.list_runs()[0]
            return state, {key: store.get_metrics(state.run_id, key) for key in store.metric_keys(state.run_id)}

    return newest


def test_what_it_prints_is_what_was_tracked(tmp_path, runs):
    printed = train(tmp_path, "--epochs", "20").stdout.splitlines()
    state, series = runs()
    assert (state.status, state.name, state.experiment_id, state.lost_events) == ("completed", "iris", "iris", 0)
    assert len(series["loss"]) == 200
    assert [point.step for point in series["loss"]] == list(range(1, 201))
    assert {point.context.phase for point in series["loss"]} == {"train"}
    for line, loss, accuracy in zip(printed, series["val_loss"], series["val_accuracy"], strict=True):
        epoch, said_loss, said_accuracy = re.match(
            r"epoch +(\d+)/20 .* val_loss ([\d.]+)  val_accuracy ([\d.]+)", line
        ).groups()
        assert (int(epoch), said_loss, said_accuracy) == (loss.epoch, f"{loss.value:.4f}", f"{accuracy.value:.4f}")
    assert state.summary["val_accuracy"] == series["val_accuracy"][-1].value >= 0.93
    assert state.params["optimizer.lr"] == 0.02
    weights = json.loads(Path(state.best_checkpoint.checkpoint.path).read_text())
    assert weights["step"] == state.best_checkpoint.checkpoint.step
    (artifact,) = state.artifacts
    assert Path(artifact.artifact.path).stat().st_size == artifact.artifact.size_bytes
    assert sum(int(cell) for cell in re.findall(r"(?<=,)\d+", Path(artifact.artifact.path).read_text())) == 30


def test_a_diverged_training_is_kept_with_its_nans(tmp_path, runs):
    train(tmp_path, "--diverge", "--epochs", "10")
    state, series = runs()
    values = [point.value for point in series["loss"]]
    assert state.status == "completed"
    assert any(math.isinf(value) for value in values)
    assert math.isnan(values[-1])
    assert state.metrics["loss"].nan_count == sum(math.isnan(value) for value in values)


def test_a_crashed_training_goes_on_as_if_nothing_had_been(tmp_path, runs):
    (tmp_path / "whole").mkdir()
    train(tmp_path / "whole", "--epochs", "20")
    crashed = train(tmp_path, "--epochs", "20", "--crash-at-step", "125", check=False)
    assert crashed.returncode == 1
    state, series = runs()
    assert (state.status, state.error.type, len(series["loss"])) == ("failed", "RuntimeError", 125)
    assert "crashed at step 125" in state.error.message
    assert "Traceback" in state.error.traceback

    train(tmp_path, "--epochs", "20", "--resume", state.run_id)
    resumed, series = runs()
    assert (resumed.run_id, resumed.status, resumed.error) == (state.run_id, "completed", None)
    with LocalStore(tmp_path / "whole" / "spool") as store:
        whole = store.list_runs()[0]
        expected = [(point.step, point.value) for point in store.get_metrics(whole.run_id, "loss")]
    assert [(point.step, point.value) for point in series["loss"]] == expected


def test_the_captured_log_is_a_whole_run():
    frames = list(stream_file(CAPTURE))
    resolver = StreamResolver()
    state = fold("iris-example", [(resolver.resolve(frame.envelope), frame.envelope) for frame in frames])
    assert len(frames) == 163
    assert (state.status, state.name, state.metrics["loss"].count) == ("completed", "iris", 120)
    assert [stream.gaps for stream in state.streams] == [()]
