"""What exhaustive search costs without a reduction, with sleep sets, and with source sets."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from race_explorer.case import Case
from race_explorer.exhaustive import Reduction, explore
from race_explorer.recycling import recycled


@dataclass(frozen=True, slots=True)
class Exhausted:
    """One search to its end, or to its bound. seconds: of the processor."""

    scenario: str
    reduction: Reduction
    schedules: int
    pruned: int
    exhausted: bool
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "reduction": self.reduction.value
        }


def exhaust(case: Case, reduction: Reduction, runs_max: int) -> Exhausted:
    """Search a case that holds, as far as so many runs go."""
    begun = time.process_time()
    report = explore(
        recycled(case.build), schedules_max=runs_max, reduction=reduction, stop_at_first=False
    )
    return Exhausted(
        case.scenario,
        reduction,
        report.schedules,
        report.pruned,
        report.exhausted,
        time.process_time() - begun,
    )
