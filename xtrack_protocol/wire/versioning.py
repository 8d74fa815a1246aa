"""Which protocol version and which codec two peers speak. Pure functions. spec: VER-1"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from xtrack_protocol.ir import Hello
from xtrack_protocol.wire.codec import Codec

PROTOCOL_VERSION: Final = 1
"""The protocol's version, apart from this package's. It changes only when something is removed, changes its meaning,
or the framing or the envelope changes. spec: VER-1"""

SUPPORTED_VERSIONS: Final = (1,)
SUPPORTED_CODECS: Final[tuple[Codec, ...]] = ("json", "msgpack")


@attrs.frozen
class Agreement:
    """What two peers speak from now on."""

    protocol: int
    codec: Codec
    features: tuple[str, ...] = ()


@attrs.frozen
class Disagreement:
    """Why two peers can't speak: a ``code`` for the reject, and its text."""

    code: str
    message: str


def negotiate(
    hello: Hello,
    *,
    versions: Sequence[int] = SUPPORTED_VERSIONS,
    codecs: Sequence[Codec] = SUPPORTED_CODECS,
    features: Sequence[str] = (),
) -> Agreement | Disagreement:
    """Choose what to speak with a peer that said ``hello``.

    The highest version both know; of the peer's codecs, in its order, the first we know, and JSON, which every peer
    speaks, where it names none of ours; the features both have, in our order. spec: VER-2
    """
    common = [version for version in hello.protocols if version in versions]
    if not common:
        theirs = ", ".join(map(str, hello.protocols)) or "none"
        ours = ", ".join(map(str, versions))
        return Disagreement("unsupported_version", f"you speak protocol {theirs}, this collector {ours}")
    codec: Codec = next((ours for name in hello.codecs for ours in codecs if ours == name), "json")
    return Agreement(max(common), codec, tuple(feature for feature in features if feature in hello.features))


def fallback() -> Agreement:
    """Return what is spoken with a peer that never answers a hello, or never says one. spec: VER-3"""
    return Agreement(PROTOCOL_VERSION, "json")
