"""Numbers as the training script logs them: the calls that cost it time, thousands a second.

What nearly every call is - a float, a name, a step, from a process that has logged before - takes the short way through
:meth:`StreamEmitter.emit_numbers`. Everything else goes to a method of the same name with an underscore, which says
what is wrong with it, or makes of it what can be made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from typing_extensions import Unpack

from xtrack_protocol.emitter.checks import Checks
from xtrack_protocol.emitter.stream import StreamEmitter
from xtrack_protocol.emitter.values import NotANumber, to_number
from xtrack_protocol.errors import RunEnded
from xtrack_protocol.ir import ENVELOPES, Metric, MetricBatch
from xtrack_protocol.limits import INT64_MAX, INT64_MIN

_METRIC: Final = ENVELOPES["metric"]
_BATCH: Final = ENVELOPES["metric_batch"]
_SMALL: Final = 2**30
"""Ints below it are compared faster."""


class MetricOptions(TypedDict, total=False):
    """What may be said of numbers besides their step.

    ``phase``: train, val, test, or other text. ``timestamp_us``: microseconds since the Unix epoch; default now.
    """

    epoch: int | None
    phase: str | None
    batch_size: int | None
    dataset_size: int | None
    agg: str | None
    timestamp_us: int | None


class NumberLog:
    """Logs numbers to a stream: the part of a Run that has to be quick."""

    def __init__(self, out: StreamEmitter) -> None:
        self._out = out
        self._emit = out.emit
        self._emit_numbers = out.emit_numbers
        self._run_id = out.stream.run_id
        self._check = Checks(out)
        self._ended = False

    def log_metric(self, key: str, value: Any, step: int | None = None, **options: Unpack[MetricOptions]) -> None:
        """Log one value of a series: any number, NaN and infinities included, or a scalar of numpy, torch or JAX.

        ``phase``: train, val, test, or other text. ``timestamp_us``: microseconds since the Unix epoch; default now.
        spec: EVT-METRIC-1
        """
        if (
            type(value) is float
            and value - value == 0.0
            and type(key) is str
            and (step is None or (type(step) is int and (0 <= step < _SMALL or INT64_MIN <= step <= INT64_MAX)))
            and not options
            and not self._ended
        ):
            try:
                emit = self._emit_numbers  # called like this, it is found faster
                if emit(_METRIC, Metric(self._run_id, key, value, step)) is not None:
                    return
            except Exception as error:  # what a Guard does, at no cost where nothing is wrong
                if not self._out.failed("log_metric", error):
                    raise
                return
        self._log_metric(key, value, step, **options)

    def _log_metric(
        self,
        key: str,
        value: Any,
        step: int | None = None,
        *,
        epoch: int | None = None,
        phase: str | None = None,
        batch_size: int | None = None,
        dataset_size: int | None = None,
        agg: str | None = None,
        timestamp_us: int | None = None,
    ) -> None:
        """Log a value that may be anything, with all that may be said of it."""
        if self._ended:
            self._complain_ended("log_metric")
            return
        try:
            check = self._check
            name = check.name("log_metric: key", key)
            try:
                number = to_number(value)
            except NotANumber as error:
                text = f"log_metric({name!r}): {error}. The value was not logged"
                self._out.refuse("value", text, error, about=name)
                return
            step, when = check.whole("step", step), check.whole("timestamp_us", timestamp_us)
            context = check.context(phase, batch_size, dataset_size, agg)
            metric = Metric(self._run_id, name, number, step, check.whole("epoch", epoch), context)
            if when is not None or number - number != 0 or self._emit_numbers(_METRIC, metric) is None:
                self._emit(metric, when)
        except Exception as error:  # what a Guard does
            if not self._out.failed("log_metric", error):
                raise

    def log_metrics(
        self, metrics: Mapping[str, Any], step: int | None = None, **options: Unpack[MetricOptions]
    ) -> None:
        """Log several series' values at one step, as one event. A value that is no number is left out, and warned of.

        spec: EVT-METRIC_BATCH-1
        """
        numbers = self._check.finite_floats(metrics)
        if (
            numbers is not None
            and (step is None or (type(step) is int and INT64_MIN <= step <= INT64_MAX))
            and not options
            and not self._ended
        ):
            try:
                if self._emit_numbers(_BATCH, MetricBatch(self._run_id, numbers, step)) is not None:
                    return
            except Exception as error:  # as in log_metric
                if not self._out.failed("log_metrics", error):
                    raise
                return
        self._log_metrics(metrics, step, **options)

    def _log_metrics(
        self,
        metrics: Mapping[str, Any],
        step: int | None = None,
        *,
        epoch: int | None = None,
        phase: str | None = None,
        batch_size: int | None = None,
        dataset_size: int | None = None,
        agg: str | None = None,
        timestamp_us: int | None = None,
    ) -> None:
        """Log what should be names with numbers, with all that may be said of it."""
        if self._ended:
            self._complain_ended("log_metrics")
            return
        try:
            check = self._check
            quick = check.finite_floats(metrics)
            numbers = check.numbers("log_metrics", metrics) if quick is None else quick
            if not numbers:
                return
            where = (
                check.whole("step", step),
                check.whole("epoch", epoch),
                check.context(phase, batch_size, dataset_size, agg),
            )
            when = check.whole("timestamp_us", timestamp_us)
            if quick is not None:
                if when is None and self._emit_numbers(_BATCH, MetricBatch(self._run_id, quick, *where)) is not None:
                    return
                numbers = check.numbers("log_metrics", quick)  # a known name may be of a subclass of str
            self._emit(MetricBatch(self._run_id, numbers, *where), when)
        except Exception as error:  # as in log_metric
            if not self._out.failed("log_metrics", error):
                raise

    # A wrong argument's name is told as of the call that the script has made.
    _log_metric.__qualname__ = "Run.log_metric"
    _log_metrics.__qualname__ = "Run.log_metrics"
    # What ``help`` and editors show.
    vars(log_metric)["__wrapped__"], vars(log_metrics)["__wrapped__"] = _log_metric, _log_metrics

    def _complain_ended(self, call: str) -> None:
        error = RunEnded(self._run_id, call)
        self._out.refuse("ended", str(error), error)


__all__ = ["MetricOptions", "NumberLog"]
