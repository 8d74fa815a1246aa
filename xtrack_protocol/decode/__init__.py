"""Decoding on the command line: ``python -m xtrack_protocol.decode FILE...`` needs the core alone.

``xtrack decode`` is the same program behind the other command line; ``verify`` and ``stats`` read inputs as it does.
"""

from typing import TYPE_CHECKING

from xtrack_protocol._lazy import lazily

if TYPE_CHECKING:
    from xtrack_protocol.decode.engine import decode_files
    from xtrack_protocol.decode.options import Options, make_options, parse_arguments
    from xtrack_protocol.decode.report import Report
    from xtrack_protocol.decode.source import Batch, Input, NotXTrack, Source
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "engine": ("decode_files",),
            "options": ("Options", "make_options", "parse_arguments"),
            "report": ("Report",),
            "source": ("Batch", "Input", "NotXTrack", "Source"),
        },
    )

__all__ = [
    "Batch",
    "Input",
    "NotXTrack",
    "Options",
    "Report",
    "Source",
    "decode_files",
    "make_options",
    "parse_arguments",
]
