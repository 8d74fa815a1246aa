from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from xtrack_protocol.errors import ConfigurationError, TransportClosed, TransportError
from xtrack_protocol.session import StreamId
from xtrack_protocol.transport import StdioTransport, StreamInfo
from xtrack_protocol.wire import frame_payload

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors are handed down on POSIX systems")

INFO = StreamInfo(stream=StreamId("r", "", "s"))

PRELUDE = """
import os, sys, time
from xtrack_protocol.errors import XTrackError
from xtrack_protocol.session import StreamId
from xtrack_protocol.settings import load_settings
from xtrack_protocol.transport import StreamInfo, open_transport
transport = open_transport("stdio", load_settings())
def go():
    try:
        transport.open(StreamInfo(stream=StreamId("r", "", "s")))
        transport.send(1, b"hello")
        transport.close()
    except XTrackError as error:
        print("refused:", error, file=sys.stderr)
"""


def split(data):
    found, position = [], 0
    while position < len(data):
        end = position + 4 + int.from_bytes(data[position : position + 4], "big")
        assert end <= len(data), f"a frame of {end - position} bytes at {position}, and {len(data)} bytes in all"
        found.append(data[position + 4 : end])
        position = end
    return found


def read_all(fd):
    data = b""
    while chunk := os.read(fd, 65536):
        data += chunk
    os.close(fd)
    return data


BOOTSTRAP = """
import os, sys
three, *command = sys.argv[1:]
if three == "closed":
    if os.path.exists("/dev/fd/3"):
        os.close(3)
else:
    fd = int(three) if three.isdigit() else os.open(three, os.O_WRONLY | os.O_CREAT)
    if fd != 3:
        os.dup2(fd, 3)
        os.close(fd)
    os.set_inheritable(3, True)
os.execv(command[0], command)
"""


def run(script, *, three="closed", pass_fds=(), environ=None, **options):
    """Run a worker in whose process descriptor 3 is what ``three`` says: a descriptor of ours, a path, or closed."""
    return subprocess.run(
        [sys.executable, "-c", BOOTSTRAP, str(three), sys.executable, "-c", PRELUDE + script],
        pass_fds=pass_fds,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        timeout=30,
        **options,
    )


# ---------------------------------------------------------------------------------------------- which descriptor


def test_a_pipe_that_was_handed_down_as_3_is_used():
    reading, writing = os.pipe()
    done = run("go()", three=writing, pass_fds=[writing])
    os.close(writing)
    assert split(read_all(reading)) == [b"hello"], done.stderr
    assert done.stdout == b""


def test_a_socket_that_was_handed_down_as_3_is_used():
    ours, theirs = socket.socketpair()
    with ours:
        done = run("go()", three=theirs.fileno(), pass_fds=[theirs.fileno()])
        theirs.close()
        assert split(ours.recv(1000)) == [b"hello"], done.stderr


def test_standard_output_is_never_used_unasked(tmp_path):
    done = run("go()", cwd=tmp_path)
    assert done.stdout == b""
    assert b"no descriptor was handed down" in done.stderr
    assert b"XTRACK_FD" in done.stderr  # the cure


def test_standard_output_is_used_when_asked():
    done = run("go()", environ={"XTRACK_FD": "1"})
    assert split(done.stdout) == [b"hello"], done.stderr


def test_a_file_that_stands_at_3_is_not_touched(tmp_path):
    target = tmp_path / "target"
    done = run("go()", three=str(target))
    assert b"no descriptor was handed down" in done.stderr
    assert target.read_bytes() == b""


def test_what_the_script_itself_opens_as_3_is_not_touched(tmp_path):
    script = """
reading, writing = os.pipe()
assert reading == 3, reading
os.dup2(writing, 3)
go()
"""
    done = run(script)
    assert b"no descriptor was handed down" in done.stderr, done.stderr


