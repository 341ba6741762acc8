"""The kill matrix: each guard off in turn; who finds it, and nobody finds anything with all on.

Rules:
- A guard counts as killed by a scenario that is violated without it, in the first
  counterexample of a depth-first search; one that another guard masks, without both.
- A false alarm is a scenario that is violated with all guards on, within its budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from race_explorer.case import Case
from race_explorer.catalogue import guards
from race_explorer.exhaustive import explore
from race_explorer.recycling import recycled
from race_explorer.scenarios import SCENARIOS

KILL_SCHEDULES_MAX: Final = 60_000


@dataclass(frozen=True, slots=True)
class Cell:
    """One search. off: guards that are off, none for the check with all on."""

    scenario: str
    off: tuple[str, ...]
    schedules_max: int


def cells(only: Iterable[str], guarded_max: int) -> list[Cell]:
    """All searches. only: guards to look at, none for all. guarded_max: schedules with all on."""
    wanted = list(only)
    found = list[Cell]()
    for scenario in SCENARIOS.values():
        removals = [off for off, _ in scenario.removals() if not wanted or set(off) & set(wanted)]
        found += [Cell(scenario.name, off, KILL_SCHEDULES_MAX) for off in removals]
        if removals:
            found.append(Cell(scenario.name, (), guarded_max))
    return found


def examine(cell: Cell) -> int | None:
    """How many schedules it took to find a violation; None if none was found."""
    case = Case(cell.scenario, without=cell.off)
    report = explore(recycled(case.build), schedules_max=cell.schedules_max)
    return report.schedules if report.counterexample is not None else None


def table(
    only: Iterable[str], found: Mapping[Cell, int | None]
) -> dict[str, dict[str, int | None]]:
    """Guard -> scenario -> schedules, for `pictures.matrix`."""
    names = list(only) or [guard.name for _, guard in guards()]
    return {
        name: {cell.scenario: count for cell, count in found.items() if name in cell.off}
        for name in names
    }


def summary(only: Iterable[str], found: Mapping[Cell, int | None]) -> dict[str, Any]:
    """The same as JSON, with the false alarms and the pairs that mask each other."""
    told = dict[str, dict[str, Any]]()
    for name, row in table(only, found).items():
        kills = {scenario: count for scenario, count in row.items() if count is not None}
        told[name] = {
            "killed_by": sorted(kills),
            "schedules_median": median(kills.values()) if kills else None,
        }
    return {
        "scenarios": len({cell.scenario for cell in found}),
        "guards": told,
        "false_alarms": sorted(c.scenario for c, n in found.items() if not c.off and n is not None),
        "pairs": sorted({cell.off for cell in found if len(cell.off) > 1}),
    }
