"""`python -m bench.cluster [--guests 4,16,64] [--seconds 20] [--json]`: many guests on one host.

Requests a second of guests with 8 vCPUs each and a mixed workload, all on one host and one
machine, with a probe that executes unary ESSAs beside them; and what an idle guest costs the host.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from typing import Any

import grpc
import uvloop
from rich.console import Console
from rich.table import Table

from bench.cluster.measures import Crowd, Idle, crowd, idle
from bench.cluster.settings import SHARE_OF_BEST_AIM, Settings
from bench.processes import ServerError
from bench.progress import Begins, shown

GUESTS_MAX = 256
SECONDS_MAX = 3600


async def measure(settings: Settings, begins: Begins) -> tuple[list[Crowd], Idle]:
    """Everything, one after the other."""
    begins("memory of idle guests")
    memory = await idle(settings)
    crowds = []
    for count in settings.guests:
        begins(f"{count} guests at work")
        crowds.append(await crowd(count, settings))
    return crowds, memory


def as_json(crowds: list[Crowd], memory: Idle, settings: Settings) -> dict[str, Any]:
    """Plain data."""
    return {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "vcpus_per_guest": settings.vcpu_count,
        "pages_per_guest": settings.guest_pages,
        "frames_per_guest": settings.guest_frames,
        "processes_of_guests": settings.processes,
        "crowds": [one.as_json() for one in crowds],
        "most_guests_vs_best": share_of_best(crowds),
        "aim": SHARE_OF_BEST_AIM,
        "idle_guests": memory.guests,
        "bytes_per_idle_guest": memory.bytes_per_guest,
    }


def share_of_best(crowds: list[Crowd]) -> float:
    """Requests/s with the most guests, divided by the best."""
    most = max(crowds, key=lambda one: one.guests)
    return most.requests_per_second / max(one.requests_per_second for one in crowds)


def table(crowds: list[Crowd], memory: Idle, settings: Settings) -> Table:
    """The same for people."""
    view = Table(
        title=f"one host, guests of {settings.vcpu_count} vCPUs, {os.cpu_count()} cores",
        title_justify="left",
    )
    for name in ("guests", "requests/s", "commands/s", "per message", "faults/s"):
        view.add_column(name, justify="right")
    for name in ("unary p50", "p99", "errors"):
        view.add_column(name, justify="right")
    for one in crowds:
        view.add_row(
            str(one.guests),
            f"{one.requests_per_second:,.0f}",
            f"{one.commands_per_second:,.0f}",
            f"{one.commands_per_message:.1f}",
            f"{one.discard_faults_per_second:,.1f}",
            f"{one.unary_p50_ms:.1f} ms",
            f"{one.unary_p99_ms:.1f} ms",
            str(one.errors),
        )
    share = share_of_best(crowds)
    verdict = "met" if share >= SHARE_OF_BEST_AIM else "missed"
    view.caption = (
        f"most guests against the best: {share:.2f} (aim: {SHARE_OF_BEST_AIM:g}, {verdict}); "
        f"an idle guest costs the host {memory.bytes_per_guest / 1024:,.0f} KiB"
    )
    return view


def _counts(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and 1 <= int(part) <= GUESTS_MAX for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}; it must be numbers from 1 to {GUESTS_MAX}")
    return tuple(map(int, parts))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}; it must be 0 to {SECONDS_MAX}")
    return seconds


def main(arguments: list[str] | None = None) -> int:
    """An aim that is missed is shown, not punished; a wrong byte in a guest is exit code 1."""
    settings = Settings()
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    add = parser.add_argument
    add("--guests", type=_counts, default=settings.guests, metavar="N,...", help="in turn")
    add("--seconds", type=_seconds, default=settings.seconds, help="of steady state, for each")
    add("--warm", type=_seconds, default=settings.warm_seconds, help="seconds before that")
    add("--idle", type=_counts, default=(settings.idle_guests,), metavar="N", help="idle guests")
    add("--processes", type=_counts, default=(settings.processes,), metavar="N", help="of guests")
    add("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args(arguments)
    settings = replace(
        settings,
        guests=given.guests,
        seconds=given.seconds,
        warm_seconds=given.warm,
        idle_guests=given.idle[0],
        processes=given.processes[0],
    )
    # Between two crowds processes are started while gRPC has threads; they only exec.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    try:
        with shown(1 + len(settings.guests), 22) as begins:
            crowds, memory = uvloop.run(measure(settings, begins))
    except (ServerError, TimeoutError, grpc.aio.AioRpcError) as error:
        print(f"bench.cluster: {error or 'no answer in time'}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps(as_json(crowds, memory, settings), indent=2))
    else:
        Console(width=max(Console().width, 100)).print(table(crowds, memory, settings))
    return int(any(one.errors for one in crowds))


if __name__ == "__main__":
    sys.exit(main())
