"""Lightning: a logger, and a callback that also tells what the trainer is doing.

::

    trainer = Trainer(logger=XTrackLogger("training"))          # or, beside other loggers:
    trainer = Trainer(callbacks=[XTrackCallback("training")])

Both serve ``lightning`` and ``pytorch_lightning``, whose classes differ: import the one you use before this module.
Metrics come as Lightning hands them to its loggers, so names, steps and values are those of its own; it reads them from
the device every ``Trainer(log_every_n_steps=...)``, and nothing is read beside.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from xtrack_protocol.emitter.run import Run
from xtrack_protocol.emitter.stream import say
from xtrack_protocol.emitter.values import NotANumber, to_int64
from xtrack_protocol.errors import ConfigurationError, XTrackError
from xtrack_protocol.integrations import _ranks
from xtrack_protocol.integrations._phases import log_by_phase
from xtrack_protocol.integrations._run import guard
from xtrack_protocol.integrations._training import Requests
from xtrack_protocol.spool.layout import safe_name

_PACKAGES: Final = ("lightning.pytorch", "pytorch_lightning")


def _find_packages() -> tuple[Any, ...]:
    """Return the packages that the script has imported; where it has none, one that is installed."""
    loaded = tuple(sys.modules[name] for name in _PACKAGES if name in sys.modules)
    if loaded:
        return loaded
    try:
        return (_ranks.require("lightning.pytorch", "lightning"),)
    except ConfigurationError as problem:
        try:
            return (_ranks.require("pytorch_lightning", "lightning"),)
        except ConfigurationError:
            raise problem from None


_packages: Final = _find_packages()
_rank_zero_only: Final = _packages[0].utilities.rank_zero_only
_Nothing: Final = sys.modules[f"{_packages[0].__name__}.loggers.logger"].DummyExperiment
_LoggerBase: Any = type("_LoggerBase", tuple(package.loggers.Logger for package in _packages), {})
_CallbackBase: Any = type("_CallbackBase", tuple(package.Callback for package in _packages), {})


class XTrackLogger(_LoggerBase):
    """A Lightning logger that tracks a run: metrics, hyperparameters, checkpoints, and how it ended.

    ``run``: one that the script has started, and ends; else each ``fit`` starts one with ``start_options``, as by
    ``Tracker.start_run``, and ends it: completed, failed with what was raised, or killed by Ctrl-C or SIGTERM.
    ``validate``, ``test`` and another ``fit`` go on with the same run. ``name``: the run's, and a folder's where
    Lightning saves checkpoints: ``save_dir``, by default the trainer's ``default_root_dir``, then ``name``, then the
    run id. Rank 0 logs, or with ``all_ranks`` each rank, as a worker of one run: then every rank must use this logger.
    Raises what ``Tracker.start_run`` raises when a run starts; later nothing (spec: EMT-3).
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        run: Run | None = None,
        all_ranks: bool = False,
        save_dir: str | Path | None = None,
        **start_options: Any,
    ) -> None:
        super().__init__()
        _ranks.check_start(type(self).__name__, name, run, start_options)
        self._name = name
        self._given = run
        self._all_ranks = all_ranks
        self._save_dir = None if save_dir is None else str(save_dir)
        self._start_options = start_options
        self._run: Run | None = None
        self._run_id: str | None = None if run is None else run.run_id
        self._model: Any = None
        self._is_lost = False

    # ------------------------------------------------------------------------------------------ the run

    @property
    def experiment(self) -> Any:
        """The :class:`Run`, started if it has to be; on ranks that don't log, an object that does nothing."""
        return self._open() or _Nothing()

    @property
    def run_id(self) -> str | None:
        """The id of the run, once it has been started by this process."""
        return self._run_id

    def _open(self) -> Run | None:
        if self._run is None or (self._run.ended and self._given is None):
            self._run = self._start()
            self._run_id = self._run_id if self._run is None else self._run.run_id
        return self._run

    def _start(self) -> Run | None:
        if self._run_id is None or self._given is not None:
            return self._start_with(self._start_options)
        again = {"run_id": self._run_id, "resume": None if self._all_ranks else True, "rewind_to": None, "params": None}
        try:
            return self._start_with({**self._start_options, **again})
        except XTrackError as problem:  # the training has begun, and nothing stops it any more
            if not self._is_lost:
                say(f"warning: run {self._run_id} can't go on, and what follows isn't logged: {problem}")
            self._is_lost = True
            return None

    def _start_with(self, options: Mapping[str, Any]) -> Run | None:
        return _ranks.start(self._name, run=self._given, all_ranks=self._all_ranks, place=self._find_place(), **options)

    @staticmethod
    def _find_place() -> _ranks.Place:
        """Return this process's place; before its process group is there, Lightning's children alone know of it."""
        place = _ranks.find_place()
        rank: int = _rank_zero_only.rank
        return place if place.size > 1 or rank == 0 else _ranks.Place(rank, rank + 1)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the run that was started here: another process goes on with it in a stream of its own."""
        return {**self.__dict__, "_run": None, "_model": None}

    # ------------------------------------------------------------------------------------------ what Lightning calls

    @property
    @override
    def name(self) -> str:
        """The run's name, or ``xtrack``."""
        return self._name or "xtrack"

    @property
    @override
    def version(self) -> str | None:
        """The run's id, as a file name; None before it is started."""
        return None if self._run_id is None else safe_name(self._run_id)

    @property
    @override
    def save_dir(self) -> str | None:
        """As given; None leaves it to the trainer."""
        return self._save_dir

    @property
    @override
    def root_dir(self) -> str | None:
        """The folder of all runs of this name, where ``save_dir`` was given."""
        return None if self._save_dir is None else str(Path(self._save_dir) / self.name)

    @property
    @override
    def log_dir(self) -> str | None:
        """The folder of this run, where ``save_dir`` was given."""
        return None if self.root_dir is None or self.version is None else str(Path(self.root_dir) / self.version)

    @override
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics of one step. Lightning's ``epoch`` among them becomes the epoch of the others."""
        run = self._open()
        if run is None:
            return
        values = dict(metrics)
        epoch = None
        if len(values) > 1 and "epoch" in values:
            try:
                epoch = to_int64(values["epoch"])
                del values["epoch"]
            except NotANumber:  # the script's own, and no epoch
                epoch = None
        log_by_phase(run, values, step, epoch)

    @override
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Log hyperparameters. Classes, functions and tensors are logged as what they are, not what they hold."""
        run = self._open()
        if run is not None:
            with guard(run, "log_hyperparams"):
                run.log_params(_ranks.plain(params))

    @override
    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Remember whose trainer it is; the graph isn't logged."""
        self._model = weakref.ref(model)

    @override
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Log the checkpoint that was just saved, and whether it is the best by the callback's ``monitor``.

        Its step is the last one that is in it, which is one less than the ``step`` in its name: Lightning's names count
        steps, its metrics number them from 0. Whoever resumes from it gives that step as ``rewind_to``.
        """
        run = self._open()
        if run is not None:
            with guard(run, "after_save_checkpoint"):
                self._log_checkpoint(run, checkpoint_callback)

    def _log_checkpoint(self, run: Run, saver: Any) -> None:
        path, monitor, score = saver._last_checkpoint_saved, saver.monitor, saver.current_score  # noqa: SLF001 - no other way
        steps, epoch = saver._last_global_step_saved, None  # noqa: SLF001 - as above
        model = self._model and self._model()
        if model is not None:
            epoch = model.trainer.current_epoch
            # Several optimizers step more often than metrics are numbered.
            steps = min(steps, model.trainer.fit_loop.epoch_loop._batches_that_stepped + 1)  # noqa: SLF001 - as above
        run.log_checkpoint(
            path,
            step=max(steps - 1, 0),
            epoch=epoch,
            metrics={monitor: score} if monitor and score is not None else None,
            is_best=bool(monitor) and path == saver.best_model_path,
            best_key=monitor,
        )

    @override
    def finalize(self, status: str) -> None:
        """End the run as Lightning's loop has ended; one that the script has started is the script's to end."""
        run = self._run
        if run is None or self._given is not None:
            return
        if status in {"success", "finished"}:
            run.end()
        else:
            _end_by(run, sys.exc_info()[1])  # Lightning calls this while it handles the exception


def _end_by(run: Run, error: BaseException | None) -> None:
    """End a run by what came out of the trainer."""
    if error is None:
        run.end("failed")
    elif type(error).__name__ == "SIGTERMException":  # Lightning's, a SystemExit without a code
        run.end("killed", error=error)
    elif isinstance(error, SystemExit):
        run.end_at_exit(None, error.code)
    else:
        run.end_at_exit(error, None)


class XTrackCallback(_CallbackBase):
    """Tracks a run beside other loggers, and tells what the trainer is doing and how far it is.

    It adds an :class:`XTrackLogger` made with the same arguments to the trainer's loggers; where the trainer has one
    already, it tells that one's run. A ``stop`` command ends ``fit`` after its batch; not where several processes
    train. As all loggers, it does nothing in a ``fast_dev_run``.
    """

    def __init__(
        self, name: str | None = None, *, run: Run | None = None, all_ranks: bool = False, **start_options: Any
    ) -> None:
        super().__init__()
        self.logger = XTrackLogger(name, run=run, all_ranks=all_ranks, **start_options)
        """What tracks the run; its ``run_id`` names it."""
        self._is_on = False
        self._requests = Requests({"stop": "the training ends after this batch"})
        self._listening_to: str | None = None

    @override
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._is_on = not trainer.fast_dev_run
        if not self._is_on:
            return
        present = next((logger for logger in trainer.loggers if isinstance(logger, XTrackLogger)), None)
        if present is None:
            trainer.loggers = [*trainer.loggers, self.logger]
        else:
            self.logger = present
        run = self.logger._open()  # noqa: SLF001 - of this module. It starts the run on all ranks at the same time
        if run is not None and run.session_id != self._listening_to:
            self._listening_to = run.session_id  # not the run, which can't be pickled as callbacks are
            self._requests.listen(run)

    @override
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._requests.begin(trainer.world_size)
        self._tell("training", progress=_progress(trainer, 0))

    @override
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._requests.take("stop"):
            trainer.should_stop = True

    @override
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._requests.end()

    @override
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._requests.end()

    @override
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._tell("training", progress=_progress(trainer, 1))

    @override
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self._tell("evaluating", "validation")

    @override
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._tell("training", progress=_progress(trainer, 0))

    @override
    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        self._tell("evaluating", "test")

    @override
    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        self._tell("running", "prediction")

    def _tell(self, status: Any, message: str | None = None, progress: tuple[int, int, str] | None = None) -> None:
        run = self.logger._open() if self._is_on else None  # noqa: SLF001 - of this module
        if run is not None:
            run.set_status(status, message, progress=progress)


def _progress(trainer: Any, done: int) -> tuple[int, int, str] | None:
    """Return how many epochs of how many, or steps where the trainer counts those; None where it has no end."""
    epochs, steps = trainer.max_epochs, trainer.max_steps
    if epochs is not None and epochs > 0:
        return min(trainer.current_epoch + done, epochs), epochs, "epochs"
    return (trainer.global_step, steps, "steps") if steps > 0 else None


__all__ = ["XTrackCallback", "XTrackLogger"]
