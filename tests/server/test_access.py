"""Who may do what with runs: rights, owners, experiments; with sessions, and against a model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from xtrack_protocol.ir import Auth, Hello, Metric, Payload, RunId, RunStart
from xtrack_protocol.server.access import AccessControl
from xtrack_protocol.server.keys import Keyring, Principal
from xtrack_protocol.session import (
    CollectorSession,
    EmitterSession,
    Refusal,
    Rejected,
    StreamId,
    StreamOpened,
    StreamOpenRequested,
    StreamRefused,
)
from xtrack_protocol.storage import LocalStore, MemoryStore, RunAccess, SQLiteStore, Storage
from xtrack_protocol.testing import LinkedPair, Worker

# ------------------------------------------------------------------------------------------ helpers


class Keys:
    """A ring, and the keys that were given out by it."""

    def __init__(self, folder: Path) -> None:
        self.ring = Keyring(folder / "keys.json", new=True)

    def make(self, owner: str, **options: Any) -> str:
        return self.ring.add(owner, **options)[1]

    def principal(self, owner: str, **options: Any) -> Principal:
        who = self.ring.authenticate(Auth("key", self.make(owner, **options)))
        assert isinstance(who, Principal)
        return who


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture(params=["memory", "sqlite", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made: Storage = {
        "memory": MemoryStore,
        "sqlite": lambda: SQLiteStore(tmp_path / "s.db"),
        "local": lambda: LocalStore(tmp_path / "home"),
    }[request.param]()
    with made:
        yield made


@pytest.fixture
def access(store: Storage, keys: Keys) -> AccessControl:
    return AccessControl(store, keys.ring)


def stream(run_id: str) -> StreamId:
    return StreamId(run_id, "", "s")


def started(run_id: str, experiment: str | None = None) -> Any:
    return Worker(run_id).say(RunStart(RunId(run_id, experiment)))


def code(refusal: Refusal | None) -> str | None:
    return None if refusal is None else refusal.code


# ------------------------------------------------------------------------------------------ rights and owners


def test_without_keys_anybody_may_do_anything(store: Storage) -> None:
    """And nothing is owned, whoever owned it before."""
    access = AccessControl(store, None)
    store.claim_run("r", "ann")
    who = access.authenticate(None)
    assert isinstance(who, Principal)
    assert (who.owner, access.needs_key, access.problem) == ("", False, None)
    assert access.is_still_valid(who)
    assert access.open_for_write(who, stream("r")) is access.open_for_write(who, stream("new")) is None
    assert access.check_start(who, stream("r"), started("r").envelope) is None
    assert access.may_read(who, "r") is access.may_command(who, "r") is access.may_write(who, "r") is None
    assert store.get_access("new") == RunAccess()
    assert access.refusals() == {}


def test_the_first_who_writes_owns_the_run(access: AccessControl, keys: Keys, store: Storage) -> None:
    """spec: SEC-4.1."""
    ann, bob = keys.principal("ann"), keys.principal("bob")
    assert access.open_for_write(ann, stream("r")) is None
    store.append([started("r")])
    for refusal in (
        access.open_for_write(bob, stream("r")),
        access.may_write(bob, "r"),
        access.may_command(bob, "r"),
    ):
        assert refusal is not None
        assert "`xtrack access r --grant bob:write`" in refusal.message
    refusal = access.open_for_write(bob, stream("r"))
    assert refusal is not None
    assert "somebody else's" in refusal.message
    told = access.may_command(bob, "r")
    unknown = access.may_command(bob, "none")  # spec: SEC-4.7
    assert told is not None
    assert unknown is not None
    assert told.message.replace("r --", "none --").replace("'r'", "'none'") == unknown.message
    store.set_access("r", RunAccess(owner="ann", public=True))
    told = access.may_command(bob, "r")
    assert told is not None
    assert "somebody else's" in told.message, "who may read it may know it"
    store.set_access("r", RunAccess(owner="ann"))
    assert access.open_for_write(ann, StreamId("r", "w2", "s2")) is None
    assert access.open_for_write(keys.principal("ann"), stream("r")) is None, "another key of the same owner"
    assert access.may_read(ann, "r") is access.may_command(ann, "r") is None
    assert access.refusals() == {"forbidden": 7}
    assert access.reasons() == {"owner": 7}


def test_a_run_made_without_keys_has_to_be_given_an_owner(access: AccessControl, keys: Keys, store: Storage) -> None:
    """spec: SEC-4.2."""
    ann = keys.principal("Ann O'Neil")
    store.append([started("it's local")])
    refusal = access.open_for_write(ann, stream("it's local"))
    assert refusal is not None
    assert refusal.code == "forbidden"
    assert "has no owner" in refusal.message
    assert """`xtrack access 'it'"'"'s local' --owner 'Ann O'"'"'Neil'`""" in refusal.message
    assert code(access.may_command(ann, "it's local")) == "forbidden"
    assert access.reasons() == {"no_owner": 1, "owner": 1}
    store.set_access("it's local", RunAccess(owner="Ann O'Neil"))
    assert access.open_for_write(ann, stream("it's local")) is None


def test_an_expected_run_may_be_claimed(access: AccessControl, keys: Keys, store: Storage) -> None:
    store.expect_run("r")
    assert access.open_for_write(keys.principal("ann"), stream("r")) is None
    assert store.get_access("r").owner == "ann"


def test_who_may_read(access: AccessControl, keys: Keys, store: Storage) -> None:
    """The owner, who was granted, and all where it is public; nobody learns what isn't theirs. spec: SEC-4.3."""
    ann, bob, eve = (keys.principal(name) for name in ("ann", "bob", "eve"))
    store.claim_run("r", "ann")
    store.append([started("r"), started("unowned")])
    store.set_access("r", RunAccess(owner="ann", readers=frozenset({"bob"})))
    assert [code(access.may_read(who, "r")) for who in (ann, bob, eve)] == [None, None, "forbidden"]
    refused, absent, unowned = (access.may_read(eve, run_id) for run_id in ("r", "q", "unowned"))
    assert refused is not None
    assert absent is not None
    assert unowned is not None
    assert refused.message == absent.message.replace("'q'", "'r'").replace(" q ", " r ")
    assert unowned.message.replace("unowned", "r") == refused.message
    store.set_access("r", RunAccess(owner="ann", public=True))
    assert [code(access.may_read(who, "r")) for who in (ann, bob, eve)] == [None, None, None]
    assert [code(access.may_write(who, "r")) for who in (ann, bob, eve)] == [None, "forbidden", "forbidden"]
    store.set_access("r", RunAccess(owner="ann", writers=frozenset({"bob"})))
    assert [code(access.may_read(who, "r")) for who in (ann, bob, eve)] == [None, None, "forbidden"]
    assert [code(access.open_for_write(who, stream("r"))) for who in (ann, bob, eve)] == [None, None, "forbidden"]
    assert store.get_access("r").owner == "ann"


