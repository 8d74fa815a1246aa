"""The same script with trackio itself: what it keeps of steps and values is what we keep."""

import json
import os
import subprocess
import sys

import pytest

from xtrack_protocol.storage import LocalStore

pytestmark = pytest.mark.frameworks

SCRIPT = """
import sys
if sys.argv[1] == "ours":
    import xtrack_protocol.integrations.trackio as trackio
    own = {}
else:
    import trackio
    own = {"auto_log_cpu": False, "auto_log_gpu": False}
try:
    trackio.init(project="p", name="n", resume="must", **own)
except ValueError:
    pass
else:
    raise SystemExit("a run that isn't there was resumed")
trackio.init(project="p", name="n", config={"lr": 0.1}, **own)
trackio.log({"loss": 0.5})
trackio.log({"loss": float("nan"), "acc": 1}, step=5)
trackio.log({"loss": float("inf")})
trackio.log({"loss": 0.25}, step=2)
trackio.log({"loss": 0.125})
trackio.log_system({"gpu": 0.5})
trackio.init(project="p", name="m", **own)
trackio.log({"loss": 9.0})
trackio.finish()
trackio.init(project="p", name="n", resume="allow", **own)
trackio.log({"loss": 0.0625})
trackio.finish()
"""

READ = """
import json
from trackio.sqlite_storage import SQLiteStorage
print(json.dumps(SQLiteStorage.get_logs("p", "n")))
"""


def test_steps_and_values_are_as_trackio_has_them(tmp_path):
    pytest.importorskip("trackio")
    environ = os.environ | {
        "TRACKIO_DIR": str(tmp_path / "t"),
        "XTRACK_DIR": str(tmp_path / "x"),
        "HF_HUB_OFFLINE": "1",
    }

    def python(code, *arguments):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environ, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    python(SCRIPT, "theirs")
    python(SCRIPT, "ours")
    theirs = json.loads(python(READ).splitlines()[-1])
    with LocalStore(tmp_path / "x") as store:
        ours = {key: store.get_metrics(store.find_run("n"), key) for key in ("loss", "acc")}
    for key, points in ours.items():
        expected = sorted((row["step"], row[key]) for row in theirs if key in row)
        assert repr([(point.step, float(point.value)) for point in points]) == repr(
            [(step, float(value)) for step, value in expected]
        )
    assert [point.step for point in ours["loss"]] == [0, 2, 5, 6, 7, 8]
