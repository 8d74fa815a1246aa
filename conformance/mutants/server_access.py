"""Mutants of the role server: keys, owners and rights."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import attrs
from patching import Patch, Patches, as_server

import xtrack_protocol.server.keys as keys
from xtrack_protocol.errors import RunNotFound
from xtrack_protocol.ir import Auth
from xtrack_protocol.server.access import AccessControl
from xtrack_protocol.server.admission import KeyGuesses
from xtrack_protocol.server.connection import Connection
from xtrack_protocol.server.keys import ANYBODY, Keyring
from xtrack_protocol.server.server import CollectorServer
from xtrack_protocol.server.subscriptions import _Subscription as Subscription
from xtrack_protocol.session import Refusal
from xtrack_protocol.storage.access import RunAccess


def _finds(find: Any) -> Patch:
    """Take further keys: ``find(entries, text)`` returns the entry of a key that isn't known."""

    def found(original: Any, self: Any, text: str) -> Any:
        entry = None if original(self, text) else find(self._entries, text)
        return keys._principal(entry, entry.version) if entry else original(self, text)

    return lambda p: p.around(Keyring, "_find", found)


def _by_id(entries: Any, text: str) -> Any:
    match = re.match(r"xtk_([0-9a-z]{1,32})_", text)
    return entries.get(match[1]) if match else None


def _scheme(p: Patches) -> None:
    p.around(Keyring, "authenticate", lambda o, self, auth: o(self, auth and Auth("key", auth.key)))


def _tells_ids(p: Patches) -> None:
    def authenticate(original: Any, self: Any, auth: Any) -> Any:
        found = original(self, auth)
        if isinstance(found, Refusal) and auth is not None and not _by_id(self._entries, auth.key or ""):
            return Refusal(found.code, "no key has this id")
        return found

    p.around(Keyring, "authenticate", authenticate)


def _keeps_secrets(p: Patches) -> None:
    """Tell of the secrets as if they were kept."""
    made: list[str] = []

    def rotate(original: Any, self: Any, *args: Any, **more: Any) -> Any:
        found = original(self, *args, **more)
        made.append(found[1])
        return found

    def show(original: Any, self: Any, request: Any) -> Any:
        found = original(self, request)
        return {"kept": as_server._base64(" ".join(made).encode())} if "kept" in found else found

    p.around(Keyring, "rotate", rotate)
    p.around(Keyring, "add", rotate)
    p.around(as_server.Served, "keys", show)


def _logs_keys(p: Patches) -> None:
    def authenticate(original: Any, self: Any, auth: Any) -> Any:
        self.server.inform(f"a peer shows {auth.key if auth else 'nothing'}")
        return original(self, auth)

    p.around(Connection, "_authenticate", authenticate)


def _unreadable_is_none(p: Patches) -> None:
    def authenticate(original: Any, self: Any, auth: Any) -> Any:
        return ANYBODY if self.problem is not None else original(self, auth)

    p.around(AccessControl, "authenticate", authenticate)


def _unreadable_is_wrong(p: Patches) -> None:
    def authenticate(original: Any, self: Any, auth: Any) -> Any:
        found = original(self, auth)
        return Refusal("unauthorized", "") if isinstance(found, Refusal) and found.code == "busy" else found

    p.around(Keyring, "authenticate", authenticate)


def _any_owner(p: Patches) -> None:
    p.set(keys, "unfit_name", lambda name, most=0: None)


def _short_owners(p: Patches) -> None:
    p.around(
        keys, "unfit_name", lambda o, name, *most: o(name, *most) or ("too long" if len(name.encode()) > 100 else None)
    )


def _principals(change: Any) -> Patch:
    """Take a key for another one: ``change(principal, entry)``."""
    return lambda p: p.around(keys, "_principal", lambda o, entry, version: change(o(entry, version), entry))


def _same_letters(principal: Any, _entry: Any) -> Any:
    return attrs.evolve(principal, owner=unicodedata.normalize("NFC", principal.owner).casefold())


def _tells_hidden(p: Patches) -> None:
    async def allowed(original: Any, self: Any) -> Any:
        try:
            self._server.store.get_run(self._run_id)
        except RunNotFound:
            return self._over("deleted", "")
        return await original(self)

    p.around(Subscription, "_is_allowed", allowed)


def _no_right(name: str) -> Patch:
    return lambda p: p.set(AccessControl, name, lambda self, *_: None)


