"""Delay-bounded search: every schedule with no deviation from the policy, then with one, ...

Rules:
- The policy is that of replay files: go on with the activity that ran last, or take the first
  option. Each schedule comes once, those with fewer deviations first: the first that fails is
  nearly as short as can be told.
- It is systematic. Runs go on from one another, so that a search cannot be cut into ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from race_explorer.engine import DivergedError, Option
from race_explorer.strategies.profile import Profile
from race_explorer.strategies.staying import Staying
from race_explorer.strategies.strategy import Covered, Kind

NAME = "delay"
DEVIATIONS_MAX: Final = 3

_Turns = tuple[tuple[int, int], ...]
"""(step, choice) of every deviation, in order."""


@dataclass(slots=True)
class _Run:
    """A run that was made. offered, taken: behind its last deviation, options and the policy's."""

    turns: _Turns
    offered: bytearray
    taken: bytearray

    def children(self) -> Iterator[_Turns]:
        """The same runs with one deviation more, behind those that they have."""
        start = self.turns[-1][0] + 1 if self.turns else 0
        for step, (count, policy) in enumerate(zip(self.offered, self.taken, strict=True), start):
            for choice in range(count):
                if choice != policy:
                    yield (*self.turns, (step, choice))


class Delay:
    """See the module. The seed makes no difference."""

    in_order = True

    def __init__(self, seed: int = 0, deviations_max: int = DEVIATIONS_MAX) -> None:
        self._most = deviations_max
        self._depth = 0
        self._made: list[_Run] = []
        self._more = False
        self._next: Iterator[_Turns] = iter([()])
        self._run: _Run | None = None
        self._choices: dict[int, int] = {}
        self._step = 0
        self._staying = Staying()

    def begin(self, number: int, profile: Profile | None) -> Kind | Covered:
        """The next schedule; Covered when none with so few deviations is left."""
        if self._run is not None:
            self._keep(self._run)
        turns = next(self._next, None)
        if turns is None:
            if not self._more:
                return Covered()
            if self._depth == self._most:
                return Covered(self._most)
            made, self._made, self._more = self._made, [], False
            self._depth += 1
            self._next = (turns for run in made for turns in run.children())
            turns = next(self._next)
        self._run = _Run(turns, bytearray(), bytearray())
        self._choices, self._step, self._staying = dict(turns), 0, Staying()
        return Kind(NAME, self._depth)

    def _keep(self, run: _Run) -> None:
        """For its children, if there are any and they have not too many deviations."""
        if any(count > 1 for count in run.offered):
            self._more = True
            if self._depth < self._most:
                self._made.append(run)

    def choose(self, options: Sequence[Option]) -> int:
        """The policy's choice, but at deviations. Raises DivergedError if one is not offered."""
        assert self._run is not None
        choice = self._choices.pop(self._step, None)
        if choice is None:
            choice = self._staying.policy(options)
            if not self._choices:
                self._run.offered.append(len(options))
                self._run.taken.append(choice)
        elif choice >= len(options):
            raise DivergedError(f"step {self._step}: choice {choice} of {len(options)}")
        self._staying.take(options[choice])
        self._step += 1
        return choice
