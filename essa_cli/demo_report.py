"""What the demonstration shows: progress, tables for people, JSON, and what hinting saved."""

from __future__ import annotations

from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from essa_cli.demo_runs import GuestState, HostFigures, Run
from guest_agent.kernel.kernel import Hints
from shared.arch import Orc

GUEST_KEYS: Final = (
    "name",
    "requests",
    "requests_per_second",
    "cache_hits",
    "disk_reads",
    "disk_writes",
    "discard_faults",
    "essa",
    "integrity_errors",
)
TITLES: Final = {
    Hints.NONE: "without hints (no ESSA at all)",
    Hints.VOLATILE: "with the patch's volatile hints",
}


def as_plain(runs: list[Run]) -> dict[str, Any]:
    """Both runs as plain data."""
    return {
        "runs": [
            {
                "hints": run.hints.value,
                "guests": [{key: report[key] for key in GUEST_KEYS} for report in run.reports()],
                "host": {
                    "page_ins": run.host.page_ins,
                    "page_outs": run.host.page_outs,
                    "discards": {
                        "unused": run.host.discarded_unused,
                        "volatile": run.host.discarded_volatile,
                        "potential_volatile": run.host.discarded_potential_volatile,
                    },
                    "frames": run.host.frames,
                },
            }
            for run in runs
        ]
    }


# While it runs


def progress_line(run: Run, seconds: float) -> str:
    """One line for a log: how far each guest is, and the host."""
    guests = ", ".join(f"{state.plan.name} {_share(state):.0%}" for state in run.guests)
    return f"{run.hints.value:>8} {seconds:3.0f} s: {guests}; {_host_words(run.host)}"


def progress_view(run: Run, number: int, seconds: float) -> RenderableType:
    """What a terminal shows: a bar for each guest, and a line for the host."""
    table = Table.grid(padding=(0, 2))
    for state in run.guests:
        bar = ProgressBar(total=max(state.request_count, 1), completed=state.requests, width=36)
        count = f"{state.requests:,}/{state.request_count:,}" if state.request_count else "starts"
        faults = f"{state.discard_faults:,} discard faults" if state.discard_faults else ""
        table.add_row(Text(state.plan.name, style="bold"), bar, count, faults)
    title = Text(f"run {number} of 2, {TITLES[run.hints]}: {seconds:.0f} s", style="bold")
    return Group(title, table, Text(f"host: {_host_words(run.host)}"))


def _share(state: GuestState) -> float:
    return state.requests / state.request_count if state.request_count else 0.0


def _host_words(host: HostFigures) -> str:
    return (
        f"{host.page_ins:,} page-ins, {host.page_outs:,} page-outs, {host.discards:,} pages dropped"
    )


# At the end


def guest_table(run: Run) -> Table:
    """A row for each guest of one run."""
    table = Table(
        title=f"Guests {TITLES[run.hints]}",
        title_justify="left",
        box=box.SIMPLE_HEAD,  # narrow enough for 80 columns
        padding=(0, 1, 0, 0),
    )
    table.add_column("guest", style="bold", no_wrap=True)
    for heading in (
        "requests",
        "per\ns",
        "cache\nhits",
        "disk\nreads",
        "disk\nwrites",
        "discard\nfaults",
        "ESSAs",
        "integrity\nerrors",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for report in run.reports():
        errors = report["integrity_errors"]
        table.add_row(
            report["name"],
            f"{report['requests']:,}",
            f"{report['requests_per_second']:,.0f}",
            f"{report['cache_hits']:,}",
            f"{report['disk_reads']:,}",
            f"{report['disk_writes']:,}",
            f"{report['discard_faults']:,}",
            f"{sum(report['essa'].values()):,}",
            Text(f"{errors:,}", style="red" if errors else "green"),
        )
    return table


def essa_table(run: Run) -> Table:
    """A row for each operation request code, a column for each guest of one run."""
    table = Table(title=f"ESSAs {TITLES[run.hints]}", title_justify="left")
    table.add_column("orc", justify="right")
    table.add_column("")
    for report in run.reports():
        table.add_column(report["name"], justify="right")
    for orc in list(Orc)[: Orc.SET_STABLE_IF_RESIDENT + 1]:
        name = orc.name.lower()
        counts = [report["essa"][name] for report in run.reports()]
        table.add_row(str(orc.value), name.replace("_", " "), *(f"{n:,}" for n in counts))
    return table


def host_table(runs: list[Run]) -> Table:
    """The host, a column for each run."""
    table = Table(title="Host", title_justify="left")
    table.add_column("")
    for run in runs:
        table.add_column(f"hints {run.hints.value}", justify="right")
    hosts = [run.host for run in runs]
    for words, values in (
        ("frames", [host.frames for host in hosts]),
        ("page-ins", [host.page_ins for host in hosts]),
        ("page-outs", [host.page_outs for host in hosts]),
        ("dropped unused", [host.discarded_unused for host in hosts]),
        ("dropped volatile", [host.discarded_volatile for host in hosts]),
        ("dropped potential volatile", [host.discarded_potential_volatile for host in hosts]),
    ):
        table.add_row(words, *(f"{value:,}" for value in values))
    return table


def saved(without: Run, hinted: Run) -> str:
    """One sentence on what hinting saved, or did not."""
    before, after = _paging(without), _paging(hinted)
    disk = _disk(hinted) - _disk(without)
    if after >= before:
        verdict = f"Hinting saved no paging: {after:,} page transfers instead of {before:,}"
    else:
        verdict = (
            f"Hinting saved {before - after:,} of {before:,} page transfers between host memory "
            f"and paging device ({(before - after) / before:.0%})"
        )
    guests = (
        f"cost the guests {disk:,} more disk transfers"
        if disk > 0
        else f"saved the guests {-disk:,} disk transfers as well"
    )
    total = _net(before - after - disk)
    speed = f"{_rate(without):,.0f} requests/s without and {_rate(hinted):,.0f} with"
    return (
        f"{verdict} and {guests}: {total}; the guests did {speed}, where each of "
        f"{_essas(hinted):,} ESSAs travels to another process instead of being one instruction."
    )


def _net(pages: int) -> str:
    if pages > 0:
        return f"{pages:,} fewer in all"
    return f"{-pages:,} more in all" if pages else "as many in all"


def _paging(run: Run) -> int:
    return run.host.page_ins + run.host.page_outs


def _disk(run: Run) -> int:
    return sum(report["disk_reads"] + report["disk_writes"] for report in run.reports())


def _rate(run: Run) -> float:
    return sum(float(report["requests_per_second"]) for report in run.reports())


def _essas(run: Run) -> int:
    return sum(sum(report["essa"].values()) for report in run.reports())
