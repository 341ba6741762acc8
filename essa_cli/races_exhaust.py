"""`essa races hunt --exhaustive`: every schedule of the small compositions, on all processors."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from essa_cli.races_holes import told
from race_explorer.case import Case
from race_explorer.hunt.composition import COMPOSED
from race_explorer.hunt.small import SMALL, Exhausted, exhaust


def exhausted(preset: str, off: tuple[str, ...], bound: int, jobs: int) -> list[Exhausted]:
    """What became of each small composition, in their order."""
    work = partial(exhaust, preset=preset, without=off, bound=bound)
    columns = (TextColumn("compositions"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        ProcessPoolExecutor(min(jobs, len(SMALL))) as pool,
        Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress,
    ):
        task = progress.add_task("", total=len(SMALL))
        parts = [pool.submit(work, text) for text in SMALL]
        for _ in as_completed(parts):
            progress.advance(task)
        return [part.result() for part in parts]


def holes(found: list[Exhausted], preset: str, off: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """What went wrong, each way once, cut down."""
    seen = Counter(one.signature for one in found if one.violation)
    for name, count in seen.items():
        first = next(one for one in found if one.signature == name)
        case = Case(COMPOSED, preset=preset, without=off, workload=first.composition)
        yield told(case, first.choices, name, count)


def summary(found: list[Exhausted]) -> dict[str, Any]:
    """Plain data."""
    return {
        "exhaustive": True,
        "schedules": sum(one.schedules for one in found),
        "abandoned": sum(one.abandoned for one in found),
        "steps": sum(one.steps for one in found),
        "compositions": [
            {
                "composition": one.composition,
                "verdict": _verdict(one),
                "schedules": one.schedules,
                "abandoned": one.abandoned,
                "steps": one.steps,
            }
            for one in found
        ],
    }


def print_counts(found: list[Exhausted], preset: str) -> None:
    """A table of what was tried."""
    title = f"every schedule, preset {preset}"
    table = Table("composition", "verdict", title=title, title_justify="left")
    for name in ("schedules", "abandoned", "steps"):
        table.add_column(name, justify="right")
    for one in found:
        counts = (f"{n:,}" for n in (one.schedules, one.abandoned, one.steps))
        table.add_row(one.composition, _verdict(one), *counts)
    Console().print(table)


def _verdict(one: Exhausted) -> str:
    if one.violation:
        return "violated"
    return "holds: none is left" if one.complete else "inconclusive: the bound"
