"""Containers as a recorded attribute shows them: the same content, every use of it recorded.

Rules:
- A view holds no content; who got the container itself before the race began works on the same.
- `spot` says which resource a use touches: that of the key, or ALL for the container as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from race_explorer.checking.recorder import Lock, Recorder, Resource

ALL: Final = object()
"""Stands for every key."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a container is. resource, lock: of a key, or of ALL.

    show: how elements are shown that are containers themselves; to fetch one is no look at it.
    """

    recorder: Recorder
    resource: Callable[[Any], Resource]
    lock: Callable[[Any], Lock | None]
    show: Callable[[Any, Spot], Any] | None = None

    def read(self, key: Any = ALL) -> None:
        """The step looks at one key, or at all."""
        self.recorder.read(self.resource(key), self.lock(key))

    def write(self, key: Any = ALL, value: Any = None) -> None:
        """The step changes one key, or all; stores `value`."""
        self.recorder.write(self.resource(key), self.lock(key))
        self.recorder.fresh.append(value)

    def element(self, key: Any, value: Any) -> Any:
        """One element, looked at or shown."""
        if self.show is None:
            self.read(key)
            return value
        resource, lock = self.resource(key), self.lock(key)
        return self.show(value, Spot(self.recorder, lambda _: resource, lambda _: lock))


def bare(value: Any) -> Any:
    """What a view shows; anything else as it is."""
    return value._raw if isinstance(value, View) else value


class View:
    """What all views share."""

    __slots__ = ("_raw", "_spot")

    def __init__(self, raw: Any, spot: Spot) -> None:
        self._raw = raw
        self._spot = spot

    def __len__(self) -> int:
        self._spot.read()
        return len(self._raw)

    def __bool__(self) -> bool:
        self._spot.read()
        return bool(self._raw)

    def __contains__(self, key: object) -> bool:
        self._spot.read(self._key(key))
        return key in self._raw

    def __iter__(self) -> Iterator[Any]:
        self._spot.read()
        return iter(self._raw)

    def __repr__(self) -> str:
        return repr(self._raw)

    def _key(self, key: Any) -> Any:
        """What a search for `key` looks at."""
        return ALL

    def clear(self) -> None:
        """As the container's own."""
        if self._raw:
            self._spot.write()
        self._spot.read()
        self._raw.clear()


class DictView(View):
    """A dictionary, ordered or not."""

    __slots__ = ()

    def _key(self, key: Any) -> Any:
        return key

    def __getitem__(self, key: Any) -> Any:
        return self._spot.element(key, self._raw[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        if key in self._raw and self._raw[key] is value:
            self._spot.read(key)
        else:
            self._spot.write(key, value)
        self._raw[key] = bare(value)

    def __delitem__(self, key: Any) -> None:
        self._spot.write(key)
        del self._raw[key]

    def get(self, key: Any, default: Any = None) -> Any:
        """As the container's own."""
        self._spot.read(key)
        return self._raw.get(key, default)

    def setdefault(self, key: Any, default: Any) -> Any:
        """As the container's own."""
        if key not in self._raw:
            self[key] = default
        return self[key]

    def pop(self, key: Any, *default: Any) -> Any:
        """As the container's own; to take away what is not there changes nothing."""
        if key in self._raw:
            self._spot.write(key)
        else:
            self._spot.read(key)
        return self._raw.pop(key, *default)

    def move_to_end(self, key: Any) -> None:
        """As the container's own."""
        self._spot.write(key)
        self._raw.move_to_end(key)

    def keys(self) -> Any:
        """As the container's own."""
        self._spot.read()
        return self._raw.keys()

    def values(self) -> Any:
        """As the container's own."""
        self._spot.read()
        return self._raw.values()

    def items(self) -> Any:
        """As the container's own."""
        self._spot.read()
        return self._raw.items()


class ListView(View):
    """A list or a deque. Its keys are indexes; what shifts them touches the whole."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, int):
            self._spot.read()
            return self._raw[index]
        return self._spot.element(index, self._raw[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        key = index if isinstance(index, int) else ALL
        if self._raw[index] is value or (isinstance(value, int) and self._raw[index] == value):
            self._spot.read(key)
        else:
            self._spot.write(key, value)
        self._raw[index] = bare(value)

    def __delitem__(self, index: Any) -> None:
        self._spot.write()
        del self._raw[index]

    def __iter__(self) -> Iterator[Any]:
        if self._spot.show is None:
            self._spot.read()
            return iter(self._raw)
        return (self[index] for index in range(len(self._raw)))

    def __reversed__(self) -> Iterator[Any]:
        self._spot.read()
        found: Iterator[Any] = reversed(self._raw)
        return found

    def __add__(self, other: Any) -> Any:
        self._spot.read()
        return self._raw + bare(other)

    def __iadd__(self, other: Any) -> ListView:
        self.extend(other)
        return self

    def append(self, value: Any) -> None:
        """As the container's own."""
        self._spot.write(ALL, value)
        self._raw.append(bare(value))

    def extend(self, values: Any) -> None:
        """As the container's own."""
        new = list(values)
        if new:
            self._spot.write(ALL, new)
        self._raw.extend(new)

    def remove(self, value: Any) -> None:
        """As the container's own."""
        self._spot.write()
        self._raw.remove(value)

    def pop(self, *index: int) -> Any:
        """As the container's own."""
        self._spot.write()
        return self._raw.pop(*index)

    def popleft(self) -> Any:
        """As a deque's own."""
        self._spot.write()
        return self._raw.popleft()

    def index(self, *arguments: Any) -> int:
        """As the container's own."""
        self._spot.read()
        found: int = self._raw.index(*arguments)
        return found


class BytesView(View):
    """Numbers by index: a bytearray or a memoryview. Slices belong to the index they begin at."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        self._spot.read(_first(index))
        return self._raw[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        if self._raw[index] == value:
            self._spot.read(_first(index))
        else:
            self._spot.write(_first(index))
        self._raw[index] = value

    def find(self, *arguments: Any) -> int:
        """As a bytearray's own."""
        self._spot.read()
        found: int = self._raw.find(*arguments)
        return found


def _first(index: Any) -> Any:
    return index.start if isinstance(index, slice) else index


class SetView(View):
    """A set."""

    __slots__ = ()

    def discard(self, value: Any) -> None:
        """As the container's own."""
        self._spot.write()
        self._raw.discard(value)


class FieldsView:
    """A small object that does not know which of several it is: its fields, as one resource."""

    __slots__ = ("_raw", "_spot")

    def __init__(self, raw: Any, spot: Spot) -> None:
        object.__setattr__(self, "_raw", raw)
        object.__setattr__(self, "_spot", spot)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._raw, name)
        if callable(value):
            return type(self._raw).__dict__[name].__get__(self)
        if isinstance(value, list):
            return ListView(value, self._spot)
        self._spot.read()
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if getattr(self._raw, name) == value:
            self._spot.read()
        else:
            self._spot.write(ALL, value)
        setattr(self._raw, name, bare(value))
