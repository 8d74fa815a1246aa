"""What a peer may do: its key's rights, and the owners of runs. Every refusal is counted, and tells no secret."""

from __future__ import annotations

import shlex
import threading
from collections import Counter
from typing import Final, Literal, TypeAlias, TypeGuard

from xtrack_protocol.errors import ConfigurationError, ExperimentNotFound, RunDeleted, RunNotFound
from xtrack_protocol.ir import Auth, Envelope, RunId, RunStart
from xtrack_protocol.runs import RunState
from xtrack_protocol.server.keys import ANYBODY, SCHEME, Keyring, Principal
from xtrack_protocol.session import Refusal, StreamId
from xtrack_protocol.storage.access import RunAccess
from xtrack_protocol.storage.base import Storage

Reason: TypeAlias = Literal["no_key", "scheme", "key", "keys_file", "rights", "experiment", "owner", "no_owner"]
"""Why a peer was refused: without a key, with another scheme, with a wrong key, while the file of keys can't be read;
because its key lacks the right, is for another experiment, the run is somebody else's, or nobody's. An open set."""

_SHOWN: Final = 200  # characters of a name in a message


class AccessControl:
    """Says who may do what with the runs of ``store``. ``keyring`` None: anybody may do anything, and nothing is owned.

    Thread-safe. What touches the store may wait for it, and raises StorageError where it fails; ``authenticate`` and
    ``is_still_valid`` look at the file of keys only. All that refuses returns a Refusal, whose ``code`` is what the
    peer gets (spec: CTL-7); None is a yes.
    """

    def __init__(self, store: Storage, keyring: Keyring | None) -> None:
        self._store = store
        self._keyring = keyring
        self._mutex = threading.Lock()
        self._codes: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    # ------------------------------------------------------------------------------------------ who

    @property
    def needs_key(self) -> bool:
        """Whether peers must show a key."""
        return self._keyring is not None

    @property
    def problem(self) -> ConfigurationError | None:
        """Why the file of keys can't be read now; None where all is well. For the log: new peers are turned away."""
        return None if self._keyring is None else self._keyring.problem

    def refusals(self) -> dict[str, int]:
        """Return how often what was refused so far, by code: ``unauthorized``, ``forbidden``, ``busy``. spec: SEC-5"""
        with self._mutex:
            return dict(self._codes)

    def reasons(self) -> dict[str, int]:
        """Return the same by reason, one of ``Reason`` each."""
        with self._mutex:
            return dict(self._reasons)

    def authenticate(self, auth: Auth | None) -> Principal | Refusal:
        """Return who shows this credential, or why not. For CollectorSession; never raises. spec: SEC-2.4"""
        if self._keyring is None:
            return ANYBODY
        who = self._keyring.authenticate(auth)
        if isinstance(who, Refusal):
            reason: Reason = "key"
            if who.code == "busy":
                reason = "keys_file"
            elif auth is None:
                reason = "no_key"
            elif auth.scheme != SCHEME:
                reason = "scheme"
            self._count(who.code, reason)
        return who

    def is_still_valid(self, principal: Principal) -> bool:
        """Whether the key behind a session still holds; its session ends otherwise. Never raises. spec: SEC-2.7"""
        return self._keyring is None or self._keyring.is_still_valid(principal)

    # ------------------------------------------------------------------------------------------ what

    def open_for_write(self, principal: Principal, stream: StreamId) -> Refusal | None:
        """Say whether the peer may open ``stream``; a run that nobody has written to becomes its owner's by it.

        A deleted run is no refusal: its events are dropped, each with the code ``run_deleted`` (spec: FLD-9.1).
        """
        if self._keyring is None:
            return None
        run_id = stream.run_id
        refusal = self._check_right(principal, "write", run_id)
        if refusal is None and principal.experiment is not None:
            refusal = self._check_scope(principal, run_id)
        if refusal is not None:
            return refusal
        try:
            access = self._store.claim_run(run_id, principal.owner)
        except RunDeleted:
            return None
        return self._check_writer(principal, run_id, access)

    def check_start(self, principal: Principal, stream: StreamId, envelope: Envelope) -> Refusal | None:
        """Say whether an event may begin, or go on with, a run under a key for one experiment. spec: SEC-3.2

        To be asked about every run_start, and about the first event of each stream on a connection, whatever it is:
        a run is made by its first event, which need not be a run_start. Events that another one before them on the
        connection was asked about are covered by it.
        """
        if self._keyring is None or principal.experiment is None:
            return None
        named, payload = None, envelope.payload
        if isinstance(payload, RunStart) and isinstance(payload.run_id, RunId):
            named = payload.run_id.experiment_id
        ours = self._names(principal.experiment)
        state = self._state(stream.run_id)
        if named is None or named in ours:
            if state is not None and state.experiment_id in ours:
                return None
            if named is not None and not _is_begun(state):
                return None
        known = state.experiment_id if state else None
        return self._wrong_experiment(principal, stream.run_id, named if known in {None, *ours} else known)

    def may_write(self, principal: Principal, run_id: str) -> Refusal | None:
        """Say whether the peer may write to a run that is there; nothing is claimed. spec: SEC-4.4

        Who may not read it isn't told whether it is there. spec: SEC-4.7
        """
        if self._keyring is None:
            return None
        refusal = self._check_right(principal, "write", run_id)
        if refusal is None:
            access = self._store.get_access(run_id)
            if access.may_read(principal.owner):
                refusal = self._check_writer(principal, run_id, access)
            elif not access.may_write(principal.owner):
                refusal = self._refuse(
                    "owner",
                    f"there is no run {_shown(run_id)} that {_shown(principal.owner)} may write to. Whoever runs the"
                    f" collector opens one with `{_command(run_id, '--grant', principal.owner + ':write')}`",
                )
        if refusal is None and principal.experiment is not None:
            refusal = self._check_scope(principal, run_id)
        return refusal

    def may_command(self, principal: Principal, run_id: str) -> Refusal | None:
        """Say whether the peer may send commands to a run: who may write to it may. spec: SEC-4.5"""
        return self.may_write(principal, run_id)

    def may_read(self, principal: Principal, run_id: str) -> Refusal | None:
        """Say whether the peer may read a run. What isn't there is refused like somebody else's. spec: SEC-4.3"""
        if self._keyring is None:
            return None
        refusal = self._check_right(principal, "read", run_id)
        if refusal is not None:
            return refusal
        if not self._store.get_access(run_id).may_read(principal.owner):
            return self._refuse(
                "owner",
                f"there is no run {_shown(run_id)} that {_shown(principal.owner)} may read. Whoever runs the collector"
                f" opens one with `{_command(run_id, '--grant', principal.owner)}`",
            )
        if principal.experiment is not None:
            state = self._state(run_id)
            known = state.experiment_id if state else None
            if known not in self._names(principal.experiment):
                return self._wrong_experiment(principal, run_id, known)
        return None

    # ------------------------------------------------------------------------------------------ checks

    def _check_right(self, principal: Principal, right: Literal["read", "write"], run_id: str) -> Refusal | None:
        if principal.may_read if right == "read" else principal.may_write:
            return None
        other = "write" if right == "read" else "read"
        return self._refuse(
            "rights",
            f"key {principal.key_id} may only {other}, and this would {right} run {_shown(run_id)}. Use one that may:"
            f" `xtrack keys add --owner {shlex.quote(principal.owner)} --{right}` makes it",
        )

    def _check_scope(self, principal: Principal, run_id: str) -> Refusal | None:
        """Refuse a run of another experiment than the key's. What hasn't begun yet is for ``check_start`` to judge."""
        state = self._state(run_id)
        if not _is_begun(state):
            return None
        access = self._store.get_access(run_id)
        is_taken = state.events > 0 or access.owner is not None
        if is_taken and not access.may_write(principal.owner):  # who may not write isn't told what it belongs to
            return self._check_writer(principal, run_id, access)
        if state.experiment_id in self._names(principal.experiment or ""):
            return None
        return self._wrong_experiment(principal, run_id, state.experiment_id)

    def _check_writer(self, principal: Principal, run_id: str, access: RunAccess) -> Refusal | None:
        if access.may_write(principal.owner):
            return None
        if access.owner is None:
            return self._refuse(
                "no_owner",
                f"run {_shown(run_id)} has no owner: it was made without a key. Whoever runs the collector gives it one"
                f" with `{_command(run_id, '--owner', principal.owner)}`",
            )
        return self._refuse(
            "owner",
            f"run {_shown(run_id)} is somebody else's. Choose another run id, or have it opened to you:"
            f" `{_command(run_id, '--grant', principal.owner + ':write')}`",
        )

    def _wrong_experiment(self, principal: Principal, run_id: str, found: str | None) -> Refusal:
        experiment = principal.experiment or ""
        of = f"experiment {_shown(found)}" if found is not None else "no experiment"
        return self._refuse(
            "experiment",
            f"key {principal.key_id} is for experiment {_shown(experiment)}, and run {_shown(run_id)} is of {of}. Start"
            f" it with XTRACK_EXPERIMENT={shlex.quote(experiment)}, or use another key",
        )

    def _names(self, experiment: str) -> tuple[str, ...]:
        """Return all that a run can call an experiment."""
        try:
            found = self._store.get_experiment(experiment)
        except ExperimentNotFound:
            return (experiment,)
        return found.experiment_id, found.name

    def _state(self, run_id: str) -> RunState | None:
        try:
            return self._store.get_run(run_id)
        except RunNotFound:
            return None

    # ------------------------------------------------------------------------------------------ refusing

    def _refuse(self, reason: Reason, message: str) -> Refusal:
        self._count("forbidden", reason)
        return Refusal("forbidden", message)

    def _count(self, code: str, reason: Reason) -> None:
        with self._mutex:
            self._codes[code] += 1
            self._reasons[reason] += 1


def _is_begun(state: RunState | None) -> TypeGuard[RunState]:
    """Whether the experiment of a run is settled: by its events, or by who expects it."""
    return state is not None and (state.events > 0 or state.experiment_id is not None)


def _shown(name: str) -> str:
    """Return a name for a message: whole where it isn't very long."""
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")


def _command(run_id: str, option: str, value: str) -> str:
    """Return a command to be pasted; RUN in place of an id that is no text for a terminal."""
    run = shlex.quote(run_id) if run_id.isprintable() and len(run_id) <= _SHOWN else "RUN"
    return f"xtrack access {run} {option} {shlex.quote(value)}"
