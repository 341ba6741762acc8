"""Which known defects of the 2005 series the explorer finds under preset `seed`.

Rules:
- A defect is a guard of `fixed` that the series lacks. It is found by a scenario that names the
  guard, is violated under the series' own guards, and is not any more with this one guard added.
- The series lacks guards that mask each other, and has defects that hide others: what is not
  found here may still be shown under preset `fixed` without the guard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from guest_agent.kernel.guards import SEED
from race_explorer.case import FIXED_PRESET, Case
from race_explorer.catalogue import SEED_HAS, guards, lacks
from race_explorer.exhaustive import explore
from race_explorer.recycling import recycled
from race_explorer.replays.library import SEED_PRESET, SEED_SCHEDULES_MAX
from race_explorer.replays.text import SUFFIX
from race_explorer.report import Report
from race_explorer.scenarios import SCENARIOS

MUST_BE_FOUND: Final = ("R9", "R20", "R50", "R51")
"""Rows of the catalogue that tell defects of the series as it was posted."""
CLOSING_MIN: Final = 300
CLOSING_FACTOR: Final = 2


@dataclass(frozen=True, slots=True)
class Sighting:
    """The first violation in a scenario: after how many schedules, and its first line.

    closed_by: guards that the scenario names, each of which alone closes it.
    """

    schedules: int
    violation: str
    closed_by: tuple[str, ...]


Sightings = Mapping[str, Sighting | None]
"""Of every scenario that was searched."""


def scenarios() -> list[str]:
    """Those that name a guard which the series lacks."""
    return [name for name in SCENARIOS if _named(name)]


def sight(scenario: str) -> Sighting | None:
    """Search a scenario under the series' guards, depth first."""
    report = _search(Case(scenario, preset=SEED_PRESET), SEED_SCHEDULES_MAX)
    if report.counterexample is None:
        return None
    count = report.schedules + report.pruned
    closing = [guard for guard in _named(scenario) if _closes(scenario, guard, count)]
    violation = report.counterexample.violations[0].partition("\n")[0]
    return Sighting(count, violation, tuple(closing))


def _named(scenario: str) -> list[str]:
    named = {guard for off, _ in SCENARIOS[scenario].removals() for guard in off}
    return [guard for guard in lacks(SEED) if guard in named]


def _closes(scenario: str, guard: str, count: int) -> bool:
    """Whether the series with this guard is not violated in several times as many schedules."""
    others = tuple(name for name in lacks(SEED) if name != guard)
    case = Case(scenario, preset=FIXED_PRESET, without=others)
    report = _search(case, max(CLOSING_MIN, CLOSING_FACTOR * count))
    return report.counterexample is None


def _search(case: Case, schedules: int) -> Report:
    return explore(recycled(case.build), schedules_max=schedules)


def summary(found: Sightings) -> dict[str, Any]:
    """Defects by guard, those that nobody has met, and rows that had to be met and were not."""
    rows_of = {guard.name: guard.races for _, guard in guards()}
    defects = [
        {
            "guard": guard,
            "rows": list(rows_of[guard]),
            "instead": SEED_HAS.get(guard, ""),
            "found_by": _found_by(guard, found),
        }
        for guard in lacks(SEED)
    ]
    met = {row for defect in defects if defect["found_by"] for row in defect["rows"]}
    return {
        "preset": SEED_PRESET,
        "scenarios": len(found),
        "defects": defects,
        "not_found": [defect["guard"] for defect in defects if not defect["found_by"]],
        "missing_rows": [row for row in MUST_BE_FOUND if row not in met],
    }


def _found_by(guard: str, found: Sightings) -> list[dict[str, Any]]:
    return [
        {
            "scenario": name,
            "schedules": sighting.schedules,
            "violation": sighting.violation,
            "replay": f"{SEED_PRESET}.{name}{SUFFIX}",
        }
        for name, sighting in found.items()
        if sighting is not None and guard in sighting.closed_by
    ]
