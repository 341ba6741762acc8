"""What is said of a hole that a hunt has found: as data, and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from race_explorer.case import Case
from race_explorer.hunt.hunt import closing_guards
from race_explorer.shrinking import shrink


def told(case: Case, choices: Sequence[int], signature: str, seen: int) -> dict[str, Any]:
    """Everything that is worth saying of a hole, after cutting its run down."""
    shrunk = shrink(case, choices)
    return {
        "signature": signature,
        "violation": shrunk.run.violations[0].partition("\n")[0],
        "seen": seen,
        "composition": case.workload,
        "shrunk": shrunk.case.workload,
        "deviations": len(shrunk.deviations),
        "steps": len(shrunk.run.steps),
        "choices": list(shrunk.run.choices),
        "closed_by": closing_guards(shrunk.case, signature),
    }


def print_holes(holes: list[dict[str, Any]]) -> None:
    """A table of each."""
    console = Console()
    for hole in holes:
        table = Table(title=hole["signature"], title_justify="left", show_header=False)
        table.add_row("seen", f"{hole['seen']:,} compositions")
        table.add_row("least", hole["shrunk"])
        table.add_row("", f"{hole['deviations']} deviations, {hole['steps']} steps")
        table.add_row("violation", hole["violation"])
        if hole["closed_by"]:
            table.add_row("closed by", ", ".join(hole["closed_by"]))
        console.print(table)
