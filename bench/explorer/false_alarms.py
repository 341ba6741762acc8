"""`python -m bench.explorer.false_alarms [--schedules N]`: the whole catalogue with every guard on.

Rules:
- Schedules are dealt out evenly over scenarios and strategies; which ones they are depends on
  their number alone, and what is counted does not depend on the number of processes.
- Any violation is a false alarm, or a finding. It is told as what `essa races run` would need to
  meet it again, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from race_explorer.campaign import search
from race_explorer.case import Case
from race_explorer.recycling import recycled
from race_explorer.scenarios import SCENARIOS

STRATEGIES: Final = ("random", "pct", "pos", "urw")
PART: Final = 250
"""Schedules of one search."""


@dataclass(frozen=True, slots=True)
class Part:
    """One search: PART schedules of one scenario by one strategy from one seed."""

    scenario: str
    strategy: str
    seed: int
    schedules: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of it. alarms: one line for each violation."""

    schedules: int = 0
    steps: int = 0
    alarms: tuple[str, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.schedules + other.schedules, self.steps + other.steps, self.alarms + other.alarms
        )


def parts(schedules: int) -> Iterator[Part]:
    """The searches that together make so many schedules, or the fewest more."""
    each = -(-schedules // (len(SCENARIOS) * len(STRATEGIES)))
    for seed, first in enumerate(range(0, each, PART)):
        for strategy in STRATEGIES:
            for scenario in SCENARIOS:
                yield Part(scenario, strategy, seed, min(PART, each - first))


def run(part: Part) -> Tally:
    """Make one search with every guard on."""
    report = search(
        recycled(Case(part.scenario).build),
        *(part.strategy, part.schedules, part.seed),
        stop_at_first=False,
        classify_every=0,
    )
    found = report.counterexample
    alarm = () if found is None else (f"{part}: {'; '.join(found.violations)}",)
    return Tally(report.schedules, report.steps, alarm)


def main(arguments: list[str] | None = None) -> int:
    """0: nothing was violated."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    parser.add_argument("--schedules", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a sentence")
    given = parser.parse_args(arguments)
    begun, tally = time.perf_counter(), Tally()
    columns = (TextColumn("schedules"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    work = list(parts(given.schedules))
    with (
        ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task("", total=sum(part.schedules for part in work))
        for future in as_completed([pool.submit(run, part) for part in work]):
            tally += future.result()
            progress.update(task, completed=tally.schedules)
    seconds = time.perf_counter() - begun
    if given.json:
        found = {"schedules": tally.schedules, "steps": tally.steps, "seconds": round(seconds, 1)}
        print(json.dumps(found | {"false_alarms": sorted(tally.alarms)}, indent=2))
    else:
        print(*sorted(tally.alarms), sep="\n", end="\n" if tally.alarms else "")
        print(
            f"{tally.schedules:,} schedules, {tally.steps:,} steps of {len(SCENARIOS)} scenarios "
            f"in {seconds:,.0f} seconds: {len(tally.alarms)} false alarms"
        )
    return 1 if tally.alarms else 0


if __name__ == "__main__":
    sys.exit(main())
