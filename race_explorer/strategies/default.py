"""The policy of replay files, with up to three deviations at random.

Rules:
- Run 0 is what the policy takes. Behind it the number of deviations goes round from 1 to
  DEVIATIONS_MAX, each before a shared step: another option is taken there, any of them.
- What it finds is close to shrunk, because replays are written as deviations from this policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from race_explorer.draws import Draws
from race_explorer.engine import Option
from race_explorer.strategies.profile import Profile
from race_explorer.strategies.staying import Staying
from race_explorer.strategies.strategy import Kind

NAME = "default"
DEVIATIONS_MAX: Final = 3
STEPS_UNKNOWN: Final = 32
"""Deviations come among so many first steps before anything is known about runs."""


class Default:
    """See the module."""

    in_order = False

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._draws = Draws(seed)
        self._profile: Profile | None = None
        self._staying = Staying()
        self._counted = 0
        self._turns: frozenset[int] = frozenset()

    def begin(self, number: int, profile: Profile | None) -> Kind:
        """Draw where it deviates."""
        self._draws = draws = Draws(self._seed, number)
        self._profile, self._staying, self._counted = profile, Staying(), 0
        count = 1 + (number - 1) % DEVIATIONS_MAX if number else 0
        bound = STEPS_UNKNOWN if profile is None else max(1, profile.shared)
        self._turns = frozenset(draws.below(bound) for _ in range(count))
        return Kind(NAME, count)

    def choose(self, options: Sequence[Option]) -> int:
        """What the policy takes, or something else in its place."""
        choice = self._staying.policy(options)
        if self._profile is None or self._profile.is_shared(options[choice].accesses):
            if self._counted in self._turns and len(options) > 1:
                other = self._draws.below(len(options) - 1)
                choice = other + (other >= choice)
            self._counted += 1
        self._staying.take(options[choice])
        return choice
