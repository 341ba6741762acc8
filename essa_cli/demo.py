"""`essa demo`: four guests share too little memory, without hints and then with them."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live

from essa_cli import demo_report as report
from essa_cli.children import ChildFailedError
from essa_cli.demo_runs import GuestPlan, GuestState, Run, perform
from essa_cli.demo_traces import write_window
from essa_cli.errors import CliError
from guest_agent.kernel.kernel import Hints
from guest_agent.workload.replay import Access
from host_daemon.config import parse_pages

GUESTS: Final = {
    "sqlite": (("sqlite",), Access.SYSCALL),
    "compile": (("compile",), Access.MIXED),
    "search": (("search",), Access.MIXED),
    "mixed": (("sqlite", "compile", "search"), Access.MIXED),
}
"""The guests, the shipped traces that each replays side by side, and how. A database reads and
writes; only accesses through mappings can end in a discard fault."""
VCPUS: Final = 16
OVERCOMMIT: Final = 2
"""The guests' memory together, divided by the host's."""
PAGES_MIN: Final = 128
PAGES_MAX: Final = 1 << 16
ACCESSES_MAX: Final = 9_000
"""What the shortest trace's window has."""
PROGRESS_SECONDS: Final = 0.25
LINE_SECONDS: Final = 3.0


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("demo", epilog=_EPILOG)(demo)


_EPILOG = """Example: essa demo --json

Exit codes: 0 every byte right; 1 an integrity error, or a process failed; 2 bad input."""


def demo(
    memory: Annotated[
        str,
        typer.Option(
            help="Memory of each guest, as 4M or a number of 4 KiB pages; the host has half "
            "of all the guests' together.",
            metavar="SIZE",
        ),
    ] = "640",
    accesses: Annotated[
        int, typer.Option(help="Page accesses of each guest's requests.", metavar="N")
    ] = 2_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> int:
    """Run one host and four guests that share too little memory, without and with hints.

    Real processes over a Unix socket replay windows of the shipped traces, memory
    overcommitted 2:1. Both runs execute the same requests.
    """
    page_count = parse_pages(memory, "--memory", PAGES_MAX, PAGES_MIN)
    if not 1 <= accesses <= ACCESSES_MAX:
        raise CliError(f"--accesses is {accesses}; it must be 1 to {ACCESSES_MAX}")
    try:
        with tempfile.TemporaryDirectory(prefix="essa-demo-") as folder:
            runs = asyncio.run(_both(Path(folder), page_count, accesses))
    except ChildFailedError as failure:
        if failure.bad_input:
            raise CliError(failure.summary) from None
        print(f"essa: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        raise CliError(f"the demonstration's files: {error.strerror}") from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    _print(runs, as_json=as_json)
    return exit_code(runs)


def exit_code(runs: list[Run]) -> int:
    """1 if any guest saw a wrong byte."""
    return 1 if any(run.integrity_errors for run in runs) else 0


def _plans(folder: Path, page_count: int, accesses: int) -> list[GuestPlan]:
    plans = []
    for name, (traces, access) in GUESTS.items():
        paths = []
        for trace in traces:
            paths.append(folder / f"{name}-{trace}.essa-trace")
            write_window(trace, -(-accesses // len(traces)), paths[-1])
        plans.append(GuestPlan(name, tuple(paths), access, page_count, VCPUS))
    return plans


async def _both(folder: Path, page_count: int, accesses: int) -> list[Run]:
    """Both runs, one after the other. SIGTERM ends them in order."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    plans = _plans(folder, page_count, accesses)
    frames = len(plans) * page_count // OVERCOMMIT
    runs = []
    for number, hints in enumerate((Hints.NONE, Hints.VOLATILE), 1):
        run = Run(hints, [GuestState(plan) for plan in plans])
        directory = folder / hints.value
        directory.mkdir()
        shown = asyncio.create_task(_show(run, number))
        try:
            await perform(run, frames, directory)
        finally:
            shown.cancel()
            await asyncio.wait([shown])
        runs.append(run)
    return runs


async def _show(run: Run, number: int) -> None:
    """Say how far a run is, on standard error: results alone go to standard output."""
    console = Console(stderr=True)
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def every(seconds: float, show: Callable[[float], object]) -> None:
        while True:
            show(loop.time() - begun)
            await asyncio.sleep(seconds)

    if not console.is_terminal:
        print(f"run {number} of 2, {report.TITLES[run.hints]}", file=sys.stderr, flush=True)
        await asyncio.sleep(LINE_SECONDS)
        await every(
            LINE_SECONDS,
            lambda s: print(report.progress_line(run, s), file=sys.stderr, flush=True),
        )
    with Live(console=console, transient=True, auto_refresh=False) as live:
        await every(
            PROGRESS_SECONDS,
            lambda s: live.update(report.progress_view(run, number, s), refresh=True),
        )


def _print(runs: list[Run], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.as_plain(runs)))
        return
    console = Console()
    for run in runs:
        console.print(report.guest_table(run))
    console.print(report.essa_table(runs[-1]))
    console.print(report.host_table(runs))
    console.print(report.saved(*runs), highlight=False)
