"""The demonstration's runs: one host and its guests as processes, from their start to their end.

Rules:
- Every process is a child of this one in a process group of its own, so that the keyboard's
  interrupt reaches this process alone; it ends each child by its id, whatever happened.
- Guests say how far they are in their logs, and what they did in their reports; the host is
  asked over its operators' socket. Nothing is counted here.
- A child that fails ends the run, and with it all others.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from guest_agent.kernel.kernel import Hints
from guest_agent.workload.replay import Access
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc.channel import Address, HostUnreachableError, call, connect

READY_SECONDS: Final = 60.0
"""For a host, which has to import its libraries on a machine that may be busy."""
ASK_SECONDS: Final = 0.5
"""Between two looks at the host while a run goes on."""
TERM_SECONDS: Final = 5.0
"""A child that does not end on SIGTERM in this time is killed."""
LAST_LINES: Final = 12
"""What is kept of a child's log, for when it fails."""
LINE_BYTES_MAX: Final = 1 << 20
HOST: Final = "the host"


class ChildFailedError(Exception):
    """A process of the demonstration ended as it should not; says which, and its last lines.

    bad_input: the child itself says that the user can mend it.
    """

    def __init__(self, child: str, how: str, lines: list[str], *, bad_input: bool = False) -> None:
        super().__init__("\n  ".join((f"{child} {how}", *lines)))
        self.child = child
        self.summary = f"{child}: {lines[-1].removeprefix('essa: ')}" if lines else str(self)
        self.bad_input = bad_input


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


class _Child:
    """One process. `run` reads its output to the end."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process
        self.log: deque[str] = deque(maxlen=LAST_LINES)

    async def follow(
        self, stream: asyncio.StreamReader | None, take: Callable[[str], None]
    ) -> None:
        """Hand out the lines of one of its streams until it closes."""
        assert stream is not None
        async for line in stream:
            take(line.decode(errors="replace").rstrip())

    def failure(self, how: str) -> ChildFailedError:
        """The error that says how this child ended."""
        return ChildFailedError(
            self.name, how, list(self.log), bad_input=self.process.returncode == 2
        )

    async def end(self) -> None:
        """Make sure that it has ended."""
        process = self.process
        if process.returncode is not None:
            return
        try:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(TERM_SECONDS):
                await process.wait()
        except ProcessLookupError:
            await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _start(stack: AsyncExitStack, name: str, directory: Path, *arguments: str) -> _Child:
    """Start `essa ARGUMENTS` so that leaving the stack ends it."""
    # An environment that configures somebody's host must not configure this one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ESSA_")}
    environment["TMPDIR"] = str(directory)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # modules in the user's directory are not ours
        "-m",
        "essa_cli",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        process_group=0,
        limit=LINE_BYTES_MAX,
    )
    child = _Child(name, process)
    stack.push_async_callback(child.end)
    return child


async def perform(run: Run, frames: int, directory: Path) -> None:
    """Perform one run to its end; `run` tells how far it is, and in the end what it was.

    directory: an empty one, for sockets and disks.

    Raises ChildFailedError.
    """
    listen, control = directory / "e", directory / "c"
    async with AsyncExitStack() as stack:
        host = await _start(
            stack, HOST, directory, "host", "--listen", f"unix:{listen}",
            "--control", f"unix:{control}", "--memory", str(frames), "--log-level", "warning",
        )  # fmt: skip
        # The guests start meanwhile: each waits for a host that is not there yet.
        children = [
            await _start(
                stack, f"guest {state.plan.name}", directory, "guest",
                "--host", f"unix:{listen}", *_guest_options(state.plan, run.hints),
            )
            for state in run.guests
        ]  # fmt: skip
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(_watch_host(host))
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
            raise _gravest(failures) from None


def _guest_options(plan: GuestPlan, hints: Hints) -> list[str]:
    options = ["--name", plan.name, "--memory", str(plan.page_count)]
    for trace in plan.traces:
        options += ["--trace", str(trace)]
    options += ["--vcpus", str(plan.vcpu_count), "--spread", "place"]
    options += ["--access", plan.access.value, "--hints", hints.value]
    return [*options, "--wait", f"{READY_SECONDS:g}", "--log-level", "info", "--json"]


def _gravest(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what came together, what to tell: when the host dies its guests fail too."""
    children = [e for e in failures.exceptions if isinstance(e, ChildFailedError)]
    for child in children:
        if child.child == HOST:
            return child
    return children[0] if children else failures.exceptions[0]


async def _watch_host(host: _Child) -> None:
    """Follow the host's log; it must not end before it is told to."""
    async with asyncio.TaskGroup() as group:
        group.create_task(host.follow(host.process.stdout, lambda _: None))
        group.create_task(host.follow(host.process.stderr, host.log.append))
    raise host.failure(f"ended with code {await host.process.wait()}")


async def _follow_guest(child: _Child, state: GuestState) -> None:
    """Follow a guest to its end and take its report."""
    printed: list[str] = []

    def logged(line: str) -> None:
        if not _take_progress(state, line):
            child.log.append(line)

    async with asyncio.TaskGroup() as group:
        group.create_task(child.follow(child.process.stdout, printed.append))
        group.create_task(child.follow(child.process.stderr, logged))
    code = await child.process.wait()
    # Code 1 with a report is a guest that found integrity errors: a result, to be shown.
    if code not in (0, 1) or len(printed) != 1:
        raise child.failure(f"ended with code {code}")
    state.report = json.loads(printed[0])
    state.requests = state.request_count = state.report["requests"]
    state.discard_faults = state.report["discard_faults"]


def _take_progress(state: GuestState, line: str) -> bool:
    """Take in a line of a guest's log, if it tells how far it is."""
    try:
        event = json.loads(line)
    except ValueError:
        return False
    if not isinstance(event, dict) or event.get("event") != "guest_progressed":
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
