"""Tracked functions: params, failures, results, and whose run is the current one. spec: EMT-4, EMT-6"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import multiprocessing
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import xtrack_protocol as xtrack
from xtrack_protocol.emitter import tracked, tracker
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.storage.local import LocalStore


@pytest.fixture(autouse=True)
def unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "_bound", {})


def states(spool: Any) -> dict[str, Any]:
    """The runs by their names."""
    with LocalStore(spool.root) as store:
        return {state.name: state for state in store.list_runs()}


@dataclasses.dataclass
class Config:
    depth: int = 3
    api_key: str = "xyz"


class Opaque:
    pass


def test_a_call_is_a_run(spool: Any) -> None:
    @tracked
    def train(lr: float, *, config: Config, epochs: int = 3, **more: Any) -> str:
        """Trains."""
        run = xtrack.current_run()
        assert run is not None
        run.log_metric("loss", 0.5, step=1)
        xtrack.log_metric("loss", 0.25, step=2)
        return "done"

    assert train(0.1, config=Config(), seed=7) == "done"
    assert (train.__name__, train.__doc__) == ("train", "Trains.")
    assert xtrack.current_run() is None
    state = spool.state()
    assert (state.name, state.status, state.metrics["loss"].count) == ("train", "completed", 2)
    assert state.params == {"lr": 0.1, "config.depth": 3, "config.api_key": "***", "epochs": 3, "seed": 7}
    assert state.duration_ms is not None


def test_large_and_secret_arguments(spool: Any) -> None:
    class Array:
        shape = (3, 4)
        dtype = "float32"

        def __repr__(self) -> str:
            raise AssertionError("a device would have to be asked")

    @tracked
    def job(
        array: Any, rows: list[int], opaque: Any, function: Any, text: str, url: str, password: str, blob: bytes
    ) -> None:
        pass

    job(Array(), [0] * 1000, Opaque(), len, "a" * 5000, "postgres://me:pw@host/db", "hunter2", b"123")
    params = spool.state().params
    assert params["array"] == f"{Array.__qualname__} of shape (3, 4), float32"
    assert params["rows"] == "list of 1000"
    assert params["opaque"] == f"{Opaque.__module__}.Opaque"
    assert params["function"] == "builtins.len"
    assert params["text"].startswith("aaa")
    assert params["text"].endswith("(5000 characters)")
    assert params["url"] == "postgres://host/db"
    assert (params["password"], params["blob"]) == ("***", "3 bytes")


class Unknown:
    """As a lazy array that can't be loaded, or a column of no table."""

    def __bool__(self) -> bool:
        raise ValueError("which of them?")

    @property
    def shape(self) -> Any:
        raise RuntimeError("not loaded")


def test_arguments_that_answer_no_question(spool: Any) -> None:
    numpy = pytest.importorskip("numpy")

    @tracked
    def train(batch: Any, empty: Any, unknown: Any, lr: Any, layers: Any, *rest: Any) -> int:
        return 1

    assert train(numpy.arange(3), numpy.array([]), [Unknown(), 1], numpy.float32(0.5), numpy.int64(3)) == 1
    params = spool.state().params
    assert params["batch"].startswith("ndarray of shape (3,)")
    assert params["unknown"] == [f"{__name__}.Unknown", 1]
    assert (params["lr"], params["layers"]) == (0.5, 3)


def test_a_long_text_is_not_looked_through(spool: Any) -> None:
    @tracked
    def train(picture: str) -> int:
        return 1

    begun = time.monotonic()
    train("a-" * 500_000)  # as base64 for URLs: the square of that would be minutes
    assert time.monotonic() - begun < 5
    assert spool.state().params["picture"].endswith("... (1000000 characters)")


def test_which_params(spool: Any) -> None:
    @tracked("some", params=["a", "b"], exclude=["b"])
    def some(a: int, b: int, c: int) -> None: ...

    @tracked(name="none", params=False)
    def none(a: int) -> None: ...

    some(1, 2, 3)
    none(1)
    found = states(spool)
    assert found["some"].params == {"a": 1}
    assert found["none"].params == {}


def test_a_failure_is_recorded_and_goes_on(spool: Any) -> None:
    @tracked
    def job() -> None:
        raise ValueError("no data")

    with pytest.raises(ValueError, match="no data"):
        job()
    state = spool.state()
    assert (state.status, state.error.type, state.error.message) == ("failed", "ValueError", "no data")
    assert "in job" in state.error.traceback


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), "killed"),
        (SystemExit(0), "completed"),
        (SystemExit(3), "failed"),
        (GeneratorExit(), "killed"),
    ],
)
def test_what_is_no_exception(spool: Any, error: BaseException, status: str) -> None:
    @tracked
    def job() -> None:
        raise error

    with pytest.raises(type(error)):
        job()
    assert spool.state().status == status


