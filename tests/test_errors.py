"""The tree of errors: facts as attributes, sentences for people."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from xtrack_protocol import errors
from xtrack_protocol.errors import (
    AmbiguousRun,
    CommandNotExecutable,
    CommandNotFound,
    ConfigurationError,
    DecodeError,
    EncodeError,
    ExperimentExists,
    ExperimentNotFound,
    LaunchError,
    NotASegment,
    NotAStore,
    RunDeleted,
    RunEnded,
    RunNotFound,
    SpoolError,
    StorageError,
    StoreCorrupt,
    StoreLocked,
    StoreVersionError,
    TransportClosed,
    TransportError,
    WireError,
    XTrackError,
)

SAMPLES = [
    ConfigurationError("transport", "tpc", "unknown", "use tcp"),
    WireError("x"),
    EncodeError("no JSON", "p.value"),
    EncodeError("no JSON"),
    DecodeError("bad_json", "broken", offset=7, length=9, path="p.x", fatal=True),
    DecodeError("truncated", "cut"),
    SpoolError("/spool", "is full", "make room"),
    NotASegment("/x", "no header"),
    TransportError("unix:/x", "refused", "start it"),
    TransportClosed("unix:/x", "gone"),
    StorageError("x"),
    RunNotFound("abc"),
    RunDeleted("abc"),
    AmbiguousRun("a", ["a1", "a2"]),
    ExperimentNotFound("e"),
    ExperimentExists("e"),
    NotAStore("/x", "is a text"),
    StoreVersionError("/x", 9, 3),
    StoreLocked("/x", 5.0),
    StoreCorrupt("/x", ["page 3"]),
    LaunchError("x"),
    CommandNotFound("trian"),
    CommandNotExecutable("train", "permission denied"),
    RunEnded("r", "log_metric"),
]


def all_errors() -> set[type[XTrackError]]:
    return {
        cls
        for name, cls in vars(errors).items()
        if inspect.isclass(cls) and issubclass(cls, XTrackError) and not name.startswith("_")
    }


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_errors_survive_copying_and_pickling(error: XTrackError) -> None:
    """They cross process boundaries: pools, test runners, queues."""
    for again in (copy.copy(error), copy.deepcopy(error), *(pickle.loads(pickle.dumps(error, n)) for n in range(2, 6))):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args == error.args
        assert vars(again) == vars(error)


def test_every_error_is_in_the_tree_of_the_docstring() -> None:
    drawn = re.findall(r"(?:├──|└──) (\w+)", errors.__doc__ or "")
    assert set(drawn) | {"XTrackError"} == {cls.__name__ for cls in all_errors()}
    assert len(drawn) == len(set(drawn))


def test_every_error_has_a_docstring() -> None:
    assert all(cls.__doc__ for cls in all_errors())


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (ConfigurationError, ValueError),
        (DecodeError, ValueError),
        (EncodeError, ValueError),
        (TransportError, OSError),
        (SpoolError, OSError),
        (RunNotFound, LookupError),
        (AmbiguousRun, LookupError),
    ],
)
def test_errors_are_what_the_standard_library_would_raise(cls: type, base: type) -> None:
    assert issubclass(cls, base)


def test_messages_tell_what_where_and_what_to_do() -> None:
    messages = {type(error).__name__: str(error) for error in SAMPLES}
    assert messages["ConfigurationError"] == "transport='tpc': unknown. use tcp"
    assert str(SAMPLES[4]) == "bad_json at p.x, frame at byte 7: broken"
    assert str(EncodeError("no JSON", "p.value")) == "p.value: no JSON"
    assert "make room" in messages["SpoolError"]
    assert "a1, a2" in messages["AmbiguousRun"]
    assert "pip install -U" in messages["StoreVersionError"]
    assert "Tracker.attach('r')" in messages["RunEnded"]


def test_many_matches_are_cut() -> None:
    assert str(AmbiguousRun("a", [f"a{n}" for n in range(9)])).count("a") < 30


def test_at_places_the_same_error() -> None:
    error = DecodeError("bad_json", "broken", path="p.x", fatal=True)
    placed = error.at(100, 20)
    assert (placed.offset, placed.length) == (100, 20)
    assert (placed.kind, placed.reason, placed.path, placed.fatal) == ("bad_json", "broken", "p.x", True)
    assert (error.offset, error.length) == (0, 0)


def test_error_classes_are_in_order_of_precedence() -> None:
    assert errors.ERROR_CLASSES == (
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
    )
