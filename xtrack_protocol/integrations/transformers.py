"""Hugging Face Transformers: a callback for ``Trainer``, and for the trainers that build on it."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from xtrack_protocol.emitter.run import Run
from xtrack_protocol.integrations._ranks import Place, plain, require
from xtrack_protocol.integrations._run import guard
from xtrack_protocol.integrations._training import Requests, RunOwner
from xtrack_protocol.ir.lifecycle import Progress

require("transformers")

from transformers import TrainerCallback  # noqa: E402 - what is missing has been told by now

_ALWAYS: Final = frozenset(
    {
        "bf16",
        "fp16",
        "gradient_accumulation_steps",
        "learning_rate",
        "lr_scheduler_type",
        "max_grad_norm",
        "optim",
        "per_device_train_batch_size",
        "seed",
        "weight_decay",
    }
)
"""Training arguments that are params whatever their value; of the others those that aren't the default."""

_NEVER: Final = re.compile(
    r"(accelerator_config|disable_tqdm|do_|hub|local_rank|log_level|logging|output_dir|project|push_to|report_to|run_name"
    r"|trackio)"
)
"""Beginnings of training arguments that say where things go, or what others say already."""

_SECRET: Final = re.compile(
    r"(^|_)(auth|credentials?|passw(or)?d|secret|token|(access|api|private|secret)_key)$", re.IGNORECASE
)

_SPEED: Final = ("_runtime", "_per_second", "_preparation_time")


class XTrackCallback(RunOwner, TrainerCallback):
    """Tracks a ``Trainer``: ``Trainer(..., callbacks=[XTrackCallback("name")])``.

    ``run``: a run that the script has started, and ends; else one is started with the training, as by
    ``Tracker.start_run`` with ``start_options``, and stays open for what comes after ``train()``; see :meth:`end`.
    ``name``: default ``TrainingArguments.run_name``. The main process logs, or each with ``all_ranks``.

    Tracked are the training arguments and the model's config as params, what the Trainer logs at its global step (with
    the phase train, val or test, and its fractional epoch as a series of its own), predictions' metrics, checkpoints
    with the best of them, and progress. A ``stop`` command ends the training after its step, ``checkpoint_now`` saves
    one; not where several processes train. Raises ConfigurationError or TransportError when the training begins, where
    the run can't be tracked as asked.
    """

    def __init__(
        self, name: str | None = None, *, run: Run | None = None, all_ranks: bool = False, **start_options: Any
    ) -> None:
        super().__init__(name, run, all_ranks, start_options)
        self._latest: tuple[int, dict[str, Any]] = (-1, {})
        self._epoch_step = -1
        self._requests = Requests(
            {"stop": "the training ends after this step", "checkpoint_now": "a checkpoint is saved after this step"}
        )

    # ------------------------------------------------------------------------------------------ what Trainer calls

    @override
    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._requests.begin(args.world_size)
        run = self._begin_training(state.global_step, _name_of(args), _place_of(args))
        if run is None:
            return
        with guard(run, "XTrackCallback.on_train_begin"):
            run.log_params(_params_of(args, state, model))
        self._tell(run, "training", _progress(state))

    @override
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._last_step = state.global_step
        if self._run is None:
            return
        self._tell(self._run, "training", _progress(state))
        if self._requests.take("stop"):
            control.should_training_stop = True
        if self._requests.take("checkpoint_now"):
            control.should_save = True

    @override
    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._run is not None:
            self._tell(self._run, "evaluating")

    @override
    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        run = self._ensure_run(_name_of(args), _place_of(args))
        if run is not None and logs:
            with guard(run, "XTrackCallback.on_log"):
                self._log(run, logs, state)

    @override
    def on_predict(self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any], **_: Any) -> None:
        run = self._ensure_run(_name_of(args), _place_of(args))
        if run is not None and metrics:
            with guard(run, "XTrackCallback.on_predict"):
                run.log_metrics(metrics, step=state.global_step, epoch=_epoch_of(state), phase="test")

    @override
    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        run = self._run
        if run is not None and state.is_world_process_zero:
            with guard(run, "XTrackCallback.on_save"):
                self._log_checkpoint(run, args, state)

    @override
    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._requests.end()
        self._end_training()
        run = self._run
        if run is None:
            return
        with guard(run, "XTrackCallback.on_train_end"):
            run.set_status("finishing", progress=_progress(state))
            self._activity = "finishing"
            if state.best_metric is not None and state.is_world_process_zero:
                run.summary({f"best_{_best_key(args)}": state.best_metric})

    # ------------------------------------------------------------------------------------------ what comes of it

    def _on_run(self, run: Run) -> None:
        self._latest, self._epoch_step = (-1, {}), -1
        self._requests.listen(run)

    def _log(self, run: Run, logs: Mapping[str, Any], state: Any) -> None:
        step = state.global_step
        phases: dict[str, dict[str, Any]] = {}
        evaluated = _evaluation_of(logs)
        for key, value in logs.items():
            if key != "epoch":
                phases.setdefault(_phase_of(key, evaluated), {})[key] = value
        for phase, metrics in phases.items():
            run.log_metrics(metrics, step=step, epoch=_epoch_of(state), phase=phase)
        if "epoch" in logs and step != self._epoch_step:  # else there is a point of that step already
            self._epoch_step = step
            run.log_metric("epoch", logs["epoch"], step=step)
        if self._latest[0] != step:
            self._latest = (step, {})
        self._latest[1].update(logs)

    def _log_checkpoint(self, run: Run, args: Any, state: Any) -> None:
        step = state.global_step
        path = _checkpoint_path(args, state)
        at_step, metrics = self._latest
        best = state.best_model_checkpoint
        run.log_checkpoint(
            path,
            step=step,
            epoch=_epoch_of(state),
            metrics={
                key: value
                for key, value in (metrics.items() if at_step == step else ())
                if key != "epoch" and not key.endswith(_SPEED)
            },
            # It was decided before on_save, whether by the evaluation (4.x) or with the files (5.x).
            is_best=best is not None and Path(best).absolute() == path.absolute(),
            best_key=_best_key(args),
        )


