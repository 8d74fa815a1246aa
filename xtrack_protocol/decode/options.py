"""The flags of ``xtrack decode``: one table, from which both of its command lines are made."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any, Final, Literal

import attrs

from xtrack_protocol.decode.text import parse_since
from xtrack_protocol.errors import ConfigurationError
from xtrack_protocol.ir import ENVELOPES
from xtrack_protocol.limits import FILE_LIMITS, FRAME_HARD_MAX, DecodeLimits

JOBS_MAX: Final = 256
"""Processes that decode at most: each takes some 20 MiB."""

Format = Literal["text", "jsonl"]

SUMMARY: Final = "Decode captured frames and spool segments, damaged ones too."

DESCRIPTION: Final = """\
FILE is a file of plain frames or a segment of a spool (.xseg), told apart by their first bytes; - is standard input.
Where a file is damaged, the damage is reported and reading goes on behind it.

--format jsonl writes one object a frame: {"file", "offset", "length", "event": {"v", "t", "m", "p"}} with the payload's
length in bytes, or {"file", "offset", "length", "error", "reason"} for bytes that hold no good frame, of which length
counts all, from offset on. "verified": false marks what was recovered behind damage to a length.

A summary goes to standard error. Exit status: 0 when every frame was good, 1 when some were not, 2 for wrong usage, or
a file that can't be read or is no XTrack file."""

EXAMPLES: Final = """\
Examples:
  xtrack decode run.bin
  xtrack decode --format jsonl --type metric run.bin | jq .event.p.value
  xtrack decode --hex --raw damaged.bin
  xtrack decode --follow ~/.xtrack/spool/RUN/*.xseg
  nc -lU /tmp/xtrack.sock | xtrack decode -"""


@attrs.frozen(kw_only=True)
class Flag:
    """One flag: ``kind`` switch takes no value, value takes one, values may be given several times."""

    name: str
    kind: Literal["switch", "value", "values"]
    doc: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    default: str | None = None

    @property
    def key(self) -> str:
        """The name of its value in :func:`make_options`."""
        return self.name.lstrip("-").replace("-", "_")


FLAGS: Final = (
    Flag(name="--format", kind="value", choices=("text", "jsonl"), default="text", doc="What to write for each frame."),
    Flag(
        name="--raw",
        kind="switch",
        doc="Add the original bytes, as base64 and, where they are UTF-8, as text: the payload of a good frame, all "
        "bytes of a bad one (the first 64 KiB).",
    ),
    Flag(name="--hex", kind="switch", doc="Dump the bytes that hold no good frame (the first 4 KiB of each range)."),
    Flag(name="--run", kind="values", metavar="ID", doc="Only events of this run. May be given several times."),
    Flag(name="--type", kind="values", metavar="TYPE", doc="Only events of this type. May be given several times."),
    Flag(
        name="--since",
        kind="value",
        metavar="TIME",
        doc="Only events from this time on, by the worker's clock: ISO 8601 (2024-05-01T12:00, local unless it says "
        "otherwise), or so long ago: 90s, 10m, 2h, 3d, 1w.",
    ),
    Flag(name="--strict", kind="switch", doc="Stop at the first frame that isn't good."),
    Flag(
        name="--max-frame",
        kind="value",
        metavar="BYTES",
        doc=f"Take payloads of at most so many bytes. Default and most: {FRAME_HARD_MAX}.",
    ),
    Flag(
        name="--jobs",
        kind="value",
        metavar="N",
        default="1",
        doc="Let N processes decode, each a part of a file at a time. What is written is the same, and in the same "
        "order. For files: standard input and --follow take one.",
    ),
    Flag(
        name="--follow",
        kind="switch",
        doc="Go on reading what is still being written, into the next segment too, until Ctrl-C, or until the emitter "
        "of a segment is gone.",
    ),
)


@attrs.frozen(kw_only=True)
class Options:
    """What was asked for, checked. ``since_us``: microseconds since the Unix epoch."""

    files: tuple[str, ...]
    format: Format = "text"
    raw: bool = False
    hex: bool = False
    runs: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    since_us: int | None = None
    strict: bool = False
    limits: DecodeLimits = FILE_LIMITS
    follow: bool = False
    jobs: int = 1

    @property
    def filters(self) -> bool:
        """Whether some good frames are not to be shown."""
        return bool(self.runs or self.types or self.since_us is not None)

    @property
    def unknown_types(self) -> frozenset[str]:
        """Which of ``types`` the protocol doesn't know: events may be of them all the same, or they are misspelt."""
        return self.types - ENVELOPES.keys()


def make_options(files: Sequence[str], values: dict[str, Any]) -> Options:
    """Return the options of parsed flags. Raises ConfigurationError."""
    since: str | None = values["since"]
    since_us = None
    if since is not None:
        try:
            since_us = parse_since(since, time.time())
        except (ValueError, OverflowError) as error:
            raise ConfigurationError(
                "--since", since, "is no time", "Write 2024-05-01T12:00:00Z, or 90s, 10m, 2h, 3d for so long ago"
            ) from error
    return Options(
        files=tuple(files),
        format=values["format"],
        raw=values["raw"],
        hex=values["hex"],
        runs=frozenset(values["run"]),
        types=frozenset(values["type"]),
        since_us=since_us,
        strict=values["strict"],
        limits=parse_max_frame(values["max_frame"]),
        follow=values["follow"],
        jobs=_parse_jobs(values["jobs"], files, follow=values["follow"]),
    )


def _parse_jobs(text: str, files: Sequence[str], *, follow: bool) -> int:
    """Return how many processes are to decode. Raises ConfigurationError."""
    jobs = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(JOBS_MAX)) else 0
    if not 1 <= jobs <= JOBS_MAX:
        raise ConfigurationError("--jobs", text, f"must be a number of processes, 1 to {JOBS_MAX}")
    if jobs > 1 and follow:
        raise ConfigurationError("--jobs", text, "what is followed is decoded by one process", "Leave out one of them")
    if jobs > 1 and "-" in files:
        raise ConfigurationError("--jobs", text, "standard input is decoded by one process", "Name a file, or leave it")
    return jobs


def parse_max_frame(text: str | None) -> DecodeLimits:
    """Return the limits that ``--max-frame`` asks for. Raises ConfigurationError."""
    if text is None:
        return FILE_LIMITS
    try:
        return DecodeLimits(max_frame=int(text))
    except ValueError as error:
        raise ConfigurationError(
            "--max-frame", text, f"must be a number of bytes, 1 to {FRAME_HARD_MAX} (spec: FRM-3)"
        ) from error


def make_parser() -> argparse.ArgumentParser:
    """Return the command line of ``python -m xtrack_protocol.decode``, which needs nothing but the core."""
    parser = argparse.ArgumentParser(
        prog="python -m xtrack_protocol.decode",
        description=f"{SUMMARY}\n\n{DESCRIPTION}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="what to decode; - is standard input")
    for flag in FLAGS:
        if flag.kind == "switch":
            parser.add_argument(flag.name, dest=flag.key, action="store_true", help=flag.doc)
        else:
            parser.add_argument(
                flag.name,
                dest=flag.key,
                action="append" if flag.kind == "values" else "store",
                choices=flag.choices or None,
                metavar=flag.metavar,
                default=[] if flag.kind == "values" else flag.default,
                help=flag.doc.replace("%", "%%"),
            )
    return parser


def parse_arguments(argv: Sequence[str] | None = None) -> Options:
    """Parse a command line. Raises ConfigurationError, and SystemExit(2) for wrong usage."""
    values = vars(make_parser().parse_args(argv))
    return make_options(values.pop("files"), values)
