"""How events are written: codec, framing, checked records, versions. No clock, no socket, no thread.

``encode_frame`` and ``decode_frame`` for one frame, ``FrameDecoder`` for a stream, ``stream_file`` for a file of any
size, damaged or not.
"""

from typing import TYPE_CHECKING

from xtrack_protocol._lazy import lazily

if TYPE_CHECKING:
    from xtrack_protocol.wire.codec import Buffer, Codec, decode, encode, is_control
    from xtrack_protocol.wire.files import read_frames, read_items, sniff, stream_file
    from xtrack_protocol.wire.framing import (
        Decoded,
        Frame,
        FrameDecoder,
        NeedMore,
        decode_frame,
        encode_frame,
        frame_payload,
    )
    from xtrack_protocol.wire.records import (
        RECORDS_START,
        Damage,
        Item,
        Record,
        RecordDecoder,
        SegmentHeader,
        TornTail,
        decode_header,
        encode_header,
        encode_record,
    )
    from xtrack_protocol.wire.salvage import SalvageDecoder
    from xtrack_protocol.wire.versioning import (
        PROTOCOL_VERSION,
        SUPPORTED_CODECS,
        SUPPORTED_VERSIONS,
        Agreement,
        Disagreement,
        fallback,
        negotiate,
    )
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "codec": ("Buffer", "Codec", "decode", "encode", "is_control"),
            "files": ("read_frames", "read_items", "sniff", "stream_file"),
            "framing": (
                "Decoded",
                "Frame",
                "FrameDecoder",
                "NeedMore",
                "decode_frame",
                "encode_frame",
                "frame_payload",
            ),
            "records": (
                "RECORDS_START",
                "Damage",
                "Item",
                "Record",
                "RecordDecoder",
                "SegmentHeader",
                "TornTail",
                "decode_header",
                "encode_header",
                "encode_record",
            ),
            "salvage": ("SalvageDecoder",),
            "versioning": (
                "PROTOCOL_VERSION",
                "SUPPORTED_CODECS",
                "SUPPORTED_VERSIONS",
                "Agreement",
                "Disagreement",
                "fallback",
                "negotiate",
            ),
        },
    )

__all__ = [
    "PROTOCOL_VERSION",
    "RECORDS_START",
    "SUPPORTED_CODECS",
    "SUPPORTED_VERSIONS",
    "Agreement",
    "Buffer",
    "Codec",
    "Damage",
    "Decoded",
    "Disagreement",
    "Frame",
    "FrameDecoder",
    "Item",
    "NeedMore",
    "Record",
    "RecordDecoder",
    "SalvageDecoder",
    "SegmentHeader",
    "TornTail",
    "decode",
    "decode_frame",
    "decode_header",
    "encode",
    "encode_frame",
    "encode_header",
    "encode_record",
    "fallback",
    "frame_payload",
    "is_control",
    "negotiate",
    "read_frames",
    "read_items",
    "sniff",
    "stream_file",
]
