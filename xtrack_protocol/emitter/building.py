"""Builders: a run, or an experiment, said piece by piece. A wrong piece is told of where it is given."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec

from xtrack_protocol._value import Value
from xtrack_protocol.emitter.ending import end_status
from xtrack_protocol.emitter.run import Run
from xtrack_protocol.emitter.stream import now_us
from xtrack_protocol.emitter.tracker import Tracker, checked_id
from xtrack_protocol.emitter.values import (
    NotANumber,
    as_mapping,
    brief,
    flatten_params,
    shown_in_error,
    to_int64,
    to_number,
    to_text,
)
from xtrack_protocol.errors import ConfigurationError, ExperimentExists, ExperimentNotFound
from xtrack_protocol.ir.lifecycle import ErrorInfo
from xtrack_protocol.settings import load_settings

Moment: TypeAlias = datetime | float
"""A point in time: a datetime, one without a time zone taken as local time, or seconds since the Unix epoch."""

_SECONDS_MAX: Final = 1e11
"""A number beyond it, of the year 5138, was meant in another unit."""


class _Point(Value, frozen=True):
    key: str
    value: int | float
    step: int | None
    timestamp_us: int | None


class RunBuilder(Value, frozen=True):
    """A run that is to be. Immutable: each ``with_...`` returns another builder, so one may be the base of many.

    Every method raises ConfigurationError that names it, for what it can't take; nothing is written before ``start``
    or ``record``.
    """

    name: str | None = None
    experiment: str | None = None
    parent_run_id: str | None = None
    run_id: str | None = None
    start_time_us: int | None = None
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    points: tuple[_Point, ...] = ()

    def with_name(self, name: str) -> RunBuilder:
        """Give the run a name, for people."""
        return msgspec.structs.replace(self, name=_text("with_name: name", name))

    def with_experiment(self, experiment: str) -> RunBuilder:
        """Say which experiment it belongs to: a name or id; it is made by its first run."""
        return msgspec.structs.replace(self, experiment=checked_id("with_experiment: experiment", experiment))

    def with_parent(self, parent: Run | str) -> RunBuilder:
        """Say which run it is a part of: a Run, or its id."""
        run_id = parent.run_id if isinstance(parent, Run) else parent
        return msgspec.structs.replace(self, parent_run_id=checked_id("with_parent: parent", run_id))

    def with_run_id(self, run_id: str) -> RunBuilder:
        """Give the run an id of your own."""
        return msgspec.structs.replace(self, run_id=checked_id("with_run_id: run_id", run_id))

    def with_user(self, user: str) -> RunBuilder:
        """Say whose run it is: the tag ``user``."""
        return self._with_tags("with_user", {"user": user})

    def with_start_time(self, moment: Moment) -> RunBuilder:
        """Say when it began: a datetime, or seconds since the Unix epoch."""
        return msgspec.structs.replace(self, start_time_us=_moment_us("with_start_time: moment", moment))

    def with_param(self, key: str, value: Any) -> RunBuilder:
        """Add a param; a mapping is logged leaf by leaf."""
        return msgspec.structs.replace(self, params={**self.params, _text("with_param: key", key): value})

    def with_params(self, params: Any) -> RunBuilder:
        """Add params: a mapping, nested or not, a dataclass, or argparse's namespace."""
        try:
            flatten_params(params)
        except TypeError as error:
            raise ConfigurationError(
                "with_params: params", shown_in_error(params), "must be names with values"
            ) from error
        names = as_mapping(params)
        return msgspec.structs.replace(self, params={**self.params, **(vars(params) if names is None else names)})

    def with_tag(self, key: str, value: Any) -> RunBuilder:
        """Add a tag; the value becomes a text."""
        return self._with_tags("with_tag", {_text("with_tag: key", key): value})

    def with_tags(self, tags: Mapping[str, Any]) -> RunBuilder:
        """Add tags; values become texts."""
        return self._with_tags("with_tags", tags)

    def _with_tags(self, call: str, tags: Any) -> RunBuilder:
        return msgspec.structs.replace(self, tags={**self.tags, **_tags(call, tags)})

    def with_metric(
        self, key: str, value: Any, step: int | None = None, *, timestamp_us: int | None = None
    ) -> RunBuilder:
        """Add one value of a series; several of one key may be added."""
        point = _point("with_metric", key, value, step, timestamp_us)
        return msgspec.structs.replace(self, points=(*self.points, point))

    def with_metrics(
        self, metrics: Mapping[str, Any], step: int | None = None, *, timestamp_us: int | None = None
    ) -> RunBuilder:
        """Add values of several series at one step."""
        names = as_mapping(metrics)
        if names is None:
            raise ConfigurationError("with_metrics: metrics", shown_in_error(metrics), "must be names with numbers")
        points = [_point("with_metrics", key, value, step, timestamp_us) for key, value in names.items()]
        return msgspec.structs.replace(self, points=(*self.points, *points))

    def start(self, **options: Any) -> Run:
        """Start the run and return it open. ``options``: further arguments of Tracker.start_run. Raises as that."""
        run = self._start(self.start_time_us, options)
        run.log_batch(metrics=self.points or None)
        return run

    def record(
        self,
        status: str = "completed",
        *,
        end_time: Moment | None = None,
        duration: float | None = None,
        error: BaseException | ErrorInfo | str | None = None,
        **options: Any,
    ) -> Run:
        """Record a run that is over already, whole, and return it ended: results that were computed elsewhere.

        It ends at ``end_time``, or ``duration`` seconds after its start; by default now. Where only its end and its
        duration are known, its start follows. Metrics without a time of their own are of its end. ``status`` and
        ``error``: as for Run.set_terminated. ``options``: further arguments of Tracker.start_run.
        Raises ConfigurationError for times that don't agree, and as start_run.
        """
        chosen = end_status(status)
        if chosen is None:
            raise ConfigurationError("record: status", shown_in_error(status), "must be completed, failed or killed")
        start_us, end_us = self._times(end_time, duration)
        run = self._start(start_us, options)
        run.log_batch(
            metrics=[
                point if point.timestamp_us is not None else msgspec.structs.replace(point, timestamp_us=end_us)
                for point in self.points
            ]
        )
        run.end(chosen, error=error, end_time_us=end_us)
        return run

    def _start(self, start_us: int | None, options: Mapping[str, Any]) -> Run:
        said = {
            "experiment_id": self.experiment,
            "parent_run_id": self.parent_run_id,
            "run_id": self.run_id,
            "start_time_us": start_us,
            "params": self.params or None,
            "tags": self.tags,
        }
        for option in options:
            if option == "name" or said.get(option):
                raise ConfigurationError(
                    option, shown_in_error(options[option]), "is for the builder to say", "Use with_..."
                )
        return Tracker.start_run(self.name, **{**said, **options})

    def _times(self, end_time: Moment | None, duration: float | None) -> tuple[int, int]:
        """Return start and end in microseconds."""
        start_us = self.start_time_us
        end_us = None if end_time is None else _moment_us("record: end_time", end_time)
        if duration is not None:
            length = _number("record: duration", duration)
            if not 0 <= length < _SECONDS_MAX:
                raise ConfigurationError("record: duration", duration, "must be seconds, 0 or more")
            length_us = round(length * 1e6)
            if start_us is not None and end_us is not None and abs(end_us - start_us - length_us) > 1_000_000:
                raise ConfigurationError(
                    "record: duration",
                    duration,
                    f"start and end are {(end_us - start_us) / 1e6:g} s apart",
                    "Leave one out",
                )
            if start_us is None:
                start_us = (now_us() if end_us is None else end_us) - length_us
            if end_us is None:
                end_us = start_us + length_us
        if end_us is None:
            end_us = now_us()
        if start_us is None:
            start_us = end_us
        if end_us < start_us:
            raise ConfigurationError("record: end_time", shown_in_error(end_time), "is before the start of the run")
        return start_us, end_us


