"""`essa soak`: guests that do everything at once, a host that evicts all the time."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from essa_cli.children import ChildFailedError
from essa_cli.errors import CliError
from essa_cli.guest import guards_of, weights_of
from essa_cli.soak_runs import Soak, SoakPlan, perform
from guest_agent.config import PAGES_MIN
from guest_agent.kernel.guards import PRESETS
from host_daemon.config import parse_pages

PAGES_MAX: Final = 1 << 16
GUESTS_MAX: Final = 16
VCPUS_MAX: Final = 64
PROGRESS_SECONDS: Final = 0.25
LINE_SECONDS: Final = 5.0


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("soak", epilog=_EPILOG)(soak)


_EPILOG = """Example: essa soak --seed 7 --operations 40000

Exit codes: 0 clean; 1 a wrong byte, a violated invariant, a guest that its kernel has stopped
or that is dead-locked; 2 bad input."""


def soak(
    seed: Annotated[int, typer.Option(help="Of the operations, evictions and yields.")] = 0,
    operations: Annotated[int, typer.Option(help="Over all guests.", metavar="N")] = 40_000,
    guests: Annotated[int, typer.Option(help="Number of guests.")] = 2,
    vcpus: Annotated[int, typer.Option(help="Number of vCPUs of each guest.")] = 16,
    memory: Annotated[
        str,
        typer.Option(
            help="Memory of a guest, as 1M or a number of 4 KiB pages; those that are to swap "
            "have a third. The host has half of all the guests' together.",
            metavar="SIZE",
        ),
    ] = "384",
    preset: Annotated[
        str,
        typer.Option(
            help="Guards: seed is the 2005 series as written, fixed has all corrections.",
            metavar="|".join(PRESETS),
        ),
    ] = "fixed",
    without: Annotated[
        list[str] | None,
        typer.Option(help="Switch one guard off; repeatable.", metavar="GUARD"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="As of `essa guest`.", metavar="NAME=N,...", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> int:
    """Run guests under constant eviction, every byte and every invariant checked.

    Real processes over a Unix socket: each guest mixes all operations of its kernel over
    several processes, files and vCPUs, and yields at points chosen by the seed.
    """
    page_count = parse_pages(memory, "--memory", PAGES_MAX, 4 * PAGES_MIN)
    _bound("--guests", guests, 1, GUESTS_MAX)
    _bound("--vcpus", vcpus, 1, VCPUS_MAX)
    _bound("--operations", operations, guests, 1 << 40)
    guards_of(preset, without or [])
    options = ["--preset", preset, *(x for guard in without or [] for x in ("--without", guard))]
    if weights is not None:
        weights_of(weights)
        options += ["--weights", weights]
    plan = SoakPlan(
        seed,
        operations,
        guests,
        vcpus,
        page_count,
        tuple(options),
    )
    run = Soak.of(plan)
    try:
        with tempfile.TemporaryDirectory(prefix="essa-soak-") as folder:
            asyncio.run(_with_progress(run, Path(folder)))
    except ChildFailedError as failure:
        if failure.bad_input:
            raise CliError(failure.summary) from None
        print(f"essa: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        raise CliError(f"the soak's files: {error.strerror}") from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    _print(run, as_json=as_json)
    return 0 if run.is_clean else 1


def _bound(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise CliError(f"{option} is {value}; it must be {low} to {high}")


async def _with_progress(run: Soak, folder: Path) -> None:
    """Perform the soak and show how far it is. SIGTERM ends it in order."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    shown = asyncio.create_task(_bar(run) if sys.stderr.isatty() else _lines(run))
    try:
        await perform(run, folder)
    finally:
        shown.cancel()
        await asyncio.wait([shown])


async def _bar(run: Soak) -> None:
    with Progress(
        TextColumn("operations"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        shown = progress.add_task("operations", total=run.plan.operations, figures="")
        while True:
            progress.update(shown, completed=run.done, figures=_figures(run))
            await asyncio.sleep(PROGRESS_SECONDS)


async def _lines(run: Soak) -> None:
    while True:
        await asyncio.sleep(LINE_SECONDS)
        done = f"{run.done:,} of {run.plan.operations:,} operations"
        print(f"{done}, {_figures(run)}", file=sys.stderr, flush=True)


def _figures(run: Soak) -> str:
    faults = sum(guest.discard_faults for guest in run.guests)
    wrong = sum(len(guest.damage) for guest in run.guests)
    text = f"{faults:,} discard faults, {sum(run.evicted.values()):,} evictions"
    return f"{text}, {wrong} violations" if wrong else text


def _print(run: Soak, *, as_json: bool) -> None:
    figures = run.plain()
    damage = figures["damage"]
    if as_json:
        print(json.dumps(figures))
        return
    table = Table(title=f"soak, seed {run.plan.seed}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for key, value in figures.items():
        if key == "damage" or value is None:
            continue
        if isinstance(value, dict):
            text = "\n".join(f"{name} {count:,}" for name, count in value.items() if count)
        else:
            text = f"{value:,}"
        table.add_row("ESSAs" if key == "essa" else key.replace("_", " "), text)
    Console().print(table)
    for line in damage:
        print(line)
