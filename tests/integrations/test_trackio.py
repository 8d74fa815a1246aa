"""Scripts for trackio, with our import: what they log is in the store as they mean it."""

import argparse
import json
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from server_peers import serving

import xtrack_protocol.integrations.trackio as trackio
from xtrack_protocol import current_run
from xtrack_protocol.errors import ConfigurationError, RunEnded
from xtrack_protocol.spool import SpoolDir, streams_of
from xtrack_protocol.spool.shipping import read_note, trim
from xtrack_protocol.storage import LocalStore, SQLiteStore

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("XTRACK_", "SLURM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XTRACK_DIR", str(tmp_path / "xd"))
    monkeypatch.setattr(trackio, "_current", None)
    monkeypatch.chdir(tmp_path)
    yield
    if trackio._current is not None:
        trackio.finish()


@pytest.fixture
def runs(tmp_path):
    """All runs, the oldest first, with a way to read their series."""

    def read():
        with LocalStore(tmp_path / "xd") as store:
            return store.list_runs()[::-1]

    return read


@pytest.fixture
def points(tmp_path):
    def read(key, run_id=None):
        with LocalStore(tmp_path / "xd") as store:
            run_id = run_id or store.list_runs()[0].run_id
            return [(point.step, point.value) for point in store.get_metrics(run_id, key)]

    return read


def test_a_script_for_trackio(runs, points):
    run = trackio.init(
        project="iris", name="base", group="night", tags={"a": 1}, config={"lr": 0.1, "model": {"width": 8}}
    )
    assert (run.project, run.name, run.group, run.id) == ("iris", "base", "night", run.xtrack_run.run_id)
    assert run.config == {"lr": 0.1, "model": {"width": 8}} == trackio.config
    trackio.log({"loss": 0.5, "acc": 0.8})
    trackio.log({"loss": 0.25}, step=5)
    trackio.log({"loss": math.nan})
    trackio.log({"loss": 0.125}, step=2)
    trackio.log({"loss": 1})
    trackio.log_system({"gpu": 0.95, "system/memory": {"gb": 8.5}})
    trackio.log_system({0: 30.5})
    assert current_run() is run.xtrack_run
    trackio.finish()
    (state,) = runs()
    assert (state.name, state.experiment_id, state.status, dict(state.tags)) == (
        "base",
        "iris",
        "completed",
        {"group": "night", "a": "1"},
    )
    assert state.params == {"lr": 0.1, "model.width": 8}
    found = points("loss")
    assert [step for step, _ in found] == [0, 2, 5, 6, 7]
    assert [value for _, value in found if value == value] == [0.5, 0.125, 0.25, 1]
    assert math.isnan(found[3][1])
    assert points("system/gpu") == [(None, 0.95)]
    assert points("system/memory.gb") == [(None, 8.5)]
    assert points("system/0") == [(None, 30.5)]


def test_nested_and_texts_and_whatever_else(runs, points, capsys):
    trackio.init(project="p", quiet=True)
    inside_itself = {}
    inside_itself["again"] = inside_itself
    trackio.log({"train": {"loss": 0.5, "deep": {"er": 2}}, "caption": "a cat", "tokens": [1, 2], "flag": True})
    trackio.log({"image": object(), "none": None, "loss": 1.0, "loop": inside_itself, 7: 7.5})
    trackio.log({})
    trackio.log("nonsense")
    trackio.log({"loss": 2.0}, step="three")
    trackio.finish()
    assert points("train.loss") == [(0, 0.5)]
    assert points("train.deep.er") == [(0, 2)]
    assert points("flag") == [(0, 1)]
    assert points("7") == [(1, 7.5)]
    assert points("loss") == [(1, 1.0), (None, 2.0)]
    (state,) = runs()
    told = {record.entry.fields["key"]: (record.entry.step, record.entry.fields["value"]) for record in state.logs}
    assert told["caption"] == (0, "a cat")
    assert told["tokens"] == (0, [1, 2])
    assert told["image"][1].startswith("<object")
    assert "'image' is of type object, which is no number" in (err := capsys.readouterr().err)
    assert "'none': None is no single number" in err
    assert "caption" not in err