class ExperimentBuilder(Value, frozen=True):
    """An experiment with tags of its own. Immutable, as RunBuilder.

    Events only name their experiment; its tags are a store's. ``create`` writes them where this machine's runs are
    kept, or into the store that it is given. A collector takes no experiment's tags over the wire: where runs go to
    one, create the experiment on its machine.
    """

    name: str
    tags: dict[str, str] = msgspec.field(default_factory=dict)

    def with_tag(self, key: str, value: Any) -> ExperimentBuilder:
        """Add a tag; the value becomes a text."""
        return self.with_tags({_text("with_tag: key", key): value})

    def with_tags(self, tags: Mapping[str, Any]) -> ExperimentBuilder:
        """Add tags; values become texts."""
        return msgspec.structs.replace(self, tags={**self.tags, **_tags("with_tags", tags)})

    def create(self, *, store: str | None = None) -> RunBuilder:
        """Make the experiment, or set the tags of one that is there, and return a builder of its runs.

        ``store``: its URL; default the local store, of the folder that XTRACK_DIR names. Raises ConfigurationError
        where runs go to a collector elsewhere and there are tags, and StorageError.
        """
        settings = load_settings()
        if store is None and settings.transport != "local":
            if not self.tags:
                return Tracker.build(self.name)
            raise ConfigurationError(
                "experiment",
                self.name,
                f"its tags can't go to {settings.transport}, which takes events of runs alone",
                "Create it where the collector's store is, with create(store=URL), or tag the runs",
            )
        from xtrack_protocol.storage import open_store

        url = f"local:{settings.dir or ''}" if store is None else store
        with open_store(url) as opened:
            try:
                opened.get_experiment(self.name)
            except ExperimentNotFound:
                try:
                    opened.create_experiment(self.name, tags=self.tags)
                except ExperimentExists:  # another process was quicker
                    opened.tag_experiment(self.name, self.tags)
            else:
                if self.tags:
                    opened.tag_experiment(self.name, self.tags)
        return Tracker.build(self.name)