def test_a_key_is_good_for_its_rights_only(access: AccessControl, keys: Keys, store: Storage) -> None:
    """spec: SEC-3.1."""
    reader, writer = keys.principal("ann", may_write=False), keys.principal("ann", may_read=False)
    refused = access.open_for_write(reader, stream("r"))
    assert refused is not None
    assert f"key {reader.key_id} may only read" in refused.message
    assert "xtrack keys add --owner ann --write" in refused.message
    assert store.get_access("r") == RunAccess(), "who may not write claims nothing"
    assert access.open_for_write(writer, stream("r")) is None
    assert access.may_command(writer, "r") is access.may_read(reader, "r") is None
    assert code(access.may_command(reader, "r")) == code(access.may_read(writer, "r")) == "forbidden"
    store.set_access("r", RunAccess(owner="ann", public=True))
    assert code(access.may_read(writer, "r")) == "forbidden"
    assert access.reasons() == {"rights": 4}


def test_a_deleted_run_is_nobody_s(access: AccessControl, keys: Keys, store: Storage) -> None:
    """Its events are dropped, and told so; it can't be read, commanded or claimed. spec: SEC-4.6, FLD-9."""
    ann, bob = keys.principal("ann"), keys.principal("bob")
    store.claim_run("r", "ann")
    store.append([started("r")])
    store.delete_run("r")
    for who in (ann, bob):
        assert access.open_for_write(who, stream("r")) is None
        assert store.append([Worker("r").metric("x", 1, 1)]).dropped == 1
        assert code(access.may_read(who, "r")) == code(access.may_command(who, "r")) == "forbidden"
    assert store.get_access("r") == RunAccess()


# ------------------------------------------------------------------------------------------ experiments