def test_results(spool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    @tracked(final_metrics=True)
    def good() -> dict[str, Any]:
        return {"accuracy": 0.9, "model": "a text"}

    @tracked(final_metrics=True)
    def bad() -> int:
        return 5

    assert good()["model"] == "a text"
    assert bad() == 5
    found = states(spool)
    assert found["good"].final_metrics == {"accuracy": 0.9}
    assert found["bad"].status == "completed"
    assert "bad returned 5" in found["bad"].logs[-1].entry.message


def test_children(spool: Any) -> None:
    @tracked(experiment="jobs", tags={"queue": "gpu"})
    def inner(number: int) -> None:
        xtrack.log_metric("number", number)

    @tracked
    def outer() -> None:
        inner(1)
        xtrack.log_metric("outer", 1.0)

    with xtrack.start_run("all") as top:
        outer()
        assert xtrack.current_run() is top
    found = states(spool)
    assert found["outer"].parent_run_id == top.run_id
    assert found["inner"].parent_run_id == found["outer"].run_id
    assert (found["inner"].experiment_id, found["inner"].tags) == ("jobs", {"queue": "gpu"})
    assert set(found["outer"].metrics) == {"outer"}


def test_a_run_started_inside_is_the_current_one_there(spool: Any) -> None:
    @tracked
    def job() -> None:
        with xtrack.start_run("inside") as run:
            assert xtrack.current_run() is run
            xtrack.log_metric("inside", 1.0)
        xtrack.log_metric("job", 1.0)

    job()
    found = states(spool)
    assert set(found["inside"].metrics) == {"inside"}
    assert set(found["job"].metrics) == {"job"}


def test_threads_of_a_job_queue_log_to_their_own_runs(spool: Any) -> None:
    gate = threading.Barrier(8)

    @tracked(run_name=lambda number: f"job-{number}")
    def job(number: int) -> None:
        gate.wait()
        for step in range(20):
            xtrack.log_metric("number", number, step=step)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(job, range(24)))
    found = states(spool)
    assert len(found) == 24
    for number in range(24):
        metric = found[f"job-{number}"].metrics["number"]
        assert (metric.count, metric.min, metric.max) == (20, number, number)
        assert found[f"job-{number}"].parent_run_id is None


def test_tasks_log_to_their_own_runs(spool: Any) -> None:
    @tracked(run_name=lambda number: f"step-{number}")
    async def step(number: int) -> None:
        xtrack.log_metric("step", number)

    @tracked(run_name=lambda number: f"task-{number}")
    async def job(number: int) -> int:
        for _ in range(5):
            await asyncio.sleep(0)
            xtrack.log_metric("number", number)
        await asyncio.gather(step(number))
        return number

    async def main() -> list[int]:
        return await asyncio.gather(*(job(number) for number in range(5)))

    assert inspect.iscoroutinefunction(job)
    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    found = states(spool)
    for number in range(5):
        metric = found[f"task-{number}"].metrics["number"]
        assert (metric.count, metric.min, metric.max) == (5, number, number)
        assert found[f"step-{number}"].parent_run_id == found[f"task-{number}"].run_id


def test_a_cancelled_task_is_killed(spool: Any) -> None:
    @tracked
    async def job() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(job())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert spool.state().status == "killed"


def test_generators(spool: Any) -> None:
    thrown = []

    @tracked
    def batches(count: int) -> Any:
        for number in range(count):
            xtrack.log_metric("batch", number)
            try:
                got = yield number
            except KeyError as error:
                thrown.append(error)
            else:
                if got is not None:
                    xtrack.log_metric("sent", got)
        return "end"

    assert inspect.isgeneratorfunction(batches)
    steps = batches(3)
    assert spool.streams() == {}  # as any generator, it begins with its first item
    assert next(steps) == 0
    assert xtrack.current_run() is None
    assert steps.send(5) == 1
    assert steps.throw(KeyError("k")) == 2
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == "end"
    assert len(thrown) == 1
    state = spool.state()
    assert (state.status, state.metrics["batch"].count, state.metrics["sent"].last.value) == ("completed", 3, 5)


def test_a_generator_that_is_left_and_one_that_fails(spool: Any) -> None:
    closed = []

    @tracked(run_name=lambda fails: f"fails-{fails}")
    def items(fails: bool) -> Any:
        try:
            yield 1
            if fails:
                raise ValueError("no more")
            yield 2
        finally:
            closed.append(fails)

    for _ in items(False):
        break
    with pytest.raises(ValueError, match="no more"):
        list(items(True))
    found = states(spool)
    assert found["fails-False"].status == "completed"
    assert found["fails-True"].status == "failed"
    assert closed == [False, True]


