"""PyTorch: a callback for training loops that are written by hand.

::

    with Tracker.start_run("training") as run:
        callback = PyTorchCallback(run, log_every_n_steps=100)
        for epoch in range(10):
            callback.on_epoch_start(epoch, total_epochs=10)
            for step, batch in enumerate(loader):
                loss = train_step(batch)
                callback.on_step_end(step, {"loss": loss})
            callback.on_epoch_end(epoch, validate())

A tensor is read only when it is logged. Reading one that is on an accelerator waits for the accelerator, so
``log_every_n_steps`` is also how often that happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isnan
from typing import Any, Final, Literal, TypeAlias

from xtrack_protocol.emitter.run import Run
from xtrack_protocol.emitter.values import NotANumber, as_mapping, brief, shown_in_error, to_int64, to_number
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.integrations import _ranks
from xtrack_protocol.integrations._phases import log_by_phase
from xtrack_protocol.integrations._run import guard

_ranks.require("torch")

Values: TypeAlias = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""Numbers by name, or something to call for them. A number may be a tensor of one element, or something to call too."""

_BETTER: Final[dict[str, Callable[[float, float], bool]]] = {"min": float.__lt__, "max": float.__gt__}


def start_run(name: str | None = None, *, all_ranks: bool = False, **options: Any) -> Run | None:
    """Start a run from each rank of a training: return it on rank 0, None elsewhere; with ``all_ranks`` on each rank.

    ``options`` as for ``Tracker.start_run``. With ``all_ranks`` each rank is a worker of one run, whose id is
    ``run_id`` or XTRACK_RUN_ID or the launcher's job; where none of them is there, rank 0 makes one and
    torch.distributed broadcasts it, so that every rank must call this. Raises ConfigurationError where they have
    nothing to share it by, and what ``Tracker.start_run`` raises. spec: EMT-7.2
    """
    return _ranks.start(name, all_ranks=all_ranks, **options)


