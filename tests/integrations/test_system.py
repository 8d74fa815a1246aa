"""System metrics: of this machine, of containers' files as Linux writes them, and of a GPU's stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts import scripts_in

import xtrack_protocol as xtrack
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.integrations import _machine, _nvidia, system
from xtrack_protocol.integrations._cgroup import ControlGroup
from xtrack_protocol.ir import Metric, MetricBatch
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.transport import MemoryTransport

REFERENCE = Path(__file__).parents[2] / "docs" / "how-to" / "system-metrics-and-logs.md"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> MemoryTransport:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return MemoryTransport()


@pytest.fixture
def run(memory: MemoryTransport) -> Iterator[xtrack.Run]:
    with xtrack.Tracker.start_run(transport=memory, quiet=True) as run:
        yield run


def samples(memory: MemoryTransport) -> list[dict[str, float]]:
    return [event.payload.metrics for event in memory.events if isinstance(event.payload, MetricBatch)]


def wait_for(happened: Callable[[], object]) -> None:
    due = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < due, "30 s"
        time.sleep(0.01)


def test_the_series_are_those_of_the_reference(run: xtrack.Run, memory: MemoryTransport) -> None:
    with system.SystemMetrics(run, 0.1):
        wait_for(lambda: len(samples(memory)) >= 3)
    found = samples(memory)
    expected = set(system.KEYS)
    if not _machine.psutil.disk_io_counters():
        expected -= {key for key in system.KEYS if key.startswith("system/disk/") and "second" in key}
    assert set().union(*found) == expected
    assert all(key in found[0] for key in ("system/memory/percent", "system/memory/process_rss_bytes"))
    assert not any("second" in key for key in found[0])  # a rate needs two looks
    text = REFERENCE.read_text(encoding="utf-8")
    for key in (*system.KEYS, *(f"system/gpu.INDEX/{name}" for name in system.GPU_KEYS)):
        assert f"`{key}`" in text
    for sample in found:
        for key, value in sample.items():
            assert value >= 0, key
            assert value <= 100 or not key.endswith("/percent"), key
    events = [event for event in memory.events if isinstance(event.payload, MetricBatch)]
    assert {event.payload.step for event in events} == {None}


def test_what_this_process_does_is_seen(run: xtrack.Run, memory: MemoryTransport) -> None:
    readings = _machine.Readings(machine=False, children=True, disk="/", warn=lambda *_: pytest.fail("warned"))
    first = readings.read()
    assert set(first) == {"system/memory/process_rss_bytes"}
    block = b"x" * 200_000_000
    begun, used = time.monotonic(), time.process_time()
    while time.process_time() - used < 0.3:
        pass
    second = readings.read()
    lasted = time.monotonic() - begun
    assert second["system/cpu/process_percent"] > 100 * 0.3 / lasted * 0.5
    assert second["system/memory/process_rss_bytes"] - first["system/memory/process_rss_bytes"] > len(block) * 0.8


def test_children_count_with_their_parent(run: xtrack.Run, memory: MemoryTransport) -> None:
    def warn(*_: str) -> None:
        pytest.fail("warned")

    family = _machine.Readings(machine=False, children=True, disk="/", warn=warn)
    alone = _machine.Readings(machine=False, children=False, disk="/", warn=warn)
    code = "import sys\nblock = b'x' * 100_000_000\nprint(flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        key = "system/memory/process_rss_bytes"
        assert family.read()[key] - alone.read()[key] > 80_000_000
        child.communicate()


def test_the_end_of_the_run_stops_it_with_a_last_sample(memory: MemoryTransport) -> None:
    run = xtrack.Tracker.start_run(transport=memory, quiet=True)
    metrics = system.track_system(run, 3600)
    wait_for(lambda: samples(memory))
    run.end()
    assert len(samples(memory)) == 2
    assert memory.events[-1].event_type == "run_end"
    assert "xtrack-system" not in {thread.name for thread in threading.enumerate()}
    metrics.stop()
    metrics.start()  # of a run that has ended: nothing
    assert "xtrack-system" not in {thread.name for thread in threading.enumerate()}
    assert run.stats().refused == 0


def test_it_can_be_stopped_and_started_again(run: xtrack.Run, memory: MemoryTransport) -> None:
    metrics = system.SystemMetrics(run, 3600, machine=False)
    with metrics:
        metrics.start()  # a second time: the same
        assert [thread.name for thread in threading.enumerate()].count("xtrack-system") == 1
    before = len(samples(memory))
    assert before == 2
    with metrics:
        pass
    assert len(samples(memory)) == 4


def test_the_current_run_is_taken(memory: MemoryTransport) -> None:
    with xtrack.start_run(transport=memory, quiet=True), system.track_system(every=3600):
        pass
    assert samples(memory)


@pytest.mark.parametrize("every", [0, 0.01, -1, float("nan"), float("inf"), "10", None, True])
def test_wrong_intervals(run: xtrack.Run, every: Any) -> None:
    with pytest.raises(ConfigurationError, match="every"):
        system.track_system(run, every)


def test_wrong_arguments(run: xtrack.Run) -> None:
    for gpus in ([-1], ["0"], [True], [None]):
        with pytest.raises(ConfigurationError, match="nvidia-smi"):
            system.track_system(run, gpus=gpus)
    with pytest.raises(ConfigurationError, match="is no run"):
        system.track_system("run-1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        system.track_system(run, interval=3)  # type: ignore[call-arg]


def test_without_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xtrack_protocol.emitter.current._runs", [])
    with pytest.raises(ConfigurationError, match="Start one"):
        system.track_system()


def test_without_psutil(tmp_path: Path) -> None:
    done = scripts_in(tmp_path)(
        """
        import sys
        sys.modules["psutil"] = None  # as if it weren't installed
        import xtrack_protocol as xtrack
        from xtrack_protocol.integrations.system import track_system
        with xtrack.start_run(transport="memory", quiet=True) as run:
            try:
                track_system(run)
            except xtrack.XTrackError as error:
                print(error)
        """
    )
    assert "pip install 'xtrack-protocol[system]'" in done.stdout, done.stderr
    assert "psutil" in done.stdout


def test_what_fails_is_warned_of_once_and_the_rest_goes_on(
    run: xtrack.Run, memory: MemoryTransport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no /proc here")

    monkeypatch.setattr(_machine.psutil, "virtual_memory", broken)
    monkeypatch.setattr(_machine.psutil, "net_io_counters", broken)
    with system.SystemMetrics(run, 0.1):
        wait_for(lambda: len(samples(memory)) >= 4)
    assert "system/memory/percent" not in samples(memory)[-1]
    assert "system/disk/percent" in samples(memory)[-1]
    warned = [line for line in capsys.readouterr().err.splitlines() if "no /proc here" in line]
    assert len(warned) == 2
    assert run.stats().warnings == {"system memory": 1, "system network": 1}
    assert run.stats().refused == 0


def test_a_disk_that_hangs_does_not_hold_up_the_end(memory: MemoryTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    hang, entered = threading.Event(), threading.Event()

    def usage(_: str) -> None:
        entered.set()
        hang.wait(60)

    monkeypatch.setattr(_machine.psutil, "disk_usage", usage)
    monkeypatch.setattr(system, "_STOP_SECONDS", 0.05)
    with xtrack.Tracker.start_run(transport=memory, quiet=True) as run:
        system.track_system(run)
        assert entered.wait(30)
    assert memory.events[-1].event_type == "run_end"
    hang.set()
    wait_for(lambda: "xtrack-system" not in {thread.name for thread in threading.enumerate()})
    assert memory.events[-1].event_type == "run_end"
    assert run.stats().refused == 0  # what it found after the end isn't even tried


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_takes_no_samples_unless_it_begins_itself(tmp_path: Path) -> None:
    done = scripts_in(tmp_path)(
        """
        import os, threading, time
        import xtrack_protocol as xtrack
        from xtrack_protocol.integrations.system import track_system
        run = xtrack.start_run(run_id="r")
        metrics = track_system(run, 0.1)
        for again in (False, True):
            child = os.fork()
            if not child:
                run.log_metric("child", float(again))
                if again:
                    metrics.start()
                run.end()
                os._exit(3 if "xtrack-system" in [thread.name for thread in threading.enumerate()] else 0)
            assert os.waitpid(child, 0)[1] == 0
        """,
        XTRACK_DIR=str(tmp_path / "home"),
    )
    assert done.returncode == 0, done.stderr
    with LocalStore(tmp_path / "home") as store:
        state = store.get_run("r")
        events = [(event.stream, event.envelope.payload) for event in store.events("r")]
    by_child = {one.value: stream for stream, one in events if isinstance(one, Metric)}
    sampled = {stream for stream, one in events if isinstance(one, MetricBatch)}
    assert state.status == "completed"
    assert len(sampled) == 2
    assert by_child[0.0] not in sampled
    assert by_child[1.0] in sampled


def test_the_interpreter_ends_although_nobody_has_stopped_it(tmp_path: Path) -> None:
    done = scripts_in(tmp_path)(
        """
        import xtrack_protocol as xtrack
        from xtrack_protocol.integrations.system import track_system
        track_system(xtrack.start_run(run_id="r"), 3600)
        raise RuntimeError("the end")
        """,
        XTRACK_DIR=str(tmp_path / "home"),
    )
    assert done.returncode == 1
    with LocalStore(tmp_path / "home") as store:
        assert store.get_run("r").status == "failed"
        assert store.get_metrics("r", "system/memory/percent")


# ------------------------------------------------------------------------------------------ containers


def group_files(root: Path, name: str, **files: str) -> None:
    (root / name).mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (root / name / file.replace("_", ".", 1)).write_text(text)


def test_limits_of_a_container_are_those_of_the_narrowest_group(tmp_path: Path) -> None:
    """Files as the kernel writes them; the machine that ran this test had version 1 only."""
    root, own = tmp_path / "cgroup", tmp_path / "self"
    own.write_text("0::/kubepods/pod1/app\n")
    group_files(root, "kubepods/pod1/app", memory_max="max\n", cpu_max="max 100000\n")
    group_files(
        root,
        "kubepods/pod1",
        memory_max="4000000000\n",
        memory_current="3000000000\n",
        memory_stat="anon 1\nfile 2\ninactive_file 500000000\n",
        cpu_max="150000 100000\n",
        cpu_stat="usage_usec 2500000\nuser_usec 1\n",
    )
    group_files(root, "kubepods", memory_max="64000000000\n", cpu_max="800000 100000\n")
    group = ControlGroup(root, own)
    use = group.memory()
    assert use is not None
    assert (use.used, use.limit) == (2_500_000_000, 4_000_000_000)
    assert (group.cores, group.cpu_seconds()) == (1.5, 2.5)

    readings = _machine.Readings(machine=True, children=False, disk="/", warn=lambda *_: None, group=group)
    assert readings.read()["system/memory/percent"] == 62.5 or _machine.psutil.virtual_memory().total <= 4_000_000_000
    time.sleep(0.06)
    group_files(root, "kubepods/pod1", cpu_stat="usage_usec 2560000\n")
    assert 0 < readings.read()["system/cpu/percent"] <= 100 * 0.06 / 0.06 / 1.5 + 1


@pytest.mark.parametrize("said", ["", "12:cpu:/x\n", "0::/../other\n", "0::/absent\n", "0::/bad\n", None], ids=repr)
def test_without_limits_that_can_be_read_it_is_the_machine(tmp_path: Path, said: str | None) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "self"
    group_files(root, "bad", memory_max="a lot\n", cpu_max="100000\n")
    if said is not None:
        own.write_text(said)
    group = ControlGroup(root, own)
    assert (group.memory(), group.cores, group.cpu_seconds()) == (None, None, None)


def test_a_limit_whose_use_cannot_be_read(tmp_path: Path) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "self"
    own.write_text("0::/\n")
    group_files(root, ".", memory_max="1000\n", cpu_max="100000 100000\n")
    group = ControlGroup(root, own)
    assert (group.memory(), group.cores, group.cpu_seconds()) == (None, 1.0, None)


# ------------------------------------------------------------------------------------------ GPUs


def test_a_machine_without_a_driver_has_no_gpus_and_says_nothing() -> None:
    """The real pynvml, on a machine without an NVIDIA driver."""
    pynvml = pytest.importorskip("pynvml")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        warned: list[str] = []
        assert _nvidia.open_gpus(None, lambda _, text: warned.append(text)) is None
        assert warned == []
        assert _nvidia.open_gpus([0], lambda _, text: warned.append(text)) is None
        assert len(warned) == 1  # whoever names a GPU is told
    else:
        pynvml.nvmlShutdown()
        pytest.skip("this machine has a driver")


class StandIn(types.SimpleNamespace):
    """Answers as pynvml's functions do, of two GPUs; no GPU was near. The errors are pynvml's own."""

    def __init__(self) -> None:
        import pynvml

        super().__init__(**{name: getattr(pynvml, name) for name in dir(pynvml) if name.startswith("NVML")})
        self.lost: set[str] = set()
        self.shut = 0

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None:
        self.shut += 1

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index > 1:
            raise self.NVMLError(self.NVML_ERROR_INVALID_ARGUMENT)
        return f"GPU-{index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetIndex(self, handle: str) -> int:
        return int(handle[-1])

    def _look(self, handle: str) -> None:
        if handle in self.lost:
            raise self.NVMLError(self.NVML_ERROR_GPU_IS_LOST)

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        self._look(handle)
        return types.SimpleNamespace(used=2_000_000_000, total=8_000_000_000, free=6_000_000_000)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        self._look(handle)
        return types.SimpleNamespace(gpu=87, memory=40)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        if handle == "GPU-1":  # no such sensor
            raise self.NVMLError(self.NVML_ERROR_NOT_SUPPORTED)
        return 250_500

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        assert sensor == self.NVML_TEMPERATURE_GPU
        return 61


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    pytest.importorskip("pynvml")
    found = StandIn()
    monkeypatch.setitem(sys.modules, "pynvml", found)  # type: ignore[arg-type]
    return found


def test_stand_in_gpus_have_series_each(
    run: xtrack.Run, memory: MemoryTransport, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    with system.SystemMetrics(run, 0.1, machine=False):
        wait_for(lambda: len(samples(memory)) >= 2)
        stand_in.lost.add("GPU-0")
        wait_for(lambda: samples(memory) and "system/gpu.0/power_watts" not in samples(memory)[-1])
        seen = len(samples(memory))
        wait_for(lambda: len(samples(memory)) > seen + 2)
        stand_in.lost.clear()
        wait_for(lambda: "system/gpu.0/power_watts" in samples(memory)[-1])
    gpus = {key: value for key, value in samples(memory)[0].items() if key.startswith("system/gpu.")}
    assert gpus == {
        "system/gpu.0/memory_used_bytes": 2e9,
        "system/gpu.0/memory_percent": 25.0,
        "system/gpu.0/utilization_percent": 87.0,
        "system/gpu.0/power_watts": 250.5,
        "system/gpu.0/temperature_celsius": 61.0,
        "system/gpu.1/memory_used_bytes": 2e9,
        "system/gpu.1/memory_percent": 25.0,
        "system/gpu.1/utilization_percent": 87.0,
        "system/gpu.1/temperature_celsius": 61.0,
    }
    assert {key.partition("/gpu.0/")[2] for key in gpus if "/gpu.0/" in key} == set(system.GPU_KEYS)
    assert capsys.readouterr().err.count("GPU 0 can't be read") == 1
    assert stand_in.shut == 1


@pytest.mark.parametrize(
    ("visible", "chosen", "indexes", "warnings"),
    [
        (None, None, [0, 1], 0),
        ("1", None, [1], 0),
        ("GPU-1,GPU-0", None, [1, 0], 0),
        ("1,-1,0", None, [1], 0),
        ("", None, [], 0),
        ("0", [1], [1], 0),
        (None, [1, 7], [1], 1),
    ],
)
def test_which_stand_in_gpus(
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    chosen: list[int] | None,
    indexes: list[int],
    warnings: int,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    warned: list[str] = []
    assert list(_nvidia.find_handles(stand_in, chosen, lambda _, text: warned.append(text))) == indexes
    assert len(warned) == warnings
