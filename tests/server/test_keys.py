"""The file of keys: what is in it, who is let in by it, and what becomes of a file that can't be trusted."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.ir import Auth
from xtrack_protocol.server import keys as keys_module
from xtrack_protocol.server.keys import KeyInfo, Keyring, Principal, default_keys_file, id_of
from xtrack_protocol.session import Refusal
from xtrack_protocol.testing import FakeClock

posix = pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "keys.json"


@pytest.fixture
def ring(path: Path) -> Keyring:
    return Keyring(path, new=True)


def shown(ring: Keyring, key: str) -> Principal | Refusal:
    return ring.authenticate(Auth("key", key))


def is_known(ring: Keyring, key: str) -> bool:
    return isinstance(shown(ring, key), Principal)


# ------------------------------------------------------------------------------------------ keys


def test_a_key_says_who_shows_it(ring: Keyring, path: Path) -> None:
    """spec: SEC-2, SEC-3."""
    info, key = ring.add("ann", experiment="e", may_write=False)
    assert shown(ring, key) == Principal(
        owner="ann", experiment="e", may_read=True, may_write=False, key_id=info.key_id, version=1
    )
    assert shown(Keyring(path), key) == shown(ring, key)
    assert key.startswith(f"xtk_{info.key_id}_")
    assert len(key.split("_", 2)[2]) == 43


def test_keys_are_256_random_bits(ring: Keyring) -> None:
    made = [ring.add("ann") for _ in range(50)]
    assert len({key.split("_", 2)[2] for _, key in made}) == 50
    assert len({info.key_id for info, _ in made}) == 50
    assert all(is_known(ring, key) for _, key in made)


def test_the_file_holds_digests_only(ring: Keyring, path: Path) -> None:
    """spec: SEC-2.1."""
    _, key = ring.add("ann")
    text = path.read_text(encoding="utf-8")
    assert key.split("_", 2)[2] not in text
    assert json.loads(text)["keys"][0]["sha256"] == hashlib.sha256(key.encode()).hexdigest()


def test_nothing_shows_a_secret(ring: Keyring) -> None:
    """spec: CTL-5.4."""
    info, key = ring.add("ann")
    secret = key.split("_", 2)[2]
    said = [ring, info, shown(ring, key), shown(ring, key[:-1] + "?"), ring.keys(), Auth("key", key)]
    assert all(secret[:20] not in repr(one) for one in said)


@pytest.mark.parametrize("owner", ["", " ann", "a\nb", "\ud800", "x" * 201])
def test_owners_have_names(ring: Keyring, path: Path, owner: str) -> None:
    """spec: SEC-1.1."""
    with pytest.raises(ConfigurationError, match="owner="):
        ring.add(owner)
    with pytest.raises(ConfigurationError, match="experiment="):
        ring.add("ann", experiment=owner * 6)
    with pytest.raises(ConfigurationError, match="do nothing"):
        ring.add("ann", may_read=False, may_write=False)
    assert not path.exists()


def test_keys_are_listed(path: Path) -> None:
    clock = FakeClock(time_us=1_000_000)
    ring = Keyring(path, new=True, clock=clock.time_us)
    first, _ = ring.add("zoe")
    clock.advance(5)
    second, _ = ring.add("ann", experiment="e", may_read=False)
    assert ring.keys() == [
        KeyInfo(key_id=first.key_id, owner="zoe", experiment=None, may_read=True, may_write=True, created_us=1_000_000),
        KeyInfo(
            key_id=second.key_id, owner="ann", experiment="e", may_read=False, may_write=True, created_us=6_000_000
        ),
    ]


# ------------------------------------------------------------------------------------------ refusals


def hostile(key: str) -> list[str]:
    """Credentials that are none, most of them nearly the right one."""
    key_id, secret = key.split("_", 2)[1:]
    return [
        "",
        " ",
        key[:-1],
        key + "A",
        key + "\n",
        " " + key,
        key.upper(),
        key.replace(secret[0], "é", 1),
        f"xtk_{key_id}_{secret[::-1]}",
        f"xtk_0000000000_{secret}",
        f"xtk__{secret}",
        f"xtk_{key_id}",
        f"xtk_{key_id}_",
        secret,
        "xtk_" + "9" * 40 + "_" + secret,
        "xtk_" + "\u0661" * 10 + "_" + secret,
        "\ud800",
        "\x00" * 43,
        "xtk_" * 100_000,
        key * 1000,
        "🗝" * 300,
    ]


def test_wrong_keys(ring: Keyring) -> None:
    """All are told the same, and nothing raises. spec: SEC-2.5."""
    _, key = ring.add("ann")
    answers = {shown(ring, wrong) for wrong in hostile(key) if not (wrong == key.upper() == key)}
    (answer,) = answers
    assert isinstance(answer, Refusal)
    assert (answer.code, answer.retry_after) == ("unauthorized", None)
    assert "xtrack keys ls" in answer.message
    assert is_known(ring, key)


def test_no_key_and_other_schemes(ring: Keyring) -> None:
    """spec: SEC-2.3, SEC-2.4."""
    _, key = ring.add("ann")
    nothing = ring.authenticate(None)
    assert isinstance(nothing, Refusal)
    assert nothing.code == "unauthorized"
    assert "XTRACK_KEY" in nothing.message
    for scheme in ("Key", "bearer", "", "key ", "é"):
        other = ring.authenticate(Auth(scheme, key))
        assert isinstance(other, Refusal)
        assert (other.code, "'key'" in other.message) == ("unauthorized", True)


def test_unknown_ids_take_the_same_comparison(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key that is shown is hashed once and compared once, in constant time. spec: CTL-5.3, SEC-2.5."""
    _, key = ring.add("ann")
    compared: list[tuple[str, str]] = []
    real = keys_module.hmac.compare_digest

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return bool(real(one, other))

    monkeypatch.setattr(keys_module.hmac, "compare_digest", compare)
    for wrong in hostile(key):
        compared.clear()
        assert not is_known(ring, wrong)
        assert [len(digest) for pair in compared for digest in pair] == [64, 64]


