"""With trackio's calls, go on with a run in another process: its steps go on where they ended.

python examples/trackio_resume.py   # steps 0 to 49
python examples/trackio_resume.py   # steps 50 to 99, of the same run
"""

from __future__ import annotations

import json
from pathlib import Path

import xtrack_protocol.integrations.trackio as trackio

STATE = Path("trackio-resume.json")
STEPS = 50


def main() -> None:
    money = json.loads(STATE.read_text(encoding="utf-8")) if STATE.exists() else 100.0
    with trackio.init(project="savings", name="five-percent", config={"interest": 0.05}, resume="allow") as run:
        for _ in range(STEPS):
            money *= 1 + run.config["interest"] / 12
            run.log({"money": money})
    STATE.write_text(json.dumps(money), encoding="utf-8")
    print(f"{'went on with' if run.xtrack_run.resumed else 'started'} run {run.name}: {money:.2f}")


if __name__ == "__main__":
    main()
