"""Worlds that are used again: when one is over, everything that hangs on it is put back.

Building a world boots its guest and prepares its pages, and costs more than a short race does. So
what is found on a world that was just built is written down, and put back in place: the same
objects with the same content. Whoever holds one of them, such as a program, finds it as it was.

Rules:
- Every reference is followed. What is of a kind that is not known here could not be put back, and
  then worlds are built anew, as ever: there is no half way.
- A program that stands somewhere cannot be put back; one that was not begun yet can.
- One world at a time: the one before is over when the next one is asked for.
"""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import is_dataclass
from enum import Enum
from functools import partial
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    MethodType,
    ModuleType,
    NoneType,
)
from typing import Any, Final

import numpy as np

from race_explorer.world import SimWorld

_NEVER_CHANGE: Final = (
    int,
    float,
    str,
    bytes,
    NoneType,
    type,
    range,
    Enum,
    ModuleType,
    BuiltinFunctionType,
)
_ABSENT: Final = object()
"""An attribute, or a variable, that has no value."""


class CannotRecycleError(Exception):
    """Something hangs on the world that cannot be put back."""


def recycled(build: Callable[[], SimWorld]) -> Callable[[], SimWorld]:
    """The same worlds as `build` makes, one at a time."""
    return _Recycled(build).next


class _Recycled:
    def __init__(self, build: Callable[[], SimWorld]) -> None:
        self._build = build
        self._world: SimWorld | None = None
        self._beginning: Beginning | None = None
        self._recyclable = True

    def next(self) -> SimWorld:
        """The world, or another one, at its beginning."""
        if self._world is not None and self._beginning is not None:
            self._world.abandon()
            self._beginning.restore()
            return self._world
        world = self._build()
        if self._recyclable:
            try:
                self._world, self._beginning = world, Beginning(world)
            except CannotRecycleError:
                self._recyclable = False
        return world


class Beginning:
    """How everything was that hangs on an object. Raises CannotRecycleError; see the module."""

    def __init__(self, root: object) -> None:
        self._puts: list[Callable[[], object]] = []
        self._attributes: list[tuple[object, str, object]] = []
        self._seen: dict[int, object] = {}  # kept, so that no other object gets its number
        self._to_see: list[object] = [root]
        while self._to_see:
            self._see(self._to_see.pop())

    def restore(self) -> None:
        """Put everything back."""
        for owner, name, value in self._attributes:
            setattr(owner, name, value)
        for put in self._puts:
            put()

    def _see(self, found: object) -> None:
        if isinstance(found, _NEVER_CHANGE) or id(found) in self._seen:
            return
        self._seen[id(found)] = found
        look = _LOOKS.get(type(found))
        if look is not None:
            self._to_see += look(self, found)
        elif isinstance(found, tuple):
            self._to_see += found
        else:
            self._to_see += self._object(found)

    # How each kind is put back, and what hangs on it.

    def _dict(self, found: dict[Any, Any]) -> Iterable[object]:
        kept = dict(found)
        # A Counter's own update would count.
        update = OrderedDict.update if type(found) is OrderedDict else dict.update

        def put() -> None:
            if found or kept:
                found.clear()
                update(found, kept)

        self._puts.append(put)
        return (*kept, *kept.values())

    def _list(self, found: list[Any]) -> Iterable[object]:
        kept = list(found)

        def put() -> None:
            found[:] = kept

        self._puts.append(put)
        return kept

    def _set(self, found: set[Any]) -> Iterable[object]:
        kept = frozenset(found)

        def put() -> None:
            if found != kept:
                found.clear()
                found.update(kept)

        self._puts.append(put)
        return list(kept)  # in whatever order: all are looked at

    def _deque(self, found: deque[Any]) -> Iterable[object]:
        kept = list(found)

        def put() -> None:
            found.clear()
            found.extend(kept)

        self._puts.append(put)
        return kept

    def _bytes(self, found: bytearray | array[Any]) -> Iterable[object]:
        kept: Any = found[:]

        def put() -> None:
            found[:] = kept

        self._puts.append(put)
        return ()

    def _ndarray(self, found: np.ndarray) -> Iterable[object]:
        if found.base is not None:
            return (found.base,)
        if found.flags.writeable:
            self._puts.append(partial(np.copyto, found, found.copy()))
        return ()

    def _cell(self, found: CellType) -> Iterable[object]:
        """A variable of a function that another one uses."""
        try:
            kept = found.cell_contents
        except ValueError:
            raise CannotRecycleError("a variable has no value yet") from None
        self._attributes.append((found, "cell_contents", kept))
        return (kept,)

    def _object(self, found: object) -> Iterable[object]:
        """An object of a class of ours: its attributes."""
        names = list(_slots(type(found)))
        kept = [getattr(found, name, _ABSENT) for name in names]
        if any(value is _ABSENT for value in kept):
            raise CannotRecycleError(f"an attribute of a {type(found).__name__} has no value yet")
        frozen = _is_frozen(type(found))
        if not frozen:
            self._attributes += [(found, *slot) for slot in zip(names, kept, strict=True)]
        if not hasattr(found, "__dict__"):
            return kept
        attributes = vars(found)
        if not frozen:
            self._puts.append(partial(_put_attributes, attributes, dict(attributes)))
        return (*kept, *attributes.values())


def _put_attributes(attributes: dict[str, object], kept: dict[str, object]) -> None:
    if len(attributes) != len(kept):
        for name in [name for name in attributes if name not in kept]:
            del attributes[name]
    attributes.update(kept)


def _slots(kind: type) -> Iterator[str]:
    """The slots of a class of ours. Raises CannotRecycleError for another one."""
    for base in kind.__mro__[:-1]:
        slots = vars(base).get("__slots__")
        if slots is not None:
            yield from (slots,) if isinstance(slots, str) else slots
        elif "__dict__" not in dir(base):
            raise CannotRecycleError(f"a {kind.__qualname__} cannot be put back")


def _is_frozen(kind: type) -> bool:
    return is_dataclass(kind) and bool(kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]


_LOOKS: Final[dict[type, Callable[[Beginning, Any], Iterable[object]]]] = {
    dict: Beginning._dict,
    Counter: Beginning._dict,
    OrderedDict: Beginning._dict,
    list: Beginning._list,
    set: Beginning._set,
    frozenset: lambda _, found: list(found),
    deque: Beginning._deque,
    bytearray: Beginning._bytes,
    array: Beginning._bytes,
    np.ndarray: Beginning._ndarray,
    memoryview: lambda _, found: (found.obj,),
    CellType: Beginning._cell,
    FunctionType: lambda _, found: (*(found.__closure__ or ()), *(found.__defaults__ or ())),
    MethodType: lambda _, found: (found.__self__, found.__func__),
    partial: lambda _, found: (found.func, *found.args, *found.keywords.values()),
}