def test_a_key_for_one_experiment(access: AccessControl, keys: Keys, store: Storage) -> None:
    """spec: SEC-3.2."""
    ann, vision = keys.principal("ann"), keys.principal("ann", experiment="vision")
    for run_id, experiment in (("in", "vision"), ("out", "speech"), ("none", None)):
        assert access.open_for_write(ann, stream(run_id)) is None
        store.append([started(run_id, experiment)])
    assert [code(access.open_for_write(vision, stream(run_id))) for run_id in ("in", "out", "none")] == [
        None,
        "forbidden",
        "forbidden",
    ]
    assert [code(access.may_read(vision, run_id)) for run_id in ("in", "out", "none", "absent")] == [
        None,
        *["forbidden"] * 3,
    ]
    assert [code(access.may_command(vision, run_id)) for run_id in ("in", "out")] == [None, "forbidden"]
    out = access.open_for_write(vision, stream("out"))
    assert out is not None
    assert "is for experiment 'vision', and run 'out' is of experiment 'speech'" in out.message
    assert "XTRACK_EXPERIMENT=vision" in out.message
    store.set_access("out", RunAccess(owner="ann", public=True))
    assert code(access.may_read(vision, "out")) == "forbidden"


def test_a_new_run_must_name_the_experiment(access: AccessControl, keys: Keys, store: Storage) -> None:
    """In its run_start, whatever came first. spec: SEC-3.2."""
    who = keys.principal("ann", experiment="my vision")
    assert access.open_for_write(who, stream("r")) is None
    for wrong in (
        started("r"),
        started("r", "speech"),
        Worker("r").say(RunStart("r")),
        Worker("r").metric("x", 1, 1),
        Worker("r").say(Metric(RunId("r", "my vision"), "x", 1)),
    ):
        refusal = access.check_start(who, stream("r"), wrong.envelope)
        assert refusal is not None, wrong
        assert refusal.code == "forbidden"
        assert "XTRACK_EXPERIMENT='my vision'" in refusal.message
    good = started("r", "my vision")
    assert access.check_start(who, stream("r"), good.envelope) is None
    store.append([good])
    later = [Worker("r", "w2", "s2").metric("x", 1, 1), Worker("r", "w2", "s2").say(RunStart("r"))]
    assert all(access.check_start(who, item.stream, item.envelope) is None for item in later)
    assert code(access.check_start(who, stream("r"), started("r", "speech").envelope)) == "forbidden"
    assert access.reasons() == {"experiment": 6}


def test_an_experiment_goes_by_its_id_and_its_name(access: AccessControl, keys: Keys, store: Storage) -> None:
    store.create_experiment("vision", experiment_id="e-1")
    for who in (keys.principal("ann", experiment="e-1"), keys.principal("ann", experiment="vision")):
        for number, named in enumerate(("e-1", "vision")):
            run_id = f"{who.experiment}-{number}"
            assert access.open_for_write(who, stream(run_id)) is None
            item = started(run_id, named)
            assert access.check_start(who, item.stream, item.envelope) is None
            store.append([item])
            assert access.open_for_write(who, stream(run_id)) is access.may_read(who, run_id) is None


def test_an_expected_run_of_another_experiment(access: AccessControl, keys: Keys, store: Storage) -> None:
    """Is not claimed by a key that doesn't cover it."""
    who = keys.principal("ann", experiment="vision")
    store.expect_run("theirs", experiment_id="speech")
    store.expect_run("ours", experiment_id="vision")
    assert code(access.open_for_write(who, stream("theirs"))) == "forbidden"
    assert store.get_access("theirs") == RunAccess()
    assert access.open_for_write(who, stream("ours")) is None


def test_nobody_learns_what_experiment_another_s_run_is_of(access: AccessControl, keys: Keys, store: Storage) -> None:
    store.claim_run("r", "ann")
    store.append([started("r", "the secret project"), started("unowned", "the secret project")])
    eve = keys.principal("eve", experiment="e")
    for run_id in ("r", "unowned"):
        for refusal in (
            access.open_for_write(eve, stream(run_id)),
            access.may_read(eve, run_id),
            access.may_command(eve, run_id),
        ):
            assert refusal is not None
            assert "secret" not in refusal.message


# ------------------------------------------------------------------------------------------ what is counted and told


