"""Uniform random walk: every enabled step is as likely as any other."""

from __future__ import annotations

from collections.abc import Sequence

from race_explorer.draws import Draws
from race_explorer.engine import Option
from race_explorer.strategies.profile import Profile
from race_explorer.strategies.strategy import Kind

NAME = "random"


class RandomWalk:
    """Blind to how long a program is: what must wait for a long one comes up rarely."""

    in_order = False

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._draws = Draws(seed)

    def begin(self, number: int, profile: Profile | None) -> Kind:
        """Runs need nothing but their numbers."""
        self._draws = Draws(self._seed, number)
        return Kind(NAME)

    def choose(self, options: Sequence[Option]) -> int:
        """Any of them."""
        return self._draws.below(len(options))
