"""Columns of a file that are read on first use and then kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TypeVar, overload

T = TypeVar("T")


class Column(Sequence[T]):
    """A sequence of I values, read on first use.

    Args:
        length: I, known without reading; read: returns the values.
    """

    def __init__(self, length: int, read: Callable[[], Sequence[T]]) -> None:
        self._length, self._read = length, read

    @cached_property
    def _values(self) -> Sequence[T]:
        return self._read()

    @overload
    def __getitem__(self, row: int) -> T: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[T]: ...
    def __getitem__(self, row: int | slice) -> T | Sequence[T]:
        return self._values[row]

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return iter(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Columns(Mapping[str, T]):
    """A mapping from names to values, each read on first use."""

    def __init__(self, names: Sequence[str], read: Callable[[str], T]) -> None:
        self._names, self._read = tuple(names), read
        self._found: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._found:
            self._found[name] = self._read(name)
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
