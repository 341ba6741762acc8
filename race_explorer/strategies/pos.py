"""POS, partial order sampling: a priority at random for every event, drawn again where it races.

Rules:
- An event is what an actor stands before. It keeps its priority while it can be taken; whoever
  was not offered in between stands before a new event.
- Events whose order with the step that was taken matters draw again: the order of two events
  that race does not depend on what else there is. Steps that nobody else sees change nothing.

Models: Yuan, Yang, Gu, "Partial order aware concurrency sampling", CAV 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

from race_explorer.draws import Draws
from race_explorer.engine import Option, Touch, dependent
from race_explorer.strategies.profile import Profile
from race_explorer.strategies.strategy import Kind

NAME = "pos"


class Pos:
    """See the module. It needs to be told nothing about runs."""

    in_order = False

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._draws = Draws(seed)
        self._priorities: dict[str, float] = {}
        self._taken: tuple[Touch, ...] = ()

    def begin(self, number: int, profile: Profile | None) -> Kind:
        """Forget the last run."""
        self._draws = Draws(self._seed, number)
        self._priorities, self._taken = {}, ()
        return Kind(NAME)

    def choose(self, options: Sequence[Option]) -> int:
        """The highest priority."""
        before, now = self._priorities, dict[str, float]()
        chosen, highest, taken = 0, -1.0, self._taken
        for i, option in enumerate(options):
            priority = before.get(option.name)
            if priority is None or dependent(taken, option.accesses):
                priority = self._draws.unit()
            now[option.name] = priority
            if priority > highest:
                chosen, highest = i, priority
        del now[options[chosen].name]
        self._priorities, self._taken = now, options[chosen].accesses
        return chosen
