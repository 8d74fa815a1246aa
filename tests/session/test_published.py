"""What a plain peer is sent, and when to come back to one that is gone."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from session_machines import (
    STREAM,
    S,
    emitter_in,
    event,
    event_frame,
    event_payload,
)

from xtrack_protocol.errors import LocalSessionError, RemoteSessionError, SessionError
from xtrack_protocol.ir import (
    Alert,
    LogEntry,
    RunStart,
    Summary,
    Tags,
    UnknownEvent,
)
from xtrack_protocol.limits import FRAME_MAX_EMIT
from xtrack_protocol.session import (
    Backoff,
    as_published,
    published_payload,
)
from xtrack_protocol.wire import FrameDecoder, decode, encode

# ---------------------------------------------------------------------------------------------- the published form


@pytest.mark.parametrize(
    ("added", "published"),
    [
        (Tags("r", {"a": "b"}), LogEntry("r", "info", "tags", "xtrack", fields={"a": "b"})),
        (Summary("r", {"a": 1.5}), LogEntry("r", "info", "summary", "xtrack", fields={"a": 1.5})),
        (Alert("r", "title", "text", "error"), LogEntry("r", "error", "title: text", "xtrack")),
        (Alert("r", "title"), LogEntry("r", "warning", "title", "xtrack")),
        (UnknownEvent("later", {"run_id": "r", "x": [1]}),
         LogEntry("r", "info", "later", "xtrack", fields={"run_id": "r", "x": [1]})),
        (UnknownEvent("later", {"run_id": {"id": "r"}}),
         LogEntry("r", "info", "later", "xtrack", fields={"run_id": {"id": "r"}})),
    ],
    ids=lambda payload: type(payload).__name__,
)  # fmt: skip
def test_what_a_plain_peer_gets_instead(added: object, published: object) -> None:
    assert as_published(added) == published  # type: ignore[arg-type]
    session = emitter_in(S.PLAIN)
    assert session.offer(STREAM, 1, encode(event(1, added)))  # type: ignore[arg-type]
    [frame] = FrameDecoder().feed(session.data_to_send())
    assert frame.envelope == event(1, published)  # type: ignore[arg-type]


def test_published_events_stay_as_they_are_to_the_byte() -> None:
    for payload in (
        b'{"v":1, "t":"metric", "m":{"ts":1,"seq":1}, "p":{"run_id":"r","key":"k","value":NaN,"later":[1]}}',
        encode(event(1, RunStart("r", world_size=4))),
    ):
        assert published_payload(payload) == payload


def test_an_event_that_nothing_can_stand_for_is_a_gap_there() -> None:
    session = emitter_in(S.PLAIN)
    assert session.offer(STREAM, 1, encode(event(1, UnknownEvent("later", {"x": 1}))))
    assert session.offer(STREAM, 2, event_payload(2))
    assert session.data_to_send() == event_frame(2)


@pytest.mark.parametrize(
    "make",
    [
        lambda text: Tags("r", {"k": text}),
        lambda text: Alert("r", "t", text),
        lambda text: UnknownEvent("later", {"run_id": "r", "x": text}),
    ],
    ids=["tags", "alert", "later"],
)
def test_a_published_form_that_would_be_too_large(make: Callable[[str], Any]) -> None:
    room = FRAME_MAX_EMIT - len(encode(event(1, make(""))))
    payload = encode(event(1, make("x" * (room - 7))))
    assert FRAME_MAX_EMIT - 7 >= len(payload) > FRAME_MAX_EMIT - 30
    published = published_payload(payload)
    assert published is not None
    assert len(published) <= FRAME_MAX_EMIT
    log = decode(published).payload
    assert isinstance(log, LogEntry)
    assert "xtrack.cut" in log.fields


# ---------------------------------------------------------------------------------------------- coming back


def test_backoff_doubles_to_its_end_and_never_gives_up() -> None:
    backoff = Backoff()
    assert [round(backoff.next_delay(1.0), 3) for _ in range(11)] == [
        0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0,
    ]  # fmt: skip
    for _ in range(5000):
        assert 0 <= backoff.next_delay(0.999) <= 30
    assert backoff.next_delay(0.0) == 0.0
    backoff.reset()
    assert backoff.next_delay(1.0) == 0.1


@pytest.mark.parametrize(
    ("named", "obeyed"),
    [(5, 5), (0.5, 0.5), (0, 0), (-3, 0), (math.nan, 0), (math.inf, 3600), (1e300, 3600), (None, 0), (2**62, 3600)],
)
def test_retry_after(named: float | None, obeyed: float) -> None:
    assert Backoff().next_delay(0.0, named) == obeyed
    assert Backoff().next_delay(1.0, named) == obeyed + 0.1


def test_errors_can_be_pickled() -> None:
    for error in (LocalSessionError("offer", "closed", "no"), RemoteSessionError("protocol_error", "why")):
        copy = pickle.loads(pickle.dumps(error))
        assert isinstance(copy, SessionError)
        assert (str(copy), vars(copy)) == (str(error), vars(error))
