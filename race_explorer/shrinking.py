"""Shrinking: the least that still goes wrong in the same way.

Rules:
- Less is: fewer actors, evictions and faults; then fewer deviations from the policy of
  `replays.anchors`; then fewer steps. What is accepted is always less, so shrinking ends.
- A candidate is accepted if it ends in a violation of the same signature, and it is then what
  its run has become, not what was asked for. What went wrong in a step of the race must not come
  to light only when all is over and everything is checked, which would tell another story.
- One program at least is left: no race has none.
- With something left out, the same schedule must hold with all guards on: else the violation
  would come of what is missing, such as a dead-lock for want of the actor that unlocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from typing import Final

from race_explorer.case import FIXED_PRESET, Case
from race_explorer.engine import Run, replay
from race_explorer.replays.anchors import Deviation, activity, is_program
from race_explorer.replays.around import around
from race_explorer.replays.guides import (
    ActorOrder,
    Anchored,
    Attempt,
    Guide,
    Indexed,
    attempt,
    steps_allowed,
)
from race_explorer.signature import signature

OTHER_ENDS_MAX: Final = 2_000
"""How many runs look for another end, each time nothing else gets any smaller."""


@dataclass(frozen=True, slots=True)
class Size:
    """How big a failing run is. actors: evictions and faults are counted with them."""

    actors: int
    deviations: int
    steps: int


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What is left. replays: how many runs that has taken, those that were in vain included."""

    case: Case
    run: Run
    deviations: tuple[Deviation, ...]
    before: Size
    after: Size
    replays: int


def shrink(case: Case, choices: Sequence[int]) -> Shrunk:
    """Make a failing run as small as it gets. Raises ValueError if the run does not fail."""
    found = replay(case.build, choices)
    if not found.violations:
        raise ValueError("there is nothing to shrink: the run violates nothing")
    shrinker = _Shrinker(case, found)
    before = shrinker.size
    while shrinker.cheap_passes() or shrinker.another_end():
        pass
    best = shrinker.best
    return Shrunk(shrinker.case, best.run, best.deviations, before, shrinker.size, shrinker.replays)


class _Shrinker:
    """The smallest failing run so far, and the passes that look for a smaller one.

    A pass returns whether it has found one.
    """

    def __init__(self, case: Case, found: Run) -> None:
        self.case = case
        self.replays = 1
        self._signature = signature(found.violations)
        self._steps_max = steps_allowed(len(found.steps))
        again = self._run(case, Indexed(dict(enumerate(found.choices, 1))))
        assert again is not None
        assert again.run.choices == found.choices
        self.best = again

    @property
    def size(self) -> Size:
        """Of the smallest so far."""
        actors = len(self.case.build().actors())
        return Size(actors, len(self.best.deviations), len(self.best.run.steps))

    def _run(self, case: Case, guide: Guide) -> Attempt | None:
        self.replays += 1
        return attempt(case.build, guide, steps_max=self._steps_max)

    def _fails(self, case: Case, guide: Guide) -> Attempt | None:
        """What became of it, if that ended in the violation that is looked for."""
        made = self._run(case, guide)
        return made if made is not None and self._is_wanted(made) else None

    def _is_wanted(self, made: Attempt) -> bool:
        same = signature(made.run.violations) == self._signature
        return same and made.in_race >= self.best.in_race

    def _improves(self, guide: Guide) -> bool:
        """Take the candidate if it fails, and is smaller than what there is."""
        made = self._fails(self.case, guide)
        return made is not None and self._take_if_less(made)

    def _take_if_less(self, made: Attempt) -> bool:
        if _measure(made) >= _measure(self.best):
            return False
        self.best = made
        return True

    def cheap_passes(self) -> bool:
        """All three, each as often as it finds something."""
        return self.leave_out() | self.fewer_deviations() | self.fewer_segments()

    def leave_out(self) -> bool:
        """Do without an actor, an eviction or a fault; all that can go, one after another."""
        improved = False
        while self._leave_one_out():
            improved = True
        return improved

    def _leave_one_out(self) -> bool:
        for case in filter(_has_program, self.case.smaller()):
            # The schedule is said in two ways: where one no longer fits, the other may.
            for guide in (Anchored(self.best.deviations), ActorOrder(_actors(self.best.run))):
                made = self._fails(case, guide)
                if made is not None and self._holds_with_guards(case, made):
                    self.case, self.best = case, made
                    return True
        return False

    def _holds_with_guards(self, case: Case, made: Attempt) -> bool:
        """Whether the guards make the difference; if the case has them all, there is none."""
        guarded = replace(case, preset=FIXED_PRESET, without=())
        if guarded == case:
            return True
        held = self._run(guarded, ActorOrder(_actors(made.run)))
        return held is not None and not held.run.violations

    def fewer_deviations(self) -> bool:
        """Leave deviations out, in runs of half of them down to one (ddmin's complements)."""
        improved, length = False, len(self.best.deviations)
        while length:
            if any(self._improves(Anchored(rest)) for rest in _without(self.best, length)):
                improved = True
                length = min(length, len(self.best.deviations))
            else:
                length //= 2
        return improved

    def fewer_segments(self) -> bool:
        """Let an activity do in one go what it does in two, or leave it to the policy."""
        improved = False
        while self.best.deviations and any(
            self._improves(ActorOrder(order)) for order in _rearranged(self.best)
        ):
            improved = True
        return improved

    def another_end(self) -> bool:
        """Keep the first deviations, and put any single one in the place of two or more."""
        tries = islice(self._other_ends(), OTHER_ENDS_MAX)
        return any(self._is_wanted(made) and self._take_if_less(made) for made in tries)

    def _other_ends(self) -> Iterator[Attempt]:
        steps = [0, *(deviation.step for deviation in self.best.deviations)]
        for step in steps[:-2]:
            beginning = self.best.run.choices[:step]
            for made in around(
                self.case.build, beginning, further_max=1, steps_max=self._steps_max
            ):
                self.replays += 1
                yield made


def _has_program(case: Case) -> bool:
    """Whether more than evictions and faults are left."""
    return any(map(is_program, case.build().actors()))


def _measure(made: Attempt) -> tuple[int, int]:
    return len(made.deviations), len(made.run.steps)


def _actors(run: Run) -> list[str]:
    return [actor for actor, _ in run.steps]


def _without(best: Attempt, length: int) -> Iterator[tuple[Deviation, ...]]:
    """The deviations without `length` of them that stand in a row; the last ones go first."""
    kept = best.deviations
    for end in range(len(kept), 0, -length):
        yield kept[: max(end - length, 0)] + kept[end:]


def _rearranged(best: Attempt) -> Iterator[list[str]]:
    """Orders of the actors with one segment gone, or moved to another one of its activity.

    A segment is what one activity does before another goes on.
    """
    segments = [list(steps) for _, steps in groupby(_actors(best.run), key=activity)]
    activities = [activity(segment[0]) for segment in segments]
    for i, segment in enumerate(segments):
        others = [*segments[:i], *segments[i + 1 :]]
        yield list(chain(*others))
        same = [j for j, other in enumerate(activities) if other == activities[i]]
        place = same.index(i)
        for target in same[place + 1 : place + 2] + same[:place][-1:]:
            order = [*others]
            order.insert(target if target < i else target - 1, segment)
            yield list(chain(*order))
