"""Which step had to come before which: happens-before over declared accesses.

Rules:
- Two steps are ordered if they are the same actor's, or if what they touch makes their order
  matter (`engine.dependent`); happens-before is the transitive closure in the order of the run.
- Steps are numbered from 0 here, as in a sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from race_explorer.engine import Touch, dependent


class Event(Protocol):
    """One step of a run; a RecordedStep is one."""

    @property
    def actor(self) -> str: ...  # whose step it is

    @property
    def accesses(self) -> tuple[Touch, ...]: ...  # what it touches


Clock = dict[str, int]
"""A vector clock: how many steps of each actor are known, its own included."""


def clocks(events: Sequence[Event]) -> list[Clock]:
    """The vector clock of every step."""
    return order(events)[0]


def order(events: Sequence[Event]) -> tuple[list[Clock], list[tuple[int, int]]]:
    """The clocks, and the races: see `clocks` and `races`, which share the work.

    What a step knows already when it is compared with an earlier one, it knows from those
    between the two.
    """
    found, pairs = list[Clock](), list[tuple[int, int]]()
    for i, event in enumerate(events):
        clock: Clock = {}
        for j in range(i - 1, -1, -1):
            before = events[j]
            known = clock.get(before.actor, 0)
            if known >= found[j][before.actor]:
                continue  # ordered already
            if before.actor == event.actor or dependent(before.accesses, event.accesses):
                if before.actor != event.actor:
                    pairs.append((j, i))
                for actor, count in found[j].items():
                    clock[actor] = max(clock.get(actor, 0), count)
        clock[event.actor] = clock.get(event.actor, 0) + 1
        found.append(clock)
    return found, sorted(pairs)


def precedes(found: Sequence[Clock], events: Sequence[Event], first: int, second: int) -> bool:
    """Whether `first` had to come before `second`. found: the clocks of these events."""
    actor = events[first].actor
    return first < second and found[first][actor] <= found[second].get(actor, 0)


def cone(events: Sequence[Event], last: int) -> set[int]:
    """The steps that had to come before `last`, and `last` itself."""
    found = clocks(events)
    return {i for i in range(last) if precedes(found, events, i, last)} | {last}


def races(events: Sequence[Event]) -> list[tuple[int, int]]:
    """Pairs of steps of two actors that could have come in the other order, in the run's order.

    They are dependent, and nothing between them orders them as well.
    """
    return order(events)[1]