class PyTorchCallback:
    """Logs what a training loop tells it to ``run``, on rank 0 or, with ``all_ranks``, on every rank.

    Elsewhere, and where ``run`` is None, every call does nothing, so that all ranks run the same script. The run is the
    script's: it starts it and ends it.

    ``log_every_n_steps``: the first step is logged, and every n-th after it; the values of others are not looked at.
    ``monitor``: the metric that tells which checkpoint is the best, the least of it (``mode="min"``) or the greatest
    (``"max"``). Nothing raises into the training, as with a Run (spec: EMT-3).
    Raises ConfigurationError for a wrong ``run``, ``log_every_n_steps`` or ``mode``.
    """

    def __init__(
        self,
        run: Run | None,
        log_every_n_steps: int = 50,
        *,
        all_ranks: bool = False,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "min",
    ) -> None:
        if run is not None and not isinstance(run, Run):
            raise ConfigurationError(
                "run", shown_in_error(run), "must be a Run, as Tracker.start_run returns it, or None"
            )
        if type(log_every_n_steps) is not int or log_every_n_steps < 1:
            raise ConfigurationError("log_every_n_steps", log_every_n_steps, "must be a whole number from 1 on")
        if mode not in _BETTER:
            raise ConfigurationError("mode", mode, "must be min or max")
        self.run: Final = None if run is None else _ranks.start(run=run, all_ranks=all_ranks)
        """The run that this rank logs to; None where it doesn't."""
        self.best: float | None = None
        """The best of ``monitor`` so far. A resumed script sets it, for it alone knows of checkpoints before."""
        self._every = log_every_n_steps
        self._monitor, self._is_better = monitor, _BETTER[mode]
        self._steps_seen = 0
        self._step: int | None = None
        self._step_offset = 0
        self._begins_epoch = False
        self._epoch: int | None = None
        self._total_epochs: int | None = None
        self._counts_from = 0
        self._epoch_metrics: dict[str, int | float] = {}

    def on_epoch_start(self, epoch: int, total_epochs: int | None = None) -> None:
        """Say that an epoch begins, of ``total_epochs``. Epochs may count from 0 or from 1."""
        if self.run is None:
            return
        with guard(self.run, "on_epoch_start"):
            epoch = to_int64(epoch)
            if self._epoch is None and epoch == 1:
                self._counts_from = 1
            self._begins_epoch = True
            self._epoch_metrics = {}
            self._epoch, self._total_epochs = epoch, total_epochs
            self._tell_progress(0)

    def on_step_end(
        self,
        step: int,
        metrics: Values,
        *,
        phase: str | None = "train",
        batch_size: int | None = None,
    ) -> None:
        """Log the values of a step, if it is one to be logged. spec: EVT-METRIC_BATCH-1

        ``step`` may count on over all epochs, or begin anew with each ``on_epoch_start``: it is logged counting on.
        """
        run = self.run
        if run is None:
            return
        is_logged = self._steps_seen % self._every == 0
        self._steps_seen += 1
        if not is_logged and not self._begins_epoch and not self._step_offset:  # most steps
            self._step = step
            return
        with guard(run, "on_step_end"):
            if self._begins_epoch:
                self._begins_epoch = False
                self._step_offset = self._offset_for(step)
            self._step = step + self._step_offset if self._step_offset else step
            if is_logged:
                numbers = self._read("on_step_end", metrics)
                run.log_metrics(numbers, self._step, epoch=self._epoch, phase=phase, batch_size=batch_size)

    def on_epoch_end(self, epoch: int, metrics: Values | None = None) -> None:
        """Log an epoch's values at its last step, and how far the training is.

        Names that begin with ``val``, ``test`` or ``train`` and ``_`` or ``/`` get that phase.
        """
        if self.run is None:
            return
        with guard(self.run, "on_epoch_end"):
            self._epoch = to_int64(epoch)
            self._epoch_metrics = {} if metrics is None else self._read("on_epoch_end", metrics)
            log_by_phase(self.run, self._epoch_metrics, self._step, self._epoch)
            self._tell_progress(1)

    def on_checkpoint(
        self,
        path: Any,
        metrics: Values | None = None,
        is_best: bool | None = None,
        *,
        step: int | None = None,
        epoch: int | None = None,
    ) -> None:
        """Log a checkpoint that was saved to ``path``; by default with the last step, epoch and epoch's values.

        ``is_best``: by default whether its ``monitor`` is better than that of all before. spec: EVT-CHECKPOINT-2
        """
        run = self.run
        if run is None:
            return
        with guard(run, "on_checkpoint"):
            numbers = self._epoch_metrics if metrics is None else self._read("on_checkpoint", metrics)
            is_better = self._beats_the_best(numbers)
            epoch = self._epoch if epoch is None else epoch
            run.log_checkpoint(
                path,
                next((known for known in (step, self._step, epoch) if known is not None), 0),
                epoch=epoch,
                metrics=numbers,
                is_best=is_better if is_best is None else bool(is_best),
                best_key=self._monitor,
            )

    def _offset_for(self, step: int) -> int:
        """Return what to add to an epoch's steps, the first of which is ``step``, so that they count on."""
        last = self._step
        if last is None or step + self._step_offset > last:
            return self._step_offset
        return last + 1 - step

    def _read(self, call: str, metrics: Values) -> dict[str, int | float]:
        """Return the numbers: what can be called is called, tensors are fetched, what is no number is left out."""
        assert self.run is not None
        out = self.run._out  # noqa: SLF001 - as the run's own calls
        values = as_mapping(metrics() if callable(metrics) else metrics)
        if values is None:
            raise TypeError(f"{call} takes names with values, not {brief(metrics)}")
        numbers: dict[str, int | float] = {}
        for key, value in values.items():
            with guard(self.run, call):
                try:
                    numbers[key] = to_number(value() if callable(value) else value)
                except NotANumber as error:
                    out.refuse("value", f"{call}: {key!r}: {error}. It was left out", error, about=str(key))
        return numbers

    def _beats_the_best(self, metrics: Mapping[str, int | float]) -> bool:
        if self._monitor is None:
            return False
        if self._monitor not in metrics:
            assert self.run is not None
            known = ", ".join(map(str, metrics)) or "none"
            self.run._out.warn(  # noqa: SLF001 - as the run's own calls
                "monitor",
                f"on_checkpoint: there is no {self._monitor!r} to tell the best by among the metrics: {known}",
            )
            return False
        value = float(metrics[self._monitor])
        if isnan(value) or (self.best is not None and not self._is_better(value, float(self.best))):
            return False
        self.best = value
        return True

    def _tell_progress(self, done: int) -> None:
        assert self.run is not None
        if self._epoch is None or not self._total_epochs:
            self.run.set_status("training")
            return
        finished = min(self._epoch - self._counts_from + done, self._total_epochs)
        self.run.set_status("training", progress=(finished, self._total_epochs, "epochs"))


__all__ = ["PyTorchCallback", "start_run"]
