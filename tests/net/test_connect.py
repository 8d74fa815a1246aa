"""Connections without TLS: real sockets, and each way in which they don't come about."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from net_peers import DEADLINE, Server, free_port, hear_last_words, poll, read_exactly, read_some, serving, write_all

from xtrack_protocol.errors import CollectorRefused, ConfigurationError, TransportClosed, TransportError
from xtrack_protocol.net import connect as connecting
from xtrack_protocol.net.channel import POLLIN, POLLOUT, Channel
from xtrack_protocol.net.connect import connect
from xtrack_protocol.net.endpoint import Endpoint, parse_endpoint
from xtrack_protocol.settings import Settings

pytestmark = pytest.mark.skipif(os.name != "posix", reason="loopback addresses and Unix sockets are those of POSIX")


def to(port: int, host: str = "127.0.0.1", **settings: Any) -> Endpoint:
    return parse_endpoint("tcp", Settings(host=host, port=port, **settings))


def to_socket(path: Path) -> Endpoint:
    return parse_endpoint(f"unix:{path}", Settings())


def fails(endpoint: Endpoint, timeout: float = DEADLINE) -> TransportError:
    with pytest.raises(TransportError) as caught:
        connect(endpoint, timeout)
    assert not isinstance(caught.value, CollectorRefused)
    assert caught.value.address == endpoint.url
    return caught.value


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    folder = Path(f"/tmp/xt-{os.getpid()}-{time.monotonic_ns()}")
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


# ---------------------------------------------------------------------------------------------- that work


def exchange(channel: Channel) -> None:
    assert channel.read() is None
    assert channel.events() == POLLIN
    write_all(channel, b"hello")
    assert read_exactly(channel, 5) == b"HELLO"
    assert channel.read() is None
    assert channel.first == b"HELLO"
    assert not channel.has_pending()
    assert not os.get_blocking(channel.fileno())
    channel.close()
    channel.close()
    assert channel.fileno() == -1


def test_tcp() -> None:
    with serving() as server:
        channel = connect(to(server.port), DEADLINE)
        assert (channel.peer, channel.address) == (f"127.0.0.1:{server.port}", f"tcp://127.0.0.1:{server.port}")
        assert channel._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert channel._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not channel._socket.get_inheritable()
        exchange(channel)
        server.wait_for(lambda: server.heard == [b"hello"])


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_tcp_over_ipv6() -> None:
    with serving(host="::1") as server:
        channel = connect(to(server.port, "::1", key="k"), DEADLINE)
        assert channel.peer == f"[::1]:{server.port}"
        exchange(channel)


def test_unix(short: Path) -> None:
    with serving(path=short / "s") as server:
        channel = connect(to_socket(short / "s"), DEADLINE)
        assert (channel.peer, channel.address) == (str(short / "s"), f"unix:{short / 's'}")
        exchange(channel)
        server.wait_for(lambda: server.heard == [b"hello"])


def test_a_name_with_addresses_of_which_only_one_answers() -> None:
    """``localhost`` is ::1 too, on most machines, and this server isn't there."""
    with serving() as server:
        exchange(connect(to(server.port, "localhost", key="k"), DEADLINE))


def named(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let the name ``collector.test`` stand for addresses, at whatever port."""

    def ask(host: str, port: int, flags: int = 0) -> list[Any]:
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "a name")
        assert host == "collector.test"
        return [info for address in addresses for info in real(address, port)]

    real = connecting._ask
    monkeypatch.setattr(connecting, "_ask", ask)


@contextlib.contextmanager
def hung(host: str, port: int = 0) -> Iterator[int]:
    """Yield a port where a connection neither comes about nor fails: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, port), backlog=0))
        address = listener.getsockname()
        for _ in range(20):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(address)
            if not select.select([], [client], [], 0.3)[1]:
                break
        else:
            pytest.skip("this system's queue has no end")
        yield address[1]


def test_an_address_that_hangs_does_not_hold_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server, hung("127.0.0.2", server.port):
        named(monkeypatch, "127.0.0.2", "127.0.0.1")
        start = time.monotonic()
        channel = connect(to(server.port, "collector.test"), 60)
        assert time.monotonic() - start < 30
        assert channel.peer == f"127.0.0.1:{server.port}"
        exchange(channel)


def test_the_first_address_that_answers_is_taken_and_the_rest_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server, serving(host="127.0.0.2", port=server.port) as other:
        named(monkeypatch, "127.0.0.2", "127.0.0.1")
        before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
        channel = connect(to(server.port, "collector.test"), DEADLINE)
        assert channel.peer.startswith("127.0.0.2")
        exchange(channel)
        other.wait_for(lambda: other.heard)
        assert server.accepted == 0
        if before:
            other.wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before + 1)  # the server's own end may linger


