"""What matters in a run: the cone of its failure, the two accesses in conflict, who caused what.

Rules:
- The cone is what had to happen before the last step. A run that fails only at its end depends on
  all that was done to pages.
- The pair in conflict is the given flip, or else the last race before the failure. Where that is
  about a lock, the accesses that the lock was taken for are named instead.
- Arrows go from lane to lane, from a step to one that came after it and could not be swapped
  with it unnoticed; what only delivers something is no conflict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from race_explorer.causality import Clock, order, precedes
from race_explorer.engine import ANY, dependent
from race_explorer.pictures.cast import cast, lane
from race_explorer.pictures.resources import Resource, resource_name
from race_explorer.pictures.spans import Hold, Span, spans
from race_explorer.pictures.story import Shown
from race_explorer.pictures.telling import LOCK_KINDS, Look, Telling, telling
from race_explorer.recording import PAGE_KINDS, PageSeen, RecordedStep

Pair = tuple[int, int]

_CARRIERS: Final = frozenset({"irq", "fault", "reply", "ipi", "idle"})
"""Kinds of resources by which one actor sets another going."""
_SHARED_BY_ALL: Final = frozenset({"frames", "lru", "free_list"})
"""Kinds of which there is one for all pages: an order by them alone tells nothing."""


TOLD_MAX: Final = 3
"""So often the same words in the same lane matter; after that it is a repetition."""


class Tie(StrEnum):
    """Why two steps come in this order."""

    DELIVERY = "delivery"
    LOCK = "lock"
    ORDER = "order"


@dataclass(frozen=True, slots=True)
class Arrow:
    """From a step to a later one in another lane. what: the resources, for people."""

    source: int
    target: int
    tie: Tie
    what: str


class Plot:
    """What there is to say of one run. Indices of steps are from 0.

    flip: two steps, by index. Everything is computed when it is asked for.
    """

    def __init__(self, shown: Shown, flip: Pair | None = None) -> None:
        self.shown = shown
        self.flip = flip
        self.steps = shown.recording.steps
        self.lanes = cast(step.actor for step in self.steps)
        self.lane_of = [lane(step.actor) for step in self.steps]

    @cached_property
    def tellings(self) -> tuple[Telling, ...]:
        """Every step in words."""
        befores = [self.shown.recording.before, *(step.pages for step in self.steps)]
        several = len(self.shown.recording.pfns) > 1
        return tuple(
            telling(step, befores[i], self.shown.moments[i], self.shown.names, name_pages=several)
            for i, step in enumerate(self.steps)
        )

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """What was held, and for how long."""
        return spans(self.shown)

    @cached_property
    def clocks(self) -> list[Clock]:
        """The vector clock of every step."""
        return self._order[0]

    @cached_property
    def races(self) -> list[Pair]:
        """Pairs of steps of two lanes that could have come in the other order."""
        return [pair for pair in self._order[1] if self._lanes_differ(pair)]

    @cached_property
    def _order(self) -> tuple[list[Clock], list[Pair]]:
        return order(self.steps)

    @cached_property
    def cone(self) -> frozenset[int]:
        """The steps that the failure depends on; all, if it does not fail."""
        if not self.shown.recording.violations:
            return frozenset(range(len(self.steps)))
        found: set[int] = set()
        for last in self._ends():
            found |= {i for i in range(last) if precedes(self.clocks, self.steps, i, last)}
            found.add(last)
        return frozenset(found)

    def _ends(self) -> list[int]:
        """The last step; or the last of each actor that wrote to a page, if it fails after it."""
        if not self.steps:
            return []
        last = len(self.steps) - 1
        if self.shown.in_race:
            return [last]
        ends = {
            step.actor: i
            for i, step in enumerate(self.steps)
            if any(a.write and a.resource[0] in PAGE_KINDS for a in step.accesses)
        }
        return sorted({last, *ends.values()})

    @cached_property
    def pair(self) -> Pair | None:
        """The two accesses in conflict; None if no two lanes are in any."""
        if self.flip is not None:
            return self._behind_locks(self.flip)
        found = [pair for pair in self.races if pair[1] in self.cone]
        serious = [pair for pair in found if self._kinds(pair) - _CARRIERS - _SHARED_BY_ALL]
        return max(map(self._behind_locks, serious or found), key=self._weight, default=None)

    def _weight(self, pair: Pair) -> tuple[bool, bool, int, int]:
        """About a page rather than not; what its reader goes on with; then the last."""
        first, second = pair
        about_page = bool(self._kinds(pair) & (PAGE_KINDS | {"pte", "tlb"}))
        goes_on = self.lane_of[first] in self.lane_of[second + 1 :]
        return about_page, goes_on and self._writes(second, first), second, first

    def _behind_locks(self, pair: Pair) -> Pair:
        """If the pair hands over a lock: what was read under it by the one, written by the other.

        A stale read is what such races are made of, so it is preferred to other conflicts.
        """
        if self._kinds(pair) - LOCK_KINDS:
            return pair
        first = [i for i in self._held(pair[0]) if i <= pair[0]]
        second = [i for i in self._held(pair[1]) if i >= pair[1]]
        found = [
            (i, j)
            for i in first
            for j in second
            if self._kinds((i, j)) - LOCK_KINDS - _CARRIERS - _SHARED_BY_ALL
        ]
        return max(found, key=lambda p: (self._writes(p[1], p[0]), p[0], -p[1]), default=pair)

    def _held(self, index: int) -> Iterator[int]:
        """The steps of this lane while it held the lock that the step takes or gives back."""
        name = self.lane_of[index]
        for span in self.spans:
            last = len(self.steps) - 1 if span.last is None else span.last
            if span.lane == name and span.hold is Hold.LOCK and index in (span.first, last):
                yield from (i for i in range(span.first, last + 1) if self.lane_of[i] == name)

    def _writes(self, writer: int, reader: int) -> bool:
        """Whether the one writes a resource that the other only reads."""
        read = {a.resource for a in self.steps[reader].accesses if not a.write}
        return any(a.write and a.resource in read for a in self.steps[writer].accesses)

    @cached_property
    def arrows(self) -> tuple[Arrow, ...]:
        """What ties the lanes together, in the order of the later steps."""
        found: dict[Pair, Arrow] = {}
        for pair in self.races:
            resources = [r for r in self._shared(pair) if self._tells(pair, r)]
            if resources:
                named = (resource_name(resource, self.shown.names) for resource in resources)
                what = ", ".join(dict.fromkeys(named))
                found[pair] = Arrow(*pair, _tie({kind for kind, _ in resources}), what)
        for i, cause in enumerate(self.causes):
            if cause is not None and self._lanes_differ((cause, i)):
                found.setdefault((cause, i), Arrow(cause, i, Tie.DELIVERY, "makes it possible"))
        return tuple(found[pair] for pair in sorted(found, key=lambda pair: (pair[1], pair[0])))

    def _tells(self, pair: Pair, resource: Resource) -> bool:
        """Whether an order by this resource says something; what only carries does from writer on.

        Who looks for an interrupt before it is raised is not set going by it.
        """
        if resource[0] in _CARRIERS:
            return any(a.write and a.resource == resource for a in self.steps[pair[0]].accesses)
        return resource[0] not in _SHARED_BY_ALL

    @cached_property
    def causes(self) -> list[int | None]:
        """For every step the one of another actor that made it possible, if there is one."""
        return [self._cause(i) for i in range(len(self.steps))]

    def _cause(self, index: int) -> int | None:
        step = self.steps[index]
        offer = (step.actor, step.label)
        for i in range(index - 1, -1, -1):
            if self.steps[i].actor == step.actor:
                return None
            if offer not in self.steps[i].enabled:
                return i
        return None

    def _lanes_differ(self, pair: Pair) -> bool:
        return self.lane_of[pair[0]] != self.lane_of[pair[1]]

    def _kinds(self, pair: Pair) -> set[str]:
        return {kind for kind, _ in self._shared(pair)}

    def _shared(self, pair: Pair) -> list[Resource]:
        return shared(self.steps[pair[0]], self.steps[pair[1]])

    @cached_property
    def ranks(self) -> list[int]:
        """How much every step matters to a reader: 0 most, 5 not at all."""
        ends = {i for pair in self.races for i in pair if self._kinds(pair) - _CARRIERS}
        marked = {*(self.pair or ()), *(self.flip or ()), len(self.steps) - 1}
        ranks, told = list[int](), Counter[tuple[str, str]]()
        for i, lane_name in enumerate(self.lane_of):
            rank = self._rank(i, marked, ends)
            said = lane_name, self.tellings[i].text
            told[said] += 1
            ranks.append(max(rank, 4) if rank and told[said] > TOLD_MAX else rank)
        return ranks

    def _rank(self, i: int, marked: set[int], ends: set[int]) -> int:
        if i in marked:
            return 0
        if i not in self.cone:
            return 4 if i in ends else 5
        before = self.shown.recording.before if i == 0 else self.steps[i - 1].pages
        pairs = zip(before, self.steps[i].pages, strict=True)
        if any(_looks(old) != _looks(new) for old, new in pairs):
            return 1
        if self.steps[i].label == "read_change_bit" or self.steps[i].said.startswith("fault"):
            return 1
        if self.tellings[i].look is Look.FAULT:
            return 1
        if self.tellings[i].look in (Look.ESSA, Look.KEY, Look.ACCESS, Look.INTERRUPT):
            return 2
        if self.tellings[i].look is Look.CHANGE or i in ends:
            return 2
        return 3


def _looks(page: PageSeen) -> tuple[object, ...]:
    """The part of a page that the host acts on, and whose it is."""
    return page.state, page.changed, page.owner, page.incarnation


def _tie(kinds: set[str]) -> Tie:
    if kinds <= LOCK_KINDS:
        return Tie.LOCK
    return Tie.DELIVERY if kinds <= _CARRIERS else Tie.ORDER


def shared(first: RecordedStep, second: RecordedStep) -> list[Resource]:
    """What both touch and one of them writes, in the order of the first."""
    return [
        a.resource if a.resource[1] != ANY else b.resource
        for a in first.accesses
        for b in second.accesses
        if dependent((a,), (b,))
    ]
