"""MessagePack as strictly as its writers are bound: one map, all of it what JSON holds too. spec: MSG

Nothing of it is taken from a package, so that what a package lets through is no argument.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from xtrack_conformance.slots import Fault
from xtrack_conformance.values import shown

DEPTH: Final = 64
"""Arrays and maps that may be open at once. spec: JSN-2"""

_INTEGERS: Final = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_FLOATS: Final = {0xCA: ">f", 0xCB: ">d"}
_STRINGS: Final = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_ARRAYS: Final = {0xDC: ">H", 0xDD: ">I"}
_MAPS: Final = {0xDE: ">H", 0xDF: ">I"}
_CONSTANTS: Final = {0xC0: None, 0xC2: False, 0xC3: True}
_FOREIGN: Final = {
    **dict.fromkeys((0xC4, 0xC5, 0xC6), "bin"),
    **dict.fromkeys((0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8), "ext"),
    0xC1: "the unused type C1",
}


def is_map(payload: bytes) -> bool:
    """Whether the first byte of a payload begins MessagePack. spec: MSG-2"""
    return payload[:1] in _MAP_HEADS


_MAP_HEADS: Final = frozenset(bytes([head]) for head in (*range(0x80, 0x90), *_MAPS))


def read_tree(payload: bytes) -> dict[str, Any]:
    """Return the JSON that a payload stands for, or raise Fault with the clause that it breaks."""
    if not is_map(payload):
        raise Fault("payload", f"begins with {payload[:1].hex() or 'nothing'}, and a map does not", "MSG-2")
    source = _Source(payload)
    tree = source.value("payload", 0)
    if source.at != len(payload):
        raise Fault("payload", f"goes on behind its map, at byte {source.at}", "MSG-3")
    assert isinstance(tree, dict)
    return tree


class _Source:
    """Bytes that are read from their beginning on."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int, where: str) -> bytes:
        """Return the next bytes."""
        found = self.data[self.at : self.at + count]
        if len(found) < count:
            raise Fault(where, "the payload ends inside it", "MSG-3")
        self.at += count
        return found

    def number(self, form: str, where: str) -> Any:
        """Return a number in one of the forms of ``struct``."""
        return struct.unpack(form, self.take(struct.calcsize(form), where))[0]

    def value(self, where: str, level: int) -> Any:
        """Return the next value, which stands inside of ``level`` arrays and maps."""
        head = self.take(1, where)[0]
        if head <= 0x7F or head >= 0xE0:
            return head - 256 * (head >= 0xE0)
        if head in _CONSTANTS:
            return _CONSTANTS[head]
        if head in _INTEGERS:
            return self.number(_INTEGERS[head], where)
        if head in _FLOATS:
            return self.float(_FLOATS[head], where)
        if head in _FOREIGN:
            raise Fault(where, f"{_FOREIGN[head]} (byte {head:02x}), which stands for no JSON", "MSG-3.2")
        if 0xA0 <= head <= 0xBF or head in _STRINGS:
            return self.string(self.size(head, 0x1F, _STRINGS, where), where)
        if level >= DEPTH:
            raise Fault(where, f"more than {DEPTH} arrays and maps are open", "JSN-2.4")
        if 0x90 <= head <= 0x9F or head in _ARRAYS:
            count = self.size(head, 0x0F, _ARRAYS, where)
            return [self.value(f"{where}[{index}]", level + 1) for index in range(count)]
        return self.map(self.size(head, 0x0F, _MAPS, where), where, level)

    def size(self, head: int, mask: int, wide: dict[int, str], where: str) -> int:
        """Return the size that a head announces, in itself or in the bytes behind it."""
        return int(self.number(wide[head], where)) if head in wide else head & mask

    def float(self, form: str, where: str) -> float:
        """Return a number, which must be finite: what isn't has another form in JSON."""
        found = float(self.number(form, where))
        if found - found != 0.0:
            raise Fault(where, f"the float {found!r} as it is", "MSG-5")
        return found

    def string(self, size: int, where: str) -> str:
        """Return a string."""
        data = self.take(size, where)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            why = f"a string that is no UTF-8: {error.reason} at its byte {error.start}"
            raise Fault(where, why, "MSG-3.4") from error

    def map(self, count: int, where: str, level: int) -> dict[str, Any]:
        """Return a map."""
        found: dict[str, Any] = {}
        for _ in range(count):
            name = self.value(f"{where}, a name", level + 1)
            if not isinstance(name, str):
                raise Fault(where, f"a key that is no string: {shown(name)}", "MSG-3.1")
            if name in found:
                raise Fault(f"{where}.{name}", "stands twice in one map", "JSN-5.3")
            found[name] = self.value(f"{where}.{name}", level + 1)
        return found