def test_both_families_take_turns() -> None:
    def at(*hosts: str) -> list[Any]:
        return [(10 if ":" in host else 2, 1, 6, "", (host, 1)) for host in hosts]

    def order(*hosts: str) -> list[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(connecting, "_ask", lambda *_: at(*hosts))
            return [address.host for address in connecting._look_up(to(1), time.monotonic() + 1, 1)]

    assert order("::1", "::2", "::3", "1.1.1.1", "2.2.2.2") == ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]
    assert order("1.1.1.1", "::1", "1.1.1.1", "::2") == ["1.1.1.1", "::1", "::2"]
    assert order("::1") == ["::1"]


# ---------------------------------------------------------------------------------------------- that don't


def test_nobody_listens() -> None:
    error = fails(to(free_port()))
    assert error.problem == "nobody listens there (connection refused)"
    assert "`xtrack serve`" in error.cure


def test_nobody_listens_at_any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, "127.0.0.2", "127.0.0.1")
    assert fails(to(free_port(), "collector.test")).problem == "nobody listens there (connection refused)"


def test_no_such_name() -> None:
    error = fails(to(1, "no-such-host.invalid"))
    assert "'no-such-host.invalid'" in error.problem  # without a network, nobody knows whether there is one
    assert ("no host goes by the name" in error.problem) or ("can't be looked up now" in error.problem)


def test_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def ask(host: str, port: int, flags: int = 0) -> list[Any]:
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "a name")
        released.wait(DEADLINE)
        return []

    monkeypatch.setattr(connecting, "_ask", ask)
    try:
        assert "timed out: the name server gave no answer in 0.2 s" in str(fails(to(1, "collector.test"), 0.2))
    finally:
        released.set()


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        (socket.EAI_AGAIN, "can't be looked up now: no name server answers"),
        (socket.EAI_FAIL, "no host goes by the name"),
    ],
)
def test_what_a_name_server_says(monkeypatch: pytest.MonkeyPatch, number: int, problem: str) -> None:
    def ask(*_: Any) -> list[Any]:
        raise socket.gaierror(number, "said so")

    monkeypatch.setattr(connecting, "_ask", ask)
    assert problem in fails(to(1, "collector.test")).problem


def test_no_thread_for_a_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuses)
    assert "can't be looked up now: can't start new thread" in fails(to(1, "collector.test")).problem


def test_nobody_answers() -> None:
    with hung("127.0.0.1") as port:
        start = time.monotonic()
        error = fails(to(port), 0.5)
        assert time.monotonic() - start >= 0.5
    assert f"timed out: no answer from 127.0.0.1:{port} in 0.5 s" in error.problem
    assert "firewall" in error.cure


def test_addresses_that_fail_in_different_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [
        (connecting._Address(2, ("192.0.2.1", 80)), OSError(113, "No route to host")),
        (connecting._Address(2, ("192.0.2.2", 80)), OSError(111, "Connection refused")),
        (connecting._Address(10, ("2001:db8::1", 80)), OSError(110, "Connection timed out")),
        (connecting._Address(10, ("2001:db8::2", 80)), OSError(13, "Permission denied")),
    ]
    assert connecting._all_failed(to(80), failures).problem == (
        "192.0.2.1:80 can't be reached (no route to host); 192.0.2.2:80 nobody listens there (connection refused); "
        "[2001:db8::1]:80 timed out; [2001:db8::2]:80 can't connect (Permission denied)"
    )


