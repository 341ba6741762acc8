"""The portfolio: strategies take turns, because each is blind to bugs that another one sees.

Rules:
- Run `number` is the next one of the strategy whose turn it is; all know the same profile.
"""

from __future__ import annotations

from collections.abc import Sequence

from race_explorer.engine import Option
from race_explorer.strategies.default import Default
from race_explorer.strategies.pct import Pct
from race_explorer.strategies.pos import Pos
from race_explorer.strategies.profile import Profile
from race_explorer.strategies.random_walk import RandomWalk
from race_explorer.strategies.strategy import Covered, Kind, Strategy
from race_explorer.strategies.urw import Urw

NAME = "portfolio"


class Portfolio:
    """See the module."""

    in_order = False

    def __init__(self, seed: int) -> None:
        self._members: tuple[Strategy, ...] = (
            RandomWalk(seed),
            Pct(seed),
            Pos(seed),
            Urw(seed),
            Default(seed),
        )
        self._turn: Strategy = self._members[0]

    def begin(self, number: int, profile: Profile | None) -> Kind | Covered:
        """Whose turn it is."""
        self._turn = self._members[number % len(self._members)]
        return self._turn.begin(number // len(self._members), profile)

    def choose(self, options: Sequence[Option]) -> int:
        """As whose turn it is."""
        return self._turn.choose(options)
