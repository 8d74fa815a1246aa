"""The Trainer trains for real, and the store holds what it says of itself."""

import importlib
import re
from pathlib import Path

import pytest
from trained_runs import HELPERS, runs, series, track_here

from xtrack_protocol import Tracker
from xtrack_protocol.collector import send_command
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.storage import LocalStore

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FRAMEWORKS = ("transformers", "accelerate", "torch")
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.timeout(300),  # each process imports its framework anew
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


@pytest.fixture
def hf():
    """The module with the tiny Trainer; imported when a test is run, not when it is collected."""
    return importlib.import_module("tiny_trainer")


@pytest.fixture(autouse=True)
def training_here(workshop, monkeypatch):
    track_here(workshop, monkeypatch)


def points(workshop, run_id):
    return {
        key: [(point.step, point.value) for point in found]
        for key, found in series(workshop, run_id).items()
        if key != "epoch"
    }


def said(history):
    """What a Trainer's log_history holds, by name."""
    found = {}
    for entry in history:
        for key, value in entry.items():
            if key not in {"step", "epoch"}:
                found.setdefault(key, []).append((entry["step"], value))
    return found


def script(workshop, code, *, status=0, torchrun=False):
    """Run code that has tiny_trainer's names in a process of its own, or in two; return what it wrote."""
    run = workshop.torchrun if torchrun else workshop.python
    return run(workshop.write(f"import sys; from tiny_trainer import *\n{code}"), status=status, PYTHONPATH=HELPERS)


def test_what_the_trainer_logs_is_in_the_store(hf, workshop):
    callback = hf.XTrackCallback("tiny", strict=True)
    trainer = hf.tiny_trainer(
        workshop.folder / "out", callback, load_best_model_at_end=True, save_total_limit=1, hub_token="hf_secret"
    )
    trainer.train()
    assert runs(workshop)[0].status == "running"  # what comes now belongs to it
    trainer.evaluate()
    predicted = trainer.predict(trainer.eval_dataset).metrics
    callback.end()
    (state,) = runs(workshop)
    assert (state.name, state.status, state.lost_events) == ("tiny", "completed", 0)
    assert points(workshop, state.run_id) == {
        **said(trainer.state.log_history),
        **{key: [(24, value)] for key, value in predicted.items()},
    }
    found = series(workshop, state.run_id)
    assert [(point.step, point.value) for point in found["epoch"]] == [(step, step / 8) for step in range(2, 25, 2)]
    assert [point.epoch for point in found["loss"]] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert [point.epoch for point in found["eval_loss"]] == [1, 2, 3, 3]
    phases = {key: {point.context.phase for point in found[key]} for key in found if key != "epoch"}
    assert {key for key, phase in phases.items() if phase == {"val"}} == {key for key in found if "eval_" in key}
    assert {key for key, phase in phases.items() if phase == {"test"}} == set(predicted)
    assert (state.params["learning_rate"], state.params["max_steps"], state.params["num_train_epochs"]) == (1e-3, 24, 3)
    assert (state.params["model.class"], state.params["model.hidden_size"]) == ("BertForSequenceClassification", 8)
    assert state.params["model.parameters"] == trainer.model.num_parameters()
    assert not [key for key in state.params if "token" in key and not key.startswith("model.")]
    assert not [path for path in workshop.spool.rglob("*") if path.is_file() and b"hf_secret" in path.read_bytes()]


def test_the_best_checkpoint_is_the_trainers(hf, workshop):
    scores = iter([0.1, 0.9, 0.5, 0.4])
    callback = hf.XTrackCallback("best", strict=True)
    trainer = hf.tiny_trainer(
        workshop.folder / "out",
        callback,
        compute_metrics=lambda _: {"score": next(scores)},
        load_best_model_at_end=True,
        metric_for_best_model="score",
        greater_is_better=True,
        save_total_limit=1,
    )
    trainer.train()
    trainer.evaluate()
    callback.end()
    (state,) = runs(workshop)
    assert [(kept.checkpoint.step, kept.checkpoint.is_best) for kept in state.checkpoints] == [
        (8, True),
        (16, True),
        (24, False),
    ]
    best = state.best_checkpoint.checkpoint
    assert best.path == trainer.state.best_model_checkpoint
    assert Path(best.path, "model.safetensors").is_file()  # the others are deleted by now
    assert (best.step, best.epoch, best.best_metric_key, best.metrics_snapshot["eval_score"]) == (
        16,
        2,
        "eval_score",
        0.9,
    )
    assert best.metrics_snapshot["loss"] == dict(said(trainer.state.log_history)["loss"])[16]
    assert state.summary == {"best_eval_score": 0.9}