def in_a_process(code: str, *before: str) -> str:
    script = textwrap.dedent(code)
    done = subprocess.run(
        [*before, sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode and before:
        pytest.skip(f"not here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not shutil.which("unshare"), reason="network namespaces are Linux's")
def test_no_way_to_an_address() -> None:
    said = in_a_process(
        """
        from xtrack_protocol.errors import TransportError
        from xtrack_protocol.net.connect import connect
        from xtrack_protocol.net.endpoint import parse_endpoint
        from xtrack_protocol.settings import Settings
        try:
            connect(parse_endpoint("tcp://192.0.2.1:80", Settings()), 5)
        except TransportError as error:
            print(error)
        """,
        "unshare",
        "-rn",  # a network of its own, with nothing in it
    )
    assert said.startswith("tcp://192.0.2.1:80: can't be reached (network is unreachable). Start the collector")


def test_no_descriptor_left() -> None:
    said = in_a_process(
        """
        import os, resource
        from xtrack_protocol.errors import TransportError
        from xtrack_protocol.net.connect import connect
        from xtrack_protocol.net.endpoint import parse_endpoint
        from xtrack_protocol.settings import Settings
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        for address in ("tcp://127.0.0.1:9", "unix:/tmp/none"):
            try:
                connect(parse_endpoint(address, Settings()), 5)
            except TransportError as error:
                print(error)
        """
    )
    assert said.count("Too many open files") == 2, said


def test_a_socket_that_connected_itself_is_no_connection() -> None:
    with socket.socket() as lonely:
        lonely.bind(("127.0.0.1", 0))
        lonely.connect(lonely.getsockname())  # the system allows it
        error = connecting._outcome(lonely)
    assert error is not None
    assert connecting._problem(error) == "nobody listens there (connection refused)"


# ---------------------------------------------------------------------------------------------- keys in clear


def test_a_name_that_leads_elsewhere_gets_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(connecting, "_ask", lambda *_: [(2, 1, 6, "", ("192.0.2.7", 80))])
    monkeypatch.setattr(connecting, "_begin", lambda *arguments: opened.append(arguments))
    endpoint = to(80, "localhost", key="canary")
    with pytest.raises(ConfigurationError, match=r"would go to localhost \(192\.0\.2\.7\) in clear") as caught:
        connect(endpoint, DEADLINE)
    assert "canary" not in str(caught.value)
    assert opened == []


def test_of_a_name_only_this_machines_addresses_get_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        addresses = [(2, 1, 6, "", ("192.0.2.7", server.port)), (2, 1, 6, "", ("127.0.0.1", server.port))]
        monkeypatch.setattr(connecting, "_ask", lambda *_: addresses)
        exchange(connect(to(server.port, "localhost", key="k"), DEADLINE))


def test_the_peer_itself_is_looked_at_before_a_byte_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = iter([True, False])
    with serving() as server:
        endpoint = to(server.port, key="canary")
        monkeypatch.setattr(connecting, "is_this_machine", lambda host: next(verdicts))
        with pytest.raises(ConfigurationError, match="in clear text"):
            connect(endpoint, DEADLINE)
        server.wait_for(lambda: server.accepted)
    assert server.heard == []


def test_an_endpoint_made_by_hand_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, "127.0.0.1")
    with serving() as server:
        channel = connect(Endpoint(scheme="tcp", host="collector.test", port=server.port, key="k"), DEADLINE)
        exchange(channel)  # it is this machine, whatever it is called
    monkeypatch.setattr(connecting, "_ask", lambda *_: [(2, 1, 6, "", ("192.0.2.7", 80))])
    with pytest.raises(ConfigurationError, match="in clear text"):
        connect(Endpoint(scheme="tcp", host="collector.test", port=80, key="canary"), DEADLINE)


def test_asked_for_in_so_many_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        endpoint = to(server.port, "localhost", key="k", insecure=True)
        monkeypatch.setattr(connecting, "is_this_machine", lambda host: False)
        exchange(connect(endpoint, DEADLINE))


# ---------------------------------------------------------------------------------------------- Unix sockets


def test_sockets_where_nobody_listens(short: Path) -> None:
    error = fails(to_socket(short / "none"))
    assert error.problem == "no collector listens there: there is no such socket"
    assert f"`xtrack serve --unix {short / 'none'}`" in error.cure
    (short / "file").touch()
    assert fails(to_socket(short / "file" / "s")).problem == "no collector listens there: there is no such socket"
    assert "listens there" in fails(to_socket(short / "file")).problem
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short / "left"))
        listener.listen()
    assert fails(to_socket(short / "left")).problem == "no collector listens there any more"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(short / "datagrams"))
        assert fails(to_socket(short / "datagrams")).problem == "is no socket of a collector"


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may")
def test_a_socket_of_another_user(short: Path) -> None:
    with serving(path=short / "s"):
        os.chmod(short, 0o711)
        os.chmod(short / "s", 0o600)
        if os.geteuid():
            os.chmod(short / "s", 0)
        said = in_a_process(
            f"""
            import sys
            from xtrack_protocol.errors import TransportError
            from xtrack_protocol.net.connect import connect
            from xtrack_protocol.net.endpoint import parse_endpoint
            from xtrack_protocol.settings import Settings
            import os
            if not os.geteuid():
                os.setuid(12345)
            try:
                connect(parse_endpoint("unix:{short}/s", Settings()), 5)
            except TransportError as error:
                print(error)
            """
        )
    assert "this user may not connect to the socket. Its owner can permit it" in said


