"""Everything that hangs on an object, as text: equal for two that nobody could tell apart."""

from __future__ import annotations

from array import array
from collections import deque
from enum import Enum
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np


def describe_graph(root: object) -> list[str]:
    """A line for every object, in the order in which they are met; references are line numbers."""
    lines: list[str] = []
    numbers: dict[int, int] = {}
    met: list[object] = []

    def name(found: object) -> str:
        if isinstance(found, int | float | str | bytes | type(None) | range | Enum | type):
            return repr(found)
        if isinstance(found, ModuleType):
            return found.__name__
        if id(found) not in numbers:
            numbers[id(found)] = len(met)
            met.append(found)
        return f"#{numbers[id(found)]}"

    name(root)
    done = 0
    while done < len(met):
        lines.append(f"{type(met[done]).__qualname__} {_parts(met[done], name)}")
        done += 1
    return lines


def _parts(found: Any, name: Any) -> str:
    match found:
        case dict():
            return str([(name(key), name(value)) for key, value in found.items()])
        case list() | tuple():
            return str([name(value) for value in found])
        case deque():
            return f"{found.maxlen} {[name(value) for value in found]}"
        case set() | frozenset():
            return str(sorted(map(repr, found)))
        case bytearray() | array():
            return repr(found)
        case np.ndarray():
            return f"{found.tobytes().hex()} {name(found.base)}"
        case memoryview():
            return name(found.obj)
        case CellType():
            return name(found.cell_contents)
        case FunctionType():
            held = (*(found.__closure__ or ()), *(found.__defaults__ or ()))
            return f"{found.__qualname__} {[name(value) for value in held]}"
        case MethodType():
            return f"{name(found.__self__)} {name(found.__func__)}"
        case partial():
            return str([name(v) for v in (found.func, *found.args, *found.keywords.values())])
        case _:
            return str([(key, name(value)) for key, value in _attributes(found)])


def _attributes(found: object) -> list[tuple[str, object]]:
    names = [
        slot
        for base in type(found).__mro__
        for slot in vars(base).get("__slots__", ())
        if hasattr(found, slot)
    ]
    slotted = [(slot, getattr(found, slot)) for slot in names]
    return [*slotted, *sorted(getattr(found, "__dict__", {}).items())]
