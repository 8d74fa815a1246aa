"""Keras 3: a callback for ``fit``, ``evaluate`` and ``predict``, whatever the backend."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from typing_extensions import override

from xtrack_protocol.emitter.run import Run
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.integrations._ranks import find_place, plain, require
from xtrack_protocol.integrations._run import guard
from xtrack_protocol.integrations._training import Requests, RunOwner
from xtrack_protocol.ir.lifecycle import Progress

require("keras")

import keras  # noqa: E402 - what is missing has been told by now

_FRAMES_MAX: Final = 6
"""Callers that are looked through for Keras' list of callbacks; subclasses of ours may stand between."""


class XTrackCallback(RunOwner, keras.callbacks.Callback):
    """Tracks a model's ``fit``: ``model.fit(..., callbacks=[XTrackCallback("name")])``.

    ``run``: a run that the script has started, and ends; else one is started with the first epoch, as by
    ``Tracker.start_run`` with ``start_options``, and stays open for what comes after ``fit``; see :meth:`end`.
    The main process logs, or each with ``all_ranks``. ``log_every_n_batches``: log also, every so many batches, what
    Keras says in the epoch (means since it began), as ``batch_loss`` and so on; Keras has fetched these values anyway.

    Tracked are the model, its optimizer and loss as params; what ``History`` holds, with the phase train or val, the
    epoch from 1, as Keras prints it, and the batches trained by then as the step; the checkpoints of the
    ``ModelCheckpoint`` callbacks in the same list, with the best of them; and progress. Given to ``evaluate`` it logs
    ``test_loss`` and so on. A ``stop`` command ends the training after its batch; not where several processes train.
    Raises ConfigurationError or TransportError when the training begins, where the run can't be tracked as asked.
    """

    async_safe: ClassVar[bool] = True
    """It waits for nothing and takes batches in any order: Keras may call it from its threads, as it does its own."""

    def __init__(
        self,
        name: str | None = None,
        *,
        run: Run | None = None,
        all_ranks: bool = False,
        log_every_n_batches: int | None = None,
        **start_options: Any,
    ) -> None:
        if log_every_n_batches is not None and (type(log_every_n_batches) is not int or log_every_n_batches < 1):
            raise ConfigurationError("log_every_n_batches", log_every_n_batches, "must be a whole number above 0")
        super().__init__(name, run, all_ranks, start_options)
        self._every = log_every_n_batches
        self._requests = Requests({"stop": "the training ends after this batch"})
        self._is_fitting = self._is_new_fit = False
        self._trained: Any = None
        self._at_once = 1
        self._epochs = self._steps = 0
        self._epoch = 0
        self._steps_before = 0
        self._batches = 0
        self._counting = threading.Lock()
        self._savers: dict[Any, _Saver] = {}
        self._unsettled: tuple[int, int | None, dict[str, Any]] | None = None
        self._logged: set[str] = set()

    # ------------------------------------------------------------------------------------------ what Keras calls

    @override
    def set_model(self, model: Any) -> None:
        super().set_model(model)
        self._is_fitting = False  # a new list of callbacks: of fit, which says so next, or of evaluate or predict

    @override
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._is_new_fit = True
        params = self.params or {}  # evaluate() changes them; a loop by hand may have none
        self._epochs, self._steps = params.get("epochs") or 0, params.get("steps") or 0
        found = [callback for callback in _callbacks_beside() if isinstance(callback, _ModelCheckpoint)]
        self._savers = {callback: self._savers.get(callback) or _Saver(callback) for callback in found}

    @override
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._settle()
        self._is_fitting = True
        if self._is_new_fit:  # by now the other callbacks have restored what they restore
            self._is_new_fit = False
            self._begin_fit(epoch)
        self._epoch, self._steps_before, self._batches = epoch, self._last_step, 0

    @override
    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._unsettled is not None:
            self._settle()

    @override
    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        # Of several batches at once, the last may be beyond the epoch's.
        done = min(batch + 1, self._steps or batch + 1)
        step = self._steps_before + done
        with self._counting:  # Keras' threads may be late
            self._batches = max(self._batches, done)
            self._last_step = max(self._last_step, step)
        run = self._run
        if run is None:
            return
        self._tell(run, "training", self._progress())
        if self._every is not None and logs and step // self._every > (step - self._at_once) // self._every:
            metrics = {f"batch_{key}": value for key, value in logs.items()}
            run.log_metrics(metrics, step=step, epoch=self._epoch + 1, phase="train")
        for saver in self._savers.values():
            if saver.is_due(batch):
                self._unsettled = (self._epoch, batch, dict(logs or {}))
        if self._requests.take("stop"):
            self._model.stop_training = True  # self.model would fetch JAX' state first

    @override
    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        run = self._run
        if run is None:
            return
        self._settle()
        logs = {} if logs is None else logs
        with guard(run, "XTrackCallback.on_epoch_end"):
            self._logged = set(logs)
            self._log_epoch(run, epoch, logs)
        self._unsettled = (epoch, None, logs)

    @override
    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._settle()
        self._is_fitting = False
        self._requests.end()
        self._end_training()
        if self._run is not None:
            self._run.set_status("finishing", progress=self._progress())
            self._activity = "finishing"

    @override
    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._run is not None:
            self._tell(self._run, "evaluating")

    @override
    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._is_fitting or not logs:  # on_epoch_end has the validation's values
            return
        run = self._ensure_run(None, None)
        if run is not None:
            with guard(run, "XTrackCallback.on_test_end"):
                run.log_metrics(
                    {f"test_{key}": value for key, value in logs.items()}, step=self._last_step, phase="test"
                )

    @override
    def on_predict_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._run is not None:
            self._tell(self._run, "evaluating")

    # ------------------------------------------------------------------------------------------ what comes of it

    def _on_run(self, run: Run) -> None:
        self._requests.listen(run)

    def _begin_fit(self, epoch: int) -> None:
        model = self.model
        problem = None
        try:
            seen = _iterations(model)
        except Exception as error:  # noqa: BLE001 - an optimizer of somebody's own; it is warned of below
            seen, problem = 0, error
        step = max(seen, self._last_step if model is self._trained else 0)
        if step == 0 and epoch > 0:  # the weights were restored without the optimizer's state
            step = epoch * self._steps
        self._trained = model
        self._requests.begin(find_place().size)
        self._at_once = getattr(model, "steps_per_execution", None) or 1
        run = self._begin_training(step)
        if run is None:
            return
        with guard(run, "XTrackCallback.on_train_begin"):
            run.log_params({**_params_of(model), **self._params_of_fit(epoch)})
            if problem is not None:
                raise problem  # as far as the guard
        self._epoch, self._batches = epoch, 0
        self._tell(run, "training", self._progress())

    def _progress(self) -> Progress:
        if not self._steps:
            return Progress(self._epoch + (not self._is_fitting), self._epochs, "epochs")
        return Progress(self._epoch * self._steps + self._batches, self._epochs * self._steps, "batches")

    def _params_of_fit(self, epoch: int) -> dict[str, Any]:
        return {"epochs": self._epochs, "initial_epoch": epoch, "steps_per_epoch": self._steps or None}

    def _log_epoch(self, run: Run, epoch: int, logs: Mapping[str, Any]) -> None:
        for phase, is_val in (("train", False), ("val", True)):
            metrics = {key: value for key, value in logs.items() if key.startswith("val_") is is_val}
            if metrics:
                run.log_metrics(metrics, step=self._last_step, epoch=epoch + 1, phase=phase)

    def _settle(self) -> None:
        """Log what the callbacks behind ours in the list have done since: values they added, files they saved."""
        unsettled, run = self._unsettled, self._run
        self._unsettled = None
        if unsettled is None or run is None:
            return
        epoch, batch, logs = unsettled
        with guard(run, "XTrackCallback.on_epoch_end"):
            if batch is None:
                self._log_epoch(run, epoch, {key: value for key, value in logs.items() if key not in self._logged})
            # Those that keep the best alone come last: theirs is the file that stays the best.
            for saver in sorted(self._savers.values(), key=lambda saver: bool(saver.callback.save_best_only)):
                saved = saver.saved(epoch, batch, logs)
                if saved is not None:
                    path, is_best = saved
                    run.log_checkpoint(
                        path,
                        step=self._last_step,
                        epoch=epoch + 1,
                        metrics=logs,
                        is_best=is_best,
                        best_key=saver.callback.monitor,
                    )


