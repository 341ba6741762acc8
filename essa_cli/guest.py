"""`essa guest`: run one guest against a host until its traces are replayed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from essa_cli.errors import CliError
from guest_agent.agent import DeadlockError, GuestAgent, Report, load_plan
from guest_agent.config import ConfigError, GuestConfig
from guest_agent.disk import DiskFileError
from guest_agent.kernel.cpu import KernelBug
from guest_agent.kernel.guards import PRESETS, Guards
from guest_agent.kernel.kernel import Hints
from guest_agent.workload.events import TraceError
from guest_agent.workload.plan import Spread
from guest_agent.workload.replay import Access
from guest_agent.workload.tracefile import resolve
from host_daemon.config import parse_pages
from shared import telemetry
from shared.arch import Mode
from shared.rpc.channel import DEFAULT_LISTEN, HostUnreachableError, parse_address

PAGES_MAX: Final = 1 << 20
"""4 GiB: each page is an object of the guest's kernel."""
PROGRESS_SECONDS: Final = 0.5


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("guest", epilog=_EPILOG)(guest)


_EPILOG = """Example: essa guest --memory 16M --vcpus 2 --hints volatile --trace sqlite

Exit codes: 0 done, every byte right; 1 an integrity error, or the guest's kernel found a bug
in itself; 2 bad input, or no host."""


def guest(
    trace: Annotated[
        list[str] | None,
        typer.Option(
            help="What to replay: a file of any format that `essa trace import` reads, or the "
            "name of a shipped trace; repeatable, several run side by side.",
            metavar="FILE|NAME",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="The host: unix:PATH or HOST:PORT.", metavar="ADDRESS", envvar="ESSA_HOST"
        ),
    ] = DEFAULT_LISTEN,
    name: Annotated[
        str | None, typer.Option(help="The guest's name.  [default: guest-PID]", show_default=False)
    ] = None,
    memory: Annotated[
        str, typer.Option(help="Its memory, as 64M or a number of 4 KiB pages.", metavar="SIZE")
    ] = "16M",
    vcpus: Annotated[int, typer.Option(help="Number of vCPUs.")] = 1,
    disk: Annotated[
        Path | None,
        typer.Option(
            help="File of the guest's disk, kept over runs.  [default: one that is removed]",
            metavar="PATH",
            show_default=False,
        ),
    ] = None,
    hints: Annotated[
        Hints | None,
        typer.Option(
            help="What the guest tells its host.  [default: volatile; in mode kvm unused]",
            show_default=False,
        ),
    ] = None,
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
    access: Annotated[
        Access, typer.Option(help="How requests reach the page cache.")
    ] = Access.SYSCALL,
    spread: Annotated[
        Spread,
        typer.Option(
            help="What stays in order on one vCPU: each process, or each place of a file."
        ),
    ] = Spread.PROCESS,
    requests: Annotated[
        int | None, typer.Option(help="Only so many requests of each trace.", show_default=False)
    ] = None,
    cache_pages: Annotated[
        int | None,
        typer.Option(help="Pages that the page cache may hold.", show_default=False),
    ] = None,
    mode: Annotated[Mode, typer.Option(help="The machine to ask for.")] = Mode.SEED,
    perturb: Annotated[
        int | None,
        typer.Option(
            help="Let others run first at some points of the kernel, chosen by this seed.",
            metavar="SEED",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for a host that is not there yet.")
    ] = 10.0,
    log_level: Annotated[
        str, typer.Option(help="What to log.", metavar="|".join(telemetry.LEVELS))
    ] = "warning",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> int:
    """Run one guest: replay traces through its page cache, every byte checked."""
    if not __debug__:
        raise CliError("a guest does not run under python -O: its assertions guard its memory")
    if log_level not in telemetry.LEVELS:
        raise CliError(f"--log-level is {log_level}; it must be {', '.join(telemetry.LEVELS)}")
    if not 0 <= wait <= 86_400:
        raise CliError(f"--wait is {wait:g}; it must be 0 to 86400 seconds")
    if not trace:
        raise CliError("give the guest something to do: --trace FILE|NAME")
    if hints is None:
        hints = Hints.UNUSED if mode is Mode.KVM else Hints.VOLATILE
    try:
        config = GuestConfig(
            host=parse_address(host, "--host"),
            name=name or f"guest-{os.getpid()}",
            page_count=parse_pages(memory, "--memory", PAGES_MAX),
            vcpu_count=vcpus,
            disk=disk,
            hints=hints,
            guards=_guards(preset, without or []),
            mode=mode,
            traces=tuple(resolve(one) for one in trace),
            access=access,
            spread=spread,
            request_limit=requests,
            cache_limit=cache_pages,
            wait_seconds=wait,
            perturb=perturb,
        )
    except (ConfigError, TraceError) as error:
        raise CliError(str(error)) from None
    telemetry.configure(level=log_level)
    report = _run(config)
    _print(report, as_json=as_json)
    return 1 if report.statistics.integrity_errors else 0


def _guards(preset: str, without: list[str]) -> Guards:
    if preset not in PRESETS:
        raise CliError(f"--preset is {preset}; it must be {' or '.join(PRESETS)}")
    names = [guard.replace("-", "_") for guard in without]
    known = list(Guards.__dataclass_fields__)
    for guard in names:
        if guard not in known:
            raise CliError(f"--without {guard}: no such guard; there are {', '.join(known)}")
    return PRESETS[preset].without(*names)


def _run(config: GuestConfig) -> Report:
    """Run the guest; what the user can mend becomes a CliError."""
    try:
        plan = load_plan(config)
        return uvloop.run(_with_progress(GuestAgent(config, plan)))
    except (ConfigError, TraceError, DiskFileError) as error:
        raise CliError(str(error)) from None
    except HostUnreachableError as error:
        raise CliError(f"--host {config.host}: {error}") from None
    except OSError as error:
        raise CliError(f"the guest's disk: {error.strerror}") from None
    except (KernelBug, DeadlockError) as error:
        telemetry.logger().error("guest_failed", guest=config.name, reason=str(error))
        print(f"essa: {config.name}: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None


async def _with_progress(agent: GuestAgent) -> Report:
    """Run the agent and show, or log, how far it is. SIGTERM ends it in order."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(agent.run())
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    shown = loop.create_task(_bar(agent) if sys.stderr.isatty() else _log(agent))
    try:
        return await task
    finally:
        shown.cancel()
        await asyncio.wait([shown])


async def _bar(agent: GuestAgent) -> None:
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
            progress.update(shown, completed=now.requests, figures=figures)
            await asyncio.sleep(PROGRESS_SECONDS)


async def _log(agent: GuestAgent) -> None:
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
        )


def _print(report: Report, *, as_json: bool) -> None:
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
