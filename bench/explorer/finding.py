"""How many schedules it takes to find the race that a guard is there for, by strategy and seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from race_explorer.campaign import search
from race_explorer.case import Case
from race_explorer.recycling import recycled
from race_explorer.replays.library import removals
from race_explorer.strategies import make_strategy


@dataclass(frozen=True, slots=True)
class Finding:
    """Schedules up to the first violation, one number a seed; None where none was found.

    guard: what is off, as the guard's replay is called. schedules_max: where a search gave up.
    """

    guard: str
    strategy: str
    schedules_max: int
    counts: tuple[int | None, ...]

    @property
    def found(self) -> int:
        """How many seeds found it."""
        return sum(count is not None for count in self.counts)

    def quantile(self, share: float) -> int | None:
        """The least number within which that share of the seeds found it; None if too few did."""
        ordered = sorted(count for count in self.counts if count is not None)
        place = -int(-share * len(self.counts) // 1) - 1
        return ordered[place] if place < len(ordered) else None

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "seeds": len(self.counts),
            "found": self.found,
            "median": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "schedules_max": self.schedules_max,
        }


def wanted(guards: tuple[str, ...]) -> dict[str, Case]:
    """The cases of these guards, or of all. Raises KeyError for a name that is none."""
    cases = removals()
    return {name: cases[name] for name in guards} if guards else cases


def find(guard: str, case: Case, strategy: str, *, seeds: int, schedules_max: int) -> Finding:
    """Search with every seed from 0 on; once, if the strategy is one that draws nothing."""
    drawn = range(1) if make_strategy(strategy, 0).in_order else range(seeds)
    counts = list[int | None]()
    for seed in drawn:
        report = search(recycled(case.build), strategy, schedules_max, seed, classify_every=0)
        counts.append(None if report.counterexample is None else report.schedules)
    return Finding(guard, strategy, schedules_max, tuple(counts))
