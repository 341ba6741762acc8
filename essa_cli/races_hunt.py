"""`essa races hunt`: search without a scenario's help, on all processors."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from essa_cli import races_exhaust
from essa_cli.errors import CliError
from essa_cli.races_holes import print_holes, told
from guest_agent.kernel.guards import PRESETS
from race_explorer.case import FIXED_PRESET, Case
from race_explorer.hunt.composition import COMPOSED
from race_explorer.hunt.hunt import SCHEDULES_EACH, Hunted, hunt
from race_explorer.hunt.small import BOUND

SCHEDULES: Final = 2_000
RANGE: Final = 10
"""Compositions that a process takes at a time."""
SCHEDULES_MAX: Final = 10_000_000
JOBS_MAX: Final = 64


def register(app: typer.Typer) -> None:
    """Add the command to `essa races`."""
    app.command("hunt", epilog=_EPILOG)(hunt_command)


_EPILOG = """Example: essa races hunt --preset seed --schedules 2000

Exit codes: 0 nothing went wrong; 1 something did; 2 bad input; 3 not every schedule was tried."""


def hunt_command(
    preset: Annotated[
        str,
        typer.Option(
            help="Guards: seed is the 2005 series as written, fixed has all corrections.",
            metavar="|".join(PRESETS),
        ),
    ] = FIXED_PRESET,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Switch one guard off; repeatable.", metavar="GUARD"),
    ] = None,
    schedules: Annotated[
        int | None,
        typer.Option(
            help=f"About so many, {SCHEDULES_EACH} for each composition [2000]; with "
            f"--exhaustive at most so many for each [{BOUND}].",
            show_default=False,
        ),
    ] = None,
    exhaustive: Annotated[
        bool,
        typer.Option("--exhaustive", help="Every schedule of compositions that are small enough."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of compositions and schedules.")] = 0,
    jobs: Annotated[int, typer.Option(help="Processes; 0: one for each processor.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> int:
    """Try composed actors over one page, and cut down what goes wrong.

    Two address spaces that map, store, msync, protect, unmap and fork, system calls, writeback,
    reclaim, DMA, the host's evictions; with and without the minor-fault patch. What is found is
    shrunk, and for a preset that lacks guards it is said which of them alone closes the hole.
    """
    if schedules is None:
        schedules = BOUND if exhaustive else SCHEDULES
    _bound("--schedules", schedules, 1, SCHEDULES_MAX)
    _bound("--seed", seed, 0, 1 << 32)
    _bound("--jobs", jobs, 0, JOBS_MAX)
    off = tuple(without or ())
    try:
        Case(COMPOSED, preset=preset, without=off, workload="read").check()
    except ValueError as error:
        raise CliError(str(error)) from None
    jobs = jobs or os.cpu_count() or 1
    if exhaustive:
        return _exhaust(preset, off, schedules, jobs, as_json=as_json)
    found = _hunt(preset, off, seed, -(-schedules // SCHEDULES_EACH), jobs)
    holes = [
        told(hole.case, hole.run.choices, name, found.seen[name])
        for name, hole in found.holes.items()
    ]
    if as_json:
        print(json.dumps(_summary(found, preset, off, seed) | {"holes": holes}, indent=2))
    else:
        _print(found, holes, preset)
    return 1 if holes else 0


def _exhaust(preset: str, off: tuple[str, ...], bound: int, jobs: int, *, as_json: bool) -> int:
    """3: nothing went wrong, and of some composition not every schedule was tried."""
    found = races_exhaust.exhausted(preset, off, bound, jobs)
    holes = list(races_exhaust.holes(found, preset, off))
    if as_json:
        named = {"preset": preset, "without": list(off)}
        print(json.dumps(named | races_exhaust.summary(found) | {"holes": holes}, indent=2))
    else:
        races_exhaust.print_counts(found, preset)
        print_holes(holes)
    return 1 if holes else 0 if all(one.complete for one in found) else 3


def _bound(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise CliError(f"{option} is {value}; it must be {low} to {high}")


def _hunt(preset: str, off: tuple[str, ...], seed: int, count: int, jobs: int) -> Hunted:
    """The same whatever the number of processes: ranges are put together in their order."""
    found = Hunted()
    columns = (TextColumn("compositions"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        ProcessPoolExecutor(min(jobs, -(-count // RANGE))) as pool,
        Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress,
    ):
        task = progress.add_task("", total=count)
        parts = [
            pool.submit(_range, preset, off, seed, first, min(first + RANGE, count))
            for first in range(0, count, RANGE)
        ]
        for part in parts:
            found.add(part.result())
            progress.update(task, completed=found.compositions)
    return found


def _range(preset: str, off: tuple[str, ...], seed: int, first: int, end: int) -> Hunted:
    return hunt(preset, off, seed=seed, numbers=range(first, end))


def _summary(found: Hunted, preset: str, off: tuple[str, ...], seed: int) -> dict[str, Any]:
    return {
        "preset": preset,
        "without": list(off),
        "seed": seed,
        "compositions": found.compositions,
        "schedules": found.schedules,
        "steps": found.steps,
    }


def _print(found: Hunted, holes: list[dict[str, Any]], preset: str) -> None:
    console = Console()
    console.print(
        f"{found.schedules:,} schedules of {found.compositions:,} compositions, "
        f"{found.steps:,} steps, preset {preset}: "
        + (f"{len(holes)} ways to go wrong" if holes else "nothing went wrong"),
        soft_wrap=True,
    )
    print_holes(holes)
