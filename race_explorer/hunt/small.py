"""Compositions so small that all their schedules can be tried: two programs and an evicting host.

Rules:
- One page, three actors that race at least: two vCPUs and the host, whose eviction takes four
  steps of its own. A discard fault adds its delivery, writeback its interrupt.
- What is promised of a preset is that of each composition every schedule was tried; one for which
  the bound came first is said to be so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from race_explorer.case import Case
from race_explorer.exhaustive import explore
from race_explorer.hunt.composition import COMPOSED
from race_explorer.recycling import recycled
from race_explorer.report import End
from race_explorer.signature import signature

SMALL: Final = (
    "evict=1; start=store.0; readonly.0 | look",
    "evict=1; start=store.0; msync.0 | readonly.0",
    "evict=1; start=store.0; readonly.0 | reclaim",
    "evict=1; start=store.0 load.1; munmap.0 | munmap.1",
    "evict=1; start=store.0; munmap.0 | look",
    "evict=1; start=load.0; store.0 | look",
)
BOUND: Final = 100_000
"""Schedules of one composition, abandoned ones included, unless something else is asked for."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """What became of one composition.

    schedules, abandoned, steps: counts. complete: none was left. signature, violation, choices: of
    the first that went wrong, or empty.
    """

    composition: str
    schedules: int
    abandoned: int
    steps: int
    complete: bool
    signature: str = ""
    violation: str = ""
    choices: tuple[int, ...] = ()


def exhaust(text: str, preset: str, without: tuple[str, ...], bound: int = BOUND) -> Exhausted:
    """Try every schedule of a composition, or as many as the bound allows, until one goes wrong."""
    case = Case(COMPOSED, preset=preset, without=without, workload=text)
    report = explore(recycled(case.build), schedules_max=bound)
    run = report.counterexample
    counts = (text, report.schedules, report.pruned, report.steps, report.end is End.EXHAUSTED)
    if run is None:
        return Exhausted(*counts)
    return Exhausted(*counts, signature(run.violations), run.violations[0], tuple(run.choices))
