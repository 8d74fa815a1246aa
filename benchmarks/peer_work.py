"""What a tracker is asked to do, in an environment that has nothing but it: this file imports only Python's own.

    python peer_work.py NAME calls|few|rate|kill|count FOLDER NUMBER

All trackers run with their offline defaults, as a user would have them; only what they print is turned off.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

KEY = "train/loss"


class Tracker:
    """One run. ``kept`` looks at the folder after its process was killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def scalar(self, step: int, value: float) -> None:
        raise NotImplementedError

    def ten(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.named(step, name, value)

    def named(self, step: int, name: str, value: float) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    @staticmethod
    def kept(folder: Path) -> int:
        raise NotImplementedError


class XTrack(Tracker):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        os.environ["XTRACK_DIR"] = str(folder)
        import xtrack_protocol

        self.run = xtrack_protocol.start_run("bench", quiet=True)

    def scalar(self, step: int, value: float) -> None:
        self.run.log_metric(KEY, value, step=step)

    def ten(self, step: int, values: dict[str, float]) -> None:
        self.run.log_metrics(values, step=step)

    def close(self) -> None:
        self.run.end()

    @staticmethod
    def kept(folder: Path) -> int:
        from xtrack_protocol import Metric, stream_file

        frames = [frame for path in folder.rglob("*.xseg") for frame in stream_file(path)]
        return sum(frame.envelope is not None and isinstance(frame.envelope.payload, Metric) for frame in frames)


class Trackio(Tracker):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        os.environ["TRACKIO_DIR"] = str(folder)
        import trackio

        self.trackio = trackio
        trackio.init(project="bench", name="run")

    def scalar(self, step: int, value: float) -> None:
        self.trackio.log({KEY: value}, step=step)

    def ten(self, step: int, values: dict[str, float]) -> None:
        self.trackio.log(values, step=step)

    def close(self) -> None:
        self.trackio.finish()

    @staticmethod
    def kept(folder: Path) -> int:
        return sum(rows(path, "SELECT count(*) FROM metrics") for path in folder.rglob("*.db"))


class TensorBoardX(Tracker):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def scalar(self, step: int, value: float) -> None:
        self.writer.add_scalar(KEY, value, step)

    def named(self, step: int, name: str, value: float) -> None:
        self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()

    @staticmethod
    def kept(folder: Path) -> int:
        return sum(max(0, tf_records(path) - 1) for path in folder.rglob("*tfevents*"))


class TensorBoard(TensorBoardX):
    def __init__(self, folder: Path) -> None:
        Tracker.__init__(self, folder)
        from tensorboard.summary import Writer

        self.writer = Writer(str(folder))


class WandB(Tracker):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(folder)}
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(project="bench", dir=str(folder), mode="offline")

    def scalar(self, step: int, value: float) -> None:
        self.run.log({KEY: value}, step=step)

    def ten(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def close(self) -> None:
        self.run.finish()

    @staticmethod
    def kept(folder: Path) -> int:
        from wandb.proto import wandb_internal_pb2

        count = 0
        for path in folder.rglob("*.wandb"):
            for data in leveldb_records(path.read_bytes()[7:]):  # behind the header
                record = wandb_internal_pb2.Record()
                record.ParseFromString(data)
                count += record.WhichOneof("record_type") == "history"
        return count


class MLflow(Tracker):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        import mlflow

        self.mlflow = mlflow
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        mlflow.set_experiment("bench")
        mlflow.start_run()

    def scalar(self, step: int, value: float) -> None:
        self.mlflow.log_metric(KEY, value, step=step)

    def ten(self, step: int, values: dict[str, float]) -> None:
        self.mlflow.log_metrics(values, step=step)

    def close(self) -> None:
        self.mlflow.end_run()

    @staticmethod
    def kept(folder: Path) -> int:
        return rows(folder / "mlflow.db", "SELECT count(*) FROM metrics")


class SwanLab(Tracker):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        import swanlab

        self.swanlab = swanlab
        swanlab.init(project="bench", mode="offline", logdir=str(folder))

    def scalar(self, step: int, value: float) -> None:
        self.swanlab.log({KEY: value}, step=step)

    def ten(self, step: int, values: dict[str, float]) -> None:
        self.swanlab.log(values, step=step)

    def close(self) -> None:
        self.swanlab.finish()


class DVCLive(Tracker):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from dvclive import Live

        self.live = Live(str(folder), save_dvc_exp=False, report=None)

    def scalar(self, step: int, value: float) -> None:
        self.named(step, KEY, value)

    def named(self, step: int, name: str, value: float) -> None:
        self.live.step = step
        self.live.log_metric(name, value)

    def close(self) -> None:
        self.live.end()

    @staticmethod
    def kept(folder: Path) -> int:
        return sum(len(path.read_text().splitlines()) - 1 for path in folder.rglob("*.tsv"))


class Aim(Tracker):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from aim import Run

        self.run = Run(repo=str(folder), experiment="bench")

    def scalar(self, step: int, value: float) -> None:
        self.run.track(value, name=KEY, step=step)

    def named(self, step: int, name: str, value: float) -> None:
        self.run.track(value, name=name, step=step)

    def close(self) -> None:
        self.run.close()


class NeptuneScale(Tracker):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        from neptune_scale import Run

        self.run = Run(project="bench/bench", run_id="bench", mode="offline", log_directory=str(folder))

    def scalar(self, step: int, value: float) -> None:
        self.run.log_metrics({KEY: value}, step=step)

    def ten(self, step: int, values: dict[str, float]) -> None:
        self.run.log_metrics(values, step=step)

    def close(self) -> None:
        self.run.close()


TRACKERS: dict[str, tuple[type[Tracker], str]] = {
    "xtrack": (XTrack, "import xtrack_protocol"),
    "trackio": (Trackio, "import trackio"),
    "tensorboardX": (TensorBoardX, "import tensorboardX"),
    "tensorboard": (TensorBoard, "from tensorboard.summary import Writer"),
    "wandb": (WandB, "import wandb"),
    "mlflow": (MLflow, "import mlflow"),
    "swanlab": (SwanLab, "import swanlab"),
    "dvclive": (DVCLive, "import dvclive"),
    "aim": (Aim, "import aim"),
    "neptune-scale": (NeptuneScale, "import neptune_scale"),
}
"""What each is, and what a user's script imports of it."""


def rows(path: Path, query: str) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute(query).fetchone()[0])
    finally:
        connection.close()


