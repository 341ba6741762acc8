"""The minimal flip: two steps of a failing run whose swap makes it pass.

Rules:
- Candidates are the races of the run: dependent steps of two activities that nothing between
  them orders. Swaps of two programs are tried first, which tell more than what comes earlier or
  later of an eviction, and of those the last one first.
- A swap leaves what came before as it was, takes the second step and all that it needs before
  the first, and then goes on in the old order as far as that can be. Where the host's step
  alone does not save the run, the whole eviction may.
- Where no swap saves the run, for instance because a lock covers both steps, there may still be
  a run that passes and parts from it late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from race_explorer.causality import clocks, precedes, races
from race_explorer.engine import Run
from race_explorer.recording import RecordedStep, Recording, record
from race_explorer.recycling import recycled
from race_explorer.replays.anchors import activity, is_program
from race_explorer.replays.guides import ActorOrder, Indexed, attempt, steps_allowed
from race_explorer.world import SimWorld

NEAREST_MAX: Final = 1_000
"""How many runs look for one that passes and parts late."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A pair of steps of a failing run, and the run in which they come the other way round.

    first, second: their places in `failing.steps`, from 0. replays: how many runs it took.
    """

    failing: Recording
    passing: Recording
    first: int
    second: int
    replays: int

    def describe(self) -> str:
        """Such as "host.evict.1 begin_eviction before cpu0 load: fails; after: passes"."""
        first, second = self.failing.steps[self.first], self.failing.steps[self.second]
        return (
            f"{first.actor} {first.label} before {second.actor} {second.label}: "
            "fails; after: passes"
        )


def minimal_flip(build: Callable[[], SimWorld], failing: Recording) -> Flip | None:
    """The swap that tells most; None if none saves the run.

    Raises ValueError for a run that does not fail.
    """
    if not failing.violations:
        raise ValueError("there is nothing to flip: the run violates nothing")
    steps, worlds = failing.steps, recycled(build)
    replays = 0
    for first, second in _candidates(steps):
        for order in _orders(steps, first, second):
            replays += 1
            actors = ActorOrder(steps[k].actor for k in order)
            made = attempt(worlds, actors, steps_max=steps_allowed(len(steps)))
            if made is None or made.run.violations:
                continue
            if _comes_before(made.run, steps[second], steps[first]):
                passing = record(build, made.run.choices)
                return Flip(failing, passing, first, second, replays)
    return None


def nearest_passing(build: Callable[[], SimWorld], failing: Recording) -> Recording | None:
    """A run that passes and has as many first steps in common with this one as can be.

    It goes on by the policy of `replays.anchors`. None if no run within the budget passes.
    """
    choices, left, worlds = failing.choices, NEAREST_MAX, recycled(build)
    for step in reversed(failing.steps):
        for other in range(len(step.enabled)):
            if other == step.choice:
                continue
            if not left:
                return None
            left -= 1
            turned = dict(enumerate((*choices[: step.index - 1], other), 1))
            made = attempt(worlds, Indexed(turned), steps_max=steps_allowed(len(choices)))
            if made is not None and not made.run.violations:
                return record(build, made.run.choices)
    return None


def _candidates(steps: Sequence[RecordedStep]) -> list[tuple[int, int]]:
    """The races, in the order in which they are tried."""
    pairs = [
        (first, second)
        for first, second in races(steps)
        if activity(steps[first].actor) != activity(steps[second].actor)
    ]

    def telling(pair: tuple[int, int]) -> tuple[bool, int, int]:
        first, second = pair
        return all(is_program(steps[k].actor) for k in pair), second, first

    return sorted(pairs, key=telling, reverse=True)


def _orders(steps: Sequence[RecordedStep], first: int, second: int) -> Iterator[list[int]]:
    """The steps' places in a new order, in one or two ways."""
    found, actor = clocks(steps), steps[second].actor
    moved = [k for k in range(first + 1, second) if precedes(found, steps, k, second)]
    moved.append(second)
    yield _moved(steps, first, moved)
    if not is_program(actor):
        later = range(second + 1, len(steps))
        rest = [k for k in later if activity(steps[k].actor) == activity(actor)]
        if rest:
            yield _moved(steps, first, [*moved, *rest])


def _moved(steps: Sequence[RecordedStep], to: int, places: list[int]) -> list[int]:
    return [*range(to), *places, *(k for k in range(to, len(steps)) if k not in places)]


def _comes_before(run: Run, one: RecordedStep, other: RecordedStep) -> bool:
    """Whether the one step was taken, and the other one later or never."""
    place, others = _place(run, one), _place(run, other)
    return place is not None and (others is None or place < others)


def _place(run: Run, wanted: RecordedStep) -> int | None:
    places = [i for i, step in enumerate(run.steps) if step == (wanted.actor, wanted.label)]
    return places[wanted.nth - 1] if len(places) >= wanted.nth else None
