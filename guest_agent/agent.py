"""One guest from its start to its end: builds everything, runs the workload, reports.

Rules:
- Objects are built here and passed down; one set for each incarnation of the guest. Only the
  disk, the ledger of what it holds and the workload's position outlive an incarnation.
- A host that comes back without its state is a power failure: the guest reboots and goes on.
- Whatever goes wrong ends the task group, and `run` raises the one error that says why.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from guest_agent.config import GuestConfig
from guest_agent.disk import BLOCKS_MAX, FileBlockStore, GuestDisk, open_block_store
from guest_agent.kernel import syscalls
from guest_agent.kernel.checked import IntegrityError
from guest_agent.kernel.content import Ledger
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.kernel import Kernel, KernelConfig, Statistics
from guest_agent.rpc.link import RpcLink
from guest_agent.rpc.schedule import LoopSchedule, PerturbedSchedule
from guest_agent.rpc.session import close_session, open_session
from guest_agent.workload.events import TraceError
from guest_agent.workload.formats import read_trace
from guest_agent.workload.plan import DISK, Plan, make_plan
from guest_agent.workload.replay import IDLE, Replayer
from shared.arch import Orc
from shared.errors import EssaError, StaleIncarnationError
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc.channel import HostUnreachableError, connect
from shared.telemetry import logger

WATCH_SECONDS: Final = 1.0
GIVE_UP_SECONDS: Final = 2.0
STALL_SECONDS: Final = 15.0
"""After so long without an answer from the host the log says what each vCPU waits for."""
LOGGED_ERRORS_MAX: Final = 20
"""Integrity errors that are logged in full; all are counted."""


class DeadlockError(Exception):
    """Every vCPU waits, and nothing is under way that could wake one: a bug."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    requests: int
    request_count: int
    cache_hits: int
    discard_faults: int
    integrity_errors: int


@dataclass(slots=True)
class Report:
    """What a guest did, over all its incarnations."""

    name: str
    requests: int
    seconds: float
    reboots: int
    messages: int
    commands: int
    pages_verified: int
    statistics: Statistics
    integrity_errors: list[IntegrityError] = field(default_factory=list)

    @property
    def requests_per_second(self) -> float:
        """Over the time of the workload; booting, the last sync and checks not counted."""
        return self.requests / self.seconds if self.seconds else 0.0

    def plain(self) -> dict[str, Any]:
        """The figures as plain data."""
        counts = self.statistics
        return {
            "name": self.name,
            "requests": self.requests,
            "requests_per_second": round(self.requests_per_second, 1),
            "seconds": round(self.seconds, 3),
            "cache_hits": counts.cache_hits,
            "cache_misses": counts.cache_misses,
            "disk_reads": counts.disk_reads,
            "disk_writes": counts.disk_writes,
            "minor_faults": counts.minor_faults,
            "major_faults": counts.major_faults,
            "discard_faults": counts.discard_faults,
            "pages_discarded": counts.pages_discarded,
            "essa": {orc.name.lower(): counts.essa[orc] for orc in Orc},
            "integrity_errors": counts.integrity_errors,
            "pages_verified": self.pages_verified,
            "reboots": self.reboots,
            "messages": self.messages,
            "commands": self.commands,
        }


def load_plan(config: GuestConfig) -> Plan:
    """Read the traces and plan their replay. Raises TraceError."""
    traces = [read_trace(path) for path in config.traces]
    plan = make_plan(traces, config.vcpu_count, config.request_limit, config.spread)
    if plan.block_count > BLOCKS_MAX:
        raise TraceError(f"the traces need {plan.block_count} blocks; a disk has {BLOCKS_MAX}")
    return plan