def test_xtrack_fd_names_another_and_a_file_will_do(tmp_path):
    reading, writing = os.pipe()
    environ = {"XTRACK_FD": str(writing)}
    done = run("go()", pass_fds=[writing], environ=environ)
    os.close(writing)
    assert split(read_all(reading)) == [b"hello"], done.stderr
    with (tmp_path / "target").open("wb") as file:
        done = run("go()", pass_fds=[file.fileno()], environ={"XTRACK_FD": str(file.fileno())})
    assert split((tmp_path / "target").read_bytes()) == [b"hello"], done.stderr


@pytest.mark.parametrize("fd", ["777", "2147483646"])
def test_xtrack_fd_that_is_not_open(fd):
    done = run("go()", environ={"XTRACK_FD": fd})
    assert b"XTRACK_FD=" + fd.encode() in done.stderr
    assert b"is not open" in done.stderr


def test_a_descriptor_for_reading_only_is_refused_at_once():
    reading, writing = os.pipe()
    try:
        with pytest.raises(ConfigurationError, match="reading only"):
            StdioTransport(reading).open(INFO)
    finally:
        os.close(reading)
        os.close(writing)


def test_the_script_may_close_its_descriptor_and_open_a_file_there(tmp_path):
    reading, writing = os.pipe()
    script = """
transport.open(StreamInfo(stream=StreamId("r", "", "s")))
transport.send(1, b"before")
os.close(3)
with open(os.environ["TARGET"], "wb", buffering=0) as file:
    assert file.fileno() == 3
    transport.send(2, b"after")
    transport.close()
"""
    done = run(script, three=writing, pass_fds=[writing], environ={"TARGET": str(tmp_path / "target")})
    os.close(writing)
    assert split(read_all(reading)) == [b"before", b"after"], done.stderr
    assert (tmp_path / "target").read_bytes() == b""


def test_the_descriptor_is_neither_closed_nor_changed():
    reading, writing = os.pipe()
    transport = StdioTransport(writing)
    transport.open(INFO)
    assert os.get_blocking(writing)  # it may be shared with a terminal, or with a shell's other children
    transport.close()
    os.write(writing, b"still open")
    assert os.read(reading, 100) == b"still open"
    os.close(reading)
    os.close(writing)


def test_a_default_timeout_of_sockets_changes_nothing():
    ours, theirs = socket.socketpair()
    socket.setdefaulttimeout(0.5)
    try:
        transport = StdioTransport(theirs.fileno())
        transport.open(INFO)
        assert transport.receive() == []
        transport.send(1, b"x")
        transport.close()
    finally:
        socket.setdefaulttimeout(None)
        ours.close()
        theirs.close()


# ---------------------------------------------------------------------------------------------- readers


@pytest.fixture(params=["pipe", "socket"])
def channel(request):
    """The reading and the writing descriptor."""
    if request.param == "pipe":
        ends = os.pipe()
    else:
        left, right = socket.socketpair()
        ends = (left.detach(), right.detach())
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):  # the test has closed it
            os.close(fd)


def fill(transport):
    """Send until the reader's buffer is full; return what was taken."""
    taken = 0
    while True:
        try:
            transport.send(taken + 1, b"x" * 100)
        except TransportError:
            return taken
        taken += 1


def test_a_reader_that_takes_nothing_is_waited_for_once(channel):
    reading, writing = channel
    transport = StdioTransport(writing, timeout=0.2)
    transport.open(INFO)
    begin = time.monotonic()
    taken = fill(transport)
    assert taken > 10
    assert 0.15 < time.monotonic() - begin < 5
    begin = time.monotonic()
    for _ in range(50):
        with pytest.raises(TransportError, match="has not taken an event"):
            transport.send(1, b"x" * 100)
    assert time.monotonic() - begin < 1  # and not 50 times 0.2 s
    data = b""
    while len(data) < taken * 104:
        data += os.read(reading, 65536)
    transport.send(1, b"again")
    transport.close()
    os.close(writing)
    frames = split(data + read_all(reading))
    assert frames == [b"x" * 100] * taken + [b"again"]


