"""Requests as series of one run: real applications, real servers, and clients that go away."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import wsgiref.simple_server
import wsgiref.validate
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

import xtrack_protocol as xtrack
from xtrack_protocol.emitter import tracker
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.integrations.web import TrackASGI, TrackWSGI
from xtrack_protocol.runs import RunState
from xtrack_protocol.storage.local import LocalStore

SECONDS = "http/response_seconds"


@pytest.fixture(autouse=True)
def spool_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spool of the test's own, as if this process had started no run yet."""
    for name in list(os.environ):
        if name.startswith("XTRACK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XTRACK_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("XTRACK_QUIET", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracker, "_bound", {})
    return tmp_path / "home"


@pytest.fixture
def state(spool_root: Path) -> Any:
    def only() -> RunState:
        with LocalStore(spool_root) as store:
            (run,) = store.list_runs()
            return run

    return only


def requests(state: RunState) -> list[tuple[Any, ...]]:
    """Return method, path, route, status and problem of each request that was logged."""
    fields = [record.entry.fields for record in state.logs if record.entry.fields]
    return [(f["method"], f["path"], f["route"], f["status"], f.get("problem")) for f in fields]


# ------------------------------------------------------------------------------------------ ASGI


async def user(request: Any) -> PlainTextResponse:
    xtrack.log_metric("model/score", 0.5)
    assert request.scope["xtrack.run"] is xtrack.current_run()
    return PlainTextResponse(request.path_params["name"])


def threaded(request: Any) -> PlainTextResponse:
    xtrack.log_metric("in/thread", 1.0)
    return PlainTextResponse("from a thread")


async def broken(request: Any) -> PlainTextResponse:
    raise ValueError("no model")


async def stream(request: Any) -> StreamingResponse:
    async def parts() -> Any:
        for _ in range(3):
            await asyncio.sleep(0.02)
            yield b"part"

    return StreamingResponse(parts())


async def half_streamed(request: Any) -> StreamingResponse:
    async def parts() -> Any:
        yield b"part"
        raise OSError("disk")

    return StreamingResponse(parts())


async def with_work_behind(request: Any) -> PlainTextResponse:
    async def work() -> None:
        await asyncio.sleep(0.3)

    return PlainTextResponse("soon", background=BackgroundTask(work))


async def failing_behind(request: Any) -> PlainTextResponse:
    async def work() -> None:
        raise KeyError("behind")

    return PlainTextResponse("soon", background=BackgroundTask(work))


async def talk(websocket: Any) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


class Answer(NamedTuple):
    status: int
    text: str


class Client:
    """Asks a server on this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, method: str = "GET") -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path)
            with connection.getresponse() as response:
                return Answer(response.status, response.read().decode())


@contextlib.contextmanager
def serving_asgi(app: Any) -> Iterator[Client]:
    """Serve an application for real, from its lifespan's start to its end."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, http="h11", ws="none", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield Client(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


def application(**options: Any) -> Starlette:
    app = Starlette(
        routes=[
            Route("/users/{name}", user),
            Route("/users/{name}/{number:int}", user),
            Route("/threaded", threaded),
            Route("/broken", broken),
            Route("/stream", stream),
            Route("/half", half_streamed),
            Route("/behind", with_work_behind),
            Route("/failing", failing_behind),
            Mount("/sub/{team}", routes=[Route("/users/{name}", user)]),
            WebSocketRoute("/talk", talk),
        ]
    )
    app.add_middleware(TrackASGI, **options)
    return app


def test_requests_are_series_of_one_run(state: Any) -> None:
    with serving_asgi(application(experiment="api", tags={"service": "users"})) as client:
        assert client.get("/users/ann").text == "ann"
        assert client.get("/users/bob?token=secret").text == "bob"
        assert client.get("/users/bob", "POST").status == 405
        assert client.get("/users/bob/7").text == "bob"
        assert client.get("/nowhere").status == 404
        assert client.get("/sub/red/users/eve").text == "eve"
        assert client.get("/sub/red/nowhere").status == 404
        assert client.get("/threaded").status == 200
    run = state()
    assert (run.name, run.status, run.experiment_id) == ("requests", "completed", "api")
    assert run.metrics[SECONDS].count == run.metrics["http/status"].count == 8
    assert run.metrics[f"{SECONDS} GET /users/{{name}}"].count == 2
    assert run.metrics["http/status"].max == 405
    assert (run.metrics["model/score"].count, run.metrics["in/thread"].count) == (4, 1)
    assert requests(run) == [
        ("GET", "/users/ann", "/users/{name}", 200, None),
        ("GET", "/users/bob", "/users/{name}", 200, None),
        ("POST", "/users/bob", "/users/{name}", 405, None),
        ("GET", "/users/bob/7", "/users/{name}/{number:int}", 200, None),
        ("GET", "/nowhere", "(no route)", 404, None),
        ("GET", "/sub/red/users/eve", "/sub/{team}/users/{name}", 200, None),
        ("GET", "/sub/red/nowhere", "/sub/{team}", 404, None),
        ("GET", "/threaded", "/threaded", 200, None),
    ]
    assert "secret" not in str(run.logs)


def test_failures_are_recorded_and_go_on(state: Any) -> None:
    with serving_asgi(application()) as client:
        assert client.get("/broken").status == 500
        with pytest.raises(http.client.IncompleteRead):
            client.get("/half")
        assert client.get("/failing").text == "soon"
        assert client.get("/users/ann").status == 200
    run = state()
    assert run.status == "completed"  # the service has gone on
    assert [(path, status, problem) for _, path, _, status, problem in requests(run)] == [
        ("/broken", 500, "ValueError: no model"),
        ("/half", 200, "OSError: disk"),
        ("/failing", 200, None),
        ("/users/ann", 200, None),
    ]
    assert [record.entry.level for record in run.logs] == ["error", "error", "info", "error", "info"]
    assert run.logs[3].entry.message == "GET /failing: after the response: KeyError: 'behind'"


def test_a_response_takes_until_its_last_byte(state: Any) -> None:
    with serving_asgi(application()) as client:
        assert client.get("/stream").text == "partpartpart"
        assert client.get("/behind").text == "soon"
    metrics = state().metrics
    assert metrics[f"{SECONDS} GET /stream"].last.value >= 0.06
    assert metrics[f"{SECONDS} GET /behind"].last.value < 0.3  # what the service does afterwards is no waiting


@pytest.mark.parametrize(("path", "error"), [("/broken", ValueError), ("/half", OSError), ("/failing", KeyError)])
def test_what_a_service_raises_goes_on(state: Any, path: str, error: type[Exception]) -> None:
    server = Server(application(), path)
    with pytest.raises(error):
        server.serve()
    server.scope["xtrack.run"].end()


def test_a_web_socket_passes_by(state: Any) -> None:
    server = Server(application(), "/talk")
    server.scope |= {"type": "websocket", "subprotocols": []}
    server.incoming = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}]
    server.serve()
    assert [message["type"] for message in server.sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert server.sent[1]["text"] == "hello"
    assert requests(state()) == []
    server.scope["xtrack.run"].end()


def test_which_requests_are_tracked(state: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def wanted(scope: Any) -> bool:
        if "bob" in scope["path"]:
            raise KeyError("bob")
        return scope["path"].startswith("/users/")

    with serving_asgi(application(should_track=wanted, log_requests=False)) as client:
        for path in ("/users/ann", "/users/bob", "/users/bob/2", "/nowhere"):
            client.get(path)
    run = state()
    assert run.metrics[SECONDS].count == 1
    assert run.logs == ()
    assert capsys.readouterr().err.count("should_track failed: KeyError: 'bob'") == 1


def test_routes_of_your_own_and_no_more_than_so_many(state: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def route(scope: Any) -> str | None:
        if scope["path"] == "/users/bad":
            raise ValueError("no route")
        return None if scope["path"] == "/threaded" else scope["path"]

    with serving_asgi(application(route=route, max_routes=3)) as client:
        for path in ("/users/a", "/users/b", "/users/bad", "/users/c", "/users/d", "/users/a"):
            client.get(path)
        client.get("/users/a", "BREW")
    keys = {key.removeprefix(SECONDS) for key in state().metrics if key.startswith(SECONDS)}
    assert keys == {"", " GET /users/a", " GET /users/b", " GET /users/{name}", " GET (other)", " OTHER /users/a"}
    assert capsys.readouterr().err.count("route failed: ValueError: no route") == 1


def test_a_route_that_can_not_be_told(state: Any, capsys: pytest.CaptureFixture[str]) -> None:
    class Part:
        def __str__(self) -> str:
            raise ValueError("no text")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope |= {"endpoint": app, "path_params": {"part": Part()}}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    server = Server(TrackASGI(app), "/parts/1")
    server.serve()
    assert server.sent[-1]["body"] == b"hello"
    server.scope["xtrack.run"].end()
    assert state().metrics[f"{SECONDS} GET (no route)"].count == 1
    assert "ValueError: no text" in capsys.readouterr().err


def test_a_run_of_your_own_is_not_ended(state: Any) -> None:
    with xtrack.start_run("service") as run:
        with serving_asgi(application(run=run)) as client:
            client.get("/users/ann")
        assert not run.ended
        run.log("still here")
    assert state().metrics[SECONDS].count == 1


def test_a_run_that_has_ended_costs_no_request(state: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = xtrack.start_run("service")
    with serving_asgi(application(run=run)) as client:
        before = run.events_logged
        client.get("/threaded")
        while run.events_logged < before + 3:  # the service's own; the client has its answer before the two of ours
            time.sleep(0.005)
        run.end()
        with xtrack.start_run("other", transport="null"):
            assert client.get("/threaded").status == 200
    assert state().metrics[SECONDS].count == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"should_track": "/api"}, "should_track"),
        ({"route": 5}, "route"),
        ({"run": "r"}, "run"),
        ({"max_routes": -1}, "max_routes"),
        ({"should_trak": print}, "options: should_trak"),
        ({"experiment": 5}, "experiment"),
    ],
)
def test_wrong_arguments(options: Any, named: str) -> None:
    for middleware in (TrackASGI, TrackWSGI):
        with pytest.raises(ConfigurationError) as caught:
            middleware(lambda *_: None, **options)  # type: ignore[arg-type, return-value]
        assert caught.value.setting == named


