"""URW: a random walk that is uniform over schedules, not over steps.

Rules:
- An activity is as likely as the share that its remaining steps have in all that remain; then
  each interleaving of programs that do not wait for one another is as likely as any other.
- How many steps there are is the most that probe runs had, and 1 is left of everybody who can go
  on: a probe that ended early must not make a step impossible.
- Steps of an activity that is yet to appear belong to the one that it came of.

Models: Zhao, Wolff, Mathur, Roychoudhury, "Selectively uniform concurrency testing", ASPLOS 2025.
"""

from __future__ import annotations

from collections.abc import Sequence

from race_explorer.draws import Draws
from race_explorer.engine import Option
from race_explorer.replays.anchors import activity
from race_explorer.strategies.profile import Profile
from race_explorer.strategies.strategy import Kind

NAME = "urw"


class Urw:
    """See the module. Before there is a profile it is a uniform walk."""

    in_order = False

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._draws = Draws(seed)
        self._profile: Profile | None = None
        self._left: dict[str, int] = {}

    def begin(self, number: int, profile: Profile | None) -> Kind:
        """Everybody has all steps before them."""
        self._draws = Draws(self._seed, number)
        self._profile, self._left = profile, {}
        return Kind(NAME)

    def choose(self, options: Sequence[Option]) -> int:
        """Drawn by what remains."""
        if self._profile is None:
            return self._draws.below(len(options))
        names, left = [activity(option.name) for option in options], self._left
        for name in names:
            if name not in left:
                self._appear(name, self._profile)
        weights = [max(1, left[name]) for name in names]
        at, chosen = self._draws.below(sum(weights)), 0
        while at >= weights[chosen]:
            at -= weights[chosen]
            chosen += 1
        left[names[chosen]] -= 1
        return chosen

    def _appear(self, name: str, profile: Profile) -> None:
        """All its steps are before it, and no longer its parent's."""
        self._left[name] = count = profile.counts.get(name, 1)
        parent = profile.parents.get(name)
        if parent in self._left:
            self._left[parent] -= count
