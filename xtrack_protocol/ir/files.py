"""Events that point at files. The files themselves never cross the wire."""

import re
from typing import Final, Literal, TypeAlias

from msgspec import field
from msgspec.structs import force_setattr

from xtrack_protocol.ir._slots import Int64, Json, Number, WireStruct
from xtrack_protocol.ir.identity import RunId

UploadStrategy: TypeAlias = Literal["reference", "inline", "stream"]
"""How an artifact's bytes are to be had. Closed. spec: EVT-ARTIFACT-4, VAL-6"""

ARTIFACT_TYPES = (
    "model",
    "checkpoint",
    "weights",
    "config",
    "plot",
    "figure",
    "image",
    "data",
    "predictions",
    "embeddings",
    "log",
    "profile",
    "other",
)
"""Well-known artifact types; any other text is legal. spec: EVT-ARTIFACT-2, VAL-7"""


_SHA256: Final = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


def checksum_sha256(checksum: str) -> str | None:
    """Return the SHA-256 that an artifact's ``checksum`` names, as 64 lower-case hexadecimal digits.

    Legacy workers send the digits without ``sha256:``. None for a checksum of any other form, which is legal too.
    spec: VAL-8
    """
    match = _SHA256.fullmatch(checksum)
    return match[1].lower() if match else None


class Artifact(WireStruct, frozen=True):
    """A file that a run made. spec: EVT-ARTIFACT-1

    ``path``: as the worker sees it, never opened by a collector. ``artifact_type`` (``type``). ``name``: for
    people. ``metadata`` (``meta``): any JSON. ``size_bytes`` (``size``). ``checksum``: ``sha256:<hex>``; a SHA-256 that
    is given in capitals or as bare hex becomes that (spec: VAL-8). ``upload_strategy`` (``upload``).
    """

    run_id: str | RunId
    path: str
    artifact_type: str | None = field(name="type", default=None)
    name: str | None = None
    metadata: dict[str, Json] = field(name="meta", default_factory=dict)
    size_bytes: Int64 | None = field(name="size", default=None)
    checksum: str | None = None
    upload_strategy: UploadStrategy | None = field(name="upload", default=None)

    def __post_init__(self) -> None:
        """Give a SHA-256 the one form that is written, so that it equals itself in any other."""
        digest = checksum_sha256(self.checksum) if isinstance(self.checksum, str) else None
        if digest is not None:
            force_setattr(self, "checksum", f"sha256:{digest}")


class Checkpoint(WireStruct, frozen=True):
    """A saved state of training. spec: EVT-CHECKPOINT-1

    ``step``, ``epoch``; ``path`` as the worker sees it; ``metrics_snapshot`` (``metrics``): number by name at that
    step; ``is_best``: the best so far by ``best_metric_key`` (``best_key``); ``metadata`` (``meta``): any JSON.
    """

    run_id: str | RunId
    step: Int64
    path: str
    epoch: Int64 | None = None
    metrics_snapshot: dict[str, Number] = field(name="metrics", default_factory=dict)
    is_best: bool = False
    best_metric_key: str | None = field(name="best_key", default=None)
    metadata: dict[str, Json] = field(name="meta", default_factory=dict)
