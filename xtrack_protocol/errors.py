"""Every error this package raises.

::

    XTrackError
    ├── ConfigurationError      a setting, an argument or the environment is wrong
    ├── WireError               bytes and events don't fit together
    │   ├── EncodeError         an event can't be written
    │   └── DecodeError         bytes are no legal frame; carries the class, the offset and the field
    ├── SessionError            two peers don't get on with each other
    │   ├── LocalSessionError   this side asks for what the state of the session doesn't allow
    │   └── RemoteSessionError  the other side has broken a rule; the session is over
    ├── SpoolError              a spool can't be written or read
    │   └── NotASegment         a file is no segment of checked records
    ├── TransportError          events can't be handed on
    │   ├── TransportClosed     the other side is gone, or close() was called
    │   └── CollectorRefused    a collector won't have this connection, stream or request
    ├── StorageError            a store refuses or is damaged
    │   ├── RunNotFound
    │   ├── RunDeleted          a run was deleted, and its id isn't used again
    │   ├── AmbiguousRun        several runs match what was asked for
    │   ├── ExperimentNotFound
    │   ├── ExperimentExists
    │   ├── NotAStore           a file is no store of ours
    │   ├── StoreVersionError   a store was written by a newer version
    │   ├── StoreLocked         another process holds the store for too long
    │   ├── StoreFull           the disk has no room for what was to be written
    │   ├── StoreReadOnly       the store was opened for reading, or may only be read
    │   ├── StoreUnavailable    a store's file isn't there, or the disk under it fails
    │   └── StoreCorrupt        a store's own check failed
    ├── LaunchError             a worker process can't be started or reached
    │   ├── CommandNotFound
    │   └── CommandNotExecutable
    └── RunEnded                a call on a run that has ended (strict mode only)

Every error says what was wrong, where, and what to do about it, and carries these facts as attributes.
Errors about bytes never stop a reader: a decoder returns them inside frames, and raises only where one
single frame was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

ErrorClass = Literal[
    "truncated",
    "frame_too_large",
    "empty_frame",
    "bad_utf8",
    "bad_json",
    "too_deep",
    "bad_envelope",
    "unsupported_version",
    "missing_field",
    "bad_type",
    "bad_value",
    "out_of_range",
    "bad_checksum",
]
"""What is wrong with a frame. A frame with several faults has the one that stands first here. ``bad_checksum``
occurs in checked records at rest only. spec: ERR-1, ERR-2, RST-3"""

ERROR_CLASSES: tuple[ErrorClass, ...] = get_args(ErrorClass)
"""The error classes in order of precedence. spec: ERR-2"""


class XTrackError(Exception):
    """The root of all errors of this package. They can be pickled and copied, facts included."""

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.args, self.__dict__.copy())


def _restore(cls: type[XTrackError], args: tuple[object, ...], facts: dict[str, object]) -> XTrackError:
    """Make an error without its constructor, which takes the facts that its message was made of."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class ConfigurationError(XTrackError, ValueError):
    """A setting is wrong: ``setting`` names it, ``value`` is what was given, ``cure`` what to do."""

    def __init__(self, setting: str, value: object, problem: str, cure: str = "") -> None:
        self.setting = setting
        self.value = value
        self.cure = cure
        super().__init__(f"{setting}={value!r}: {problem}" + (f". {cure}" if cure else ""))


class WireError(XTrackError, ValueError):
    """Bytes and events don't fit together."""


class EncodeError(WireError):
    """An event can't be written: ``reason``, and ``path`` to the value (``p.value``)."""

    def __init__(self, reason: str, path: str = "") -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"{path}: {reason}" if path else reason)


class DecodeError(WireError):
    """Bytes are no legal frame.

    ``kind`` is the error's class, ``offset`` the absolute offset in bytes of the frame's first byte, ``length``
    the number of bytes from there that are unusable, ``path`` the field (``p.value``), ``fatal`` whether the
    connection can't go on. spec: ERR-1, ERR-3, FRM-5
    """

    def __init__(
        self,
        kind: ErrorClass,
        reason: str,
        *,
        offset: int = 0,
        length: int = 0,
        path: str = "",
        fatal: bool = False,
    ) -> None:
        self.kind: ErrorClass = kind
        self.reason = reason
        self.offset = offset
        self.length = length
        self.path = path
        self.fatal = fatal
        super().__init__(kind, reason, offset)

    def __str__(self) -> str:
        where = f" at {self.path}" if self.path else ""
        return f"{self.kind}{where}, frame at byte {self.offset}: {self.reason}"

    def at(self, offset: int, length: int) -> DecodeError:
        """Return the same error, placed at the bytes ``[offset, offset + length)``."""
        return DecodeError(self.kind, self.reason, offset=offset, length=length, path=self.path, fatal=self.fatal)


class SessionError(XTrackError):
    """Two peers don't get on with each other."""


class LocalSessionError(SessionError, RuntimeError):
    """This side asks for what the session doesn't allow: ``call``, the ``state`` it is in, and ``problem``."""

    def __init__(self, call: str, state: str, problem: str) -> None:
        self.call = call
        self.state = state
        self.problem = problem
        super().__init__(f"{call} in state {state!r}: {problem}")


class RemoteSessionError(SessionError):
    """The other side has broken a rule, and the connection can't go on.

    ``code``: a class of ERR-1 where its bytes are no frames, else ``protocol_error``. ``reason``: which rule.
    """

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code}: {reason}")


