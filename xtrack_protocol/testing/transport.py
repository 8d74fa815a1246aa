"""What every transport promises, as tests to run on yours.

::

    from xtrack_protocol.testing import TransportContract

    class TestMyTransport(TransportContract):
        def make_transport(self):
            return MyTransport(self.directory / "events")

        def read_back(self, transport):
            return my_reader(self.directory / "events")

Tests that fork or kill need a system that can; they are skipped elsewhere.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, get_args

import pytest

from xtrack_protocol.errors import ConfigurationError, TransportClosed, TransportError
from xtrack_protocol.limits import FRAME_MAX_EMIT
from xtrack_protocol.session import StreamId
from xtrack_protocol.transport.base import Promise, StreamInfo, Transport

_PROMISES: Final[tuple[Promise, ...]] = get_args(Promise)
_AT_ONCE: Final = 1.0
"""Seconds within which a call that never blocks has returned, on a machine that is busy, too."""

_T = TypeVar("_T")
_needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")

HOSTILE_PAYLOADS: Final = {
    "one byte": b"0",
    "a frame in it": b'\x00\x00\x00\x02{}{"t":"metric"}\x00\x00\x00\x02{}',
    "a record's magic": b"\xf5XR1\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01" * 3,
    "a segment's magic": b"XTRKSEG1" + bytes(100),
    "the prefix of a frame": b"\x00\x00\x00",
    "zeros": bytes(5000),
    "line ends": b"\r\n\n\r\x1a\x04",
    "all bytes": bytes(range(256)) * 20,
    "larger than a pipe's page": b"x" * 4097,
    "larger than a pipe": b"y" * 70_000,
    "1 MiB": bytes(range(251)) * (FRAME_MAX_EMIT // 251) + bytes(FRAME_MAX_EMIT % 251),
}
"""Payloads that a transport might change, cut or take for its own."""


def payloads(count: int, label: str = "event") -> list[bytes]:
    """Return ``count`` payloads of different lengths, each with its label and number."""
    return [f'{{"{label}":{number}}}'.encode().ljust(20 + number % 300) for number in range(count)]


def send_all(transport: Transport, events: list[bytes], first_seq: int = 1) -> None:
    """Send payloads with consecutive seqs."""
    for seq, payload in enumerate(events, first_seq):
        transport.send(seq, payload)


def stream_info(session_id: str = "5e55", run_id: str = "contract", worker_id: str = "") -> StreamInfo:
    """Return what a transport is opened for."""
    return StreamInfo(stream=StreamId(run_id, worker_id, session_id))


def run_in_child(body: Callable[[], None]) -> int:
    """Run ``body`` in a forked child, which ends without any clearing up; return its pid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child does nothing that another thread could hold up
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    return pid