# ------------------------------------------------------------------------------------------ changes


def test_a_removed_key_holds_no_longer(ring: Keyring, path: Path) -> None:
    """Nor do sessions that it began; in a server that runs. spec: SEC-2.6, SEC-2.7."""
    info, key = ring.add("ann")
    _, other = ring.add("bob")
    server = Keyring(path)
    ann, bob = shown(server, key), shown(server, other)
    assert isinstance(ann, Principal)
    assert isinstance(bob, Principal)
    assert server.is_still_valid(ann)
    assert ring.remove(info.key_id) == info
    assert not server.is_still_valid(ann)
    assert server.is_still_valid(bob)
    assert not is_known(server, key)
    with pytest.raises(ConfigurationError, match="no key of this id"):
        ring.remove(info.key_id)


def test_all_keys_removed_let_nobody_in(ring: Keyring, path: Path) -> None:
    info, key = ring.add("ann")
    ring.remove(info.key_id)
    assert Keyring(path).keys() == []
    assert not is_known(Keyring(path), key)


def test_rotation(ring: Keyring, path: Path) -> None:
    """The old secret ends at once, and so does what it began."""
    info, old = ring.add("ann", experiment="e", may_read=False)
    server = Keyring(path)
    before = shown(server, old)
    rotated, new = ring.rotate(info.key_id)
    assert rotated == info
    assert new.startswith(f"xtk_{info.key_id}_")
    assert not is_known(server, old)
    after = shown(server, new)
    assert isinstance(before, Principal)
    assert isinstance(after, Principal)
    assert (after.owner, after.experiment, after.may_read, after.version) == ("ann", "e", False, 2)
    assert not server.is_still_valid(before)
    assert server.is_still_valid(after)


