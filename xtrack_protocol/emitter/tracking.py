"""``tracked``: functions and job handlers of which every call is a run."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Mapping
from typing import Any, TypeVar, overload

from typing_extensions import ParamSpec

from xtrack_protocol.emitter.arguments import params_of
from xtrack_protocol.emitter.current import current_run
from xtrack_protocol.emitter.run import Run
from xtrack_protocol.emitter.stream import say
from xtrack_protocol.emitter.tracker import Tracker, check_options, checked_id
from xtrack_protocol.emitter.values import as_mapping, brief, describe, shown_in_error, to_text
from xtrack_protocol.emitter.within import Within
from xtrack_protocol.errors import ConfigurationError

_P = ParamSpec("_P")
_R = TypeVar("_R")


@overload
def tracked(name: Callable[_P, _R], /) -> Callable[_P, _R]: ...


@overload
def tracked(
    name: str | None = None,
    *,
    run_name: Callable[..., str] | None = None,
    experiment: str | None = None,
    params: bool | Collection[str] = True,
    exclude: Collection[str] = (),
    final_metrics: bool = False,
    **options: Any,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]: ...


def tracked(
    name: Any = None,
    *,
    run_name: Callable[..., str] | None = None,
    experiment: str | None = None,
    params: bool | Collection[str] = True,
    exclude: Collection[str] = (),
    final_metrics: bool = False,
    **options: Any,
) -> Any:
    """Make every call of a function a run: ``@tracked``, ``@tracked("name")``, ``@tracked(experiment="jobs")``.

    For functions, coroutine functions, generators and async generators, and methods. Arguments become params, defaults
    included; secrets and what is large don't. An exception makes the run failed and goes on; what only stops the
    call (Ctrl-C, a task's cancellation) makes it killed. The run takes as long as the call. ``current_run()`` is the
    run inside of the call, and in what it calls; a tracked call in there makes a child of it.

    ``name``: of the runs; default the function's. ``run_name``: makes it, called with the call's arguments.
    ``params``: False: none, or the names of those to log. ``exclude``: names of those not to. ``final_metrics``:
    what the function returns are names with numbers, the run's result. ``options``: further arguments of start_run.
    Raises ConfigurationError for what doesn't fit the function. A call raises what ``Tracker.start_run`` does, too.
    """
    if name is not None and not isinstance(name, str):  # the function itself
        return _Tracking(name, None, None, None, True, (), False, {}).wrapped()
    if run_name is not None and not callable(run_name):
        raise ConfigurationError("tracked: run_name", shown_in_error(run_name), "must be something to call")
    if experiment is not None:
        checked_id("tracked: experiment", experiment)
    check_options("tracked", options, ("name", "experiment_id", "params", "run_id"))

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        tracking = _Tracking(function, name, run_name, experiment, params, exclude, final_metrics, options)
        return tracking.wrapped()  # type: ignore[no-any-return]  # one of four kinds

    return decorate


class _Tracking:
    """How the calls of one function are tracked."""

    def __init__(
        self,
        function: Any,
        name: str | None,
        run_name: Callable[..., str] | None,
        experiment: str | None,
        params: bool | Collection[str],
        exclude: Collection[str],
        final_metrics: bool,
        options: Mapping[str, Any],
    ) -> None:
        if isinstance(function, (classmethod, staticmethod)):
            problem = "goes below @classmethod and @staticmethod, next to the function"
            raise ConfigurationError("tracked", shown_in_error(function), problem)
        if isinstance(function, type) or not callable(function):
            raise ConfigurationError(
                "tracked", shown_in_error(function), "must be a function", 'Or a name: @tracked("name")'
            )
        self._function = function
        self._name = name or to_text(getattr(function, "__name__", type(function).__name__))
        self._run_name = run_name
        self._experiment = experiment
        try:
            self._signature = inspect.signature(function)
        except ValueError as error:
            raise ConfigurationError("tracked", shown_in_error(function), f"can't be tracked: {error}") from error
        self._has_params = params is not False
        self._wanted = None if isinstance(params, bool) else self._names("params", params)
        self._left_out = self._names("exclude", exclude)
        self._final_metrics = final_metrics
        self._options = options

    def _names(self, what: str, names: Any) -> frozenset[str]:
        if isinstance(names, str) or not isinstance(names, Collection):
            raise ConfigurationError(f"tracked: {what}", shown_in_error(names), "must be names of arguments")
        parameters = self._signature.parameters
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            for name in names:
                if name not in parameters:
                    problem = f"{self._name} has no such argument"
                    raise ConfigurationError(f"tracked: {what}", name, problem, f"It has {', '.join(parameters)}")
        return frozenset(names)

    # ------------------------------------------------------------------------------------------ a call

    def start(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Run:
        """Start the run of a call. Raises TypeError where the call doesn't fit the function, before there is a run."""
        try:
            bound = self._signature.bind(*arguments, **named)
        except TypeError as error:
            raise TypeError(f"{self._name}(): {error}") from None  # as Python says which function it is
        params = None
        if self._has_params:
            params = params_of(bound, self._wanted, self._left_out)
        options = {**self._options}
        around = current_run()
        if around is not None and options.get("parent_run_id") is None:
            options["parent_run_id"] = around.run_id
        name = self._name_of(arguments, named)
        return Tracker.start_run(name, experiment_id=self._experiment, params=params, **options)

    def _name_of(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> str:
        if self._run_name is None:
            return self._name
        try:
            return to_text(self._run_name(*arguments, **named))
        except Exception as error:  # noqa: BLE001 - the user's code; a job isn't lost for want of a name
            say(f"warning: run_name of {self._name} failed: {describe(error)}. The run is called {self._name}")
            return self._name

    def complete(self, run: Run, result: Any) -> None:
        """End the run of a call that has returned."""
        numbers = None
        if self._final_metrics:
            numbers = as_mapping(result)
            if numbers is None:
                run.log(
                    f"{self._name} returned {brief(result)}, which are no names with numbers",
                    level="warning",
                    logger="xtrack",
                )
        run.end(final_metrics=numbers)

    @staticmethod
    def fail(run: Run, error: BaseException) -> None:
        """End the run of a call that has raised."""
        if isinstance(error, (Exception, SystemExit)):
            run.__exit__(type(error), error, None)
        else:  # KeyboardInterrupt, and what frameworks of tasks stop them with
            run.end("killed", error=error)

    # ------------------------------------------------------------------------------------------ the four kinds

    def wrapped(self) -> Any:
        """Return the function that tracks the calls of the one given, of the same kind."""
        function = self._function
        call = function if inspect.isroutine(function) or inspect.ismethod(function) else type(function).__call__
        if inspect.isasyncgenfunction(call):
            wrapper = self._async_generator()
        elif inspect.isgeneratorfunction(call):
            wrapper = self._generator()
        elif inspect.iscoroutinefunction(call):
            wrapper = self._coroutine()
        else:
            wrapper = self._plain()
        return functools.wraps(function)(wrapper)

    def _plain(self) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            run = self.start(arguments, named)
            try:
                with Within(run):
                    result = self._function(*arguments, **named)
            except BaseException as error:
                self.fail(run, error)
                raise
            self.complete(run, result)
            return result

        return call

    def _coroutine(self) -> Callable[..., Any]:
        async def call(*arguments: Any, **named: Any) -> Any:
            run = self.start(arguments, named)
            try:
                with Within(run):
                    result = await self._function(*arguments, **named)
            except BaseException as error:
                self.fail(run, error)
                raise
            self.complete(run, result)
            return result

        return call

    def _generator(self) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Generator[Any, Any, Any]:
            run = self.start(arguments, named)
            inside = Within(run)
            steps = self._function(*arguments, **named)
            advance = functools.partial(next, steps)
            try:
                while True:
                    try:
                        with inside:
                            item = advance()
                    except StopIteration as end:
                        self.complete(run, end.value)
                        return end.value
                    try:
                        advance = functools.partial(steps.send, (yield item))
                    except GeneratorExit:  # who asked for the items wants no more of them
                        with inside:
                            steps.close()
                        run.end()
                        raise
                    except BaseException as thrown:  # noqa: BLE001 - goes to the function, as it would without us
                        advance = functools.partial(steps.throw, thrown)
            except BaseException as error:
                self.fail(run, error)
                raise

        return call

    def _async_generator(self) -> Callable[..., Any]:
        async def call(*arguments: Any, **named: Any) -> AsyncGenerator[Any, Any]:
            run = self.start(arguments, named)
            inside = Within(run)
            steps = self._function(*arguments, **named)
            advance = steps.__anext__
            try:
                while True:
                    try:
                        with inside:
                            item = await advance()
                    except StopAsyncIteration:
                        run.end()
                        return
                    try:
                        advance = functools.partial(steps.asend, (yield item))
                    except GeneratorExit:  # as above
                        with inside:
                            await steps.aclose()
                        run.end()
                        raise
                    except BaseException as thrown:  # noqa: BLE001 - as above
                        advance = functools.partial(steps.athrow, thrown)
            except BaseException as error:
                self.fail(run, error)
                raise

        return call


__all__ = ["tracked"]
