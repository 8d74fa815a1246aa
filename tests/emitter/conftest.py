"""What the tests of the emitter use: a spool of their own, scripts in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts import Script, scripts_in

from xtrack_protocol.emitter import Run, Tracker
from xtrack_protocol.ir import Envelope
from xtrack_protocol.runs import RunState
from xtrack_protocol.session import StreamId
from xtrack_protocol.spool import SpoolDir, open_segment, read_segment, segments
from xtrack_protocol.storage.local import LocalStore
from xtrack_protocol.transport import MemoryTransport
from xtrack_protocol.wire import Damage, Record, decode


class Spool:
    """A spool under a folder, read without an index."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def streams(self) -> dict[StreamId, list[Envelope]]:
        """Return each stream's events in the order of the file. Damage is an error."""
        found: dict[StreamId, list[Envelope]] = {}
        for folder in SpoolDir(self.root).run_dirs():
            for path in segments(folder):
                segment = open_segment(path)
                assert segment is not None
                for item, _ in read_segment(segment, finished=False):
                    assert not isinstance(item, Damage)
                    if isinstance(item, Record):
                        found.setdefault(segment.stream, []).append(decode(item.payload))
        return found

    def events(self) -> list[Envelope]:
        """Return the events of the only stream there is."""
        ((_, events),) = self.streams().items()
        return events

    def state(self, run_id: str | None = None) -> RunState:
        """Return the state of a run, or of the only one."""
        with LocalStore(self.root) as store:
            if run_id is None:
                (run,) = store.list_runs()
                return run
            return store.get_run(run_id)


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    """A spool that XTRACK_DIR names; no other variable of ours or of a launcher is set, and the folder is nobody's
    repository.
    """
    for name in list(os.environ):
        if name.startswith(("XTRACK_", "SLURM_", "OMPI_", "PMI", "TORCHELASTIC_")) or name in {"RANK", "WORLD_SIZE"}:
            monkeypatch.delenv(name)
    root = tmp_path / "home"
    monkeypatch.setenv("XTRACK_DIR", str(root))
    monkeypatch.setenv("XTRACK_QUIET", "1")
    monkeypatch.chdir(tmp_path)
    return Spool(root)


class Memory:
    """A run whose events stay in this process."""

    def __init__(self, run: Run, transport: MemoryTransport) -> None:
        self.run = run
        self.transport = transport

    @property
    def sent(self) -> list[Envelope]:
        """What was sent after run_start and the first status."""
        return self.transport.events[2:]

    @property
    def last(self) -> object:
        """The payload that was sent last."""
        return self.sent[-1].payload


@pytest.fixture
def memory(spool: Spool) -> Iterator[Memory]:
    """A run in normal mode, in memory."""
    transport = MemoryTransport()
    run = Tracker.start_run(transport=transport, run_id="r")
    yield Memory(run, transport)
    run.end()


@pytest.fixture
def strict(spool: Spool) -> Iterator[Memory]:
    """A run in strict mode, in memory."""
    transport = MemoryTransport()
    run = Tracker.start_run(transport=transport, run_id="r", strict=True)
    yield Memory(run, transport)
    run.end()


@pytest.fixture
def script(spool: Spool, tmp_path: Path) -> Script:
    """Run Python code in a process of its own, as a script; it may take 60 s."""
    return scripts_in(tmp_path)