def test_grace(path: Path) -> None:
    """Old secrets hold beside the new one, each as long as it was promised; a rotation without grace ends all."""
    clock = FakeClock(time_us=10**15)
    ring = Keyring(path, new=True, clock=clock.time_us)
    info, first = ring.add("ann")
    session = shown(ring, first)
    assert isinstance(session, Principal)
    rotated, second = ring.rotate(info.key_id, grace_seconds=100)
    assert rotated.grace_until_us == 10**15 + 100_000_000
    clock.advance(50)
    _, third = ring.rotate(info.key_id, grace_seconds=10)
    assert [is_known(ring, key) for key in (first, second, third)] == [True, True, True]
    assert ring.keys()[0].grace_until_us == 10**15 + 100_000_000
    clock.advance(10)
    assert [is_known(ring, key) for key in (first, second, third)] == [True, False, True]
    assert ring.is_still_valid(session)
    clock.advance(40)
    assert [is_known(ring, key) for key in (first, second, third)] == [False, False, True]
    assert not ring.is_still_valid(session)
    assert ring.keys()[0].grace_until_us is None
    ring.rotate(info.key_id, grace_seconds=1000)
    _, last = ring.rotate(info.key_id)
    assert [is_known(ring, key) for key in (third, last)] == [False, True]
    assert len(json.loads(path.read_bytes())["keys"][0]["retired"]) == 0
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError, match="grace"):
            ring.rotate(info.key_id, grace_seconds=wrong)


def test_ids_stand_for_keys_without_showing_them() -> None:
    assert id_of("1f2e3d4c5b") == "1f2e3d4c5b"
    assert id_of("xtk_1f2e3d4c5b_" + "s" * 43) == "1f2e3d4c5b"
    assert id_of("xtk_1f2e3d4c5b") == "1f2e3d4c5b"


ADD = """
import sys
from xtrack_protocol.server.keys import Keyring
ring = Keyring(sys.argv[1], new=True)
print("up", flush=True)
sys.stdin.readline()
for number in range(10):
    print(ring.add(f"owner {sys.argv[2]} {number}")[1], flush=True)
"""