class TransportContract:
    """Inherit from it in a test class, and say how to make the transport and how to read what arrived."""

    directory: Path
    """A fresh folder for each test."""
    keeps_events = True
    """False for a transport that throws events away; then only what a reader would see isn't tested."""
    child_is_read_back = True
    """Whether ``read_back`` shows what a forked child has sent, too."""

    def make_transport(self) -> Transport:
        """Return a new transport, not opened."""
        raise NotImplementedError

    def read_back(self, transport: Transport) -> list[bytes]:
        """Return the payloads that a reader gets, in its order. Called once, after the transport was closed or its
        process killed; ``transport`` may be a copy that was never opened."""
        raise NotImplementedError

    def make_broken_transport(self) -> Transport | None:
        """Return a transport that can't be opened; None where there is no such thing."""
        return None

    def send_command(self, transport: Transport, payload: bytes) -> bool:  # noqa: ARG002
        """Send a control event to the open ``transport`` from its other side; return whether there is a way."""
        return False

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path

    # ------------------------------------------------------------------------------------------ what it says of itself

    def test_has_a_name_an_address_and_a_promise(self) -> None:
        transport = self.make_transport()
        assert transport.name
        assert transport.address
        assert transport.promise in _PROMISES
        transport.close()

    # ------------------------------------------------------------------------------------------ events

    def test_events_arrive_in_order_and_unchanged(self) -> None:
        sent = payloads(500)
        transport = self.make_transport()
        transport.open(stream_info())
        send_all(transport, sent)
        transport.close()
        if self.keeps_events:
            assert self.read_back(transport) == sent

    @pytest.mark.parametrize("payload", HOSTILE_PAYLOADS.values(), ids=HOSTILE_PAYLOADS)
    def test_a_payload_arrives_byte_for_byte_between_others(self, payload: bytes) -> None:
        sent = [b"before", payload, b"between", payload, b"after"]
        transport = self.make_transport()
        transport.open(stream_info())
        send_all(transport, sent)
        transport.close()
        if self.keeps_events:
            assert self.read_back(transport) == sent

    def test_a_stream_may_begin_anywhere(self) -> None:
        transport = self.make_transport()
        transport.open(StreamInfo(stream=StreamId("contract", "w", "5e55"), first_seq=2**40))
        transport.send(2**40, b"first")
        transport.send(0, b"a declared gap")
        transport.send(2**63 - 1, b"last")
        transport.close()
        if self.keeps_events:
            assert self.read_back(transport) == [b"first", b"a declared gap", b"last"]

    # ------------------------------------------------------------------------------------------ open and close

    def test_nothing_is_sent_before_open(self) -> None:
        transport = self.make_transport()
        with pytest.raises(TransportClosed):
            transport.send(1, b"early")
        transport.close()

    def test_nothing_is_sent_after_close(self) -> None:
        transport = self.make_transport()
        transport.open(stream_info())
        transport.send(1, b"in time")
        transport.close()
        with pytest.raises(TransportClosed):
            transport.send(2, b"late")
        if self.keeps_events:
            assert self.read_back(transport) == [b"in time"]

    def test_a_shortcut_does_what_send_does(self) -> None:
        """In turn with ``send``, whatever it takes or leaves, and nothing after the close."""
        sent = [*payloads(300), b"x" * 5000, b"the last"]
        lock = threading.RLock()
        transport = self.make_transport()
        transport.open(StreamInfo(stream=stream_info().stream, lock=lock))
        put = None
        with lock:
            for seq, payload in enumerate(sent, 1):
                if put is None or seq % 5 == 0 or not put(seq, payload):
                    transport.send(seq, payload)
                    put = transport.shortcut()
        transport.close()
        with lock:
            assert put is None or not put(len(sent) + 1, b"late")
        assert transport.shortcut() is None
        if self.keeps_events:
            assert self.read_back(transport) == sent

    def test_close_may_be_called_twice_and_without_open(self) -> None:
        self.make_transport().close()
        transport = self.make_transport()
        transport.open(stream_info())
        transport.close()
        transport.close()

    def test_what_can_not_be_opened_says_so(self) -> None:
        transport = self.make_broken_transport()
        if transport is None:
            pytest.skip("it can always be opened")
        with pytest.raises((TransportError, ConfigurationError)) as caught:
            transport.open(stream_info())
        assert str(caught.value)
        with pytest.raises(TransportClosed):
            transport.send(1, b"nowhere to go")
        transport.close()

    # ------------------------------------------------------------------------------------------ promises

    def test_flush_gives_no_more_than_it_can(self) -> None:
        transport = self.make_transport()
        transport.open(stream_info())
        send_all(transport, payloads(10))
        given = [promise for promise in _PROMISES if self._at_once(partial(transport.flush, promise, 0.5))]
        transport.close()
        own = _PROMISES.index(transport.promise)
        assert given[: own + 1] == list(_PROMISES[: own + 1]), "it gives at least what it promises"
        assert given == list(_PROMISES[: len(given)]), "a stronger promise holds the weaker ones"

    def test_flush_of_a_closed_transport_claims_nothing_stronger(self) -> None:
        transport = self.make_transport()
        transport.close()
        stronger = _PROMISES[_PROMISES.index(transport.promise) + 1 :]
        for promise in stronger:
            try:
                assert not self._at_once(partial(transport.flush, promise, 0.1))
            except TransportError:
                continue

    @_needs_fork
    def test_what_was_accepted_survives_kill_9(self) -> None:
        transport = self.make_transport()
        if transport.promise == "none" or not self.keeps_events:
            pytest.skip("it promises nothing")
        sent = payloads(20_000)
        reading, writing = os.pipe()

        def work() -> None:
            transport.open(stream_info())
            for seq, payload in enumerate(sent, 1):
                transport.send(seq, payload)
                os.write(writing, b".")

        pid = run_in_child(work)
        os.close(writing)
        wanted = 100 + secrets.randbelow(4900)
        returned = 0
        while returned < wanted and (told := os.read(reading, 4096)):
            returned += len(told)
        os.kill(pid, signal.SIGKILL)
        while told := os.read(reading, 65536):
            returned += len(told)
        os.close(reading)
        os.waitpid(pid, 0)
        arrived = self.read_back(transport)
        assert wanted <= returned <= len(arrived) <= returned + 1
        assert arrived == sent[: len(arrived)]

    # ------------------------------------------------------------------------------------------ the way back

    def test_receive_and_send_control_never_block_nor_raise(self) -> None:
        transport = self.make_transport()
        assert transport.receive() == []
        assert not transport.send_control(b'{"t":"pong"}')
        transport.open(stream_info())
        for _ in range(3):
            assert self._at_once(transport.receive) == []
            assert self._at_once(lambda: transport.send_control(b'{"v":1}')) in {True, False}
        transport.close()
        assert transport.receive() == []
        assert not transport.send_control(b'{"t":"pong"}')

    def test_commands_come_back_once_and_in_order(self) -> None:
        transport = self.make_transport()
        transport.open(stream_info())
        try:
            commands = [
                f'{{"v":1,"t":"command","m":{{"seq":0,"ts":{time.time_ns() // 1000 + number}}},'
                f'"p":{{"cmd_id":"{9 - number}","type":"pause"}}}}'.encode()
                for number in range(5)
            ]
            if not all(self.send_command(transport, command) for command in commands):
                pytest.skip("there is no way back")
            received: list[bytes] = []
            deadline = time.monotonic() + 5
            while len(received) < len(commands) and time.monotonic() < deadline:
                received += self._at_once(transport.receive)
                time.sleep(0.01)
            assert received == commands
            assert transport.receive() == []
        finally:
            transport.close()

    # ------------------------------------------------------------------------------------------ forks

    @_needs_fork
    def test_a_forked_child_sends_its_own_and_leaves_the_parent_alone(self) -> None:
        before, after, childs = payloads(50, "before"), payloads(50, "after"), payloads(100, "child")
        transport = self.make_transport()
        transport.open(stream_info())
        send_all(transport, before)

        def work() -> None:
            own = transport.for_child()
            own.open(stream_info("c411d"))
            send_all(own, childs)
            own.close()

        pid = run_in_child(work)
        send_all(transport, after, first_seq=51)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        transport.send(101, b"last")
        transport.close()
        if not self.keeps_events:
            return
        arrived = self.read_back(transport)
        of_child = [payload for payload in arrived if payload in set(childs)]
        assert [payload for payload in arrived if payload not in set(childs)] == [*before, *after, b"last"]
        assert of_child == (childs if self.child_is_read_back else [])

    def _at_once(self, call: Callable[[], _T]) -> _T:
        """Return what ``call`` returns; fail where it doesn't within a second."""
        results: list[_T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(call())
            except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(_AT_ONCE)
        assert not thread.is_alive(), "the call blocks"
        if errors:
            raise errors[0]
        return results[0]