_ModelCheckpoint: Final = keras.callbacks.ModelCheckpoint


class _Saver:
    """Tells what a ModelCheckpoint has saved, by what it is documented to do and by its ``best``."""

    def __init__(self, callback: Any) -> None:
        self.callback = callback
        self._best = callback.best
        self._last_batch = -1
        self._seen = 0
        self._is_due = False

    def is_due(self, batch: int) -> bool:
        """Count a batch, or those of one call; return whether the callback saves, or decides to, after it."""
        every = self.callback.save_freq
        if every == "epoch":
            return False
        self._seen += batch - self._last_batch if batch > self._last_batch else batch + 1
        self._last_batch = batch
        self._is_due = self._seen >= every
        if self._is_due:
            self._seen = 0
        return self._is_due

    def saved(self, epoch: int, batch: int | None, logs: Mapping[str, Any]) -> tuple[str, bool] | None:
        """Return the path that was saved after an epoch or a batch, and whether it is the best; None for nothing."""
        callback = self.callback
        if (callback.save_freq == "epoch") is not (batch is None) or not (batch is None or self._is_due):
            return None
        self._is_due = False
        names = {"epoch": epoch + 1} if batch is None or "batch" in logs else {"epoch": epoch + 1, "batch": batch + 1}
        path = callback.filepath.format(**names, **logs)
        value = logs.get(callback.monitor)
        if callback.save_best_only and value is not None:
            if callback.best is self._best:  # the object: NaN is the best, too, where nothing was before
                return None
            self._best = callback.best
            return path, True
        is_better = value is not None and _is_better(value, self._best, callback.monitor_op)
        if is_better:
            self._best = value
        # What is overwritten each time is the last, and not the best for long.
        return path, is_better and path != callback.filepath and not callback.save_best_only


