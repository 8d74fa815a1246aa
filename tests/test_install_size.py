"""How much of a disk ``pip install xtrack-protocol`` takes, without the bytecode that pip makes of it."""

from __future__ import annotations

import gzip
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path

import xtrack_conformance
import xtrack_protocol

INSTALLED_MAX = 6_000_000
"""Bytes in all. Images of containers are pulled to each machine of a cluster."""

REQUIRED = ("attrs", "cattrs", "msgspec", "typing-extensions")
PACKED = ("cases", "requirements")
"""What the wheel has packed: see hatch_build.py."""


def sizes_of(name: str) -> Counter[str]:
    """The bytes of a distribution's files, by the folder that they are in."""
    found: Counter[str] = Counter()
    for file in distribution(name).files or ():
        if file.suffix != ".pyc" and ".." not in file.parts:
            found[f"{name}: {file.parts[0]}"] += Path(str(file.locate())).stat().st_size
    return found


def sizes_of_ours() -> Counter[str]:
    files = {str(file) for file in distribution("xtrack-protocol").files or ()}
    if "xtrack_protocol/__init__.py" in files:
        return sizes_of("xtrack-protocol")
    suite = Path(xtrack_conformance.__file__).parent  # of the source tree, with what the wheel takes of it
    testees = [suite.parent / "testees" / name for name in ("javascript", "python")]
    found: Counter[str] = Counter()
    for folder in (Path(xtrack_protocol.__file__).parent, suite, *testees):
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                is_packed = path.suffix == ".json" and path.parent in [suite / name for name in PACKED]
                size = len(gzip.compress(path.read_bytes())) if is_packed else path.stat().st_size
                found[f"xtrack-protocol: {folder.name}"] += size
    return found


def test_an_installation_is_small():
    sizes = sizes_of_ours()
    for name in REQUIRED:
        sizes += sizes_of(name)
    assert sum(sizes.values()) <= INSTALLED_MAX, sizes.most_common()
    assert len(sizes) >= 2 + len(REQUIRED)  # nothing was overlooked


def test_packed_data_is_read_as_plain(tmp_path, monkeypatch):
    from xtrack_conformance import data

    plain = {name: data.json_files(name) for name in PACKED}
    for name, texts in plain.items():
        (tmp_path / name).mkdir()
        for file, text in texts.items():
            (tmp_path / name / f"{file}.gz").write_bytes(gzip.compress(text.encode()))
    monkeypatch.setattr(data.resources, "files", lambda _package: tmp_path)
    for name, texts in plain.items():
        assert data.json_files(name) == texts
        assert list(texts) == sorted(texts)
        assert texts