def _unowned(p: Patches) -> None:
    def check(original: Any, self: Any, principal: Any, run_id: str, access: Any) -> Any:
        return None if access.owner is None else original(self, principal, run_id, access)

    p.around(AccessControl, "_check_writer", check)


def _needs_both(p: Patches) -> None:
    def check(original: Any, self: Any, principal: Any, right: Any, run_id: str) -> Any:
        if principal.may_read and principal.may_write:
            return original(self, principal, right, run_id)
        return self._refuse("rights", "this key is for reading or for writing alone")

    p.around(AccessControl, "_check_right", check)


def _experiment_keys_read(p: Patches) -> None:
    def may(original: Any, self: Any, principal: Any, stream: Any) -> Any:
        if principal.experiment is not None:
            return self._refuse("experiment", "a key for one experiment only reads")
        return original(self, principal, stream)

    p.around(AccessControl, "open_for_write", may)


def _only_the_newest(p: Patches) -> None:
    def found(original: Any, self: Any, text: str) -> Any:
        principal = original(self, text)
        newest = list(self._entries)[-1]
        return principal if principal is not None and principal.key_id == newest else None

    p.around(Keyring, "_find", found)


def _grants_forgotten(p: Patches) -> None:
    p.set(RunAccess, "may_read", lambda self, owner: self.public or owner == self.owner)
    p.set(RunAccess, "may_write", lambda self, owner: owner == self.owner)


PATCHES: dict[str, Patch] = {
    "any-key-welcomed": _finds(lambda entries, text: next(iter(entries.values()))),
    "key-by-id-only": _finds(_by_id),
    "scheme-ignored": _scheme,
    "unknown-id-told": _tells_ids,
    "secret-kept": _keeps_secrets,
    "keys-of-another-form": lambda p: p.set(keys, "_new_key", lambda key_id: (f"xtk_{key_id}_short", "0" * 64)),
    "refusals-uncounted": lambda p: p.set(CollectorServer, "refused", lambda self, code, peer, reason: None),
    "key-logged": _logs_keys,
    "keys-read-once": lambda p: p.set(Keyring, "_refresh", lambda self: None),
    "sessions-outlive-keys": lambda p: p.set(CollectorServer, "_check_keys", lambda self: None),
    "grace-ignored": lambda p: p.set(keys, "_holding", lambda entry, now_us: []),
    "guesses-free": lambda p: p.set(KeyGuesses, "wait", lambda self, address, now: 0.0),
    "unreadable-keys-are-none": _unreadable_is_none,
    "unreadable-is-unauthorized": _unreadable_is_wrong,
    "any-owner-named": _any_owner,
    "owner-limit-100": _short_owners,
    "owners-are-identifiers": lambda p: p.set(
        keys, "unfit_name", lambda name, most=0: None if re.fullmatch(r"[\w.-]{2,}", name, re.ASCII) else "is no name"
    ),
    "owners-normalised": _principals(_same_letters),
    "owner-is-the-key": _principals(lambda principal, entry: attrs.evolve(principal, owner=entry.id)),
    "experiment-ignored": _principals(lambda principal, entry: attrs.evolve(principal, experiment=None)),
    "rights-ignored": _no_right("_check_right"),
    "owners-ignored": _no_right("_check_writer"),
    "commands-of-all": _no_right("may_command"),
    "readers-ignored": lambda p: p.set(RunAccess, "may_read", lambda self, owner: True),
    "hidden-runs-told": _tells_hidden,
    "unowned-claimed": _unowned,
    "grants-forgotten": _grants_forgotten,
    "readers-write": lambda p: p.around(
        RunAccess, "may_write", lambda o, self, owner: o(self, owner) or self.public or owner in self.readers
    ),
    "only-the-newest-key": _only_the_newest,
    "rights-need-both": _needs_both,
    "experiment-keys-read-alone": _experiment_keys_read,
    "owner-needs-a-grant": lambda p: p.set(
        RunAccess, "may_read", lambda self, owner: self.public or owner in self.readers or owner in self.writers
    ),
    "public-ignored": lambda p: p.around(
        RunAccess,
        "may_read",
        lambda o, self, owner: attrs.evolve(self, public=False).public or o(_private(self), owner),
    ),
}


def _private(access: RunAccess) -> RunAccess:
    return attrs.evolve(access, public=False)
