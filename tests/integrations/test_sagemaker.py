"""What SageMaker puts into a training container, as its documentation and its toolkit have it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.emitter import tracker
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.integrations.sagemaker import failure_file, hyperparameters, start_run, worker, write_failure
from xtrack_protocol.storage import open_store


@pytest.fixture
def ml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as /opt/ml, and none of SageMaker's variables."""
    for name in list(os.environ):
        if name.startswith(("SM_", "XTRACK_", "TRAINING_JOB_", "SLURM_", "OMPI_", "PMI")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(tracker, "_bound", {})  # as if this process had started no run yet
    monkeypatch.setenv("XTRACK_QUIET", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "ml"
    (root / "input" / "config").mkdir(parents=True)
    (root / "checkpoints").mkdir()
    return root


def config(root: Path, name: str, value: Any) -> None:
    (root / "input" / "config" / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))


def test_hyperparameters(ml: Path) -> None:
    """The toolkit's variable has types; the file, which every container has, texts."""
    expected = {"lr": 0.1, "epochs": 3, "name": "resnet", "flag": True, "layers": [1, 2], "quoted": "3", "odd": "1e"}
    toolkit = {**expected, "sagemaker_program": "train.py"}
    assert hyperparameters({"SM_HPS": json.dumps(toolkit)}, ml) == expected
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in toolkit.items()}
    config(ml, "hyperparameters", {**texts, "quoted": '"3"'})
    assert hyperparameters({"SM_HP_LR": "0.5"}, ml) == expected


def test_hyperparameters_by_single_variables(ml: Path) -> None:
    environ = {"SM_HP_LEARNING-RATE": "0.5", "SM_HP_OPTIMIZER": "adam", "SM_HP_BATCH_SIZE": "32", "SM_HOSTS": "[]"}
    assert hyperparameters(environ, ml) == {"learning-rate": 0.5, "optimizer": "adam", "batch_size": 32}
    assert hyperparameters({}, ml) == {}


@pytest.mark.parametrize("text", ["{", "[]", "\ud800"])
def test_hyperparameters_that_are_none(ml: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="SM_HPS"):
        hyperparameters({"SM_HPS": text}, ml)


def test_workers(ml: Path) -> None:
    assert worker({}, ml) == (0, 1)
    assert worker({"SM_HOSTS": '["algo-1", "algo-2"]', "SM_CURRENT_HOST": "algo-2"}, ml) == (1, 2)
    config(ml, "resourceconfig", {"current_host": "algo-1", "hosts": ["algo-1", "algo-2", "algo-3"]})
    assert worker({}, ml) == (0, 3)
    with pytest.raises(ConfigurationError, match=r"^SM_HOSTS=.*doesn't name this host, 'algo-2'"):
        worker({"SM_HOSTS": '["algo-1"]', "SM_CURRENT_HOST": "algo-2"}, ml)
    config(ml, "resourceconfig", {"current_host": "algo-1"})
    with pytest.raises(ConfigurationError, match=r"resourceconfig\.json: hosts=None: doesn't name this host, 'algo-1'"):
        worker({}, ml)


def test_a_job(ml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two hosts, whose spot instances are taken away: run id, workers, params, and the same run again."""
    monkeypatch.setenv("TRAINING_JOB_NAME", "job-1")
    config(ml, "hyperparameters", {"lr": "0.1"})
    code = f"""
        import os, signal, sys
        from pathlib import Path
        from xtrack_protocol.integrations import sagemaker
        with sagemaker.failure_file(Path({str(ml)!r})), sagemaker.start_run("spot", root=Path({str(ml)!r})) as run:
            run.log_metric("loss", 1.0, step=1)
            assert run.resumed == (len(sys.argv) == 1)
            if len(sys.argv) > 1:
                os.kill(os.getpid(), signal.SIGTERM)
        """
    script = ml / "train.py"
    script.write_text(textwrap.dedent(code))

    def start(host: str, *arguments: str) -> int:
        config(ml, "resourceconfig", {"current_host": host, "hosts": ["algo-1", "algo-2"]})
        environ = {**os.environ, "XTRACK_SIGNALS": "TERM=end"}
        return subprocess.run([sys.executable, str(script), *arguments], check=False, env=environ).returncode

    if sys.platform != "win32":
        assert [start("algo-1", "first"), start("algo-2", "first")] == [-signal.SIGTERM] * 2
        with open_store(f"local:{ml}/checkpoints/xtrack") as store:
            assert store.get_run("job-1").status == "killed"
    assert [start("algo-1"), start("algo-2")] == [0, 0]
    with open_store(f"local:{ml}/checkpoints/xtrack") as store:
        state = store.get_run("job-1")
        assert (state.name, state.status, state.world_size) == ("spot", "completed", 2)
        assert state.params == {"lr": 0.1}
        assert {point.worker_id for point in store.get_metrics("job-1", "loss")} == {"0", "1"}
    assert not (ml / "output" / "failure").exists()


def test_what_is_given_wins(ml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINING_JOB_NAME", "job-1")
    monkeypatch.setenv("XTRACK_RUN_ID", "other")
    monkeypatch.setenv("XTRACK_DIR", str(ml / "elsewhere"))
    config(ml, "resourceconfig", {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]})
    with start_run(root=ml, worker_id="mine", params={"a": 1}) as run:
        assert (run.run_id, run.worker_id) == ("other", "mine")
    with open_store(f"local:{ml}/elsewhere") as store:
        assert list(store.get_run("other").params) == ["a"]


def test_a_failure(ml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="out of luck"), failure_file(ml):
        raise ValueError("out of luck")
    text = (ml / "output" / "failure").read_text()
    assert text.startswith("ValueError: out of luck\n")
    assert "Traceback (most recent call last)" in text
    assert write_failure("said \ud800 by hand", ml)
    assert (ml / "output" / "failure").read_text() == "said \\ud800 by hand"
    (ml / "file").touch()
    assert not write_failure("x", ml / "file")
    assert not capsys.readouterr().err, "who calls it is told by what it returns"
    with pytest.raises(ValueError, match="out of luck"), failure_file(ml / "file"):
        raise ValueError("out of luck")
    assert f"warning: {ml}/file/output/failure can't be written" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "fails"), [(0, False), (None, False), (3, True), (["no", "data"], True)])
def test_exits(ml: Path, code: Any, fails: bool) -> None:
    with pytest.raises(SystemExit), failure_file(ml):
        sys.exit(code)
    assert (ml / "output" / "failure").exists() == fails