class GuestAgent:
    """Runs one guest. Create it inside the event loop's thread and await `run` once."""

    def __init__(self, config: GuestConfig, plan: Plan) -> None:
        self._config = config
        self._plan = plan
        self._schedule = LoopSchedule()
        self._replayer = Replayer(plan, config.access, lambda what: self._schedule.changed(what))
        self._ledger = Ledger()
        self._past = Statistics()
        self._figures = Statistics()
        self._kernel: Kernel | None = None
        self._seconds = 0.0
        self._clock_started: float | None = None
        self._verified = 0
        self._links: list[RpcLink] = []
        self._integrity_errors: list[IntegrityError] = []

    async def run(self) -> Report:
        """Run the workload to its end.

        Raises DiskFileError, an EssaError or HostUnreachableError that the host is the
        cause of, KernelBug, DeadlockError, OSError from the disk.
        """
        if self._config.disk is not None:
            return await self._run_on(self._config.disk)
        with tempfile.TemporaryDirectory(prefix="essa-guest-") as folder:
            return await self._run_on(Path(folder) / "disk")

    def progress(self) -> Progress:
        """How far the run is; at any time."""
        now = self._totals()
        return Progress(
            self._replayer.requests_done,
            self._plan.request_count,
            now.cache_hits,
            now.discard_faults,
            now.integrity_errors,
        )

    async def _run_on(self, path: Path) -> Report:
        store = open_block_store(path, DISK)
        channel = connect(self._config.host)
        try:
            found = await store.versions()
            for block, version in found:
                self._ledger.found_on_disk((DISK, block), version)
            stub: Any = essa_pb2_grpc.EssaServiceStub(channel)  # type: ignore[no-untyped-call]
            while not await self._incarnation(stub, store):
                self._reboot()
        finally:
            await channel.close(None)
            store.close()
        return self._report()

    async def _incarnation(self, stub: Any, store: FileBlockStore) -> bool:
        """One life of the guest; False if its host lost it."""
        config = self._config
        opened = await open_session(stub, config)
        logger().info("guest_opened", guest=config.name, guest_id=opened.guest_id)
        try:
            async with asyncio.TaskGroup() as group:
                vcpu_count = config.vcpu_count
                link = RpcLink(
                    stub,
                    opened.session,
                    vcpu_count + config.device_count,
                    lambda fault: kernel.discard_fault_arrived(fault),
                    host=config.host,
                    reconnect_seconds=config.reconnect_seconds,
                )
                devices = range(vcpu_count, vcpu_count + config.device_count)
                disk = GuestDisk(link, store, devices, group.create_task)
                kernel = self._new_kernel(link, disk)
                background = [
                    group.create_task(link.run()),
                    group.create_task(self._watch(link, disk)),
                ]
                await kernel.boot(kernel.cpus[0])
                await self._work(kernel)
                for task in background:
                    task.cancel()
        except BaseExceptionGroup as failures:
            failure = _reason(failures)
            if isinstance(failure, StaleIncarnationError):
                logger().warning("host_lost_its_state", guest=config.name)
                return False
            await self._give_up(stub, opened.session)
            raise failure from None
        except asyncio.CancelledError:
            await self._give_up(stub, opened.session)
            raise
        await close_session(stub, opened.session, config)
        return True

    async def _give_up(self, stub: Any, session: pb.Session) -> None:
        """Close the guest if the host still listens; what went wrong is reported anyway."""
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await close_session(stub, session, self._config)
        except (EssaError, HostUnreachableError, TimeoutError) as error:
            logger().info("guest_not_closed", guest=self._config.name, reason=str(error))

    def _new_kernel(self, link: RpcLink, disk: GuestDisk) -> Kernel:
        config = self._config
        self._schedule = (
            LoopSchedule() if config.perturb is None else PerturbedSchedule(config.perturb)
        )
        kernel = Kernel(
            KernelConfig(
                page_count=config.page_count,
                vcpu_count=config.vcpu_count,
                hints=config.hints,
                guards=config.guards,
                cache_limit=config.cache_limit,
            ),
            link,
            self._schedule,
            disk,
            self._ledger,
        )
        kernel.on_integrity_error = self._integrity_error
        disk.attach(kernel)
        self._kernel = kernel
        self._links.append(link)
        return kernel

    async def _work(self, kernel: Kernel) -> None:
        """All vCPUs through their lanes; then the first one syncs, and all check everything.

        A vCPU that is through stays there for interrupts until the last one is.
        """
        self._verified = 0
        self._clock_started = asyncio.get_running_loop().time()
        synced, checking = False, len(kernel.cpus)

        async def vcpu(cpu: Cpu) -> None:
            nonlocal synced, checking
            await self._replayer.run(cpu)
            if cpu.number == 0:
                self._stop_clock()
                await self._replayer.unmap_all(cpu)
                await syscalls.sys_sync(cpu)
                # What the checks read is no part of the workload's figures.
                self._figures = self._totals()
                synced = True
                self._schedule.changed(IDLE)
            await kernel.idle(cpu, lambda: synced, "run.sync")
            compared = await kernel.verify(cpu, cpu.number, len(kernel.cpus))
            self._verified += compared
            checking -= 1
            self._schedule.changed(IDLE)
            await kernel.idle(cpu, lambda: checking == 0, "run.end")

        async with asyncio.TaskGroup() as group:
            for cpu in kernel.cpus:
                group.create_task(vcpu(cpu))

    def _stop_clock(self) -> None:
        if self._clock_started is not None:
            self._seconds += asyncio.get_running_loop().time() - self._clock_started
            self._clock_started = None

    def _reboot(self) -> None:
        self._stop_clock()
        self._past = self._totals()
        self._kernel = None
        self._ledger.power_failed()
        self._replayer.rebooted()

    async def _watch(self, link: RpcLink, disk: GuestDisk) -> None:
        """Find out when nothing can ever move again, and say when nothing has moved for long."""
        before, idle_since = -1, 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            moved, before = link.statistics.commands != before, link.statistics.commands
            if moved:
                idle_since = loop.time()
                continue
            waiting = self._schedule.waiting()
            lines = [
                f"vcpu {w.vcpu}: {w.label}{' (undeclared change)' if w.ready else ''}"
                for w in waiting
            ]
            if len(waiting) == self._config.vcpu_count and not link.in_flight + disk.in_flight:
                raise DeadlockError(f"deadlock: {'; '.join(lines)}")
            if loop.time() - idle_since >= STALL_SECONDS:
                idle_since = loop.time()
                logger().warning(
                    "guest_stalled", guest=self._config.name, waiting=lines, commands=link.in_flight
                )

    def _integrity_error(self, error: IntegrityError) -> None:
        if len(self._integrity_errors) < LOGGED_ERRORS_MAX:
            logger().error(
                "integrity_error_found",
                guest=self._config.name,
                what=error.what,
                page=error.page,
                history=error.history,
            )
        self._integrity_errors.append(error)

    def _totals(self) -> Statistics:
        """Counters of all incarnations, this one included."""
        if self._kernel is None:
            return self._past
        return _sum(self._past, self._kernel.statistics)

    def _report(self) -> Report:
        return Report(
            name=self._config.name,
            requests=self._replayer.requests_done,
            seconds=self._seconds,
            reboots=len(self._links) - 1,
            messages=sum(link.statistics.messages for link in self._links),
            commands=sum(link.statistics.commands for link in self._links),
            pages_verified=self._verified,
            statistics=replace(self._figures, integrity_errors=self._totals().integrity_errors),
            integrity_errors=self._integrity_errors,
        )


def _sum(one: Statistics, other: Statistics) -> Statistics:
    total = Statistics()
    for name in Statistics.__dataclass_fields__:
        a, b = getattr(one, name), getattr(other, name)
        pairwise = [x + y for x, y in zip(a, b, strict=True)] if isinstance(a, list) else a + b
        setattr(total, name, pairwise)
    return total


_GRAVEST: Final[tuple[type[BaseException], ...]] = (
    KernelBug,
    DeadlockError,
    AssertionError,
    StaleIncarnationError,
)


def _reason(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one failure, of those that came together, that explains the others."""
    leaves = list(_leaves(failures))
    for kind in _GRAVEST:
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def _leaves(failures: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for failure in failures.exceptions:
        found += _leaves(failure) if isinstance(failure, BaseExceptionGroup) else [failure]
    return found
