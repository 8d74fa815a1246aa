"""The requests of a web service as series of one run: middleware for ASGI and for WSGI. Needs no package.

Each request is one point of ``http/response_seconds``, of ``http/status`` and of its route's own series, at the step of
its number, and one log event with method, path, status and seconds. A service is served whatever becomes of its
tracking.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from itertools import count
from time import perf_counter
from typing import Any, Final, TypeAlias

from xtrack_protocol.emitter import Run, Tracker
from xtrack_protocol.emitter.stream import say
from xtrack_protocol.emitter.tracker import check_options, checked_id
from xtrack_protocol.emitter.values import describe, shown_in_error, to_text
from xtrack_protocol.emitter.within import Within
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.settings import Settings

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"})
_TEXT_MAX: Final = 500
_NO_ROUTE: Final = "(no route)"
_OTHER: Final = "(other)"
_LAST: Final = frozenset({"http.response.body", "http.response.pathsend", "http.response.zerocopysend"})


class _Requests:
    """The run that requests are tracked by, and what is known of them so far. Nothing in it raises into a request."""

    def __init__(
        self,
        app: Any,
        run: Any,
        name: str,
        experiment: str | None,
        should_track: Any,
        route: Any,
        max_routes: Any,
        log_requests: bool,
        options: dict[str, Any],
    ) -> None:
        if not callable(app):
            raise ConfigurationError("app", shown_in_error(app), "must be an application")
        if experiment is not None:
            checked_id("experiment", experiment)
        check_options("options", options, ("name", "experiment_id"))
        for what, call in (("should_track", should_track), ("route", route)):
            if call is not None and not callable(call):
                raise ConfigurationError(what, shown_in_error(call), "must be something to call")
        if run is not None and not isinstance(run, Run):
            raise ConfigurationError("run", shown_in_error(run), "must be a Run", "Leave it out to have one started")
        if isinstance(max_routes, bool) or not isinstance(max_routes, int) or max_routes < 0:
            raise ConfigurationError("max_routes", shown_in_error(max_routes), "must be a whole number, 0 or more")
        self._run: Run | None = run
        self._is_own = run is None
        self._name = name
        self._experiment = experiment
        self._should_track = should_track
        self._route = route
        self._max_routes = max_routes
        self._routes: set[str] = set()
        self._log_requests = log_requests
        self._options = options
        self._numbers = count(1)
        self._starting: dict[int, threading.Lock] = {}
        self._warned: set[str] = set()

    def start(self) -> Run:
        """Return the run, started where there is none yet; where it can't be, one that goes nowhere, and a warning."""
        if self._run is not None:
            return self._run
        # By process: a forked server's child may find a lock held for ever.
        with self._starting.setdefault(os.getpid(), threading.Lock()):
            if self._run is None:
                try:
                    self._run = Tracker.start_run(self._name, experiment_id=self._experiment, **self._options)
                except Exception as error:  # whatever it is, the service is served
                    if self._options.get("strict"):
                        raise
                    say(f"warning: requests are not tracked: {describe(error)}")
                    self._run = Tracker.start_run(transport="null", quiet=True, settings=Settings())
        return self._run

    def wants(self, request: Any) -> bool:
        """Whether a request is tracked."""
        if self._should_track is None:
            return True
        try:
            return bool(self._should_track(request))
        except Exception as error:  # noqa: BLE001 - the user's code: a request isn't lost for it
            self._warn("should_track", error)
            return False

    def record(
        self, run: Run, method: Any, path: Any, route: str, status: int, seconds: float, problem: str | None
    ) -> None:
        """Log one request that is over. ``problem``: what kept it from its good end."""
        number = next(self._numbers)
        known = to_text(method).upper()
        route_key = f"{known if known in _METHODS else 'OTHER'} {self._bounded(_cut(route))}"
        run.log_metrics(
            {
                "http/response_seconds": seconds,
                "http/status": status,
                f"http/response_seconds {route_key}": seconds,
            },
            step=number,
        )
        if self._log_requests:
            shown_path = _cut(to_text(path))
            run.log(
                f"{_cut(known)} {shown_path} {status}",
                level="info" if problem is None and status < 500 else "error",
                logger="http",
                step=number,
                method=_cut(known),
                path=shown_path,
                route=_cut(route),
                status=status,
                seconds=seconds,
                **({} if problem is None else {"problem": _cut(problem)}),
            )

    def route_of(self, request: Any, found: Callable[[], str]) -> str:
        """Return a request's route: as ``route`` says, else what was ``found``."""
        if self._route is not None:
            try:
                told = self._route(request)
                if told is not None:
                    return to_text(told)
            except Exception as error:  # noqa: BLE001 - as above
                self._warn("route", error)
        try:
            return found()
        except Exception as error:  # noqa: BLE001 - a router's values, of whatever classes
            self._warn("the route of a request", error)
            return _NO_ROUTE

    def end(self, error: BaseException | str | None = None) -> None:
        """End the run, if it is our own."""
        run = self._run
        if self._is_own and run is not None:  # else there was no request
            if error is None:
                run.end()
            else:
                run.end("failed", error=error)

    def _bounded(self, route: str) -> str:
        if route not in self._routes:
            if len(self._routes) >= self._max_routes:
                return _OTHER
            self._routes.add(route)
        return route

    def _warn(self, what: str, error: Exception) -> None:
        if what not in self._warned:
            self._warned.add(what)
            say(f"warning: {what} failed: {describe(error)}. This is told once")


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 3]}..."