def test_a_collector_that_takes_no_connection(short: Path) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(short / "s"))
        listener.listen(0)
        for _ in range(2):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(str(short / "s"))
        assert "timed out: the collector takes no connection in 0.2 s" in str(fails(to_socket(short / "s"), 0.2))


def test_a_path_that_can_not_be_a_socket() -> None:
    assert "can't connect" in fails(Endpoint(scheme="unix", path=Path("/tmp/" + "a" * 200))).problem


def test_a_system_without_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(ConfigurationError, match=r"there are no Unix sockets on this system\. Use tcp"):
        connect(to_socket(Path("/tmp/s")), 1)


# ---------------------------------------------------------------------------------------------- channels


def reset(connection: socket.socket, server: Server) -> None:
    """Break the connection off as a crash, or a firewall, does."""
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_a_peer_that_takes_nothing_for_a_while() -> None:
    go_on = threading.Event()
    sent = os.urandom(8 << 20)

    def later(connection: socket.socket, server: Server) -> None:
        go_on.wait(DEADLINE)
        got = bytearray()
        while len(got) < len(sent):
            got += connection.recv(1 << 16)
        server.heard.append(bytes(got))

    with serving(later) as server:
        channel = connect(to(server.port), DEADLINE)
        left = memoryview(sent)
        while count := channel.write(left):
            left = left[count:]
        assert channel.events() == POLLIN | POLLOUT
        left = left[channel.write(left) :]  # the kernels may yet make some room
        assert left
        go_on.set()
        write_all(channel, bytes(left))
        assert channel.events() == POLLIN
        assert read_some(channel) == b""
        channel.close()
    assert server.heard == [sent]


def test_what_was_written_arrives_although_an_answer_was_not_read() -> None:
    def answer(connection: socket.socket, server: Server) -> None:
        connection.sendall(b"an answer that nobody reads")
        go_on.wait(DEADLINE)
        while data := connection.recv(1 << 16):
            server.heard.append(data)

    go_on = threading.Event()
    sent = os.urandom(200_000)
    with serving(answer) as server:
        channel = connect(to(server.port), DEADLINE)
        poll(channel)
        write_all(channel, sent)
        channel.close()
        go_on.set()
        server.wait_for(lambda: sum(map(len, server.heard)) == len(sent) or server.errors)
    assert b"".join(server.heard) == sent


def test_a_peer_that_closes() -> None:
    with serving(lambda connection, server: connection.sendall(b"bye")) as server:
        channel = connect(to(server.port), DEADLINE)
        assert read_exactly(channel, 3) == b"bye"
        assert read_some(channel) == b""
        assert channel.read() == b""
        channel.close()


def test_a_connection_that_breaks() -> None:
    with serving(reset) as server:
        channel = connect(to(server.port), DEADLINE)
        assert channel.write(b"x") == 1
        with pytest.raises(TransportClosed, match=rf"tcp://127\.0\.0\.1:{server.port}: the connection broke: "):
            read_some(channel)
        channel.close()


def test_last_words_are_heard_although_writing_fails(short: Path) -> None:
    """A collector that shuts down says so, and closes with bytes of ours unread, which is a reset."""

    def refuse(connection: socket.socket, server: Server) -> None:
        connection.recv(1)
        connection.sendall(b"busy")

    for kind in ("tcp", "unix"):
        with serving(refuse, path=short / "s" if kind == "unix" else None) as server:
            channel = connect(to(server.port) if kind == "tcp" else to_socket(short / "s"), DEADLINE)
            hear_last_words(channel, b"busy")
            channel.close()
        if kind == "unix":
            (short / "s").unlink()


def test_nothing_comes_and_writing_fails() -> None:
    here, there = socket.socketpair()
    with here, there:
        channel = Channel(here, "peer", "unix:/s")
        here.shutdown(socket.SHUT_WR)
        assert channel.write(b"x") == 0
        with pytest.raises(TransportClosed, match="Broken pipe"):
            channel.read()


def test_a_forked_child_leaves_the_connection_to_its_parent() -> None:
    with serving() as server:
        channel = connect(to(server.port), DEADLINE)
        child = os.fork()
        if child == 0:
            channel.abandon()
            os._exit(0)
        os.waitpid(child, 0)
        exchange(channel)


def test_poll_sees_what_it_should() -> None:
    with serving(lambda connection, server: connection.sendall(b"x")) as server:
        channel = connect(to(server.port), DEADLINE)
        assert poll(channel) & POLLIN
        channel.close()
