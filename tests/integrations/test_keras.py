"""Keras trains for real, and the store holds what it says of itself."""

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
FRAMEWORKS = ("keras", "torch")
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.timeout(300),  # each process imports its framework anew
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


@pytest.fixture
def kit():
    """The module with the small model; imported when a test is run, not when it is collected."""
    return importlib.import_module("tiny_keras")


@pytest.fixture(autouse=True)
def training_here(workshop, monkeypatch):
    track_here(workshop, monkeypatch)


def values(workshop, run_id):
    return {key: [point.value for point in found] for key, found in series(workshop, run_id).items()}


def checkpoints(state):
    return [
        (Path(kept.checkpoint.path).name, kept.checkpoint.step, kept.checkpoint.is_best) for kept in state.checkpoints
    ]


def script(workshop, code, *, status=0, torchrun=False):
    """Run code that has tiny_keras's names in a process of its own, or in two; return what it wrote."""
    run = workshop.torchrun if torchrun else workshop.python
    return run(workshop.write(f"import sys; from tiny_keras import *\n{code}"), status=status, PYTHONPATH=HELPERS)


@pytest.mark.parametrize("is_first", [True, False])
def test_the_history_is_in_the_store(kit, workshop, is_first):
    callback = kit.XTrackCallback("tiny", strict=True)
    adds_to_logs = kit.keras.callbacks.ReduceLROnPlateau(patience=1, min_delta=10)
    others = [callback, adds_to_logs] if is_first else [adds_to_logs, callback]
    history = kit.fit(kit.tiny_model(loss=kit.keras.losses.BinaryCrossentropy(label_smoothing=0.1)), *others)
    callback.end()
    (state,) = runs(workshop)
    assert (state.name, state.status, state.lost_events) == ("tiny", "completed", 0)
    assert "learning_rate" in history.history
    assert values(workshop, state.run_id) == history.history
    for key, found in series(workshop, state.run_id).items():
        assert [point.step for point in found] == [3, 6, 9, 12]
        assert [point.epoch for point in found] == [1, 2, 3, 4]
        assert {point.context.phase for point in found} == {"val" if key.startswith("val_") else "train"}
    assert (state.params["epochs"], state.params["steps_per_epoch"]) == (4, kit.STEPS)
    assert (state.params["optimizer.class"], state.params["optimizer.learning_rate"]) == ("SGD", 0.5)
    assert (state.params["loss.class"], state.params["loss.label_smoothing"]) == ("BinaryCrossentropy", 0.1)
    assert (state.params["model.class"], state.params["model.parameters"]) == ("Sequential", 49)
    assert (state.activity.status, state.activity.progress.current, state.activity.progress.total) == (
        "finishing",
        12,
        12,
    )


def test_what_comes_after_the_training_is_in_the_same_run(kit, workshop):
    callback = kit.XTrackCallback("after", strict=True)
    model = kit.tiny_model()
    history = kit.fit(model, callback, epochs=2)
    assert runs(workshop)[0].status == "running"
    tested = model.evaluate(*kit.tiny_data(), verbose=0, callbacks=[callback], return_dict=True)
    model.predict(kit.tiny_data()[0], verbose=0, callbacks=[callback])
    callback.end()
    (state,) = runs(workshop)
    assert values(workshop, state.run_id) == {
        **history.history,
        **{f"test_{key}": [value] for key, value in tested.items()},
    }
    (point,) = series(workshop, state.run_id)["test_loss"]
    assert (point.step, point.context.phase) == (6, "test")
    assert state.status == "completed"


