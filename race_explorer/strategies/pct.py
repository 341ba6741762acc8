"""PCT: priorities at random, and a few places where who runs becomes last.

Rules:
- Of the activities that can go on, the one with the highest priority does. Behind each of d-1
  shared steps, drawn from k, the activity that took it gets a priority below all others.
- d goes round from 1 to DEPTH_MAX with the run's number. k counts shared steps alone: steps that
  nobody else can see would make change points that change nothing (with k counted over all steps
  a few idle vCPUs make the search blind).
- Behind k shared steps the run is a fair random walk: nothing may wait for ever.

A bug that needs d orderings is found by a run with probability 1/(n k^(d-1)) or more, n being
the activities (Burckhardt, Kothari, Musuvathi, Nagarakatte, ASPLOS 2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from race_explorer.draws import Draws
from race_explorer.engine import Option
from race_explorer.replays.anchors import activity
from race_explorer.strategies.profile import Profile
from race_explorer.strategies.strategy import Kind

NAME = "pct"
DEPTH_MAX: Final = 4
STEPS_UNKNOWN: Final = 1_000
"""So many steps a run goes by priorities before anything is known about runs."""
TAIL_FACTOR: Final = 2
"""A run that gets so many times as long as any before has a fair tail, whatever k is."""


class Pct:
    """See the module."""

    in_order = False

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._draws = Draws(seed)
        self._profile: Profile | None = None
        self._depth = 1
        self._changes: dict[int, float] = {}
        self._priorities: dict[str, float] = {}
        self._shared_left = 0
        self._steps_left = 0

    def begin(self, number: int, profile: Profile | None) -> Kind:
        """Draw the change points; without a profile there is none, and d is 1."""
        self._draws = Draws(self._seed, number)
        self._profile, self._priorities, self._changes = profile, {}, {}
        if profile is None:
            self._depth, self._steps_left = 1, STEPS_UNKNOWN
            return Kind(NAME, 1)
        self._depth = 1 + number % DEPTH_MAX
        self._steps_left = TAIL_FACTOR * profile.steps
        self._shared_left = profile.shared
        for low in range(self._depth - 1):
            self._changes[self._draws.below(profile.shared)] = low
        return Kind(NAME, self._depth)

    def choose(self, options: Sequence[Option]) -> int:
        """The highest priority; where two are equal, the first."""
        if not self._steps_left:
            return self._draws.below(len(options))
        self._steps_left -= 1
        chosen, highest, priorities = 0, -1.0, self._priorities
        for i, option in enumerate(options):
            name = activity(option.name)
            priority = priorities.get(name)
            if priority is None:
                # Above all that a change point gives.
                priority = priorities[name] = self._depth + self._draws.unit()
            if priority > highest:
                chosen, highest = i, priority
        if self._profile is not None and self._profile.is_shared(options[chosen].accesses):
            self._count(activity(options[chosen].name))
        return chosen

    def _count(self, name: str) -> None:
        """The activity takes one of the k steps."""
        self._shared_left -= 1
        low = self._changes.get(self._shared_left)
        if low is not None:
            self._priorities[name] = low
        if self._shared_left <= 0:
            self._steps_left = 0
