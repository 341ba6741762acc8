"""The kill matrix: each guard off in turn; who finds it, and nobody finds anything with all on.

Rules:
- Every guard is tried in every scenario. Scenarios that name it, alone or together with a guard
  that masks it, come first: depth first, and by drawn schedules from several seeds. All others
  get a few drawn schedules.
- What a guard costs to find is the median over the seeds. A seed that draws in vain goes on
  depth first: its count is what it drew and what that took.
- A scenario whose preparation already fails without a guard that it does not name has not found
  it: there is no race yet.
- A false alarm is a scenario that is violated with all guards on, within its budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from race_explorer import exhaustive
from race_explorer.campaign import search
from race_explorer.case import Case
from race_explorer.catalogue import guards
from race_explorer.recycling import recycled
from race_explorer.scenarios import SCENARIOS
from race_explorer.strategies import portfolio


@dataclass(frozen=True, slots=True)
class Effort:
    """Budgets in schedules. depth, drawn: for scenarios that name a guard, depth first and from
    each of so many seeds; other: for those that do not; guarded: with all guards on."""

    seeds: int
    depth: int
    drawn: int
    other: int
    guarded: int


FULL: Final = Effort(seeds=5, depth=60_000, drawn=200, other=3, guarded=200)
FAST: Final = Effort(seeds=3, depth=60_000, drawn=25, other=1, guarded=10)


@dataclass(frozen=True, slots=True)
class Cell:
    """One search. off: guards that are off, none for the check with all on. named: whether the
    scenario says that it misses them."""

    scenario: str
    off: tuple[str, ...]
    schedules_max: int
    strategy: str = exhaustive.NAME
    seed: int = 0
    named: bool = True

    @property
    def is_depth_first(self) -> bool:
        """Whether it draws nothing."""
        return self.strategy == exhaustive.NAME


Found = Mapping[Cell, int | None]
"""Of every search that came to its end, after how many schedules it met a violation, if at all."""


def cells(only: Iterable[str], effort: Effort) -> list[Cell]:
    """All searches, in the order of what they are worth. only: guards to look at, none for all."""
    wanted = _names(only)
    removals = [
        (scenario.name, off)
        for scenario in SCENARIOS.values()
        for off, _ in scenario.removals()
        if set(off) & set(wanted)
    ]
    naming = {(scenario, guard) for scenario, off in removals for guard in off}
    depth = [Cell(scenario, off, effort.depth) for scenario, off in removals]
    drawn = [
        Cell(scenario, off, effort.drawn, portfolio.NAME, seed)
        for seed in range(effort.seeds)
        for scenario, off in removals
    ]
    guarded = [Cell(scenario, (), effort.guarded) for scenario in SCENARIOS]
    other = [
        Cell(scenario, (guard,), effort.other, portfolio.NAME, named=False)
        for guard in wanted
        for scenario in SCENARIOS
        if (scenario, guard) not in naming
    ]
    return [*depth, *drawn, *guarded, *other]


def examine(cell: Cell) -> int | None:
    """How many schedules it took to find a violation; None if none was found."""
    case = Case(cell.scenario, without=cell.off)
    if not cell.named and not _can_be_built(case):
        return None
    build = recycled(case.build)
    report = search(build, cell.strategy, cell.schedules_max, cell.seed, classify_every=0)
    return None if report.counterexample is None else report.schedules + report.pruned


def _can_be_built(case: Case) -> bool:
    """Whether what comes before the race still works without the guards."""
    try:
        case.build()
    except Exception:  # whatever the preparation of a scenario trips over: it is no race
        return False
    return True


def table(only: Iterable[str], found: Found) -> dict[str, dict[str, int | None]]:
    """Guard -> scenario -> schedules, for `pictures.matrix`."""
    rows = dict[str, dict[str, int | None]]()
    for name, cells_of in _by_guard(only, found).items():
        rows[name] = {}
        for scenario in dict.fromkeys(cell.scenario for cell in cells_of):
            counts = samples([cell for cell in cells_of if cell.scenario == scenario], found)
            rows[name][scenario] = int(median(counts)) if counts else None
    return rows


def samples(cells_of: Sequence[Cell], found: Found) -> list[int]:
    """What each search took that met a violation; of drawn ones, going on depth first.

    The depth-first search alone counts where no seed has drawn for the scenario.
    """
    depth = {(c.scenario, c.off): found[c] for c in cells_of if c.is_depth_first}
    drawn = [cell for cell in cells_of if not cell.is_depth_first]
    counts = list[int]()
    for cell in drawn:
        count, further = found[cell], depth.get((cell.scenario, cell.off))
        if count is None and further is not None:
            count = cell.schedules_max + further
        if count is not None:
            counts.append(count)
    return counts or [count for count in depth.values() if count is not None]


def summary(only: Iterable[str], found: Found) -> dict[str, Any]:
    """The same as JSON, with the false alarms and the pairs that mask each other."""
    rows = table(only, found)
    told = dict[str, dict[str, Any]]()
    for name, cells_of in _by_guard(only, found).items():
        counts = samples([cell for cell in cells_of if cell.named], found)
        # A scenario that does not name the guard and misses it: that is a kill, too.
        counts = counts or samples(cells_of, found)
        told[name] = {
            "killed_by": sorted(s for s, count in rows[name].items() if count is not None),
            "schedules_median": median(counts) if counts else None,
            "scenarios": len(rows[name]),
            "samples": len(counts),
        }
    alarms = {c.scenario for c, count in found.items() if not c.off and count is not None}
    return {
        "scenarios": len({cell.scenario for cell in found}),
        "guards": told,
        "false_alarms": sorted(alarms),
        "seeds": 1 + max((c.seed for c in found if c.named and not c.is_depth_first), default=-1),
        "pairs": sorted({cell.off for cell in found if len(cell.off) > 1}),
    }


def _names(only: Iterable[str]) -> list[str]:
    return list(only) or [guard.name for _, guard in guards()]


def _by_guard(only: Iterable[str], found: Found) -> dict[str, list[Cell]]:
    return {name: [cell for cell in found if name in cell.off] for name in _names(only)}