def test_a_reader_that_stops_in_the_middle_of_an_event_ends_the_stream(channel):
    _, writing = channel
    transport = StdioTransport(writing, timeout=0.2)
    transport.open(INFO)
    with pytest.raises(TransportClosed, match="has not taken an event"):
        transport.send(1, bytes(1024 * 1024))
    with pytest.raises(TransportClosed):
        transport.send(2, b"small")
    assert transport.send_control(b"{}") is False
    transport.close()


def test_a_slow_reader_gets_everything(channel):
    reading, writing = channel
    transport = StdioTransport(writing, timeout=20)
    transport.open(INFO)
    data = bytearray()

    def read_slowly():
        while chunk := os.read(reading, 10_000):
            data.extend(chunk)
            time.sleep(0.001)

    thread = threading.Thread(target=read_slowly)
    thread.start()
    sent = [bytes([number]) * 300_000 for number in range(5)]
    for seq, payload in enumerate(sent, 1):
        transport.send(seq, payload)
    transport.close()
    os.close(writing)
    thread.join()
    assert split(bytes(data)) == sent


def test_a_reader_that_is_gone(channel):
    reading, writing = channel
    transport = StdioTransport(writing)
    transport.open(INFO)
    os.close(reading)
    with pytest.raises(TransportClosed, match="is gone"):
        transport.send(1, b"x")
    with pytest.raises(TransportClosed, match="is gone"):
        transport.send(2, b"x")
    assert transport.send_control(b"{}") is False
    assert transport.receive() == []
    transport.close()