def test_same_step_twice_keeps_both_and_the_last_counts(tmp_path, points):
    with trackio.init(project="p", strict=True) as run:
        run.log({"a": 1.0}, step=3)
        run.log({"a": 2.0, "b": 5.0}, step=3)
        run.log({"a": 9.0})
    assert points("a") == [(3, 1.0), (3, 2.0), (4, 9.0)]
    with LocalStore(tmp_path / "xd") as store:
        assert [(one.step, one.mean) for one in store.get_metric_aggregate(run.id, "a")] == [(3, 2.0), (4, 9.0)]


def test_a_block_that_raises_has_failed(runs):
    def diverge():
        with trackio.init(project="p"):
            trackio.log({"loss": math.inf})
            raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        diverge()
    with pytest.raises(KeyboardInterrupt), trackio.init(project="p"):
        raise KeyboardInterrupt
    failed, stopped = runs()
    assert (failed.status, failed.error.type, failed.error.message) == ("failed", "ValueError", "diverged")
    assert stopped.status == "killed"


def test_names_count_the_projects_runs(runs):
    trackio.init(project="p", name="run-3")
    for _ in range(3):
        trackio.init(project="p")  # finishes the one before it
    trackio.init(project="other")
    trackio.finish()
    assert [(state.experiment_id, state.name, state.status) for state in runs()] == [
        ("p", "run-3", "completed"),
        ("p", "run-2", "completed"),
        ("p", "run-4", "completed"),
        ("p", "run-5", "completed"),
        ("other", "run-1", "completed"),
    ]


def test_a_transport_that_cant_be_searched(tmp_path, capsys):
    run = trackio.init(project="p", transport=f"file:{tmp_path / 'run.bin'}", resume="never")
    assert run.name == run.id
    with pytest.raises(ConfigurationError, match=r"no run 'x' of project 'p' that could be resumed: .*run.bin"):
        trackio.init(project="p", name="x", transport=f"file:{tmp_path / 'run.bin'}", resume="must")
    assert not run.xtrack_run.ended, "an init that fails leaves the run alone"


# ------------------------------------------------------------------------------------------ resume


def test_resume_goes_on_after_the_last_step(runs, points):
    for name in ("base", "bas*", "base"):
        trackio.init(project="p", name=name)
        trackio.log({"loss": 0.5, "noise": 1.0})
        trackio.log_system({"gpu": 0.5})
        trackio.log({"loss": 0.25}, step=10)
        trackio.log({"other": 1.0})
        trackio.finish()
    trackio.init(project="elsewhere", name="base")
    first, starred, newest, _ = runs()
    run = trackio.init(project="p", name="base", resume="must", config={"lr": 0.5})
    assert run.id == newest.run_id
    assert run.xtrack_run.resumed
    trackio.log({"loss": 0.125})
    trackio.log_system({"gpu": 0.75})
    trackio.finish()
    assert trackio.init(project="p", name="bas*", resume="allow").id == starred.run_id
    trackio.finish()
    assert points("loss", newest.run_id) == [(0, 0.5), (10, 0.25), (12, 0.125)]
    assert points("loss", first.run_id) == [(0, 0.5), (10, 0.25)]
    states = {state.run_id: state for state in runs()}
    assert {state.status for state in states.values()} == {"completed"}
    assert states[newest.run_id].params == {"lr": 0.5}
    assert len(states) == 4


def test_a_run_that_logged_steps_and_none(points):
    with trackio.init(project="p", name="mixed") as run:
        run.log({"loss": 0.5}, step=4)
        run.xtrack_run.log_metrics({"loss": 0.25})
    with trackio.init(project="p", name="mixed", resume="must") as run:
        run.log({"loss": 0.125})
    assert points("loss") == [(4, 0.5), (5, 0.125), (None, 0.25)]


def test_resume_of_a_failed_run_ends_well(runs):
    trackio.init(project="p", name="n", resume="allow")
    trackio.log({"loss": 0.5})
    trackio._current.xtrack_run.end("failed", error="disk")
    with trackio.init(project="p", name="n", resume="allow") as run:
        run.log({"loss": 0.25})
    (state,) = runs()
    assert (state.status, state.metrics["loss"].count, state.metrics["loss"].last.step) == ("completed", 2, 1)