def test_async_generators(spool: Any) -> None:
    @tracked
    async def items() -> Any:
        for number in range(3):
            await asyncio.sleep(0)
            xtrack.log_metric("item", number)
            yield number

    async def main() -> list[int]:
        found = []
        async for item in items():
            assert xtrack.current_run() is None
            found.append(item)
        left = items()
        assert await left.__anext__() == 0
        await left.aclose()
        return found

    assert asyncio.run(main()) == [0, 1, 2]
    with LocalStore(spool.root) as store:
        ends = {(state.status, state.metrics["item"].count) for state in store.list_runs()}
    assert ends == {("completed", 3), ("completed", 1)}


class Job:
    """A handler as job queues have them."""

    def __init__(self, number: int) -> None:
        self.number = number

    @tracked
    def handle(self, payload: dict[str, Any]) -> int:
        return self.number

    @staticmethod
    @tracked
    def static(a: int) -> int:
        return a

    @classmethod
    @tracked
    def of_class(cls, a: int) -> Any:
        return cls, a


def test_methods(spool: Any) -> None:
    assert Job(3).handle({"user": "ann", "token": "t"}) == 3
    assert Job.static(4) == 4
    assert Job.of_class(5) == (Job, 5)
    found = states(spool)
    assert found["handle"].params == {"payload.user": "ann", "payload.token": "***"}
    assert found["static"].params == {"a": 4}
    assert found["of_class"].params == {"a": 5}


@tracked
def at_module_level(a: int) -> int:
    return a


def test_a_tracked_function_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level


def test_a_call_that_does_not_fit_is_no_run(spool: Any) -> None:
    with pytest.raises(TypeError, match=r"^at_module_level\(\): missing .*'a'"):
        at_module_level()  # type: ignore[call-arg]
    assert spool.streams() == {}


def test_a_name_that_fails_costs_no_job(spool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    @tracked(run_name=lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    def job() -> int:
        return 1

    assert job() == 1
    assert spool.state().name == "job"
    assert "run_name of job failed: ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "options", "named"),
    [
        ((5,), {}, "tracked"),
        ((int,), {}, "tracked"),
        ((max,), {}, "tracked"),  # a builtin that tells nobody what it takes
        ((staticmethod(len),), {}, "tracked"),
        ((classmethod(len),), {}, "tracked"),
        ((), {"params": "lr"}, "tracked: params"),
        ((), {"params": ["lrr"]}, "tracked: params"),
        ((), {"exclude": ["lrr"]}, "tracked: exclude"),
        ((), {"run_name": "text"}, "tracked: run_name"),
        ((), {"experimnt": "x"}, "tracked: experimnt"),
        ((), {"run_id": "x"}, "tracked: run_id"),
        ((), {"experiment": 5}, "tracked: experiment"),
    ],
)
def test_wrong_use_is_told_of_at_once(arguments: Any, options: Any, named: str) -> None:
    def job(lr: float) -> None: ...

    with pytest.raises(ConfigurationError) as caught:
        tracked(*arguments, **options)(job)
    assert caught.value.setting == named


POOL = """
import multiprocessing, sys, warnings
from concurrent.futures import ProcessPoolExecutor
import xtrack_protocol as xtrack
warnings.simplefilter("ignore", DeprecationWarning)  # of newer Pythons: a fork beside threads

@xtrack.tracked(run_name=lambda number: f"job-{number}")
def job(number):
    xtrack.log_metric("number", number)
    return xtrack.current_run().run_id

@xtrack.tracked
def all_jobs(method):
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        return list(pool.map(job, range(6)))

if __name__ == "__main__":
    assert len(set(all_jobs(sys.argv[1]))) == 6
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_processes_of_a_pool_log_to_their_own_runs(spool: Any, script: Any, method: str) -> None:
    done = script(POOL, method)
    assert done.returncode == 0, done.stderr
    found = states(spool)
    assert {found[f"job-{number}"].metrics["number"].last.value for number in range(6)} == set(range(6))
    assert {found[name].status for name in found} == {"completed"}
    parents = {found[f"job-{number}"].parent_run_id for number in range(6)}
    # A forked process is inside of what its parent was inside of; one that begins afresh is inside of nothing.
    assert parents == ({found["all_jobs"].run_id} if method == "fork" else {None})


def test_the_first_tracked_call_is_the_launchers_run(spool: Any, script: Any) -> None:
    code = "import xtrack_protocol as x\n@x.tracked\ndef job(n): return n\njob(1)\njob(2)"
    assert script(code, XTRACK_RUN_ID="launched").returncode == 0
    with LocalStore(spool.root) as store:
        runs = {state.run_id: state for state in store.list_runs()}
    assert runs.pop("launched").params == {"n": 1}
    (second,) = runs.values()
    assert (second.parent_run_id, second.params) == ("launched", {"n": 2})
