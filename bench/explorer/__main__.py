"""`python -m bench.explorer [--full] [--frontrun FILE] [--json FILE]`: measure the race explorer.

How fast it is, beside frontrun where that is installed, how soon each strategy finds what each
guard is there for, what exhaustive search costs with each reduction, and how short replays are.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.explorer import finding, frontrun_side, shrunk
from bench.explorer.reductions import exhaust
from bench.explorer.report import Results, tables
from bench.explorer.settings import FULL, STRATEGIES, Settings
from bench.explorer.speed import Speed
from bench.explorer.toy import LostUpdate
from bench.progress import Begins, shown
from race_explorer.case import Case
from race_explorer.exhaustive import Reduction
from race_explorer.recycling import recycled

TABLE_WIDTH: Final = 120


def step_count(settings: Settings) -> int:
    """How often `measure` says that something begins."""
    rounds = settings.rounds * (len(settings.speed) + 2)
    searches = len(finding.wanted(settings.guards)) * len(STRATEGIES)
    return rounds + searches + len(settings.exhaustive) * len(Reduction)


def measure(settings: Settings, other: frontrun_side.Frontrun | None, begins: Begins) -> Results:
    """Run everything. other: frontrun, if it is there."""
    begun, load = time.perf_counter(), os.getloadavg()[0]
    speeds = [Speed(name, recycled(Case(name).build), count) for name, count in settings.speed]
    toy = Speed("lost update", LostUpdate, settings.toy_schedules)
    results = Results(speeds, toy, other)
    for number in range(settings.rounds):
        for speed in (*speeds, toy):
            begins(speed.name)
            speed.round(number)
        begins(frontrun_side.NAME)
        if results.frontrun is not None:
            try:
                results.frontrun.round(number)
            except frontrun_side.MissingError as error:
                results.frontrun, results.note = None, str(error)
    for guard, case in finding.wanted(settings.guards).items():
        for strategy in STRATEGIES:
            begins(f"{strategy}, {guard}")
            results.findings.append(
                finding.find(
                    *(guard, case, strategy),
                    seeds=settings.seeds,
                    schedules_max=settings.schedules_max,
                )
            )
    for case in settings.exhaustive:
        for reduction in Reduction:
            begins(f"{reduction.value}, {case.scenario}")
            results.exhausted.append(exhaust(case, reduction, settings.runs_max))
    results.shrunk = shrunk.sizes()
    results.load = (load, os.getloadavg()[0])
    results.seconds = time.perf_counter() - begun
    return results


def run(settings: Settings, other: frontrun_side.Frontrun | None, json_file: Path | None) -> None:
    """Measure with a bar on standard error; the tables go to standard output."""
    with shown(step_count(settings), 40) as begins:
        results = measure(settings, other, begins)
    if results.note:
        print(f"bench: {results.note}", file=sys.stderr)
    console = Console(width=max(Console().width, TABLE_WIDTH))
    for table in tables(results):
        console.print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(results.as_json(), indent=2) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Without frontrun everything else is measured, and one line says so."""
    parser = argparse.ArgumentParser(prog="python -m bench.explorer", description=__doc__)
    parser.add_argument("--full", action="store_true", help="every guard; an hour or more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything here")
    parser.add_argument(
        "--frontrun", type=Path, metavar="FILE", help="the program of an environment that has it"
    )
    given = parser.parse_args(arguments)
    json_file: Path | None = given.json
    if json_file is not None and not json_file.absolute().parent.is_dir():
        print(f"bench: {json_file.parent} is no directory", file=sys.stderr)
        return 2
    settings, other = FULL if given.full else Settings(), None
    try:
        program = frontrun_side.find(given.frontrun)
        other = frontrun_side.Frontrun(program, settings.other_schedules)
    except frontrun_side.MissingError as error:
        print(f"bench: {error}", file=sys.stderr)
    run(settings, other, json_file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
