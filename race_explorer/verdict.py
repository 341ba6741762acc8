"""What a search may claim: it holds, it is violated, or that cannot be said, and why.

Rules:
- A pass is certified by evidence: every schedule was tried, or it says how many were, what they
  would have missed, and how much there was still to be seen.
- A situation that the scenario is about and that no run reached makes a pass worth nothing, and
  so does a search that was stopped, or that went depth first and left schedules behind.
- Nothing here depends on time: verdicts are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from race_explorer import exhaustive
from race_explorer.case import Case
from race_explorer.replays.anchors import POLICY
from race_explorer.report import End, Report
from race_explorer.scenarios.scenario import Scenario
from race_explorer.strategies import delay, pct

DEPTHS: Final = (1, 2, 3)
"""Of bugs that a PCT bound is printed for."""


class Outcome(StrEnum):
    """There is no fourth."""

    HOLDS = "holds"
    VIOLATED = "violated"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Verdict:
    """reason: one line. statements: what backs it, a line each. figures: the same as JSON."""

    outcome: Outcome
    reason: str
    statements: tuple[str, ...]
    figures: Mapping[str, Any]

    def lines(self) -> list[str]:
        """For people."""
        return [f"{self.outcome}: {self.reason}", *(f"  {line}" for line in self.statements)]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"verdict": str(self.outcome), "reason": self.reason, **self.figures}


def judge(scenario: Scenario, case: Case, report: Report) -> Verdict:
    """The verdict on a search of a case of the scenario."""
    verdict = weigh(report, sometimes=scenario.sometimes, bound=scenario.bound)
    about = {
        "scenario": scenario.name,
        "preset": case.preset,
        "without": list(case.without),
        "dropped": list(case.dropped),
        "faults": case.faults,
    }
    return Verdict(
        verdict.outcome, verdict.reason, verdict.statements, {**about, **verdict.figures}
    )


def weigh(report: Report, *, sometimes: Sequence[str] = (), bound: int | None = None) -> Verdict:
    """The verdict on any search.

    sometimes: situations that must have been reached. bound: how many schedules of a depth-first
    search are taken for enough, where there are too many for all; None: only all are.
    """
    missing = [situation for situation in sometimes if not report.reached[situation]]
    outcome, reason = _decide(report, missing, bound)
    statements = [] if outcome is Outcome.VIOLATED else [*_evidence(report), *_reached(report)]
    return Verdict(outcome, reason, tuple(statements), _figures(report, missing))


def _decide(report: Report, missing: Sequence[str], bound: int | None) -> tuple[Outcome, str]:
    if report.counterexample is not None:
        return Outcome.VIOLATED, _found(report)
    tried = f"{report.schedules:,} of {report.budget:,} schedules"
    if report.end is End.CALLER:
        return Outcome.INCONCLUSIVE, f"stopped after {tried}"
    if not report.schedules:
        return Outcome.INCONCLUSIVE, "no schedule came to its end"
    if missing:
        return Outcome.INCONCLUSIVE, f"never reached: {', '.join(missing)}"
    if report.end is End.EXHAUSTED:
        return Outcome.HOLDS, _all_tried(report)
    if report.strategy == exhaustive.NAME:
        if bound is None or report.schedules + report.pruned < bound:
            return (
                Outcome.INCONCLUSIVE,
                f"{_many(report.schedules, 'schedule')} tried, more are left",
            )
        return Outcome.HOLDS, (
            f"bounded: no violation in the first {_many(report.schedules, 'schedule')}"
        )
    return Outcome.HOLDS, f"no violation in {_many(report.schedules, 'schedule')}"


def _found(report: Report) -> str:
    assert report.counterexample is not None
    assert report.found is not None
    what = report.counterexample.violations[0].partition("\n")[0]
    number, (strategy, depth) = report.found
    by = f"{strategy}, d={depth}" if depth else strategy
    return f"{what} (run {number}, {by}, seed {report.seed})"


def _all_tried(report: Report) -> str:
    count = f"{report.schedules:,} of them, {_many(report.steps, 'step')}"
    if report.deviations is None:
        return f"every schedule was tried, {count}; none is left"
    return f"every schedule with {_at_most(report.deviations)} was tried, {count}"


def _at_most(deviations: int) -> str:
    return f"at most {_many(deviations, 'deviation')} from {POLICY}"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _evidence(report: Report) -> list[str]:
    found = [
        f"{report.strategy}: {_many(report.schedules, 'schedule')}, {_many(report.steps, 'step')}"
    ]
    if report.pruned:
        found.append(
            f"{report.pruned:,} more abandoned: the same as one of these but for the order of "
            "independent steps"
        )
    if report.end is End.EXHAUSTED:
        return found
    return [*found, *_systematic(report), *_pct(report), *_classes(report)]


def _systematic(report: Report) -> list[str]:
    deepest = max((kind.depth for kind in report.kinds if kind.strategy == delay.NAME), default=0)
    if not deepest:
        return []
    return [f"among them all with {_at_most(deepest - 1)}"]


def _pct(report: Report) -> list[str]:
    misses = pct_misses(report)
    if not misses or report.profile is None:
        return []
    runs, profile = sum(_pct_runs(report).values()), report.profile
    bounds = ", ".join(f"d={depth}: {miss:.2g}" for depth, miss in misses.items())
    return [
        f"PCT: {runs:,} runs, n={profile.activities} actors, k={profile.shared} shared steps; "
        f"a bug that needs d orderings is missed with probability at most {bounds}"
    ]


def _classes(report: Report) -> list[str]:
    new = unseen(report)
    if new is None:
        return []
    return [
        f"classes of equivalent schedules: {len(report.classes):,} among {report.classified:,} "
        f"runs, {report.singletons:,} seen once; the next run is of a new one with probability "
        f"of about {new:.2g}"
    ]


def _reached(report: Report) -> list[str]:
    if not report.reached:
        return []
    counts = [f"{name} ({count:,})" for name, count in sorted(report.reached.items())]
    return [f"runs that reached: {', '.join(counts)}"]


# Bounds and estimates.


def pct_misses(report: Report) -> dict[int, float]:
    """Bug depth -> the probability, at most, that none of the PCT runs shows such a bug.

    A run with depth D finds one of depth d <= D with probability 1/(n k^(D-1)) or more. Empty if
    there were no such runs, or if too few were made to know n and k.
    """
    runs, profile = _pct_runs(report), report.profile
    if not runs or profile is None:
        return {}
    return {depth: miss_bound(profile.activities, profile.shared, runs, depth) for depth in DEPTHS}


def miss_bound(actors: int, shared: int, runs: Mapping[int, int], depth: int) -> float:
    """The same for n actors and k shared steps. runs: how many were made of each depth."""
    n, k = max(1, actors), max(1, shared)
    miss = 1.0
    for made_with, count in runs.items():
        if made_with >= depth:
            miss *= (1 - 1 / (n * k ** (made_with - 1))) ** count
    return miss


def _pct_runs(report: Report) -> dict[int, int]:
    return {
        kind.depth: count
        for kind, count in sorted(report.kinds.items())
        if kind.strategy == pct.NAME
    }


def unseen(report: Report) -> float | None:
    """Good and Turing's estimate that the next run is of a class that none was of.

    It is the share of classes seen once in all runs that were classified; None if none was, or
    if a systematic strategy chose them: its next run is no draw.
    """
    if not report.classified or report.strategy == delay.NAME:
        return None
    return report.singletons / report.classified


def _figures(report: Report, missing: Sequence[str]) -> dict[str, Any]:
    profile, run, found = report.profile, report.counterexample, report.found
    return {
        "strategy": report.strategy,
        "seed": report.seed,
        "budget": report.budget,
        "end": str(report.end),
        "schedules": report.schedules,
        "pruned": report.pruned,
        "steps": report.steps,
        "exhausted": report.exhausted,
        "deviations": report.deviations,
        "violated": report.violated,
        "counterexample": None
        if run is None or found is None
        else {
            "run": found.number,
            "strategy": found.kind.strategy,
            "depth": found.kind.depth,
            "violations": list(run.violations),
            "choices": list(run.choices),
        },
        "reached": dict(sorted(report.reached.items())),
        "never_reached": list(missing),
        "classes": len(report.classes),
        "classified": report.classified,
        "singletons": report.singletons,
        "unseen": unseen(report),
        "actors": None if profile is None else profile.activities,
        "shared_steps": None if profile is None else profile.shared,
        "pct_runs": {str(depth): count for depth, count in _pct_runs(report).items()},
        "pct_miss": {str(depth): miss for depth, miss in pct_misses(report).items()},
    }