def test_what_cant_be_resumed():
    with pytest.raises(ConfigurationError, match=r"no run 'n' of project 'p' in the spool .*xd\. With"):
        trackio.init(project="p", name="n", resume="must")
    with pytest.raises(ConfigurationError, match="which run"):
        trackio.init(project="p", resume="must")
    with pytest.raises(ValueError, match="must be one of never, allow, must"):
        trackio.init(project="p", resume="maybe")
    assert not trackio.init(project="p", name="n", resume="allow").xtrack_run.resumed


def test_a_name_that_is_a_number_is_found_again(runs):
    with trackio.init(project="p", name=7) as run:
        assert run.name == "7"
    assert trackio.init(project="p", name=7, resume="must").id == run.id
    assert len(runs()) == 1


# Each rank has a launcher's variables, says where its steps begin, and waits for a line before it ends.
RANKED = (
    "import sys; import xtrack_protocol.integrations.trackio as trackio\n"
    "with trackio.init(project='p', name='n', resume='allow') as run:\n"
    "    for value in range(3): run.log({'loss': value})\n"
    "    print(run._next - 3, flush=True); sys.stdin.readline()\n"
)


@pytest.fixture
def launch():
    """Start the ranks of a launch, each when the one before it has logged; return where their steps began."""

    def started(size):
        ranks = []
        try:
            for rank in range(size):
                environ = os.environ | {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
                environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "x", "MASTER_PORT": "29"}
                ranks.append(
                    subprocess.Popen(
                        [sys.executable, "-W", "error", "-c", RANKED],
                        env=environ,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                )
                ranks[-1].began = int(ranks[-1].stdout.readline())
            said = [rank.communicate("\n", timeout=60)[1] for rank in ranks]
            assert [rank.returncode for rank in ranks] == [0] * size
            assert not any("warning" in text for text in said)
            return [rank.began for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
                for pipe in (rank.stdin, rank.stdout, rank.stderr):
                    pipe.close()

    return started


def test_ranks_begin_at_the_same_step_when_they_resume(launch, runs):
    assert launch(2) == [0, 0]
    assert launch(2) == [3, 3]
    assert launch(3) == [6, 6, 6]
    (state,) = runs()
    assert (state.status, state.workers, state.metrics["loss"].count) == ("completed", ("0", "1", "2"), 21)


REQUEUED = (
    "import os, sys; import xtrack_protocol.integrations.trackio as trackio\n"
    "trackio.init(project='p', name=sys.argv[1] if sys.argv[1:] else None)\n"
    "for value in range(3): trackio.log({'loss': value})\n"
    "os._exit(1)\n"
)


@pytest.mark.parametrize("name", [[], ["n"]])
def test_a_requeued_job_goes_on_with_its_steps_and_its_name(name, points, runs):
    for variables in ({"XTRACK_RESUME": "auto"}, {"XTRACK_RESUME": "auto"}, {"XTRACK_RESUME_RUN_ID": "job"}):
        environ = os.environ | {"XTRACK_RUN_ID": "job"} | variables
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", REQUEUED, *name], env=environ, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert "warning" not in done.stderr
    assert points("loss", "job") == [(step, step % 3) for step in range(9)]
    assert [state.name for state in runs()] == ["n" if name else "run-1"]


def test_processes_that_share_a_run_begin_at_the_first_step(points, runs):
    environ = os.environ | {"XTRACK_RUN_ID": "job"}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", REQUEUED], env=environ, capture_output=True)
    assert [step for step, _ in points("loss", "job")] == [0, 0, 1, 1, 2, 2]
    assert [state.name for state in runs()] == ["run-1"]


def test_a_second_run_of_a_resumed_job_is_new(monkeypatch, points, runs):
    monkeypatch.setattr("xtrack_protocol.emitter.tracker._bound", {})
    monkeypatch.setenv("XTRACK_RUN_ID", "job")
    monkeypatch.setenv("XTRACK_RESUME", "auto")
    for _ in range(2):
        with trackio.init(project="p", strict=True) as run:
            run.log({"loss": 1.0})
    assert [(state.name, state.parent_run_id) for state in runs()] == [("run-1", None), ("run-2", "job")]
    assert points("loss", run.id) == [(0, 1.0)]


def test_a_run_that_another_process_still_tracks(points, capsys):
    other = subprocess.Popen(
        [sys.executable, "-c", RANKED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with other:
        other.stdout.readline()
        with trackio.init(project="p", name="n", resume="must") as run:
            run.log({"loss": 9})
        other.communicate("\n", timeout=60)
    assert f"run {run.id} hasn't ended: a session of this worker is open still" in capsys.readouterr().err
    assert [step for step, _ in points("loss")] == [0, 1, 2, 3]


# ------------------------------------------------------------------------------------------ wrong use


def test_before_and_after_the_run(capsys):
    for call in (trackio.log, trackio.log_system, trackio.alert):
        with pytest.raises(ConfigurationError, match=r"no run has been started. Call init\(\) first"):
            call({"a": 1})
    with pytest.raises(ConfigurationError):
        trackio.finish()
    run = trackio.init(project="p")
    trackio.finish()
    trackio.finish()
    trackio.log({"loss": 0.5})
    assert "has ended" in capsys.readouterr().err
    assert run.xtrack_run.stats().refused == 1
    strict = trackio.init(project="p", strict=True)
    strict.finish()
    with pytest.raises(RunEnded):
        strict.log({"loss": 0.5})


def test_arguments_of_trackio_that_do_nothing_say_so(capsys):
    trackio.init(project="p", space_id="me/space", embed=False, auto_log_gpu=False, auto_log_cpu=True)
    err = capsys.readouterr().err
    assert "space_id has no effect here: the run goes where XTRACK_TRANSPORT says" in err
    assert "auto_log_cpu has no effect" in err
    assert "auto_log_gpu" not in err
    assert "embed" not in err
    with pytest.raises(TypeError, match="unexpected keyword argument 'projekt'"):
        trackio.init(project="p", projekt="q")
    for wrong in ("", None, 7):
        with pytest.raises(ConfigurationError, match="project"):
            trackio.init(project=wrong)
    with pytest.raises(ConfigurationError, match=r"project='xxx.* has 2000 bytes"):
        trackio.init(project="x" * 2000)
    with pytest.raises(ConfigurationError, match="must be names with values"):
        trackio.init(project="p", config=[1])
    with pytest.raises(ConfigurationError, match="must be names with texts"):
        trackio.init(project="p", tags=["a"])


def test_names_that_trackio_has_and_this_has_not():
    with pytest.raises(AttributeError, match=r"no attribute 'Image'; instead: write a file, .* log_artifact"):
        trackio.Image  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'nonsense'$"):
        trackio.nonsense  # noqa: B018


# ------------------------------------------------------------------------------------------ more


def test_config_that_is_set_later_is_logged_too(runs):
    trackio.init(project="p", config=argparse.Namespace(lr=0.1, seed=1))
    trackio.config["lr"] = 0.5
    trackio.config.update(depth=3)
    trackio.config.setdefault("lr", 9)
    trackio.config |= {"width": 4}
    trackio.finish()
    assert runs()[0].params == {"lr": 0.5, "seed": 1, "depth": 3, "width": 4}
    assert json.loads(json.dumps(trackio.config)) == {"lr": 0.5, "seed": 1, "depth": 3, "width": 4}


def test_a_wrong_level_is_told_of(runs, capsys):
    trackio.init(project="p", quiet=True)
    trackio.alert("look", level=["error"])
    trackio.finish()
    (state,) = runs()
    assert [one.alert.level for one in state.alerts] == ["warning"]
    assert "level=['error'] is none of" in capsys.readouterr().err


def test_alerts_and_artifacts(runs, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"1234")
    trackio.init(project="p", strict=True)
    trackio.alert("loss is up", text="by a half", level=trackio.AlertLevel.ERROR)
    trackio.alert("look")
    trackio.log_artifact(tmp_path / "model.bin", name="model", type="model")
    trackio.finish()
    (state,) = runs()
    assert [(one.alert.title, one.alert.text, one.alert.level) for one in state.alerts] == [
        ("loss is up", "by a half", "error"),
        ("look", None, "warning"),
    ]
    (artifact,) = state.artifacts
    assert (artifact.artifact.name, artifact.artifact.artifact_type, artifact.artifact.size_bytes) == (
        "model",
        "model",
        4,
    )


def test_threads_that_log_without_a_step_get_one_each(points):
    run = trackio.init(project="p", strict=True)
    threads = [
        threading.Thread(target=lambda: [run.log({"loss": 0.5}) for _ in range(200)], daemon=True) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.finish()
    assert [step for step, _ in points("loss")] == list(range(800))


# ------------------------------------------------------------------------------------------ the examples


def script(name, *options, code=0):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *options], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines()


def test_the_simple_example(runs, points):
    (said,) = script("trackio_simple.py")
    (state,) = runs()
    assert (state.name, state.experiment_id, state.status) == ("run-1", "fit-a-line", "completed")
    assert state.params == {"learning_rate": 0.1, "points": 50, "seed": 1}
    assert [step for step, _ in points("loss")] == list(range(100))
    assert len(points("system/cpu_seconds")) == 5
    assert said == f"y = {points('line.slope')[-1][1]:.2f} x + {points('line.at_0')[-1][1]:.2f}" == "y = 2.96 x + 1.97"


def test_the_context_example(runs, points):
    assert script("trackio_context.py") == ["run lr-0.2: the lowest point is at x = 1.000"]
    assert [step for step, _ in points("x")] == list(range(30))
    script("trackio_context.py", "--learning-rate", "2", code=1)
    good, bad = runs()
    assert (good.status, bad.status, bad.error.type) == ("completed", "failed", "ArithmeticError")
    assert bad.params["learning_rate"] == 2


def test_the_resume_example(runs, points):
    assert script("trackio_resume.py") == ["started run five-percent: 123.11"]
    assert script("trackio_resume.py") == ["went on with run five-percent: 151.56"]
    (state,) = runs()
    assert (state.status, len(state.streams)) == ("completed", 2)
    assert [step for step, _ in points("money")] == list(range(100))


# ------------------------------------------------------------------------------------------ with a collector


@pytest.fixture
def collector(tmp_path):
    with SQLiteStore(tmp_path / "there.db") as store, serving(store) as server:
        yield store, f"tcp://127.0.0.1:{server.port}"


def test_resume_of_a_run_that_a_collector_has(collector):
    there, url = collector
    for _ in range(2):
        with trackio.init(project="p", name="n", transport=url, resume="allow") as run:
            run.log({"loss": 0.5})
            run.log({"loss": 0.25})
            assert run.xtrack_run.flush("acked")
    state = there.get_run(run.id)
    assert (state.name, state.experiment_id, state.status, len(state.streams)) == ("n", "p", "completed", 2)
    assert [point.step for point in there.get_metrics(run.id, "loss")] == [0, 1, 2, 3]
    with pytest.raises(ConfigurationError, match=r"no run 'x' of project 'p' in the spool .*, and a collector isn"):
        trackio.init(project="p", name="x", transport=url, resume="must")


def test_steps_that_only_a_collector_has_still(collector, tmp_path, capsys):
    there, url = collector
    with trackio.init(project="p", name="n", transport=url) as run:
        for _ in range(5):
            run.log({"loss": 0.5})
    folder = SpoolDir(tmp_path / "xd").run_dir(run.id)
    (stream,) = streams_of(folder)
    note = read_note(folder, stream)
    day = 24 * 3600 * 1_000_000
    for days in (0, 2):
        removed = trim(folder, stream, note, time.time_ns() // 1000 + days * day)
    assert removed == 1
    assert not capsys.readouterr().err.count("warning")
    again = trackio.init(project="p", name="n", transport=url, resume="must")
    assert again.id == run.id
    assert "log() goes on at 0. Give log() the steps yourself" in capsys.readouterr().err
    again.log({"loss": 0.25}, step=5)
    again.log({"loss": 0.125})
    again.finish()
    assert [point.step for point in there.get_metrics(run.id, "loss")] == [0, 1, 2, 3, 4, 5, 6]
    assert there.get_run(run.id).status == "completed"


def test_ranks_of_a_launch_share_a_run(tmp_path, runs):
    code = (
        "import os, sys; import xtrack_protocol.integrations.trackio as trackio\n"
        "with trackio.init(project='p') as run: run.log({'loss': float(os.environ['RANK'])})"
    )
    environ = os.environ | {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "XTRACK_RUN_ID": "job-1"}
    for rank in ("0", "1"):
        ranked = environ | {"RANK": rank, "LOCAL_RANK": rank}
        subprocess.run([sys.executable, "-W", "error", "-c", code], env=ranked, check=True, timeout=60)
    (state,) = runs()
    assert (state.run_id, state.name, state.workers, state.status) == ("job-1", "run-1", ("0", "1"), "completed")
    assert state.metrics["loss"].workers.mean == 0.5