class TrackASGI:
    """ASGI middleware: ``app.add_middleware(TrackASGI, experiment="api")``, or ``TrackASGI(app)``.

    The run begins with the server's lifespan, or with the first request where the server has none, and ends with it;
    ``close()`` ends it, too. In each request, tracked or not, ``scope["xtrack.run"]`` is the run, and so is
    ``current_run()``. A response takes until its last byte was handed to the server. Web sockets are not tracked.

    ``run``: one of your own, which isn't ended. ``name``, ``experiment``: of the run. ``should_track``: called with the
    scope, says whether a request is tracked. ``route``: called with the scope when the request is over, says its route;
    by default what FastAPI or Starlette has found. ``max_routes``: so many routes have series of their own, the rest
    has one together. ``log_requests``: False: numbers alone. ``options``: further arguments of Tracker.start_run.
    Raises ConfigurationError for wrong arguments; where the run can't be started, one warning says so, and what is
    logged goes nowhere.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        *,
        run: Run | None = None,
        name: str = "requests",
        experiment: str | None = None,
        should_track: Callable[[Scope], object] | None = None,
        route: Callable[[Scope], str | None] | None = None,
        max_routes: int = 100,
        log_requests: bool = True,
        **options: Any,
    ) -> None:
        self._app = app
        self._requests = _Requests(app, run, name, experiment, should_track, route, max_routes, log_requests, options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        run = scope["xtrack.run"] = self._requests.start()
        if scope["type"] == "http" and not run.ended and self._requests.wants(scope):
            await _Exchange(self._requests, run, scope, receive, send).serve(self._app)
            return
        with Within(run):
            await self._app(scope, receive, send)

    def close(self) -> None:
        """End the run, where the server doesn't: it has no lifespan. It ends with the process anyway."""
        self._requests.end()

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start the run with the server, and end it with the server's end."""
        self._requests.start()
        has_started = False

        async def observed(message: Message) -> None:
            nonlocal has_started
            kind = message["type"]
            has_started = has_started or kind == "lifespan.startup.complete"
            try:
                await send(message)
            finally:
                if kind == "lifespan.shutdown.complete":
                    self._requests.end()
                elif kind in {"lifespan.startup.failed", "lifespan.shutdown.failed"}:
                    self._requests.end(to_text(message.get("message") or kind))

        try:
            await self._app(scope, receive, observed)
        except BaseException as error:
            if has_started:  # else it is an application without a lifespan, and requests will come all the same
                self._requests.end(error)
            raise


