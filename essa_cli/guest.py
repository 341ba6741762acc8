"""`essa guest`: run one guest against a host until its workload is done."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from dataclasses import fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
import uvloop

from essa_cli.errors import CliError
from essa_cli.guest_views import bar, log, print_report
from essa_cli.pid_file import write_pid_file
from essa_cli.security import Insecure, TlsDirectory, client_tls
from guest_agent.agent import GuestAgent, load_plan
from guest_agent.config import PAGES_MAX, PAGES_MIN, ConfigError, GuestConfig, MixConfig
from guest_agent.disk import DiskFileError
from guest_agent.kernel.cpu import KernelBug
from guest_agent.kernel.grace import Grace
from guest_agent.kernel.guards import PRESETS, Guards
from guest_agent.kernel.kernel import Hints
from guest_agent.metrics import GuestMetrics
from guest_agent.report import Report
from guest_agent.watch import DeadlockError
from guest_agent.workload.events import TraceError
from guest_agent.workload.mixed import Weights
from guest_agent.workload.plan import Spread
from guest_agent.workload.replay import Access
from guest_agent.workload.tracefile import resolve
from host_daemon.config import parse_pages
from shared import telemetry
from shared.arch import Mode
from shared.collection import collect_seldom
from shared.identity import Role
from shared.metrics import MetricsServer, metrics_address
from shared.rpc.channel import DEFAULT_LISTEN, Address, HostUnreachableError, parse_address
from shared.runlog.writer import RunLogError

if TYPE_CHECKING:
    from shared.rpc.tls import Tls

OPERATIONS: Final = 10_000


class Workload(StrEnum):
    """What a guest does."""

    TRACE = "trace"
    MIXED = "mixed"


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("guest", epilog=_EPILOG)(guest)


_EPILOG = """Example: essa guest --memory 16M --vcpus 2 --hints volatile --trace sqlite

Exit codes: 0 done, every byte right; 1 an integrity error, a violated invariant, or the
guest's kernel found a bug in itself; 2 bad input, or no host."""


