"""A host that takes faults and two guests with a mixed workload, in one process over sockets.

The guests check every byte and every invariant themselves; `verdict` adds up what they found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

from essa_cli.control import Method
from guest_agent.agent import GuestAgent, load_plan
from guest_agent.config import GuestConfig, MixConfig
from guest_agent.kernel.grace import Grace
from guest_agent.report import Report
from guest_agent.workload import traces
from guest_agent.workload.replay import Access
from host_daemon.core.config import HostConfig
from host_daemon.core.host import Host
from host_daemon.faults.book import FaultBook
from host_daemon.faults.rule import Rule
from host_daemon.paging.device import open_paging_device
from host_daemon.paging.faulty import FaultyDevice
from host_daemon.rpc.injection import Injector
from host_daemon.rpc.server import Servers
from host_daemon.rpc.sessions import Sessions
from host_daemon.rpc.shell import HostShell, restore_shell
from shared.essa.v1 import essa_pb2_grpc
from shared.faults import FaultSpec, Kind, parse_fault
from shared.rpc.channel import Address, call, connect

FRAMES, PAGES, VCPUS = 160, 192, 3
NAMES = ("one", "two")
STALL_SECONDS = 45
TRACE_REQUEST_OPERATIONS = 100
"""A request of a trace is as much work as so many operations of the mix, roughly."""


class SeededChoices:
    """Draws from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def choose(self, bound: int) -> int:
        """A number below bound."""
        return self._random.randrange(bound)


class Cluster:
    """The host's side, and where guests find it. bugs: of our own; there must be none."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.listen, self.control = (Address(path=str(directory / name)) for name in "ec")
        self.bugs: list[BaseException] = []
        self.shell: HostShell
        self._choices = SeededChoices(seed)
        self._incarnation = 0x1234
        self._runs = 0
        self._agents: list[GuestAgent] = []

    @property
    def injector(self) -> Injector:
        """Where faults are injected."""
        return self._servers.injector

    async def begin(self, state: dict[str, Any] | None = None) -> None:
        """Serve: afresh, or from what a host has left."""
        book, slots = FaultBook(), 8 * PAGES
        kept = state is not None
        file = await open_paging_device(self.directory / "paging", slots, keep=kept)
        self._device = FaultyDevice(file, book)
        if state is not None:
            self.shell = restore_shell(state, self._choices, self._device, book)
        else:
            config = HostConfig(FRAMES, slots, low_watermark=4, high_watermark=8)
            host = Host(config, self._choices)
            self.shell = HostShell(host, self._device, Sessions(self._incarnation), book)
        self._servers = Servers(self.shell, self.bugs.append)
        self._servers.bind([Address(path=str(self.directory / "e"))], self.control)
        self.shell.start()
        await self._servers.start()

    async def end(self) -> dict[str, Any]:
        """Serve nobody any more; what a checkpoint would hold."""
        self.shell.drain()
        await self._servers.stop(0)
        await self._device.flush()
        self.shell.host.check()
        state = self.shell.snapshot()
        await self._device.close()
        return state

    async def restart(self, *, power_fails: bool) -> None:
        """End the host and begin another, with its state or with none; faults go on."""
        faults = [rule.spec for rule in self.shell.book.active()]
        state = await self.end()
        self._incarnation += 1
        await self.begin(None if power_fails else state)
        for spec in faults:
            self.add(replace(spec, guests=()) if spec.kind is Kind.EVICT else spec)

    def inject(self, kind: Kind, **values: object) -> Rule:
        """Inject as the front ends do; `for_` stands for the field `for`."""
        return self.add(parse_fault(kind, {k.rstrip("_"): v for k, v in values.items()}))

    def add(self, spec: FaultSpec) -> Rule:
        """Inject."""
        return self.injector.inject(spec)

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Method]:
        """How `essa ctl` calls the host."""
        channel = connect(self.control)
        stub = essa_pb2_grpc.ControlServiceStub(channel)  # type: ignore[no-untyped-call]
        yield lambda method, request: call(stub, method, request, self.control)
        await channel.close(None)

    async def run(self, seed: int, operations: int, trace: str | None = None) -> list[Report]:
        """Both guests through a mixed workload, or through a trace that ships, over mmap."""
        self._runs += 1
        self._agents = agents = []
        for number, name in enumerate(NAMES):
            config = GuestConfig(
                host=self.listen,
                name=name,
                page_count=PAGES,
                vcpu_count=VCPUS,
                disk=self.directory / f"disk-{self._runs}-{name}",
                grace=(Grace.CALL, Grace.SIGN_OFF)[number],
                swap_pages=PAGES,
                retransmit_seconds=0.05,
                stall_seconds=STALL_SECONDS,
                perturb=seed,
            )
            if trace is None:
                config = replace(config, mix=MixConfig(seed + number, operations))
            else:
                path = Path(str(resources.files(traces) / f"{trace}.essa-trace"))
                limit = max(operations // TRACE_REQUEST_OPERATIONS, 1)
                config = replace(config, traces=(path,), access=Access.MMAP, request_limit=limit)
            agents.append(GuestAgent(config, load_plan(config)))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(agent.run()) for agent in agents]
        return [task.result() for task in tasks]

    def standing(self) -> str:
        """How far the guests are, and what waits on the host."""
        figures = [agent.figures() for agent in self._agents]
        told = [
            f"{one.config.name} {one.requests} of {one.request_count} requests, "
            f"{one.commands} commands, {one.in_flight} in flight"
            for one in figures
        ]
        host = self.shell.host
        parked = host.statistics().parked
        return "; ".join([*told, f"host {parked} parked{', stuck' if host.stuck else ''}"])


def verdict(reports: Sequence[Report]) -> tuple[int, int]:
    """Integrity errors and invariant violations of all guests."""
    return (
        sum(len(report.integrity_errors) for report in reports),
        sum(len(report.invariant_violations) for report in reports),
    )


@asynccontextmanager
async def cluster(directory: Path, seed: int = 0) -> AsyncIterator[Cluster]:
    """A host with real sockets and a real paging file; checked whole at the end."""
    world = Cluster(directory, seed)
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: world.bugs.append(
            context.get("exception") or RuntimeError(context["message"])
        )
    )
    await world.begin()
    try:
        yield world
        world.shell.host.check()
    finally:
        await world.end()
        assert world.bugs == []