@pytest.mark.parametrize("is_first", [True, False])
def test_the_best_checkpoint_is_that_of_the_callback(kit, workshop, is_first):
    callback = kit.XTrackCallback("best", strict=True)
    best = kit.keras.callbacks.ModelCheckpoint(str(workshop.folder / "best.keras"), save_best_only=True)
    each = kit.keras.callbacks.ModelCheckpoint(str(workshop.folder / "{epoch:02d}.weights.h5"), save_weights_only=True)
    last = kit.keras.callbacks.ModelCheckpoint(str(workshop.folder / "last.keras"))
    others = [best, each, last]
    history = kit.fit(
        kit.tiny_model(lr=2.0), *([callback, *others] if is_first else [*others, callback]), epochs=6
    ).history
    callback.end()
    (state,) = runs(workshop)
    losses = history["val_loss"]
    improved = [loss == min(losses[: epoch + 1]) for epoch, loss in enumerate(losses)]
    assert 1 < sum(improved) < 6, losses  # else this test tests little
    expected = []
    for epoch, is_best in enumerate(improved, 1):
        expected.append((f"{epoch:02d}.weights.h5", epoch * kit.STEPS, is_best))
        expected.append(("last.keras", epoch * kit.STEPS, False))
        if is_best:
            expected.append(("best.keras", epoch * kit.STEPS, True))
    assert checkpoints(state) == expected
    assert all(Path(kept.checkpoint.path).is_file() for kept in state.checkpoints)
    kept = state.best_checkpoint.checkpoint
    assert (kept.path, kept.metrics_snapshot["val_loss"], kept.best_metric_key) == (
        best.filepath,
        min(losses),
        "val_loss",
    )
    assert kept.metrics_snapshot["val_loss"] == best.best


@pytest.mark.parametrize("is_first", [True, False])
def test_checkpoints_between_epochs(kit, workshop, is_first):
    callback = kit.XTrackCallback("often", strict=True)
    saver = kit.keras.callbacks.ModelCheckpoint(
        str(workshop.folder / "{epoch}-{batch}.weights.h5"), save_weights_only=True, save_freq=4
    )
    kit.fit(kit.tiny_model(), *([callback, saver] if is_first else [saver, callback]))
    callback.end()
    (state,) = runs(workshop)
    saved = sorted(path.name for path in workshop.folder.glob("*.h5"))
    assert saved == ["2-1.weights.h5", "3-2.weights.h5", "4-3.weights.h5"]
    assert checkpoints(state) == [(name, step, False) for name, step in zip(saved, (4, 8, 12), strict=True)]


def test_values_within_an_epoch(kit, workshop):
    callback = kit.XTrackCallback("batches", strict=True, log_every_n_batches=2)
    model = kit.tiny_model()
    history = kit.fit(model, callback, epochs=3)
    callback.end()
    (state,) = runs(workshop)
    found = series(workshop, state.run_id)
    assert [(point.step, point.epoch) for point in found["batch_loss"]] == [
        (2, 1), (4, 2), (6, 2), (8, 3)
    ]  # fmt: skip
    assert found["batch_loss"][2].value == history.history["loss"][1]  # the mean of the whole epoch


def test_a_second_fit_goes_on(kit, workshop):
    callback = kit.XTrackCallback("twice", strict=True)
    model = kit.tiny_model()
    first = kit.fit(model, callback, epochs=2).history
    second = kit.fit(model, callback, epochs=4, initial_epoch=2).history
    callback.end()
    (state,) = runs(workshop)
    assert values(workshop, state.run_id) == {key: first[key] + second[key] for key in first}
    assert [(point.step, point.epoch) for point in series(workshop, state.run_id)["loss"]] == [
        (3, 1), (6, 2), (9, 3), (12, 4)
    ]  # fmt: skip


def test_another_model_gets_a_run_of_its_own(kit, workshop):
    callback = kit.XTrackCallback("folds", run_id="folds", strict=True)
    histories = [kit.fit(kit.tiny_model(lr), callback, epochs=2).history for lr in (0.1, 0.2, 0.3)]
    callback.end()
    states = runs(workshop)
    assert [state.run_id for state in states] == ["folds", "folds.2", "folds.3"]
    assert [values(workshop, state.run_id) for state in states] == histories
    assert [state.params["optimizer.learning_rate"] for state in states] == pytest.approx([0.1, 0.2, 0.3])
    assert {state.status for state in states} == {"completed"}


def test_an_early_stop_is_an_end_like_others(kit, workshop):
    callback = kit.XTrackCallback("early", strict=True)
    history = kit.fit(
        kit.tiny_model(), kit.keras.callbacks.EarlyStopping(patience=1, min_delta=10), callback, epochs=20
    ).history
    callback.end()
    (state,) = runs(workshop)
    assert len(history["loss"]) == 2
    assert (values(workshop, state.run_id), state.status) == (history, "completed")