def _is_better(value: Any, best: Any, operation: Any) -> bool:
    """Return what the operation would, which makes a tensor of it; False before the callback has chosen one."""
    kind = getattr(operation, "__name__", "")
    if kind not in {"less", "greater"}:
        return False
    return best is None or bool(value < best if kind == "less" else value > best)


def _callbacks_beside() -> list[Any]:
    """Return the callbacks of the list that is calling ours: Keras gives a callback no other way to the others."""
    frame = sys._getframe(1)  # noqa: SLF001 - the documented way to the caller
    for _ in range(_FRAMES_MAX):
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList):
            return list(_flat(caller.callbacks))
        if frame.f_back is None:
            break
        frame = frame.f_back
    return []


def _flat(callbacks: Any) -> Iterator[Any]:
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CallbackList):
            yield from _flat(callback.callbacks)
        else:
            yield callback


def _iterations(model: Any) -> int:
    """Return how many batches the optimizer has seen. Its counter is fetched from the device, once a fit."""
    optimizer = getattr(model, "optimizer", None)
    iterations = getattr(optimizer, "iterations", None)
    if iterations is None:
        return 0
    return int(iterations.value) * (getattr(optimizer, "gradient_accumulation_steps", None) or 1)


def _params_of(model: Any) -> dict[str, Any]:
    described = {"class": type(model).__name__, "name": model.name}
    if model.built:
        described["parameters"] = model.count_params()
    return {
        "model": described,
        "optimizer": _config_of(getattr(model, "optimizer", None)),
        "loss": _config_of(getattr(model, "loss", None)),
        "backend": keras.backend.backend(),
    }


def _config_of(value: Any) -> Any:
    """Return an object of Keras as its class and what it was made with; other values as they are."""
    if isinstance(value, Mapping):
        return {str(key): _config_of(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_config_of(item) for item in value]
    if not hasattr(value, "get_config") or isinstance(value, type):
        return plain(value)
    config = {key: item for key, item in value.get_config().items() if item is not None and key != "name"}
    return {"class": type(value).__name__, **plain(config)}


__all__ = ["XTrackCallback"]
