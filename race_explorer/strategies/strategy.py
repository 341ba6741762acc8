"""What a strategy is: something that makes the choices of run after run.

Rules:
- Run `number` is the same schedule whichever process makes it, and whatever was run before: a
  strategy that draws takes its numbers from its seed and the run's number alone. What it knows
  about runs in general is a profile, which is a function of the seed too.
- A strategy that goes on from the run before says so (`in_order`), and cannot be cut up.
- All decisions are choices between options: whatever chose a run, its choices replay it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from race_explorer.engine import Option
from race_explorer.strategies.profile import Profile


class Kind(NamedTuple):
    """What chose a schedule. depth: PCT's d, or how many deviations; 0 for neither."""

    strategy: str
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Covered:
    """No run is left. deviations: of those with at most so many; None: none at all."""

    deviations: int | None = None


class Strategy(Protocol):
    """Makes the choices of one run at a time."""

    @property
    def in_order(self) -> bool: ...  # runs must be made from 0 on, each after the one before

    def begin(self, number: int, profile: Profile | None) -> Kind | Covered:
        """A run begins. profile: None for the first runs, which it is measured from."""

    def choose(self, options: Sequence[Option]) -> int:
        """The index of the option that is next; a Chooser of the engine."""