def test_refusals_of_keys_are_counted(keys: Keys) -> None:
    """By code and by reason. spec: SEC-5."""
    key = keys.make("ann")
    access = AccessControl(MemoryStore(), keys.ring)
    for auth in (None, Auth("bearer", key), Auth("key", key[:-1]), Auth("key", "")):
        assert isinstance(access.authenticate(auth), Refusal)
    assert isinstance(access.authenticate(Auth("key", key)), Principal)
    keys.ring.path.write_text("{")
    assert isinstance(access.authenticate(Auth("key", key)), Refusal)
    assert "is damaged" in str(access.problem)
    assert access.refusals() == {"unauthorized": 4, "busy": 1}
    assert access.reasons() == {"no_key": 1, "scheme": 1, "key": 2, "keys_file": 1}


def test_no_refusal_holds_a_secret(keys: Keys) -> None:
    """spec: SEC-5.1, CTL-5.4."""
    key = keys.make("ann", experiment="e", may_write=False)
    secret = key.split("_", 2)[2]
    store = MemoryStore()
    access = AccessControl(store, keys.ring)
    who = access.authenticate(Auth("key", key))
    assert isinstance(who, Principal)
    refusals = [
        access.authenticate(None),
        access.authenticate(Auth(key, key)),
        access.authenticate(Auth("key", key + "x")),
        access.open_for_write(who, stream("r")),
        access.may_read(who, "r"),
        access.may_write(attrs.evolve(who, may_write=True), "r"),
        access.check_start(who, stream("r"), started("r").envelope),
    ]
    assert all(isinstance(one, Refusal) for one in refusals)
    for one in [*refusals, access.refusals(), access.reasons()]:
        assert secret[:16] not in repr(one)


def test_messages_stay_short(access: AccessControl, keys: Keys, store: Storage) -> None:
    """Whatever a peer calls its runs; and hold nothing that a terminal would obey."""
    ann = keys.principal("a" * 200, experiment="e" * 1000)
    run_id = "\x1b[2J" + "r" * 1000
    store.claim_run(run_id, "bob")
    store.append([started(run_id)])
    for refusal in (
        access.open_for_write(ann, stream(run_id)),
        access.may_read(ann, run_id),
        access.check_start(ann, stream(run_id), started(run_id, "f" * 100_000).envelope),
    ):
        assert refusal is not None
        assert len(refusal.message) < 4000
        assert refusal.message.isprintable()


def test_threads_count_each_refusal(keys: Keys) -> None:
    access = AccessControl(MemoryStore(), keys.ring)

    def ask() -> None:
        for _ in range(200):
            access.authenticate(None)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert access.refusals() == {"unauthorized": 800}


# ------------------------------------------------------------------------------------------ with sessions


def connected(access: AccessControl, key: str | None) -> LinkedPair:
    """Return two sessions that have said hello, with the key or none."""
    auth = None if key is None else Auth("key", key)
    link = LinkedPair(
        EmitterSession(Hello([1], auth=auth), require_session=True),
        CollectorSession(authenticate=access.authenticate, durability="none"),
    )
    link.connect()
    link.settle()
    return link


def opened(access: AccessControl, link: LinkedPair, who: Principal, run_id: str) -> object:
    """Open a stream as a server does; return what the emitter is told."""
    link.emitter.open_stream(stream(run_id), link.now)
    link.settle()
    assert StreamOpenRequested(stream(run_id)) in link.collector_news
    refusal = access.open_for_write(who, stream(run_id))
    if refusal is None:
        link.collector.accept_stream(stream(run_id), 0)
    else:
        link.collector.refuse_stream(stream(run_id), refusal.code, refusal.message)
    link.settle()
    return link.emitter_news[-1]


def test_sessions_with_keys(keys: Keys) -> None:
    """Both sides are told why. spec: CTL-5, CTL-7."""
    store = MemoryStore()
    access = AccessControl(store, keys.ring)
    key = keys.make("ann")
    for bad in (None, "xtk_0000000000_" + "A" * 43):
        link = connected(access, bad)
        rejected = link.emitter_news[-1]
        assert isinstance(rejected, Rejected)
        assert rejected.code == "unauthorized"
        assert "xtrack keys" in rejected.message
        assert link.is_over
    store.append([started("local")])
    link = connected(access, key)
    who = keys.ring.authenticate(Auth("key", key))
    assert isinstance(who, Principal)
    assert opened(access, link, who, "mine") == StreamOpened(stream("mine"), 0)
    refused = opened(access, link, who, "local")
    assert isinstance(refused, StreamRefused)
    assert refused.code == "forbidden"
    assert "xtrack access local --owner ann" in refused.message
    assert not link.errors


