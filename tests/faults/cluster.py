"""A host that takes faults and two guests with a mixed workload, in one process over sockets.

The guests check every byte and every invariant themselves; `verdict` adds up what they found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from essa_cli.control import Method
from guest_agent.agent import GuestAgent, load_plan
from guest_agent.config import GuestConfig, MixConfig
from guest_agent.kernel.grace import Grace
from guest_agent.report import Report
from host_daemon.core.config import HostConfig
from host_daemon.core.host import Host
from host_daemon.faults.book import FaultBook
from host_daemon.faults.rule import Rule
from host_daemon.paging.device import open_paging_device
from host_daemon.paging.faulty import FaultyDevice
from host_daemon.rpc.injection import Injector
from host_daemon.rpc.server import Servers
from host_daemon.rpc.sessions import Sessions
from host_daemon.rpc.shell import HostShell
from shared.essa.v1 import essa_pb2_grpc
from shared.faults import FaultSpec, Kind, parse_fault
from shared.rpc.channel import Address, call, connect

FRAMES, PAGES, VCPUS = 160, 192, 3
NAMES = ("one", "two")


class SeededChoices:
    """Draws from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def choose(self, bound: int) -> int:
        """A number below bound."""
        return self._random.randrange(bound)


class Cluster:
    """The host's side, and where guests find it."""

    def __init__(
        self,
        shell: HostShell,
        injector: Injector,
        directory: Path,
        listen: Address,
        control: Address,
    ) -> None:
        self.shell = shell
        self.injector = injector
        self.directory = directory
        self.listen, self.control = listen, control
        self._runs = 0

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

    async def run(self, seed: int, operations: int, **options: Any) -> list[Report]:
        """Both guests through a mixed workload."""
        self._runs += 1
        agents = []
        for number, name in enumerate(NAMES):
            config = GuestConfig(
                host=self.listen,
                name=name,
                page_count=PAGES,
                vcpu_count=VCPUS,
                disk=self.directory / f"disk-{self._runs}-{name}",
                mix=MixConfig(seed + number, operations),
                grace=(Grace.CALL, Grace.SIGN_OFF)[number],
                swap_pages=PAGES,
                retransmit_seconds=0.05,
                stall_seconds=20,
                perturb=seed,
                **options,
            )
            agents.append(GuestAgent(config, load_plan(config)))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(agent.run()) for agent in agents]
        return [task.result() for task in tasks]


def verdict(reports: Sequence[Report]) -> tuple[int, int]:
    """Integrity errors and invariant violations of all guests."""
    return (
        sum(len(report.integrity_errors) for report in reports),
        sum(len(report.invariant_violations) for report in reports),
    )


@asynccontextmanager
async def cluster(directory: Path, seed: int = 0) -> AsyncIterator[Cluster]:
    """A host with real sockets and a real paging file; checked whole at the end."""
    bugs: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: bugs.append(context.get("exception") or RuntimeError(context["message"]))
    )
    book = FaultBook()
    slots = 8 * PAGES
    device = FaultyDevice(await open_paging_device(directory / "paging", slots), book)
    config = HostConfig(frame_count=FRAMES, slot_count=slots, low_watermark=4, high_watermark=8)
    shell = HostShell(Host(config, SeededChoices(seed)), device, Sessions(0x1234), book)
    servers = Servers(shell, bugs.append)
    listen, control = Address(path=str(directory / "e")), Address(path=str(directory / "c"))
    servers.bind([listen], control)
    await servers.start()
    try:
        yield Cluster(shell, servers.injector, directory, listen, control)
        shell.host.check()
    finally:
        shell.drain()
        await servers.stop(0)
        await device.close()
        assert bugs == []