def test_a_stop_command_ends_the_training(kit, workshop):
    callback = kit.XTrackCallback("obedient", strict=True)
    answers = []

    def stop():
        answers.extend(send_command(workshop.spool, callback.run.run_id, "stop", timeout=20))

    history = kit.fit(kit.tiny_model(), callback, kit.AtEpoch(2, stop), epochs=20).history
    callback.end()
    (state,) = runs(workshop)
    assert [answer.status for answer in answers] == ["ok"]
    assert len(history["loss"]) == 3  # Keras leaves the epoch then, a batch or two later: it calls from its threads
    assert values(workshop, state.run_id) == history
    assert state.status == "completed"


def test_an_evaluation_in_the_middle_of_a_training(kit, workshop):
    callback = kit.XTrackCallback("middle", strict=True)
    model = kit.tiny_model()
    tested = []

    def test():
        tested.append(model.evaluate(*kit.tiny_data(), verbose=0, callbacks=[callback], return_dict=True)["loss"])

    history = kit.fit(model, callback, kit.AtEpoch(2, test)).history
    callback.end()
    (state,) = runs(workshop)
    found = values(workshop, state.run_id)
    assert (found["test_loss"], found["val_loss"]) == (tested, history["val_loss"])
    assert (state.activity.progress.current, state.activity.progress.total) == (12, 12)


def test_a_loop_by_hand(kit, workshop):
    callback = kit.XTrackCallback("by hand", strict=True)
    model = kit.tiny_model()
    callbacks = kit.keras.callbacks.CallbackList([callback], model=model)
    x, y = kit.tiny_data()
    callbacks.on_train_begin()
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        for batch in range(4):
            callbacks.on_train_batch_begin(batch)
            rows = slice(16 * batch, 16 * batch + 16)
            logs = model.train_on_batch(x[rows], y[rows], return_dict=True)
            callbacks.on_train_batch_end(batch, logs)
        callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end(logs)
    callback.end()
    (state,) = runs(workshop)
    assert [point.step for point in series(workshop, state.run_id)["loss"]] == [4, 8]
    assert state.status == "completed"


def test_a_run_of_the_scripts_own_is_left_open(kit, workshop):
    with Tracker.start_run("mine", strict=True) as run:
        history = kit.fit(kit.tiny_model(), kit.XTrackCallback(run=run), epochs=2).history
        assert not run.ended
    (state,) = runs(workshop)
    assert (state.name, state.status) == ("mine", "completed")
    assert values(workshop, state.run_id) == history


@pytest.mark.parametrize(
    ("code", "exit_code", "status", "error"),
    [
        ("fit(tiny_model(), XTrackCallback(), AtEpoch(2, failing))", 1, "failed", "RuntimeError"),
        ("fit(tiny_model(), XTrackCallback(), AtEpoch(2, interrupting))", -2, "killed", "KeyboardInterrupt"),
        (
            (
                "model, callback = tiny_model(), XTrackCallback()\n"
                "try: fit(model, callback, AtEpoch(2, failing))\n"
                "except RuntimeError: model.evaluate(*tiny_data(), verbose=0, callbacks=[callback])"
            ),
            0,
            "failed",
            "",
        ),
    ],
    ids=["exception", "ctrl-c", "caught"],
)
def test_a_training_that_does_not_end_well(workshop, code, exit_code, status, error):
    printed = script(workshop, code, status=exit_code)
    (state,) = runs(workshop)
    assert (state.status, state.error.type) == (status, error), printed
    found = series(workshop, state.run_id)
    assert [point.step for point in found["loss"]] == [3, 6]
    assert [point.step for point in found.get("test_loss", ())] == ([6] if exit_code == 0 else [])


def test_a_training_that_is_tried_again_goes_on_in_its_run(kit, workshop):
    callback = kit.XTrackCallback("again", strict=True)
    model = kit.tiny_model()
    with pytest.raises(RuntimeError, match="out of memory"):
        kit.fit(model, callback, kit.AtEpoch(2, kit.failing))
    kit.fit(model, callback, epochs=2)
    callback.end()
    (state,) = runs(workshop)
    assert state.status == "completed"
    assert [point.step for point in series(workshop, state.run_id)["loss"]] == [3, 6, 9, 12]