def test_an_evaluation_that_saves_nothing_makes_no_checkpoint_the_best(hf, workshop):
    scores = iter([0.5, 0.9, 0.7, 0.6, 0.2, 0.1])  # the best one, at step 8, isn't saved
    callback = hf.XTrackCallback("unsaved", strict=True)
    trainer = hf.tiny_trainer(
        workshop.folder / "out",
        callback,
        compute_metrics=lambda _: {"score": next(scores)},
        metric_for_best_model="score",
        greater_is_better=True,
        eval_strategy="steps",
        eval_steps=4,
        save_strategy="steps",
        save_steps=12,
    )
    trainer.train()
    callback.end()
    (state,) = runs(workshop)
    assert trainer.state.best_model_checkpoint is None
    assert [(kept.checkpoint.step, kept.checkpoint.is_best) for kept in state.checkpoints] == [(12, False), (24, False)]
    assert state.best_checkpoint is None


def test_evaluations_under_names_of_ones_own(hf, workshop):
    callback = hf.XTrackCallback("names", strict=True)
    trainer = hf.tiny_trainer(workshop.folder / "out", callback, max_steps=2, save_strategy="no", eval_strategy="no")
    trainer.evaluate()
    trainer.train()
    trainer.evaluate(metric_key_prefix="holdout")
    trainer.evaluate({"a": trainer.eval_dataset, "b": trainer.eval_dataset})
    callback.end()
    (state,) = runs(workshop)
    found = series(workshop, state.run_id)
    phase = {key: {point.context.phase for point in found[key]} for key in found if key.endswith("loss")}
    assert phase == {
        "eval_loss": {"val"},
        "loss": {"train"},
        "train_loss": {"train"},
        "holdout_loss": {"val"},
        "eval_a_loss": {"val"},
        "eval_b_loss": {"val"},
    }
    assert [point.step for point in found["eval_loss"]] == [0]


def test_progress_and_activity(hf, workshop):
    seen = []
    callback = hf.XTrackCallback("progress", strict=True)

    def look():
        (state,) = runs(workshop)
        seen.append((state.activity.status, state.activity.progress.current, state.activity.progress.total))

    trainer = hf.tiny_trainer(workshop.folder / "out", callback, hf.AtStep(9, look), max_steps=10)
    trainer.train()
    look()
    callback.end()
    assert seen == [("training", 9, 10), ("finishing", 10, 10)]  # after an evaluation it is told at once


def test_a_run_of_the_scripts_own_is_left_open(hf, workshop):
    with Tracker.start_run("mine", strict=True) as run:
        trainer = hf.tiny_trainer(workshop.folder / "out", hf.XTrackCallback(run=run), max_steps=2)
        trainer.train()
        assert not run.ended
    (state,) = runs(workshop)
    assert (state.name, state.status) == ("mine", "completed")
    assert points(workshop, state.run_id) == said(trainer.state.log_history)


def test_commands_stop_and_save(hf, workshop):
    callback = hf.XTrackCallback("obedient", strict=True)
    answers = []

    def send(kind):
        answers.extend(send_command(workshop.spool, callback.run.run_id, kind, timeout=20))

    trainer = hf.tiny_trainer(
        workshop.folder / "out",
        callback,
        hf.AtStep(2, lambda: send("checkpoint_now")),
        hf.AtStep(5, lambda: send("stop")),
    )
    trainer.train()
    (late,) = send_command(workshop.spool, callback.run.run_id, "stop", timeout=20)
    callback.end()
    (state,) = runs(workshop)
    assert [answer.status for answer in (*answers, late)] == ["ok", "ok", "error"]
    assert "nothing is being trained" in late.message
    assert trainer.state.global_step == 6  # a command is carried out with the next step
    assert state.status == "completed"
    assert state.checkpoints[0].checkpoint.step == 3
    assert Path(state.checkpoints[0].checkpoint.path).is_dir()


