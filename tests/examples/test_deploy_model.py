"""A training's end starts a deployment, and both are told truthfully."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xtrack_protocol.runs import RunState
from xtrack_protocol.storage import LocalStore

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "deploy_model.py"


@pytest.fixture
def run(tmp_path: Path) -> Any:
    def script(*options: str) -> tuple[str, str, dict[str | None, RunState]]:
        environment = {"XTRACK_DIR": str(tmp_path / "spool"), "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *options],
            env=environment,
            cwd=tmp_path,
            text=True,
            capture_output=True,
            check=True,
            timeout=60,
        )
        with LocalStore(tmp_path / "spool") as store:
            assert store.get_experiment("model-deployments").tags == {"team": "serving"}
            return done.stdout, done.stderr, {state.name: state for state in store.list_runs()}

    return script


def test_what_was_trained_is_deployed(run: Any) -> None:
    out, _, runs = run()
    assert "deployed to https://models.example.com/churn/7" in out
    assert "items: 4" in out
    training, deployment, batch = runs["train"], runs["churn-7"], runs["process_batch"]
    assert (training.status, training.experiment_id, training.final_metrics) == (
        "completed",
        "model-training",
        {"accuracy": 0.93},
    )
    assert (deployment.status, deployment.parent_run_id) == ("completed", training.run_id)
    assert deployment.tags == {"status": "deployed", "deployment_url": "https://models.example.com/churn/7"}
    assert (batch.parent_run_id, batch.params) == (None, {"total_items": 4})
    assert {key: metric.last.value for key, metric in batch.metrics.items() if "_" in key} == {
        "total_processed": 3,
        "total_failed": 1,
        "success_rate": 0.75,
    }
    assert [record.entry.level for record in batch.logs] == ["warning"]


def test_a_deployment_that_fails(run: Any) -> None:
    _, err, runs = run("--broken")
    deployment = runs["churn-7"]
    assert (deployment.status, deployment.tags) == ("failed", {"status": "failed"})
    assert deployment.error is not None
    assert (deployment.error.type, deployment.error.message) == ("ConnectionError", "the cluster doesn't answer")
    assert runs["train"].status == "completed"
    assert "a listener failed: ConnectionError" in err
