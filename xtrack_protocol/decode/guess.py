"""What a file is that isn't ours, by its first bytes."""

from __future__ import annotations

from typing import Final

_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x1f\x8b", "gzip data. Unpack it first: `gunzip -c FILE | xtrack decode -`"),
    (b"\x28\xb5\x2f\xfd", "zstd data. Unpack it first: `zstd -dc FILE | xtrack decode -`"),
    (b"BZh", "bzip2 data. Unpack it first: `bunzip2 -c FILE | xtrack decode -`"),
    (b"\xfd7zXZ\x00", "xz data. Unpack it first: `xz -dc FILE | xtrack decode -`"),
    (b"\xf5XR1", "a segment without its header, which holds what its records are checked by"),
    (b"PK\x03\x04", "a zip archive. Unpack it first"),
    (b"SQLite format 3\x00", "a SQLite database. A store is read with `xtrack ls --store sqlite:///FILE`"),
    (b":W&B", "a .wandb transaction log"),
    (b"HTTP/", "an HTTP answer"),
    (b"\x16\x03", "a TLS connection"),
    (b"SSH-", "an SSH connection"),
    (b"\x7fELF", "a program"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\x80\x04", "a Python pickle"),
    (b"\xef\xbb\xbf", "text with a byte order mark"),
    (b"#!", "a script"),
)

_HTTP_METHODS: Final = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"PRI ")


def looks_like(head: bytes) -> str | None:
    """Return what a file that begins with ``head`` looks like, with a cure where there is one; None: nobody knows."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head.startswith(_HTTP_METHODS):
        return "an HTTP request"
    if head[:1] in {b"*", b"$"} and b"\r\n" in head[:64]:
        return "the Redis protocol"
    if _has_little_endian_lengths(head):
        return "frames whose lengths are little-endian. Write them big-endian (spec: FRM-1)"
    if head.lstrip()[:1] in {b"{", b"["}:
        return "JSON text. A frame has four bytes of length before its JSON"
    return "text" if head and _is_text(head[:512]) else None


def _has_little_endian_lengths(head: bytes) -> bool:
    """Whether two such frames follow each other: a first length that is damaged looks like one alone."""
    following = 4 + int.from_bytes(head[:4], "little")
    return head[3:5] == b"\x00{" and head[following + 3 : following + 5] == b"\x00{"


def _is_text(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else it is only cut inside a character
            return False
    return all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
