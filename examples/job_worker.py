"""Run training jobs from a folder, one after another, each as a tracked run; any number of workers may share it.

    python examples/job_worker.py jobs            # until every job is done
    python examples/job_worker.py jobs --watch    # and wait for more

A job is a file, say `jobs/small.json`; the run's id is its name:

    {"command": "python", "args": ["examples/train_iris.py"], "name": "small", "timeout": 3600, "attempts": 3}

A run that has failed, was killed or is lost is resumed under its id, until it was started `attempts` times (3). One
that takes longer than `timeout` seconds (a day), all attempts together, is stopped: it is asked to, and killed if it
doesn't. The outcome goes to `jobs/small.result.json`. Who works on a job holds the lock `jobs/small.lock`, which the
system takes from a process that dies: another worker then goes on with the job. A training that outlived its worker is
waited for, and not started twice.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from xtrack_protocol.collector import Collector, LaunchedRun, RunManager, send_command
from xtrack_protocol.errors import CommandNotExecutable, CommandNotFound, LaunchError, RunNotFound, XTrackError
from xtrack_protocol.runs import RunState
from xtrack_protocol.spool import FileLock

DAY = 24 * 3600.0
GRACE = 10.0
POLL = 0.5


class AlreadyRunning(LaunchError):
    """A run that is to be started is running."""


class Job:
    """A job's file, and what is known of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.stem
        self.result = path.with_suffix(".result.json")
        self.lock = FileLock(path.with_suffix(".lock"))

    def read(self) -> dict[str, Any]:
        """What is to be done. Raises ValueError or TypeError for what is no job."""
        job = json.loads(self.path.read_text(encoding="utf-8"))
        if not isinstance(job, dict) or not isinstance(job.get("command"), str):
            raise TypeError('a job is an object with a "command"')
        return job

    def finish(self, **outcome: Any) -> None:
        unfinished = self.result.with_suffix(".tmp")
        unfinished.write_text(json.dumps(outcome) + "\n", encoding="utf-8")
        unfinished.replace(self.result)  # whoever reads it finds all of it or nothing
        print(f"{self.run_id}: {outcome}", flush=True)


class Worker:
    """Performs jobs. `manager` starts runs, and reads the store that they are in."""

    def __init__(self, manager: RunManager) -> None:
        self.manager = manager

    def perform(self, job: Job) -> None:
        """Do a job to its end, from wherever it was left."""
        try:
            order = job.read()
            timeout, attempts = float(order.get("timeout", DAY)), int(order.get("attempts", 3))
        except (OSError, ValueError, TypeError) as error:
            job.finish(status="invalid", error=str(error))
            return
        is_told = False
        while True:
            state = self.state(job.run_id)
            left = timeout if state is None else timeout - age(state)
            if state is not None and (state.status == "completed" or (state.status != "running" and left <= 0)):
                break
            if left <= 0:
                with suppress(LaunchError):  # nobody listens
                    send_command(self.manager.root, job.run_id, "stop", timeout=GRACE)
                job.finish(status="timed out", run="running", after=timeout)
                return
            if state is None or len(starts(state)) < attempts:
                try:
                    run = self.start(job, order, is_known=state is not None)
                except AlreadyRunning:  # its worker died, and it didn't
                    if not is_told:
                        print(f"{job.run_id}: still running; its worker is gone", flush=True)
                    is_told = True
                except XTrackError as error:  # no such command, no room
                    job.finish(status="not started", error=str(error))
                    return
                else:
                    if run.wait(left) is None:
                        stopped = run.stop(GRACE)
                        job.finish(status="timed out", run=stopped and stopped.status, after=timeout)
                        return
                    continue
            elif state.status != "running":
                break
            self.wait_for_news(job.run_id)
        job.finish(status=state.status, error=state.error.message if state.error else None, attempts=len(starts(state)))

    def start(self, job: Job, order: dict[str, Any], *, is_known: bool) -> LaunchedRun:
        """Start a run, or resume it. Raises AlreadyRunning where a process still logs to it."""
        try:
            return self.manager.start_run(
                order["command"],
                order.get("args", []),
                run_id=job.run_id,
                name=order.get("name", job.run_id),
                experiment_id=order.get("experiment"),
                tags={"job": job.path.name},
                resume=is_known,
            )
        except (CommandNotFound, CommandNotExecutable):
            raise
        except LaunchError as error:
            raise AlreadyRunning(str(error)) from error

    def wait_for_news(self, run_id: str) -> None:
        """Wait until a run that wasn't started here has ended, a little while at most."""
        collector = Collector(self.manager.local_store())
        with collector.subscribe(run_id, after=None, until_end=True, timeout=POLL) as events:
            for _ in events:
                pass

    def state(self, run_id: str) -> RunState | None:
        try:
            return self.manager.local_store().get_run(run_id)
        except RunNotFound:
            return None


def age(state: RunState) -> float:
    """Seconds since a run began."""
    return time.time() - state.started_at_us / 1e6 if state.started_at_us else 0.0


def starts(state: RunState) -> list[str]:
    """The sessions of a run's launchers: one for each attempt."""
    return [stream.stream.session_id for stream in state.streams if stream.stream.worker_id == "launcher"]


def work(folder: Path, worker: Worker) -> int:
    """Do every job that nobody else does; return how many are left, which are others'."""
    left = 0
    for path in sorted(folder.glob("*.json")):
        job = Job(path)
        if path.name.endswith(".result.json") or job.result.exists():
            continue
        if not job.lock.acquire():
            left += 1
            continue
        try:
            if not job.result.exists():  # another worker may have finished it just now
                worker.perform(job)
        finally:
            job.lock.release()
    return left


def main() -> int:
    parser = argparse.ArgumentParser(description="Run training jobs from a folder, each as a tracked run.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--watch", action="store_true", help="wait for more jobs; Ctrl-C ends it")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    worker = Worker(RunManager())
    try:
        while work(options.folder, worker) or options.watch:
            time.sleep(POLL)
    except KeyboardInterrupt:
        return 130
    finally:
        worker.manager.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
