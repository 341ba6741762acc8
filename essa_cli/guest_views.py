"""How `essa guest` shows how far a guest is, and what it did."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from guest_agent.agent import GuestAgent
from guest_agent.report import Report
from shared import telemetry

PROGRESS_SECONDS: Final = 0.5


async def bar(agent: GuestAgent) -> None:
    """A bar on the terminal, until cancelled."""
    with Progress(
        TextColumn("requests"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        shown = progress.add_task("requests", total=agent.progress().request_count, figures="")
        while True:
            now = agent.progress()
            figures = f"{now.cache_hits:,} hits, {now.discard_faults:,} discard faults"
            if now.integrity_errors:
                figures += f", [red]{now.integrity_errors:,} integrity errors[/red]"
            if now.invariant_violations:
                figures += f", [red]{now.invariant_violations:,} invariants violated[/red]"
            progress.update(shown, completed=now.requests, figures=figures)
            await asyncio.sleep(PROGRESS_SECONDS)


async def log(agent: GuestAgent) -> None:
    """A line in the log every now and then, until cancelled."""
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        now = agent.progress()
        telemetry.logger().info(
            "guest_progressed",
            requests=now.requests,
            request_count=now.request_count,
            cache_hits=now.cache_hits,
            discard_faults=now.discard_faults,
            integrity_errors=now.integrity_errors,
            invariant_violations=now.invariant_violations,
        )


def print_report(report: Report, *, as_json: bool) -> None:
    """The figures on standard output."""
    figures = report.plain()
    if as_json:
        print(json.dumps(figures))
        return
    table = Table(title=f"guest {report.name}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for key, value in figures.items():
        if key != "name":
            table.add_row("ESSAs" if key == "essa" else key.replace("_", " "), _text(value))
    Console().print(table)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        used = [f"{name} {count:,}" for name, count in value.items() if count]
        return "\n".join(used) or "none"
    return f"{value:,}"