def test_a_training_from_the_beginning_gets_a_run_of_its_own(hf, workshop):
    callback = hf.XTrackCallback("twice", run_id="job", strict=True)
    histories = []
    for _ in range(2):
        trainer = hf.tiny_trainer(workshop.folder / "out", callback, max_steps=4)
        trainer.train()
        trainer.evaluate()
        histories.append(said(trainer.state.log_history))
    callback.end()
    first, second = runs(workshop)
    assert (first.run_id, first.status, second.run_id, second.status) == ("job", "completed", "job.2", "completed")
    assert [points(workshop, first.run_id), points(workshop, second.run_id)] == histories


def test_a_training_that_is_tried_again_goes_on_in_its_run(hf, workshop):
    callback = hf.XTrackCallback("again", strict=True)
    with pytest.raises(RuntimeError, match="out of memory"):
        hf.tiny_trainer(
            workshop.folder / "out", callback, hf.AtStep(7, hf.failing), save_steps=4, save_strategy="steps"
        ).train()
    trainer = hf.tiny_trainer(workshop.folder / "out", callback)
    trainer.train(resume_from_checkpoint=True)
    callback.end()
    (state,) = runs(workshop)
    assert state.status == "completed"
    assert points(workshop, state.run_id) == said(trainer.state.log_history)
    hidden = [point.step for point in series(workshop, state.run_id, include_hidden=True)["loss"] if point.hidden]
    assert hidden == [6]


@pytest.mark.parametrize(
    ("code", "exit_code", "status", "error"),
    [
        ("tiny_trainer('out', XTrackCallback(), AtStep(3, failing)).train()", 1, "failed", "RuntimeError"),
        ("tiny_trainer('out', XTrackCallback(), AtStep(3, interrupting)).train()", -2, "killed", "KeyboardInterrupt"),
        (
            (
                "try: tiny_trainer('out', XTrackCallback(), AtStep(3, failing)).train()\n"
                "except RuntimeError: print('that went wrong')"
            ),
            0,
            "failed",
            "",
        ),
        ("tiny_trainer('out', XTrackCallback(), AtStep(3, lambda: sys.exit(4))).train()", 4, "failed", "SystemExit"),
        (
            (
                "try:\n"
                "    with XTrackCallback() as callback: tiny_trainer('out', callback, AtStep(3, failing)).train()\n"
                "except RuntimeError: pass"
            ),
            0,
            "failed",
            "RuntimeError",
        ),
        (
            (
                "callback = XTrackCallback()\n"
                "try: tiny_trainer('out', callback, AtStep(3, interrupting)).train()\n"
                "except KeyboardInterrupt: callback.end('completed')"
            ),
            0,
            "completed",
            None,
        ),
    ],
    ids=["exception", "ctrl-c", "caught", "exit", "block", "said"],
)
def test_a_training_that_does_not_end_well(workshop, code, exit_code, status, error):
    printed = script(workshop, code, status=exit_code)
    (state,) = runs(workshop)
    assert (state.status, None if state.error is None else state.error.type) == (status, error), printed
    assert [step for step, _ in points(workshop, state.run_id)["loss"]] == [2]