def test_a_socket_whose_reader_is_gone_does_not_kill_a_script_that_has_set_sigpipe_back():
    script = """
import signal
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
transport.open(StreamInfo(stream=StreamId("r", "", "s")))
sys.stdin.read()
for seq in range(3):
    try:
        transport.send(1, b"x")
    except XTrackError:
        pass
print("alive")
"""
    ours, theirs = socket.socketpair()
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script],
        env={**os.environ, "XTRACK_FD": str(theirs.fileno())},
        pass_fds=[theirs.fileno()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        theirs.close()
        ours.close()
        assert process.communicate("", timeout=20)[0] == "alive\n"


def test_sizes_that_no_receiver_takes(channel):
    _, writing = channel
    transport = StdioTransport(writing)
    transport.open(INFO)
    for wrong in (b"", bytes(1024 * 1024 + 1)):
        with pytest.raises(TransportError, match="no frame can hold"):
            transport.send(1, wrong)
        assert transport.send_control(wrong) is False
    transport.close()


def test_descriptors_beyond_what_select_can_hold():
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip("too few descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    try:
        reading, writing = os.pipe()
        high = 1900
        os.dup2(writing, high)
        filler = [os.dup(writing) for _ in range(1100)]  # so that the transport's own duplicate is beyond, too
        transport = StdioTransport(high, timeout=0.1)
        transport.open(INFO)
        assert fill(transport) > 10
        assert transport.receive() == []
        transport.close()
        for fd in (*filler, high, reading, writing):
            os.close(fd)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---------------------------------------------------------------------------------------------- the way back


def test_answers_wait_for_a_peer_that_takes_nothing_and_go_first_when_it_does(channel):
    reading, writing = channel
    transport = StdioTransport(writing, timeout=0.05)
    transport.open(INFO)
    taken = fill(transport)
    begin = time.monotonic()
    answers = [b"answer %d" % number for number in range(10)]
    assert all(transport.send_control(answer) for answer in answers)
    assert time.monotonic() - begin < 0.5
    refused = sum(not transport.send_control(b"one more") for _ in range(1000))
    assert refused > 900  # what waits is bounded
    data = b""
    while len(data) < taken * 104:
        data += os.read(reading, 65536)
    transport.receive()  # looks for commands, and moves what waits
    transport.send(1, b"event")
    transport.close()
    os.close(writing)
    frames = split(data + read_all(reading))[taken:]
    assert frames[:10] == answers
    assert frames[-1] == b"event"


def test_a_long_answer_goes_with_the_next_event_or_at_the_end(channel):
    reading, writing = channel
    transport = StdioTransport(writing)
    transport.open(INFO)
    assert transport.send_control(b"a" * 20_000)
    transport.send(1, b"event")
    assert transport.send_control(b"b" * 20_000)
    transport.close()
    os.close(writing)
    assert split(read_all(reading)) == [b"a" * 20_000, b"event", b"b" * 20_000]


def test_answers_from_another_thread_never_mingle_with_events(channel):
    reading, writing = channel
    transport = StdioTransport(writing)
    transport.open(INFO)
    data = bytearray()

    def read():
        while chunk := os.read(reading, 5000):
            data.extend(chunk)

    taken = []

    def answer():
        for number in range(500):
            if transport.send_control(b"c%d" % number):
                taken.append(b"c%d" % number)
            transport.receive()

    reader, answerer = threading.Thread(target=read), threading.Thread(target=answer)
    reader.start()
    answerer.start()
    events = [bytes([65 + number % 26]) * (30_000 if number % 3 else 10) for number in range(200)]
    for seq, event in enumerate(events, 1):
        transport.send(seq, event)
    answerer.join()
    transport.close()
    os.close(writing)
    reader.join()
    frames = split(bytes(data))
    assert [frame for frame in frames if frame[:1] != b"c"] == events
    assert [frame for frame in frames if frame[:1] == b"c"] == taken


def test_commands_come_on_standard_input_where_the_descriptor_is_a_pipe():
    script = """
transport.open(StreamInfo(stream=StreamId("r", "", "s")))
deadline = time.monotonic() + 10
found = []
while len(found) < 2 and time.monotonic() < deadline:
    found += transport.receive()
transport.send(1, b"|".join(found))
assert transport.receive() == []
"""
    commands = [
        b'{"v":1,"t":"command","m":{"seq":0,"ts":0},"p":{"cmd_id":"%d","type":"stop"}}' % number for number in (1, 2)
    ]
    reading, writing = os.pipe()
    done = run(script, three=writing, pass_fds=[writing], input=b"".join(map(frame_payload, commands)))
    os.close(writing)
    assert split(read_all(reading)) == [b"|".join(commands)], done.stderr


def test_a_peer_that_speaks_something_else_is_not_listened_to():
    ours, theirs = socket.socketpair()
    transport = StdioTransport(theirs.fileno())
    transport.open(INFO)
    ours.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert transport.receive() == []
    ours.sendall(frame_payload(b'{"v":1,"t":"pong","m":{"seq":0,"ts":0},"p":{}}'))
    assert transport.receive() == []
    transport.send(1, b"events still go out")
    transport.close()
    theirs.close()
    ours.close()


def test_a_peer_that_floods_us_does_not_hold_us_up():
    ours, theirs = socket.socketpair()
    transport = StdioTransport(theirs.fileno())
    transport.open(INFO)
    frame = frame_payload(b'{"v":1,"t":"pong","m":{"seq":0,"ts":0},"p":{}}')
    stop = threading.Event()

    def flood():
        ours.settimeout(0.1)
        while not stop.is_set():
            try:
                ours.sendall(frame * 1000)
            except OSError:
                return

    thread = threading.Thread(target=flood)
    thread.start()
    time.sleep(0.05)
    begin = time.monotonic()
    for _ in range(3):
        transport.receive()
    assert time.monotonic() - begin < 5
    stop.set()
    thread.join()
    transport.close()
    ours.close()
    theirs.close()


# ---------------------------------------------------------------------------------------------- several writers

WRITER = """
import random
info = StreamInfo(stream=StreamId("r", "", "s"))
transport.open(info)
def write(label, own):
    rng = random.Random(label)
    for number in range(40):
        size = rng.choice([5, 3000, 5000, 70_000, 200_000])
        own.send(number + 1, (b"%c%03d" % (label, number)) + bytes([label]) * size)
        if number % 5 == 0:
            own.send_control(b"%c" % label * 3)
children = []
for label in b"abc":
    pid = os.fork()
    if pid == 0:
        own = transport.for_child()
        own.open(info)
        write(label, own)
        own.close()
        os._exit(0)
    children.append(pid)
write(ord("p"), transport)
transport.close()
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_frames_of_parent_and_children_and_strangers_never_mingle(kind):
    if kind == "pipe":
        reading, writing = os.pipe()
    else:
        left, right = socket.socketpair()
        reading, writing = left.detach(), right.detach()
    command = [sys.executable, "-W", "ignore", "-c", PRELUDE + WRITER]
    environ = {**os.environ, "XTRACK_FD": str(writing)}
    workers = [
        subprocess.Popen(command, env=environ, pass_fds=[writing], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        for _ in range(2)  # two that don't know of each other, with three forked children each
    ]
    os.close(writing)
    frames = split(read_all(reading))
    for worker in workers:
        assert worker.communicate(timeout=20)[1] == b""
        assert worker.returncode == 0
    assert all(set(frame[4:] if len(frame) > 3 else frame) == {frame[0]} for frame in frames)
    for label in b"abcp":
        numbers = [int(frame[1:4]) for frame in frames if frame[0] == label and len(frame) > 3]
        assert sorted(numbers) == sorted([*range(40), *range(40)])
    assert len(frames) == 2 * 4 * (40 + 8)


def test_a_writer_killed_while_it_has_the_turn_does_not_stop_the_others():
    script = """
transport.open(StreamInfo(stream=StreamId("r", "", "s")))
own = transport._writer._turns
assert own.take(1)
print("has it", flush=True)
time.sleep(60)
"""
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script],
        env={**os.environ, "XTRACK_FD": str(writing)},
        pass_fds=[writing],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        transport = StdioTransport(writing, timeout=0.2)
        transport.open(INFO)
        with pytest.raises(TransportError, match="other writers"):
            transport.send(1, b"x")
        process.send_signal(signal.SIGKILL)
        process.wait()
        transport.send(1, b"x")
        transport.close()
    os.close(writing)
    assert split(read_all(reading)) == [b"x"]


def test_two_runs_in_one_process_take_turns(channel):
    reading, writing = channel
    data = bytearray()

    def read():
        while chunk := os.read(reading, 65536):
            data.extend(chunk)

    def work(label):
        transport = StdioTransport(writing)
        transport.open(INFO)
        for seq in range(1, 51):
            transport.send(seq, label * 20_000)
        transport.close()

    reader = threading.Thread(target=read)
    reader.start()
    threads = [threading.Thread(target=work, args=(label,)) for label in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(writing)
    reader.join()
    frames = split(bytes(data))
    assert sorted(frames) == [b"a" * 20_000] * 50 + [b"b" * 20_000] * 50


def test_a_temporary_folder_that_can_not_be_used_is_no_obstacle(tmp_path):
    reading, writing = os.pipe()
    (tmp_path / f"xtrack-{os.getuid()}.lock").mkdir()
    done = run("go()", three=writing, pass_fds=[writing], environ={"TMPDIR": str(tmp_path)})
    os.close(writing)
    assert split(read_all(reading)) == [b"hello"], done.stderr


def test_a_planted_link_for_the_lock_is_not_followed(tmp_path):
    (tmp_path / f"xtrack-{os.getuid()}.lock").symlink_to(tmp_path / "victim")
    reading, writing = os.pipe()
    done = run("go()", three=writing, pass_fds=[writing], environ={"TMPDIR": str(tmp_path)})
    os.close(writing)
    assert split(read_all(reading)) == [b"hello"], done.stderr
    assert not (tmp_path / "victim").exists()


def test_nothing_is_left_in_the_temporary_folder_but_one_small_file(tmp_path):
    for _ in range(3):
        reading, writing = os.pipe()
        run("go()", three=writing, pass_fds=[writing], environ={"TMPDIR": str(tmp_path)})
        os.close(writing)
        read_all(reading)
    assert [path.name for path in tmp_path.iterdir()] == [f"xtrack-{os.getuid()}.lock"]
    assert tempfile.gettempdir() != str(tmp_path)
