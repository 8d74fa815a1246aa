"""A disk that stays full to the end: the stream still declares its losses, and ends its run. spec: DLV-7.2"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from xtrack_protocol.spool.room import Ballast

TRAINING = """
import json, os, sys
from pathlib import Path
from xtrack_protocol import start_run
from xtrack_protocol.storage import LocalStore
root = Path(sys.argv[1])
run = start_run(run_id="r", transport=f"local:{root}", quiet=True)
for step in range(20_000):
    run.log("x" * 200, step=step)
if sys.argv[2] == "child":
    pid = os.fork()
    if not pid:
        for step in range(2000):
            run.log("y" * 200, step=step)
        run.end()
        os._exit(0)
    os.waitpid(pid, 0)
run.end()
(root / "index.db").unlink(missing_ok=True)
with LocalStore(root, index=sys.argv[3]) as store:
    state = store.get_run("r")
    print(json.dumps({
        "status": state.status, "dropped": run.stats().dropped, "gaps": [one.gaps for one in state.streams],
        "skipped": sum(last - first + 1 for one in state.streams if not one.sub for first, last in one.skipped),
    }))
"""


@pytest.mark.parametrize("what", ["alone", "child"])
def test_a_run_ends_on_a_disk_that_stays_full(tmp_path, what):
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare command here: no private mounts")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" || exit 77; exec "$2" -c "$3" "$1" "$4" "$5"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(disk), sys.executable, TRAINING, what, str(tmp_path / "i.db")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no private tmpfs can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["status"] == "completed", done.stderr
    assert told["dropped"] > 10_000
    assert told["skipped"] == told["dropped"]
    assert not any(told["gaps"])


def test_the_room_is_there_until_it_is_given_up_and_no_name_is_left(tmp_path):
    ballast = Ballast(tmp_path, 1 << 20)
    assert os.listdir(tmp_path) == []
    assert ballast.drop()
    assert not ballast.drop()
    assert not Ballast(tmp_path / "nowhere").drop()