def test_a_service_that_can_not_be_tracked_is_served(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XTRACK_TRANSPORT", "nonsense")
    with serving_asgi(application()) as client:
        assert client.get("/users/ann").text == "ann"
        assert client.get("/nowhere").status == 404
    assert capsys.readouterr().err.count("requests are not tracked") == 1


class Server:
    """An ASGI server's side, by hand: what a client does at which moment is up to the test."""

    def __init__(self, app: Any, path: str = "/") -> None:
        self.app = app
        self.scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
        self.sent: list[Any] = []
        self.incoming: list[Any] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive(self) -> Any:
        return self.incoming.pop(0) if self.incoming else {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def serve(self) -> None:
        asyncio.run(self.app(self.scope, self.receive, self.send))


def test_a_client_that_goes_away(state: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    tracked = TrackASGI(app)
    Server(tracked, "/events").serve()
    tracked.close()
    run = state()
    assert requests(run) == [("GET", "/events", "/events", 200, "the client went away")]
    assert run.status == "completed"


def test_a_cancelled_request(state: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        server = Server(tracked)
        task = asyncio.create_task(tracked(server.scope, server.receive, server.send))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    tracked = TrackASGI(app)
    asyncio.run(main())
    tracked.close()
    assert requests(state()) == [("GET", "/", "/", 500, "CancelledError")]


def test_trailers_come_after_the_last_byte(state: Any) -> None:
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"a"})
        seen.append(scope["xtrack.run"].events_logged)
        await send({"type": "http.response.trailers", "headers": []})
        seen.append(scope["xtrack.run"].events_logged)

    tracked = TrackASGI(app)
    Server(tracked).serve()
    tracked.close()
    assert seen[1] == seen[0] + 2
    assert requests(state()) == [("GET", "/", "/", 200, None)]


@pytest.mark.parametrize(
    ("messages", "raises", "status"),
    [
        (["lifespan.startup.complete", "lifespan.shutdown.complete"], None, "completed"),
        (["lifespan.startup.failed"], None, "failed"),
        (["lifespan.startup.complete", "lifespan.shutdown.failed"], None, "failed"),
        (["lifespan.startup.complete"], ValueError("in the end"), "failed"),
        ([], ValueError("no lifespan here"), "running"),
    ],
)
def test_lifespans(state: Any, messages: list[str], raises: Exception | None, status: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for kind in messages:
            await receive()
            await send({"type": kind} | ({"message": "no database"} if kind.endswith("failed") else {}))
        if raises:
            raise raises

    tracked = TrackASGI(app)
    server = Server(tracked)
    server.scope = {"type": "lifespan"}
    with contextlib.suppress(ValueError):
        server.serve()
    run = state()
    assert run.status == status
    if any(kind.endswith("failed") for kind in messages):
        assert run.error.message == "no database"
    tracked.close()
    tracked.close()


def test_requests_at_once_have_numbers_of_their_own(state: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        xtrack.log_metric("inside", 1.0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a"})

    async def main() -> None:
        servers = [Server(tracked) for _ in range(50)]
        await asyncio.gather(*(tracked(server.scope, server.receive, server.send) for server in servers))

    tracked = TrackASGI(app)
    asyncio.run(main())
    tracked.close()
    run = state()
    assert run.metrics["inside"].count == 50
    with LocalStore() as store:
        assert [point.step for point in store.get_metrics(run.run_id, SECONDS)] == list(range(1, 51))


SERVICE = """
import asyncio
import xtrack_protocol as xtrack
from xtrack_protocol.integrations.web import TrackASGI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

async def hello(request):
    return PlainTextResponse("hello")

async def endless(request):
    async def parts():
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.01)
    return StreamingResponse(parts())

app = Starlette(routes=[Route("/hello/{name}", hello), Route("/endless", endless)])
app.add_middleware(TrackASGI, name="service")
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def reached(port: int, path: str) -> int:
    """Return the status of a request, as soon as there is a server."""
    deadline = time.monotonic() + 30
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", path)
            with contextlib.closing(connection), connection.getresponse() as response:
                response.read()
                return response.status
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_real_asgi_server(tmp_path: Path, state: Any) -> None:
    """It ends by SIGTERM, as services do."""
    (tmp_path / "service.py").write_text(SERVICE)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "service:app", "--port", str(port), "--log-level", "error"]
    with subprocess.Popen(command, cwd=tmp_path, env=os.environ.copy(), stderr=subprocess.PIPE) as server:
        try:
            assert [reached(port, f"/hello/{number}") for number in range(3)] == [200] * 3
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
                client.recv(100)
            deadline = time.monotonic() + 30
            while len(requests(state())) < 4:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            server.send_signal(signal.SIGTERM)
            _, err = server.communicate(timeout=30)
    assert b"Traceback" not in err, err.decode()
    run = state()
    assert (run.name, run.status) == ("service", "completed")
    assert requests(run)[:3] == [("GET", f"/hello/{number}", "/hello/{name}", 200, None) for number in range(3)]
    assert requests(run)[3][3:] == (200, "the client went away")


# ------------------------------------------------------------------------------------------ WSGI


def answer(environ: dict[str, Any], start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    xtrack.log_metric("inside", 1.0)
    headers = [("Content-Type", "text/plain")]
    if path == "/broken":
        raise ValueError("no model")
    if path == "/late":
        return late(start_response, headers)
    if path == "/half":
        start_response("200 OK", headers)
        return half()
    start_response("404 Not Found" if path == "/nowhere" else "200 OK", headers)
    return [b"hello"]


def late(start_response: Any, headers: Any) -> Iterator[bytes]:
    """Begins with its first block."""
    start_response("201 Created", headers)
    xtrack.log_metric("in/blocks", 1.0)
    yield b"a"
    yield b"b"


def half() -> Iterator[bytes]:
    yield b"a"
    raise OSError("disk")


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_: Any) -> None: ...


class QuietServer(wsgiref.simple_server.WSGIServer):
    def handle_error(self, *_: Any) -> None: ...


@contextlib.contextmanager
def serving(app: Any) -> Iterator[int]:
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, app, server_class=QuietServer, handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(port: int, path: str, method: str = "GET") -> tuple[int, bytes, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read(), response.getheader("Content-Length")


def test_a_real_wsgi_server(state: Any) -> None:
    app = TrackWSGI(wsgiref.validate.validator(answer), name="service", experiment="api")
    with serving(wsgiref.validate.validator(app)) as port:
        assert ask(port, "/")[:2] == (200, b"hello")
        assert ask(port, "/late")[:2] == (201, b"ab")
        assert ask(port, "/nowhere")[0] == 404
    app.close()
    run = state()
    assert (run.name, run.status, run.experiment_id) == ("service", "completed", "api")
    assert requests(run) == [
        ("GET", "/", "/", 200, None),
        ("GET", "/late", "/late", 201, None),
        ("GET", "/nowhere", "(no route)", 404, None),
    ]
    assert (run.metrics["inside"].count, run.metrics["in/blocks"].count) == (3, 1)
    assert xtrack.current_run() is None


def test_a_wsgi_response_is_as_it_would_be(state: Any, capsys: pytest.CaptureFixture[str]) -> None:
    app = TrackWSGI(answer)
    with serving(app) as port:
        assert ask(port, "/") == (200, b"hello", "5")  # the server finds the length of a single block
        assert ask(port, "/broken")[0] == 500
        with contextlib.suppress(http.client.IncompleteRead):
            ask(port, "/half")
        ask(port, "/", "HEAD")
    app.close()
    capsys.readouterr()  # the server's traceback
    assert [(method, path, status, problem) for method, path, _, status, problem in requests(state())] == [
        ("GET", "/", 200, None),
        ("GET", "/broken", 500, "ValueError: no model"),
        ("GET", "/half", 200, "OSError: disk"),
        ("HEAD", "/", 200, None),
    ]


def test_blocks_are_closed(state: Any) -> None:
    closed = []

    class Blocks:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a", b"b"])

        def close(self) -> None:
            closed.append(xtrack.current_run())

    def app(environ: Any, start_response: Any) -> Blocks:
        start_response("200 OK", [])
        return Blocks()

    tracked = TrackWSGI(app, route=lambda environ: "/all")
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/ü".encode().decode("latin-1")}
    response: Any = tracked(environ, lambda *_: None)
    with pytest.raises(TypeError):
        len(response)
    assert next(response) == b"a"
    response.close()  # the client has gone
    response.close()
    assert closed == [environ["xtrack.run"]] * 2
    tracked.close()
    assert requests(state()) == [("GET", "/ü", "/all", 200, "the response was closed before its end")]


def test_wsgi_requests_of_many_threads_start_one_run(state: Any) -> None:
    tracked = TrackWSGI(answer)
    gate = threading.Barrier(8)

    def request() -> None:
        gate.wait()
        for _ in range(5):
            b"".join(tracked({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None))

    threads = [threading.Thread(target=request) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracked.close()
    run = state()
    with LocalStore() as store:
        assert [point.step for point in store.get_metrics(run.run_id, SECONDS)] == list(range(1, 41))


@pytest.mark.frameworks
def test_flasks_routes(state: Any) -> None:
    flask = pytest.importorskip("flask")
    app = flask.Flask("service")
    app.add_url_rule("/users/<name>", view_func=lambda name: name, endpoint="users")
    app.wsgi_app = TrackWSGI(app.wsgi_app)
    client = app.test_client()
    assert client.get("/users/ann", buffered=True).data == b"ann"
    assert client.get("/nowhere", buffered=True).status_code == 404
    app.wsgi_app.close()
    assert [route for _, _, route, _, _ in requests(state())] == ["/users/<name>", "(no route)"]


@pytest.mark.frameworks
def test_fastapis_routes(state: Any) -> None:
    fastapi = pytest.importorskip("fastapi")
    router = fastapi.APIRouter(prefix="/v1")
    router.add_api_route("/users/{name}", lambda name: name)
    app, part = fastapi.FastAPI(), fastapi.FastAPI()
    app.include_router(router)
    part.include_router(router)
    app.mount("/part", part)
    app.add_middleware(TrackASGI)
    with serving_asgi(app) as client:
        for path in ("/v1/users/ann", "/part/v1/users/ann", "/nowhere"):
            client.get(path)
    assert [route for _, _, route, _, _ in requests(state())] == [
        "/v1/users/{name}",
        "/part/v1/users/{name}",
        "(no route)",
    ]


def test_which_wsgi_requests_are_tracked() -> None:
    tracked = TrackWSGI(answer, should_track=lambda environ: False)
    with xtrack.start_run("other") as run:
        assert tracked({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None) == [b"hello"]
        assert run.events_logged == 2
    assert run.ended
    tracked.close()
