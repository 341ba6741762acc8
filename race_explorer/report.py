"""What a search has found, and how reports of parts of a search become one.

Rules:
- A report is counts of runs, never of seconds: it is the same on every machine.
- A search cut into ranges of run numbers and merged says what one search says; ranges behind
  one that ended at its counterexample are not counted, because one search never gets there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from race_explorer.engine import Run
from race_explorer.strategies.profile import Profile
from race_explorer.strategies.strategy import Kind


class End(StrEnum):
    """Why a search is over."""

    BUDGET = "budget"  # as many schedules as it was given
    COUNTEREXAMPLE = "counterexample"  # it was to stop at the first violation
    EXHAUSTED = "exhausted"  # no schedule is left
    CALLER = "caller"  # it was told to stop


class Place(NamedTuple):
    """Where a run stands in its campaign. kind: what chose the schedule."""

    number: int
    kind: Kind


@dataclass(slots=True)
class Report:
    """Counts of the runs of a search, or of a range of it.

    schedules: runs that came to their end; budget: how many were asked for. pruned: runs that were
    abandoned, because what is left of them differs from a schedule tried by order alone.
    deviations: if not None, only schedules with so many deviations from the policy count as
    schedules. reached: runs that came there. violated: schedules with a violation.
    counterexample, found: the first violation's run, and where it stands.
    kinds: schedules by what chose them. classes: how many runs fell into each class of equivalent
    schedules, of those that were classified. profile: what runs from PROBE_RUNS on were told.
    """

    strategy: str = ""
    seed: int = 0
    first: int = 0
    budget: int = 0
    schedules: int = 0
    pruned: int = 0
    steps: int = 0
    end: End = End.BUDGET
    deviations: int | None = None
    violated: int = 0
    counterexample: Run | None = None
    found: Place | None = None
    reached: Counter[str] = field(default_factory=Counter)
    kinds: Counter[Kind] = field(default_factory=Counter)
    classes: Counter[int] = field(default_factory=Counter)
    profile: Profile | None = None

    @property
    def exhausted(self) -> bool:
        """Whether no schedule is left."""
        return self.end is End.EXHAUSTED and self.deviations is None

    @property
    def classified(self) -> int:
        """Runs whose class was looked at."""
        return self.classes.total()

    @property
    def singletons(self) -> int:
        """Classes that exactly one run fell into."""
        return sum(1 for count in self.classes.values() if count == 1)

    def add(self, run: Run, kind: Kind) -> None:
        """Count a run that came to its end."""
        if run.violations:
            self.violated += 1
            if self.counterexample is None:
                self.counterexample = run
                self.found = Place(self.first + self.schedules, kind)
        self.schedules += 1
        self.steps += len(run.steps)
        self.kinds[kind] += 1
        self.reached.update(run.reached)


OnProgress = Callable[[Report], bool]
"""Called after every run with the report so far, which grows; False stops the search."""


def merge(reports: Sequence[Report]) -> Report:
    """One report of adjacent ranges of one campaign, in any order.

    Raises ValueError if there is none, if they are of several campaigns, or if a range is
    missing between two that count.
    """
    if len({(report.strategy, report.seed) for report in reports}) != 1:
        raise ValueError(f"{len(reports)} reports of not exactly one campaign")
    ordered = sorted(reports, key=lambda report: report.first)
    whole = Report(ordered[0].strategy, ordered[0].seed, ordered[0].first)
    for part in ordered:
        if part.first != whole.first + whole.budget:
            raise ValueError(f"run {whole.first + whole.budget} is missing, or reported twice")
        _append(whole, part)
        if whole.end is not End.BUDGET:
            break
    whole.budget = sum(report.budget for report in ordered)
    return whole


def _append(whole: Report, part: Report) -> None:
    whole.budget += part.budget
    whole.schedules += part.schedules
    whole.pruned += part.pruned
    whole.steps += part.steps
    whole.end, whole.deviations = part.end, part.deviations
    whole.violated += part.violated
    if whole.counterexample is None:
        whole.counterexample, whole.found = part.counterexample, part.found
    # Not `+=`: it looks at every count there is, for each part.
    whole.reached.update(part.reached)
    whole.kinds.update(part.kinds)
    whole.classes.update(part.classes)
    whole.profile = whole.profile or part.profile