def tf_records(path: Path) -> int:
    """Return how many whole records a file of TensorFlow events has."""
    data, position, count = path.read_bytes(), 0, 0
    while position + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        position += 16 + length
        count += position <= len(data)
    return count


def leveldb_records(data: bytes, *, before: int = 7) -> list[bytes]:
    """Return the whole records of a log in LevelDB's format; its blocks of 32 KiB begin ``before`` bytes earlier."""
    found, parts, position = [], [], 0
    while True:
        left = 32768 - (before + position) % 32768
        if left < 7:  # a record's head doesn't fit
            position += left
        if position + 7 > len(data):
            return found
        length, kind = struct.unpack_from("<HB", data, position + 4)
        part = data[position + 7 : position + 7 + length]
        if len(part) < length or kind == 0:
            return found
        position += 7 + length
        parts.append(part)
        if kind in {1, 4}:  # whole, or the last part of one
            found.append(b"".join(parts))
            parts = []


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def percentile(took: list[int], part: float) -> float:
    return sorted(took)[max(0, int(-(-len(took) * part // 1)) - 1)] / 1000


def timed(calls: list[Callable[[], None]]) -> list[int]:
    clock, took = time.perf_counter_ns, []
    for call in calls:
        begin = clock()
        call()
        took.append(clock() - begin)
    return took


def measure_calls(make: Callable[[Path], Tracker], folder: Path, number: int) -> dict[str, float]:
    """What a call takes, of one value and of ten; a hundred before them don't count."""
    rng = random.Random(1)
    tracker = make(folder)
    values = [rng.random() for _ in range(number + 100)]
    took = timed([lambda step=step, value=value: tracker.scalar(step, value) for step, value in enumerate(values)])
    first = len(values)
    tens = [{f"train/metric_{name}": rng.random() for name in range(10)} for _ in range(max(20, number // 10))]
    ten = timed([lambda step=step, some=some: tracker.ten(first + step, some) for step, some in enumerate(tens)])
    tracker.close()
    del took[:100]
    return {"p50_us": percentile(took, 0.5), "p99_us": percentile(took, 0.99), "ten_us": percentile(ten[5:], 0.5)}


WARM_UP = 100


def measure_few(make: Callable[[Path], Tracker], folder: Path, number: int) -> dict[str, float]:
    """What a run takes on disk that has only the first hundred values."""
    assert number == WARM_UP
    rng = random.Random(1)
    tracker = make(folder)
    for step in range(WARM_UP):
        tracker.scalar(step, rng.random())
    tracker.close()
    return {"size": size_of(folder)}


def measure_rate(make: Callable[[Path], Tracker], folder: Path, number: int) -> dict[str, float]:
    """How many values a second until the run is closed; a hundred before them don't count."""
    rng = random.Random(1)
    values = [rng.random() for _ in range(number + WARM_UP)]
    tracker = make(folder)
    for step in range(WARM_UP):
        tracker.scalar(step, values[step])
    begin = time.perf_counter()
    for step in range(WARM_UP, number + WARM_UP):
        tracker.scalar(step, values[step])
    tracker.close()
    seconds = time.perf_counter() - begin
    return {"rate": number / seconds, "size": size_of(folder)}


def be_killed(make: Callable[[Path], Tracker], folder: Path, number: int) -> None:
    tracker = make(folder)
    for step in range(number):
        tracker.scalar(step, step / 7)
    os.kill(os.getpid(), signal.SIGKILL)


def main(name: str, what: str, place: str, number: str) -> None:
    tracker, _ = TRACKERS[name]
    folder = Path(place)
    if what == "kill":
        be_killed(tracker, folder, int(number))
    if what == "count":
        try:
            found: dict[str, Any] = {"kept": tracker.kept(folder)}
        except NotImplementedError:
            found = {"kept": None}
    else:
        found = {"calls": measure_calls, "few": measure_few, "rate": measure_rate}[what](tracker, folder, int(number))
    Path(os.environ["BENCH_RESULT"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
