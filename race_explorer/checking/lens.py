"""Live objects made recordable: their class becomes one whose attributes are recorded.

Rules:
- Product code is not touched: a subclass of the same layout, made here, takes the class's
  place in the object itself.
- Every attribute of a class that is looked at is either a place or has a reason why not;
  one that is neither is refused, so that a new field cannot be forgotten.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from race_explorer.checking.recorder import Lock, Recorder, Resource
from race_explorer.checking.views import ALL, Spot, View, bare

FIXED: Final = "never changes once somebody else can see it"
_CONTAINERS = (dict, OrderedDict, list, tuple, deque, set)


@dataclass(frozen=True, slots=True)
class Place:
    """One attribute that steps share.

    resource: of its owner; for a container with `view`, of its owner and a key. lock: what
    protects it, if anything, by the same. final: a value that is true is the last one.
    handed_out: to read it is to be able to change what it leads to. show: see `Spot`.
    """

    resource: Callable[..., Resource]
    view: type[View] | None = None
    lock: Callable[..., Lock | None] = lambda _owner, _key=None: None
    final: bool = False
    handed_out: bool = False
    show: Callable[[Any, Spot], Any] | None = None


Override = Callable[[Recorder, type], Any]
"""Makes a method or a property that stands for one of the class's own."""


@dataclass(frozen=True, slots=True)
class Looks:
    """How objects of one class are looked at.

    free: attributes that need no record, by the reason why. members: methods and properties
    that stand for the class's own. open: whether the class may have further attributes, which
    are not looked at. name: what others call an object by, for `Recorder.known`.
    """

    places: Mapping[str, Place] = field(default_factory=dict)
    free: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Override] = field(default_factory=dict)
    open: bool = False
    name: Callable[[Any], Resource] | None = None

    def known(self) -> set[str]:
        """Every attribute that has a place or a reason."""
        free = (name for names in self.free.values() for name in names.split())
        return {*self.places, *self.members, *free}


class Lens:
    """Makes objects recordable, for one recorder."""

    def __init__(self, recorder: Recorder, looks: Mapping[type, Looks]) -> None:
        self._recorder = recorder
        self._looks = looks
        self._made: dict[type, type] = {}

    def adopt(self, *roots: Any) -> None:
        """Make these objects, and all that can be reached from them, recordable."""
        waiting = list(roots)
        while waiting:
            value = bare(waiting.pop())
            if isinstance(value, _CONTAINERS):
                waiting.extend(value.values() if isinstance(value, dict) else value)
            elif self._swap(value):
                waiting.extend(_values(value))

    def _swap(self, value: Any) -> bool:
        """Whether the object is one to look at, and was not one yet."""
        kind = type(value)
        if kind.__dict__.get("_recording"):
            return False
        looks = [self._looks[base] for base in reversed(kind.__mro__) if base in self._looks]
        if not looks:
            return False
        if kind not in self._made:
            self._made[kind] = self._make(kind, looks)
        _complete(kind, value, looks)
        for look in looks:
            if look.name is not None:
                self._recorder.known[look.name(value)] = value
        value.__class__ = self._made[kind]
        return True

    def _make(self, kind: type, looks: list[Looks]) -> type:
        members: dict[str, Any] = {"__slots__": (), "_recording": True, "__hash__": kind.__hash__}
        for look in looks:
            for name in look.free.get(FIXED, "").split():
                members[name] = self._fixed(kind, name)
            for name, place in look.places.items():
                members[name] = self._property(kind, name, place)
            for name, override in look.members.items():
                members[name] = override(self._recorder, kind)
        return type(kind.__name__, (kind,), members)

    def _fixed(self, kind: type, name: str) -> property:
        """An attribute that only its maker sets."""
        recorder = self._recorder
        load, store = accessors(kind, name)

        def put(owner: Any, value: Any) -> None:
            recorder.changed(f"{kind.__name__}.{name}")
            store(owner, value)

        return property(load, put)

    def _property(self, kind: type, name: str, place: Place) -> property:
        recorder, resource, view = self._recorder, place.resource, place.view
        load, store = accessors(kind, name)

        def spot(owner: Any) -> Spot:
            return Spot(
                recorder,
                lambda key: resource(owner, key),
                lambda key: place.lock(owner, key),
                place.show,
            )

        def get(owner: Any) -> Any:
            value = load(owner)
            if not recorder.on:
                return value
            if view is not None:
                return view(value, spot(owner))
            if place.handed_out:
                recorder.write(resource(owner), place.lock(owner))
            elif not (place.final and value):
                recorder.read(resource(owner), place.lock(owner))
            return value

        def put(owner: Any, value: Any) -> None:
            value = bare(value)
            if recorder.on:
                keys = () if view is None else (ALL,)
                same = value is load(owner) or (isinstance(value, int) and value == load(owner))
                touch = recorder.read if same else recorder.write
                touch(resource(owner, *keys), place.lock(owner, *keys))
                recorder.fresh.append(value)
            store(owner, value)

        return property(get, put)


def accessors(kind: type, name: str) -> tuple[Callable[[Any], Any], Callable[[Any, Any], None]]:
    """The attribute itself, past any property."""
    slot = next((base.__dict__[name] for base in kind.__mro__ if name in base.__dict__), None)
    if slot is not None and hasattr(slot, "__set__"):
        return slot.__get__, slot.__set__

    def load(owner: Any) -> Any:
        return owner.__dict__[name]

    def store(owner: Any, value: Any) -> None:
        owner.__dict__[name] = value

    return load, store


def _attributes(kind: type, value: Any) -> Iterator[str]:
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots
    yield from getattr(value, "__dict__", ())


def _values(value: Any) -> list[Any]:
    """What an object that was just swapped has in its attributes."""
    kind = type(value).__mro__[1]
    names = [name for name in _attributes(kind, value) if hasattr(value, name)]
    return [accessors(kind, name)[0](value) for name in names]


def _complete(kind: type, value: Any, looks: list[Looks]) -> None:
    known = set().union(*(look.known() for look in looks))
    unknown = [name for name in _attributes(kind, value) if name not in known]
    if unknown and not any(look.open for look in looks):
        raise TypeError(
            f"check mode does not know {kind.__name__}.{unknown[0]}: "
            "say in race_explorer/checking which resource it is, or why it needs none"
        )