def guest(
    trace: Annotated[
        list[str] | None,
        typer.Option(
            help="What to replay: a file of any format that `essa trace import` reads, or the "
            "name of a shipped trace; repeatable, several run side by side.",
            metavar="FILE|NAME",
        ),
    ] = None,
    workload: Annotated[
        Workload,
        typer.Option(
            help="trace: replay what --trace names. mixed: every operation of the kernel, over "
            "several processes and files, drawn from --seed."
        ),
    ] = Workload.TRACE,
    seed: Annotated[int, typer.Option(help="Of a mixed workload.")] = 0,
    operations: Annotated[
        int, typer.Option(help="Of a mixed workload, over all vCPUs.")
    ] = OPERATIONS,
    weights: Annotated[
        str | None,
        typer.Option(
            help="How often a mixed workload does what; 0 leaves it out. Of "
            + ", ".join(f"{f.name}={f.default}" for f in fields(Weights))
            + ".",
            metavar="NAME=N,...",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="The host: unix:PATH or HOST:PORT.", metavar="ADDRESS", envvar="ESSA_HOST"
        ),
    ] = DEFAULT_LISTEN,
    name: Annotated[
        str | None,
        typer.Option(
            help="The guest's name.  [default: guest-PID; with --tls the certificate's]",
            show_default=False,
        ),
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
    swap: Annotated[
        str, typer.Option(help="Its swap device, as 4M or a number of pages.", metavar="SIZE")
    ] = "0",
    minor_faults: Annotated[
        bool,
        typer.Option("--minor-faults", help="Map cached pages without making them stable."),
    ] = False,
    dirty_accounting: Annotated[
        bool,
        typer.Option("--dirty-accounting", help="Shared pages are dirty from a write fault on."),
    ] = False,
    grace: Annotated[
        Grace, typer.Option(help="How discarded pages wait until they may be reused.")
    ] = Grace.CALL,
    mode: Annotated[Mode, typer.Option(help="The machine to ask for.")] = Mode.SEED,
    perturb: Annotated[
        int | None,
        typer.Option(
            help="Let others run first at some points of the kernel, chosen by this seed.",
            metavar="SEED",
            show_default=False,
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Record the run there, for `essa races replay DIRECTORY`; its host records too.",
            metavar="DIRECTORY",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            help="Seconds to wait for a host that is not there yet; up to 3 of them also for "
            "a name in use, whose holder may have been killed."
        ),
    ] = 10.0,
    retransmit: Annotated[
        float,
        typer.Option(help="Seconds without an answer after which a command is sent again."),
    ] = 1.0,
    stall: Annotated[
        float | None,
        typer.Option(
            help="Seconds without a completed request, or page of one, after which the guest "
            "gives up and says what its vCPUs wait for.  [default: never]",
            show_default=False,
        ),
    ] = None,
    pid_file: Annotated[
        Path | None,
        typer.Option(
            help="Where to write which process this is, for essa ctl inject kill and the like.",
            metavar="FILE",
            envvar="ESSA_GUEST_PID_FILE",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[
        str, typer.Option(help="What to log.", metavar="|".join(telemetry.LEVELS))
    ] = "warning",
    log_format: Annotated[
        str,
        typer.Option(
            help="How to log; auto is text on a terminal.",
            metavar="|".join(telemetry.FORMATS),
            envvar="ESSA_GUEST_LOG_FORMAT",
        ),
    ] = "auto",
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Serve /metrics for Prometheus there: HOST:PORT.  [default: nowhere]",
            metavar="ADDRESS",
            envvar="ESSA_GUEST_METRICS",
            show_default=False,
        ),
    ] = None,
    insecure_metrics: Annotated[
        bool,
        typer.Option(
            "--insecure-metrics",
            help="Allow --metrics where other machines can read them.",
            envvar="ESSA_GUEST_INSECURE_METRICS",
        ),
    ] = False,
    tls: TlsDirectory = None,
    insecure: Insecure = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> int:
    """Run one guest: traces or a mixed workload, every byte checked."""
    if not __debug__:
        raise CliError("a guest does not run under python -O: its assertions guard its memory")
    if log_level not in telemetry.LEVELS:
        raise CliError(f"--log-level is {log_level}; it must be {', '.join(telemetry.LEVELS)}")
    if log_format not in telemetry.FORMATS:
        raise CliError(f"--log-format is {log_format}; it must be {', '.join(telemetry.FORMATS)}")
    scrape = metrics and metrics_address(metrics, "--metrics", exposed=insecure_metrics)
    if not 0 <= wait <= 86_400:
        raise CliError(f"--wait is {wait:g}; it must be 0 to 86400 seconds")
    if not 0.01 <= retransmit <= 3600:
        raise CliError(f"--retransmit is {retransmit:g}; it must be 0.01 to 3600 seconds")
    if workload is Workload.MIXED and trace:
        raise CliError("--trace and --workload mixed are two things to do; give one")
    if workload is Workload.TRACE and not trace:
        raise CliError("give the guest something to do: --trace FILE|NAME or --workload mixed")
    if pid_file is not None:
        write_pid_file(pid_file)
    address = parse_address(host, "--host")
    credentials = client_tls(address, "--host", tls, insecure=insecure, roles=(Role.GUEST,))
    if hints is None:
        hints = Hints.UNUSED if mode is Mode.KVM else Hints.VOLATILE
    try:
        config = GuestConfig(
            host=address,
            name=name or (credentials.identity.name if credentials else f"guest-{os.getpid()}"),
            page_count=parse_pages(memory, "--memory", PAGES_MAX, PAGES_MIN),
            vcpu_count=vcpus,
            disk=disk,
            hints=hints,
            guards=guards_of(preset, without or []),
            mode=mode,
            traces=tuple(resolve(one) for one in trace or ()),
            access=access,
            spread=spread,
            request_limit=requests,
            cache_limit=cache_pages,
            wait_seconds=wait,
            retransmit_seconds=retransmit,
            perturb=perturb,
            mix=_mix(workload, seed, operations, weights),
            swap_pages=swap_pages(swap),
            minor_faults=minor_faults,
            dirty_accounting=dirty_accounting,
            grace=grace,
            stall_seconds=stall,
            metrics=scrape or None,
            record=record,
        )
    except (ConfigError, TraceError) as error:
        raise CliError(str(error)) from None
    telemetry.configure(level=log_level, format=log_format)
    with telemetry.bound(guest=config.name):
        report = _run(config, credentials)
    if as_json or report.failure is None:
        print_report(report, as_json=as_json)
    return 0 if report.is_clean else 1


def guards_of(preset: str, without: list[str]) -> Guards:
    """The guards of `--preset` and `--without`. Raises CliError."""
    if preset not in PRESETS:
        raise CliError(f"--preset is {preset}; it must be {' or '.join(PRESETS)}")
    names = [guard.replace("-", "_") for guard in without]
    known = list(Guards.__dataclass_fields__)
    for guard in names:
        if guard not in known:
            raise CliError(f"--without {guard}: no such guard; there are {', '.join(known)}")
    return PRESETS[preset].without(*names)


def swap_pages(text: str) -> int:
    """The pages of `--swap`. Raises CliError."""
    return 0 if text == "0" else parse_pages(text, "--swap", PAGES_MAX)


def weights_of(text: str) -> Weights:
    """The weights of `--weights`; what it does not name stays. Raises CliError."""
    known = [one.name for one in fields(Weights)]
    chosen: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        if name.replace("-", "_") not in known or not number.isdecimal():
            raise CliError(f"--weights has {part!r}; it must be NAME=N with {', '.join(known)}")
        chosen[name.replace("-", "_")] = int(number)
    try:
        return replace(Weights(), **chosen)
    except ValueError as error:
        raise CliError(f"--weights: {error}") from None


def _mix(workload: Workload, seed: int, operations: int, weights: str | None) -> MixConfig | None:
    if workload is not Workload.MIXED:
        return None
    return MixConfig(seed, operations, Weights() if weights is None else weights_of(weights))


def _run(config: GuestConfig, tls: Tls | None) -> Report:
    """Run the guest; what the user can mend becomes a CliError.

    A guest that its kernel has stopped has a report too, with the failure.
    """
    agent: GuestAgent | None = None
    try:
        agent = GuestAgent(config, load_plan(config), tls.channel_credentials() if tls else None)
        collect_seldom()
        return uvloop.run(_with_progress(agent, config.metrics))
    except (ConfigError, TraceError, DiskFileError, RunLogError) as error:
        raise CliError(str(error)) from None
    except HostUnreachableError as error:
        raise CliError(f"--host {config.host}: {error}") from None
    except OSError as error:
        raise CliError(f"the guest's disk: {error.strerror}") from None
    except (KernelBug, DeadlockError, AssertionError) as error:
        assert agent is not None
        reason = str(error) if not isinstance(error, AssertionError) else f"assertion: {error}"
        report = replace(agent.report(), failure=reason)
        telemetry.logger().error("guest_failed", reason=reason, requests=report.requests)
        if isinstance(error, AssertionError):
            traceback.print_exception(error)
        print(f"essa: {config.name}: {reason}", file=sys.stderr)
        return report
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None


async def _with_progress(agent: GuestAgent, metrics: Address | None) -> Report:
    """Run the agent and show, or log, how far it is. SIGTERM ends it in order."""
    loop = asyncio.get_running_loop()
    server = (
        None if metrics is None else MetricsServer(metrics, GuestMetrics(agent.figures).collect)
    )
    if server is not None:
        server.start()
    task = loop.create_task(agent.run())
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    shown = loop.create_task(bar(agent) if sys.stderr.isatty() else log(agent))
    try:
        return await task
    finally:
        shown.cancel()
        await asyncio.wait([shown])
        if server is not None:
            await server.stop()