class SpoolError(XTrackError, OSError):
    """A spool can't be written or read: ``path``, ``problem`` and ``cure``."""

    def __init__(self, path: object, problem: str, cure: str = "") -> None:
        self.path = str(path)
        self.problem = problem
        self.cure = cure
        super().__init__(f"{path}: {problem}" + (f". {cure}" if cure else ""))


class NotASegment(SpoolError):
    """A file doesn't begin with the header of a segment. spec: RST-2"""


class TransportError(XTrackError, OSError):
    """Events can't be handed on: ``address`` names where to, ``problem`` why, ``cure`` what to do."""

    def __init__(self, address: str, problem: str, cure: str = "") -> None:
        self.address = address
        self.problem = problem
        self.cure = cure
        super().__init__(f"{address}: {problem}" + (f". {cure}" if cure else ""))


class TransportClosed(TransportError):
    """The other side is gone, or close() was called."""


class CollectorRefused(TransportError):
    """A collector won't have this connection, stream or request: ``code`` of the protocol (spec: CTL-7), ``problem``.

    ``retry_after``: seconds before which it wants no new connection; None where it named none.
    """

    def __init__(
        self, address: str, code: str, problem: str, cure: str = "", *, retry_after: float | None = None
    ) -> None:
        self.code = code
        self.retry_after = retry_after
        super().__init__(address, f"{problem} ({code})" if code not in problem else problem, cure)


class StorageError(XTrackError):
    """A store refuses, or is damaged."""


class RunNotFound(StorageError, LookupError):
    """No run goes by ``run``."""

    def __init__(self, run: str, cure: str = "`xtrack ls` lists the runs there are") -> None:
        self.run = run
        self.cure = cure
        super().__init__(f"no run {run!r}. {cure}")


class RunDeleted(StorageError):
    """The run ``run`` was deleted; what is left of it keeps anybody from using its id again. spec: FLD-9"""

    def __init__(self, run: str) -> None:
        self.run = run
        super().__init__(f"run {run!r} was deleted; give the new run another id")


class AmbiguousRun(StorageError, LookupError):
    """Several runs match ``prefix``; ``matches`` are their ids."""

    def __init__(self, prefix: str, matches: Sequence[str]) -> None:
        self.prefix = prefix
        self.matches = tuple(matches)
        shown = ", ".join(self.matches[:5]) + (", ..." if len(self.matches) > 5 else "")
        super().__init__(f"{prefix!r} is the start of {len(self.matches)} run ids: {shown}. Give more of the id")


class ExperimentNotFound(StorageError, LookupError):
    """No experiment goes by ``experiment``."""

    def __init__(self, experiment: str) -> None:
        self.experiment = experiment
        super().__init__(f"no experiment {experiment!r}")


class ExperimentExists(StorageError):
    """An experiment named ``name`` is there already."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"an experiment named {name!r} exists already. Get it by its name, or choose another")


class _StoreFileError(StorageError):
    def __init__(self, path: object, problem: str) -> None:
        self.path = str(path)
        super().__init__(f"{path}: {problem}")


class NotAStore(_StoreFileError):
    """The file at ``path`` is no store of ours."""


class StoreVersionError(_StoreFileError):
    """The store at ``path`` has schema ``found``; this version of the package knows up to ``supported``."""

    def __init__(self, path: object, found: int, supported: int) -> None:
        self.found = found
        self.supported = supported
        super().__init__(
            path,
            f"was written by a newer version of xtrack-protocol (its schema is {found}, this version knows up to "
            f"{supported}). Upgrade with `pip install -U xtrack-protocol`",
        )


class StoreLocked(_StoreFileError):
    """Another process held the store at ``path`` for longer than ``seconds``."""

    def __init__(self, path: object, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(
            path, f"another process has held it locked for more than {seconds:g} s. Wait for that process, or end it"
        )


class StoreFull(_StoreFileError):
    """The disk under the store at ``path`` is full. What was there before is unharmed."""

    def __init__(self, path: object) -> None:
        super().__init__(path, "the disk is full; nothing of this write was kept. Free some space and write again")


class StoreReadOnly(_StoreFileError):
    """The store at ``path`` can only be read: it was opened so, or its file or file system is read-only."""

    def __init__(
        self, path: object, problem: str = "it can only be read. Open it for writing where it is writable"
    ) -> None:
        super().__init__(path, problem)


class StoreUnavailable(_StoreFileError):
    """The file at ``path`` can't be opened, made, read or written: it isn't there, or the disk under it fails."""


class StoreCorrupt(_StoreFileError):
    """The store at ``path`` failed its own check; ``details`` lists what was found."""

    def __init__(self, path: object, details: Sequence[str]) -> None:
        self.details = tuple(details)
        super().__init__(path, "is damaged: " + "; ".join(self.details[:5]))


class LaunchError(XTrackError):
    """A worker process can't be started or reached."""


class CommandNotFound(LaunchError):
    """The worker's ``command`` isn't there."""

    def __init__(self, command: str) -> None:
        self.command = command
        super().__init__(f"{command}: command not found. Check the spelling and PATH")


class CommandNotExecutable(LaunchError):
    """The worker's ``command`` is there and can't be executed."""

    def __init__(self, command: str, problem: str) -> None:
        self.command = command
        super().__init__(f"{command}: can't be executed: {problem}")


class RunEnded(XTrackError):
    """A call on a run that has ended already. Raised only in strict mode; otherwise it is a warning and a count."""

    def __init__(self, run_id: str, call: str) -> None:
        self.run_id = run_id
        self.call = call
        super().__init__(f"{call} on run {run_id!r}, which has ended. Tracker.attach({run_id!r}) can still tag it")
