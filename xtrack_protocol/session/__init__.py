"""How two peers talk: streams and their sequence numbers, and both ends of a connection. No I/O; time is an argument.

``EmitterSession`` and ``CollectorSession`` take the bytes that came and the time; they return what these mean, what to
send, and when to look again. Their transition tables are data, in ``_tables``. spec: CTL-5, VER-3
"""

from typing import TYPE_CHECKING

from xtrack_protocol._lazy import lazily

if TYPE_CHECKING:
    from xtrack_protocol.session._incoming import CollectorLimits
    from xtrack_protocol.session._tables import FEATURE_COMMANDS, FEATURE_FOLLOW, ConnectionState, StreamState
    from xtrack_protocol.session.backoff import Backoff
    from xtrack_protocol.session.collector import Authenticate, CollectorSession
    from xtrack_protocol.session.emitter import EmitterSession
    from xtrack_protocol.session.events import (
        Acked,
        CollectorEvent,
        CommandReceived,
        CommandRequested,
        CommandResultReceived,
        Drained,
        EmitterEvent,
        EventPublished,
        EventsReceived,
        FellBack,
        FrameRefused,
        HelloReceived,
        PeerFailed,
        PeerGone,
        PeerRefused,
        PlainPeer,
        Refusal,
        Rejected,
        Rewound,
        SkipDeclared,
        StreamHeld,
        StreamOpened,
        StreamOpenRequested,
        StreamRefused,
        SubscribeRequested,
        SubscriptionEnded,
        SubscriptionStarted,
        UnsubscribeRequested,
        Welcomed,
        WindowOpened,
    )
    from xtrack_protocol.session.published import as_published, published_payload
    from xtrack_protocol.session.rangeset import RangeSet
    from xtrack_protocol.session.streams import LEGACY_PREFIX, StreamId, StreamResolver
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "_incoming": ("CollectorLimits",),
            "_tables": ("FEATURE_COMMANDS", "FEATURE_FOLLOW", "ConnectionState", "StreamState"),
            "backoff": ("Backoff",),
            "collector": ("Authenticate", "CollectorSession"),
            "emitter": ("EmitterSession",),
            "events": (
                "Acked",
                "CollectorEvent",
                "CommandReceived",
                "CommandRequested",
                "CommandResultReceived",
                "Drained",
                "EmitterEvent",
                "EventPublished",
                "EventsReceived",
                "FellBack",
                "FrameRefused",
                "HelloReceived",
                "PeerFailed",
                "PeerGone",
                "PeerRefused",
                "PlainPeer",
                "Refusal",
                "Rejected",
                "Rewound",
                "SkipDeclared",
                "StreamHeld",
                "StreamOpened",
                "StreamOpenRequested",
                "StreamRefused",
                "SubscribeRequested",
                "SubscriptionEnded",
                "SubscriptionStarted",
                "UnsubscribeRequested",
                "Welcomed",
                "WindowOpened",
            ),
            "published": ("as_published", "published_payload"),
            "rangeset": ("RangeSet",),
            "streams": ("LEGACY_PREFIX", "StreamId", "StreamResolver"),
        },
    )

__all__ = [
    "FEATURE_COMMANDS",
    "FEATURE_FOLLOW",
    "LEGACY_PREFIX",
    "Acked",
    "Authenticate",
    "Backoff",
    "CollectorEvent",
    "CollectorLimits",
    "CollectorSession",
    "CommandReceived",
    "CommandRequested",
    "CommandResultReceived",
    "ConnectionState",
    "Drained",
    "EmitterEvent",
    "EmitterSession",
    "EventPublished",
    "EventsReceived",
    "FellBack",
    "FrameRefused",
    "HelloReceived",
    "PeerFailed",
    "PeerGone",
    "PeerRefused",
    "PlainPeer",
    "RangeSet",
    "Refusal",
    "Rejected",
    "Rewound",
    "SkipDeclared",
    "StreamHeld",
    "StreamId",
    "StreamOpenRequested",
    "StreamOpened",
    "StreamRefused",
    "StreamResolver",
    "StreamState",
    "SubscribeRequested",
    "SubscriptionEnded",
    "SubscriptionStarted",
    "UnsubscribeRequested",
    "Welcomed",
    "WindowOpened",
    "as_published",
    "published_payload",
]