def test_keys_that_are_added_at_once_lose_nothing(path: Path) -> None:
    """spec: SEC-2.2."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, str(path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
    outputs: list[str] = []

    def finish(process: subprocess.Popen[str]) -> None:
        outputs.append(process.communicate("go\n", timeout=60)[0])

    threads = [threading.Thread(target=finish, args=(process,)) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = "".join(outputs).split()
    ring = Keyring(path)
    assert len(keys) == len(ring.keys()) == 40
    assert all(is_known(ring, key) for key in keys)
    assert sorted(file.name for file in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_threads_ask_while_keys_change(ring: Keyring) -> None:
    """A key that is there is known at every moment."""
    info, key = ring.add("ann")
    done = threading.Event()
    wrong: list[object] = []

    def ask() -> None:
        while not done.is_set():
            answer = shown(ring, key)
            if not isinstance(answer, Principal):
                wrong.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(20):
        other = ring.add(f"owner {number}")[0]
        ring.rotate(other.key_id, grace_seconds=5)
        ring.remove(other.key_id)
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    (left,) = ring.keys()
    assert left.key_id == info.key_id


# ------------------------------------------------------------------------------------------ the file


@posix
def test_the_file_is_its_owner_s(path: Path) -> None:
    before = os.umask(0)
    try:
        ring = Keyring(path, new=True)
        ring.add("ann")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.with_name("keys.json.lock").stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_default_is_under_the_spool_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTRACK_DIR", str(tmp_path / "xd"))
    assert default_keys_file() == tmp_path / "xd" / "keys.json" == Keyring(new=True).path


def test_a_missing_file(path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no such file\. `xtrack keys add") as caught:
        Keyring(path)
    assert (caught.value.setting, caught.value.value) == ("keys", str(path))
    for change in (lambda ring: ring.remove("x"), lambda ring: ring.rotate("x")):
        with pytest.raises(ConfigurationError, match="no such file"):
            change(Keyring(path, new=True))
    assert not path.exists()


def open_to_others(path: Path) -> None:
    path.chmod(0o640)


def linked(path: Path) -> None:
    path.rename(path.with_name("real.json"))
    path.symlink_to("real.json")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def gone(path: Path) -> None:
    path.unlink()


def content(data: bytes) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.write_bytes(data)

    return spoil


ENTRY = json.dumps({"id": "a", "owner": "ann", "rights": "read", "created_us": 1, "sha256": "0" * 64})


def with_keys(*entries: str) -> Callable[[Path], None]:
    return content(f'{{"format": 1, "keys": [{", ".join(entries)}]}}'.encode())


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "open to others": (open_to_others, "is open to other users .mode 0640.. `chmod 600"),
    "a link": (linked, "is a symbolic link"),
    "a folder": (a_folder, "is no file"),
    "a pipe": (a_pipe, "is no file"),
    "gone": (gone, "no such file"),
    "empty": (content(b""), "is damaged"),
    "cut": (content(b'{"format": 1, "keys": ['), "is damaged"),
    "no keys": (content(b'{"format": 1}'), "is damaged"),
    "null": (content(b"null"), "is damaged"),
    "another's": (content(b"[]"), "is damaged"),
    "no UTF-8": (content(b'{"format": 1, "keys": "\xff"}'), "is damaged"),
    "no owner": (with_keys(ENTRY.replace("ann", "")), "is damaged"),
    "no digest": (with_keys(ENTRY.replace("0" * 64, "0")), "is damaged"),
    "no rights": (with_keys(ENTRY.replace("read", "all")), "is damaged"),
    "one id twice": (with_keys(ENTRY, ENTRY), "is damaged: key 2"),
    "deep": (content(b"[" * 100_000), "is damaged"),
    "newer": (content(b'{"format": 2, "keys": []}'), "pip install -U"),
}


@posix
@pytest.mark.parametrize("name", SPOILT)
def test_a_file_that_can_t_be_trusted(path: Path, name: str) -> None:
    """It is an error with a cure, and never "no keys"; who is in stays, and nobody else gets in. spec: SEC-2.8."""
    spoil, message = SPOILT[name]
    ring = Keyring(path, new=True)
    _, key = ring.add("ann")
    info, _ = ring.add("bob")
    server = Keyring(path)
    session = shown(server, key)
    assert isinstance(session, Principal)
    good = path.read_bytes()
    assert server.problem is None
    spoil(path)
    for attempt in (
        lambda: Keyring(path),
        lambda: server.keys(),
        *((lambda: Keyring(path, new=True).add("eve"),) if name != "gone" else ()),
        lambda: Keyring(path, new=name == "gone").remove(info.key_id),
    ):
        with pytest.raises(ConfigurationError, match=message):
            attempt()
    answer = shown(server, key)
    assert isinstance(answer, Refusal)
    assert answer.code == "busy"
    assert answer.retry_after
    assert str(path) not in answer.message
    assert str(path) in str(server.problem)
    assert server.is_still_valid(session)
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(good)
    assert server.problem is None
    assert shown(server, key) == session


@posix
def test_a_lock_that_is_a_link_is_not_followed(ring: Keyring, path: Path) -> None:
    path.parent.mkdir()
    elsewhere = path.parent / "elsewhere"
    path.with_name("keys.json.lock").symlink_to(elsewhere)
    with pytest.raises(ConfigurationError, match="symbolic link"):
        ring.add("ann")
    assert not elsewhere.exists()


@posix
def test_a_folder_that_can_t_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there stays."""
    ring = Keyring(path, new=True)
    _, key = ring.add("ann")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keys_module, "sync_file", full)
    with pytest.raises(ConfigurationError, match="can't be changed: No space left"):
        ring.add("bob")
    assert sorted(file.name for file in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]
    assert is_known(Keyring(path), key)
    assert len(ring.keys()) == 1


def test_another_process_holds_the_lock(ring: Keyring, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xtrack_protocol.spool import FileLock

    monkeypatch.setattr(keys_module, "_LOCK_SECONDS", 0.05)
    path.parent.mkdir()
    lock = FileLock(path.with_name("keys.json.lock"))
    assert lock.acquire()
    with pytest.raises(ConfigurationError, match="locked"):
        ring.add("ann")
    lock.release()
    ring.add("ann")