def _name_of(args: Any) -> str | None:
    """Return the run's name, if the script has given one: up to 4.x it is the output folder where it hasn't."""
    name = args.run_name
    return None if name is None or name == args.output_dir else str(name)


def _place_of(args: Any) -> Place:
    """Return which process the Trainer takes this one for."""
    return Place(args.process_index, args.world_size)


def _epoch_of(state: Any) -> int | None:
    """Return the epoch that is being trained or has just ended, from 1; the Trainer's is a fraction of all epochs."""
    return None if state.epoch is None else math.ceil(state.epoch)


def _progress(state: Any) -> Progress:
    return Progress(state.global_step, state.max_steps, "steps")


def _evaluation_of(logs: Mapping[str, Any]) -> str | None:
    """Return the prefix of an evaluation's metrics, which always say how long it took."""
    found = (key.removesuffix("runtime") for key in logs if key.endswith("_runtime"))
    return next((prefix for prefix in found if prefix != "train_"), None)


def _phase_of(key: str, evaluated: str | None) -> str:
    if key.startswith("test_"):
        return "test"
    is_evaluation = key.startswith("eval_") or (evaluated is not None and key.startswith(evaluated))
    return "val" if is_evaluation else "train"


def _best_key(args: Any) -> str | None:
    """Return the name under which the Trainer logs what makes a checkpoint the best."""
    key = args.metric_for_best_model
    return key if key is None or key.startswith("eval_") else f"eval_{key}"


def _checkpoint_path(args: Any, state: Any) -> Path:
    name = f"checkpoint-{state.global_step}"
    path = Path(args.output_dir) / name
    if state.is_hyper_param_search and not path.is_dir():  # each trial has a folder, whose name only the Trainer knows
        trials = sorted(Path(args.output_dir).glob(f"*/{name}"), key=os.path.getmtime)
        return trials[-1] if trials else path
    return path


# ------------------------------------------------------------------------------------------ params


def _params_of(args: Any, state: Any, model: Any) -> dict[str, Any]:
    params = {
        **_arguments(args),
        "max_steps": state.max_steps,
        "num_train_epochs": state.num_train_epochs,
        "world_size": args.world_size,
        "total_train_batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "model": _model_params(model),
    }
    if state.trial_params:
        params["trial"] = plain(state.trial_params)
    return params


def _arguments(args: Any) -> dict[str, Any]:
    """Return the training arguments that matter: a few always, of the rest what differs from its default."""
    chosen = {}
    for field in dataclasses.fields(args):
        value = getattr(args, field.name, None)
        default = _default_of(field)
        is_default = value == default or not (value or default)
        if field.name in _ALWAYS or not (is_default or not field.init or _NEVER.match(field.name)):
            chosen[field.name] = value
    arguments: dict[str, Any] = _without_secrets(plain(chosen))
    return arguments


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _without_secrets(value: Any) -> Any:
    """Return plain values without what is a secret by its name, on any level."""
    if isinstance(value, dict):
        return {key: _without_secrets(item) for key, item in value.items() if not _SECRET.search(key)}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value


def _model_params(model: Any) -> dict[str, Any]:
    """Return the model's class, its size, and of its config the plain values. Nothing is fetched from a device."""
    params: dict[str, Any] = {"class": type(model).__name__}
    if hasattr(model, "num_parameters"):
        params["parameters"] = model.num_parameters()
        params["trainable_parameters"] = model.num_parameters(only_trainable=True)
    config: Any = getattr(model, "config", None)
    values = config.to_diff_dict() if hasattr(config, "to_diff_dict") else config if isinstance(config, dict) else {}
    for key, value in _without_secrets(plain(values)).items():
        if isinstance(value, (str, int, float)) and key != "transformers_version":
            params[key.lstrip("_")] = value
    adapters = getattr(model, "peft_config", None)
    if adapters:
        params["adapters"] = _without_secrets(plain(adapters))
    return params


__all__ = ["XTrackCallback"]