@pytest.mark.parametrize(
    "restoring",
    [
        "keras.callbacks.BackupAndRestore('backup')",
        pytest.param("keras.callbacks.ModelCheckpoint('last.keras')", marks=pytest.mark.slow),
    ],
)
def test_a_crashed_training_is_resumed_in_another_process(workshop, restoring):
    code = (
        "import pathlib\n"
        "is_again = pathlib.Path('crashed').exists()\n"
        "has_model = is_again and pathlib.Path('last.keras').exists()\n"
        "model = keras.saving.load_model('last.keras') if has_model else tiny_model()\n"
        "callback = XTrackCallback('resumable', run_id='job-1', log_every_n_batches=1)\n"
        "def crash():\n"
        "    pathlib.Path('crashed').touch()\n"
        "    failing()\n"
        "class InEpoch(keras.callbacks.Callback):\n"
        "    def on_train_batch_end(self, batch, logs=None):\n"
        "        if batch == 1 and callback._epoch == 2 and not is_again: crash()\n"
        f"others = [{restoring}]\n"
        "say(fit(model, callback, *others, InEpoch(), initial_epoch=2 if has_model else 0).history)"
    )
    script(workshop, code, status=1)
    (state,) = runs(workshop)
    assert (state.status, state.error.message) == ("failed", "out of memory")
    assert [point.step for point in series(workshop, "job-1")["batch_loss"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    script(workshop, code)
    (state,) = runs(workshop)
    assert (state.run_id, state.status) == ("job-1", "completed")
    found = series(workshop, "job-1")
    assert [(point.step, point.epoch) for point in found["loss"]] == [(3, 1), (6, 2), (9, 3), (12, 4)]
    assert [point.value for point in found["loss"]][2:] == workshop.json("said.json")["loss"]
    assert [point.step for point in found["batch_loss"]] == list(range(1, 13))
    hidden = [point.step for point in series(workshop, "job-1", include_hidden=True)["batch_loss"] if point.hidden]
    assert hidden == [7, 8]


@pytest.mark.parametrize("all_ranks", [pytest.param(False, marks=pytest.mark.slow), True])
def test_two_processes_make_one_run(workshop, all_ranks):
    script(
        workshop,
        "import torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        f"callback = XTrackCallback('pair', all_ranks={all_ranks})\n"
        "history = fit(tiny_model(0.1 * (1 + dist.get_rank())), callback).history\n"
        "histories = [None, None]; dist.all_gather_object(histories, history)\n"
        "if dist.get_rank() == 0: say(histories)\n"
        "dist.destroy_process_group()",
        torchrun=True,
    )
    (state,) = runs(workshop)
    histories = workshop.json("said.json")
    assert (state.status, state.workers) == ("completed", ("0", "1") if all_ranks else ("0",))
    with LocalStore(workshop.spool) as store:
        for worker in state.workers:
            for key, expected in histories[int(worker)].items():
                kept = store.get_metrics(state.run_id, key, worker_id=worker)
                assert [point.value for point in kept] == expected


@pytest.mark.parametrize("every", [0, -1, True, 1.5, "10"])
def test_wrong_arguments(kit, every):
    with pytest.raises(ConfigurationError, match="log_every_n_batches"):
        kit.XTrackCallback(log_every_n_batches=every)
    with pytest.raises(ConfigurationError, match="must be a Run"):
        kit.XTrackCallback(run="job-1")


def test_the_example(workshop):
    script = EXAMPLES / "train_keras.py"
    printed = workshop.python(script, "--epochs", "2", "--run-id", "job")
    printed += workshop.python(script, "--epochs", "4", "--run-id", "job", "--resume")
    state = workshop.state()
    assert (state.status, state.name) == ("completed", "iris-keras")
    said = re.findall(r"^epoch (\d+)  val_loss ([\d.]+)  val_accuracy ([\d.]+)$", printed, re.MULTILINE)
    losses, accuracies = workshop.points("val_loss"), workshop.points("val_accuracy")
    assert said == [
        (str(loss.epoch), f"{loss.value:.4f}", f"{accuracy.value:.4f}")
        for loss, accuracy in zip(losses, accuracies, strict=True)
    ]
    assert [point.step for point in losses] == [10, 20, 30, 40]
    assert Path(state.best_checkpoint.checkpoint.path) == workshop.folder / "iris-runs" / "best.keras"