# ------------------------------------------------------------------------------------------ arguments


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(what, shown_in_error(value), "must be a text")
    if not value:
        raise ConfigurationError(what, value, "is empty")
    return to_text(value)


def _tags(call: str, tags: Any) -> dict[str, str]:
    names = as_mapping(tags)
    if names is None:
        raise ConfigurationError(f"{call}: tags", shown_in_error(tags), "must be names with texts")
    for key, value in names.items():
        if value is None:
            raise ConfigurationError(f"{call}: {brief(key)}", None, "must be a text")
    return {_text(f"{call}: key", key): to_text(value) for key, value in names.items()}


def _number(what: str, value: Any) -> int | float:
    try:
        return to_number(value)
    except NotANumber as error:
        raise ConfigurationError(what, shown_in_error(value), "must be a number") from error


def _whole(what: str, value: Any) -> int | None:
    try:
        return None if value is None else to_int64(value)
    except NotANumber as error:
        raise ConfigurationError(what, shown_in_error(value), "must be a whole number") from error


def _point(call: str, key: Any, value: Any, step: Any, timestamp_us: Any) -> _Point:
    return _Point(
        _text(f"{call}: key", key),
        _number(f"{call}: {key}", value),
        _whole(f"{call}: step", step),
        _whole(f"{call}: timestamp_us", timestamp_us),
    )


def _moment_us(what: str, moment: Any) -> int:
    """Return microseconds since the Unix epoch."""
    if isinstance(moment, datetime):
        try:
            return round(moment.timestamp() * 1e6)
        except (OverflowError, ValueError, OSError) as error:
            raise ConfigurationError(what, shown_in_error(moment), f"has no time stamp: {error}") from error
    if isinstance(moment, bool):
        raise ConfigurationError(what, moment, "must be a datetime, or seconds since the Unix epoch")
    try:
        seconds = to_number(moment)
    except NotANumber as error:
        problem = "must be a datetime, or seconds since the Unix epoch"
        raise ConfigurationError(what, shown_in_error(moment), problem) from error
    if not -_SECONDS_MAX < seconds < _SECONDS_MAX:
        problem = "is no time in seconds since the Unix epoch"
        raise ConfigurationError(what, moment, problem, "Divide milliseconds by 1e3, microseconds by 1e6")
    return round(seconds * 1e6)


__all__ = ["ExperimentBuilder", "Moment", "RunBuilder"]