@pytest.mark.parametrize(
    ("crash", "exit_code", "status"),
    [
        ("failing", 1, "failed"),
        pytest.param("interrupting", -2, "killed", marks=pytest.mark.slow),
        ("killed", -9, "running"),
        pytest.param("terminated", -15, "running", marks=pytest.mark.slow),
    ],
)
def test_a_crashed_training_is_resumed_in_another_process(workshop, crash, exit_code, status):
    code = (
        "import os, signal\n"
        "def killed(): os.kill(os.getpid(), signal.SIGKILL)\n"
        "def terminated(): os.kill(os.getpid(), signal.SIGTERM)\n"
        "callback = XTrackCallback('resumable', run_id='job-1')\n"
        f"trainer = tiny_trainer('out', callback, AtStep({{at}}, {crash}))\n"
        "trainer.train(resume_from_checkpoint={again})\n"
        "say(trainer.state.log_history)"
    )
    script(workshop, code.format(at=13, again=None), status=exit_code)
    assert [state.status for state in runs(workshop)] == [status]
    script(workshop, code.format(at=99, again=True))
    (state,) = runs(workshop)
    assert (state.run_id, state.status, state.error) == ("job-1", "completed", None)
    history = workshop.json("said.json")
    assert points(workshop, "job-1") == said(history)
    assert [step for step, _ in points(workshop, "job-1")["loss"]] == list(range(2, 25, 2))
    assert [kept.checkpoint.step for kept in state.checkpoints if not kept.hidden] == [8, 16, 24]


@pytest.mark.parametrize("all_ranks", [False, True])
def test_two_processes_make_one_run(workshop, all_ranks):
    script(
        workshop,
        f"callback = XTrackCallback('pair', all_ranks={all_ranks})\n"
        "trainer = tiny_trainer('out', callback, load_best_model_at_end=True, save_total_limit=1)\n"
        "trainer.train(); trainer.evaluate()\n"
        "if trainer.is_world_process_zero(): say([trainer.state.log_history, trainer.state.best_model_checkpoint])\n"
        "assert (callback.run is None) == (not callback._all_ranks and trainer.args.process_index > 0)",
        torchrun=True,
    )
    (state,) = runs(workshop)
    history, best = workshop.json("said.json")
    assert (state.status, state.params["world_size"], state.params["max_steps"]) == ("completed", 2, 12)
    assert state.workers == (("0", "1") if all_ranks else ("0",))
    with LocalStore(workshop.spool) as store:
        for worker in state.workers:
            for key, values in said(history).items():
                kept = store.get_metrics(state.run_id, key, worker_id=worker)
                if worker == "0":
                    assert [(point.step, point.value) for point in kept] == values
                else:  # the times are its own
                    assert [point.step for point in kept] == [step for step, _ in values]
    assert (state.best_checkpoint.checkpoint.path, len(state.checkpoints)) == (str(workshop.folder / best), 3)


def test_a_command_that_processes_would_have_to_agree_on_is_refused(workshop):
    done = script(
        workshop,
        "callback = XTrackCallback('pair')\n"
        "from xtrack_protocol.collector import send_command\n"
        "def send():\n"
        "    if callback.run: print(send_command(None, callback.run.run_id, 'stop', timeout=20))\n"
        "trainer = tiny_trainer('out', callback, AtStep(2, send), max_steps=4)\n"
        "trainer.train()",
        torchrun=True,
    )
    (state,) = runs(workshop)
    assert "2 processes train" in done
    assert (state.status, state.activity.progress.current) == ("completed", 4)


def test_wrong_arguments(hf):
    with pytest.raises(ConfigurationError, match="must be a Run"):
        hf.XTrackCallback(run="job-1")
    with pytest.raises(TypeError, match=r"XTrackCallback\(\) got an unexpected keyword argument 'project'"):
        hf.XTrackCallback("name", project="bert")
    with Tracker.start_run() as run, pytest.raises(ConfigurationError, match="so name, tags would have no effect"):
        hf.XTrackCallback("name", run=run, tags={"a": "b"})


@pytest.mark.parametrize("processes", [1, 2])
def test_the_example(workshop, processes):
    launch = workshop.python if processes == 1 else workshop.torchrun
    printed = launch(EXAMPLES / "train_transformers.py", "--epochs", "2", "--all-ranks")
    state = workshop.state()
    assert (state.status, state.name, len(state.workers)) == ("completed", "digits", processes)
    score, path = re.findall(r"^best accuracy ([\d.]+) in (.+)$", printed, re.MULTILINE)[0]
    best = state.best_checkpoint.checkpoint
    assert (f"{best.metrics_snapshot['eval_accuracy']:.4f}", Path(best.path)) == (score, workshop.folder / path)
    assert f"{state.summary['best_eval_accuracy']:.4f}" == score
