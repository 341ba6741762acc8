"""Which other turns an exhaustive search has to take: source sets, found from races.

A schedule says what else must be tried. Where two of its steps race, the later one might have
come before the earlier one; so at the state before the earlier one somebody has to be tried who
begins such a schedule. Nobody else needs to be: with sleep sets besides, every class of
equivalent schedules is met exactly once, and few schedules are abandoned half way.

Models: Abdulla, Aronis, Jonsson, Sagonas, "Source sets: a foundation for optimal dynamic partial
order reduction", JACM 2017, Algorithm 1.

Rules:
- Happens-before: steps of one actor, steps that depend on each other, and the step behind which
  an actor appeared before that actor's first.
- The paper has no steps that others prevent; a kernel is full of them. A step that waits takes
  part in races while it waits, in every state: it might have come before what it waits for. A
  step that another one took away (a stage that was cancelled, a step for which an interrupt came
  instead) might have come before that one, as long as the run goes on.
- A violation ends a run, and so prevents every step that was enabled before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from race_explorer.causality import Clock
from race_explorer.engine import Option, Touch, dependent

Accesses = tuple[Touch, ...]


@dataclass(slots=True)
class Node:
    """One decision of a search. wanted: whom it has to turn to, in this order; it grows.

    sleep: whoever was tried before, at this state or an earlier one, with the accesses of the
    step, and need not be tried here. done: whoever was tried here.
    """

    names: tuple[str, ...]
    sleep: dict[str, Accesses]
    wanted: list[str]
    choice: int
    done: dict[str, Accesses] = field(default_factory=dict)

    def advance(self, accesses: Accesses) -> bool:
        """Turn to the next that is wanted; False if there is none. accesses: of the last one."""
        self.done[self.names[self.choice]] = accesses
        for name in self.wanted:
            if name not in self.done and name not in self.sleep:
                self.choice = self.names.index(name)
                return True
        return False

    def covers(self, name: str) -> bool:
        """Whether what begins with this actor's step is tried, will be, or was elsewhere."""
        return name in self.wanted or name in self.sleep


@dataclass(frozen=True, slots=True)
class _Pending:
    """A step that an actor stands before. known: what had to come before it was the next one.

    prevented_by: the event that took it away for ever, by its place; None: the actor stands there.
    """

    name: str
    accesses: Accesses
    enabled: bool
    known: Clock
    prevented_by: int | None = None


@dataclass(frozen=True, slots=True)
class _Event:
    """A step that was taken. clock: what had to come before, itself included."""

    name: str
    accesses: Accesses
    clock: Clock
    count: int

    def before(self, clock: Clock) -> bool:
        """Whether this is among what the clock knows."""
        return clock.get(self.name, 0) >= self.count


@dataclass(frozen=True, slots=True)
class _State:
    """Between two steps: the steps that actors stand before, and those that were taken away."""

    pending: dict[str, _Pending]
    lost: tuple[_Pending, ...]


class Races:
    """Follows the current run of a search and asks its nodes for what its races call for.

    nodes: the decisions of the current run, by depth. They are the search's own list.
    """

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        self._events: list[_Event] = []
        self._states: list[_State] = []

    @property
    def taken(self) -> int:
        """How many steps of the current run are known."""
        return len(self._events)

    def back_to(self, depth: int) -> None:
        """Forget all but the first `depth` steps, and the states up to there."""
        del self._events[depth:]
        del self._states[depth + 1 :]

    def take(self, name: str) -> None:
        """The actor takes its step in the last state."""
        pending = self._states[-1].pending[name]
        clock = self._meet(pending)
        count = clock.get(name, 0) + 1
        clock[name] = count
        self._events.append(_Event(name, pending.accesses, clock, count))

    def enter(self, enabled: Sequence[Option], waiting: Sequence[Option]) -> None:
        """The state behind the last step, or the first one of all."""
        standing = [(o.name, o.accesses, True) for o in enabled]
        standing += [(o.name, o.accesses, False) for o in waiting]
        if not self._events:
            first = {name: _Pending(name, touched, on, {}) for name, touched, on in standing}
            self._states.append(_State(first, ()))
            return
        before, last = self._states[-1], self._events[-1]
        pending, lost = dict[str, _Pending](), list(before.lost)
        for step in lost:
            if dependent(last.accesses, step.accesses):
                self._race(step.prevented_by, step)
        for name, accesses, on in standing:
            old = before.pending.get(name)
            if old is None or name == last.name:
                new = _Pending(name, accesses, on, self._known_to_appear(name))
            elif old.accesses != accesses:
                lost.append(self._lose(old))
                new = _Pending(name, accesses, on, old.known)
            elif old.enabled != on:
                new = _Pending(name, accesses, on, old.known)
            else:
                pending[name] = old
                if not on and dependent(last.accesses, accesses):
                    self._meet(old)
                continue
            pending[name] = new
            if not on:
                self._meet(new)
        lost += [
            self._lose(old)
            for name, old in before.pending.items()
            if name not in pending and name != last.name
        ]
        self._states.append(_State(pending, tuple(lost)))

    def _known_to_appear(self, name: str) -> Clock:
        """What had to come before this actor stands here: the last step, and its own ones."""
        known = dict(self._events[-1].clock)
        own = next((event for event in reversed(self._events) if event.name == name), None)
        if own is not None:
            _join(known, own.clock)
        return known

    def _lose(self, step: _Pending) -> _Pending:
        """The last step has taken this one away."""
        place = len(self._events) - 1
        lost = _Pending(step.name, step.accesses, False, step.known, place)
        self._race(place, lost)
        return lost

    def _meet(self, step: _Pending) -> Clock:
        """Races of a step with all that was taken; what had to come before it."""
        clock, found = dict(step.known), list[int]()
        for place in range(len(self._events) - 1, -1, -1):
            event = self._events[place]
            if not event.before(clock) and dependent(event.accesses, step.accesses):
                found.append(place)
                _join(clock, event.clock)
        for place in found:
            self._race(place, step)
        return clock

    def _race(self, place: int | None, step: _Pending) -> None:
        """The step might have come before the event at that place: somebody must begin that.

        What need not come after the event, and then the step, is a run of its own. Whoever may
        be first in it will do.
        """
        assert place is not None
        node, event = self._nodes[place], self._events[place]
        between, first, known = list[_Event](), list[str](), dict(step.known)
        for other in self._events[place + 1 :]:
            if event.before(other.clock):
                continue
            if not any(earlier.before(other.clock) for earlier in between):
                if node.covers(other.name):
                    return
                first.append(other.name)
            between.append(other)
            if dependent(other.accesses, step.accesses):
                _join(known, other.clock)
        if not any(earlier.before(known) for earlier in between):
            if node.covers(step.name):
                return
            first.insert(0, step.name)
        node.wanted += _offered(node, first)[:1]


def _offered(node: Node, names: Iterable[str]) -> list[str]:
    # Whoever is first and not offered is the step itself, and waits there: it met its races there.
    return [name for name in names if name in node.names]


def _join(clock: Clock, other: Clock) -> None:
    for name, count in other.items():
        if clock.get(name, 0) < count:
            clock[name] = count
