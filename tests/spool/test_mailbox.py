from __future__ import annotations

import os
import threading
import time

import pytest

from xtrack_protocol.ir import Command, CommandResult, Envelope, Pong
from xtrack_protocol.spool import safe_name, write_private
from xtrack_protocol.spool.mailbox import Inbox, post, wait_for_answers
from xtrack_protocol.wire import decode, encode


def command(command_id, kind="pause"):
    return Command(command_id, kind)


def answer(command_id, status="ok", session_id="s"):
    return encode(
        Envelope.of(CommandResult("r", command_id, status, None, None), seq=0, timestamp_us=1, session_id=session_id)
    )


def ids(payloads):
    return [decode(payload).payload.command_id for payload in payloads]


def test_post_receive_answer(tmp_path):
    folder = tmp_path / "run" / "commands"
    inbox = Inbox(folder, "s1", 0)
    assert inbox.receive() == []
    post(folder, command("c1", "stop"))
    (payload,) = inbox.receive()
    assert decode(payload).payload == command("c1", "stop")
    assert inbox.receive() == []
    assert inbox.answer(answer("c1")) is True
    (result,) = wait_for_answers(folder, "c1", expected=1, timeout=5)
    assert (result.command_id, result.status) == ("c1", "ok")
    assert list(folder.iterdir()) == []


def test_commands_come_in_the_order_of_posting_and_not_of_their_names(tmp_path):
    inbox = Inbox(tmp_path, "s", 0)
    for name in ("z", "m", "a"):
        post(tmp_path, command(name))
        time.sleep(0.001)
    assert ids(inbox.receive()) == ["z", "m", "a"]


def test_what_comes_within_the_clocks_grain_is_not_missed(tmp_path):
    inbox = Inbox(tmp_path, "s", 0)
    found = []
    for number in range(200):
        post(tmp_path, command(f"c{number}"))
        found += ids(inbox.receive())
    assert found == [f"c{number}" for number in range(200)]


@pytest.mark.parametrize("years", [-10, 10])
def test_a_file_server_whose_clock_is_wrong(tmp_path, years):
    inbox = Inbox(tmp_path, "s", 0)
    stamp = time.time_ns() + years * 31_536_000 * 10**9
    post(tmp_path, command("a"))
    os.utime(tmp_path, ns=(stamp, stamp))
    assert ids(inbox.receive()) == ["a"]
    post(tmp_path, command("b"))
    os.utime(tmp_path, ns=(stamp, stamp))  # within the same grain
    assert ids(inbox.receive()) == ["b"]


def test_nothing_new_costs_one_call(tmp_path, monkeypatch):
    post(tmp_path, command("a"))
    inbox = Inbox(tmp_path, "s", 0)
    assert inbox.receive()
    monkeypatch.setattr(inbox, "_settled", 0.0)
    monkeypatch.setattr(os, "scandir", lambda _path: pytest.fail("looked again"))
    assert inbox.receive() == []


def test_what_was_meant_for_an_earlier_session_is_not_taken(tmp_path):
    post(tmp_path, command("old"))
    inbox = Inbox(tmp_path, "s", time.time_ns() // 1000 + 1)
    time.sleep(0.01)
    post(tmp_path, command("new"))
    assert ids(inbox.receive()) == ["new"]


def test_rubbish_in_the_mailbox_harms_nobody(tmp_path):
    post(tmp_path, command("good"))
    (tmp_path / "rubbish.json").write_bytes(b"\xff{")
    (tmp_path / "empty.json").touch()
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "dangling.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "pong.json").write_bytes(encode(Envelope.of(Pong(), seq=0, timestamp_us=2**60)))
    (tmp_path / "huge.json").write_bytes(b" " * 2**21 + encode(Envelope.of(command("h"), seq=0, timestamp_us=2**60)))
    (tmp_path / ".hidden.json").write_bytes(encode(Envelope.of(command("x"), seq=0, timestamp_us=2**60)))
    assert ids(Inbox(tmp_path, "s", 0).receive()) == ["good"]


@pytest.mark.parametrize("command_id", ["../../x", "a/b", "a" * 1000, "\0", "A", "."])
def test_hostile_ids(tmp_path, command_id):
    folder = tmp_path / "in" / "commands"
    session_id = "s/../" + "s" * 900
    post(folder, command(command_id))
    inbox = Inbox(folder, session_id, 0)
    assert ids(inbox.receive()) == [command_id]
    assert inbox.answer(answer(command_id)) is True
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {folder}
    assert [result.command_id for result in wait_for_answers(folder, command_id, expected=1, timeout=1)] == [command_id]


def test_one_commands_answers_are_not_anothers(tmp_path):
    for command_id in ("a", "a.b", "ab"):
        post(tmp_path, command(command_id))
        assert Inbox(tmp_path, "s", 0).answer(answer(command_id))
    assert [result.command_id for result in wait_for_answers(tmp_path, "a", expected=9, timeout=0)] == ["a"]
    assert len(list(tmp_path.iterdir())) == 4


def test_answers_of_several_workers_and_of_too_few(tmp_path):
    post(tmp_path, command("c"))
    for session_id in ("s1", "s2"):
        assert Inbox(tmp_path, session_id, 0).answer(answer("c", "error"))
    (tmp_path / "c.s3.result").write_bytes(b"rubbish")
    begin = time.monotonic()
    assert len(wait_for_answers(tmp_path, "c", expected=3, timeout=0.1)) == 2
    assert time.monotonic() - begin >= 0.1
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_was_given_up_is_taken_away_and_not_answered(tmp_path):
    post(tmp_path, command("c"))
    inbox = Inbox(tmp_path, "s", 0)
    assert wait_for_answers(tmp_path, "c", expected=1, timeout=0) == []
    assert inbox.receive() == []
    assert inbox.answer(answer("c")) is False
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_answer(tmp_path):
    inbox = Inbox(tmp_path, "s", 0)
    assert inbox.answer(b"rubbish") is False
    assert inbox.answer(encode(Envelope.of(Pong(), seq=0, timestamp_us=0))) is False


def test_waiting_for_answers_of_a_deleted_run(tmp_path):
    assert wait_for_answers(tmp_path / "gone", "c", expected=1, timeout=0.05) == []


def test_many_at_once(tmp_path):
    stop = threading.Event()
    inboxes = [Inbox(tmp_path, f"s{number}", 0) for number in range(3)]

    def work(inbox):
        while not stop.is_set():
            for payload in inbox.receive():
                inbox.answer(answer(decode(payload).payload.command_id))
            time.sleep(0.001)

    workers = [threading.Thread(target=work, args=(inbox,)) for inbox in inboxes]
    for worker in workers:
        worker.start()
    results: dict[str, int] = {}

    def ask(name):
        post(tmp_path, command(name))
        results[name] = len(wait_for_answers(tmp_path, name, expected=3, timeout=10))

    askers = [threading.Thread(target=ask, args=(f"c{number}",)) for number in range(20)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    stop.set()
    for worker in workers:
        worker.join()
    assert results == {f"c{number}": 3 for number in range(20)}
    assert list(tmp_path.iterdir()) == []


def test_posting_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        post(tmp_path / "file" / "commands", command("c"))


def test_names_fit_a_file_system(tmp_path):
    name = f"{safe_name('c' * 500)}.{safe_name('s' * 500)}.result"
    write_private(tmp_path / name, b"x")
    assert [path.name for path in tmp_path.iterdir()] == [name]
