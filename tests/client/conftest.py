"""What the client's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from remote_workers import serving

from xtrack_protocol.server.server import CollectorServer
from xtrack_protocol.storage import MemoryStore


@pytest.fixture
def server() -> Iterator[CollectorServer]:
    with serving(MemoryStore()) as one:
        yield one
