"""The base of plain values where every training meets them: structs, for attrs alone costs a third of the import."""

from __future__ import annotations

from typing import Any, Final

import msgspec

_alike: Final[dict[type[msgspec.Struct], type]] = {}
"""Classes of attrs with the same fields, made as they are asked for."""


class _Fields:
    """Makes ``attrs.fields``, ``attrs.evolve`` and ``attrs.asdict`` work on a struct, when attrs asks."""

    def __get__(self, _value: object, owner: type[msgspec.Struct]) -> Any:
        import attrs

        if owner not in _alike:
            fields = {
                field.name: attrs.field(default=_default_of(field), type=field.type)
                for field in msgspec.structs.fields(owner)
            }
            _alike[owner] = attrs.make_class(owner.__name__, fields, frozen=True, kw_only=True)
        return attrs.fields(_alike[owner])


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    import attrs

    if field.default is not msgspec.NODEFAULT:
        return field.default
    return attrs.NOTHING if field.default_factory is msgspec.NODEFAULT else attrs.Factory(field.default_factory)


class Value(msgspec.Struct, frozen=True):
    """A frozen value: equal to one of its class with equal fields, hashable where they are."""

    __attrs_attrs__ = _Fields()
