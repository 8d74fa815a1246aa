"""Values that stand in for those of array libraries, and values that fight back."""

from __future__ import annotations


class Scalar:
    """As numpy, torch and JAX: a single element that gives itself as Python's own."""

    def __init__(self, value: object) -> None:
        self.value = value

    def item(self) -> object:
        return self.value

    def tolist(self) -> object:
        return self.value


class Array:
    """As an array of several elements."""

    def __init__(self, *values: object) -> None:
        self.values = values
        self.size = len(values)

    def item(self) -> object:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.values[0]

    def tolist(self) -> list[object]:
        return list(self.values)


class Hostile:
    """Raises whatever is asked of it."""

    def __init__(self, error: type[BaseException] = ZeroDivisionError) -> None:
        self.error = error

    def __float__(self) -> float:
        raise self.error("no")

    def __bool__(self) -> bool:
        raise self.error("no")

    def __repr__(self) -> str:
        raise self.error("no")

    def __str__(self) -> str:
        raise self.error("no")

    def __eq__(self, other: object) -> bool:
        raise self.error("no")

    __hash__ = None  # type: ignore[assignment]


class HostileAttributes:
    """Has every attribute, and raises at each."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(f"no {name}")


class HostileMapping(dict):  # type: ignore[type-arg]
    """A mapping that doesn't give its items."""

    def items(self) -> object:  # type: ignore[override]
        raise ZeroDivisionError("no items")