# ------------------------------------------------------------------------------------------ against a model

OWNERS = ("ann", "bob", "eve")
RUNS = ("r1", "r2")
EXPERIMENTS = (None, "e1", "e2")
owners, runs, experiments = (st.sampled_from(names) for names in (OWNERS, RUNS, EXPERIMENTS))


@attrs.define
class ModelRun:
    owner: str | None = None
    public: bool = False
    readers: set[str] = attrs.field(factory=set)
    writers: set[str] = attrs.field(factory=set)
    begun: bool = False
    experiment: str | None = None
    deleted: bool = False


@attrs.define
class ModelKey:
    key: str
    key_id: str
    owner: str
    experiment: str | None
    read: bool
    write: bool
    principal: Principal | None = None
    """Of a session that it began."""
    held: bool = True


class Permissions(RuleBasedStateMachine):
    """Keys come and go, owners write, grant and delete: at each step what is allowed is what the model says."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.store = self.make_store()
        self.ring = Keyring(Path(self.folder.name) / "keys.json", new=True)
        self.ring.remove(self.ring.add("nobody")[0].key_id)
        self.access = AccessControl(self.store, Keyring(self.ring.path))
        self.runs = {run_id: ModelRun() for run_id in RUNS}
        self.keys: list[ModelKey] = []
        self.sessions = 0
        self.refused = 0
        for owner, experiment in (("ann", None), ("ann", "e1"), ("bob", None), ("bob", "e2")):
            self.make_key(owner, experiment, (True, True))

    def make_store(self) -> Storage:
        return MemoryStore()

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def expect(self, refusal: Refusal | None, allowed: bool) -> None:
        assert (refusal is None) == allowed, refusal
        if refusal is not None:
            assert refusal.code == "forbidden"
            self.refused += 1

    def key(self, data: st.DataObject) -> ModelKey:
        return data.draw(st.sampled_from([key for key in self.keys if key.held]))

    def has_key(self) -> bool:
        return any(key.held for key in self.keys)

    # keys

    @rule(owner=owners, experiment=experiments, rights=st.sampled_from([(True, True), (True, False), (False, True)]))
    def add(self, owner: str, experiment: str | None, rights: tuple[bool, bool]) -> None:
        self.make_key(owner, experiment, rights)

    def make_key(self, owner: str, experiment: str | None, rights: tuple[bool, bool]) -> None:
        info, key = self.ring.add(owner, experiment=experiment, may_read=rights[0], may_write=rights[1])
        who = self.access.authenticate(Auth("key", key))
        assert isinstance(who, Principal)
        self.keys.append(ModelKey(key, info.key_id, owner, experiment, *rights, principal=who))

    @precondition(has_key)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        key = self.key(data)
        self.ring.remove(key.key_id)
        for other in self.keys:
            other.held = other.held and other.key_id != key.key_id

    @precondition(has_key)
    @rule(data=st.data(), grace=st.sampled_from([0, 10_000]))
    def rotate(self, data: st.DataObject, grace: int) -> None:
        key = self.key(data)
        _, new = self.ring.rotate(key.key_id, grace_seconds=grace)
        for other in self.keys:
            if other.key_id == key.key_id and not grace:
                other.held = False
        who = self.access.authenticate(Auth("key", new))
        assert isinstance(who, Principal)
        self.keys.append(attrs.evolve(key, key=new, held=True, principal=who))

    # what people do

    def may_write(self, key: ModelKey, run: ModelRun) -> bool:
        return key.write and (run.owner == key.owner or key.owner in run.writers)

    @precondition(has_key)
    @rule(data=st.data(), run_id=runs, experiment=experiments, with_start=st.booleans())
    def write(self, data: st.DataObject, run_id: str, experiment: str | None, with_start: bool) -> None:
        key, run = self.key(data), self.runs[run_id]
        assert key.principal is not None
        self.sessions += 1
        opened = Worker(run_id, "", f"s{self.sessions}", start_us=10**15 + self.sessions * 10**6)
        refusal = self.access.open_for_write(key.principal, opened.stream)
        covers = key.experiment is None or not run.begun or run.experiment == key.experiment
        if run.deleted:
            self.expect(refusal, key.write)
            return
        claims = run.owner is None and not run.begun
        allowed = key.write and covers and (claims or self.may_write(key, run))
        if key.write and covers and claims:
            run.owner = key.owner
        self.expect(refusal, allowed)
        if refusal is not None:
            return
        payload: Payload = RunStart(RunId(run_id, experiment)) if with_start else Metric(run_id, "x", 1)
        item = opened.say(payload)
        refusal = self.access.check_start(key.principal, opened.stream, item.envelope)
        named = experiment if with_start else None
        fits = named in {None, key.experiment}
        self.expect(
            refusal,
            key.experiment is None
            or (fits and (run.experiment == key.experiment if run.begun else named == key.experiment)),
        )
        if refusal is None:
            assert self.store.append([item]).stored == (0,)
            run.begun = True
            run.experiment = named or run.experiment

    @rule(run_id=runs, experiment=experiments)
    def write_locally(self, run_id: str, experiment: str | None) -> None:
        """Where no keys are asked for."""
        self.sessions += 1
        run = self.runs[run_id]
        item = Worker(run_id, "", f"s{self.sessions}", start_us=10**15 + self.sessions * 10**6).say(
            RunStart(RunId(run_id, experiment))
        )
        assert bool(self.store.append([item]).stored) == (not run.deleted)
        if not run.deleted:
            run.begun = True
            run.experiment = experiment or run.experiment

    @rule(run_id=runs, owner=owners, what=st.sampled_from(["owner", "reader", "writer", "revoke", "public", "private"]))
    def change(self, run_id: str, owner: str, what: str) -> None:
        run = self.runs[run_id]
        if run.deleted:
            return
        if what == "owner":
            run.owner = owner
        elif what in {"public", "private"}:
            run.public = what == "public"
        else:
            run.readers.discard(owner)
            run.writers.discard(owner)
            if what != "revoke":
                (run.readers if what == "reader" else run.writers).add(owner)
        wanted = RunAccess(
            owner=run.owner, public=run.public, readers=frozenset(run.readers), writers=frozenset(run.writers)
        )
        assert self.store.change_access(run_id, lambda _: wanted) == wanted

    @rule(run_id=runs)
    def delete(self, run_id: str) -> None:
        run = self.runs[run_id]
        if run.begun and not run.deleted:
            self.store.delete_run(run_id)
            self.runs[run_id] = ModelRun(begun=True, deleted=True)

    @precondition(has_key)
    @rule(data=st.data(), run_id=runs)
    def ask(self, data: st.DataObject, run_id: str) -> None:
        key, run = self.key(data), self.runs[run_id]
        assert key.principal is not None
        readers = {run.owner, *run.readers, *run.writers}
        in_scope = key.experiment is None or (run.begun and not run.deleted and run.experiment == key.experiment)
        self.expect(
            self.access.may_read(key.principal, run_id), key.read and (run.public or key.owner in readers) and in_scope
        )
        in_scope = key.experiment is None or not run.begun or run.experiment == key.experiment
        self.expect(self.access.may_command(key.principal, run_id), self.may_write(key, run) and in_scope)

    # what always holds

    @invariant()
    def keys_hold_or_dont(self) -> None:
        for key in self.keys[-4:]:
            assert key.principal is not None
            assert self.access.is_still_valid(key.principal) == key.held

    @invariant()
    def owners_are_the_model_s(self) -> None:
        for run_id, run in self.runs.items():
            kept = self.store.get_access(run_id)
            assert (kept.owner, kept.public, kept.readers, kept.writers) == (
                run.owner,
                run.public,
                run.readers,
                run.writers,
            )

    @invariant()
    def each_refusal_is_counted(self) -> None:
        assert self.access.refusals().get("forbidden", 0) == self.refused


class PermissionsOnDisk(Permissions):
    def make_store(self) -> Storage:
        return SQLiteStore(Path(self.folder.name) / "s.db")


class PermissionsInSpools(Permissions):
    def make_store(self) -> Storage:
        return LocalStore(Path(self.folder.name) / "home")


COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck)}
TestPermissions = Permissions.TestCase
TestPermissions.settings = settings(max_examples=60, stateful_step_count=25, **COMMON)  # type: ignore[arg-type]
TestPermissionsOnDisk = PermissionsOnDisk.TestCase
TestPermissionsOnDisk.settings = settings(max_examples=10, stateful_step_count=25, **COMMON)  # type: ignore[arg-type]
TestPermissionsInSpools = PermissionsInSpools.TestCase
TestPermissionsInSpools.settings = settings(max_examples=8, stateful_step_count=20, **COMMON)  # type: ignore[arg-type]
