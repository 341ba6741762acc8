"""The demonstration's runs: one host and its guests as processes, from their start to their end.

Rules:
- Nothing is counted here: guests and host tell (see `children`).
- A child that fails ends the run, and with it all others.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from essa_cli.children import HOST, READY_SECONDS, Child, event_of, gravest, start, watch_host
from guest_agent.kernel.kernel import Hints
from guest_agent.workload.replay import Access
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc.channel import Address, HostUnreachableError, call, connect

ASK_SECONDS: Final = 0.5
"""Between two looks at the host while a run goes on."""


@dataclass(frozen=True, slots=True)
class GuestPlan:
    """What one guest is started with."""

    name: str
    traces: tuple[Path, ...]
    access: Access
    page_count: int
    vcpu_count: int


@dataclass(frozen=True, slots=True)
class HostFigures:
    """The host's counters."""

    page_ins: int = 0
    page_outs: int = 0
    discarded_unused: int = 0
    discarded_volatile: int = 0
    discarded_potential_volatile: int = 0
    frames: int = 0

    @property
    def discards(self) -> int:
        """Pages dropped of any kind."""
        return self.discarded_unused + self.discarded_volatile + self.discarded_potential_volatile


@dataclass(slots=True)
class GuestState:
    """How far a guest is, as its log tells; `report` when it has ended."""

    plan: GuestPlan
    request_count: int = 0
    requests: int = 0
    discard_faults: int = 0
    report: dict[str, Any] | None = None


@dataclass(slots=True)
class Run:
    """One run, while it goes on and afterwards."""

    hints: Hints
    guests: list[GuestState]
    host: HostFigures = field(default_factory=HostFigures)

    def reports(self) -> list[dict[str, Any]]:
        """What the guests did, as `essa guest --json` prints it."""
        return [state.report for state in self.guests if state.report is not None]

    @property
    def integrity_errors(self) -> int:
        """Those of all guests."""
        return sum(int(report["integrity_errors"]) for report in self.reports())


async def perform(run: Run, frames: int, directory: Path) -> None:
    """Perform one run to its end; `run` tells how far it is, and in the end what it was.

    directory: an empty one, for sockets and disks.

    Raises ChildFailedError.
    """
    listen, control = directory / "e", directory / "c"
    async with AsyncExitStack() as stack:
        host = await start(
            stack, HOST, directory, "host", "--listen", f"unix:{listen}",
            "--control", f"unix:{control}", "--memory", str(frames), "--log-level", "warning",
        )  # fmt: skip
        # The guests start meanwhile: each waits for a host that is not there yet.
        children = [
            await start(
                stack, f"guest {state.plan.name}", directory, "guest",
                "--host", f"unix:{listen}", *_guest_options(state.plan, run.hints),
            )
            for state in run.guests
        ]  # fmt: skip
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(watch_host(host))
                ask = group.create_task(_ask(run, control))
                working = [
                    group.create_task(_follow_guest(child, state))
                    for child, state in zip(children, run.guests, strict=True)
                ]
                await asyncio.wait(working)
                ask.cancel()
                run.host = await _figures(control)
                watch.cancel()
        except BaseExceptionGroup as failures:
            raise gravest(failures) from None


def _guest_options(plan: GuestPlan, hints: Hints) -> list[str]:
    options = ["--name", plan.name, "--memory", str(plan.page_count)]
    for trace in plan.traces:
        options += ["--trace", str(trace)]
    options += ["--vcpus", str(plan.vcpu_count), "--spread", "place"]
    options += ["--access", plan.access.value, "--hints", hints.value]
    return [*options, "--wait", f"{READY_SECONDS:g}", "--log-level", "info", "--json"]


async def _follow_guest(child: Child, state: GuestState) -> None:
    """Follow a guest to its end and take its report."""

    def logged(line: str) -> None:
        if not _take_progress(state, line):
            child.log.append(line)

    code, printed = await child.run(logged)
    # Code 1 with a report is a guest that found integrity errors: a result, to be shown.
    if code not in (0, 1) or len(printed) != 1:
        raise child.failure(f"ended with code {code}")
    report = json.loads(printed[0])
    if "failure" in report:
        raise child.failure(f"ended with code {code}")
    state.report = report
    state.requests = state.request_count = report["requests"]
    state.discard_faults = report["discard_faults"]


def _take_progress(state: GuestState, line: str) -> bool:
    """Take in a line of a guest's log, if it tells how far it is."""
    event = event_of(line)
    if event.get("event") != "guest_progressed":
        return False
    state.requests, state.request_count = event["requests"], event["request_count"]
    state.discard_faults = event["discard_faults"]
    return True


async def _ask(run: Run, control: Path) -> None:
    """Look at the host now and then; one that is not there yet is no failure."""
    while True:
        await asyncio.sleep(ASK_SECONDS)
        try:
            run.host = await _figures(control)
        except HostUnreachableError:
            continue


async def _figures(control: Path) -> HostFigures:
    channel = connect(Address(path=str(control)))
    try:
        stub: Any = essa_pb2_grpc.ControlServiceStub(channel)  # type: ignore[no-untyped-call]
        status = await call(stub, "GetStatus", pb.GetStatusRequest())
    finally:
        await channel.close(None)
    counters = status.counters
    return HostFigures(
        page_ins=counters.page_in_count,
        page_outs=counters.page_out_count,
        discarded_unused=counters.unused_discard_count,
        discarded_volatile=counters.volatile_discard_count,
        discarded_potential_volatile=counters.potential_volatile_discard_count,
        frames=status.frame_count,
    )