class _Exchange:
    """One request and its response."""

    def __init__(self, requests: _Requests, run: Run, scope: Scope, receive: Receive, send: Send) -> None:
        self._requests = requests
        self._run = run
        self._scope = scope
        self._receive = receive
        self._send = send
        self._began = perf_counter()
        self._path = scope.get("path", "")  # routers of parts of an application change it
        self._root = scope.get("root_path", "")
        self._status: int | None = None
        self._has_trailers = self._is_gone = self._is_told = False

    async def serve(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        try:
            with Within(self._run):
                await app(self._scope, self._receive_one, self._send_one)
        except BaseException as error:
            self._tell(f"after the response: {describe(error)}" if self._is_told else describe(error), error=True)
            raise
        if not self._is_told:
            self._tell("the client went away" if self._is_gone else "the response was not completed")

    async def _receive_one(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._is_gone = True
        return message

    async def _send_one(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
            self._has_trailers = bool(message.get("trailers"))
        await self._send(message)
        if kind == "http.response.trailers":
            is_last = not message.get("more_trailers")
        else:
            is_last = kind in _LAST and not message.get("more_body") and not self._has_trailers
        if is_last and not self._is_told:
            self._tell(None)

    def _tell(self, problem: str | None, *, error: bool = False) -> None:
        if self._is_told:  # an error in what the application does after its response
            self._run.log(
                f"{self._scope.get('method')} {_cut(to_text(self._path))}: {problem}", level="error", logger="http"
            )
            return
        self._is_told = True
        seconds = perf_counter() - self._began
        status = self._status if self._status is not None else 500 if error else 0
        route = self._requests.route_of(self._scope, lambda: _route_of(self._scope, self._path, self._root, status))
        self._requests.record(self._run, self._scope.get("method", ""), self._path, route, status, seconds, problem)


def _route_of(scope: Scope, path: str, root: str, status: int) -> str:
    """Return the route that a router has found: its template, where that can be told, not each path by itself.

    ``path`` and ``root``: as the server told them. Routers of parts of an application add to the root.
    """
    route = scope.get("route")
    template = getattr(route, "path", None)
    names = scope.get("path_params") or {}
    if isinstance(template, str):
        part = _with_names(str(scope.get("root_path", "")).removeprefix(root), names)
        return part if hasattr(route, "routes") else f"{part}{template}"
    if "endpoint" not in scope and ("router" in scope or status == 404):
        return _NO_ROUTE
    return _with_names(path, names)


def _with_names(path: str, names: Mapping[str, Any]) -> str:
    for name, value in names.items():
        if str(value):
            path = f"{path}/".replace(f"/{value}/", f"/{{{name}}}/", 1)[:-1]
    return path


# ------------------------------------------------------------------------------------------ WSGI

StartResponse: TypeAlias = Callable[..., Any]


class TrackWSGI:
    """WSGI middleware: ``application = TrackWSGI(application, experiment="api")``.

    The run begins with the first request and ends with the process, or with ``close()``. In each request
    ``environ["xtrack.run"]`` is the run, and so is ``current_run()``. A response takes until the server has asked for
    what comes after its last block, or has closed it.

    Arguments are those of TrackASGI; ``should_track`` and ``route`` get the environ. The route is found by itself where
    Flask has one.
    """

    def __init__(
        self,
        app: Callable[[dict[str, Any], StartResponse], Iterable[bytes]],
        *,
        run: Run | None = None,
        name: str = "requests",
        experiment: str | None = None,
        should_track: Callable[[dict[str, Any]], object] | None = None,
        route: Callable[[dict[str, Any]], str | None] | None = None,
        max_routes: int = 100,
        log_requests: bool = True,
        **options: Any,
    ) -> None:
        self._app = app
        self._requests = _Requests(app, run, name, experiment, should_track, route, max_routes, log_requests, options)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        run = environ["xtrack.run"] = self._requests.start()
        if not run.ended and self._requests.wants(environ):
            return _Response(self._requests, run, environ, start_response).begin(self._app)
        with Within(run):
            return self._app(environ, start_response)

    def close(self) -> None:
        """End the run."""
        self._requests.end()


class _Response:
    """What a WSGI application answers, block by block."""

    def __init__(self, requests: _Requests, run: Run, environ: dict[str, Any], start_response: StartResponse) -> None:
        self._requests = requests
        self._run = run
        self._environ = environ
        self._start_response = start_response
        self._began = perf_counter()
        self._method = environ.get("REQUEST_METHOD", "")
        raw = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        self._path = raw.encode("latin-1", "replace").decode("utf-8", "replace")  # as PEP 3333 has it
        self._status: int | None = None
        self._rule: str | None = None
        self._is_told = False
        self._inside = Within(run)
        self._blocks: Iterable[bytes] = ()
        self._iterator: Iterator[bytes] | None = None

    def begin(self, app: Callable[[dict[str, Any], StartResponse], Iterable[bytes]]) -> Iterable[bytes]:
        try:
            with self._inside:
                self._blocks = app(self._environ, self._started)
        except BaseException as error:
            self._tell(describe(error), error=True)
            raise
        return self

    def _started(self, status: str, *more: Any, **named: Any) -> Any:
        try:
            self._status = int(status[:3])
        except (TypeError, ValueError):
            self._status = 0  # the server says what is wrong with it
        self._rule = _flask_rule(self._environ)  # which is gone when the application has returned
        return self._start_response(status, *more, **named)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __len__(self) -> int:
        """As many blocks as the application has, where it can tell: by that servers find the length of one."""
        return len(self._blocks)  # type: ignore[arg-type]  # TypeError says that it can't

    def __bool__(self) -> bool:
        return True

    def __next__(self) -> bytes:
        try:
            with self._inside:
                if self._iterator is None:
                    self._iterator = iter(self._blocks)
                return next(self._iterator)
        except StopIteration:
            self._tell(None)
            raise
        except BaseException as error:
            self._tell(describe(error), error=True)
            raise

    def close(self) -> None:
        """Called by the server when it needs no more, whatever the reason."""
        try:
            close = getattr(self._blocks, "close", None)
            if close is not None:
                with self._inside:
                    close()
        finally:
            is_head = self._method == "HEAD" or self._status in {204, 304}  # which nobody asks for blocks
            self._tell(None if is_head else "the response was closed before its end")

    def _tell(self, problem: str | None, *, error: bool = False) -> None:
        if self._is_told:
            return
        self._is_told = True
        seconds = perf_counter() - self._began
        status = self._status if self._status is not None else 500 if error else 0
        route = self._requests.route_of(
            self._environ, lambda: self._rule or (_NO_ROUTE if status == 404 else self._path)
        )
        self._requests.record(self._run, self._method, self._path, route, status, seconds, problem)


def _flask_rule(environ: dict[str, Any]) -> str | None:
    rule = getattr(getattr(environ.get("werkzeug.request"), "url_rule", None), "rule", None)
    return rule if isinstance(rule, str) else None


__all__ = ["TrackASGI", "TrackWSGI"]
