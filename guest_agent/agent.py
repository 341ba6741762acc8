"""One guest from its start to its end: builds everything, runs the workload, reports.

Rules:
- Objects are built here and passed down; one set for each incarnation of the guest. Only the
  disk, the ledger of what it holds and the workload's position outlive an incarnation.
- A host that comes back without its state is a power failure: the guest reboots and goes on.
- Whatever goes wrong ends the task group, and `run` raises the one error that says why.
- What was done and verified stays so: a guest that cannot be closed has not failed.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import grpc

from guest_agent.config import GuestConfig
from guest_agent.disk import (
    BLOCKS_MAX,
    BlockStores,
    FileBlockStore,
    open_block_store,
)
from guest_agent.failures import reason_of
from guest_agent.kernel.block import GuestDisk
from guest_agent.kernel.checked import IntegrityError
from guest_agent.kernel.content import Ledger
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.kernel import Kernel, Statistics
from guest_agent.kernel.ports import Link, Resource, Schedule
from guest_agent.metrics import GuestFigures
from guest_agent.recording import GuestLog, RecordedDisk, RecordedLink, RecordedSchedule
from guest_agent.report import Progress, Report, summed
from guest_agent.rpc.link import RpcLink
from guest_agent.rpc.schedule import LoopSchedule, PerturbedSchedule
from guest_agent.rpc.session import close_session, open_session
from guest_agent.watch import Watch
from guest_agent.workload.course import DONE, Course, failure_text
from guest_agent.workload.events import TraceError
from guest_agent.workload.formats import read_trace
from guest_agent.workload.mixed import Mix
from guest_agent.workload.operations import Shape
from guest_agent.workload.plan import DISK, Plan, make_plan
from shared.commands import DiscardFault
from shared.errors import EssaError, InvalidTokenError, StaleIncarnationError
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc.channel import HostUnreachableError, connect
from shared.runlog.records import BEGIN, BOOT, SUFFIX
from shared.runlog.writer import RunLogError, create_run_log
from shared.telemetry import bind, bound, logger

GIVE_UP_SECONDS: Final = 2.0
TICK_SECONDS: Final = 0.01
"""HZ is 100."""
_SESSION_LOST: Final = "the guest's session is gone: its name was taken over, or it was closed"
LOGGED_ERRORS_MAX: Final = 20
"""Integrity errors that are logged in full; all are counted."""


def load_plan(config: GuestConfig) -> Plan | Mix:
    """Read the traces and plan their replay, or plan a mixed workload. Raises TraceError."""
    plan: Plan | Mix
    if config.mix is not None:
        mixed = config.mix
        shape = Shape.of_memory(config.page_count, config.vcpu_count, config.swap_pages)
        plan = Mix(mixed.seed, mixed.operations, config.vcpu_count, shape, mixed.weights)
    else:
        traces = [read_trace(path) for path in config.traces]
        plan = make_plan(traces, config.vcpu_count, config.request_limit, config.spread)
    if plan.block_count > BLOCKS_MAX:
        raise TraceError(f"the files need {plan.block_count} blocks; a disk has {BLOCKS_MAX}")
    return plan


class GuestAgent:
    """Runs one guest. Create it inside the event loop's thread and await `run` once.

    credentials: for a host on TCP. They are no part of the configuration, which is written down
    with a recorded run.
    """

    def __init__(
        self,
        config: GuestConfig,
        plan: Plan | Mix,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._config = config
        self._credentials = credentials
        self._plan = plan
        self._schedule = LoopSchedule()
        self._course = Course(
            plan,
            config.access,
            self._changed,
            violated=self._violation_found,
            worked=self._stop_clock,
            synced=self._keep_figures,
        )
        self._workload = self._course.workload
        self._log: GuestLog | None = None
        self._ledger = Ledger()
        self._past = Statistics()
        self._figures: Statistics | None = None
        self._kernel: Kernel | None = None
        self._seconds = 0.0
        self._clock_started: float | None = None
        self._links: list[RpcLink] = []
        self._integrity_errors: list[IntegrityError] = []

    async def run(self) -> Report:
        """Run the workload to its end.

        Raises DiskFileError, an EssaError or HostUnreachableError that the host is the
        cause of (InvalidTokenError: its name was taken over), KernelBug, DeadlockError,
        OSError from the disk.
        """
        with bound(guest=self._config.name):
            if self._config.disk is not None:
                return await self._run_on(self._config.disk)
            with tempfile.TemporaryDirectory(prefix="essa-guest-") as folder:
                return await self._run_on(Path(folder) / "disk")

    def progress(self) -> Progress:
        """How far the run is; at any time."""
        now = self._totals()
        return Progress(
            self._workload.requests_done,
            self._plan.request_count,
            now.cache_hits,
            now.discard_faults,
            now.integrity_errors,
            len(self._course.violations),
        )

    def figures(self) -> GuestFigures:
        """What its metrics say; at any time."""
        links, kernel = self._links, self._kernel
        counts = [link.statistics for link in links]
        return GuestFigures(
            config=self._config,
            statistics=self._totals(),
            requests=self._workload.requests_done,
            request_count=self._plan.request_count,
            workload=dict(self._course.counts),
            reboots=max(len(links) - 1, 0),
            messages=sum(one.messages for one in counts),
            commands=sum(one.commands for one in counts),
            reconnections=sum(one.reconnections for one in counts),
            retransmissions=sum(one.retransmissions for one in counts),
            in_flight=links[-1].in_flight if links else 0,
            free_pages=0 if kernel is None else len(kernel.free_list),
            cache_pages=0 if kernel is None else kernel.nrpages,
            invariant_violations=len(self._course.violations),
        )

    async def _run_on(self, path: Path) -> Report:
        store = open_block_store(path, DISK)
        channel = connect(self._config.host, self._credentials)
        try:
            found = await store.versions()
            if self._config.record is not None:
                self._begin_log(self._config.record, found)
            for block, version in found:
                self._ledger.found_on_disk((DISK, block), version)
            stub: Any = essa_pb2_grpc.EssaServiceStub(channel)  # type: ignore[no-untyped-call]
            while not await self._incarnation(stub, store):
                self._reboot()
            self._end_log(DONE)
        except (KernelBug, AssertionError) as error:
            self._end_log(failure_text(error))
            raise
        except InvalidTokenError:
            raise InvalidTokenError(_SESSION_LOST) from None
        finally:
            self._end_log(None)
            await channel.close(None)
            store.close()
        return self.report()

    def _begin_log(self, directory: Path, found: Sequence[object]) -> None:
        """Raises RunLogError for a disk that holds data: a recorded run has a beginning."""
        if found:
            text = f"{self._config.disk} holds data; a recorded guest begins with an empty disk"
            raise RunLogError(text)
        file = f"guest-{quote(self._config.name, safe='')}{SUFFIX}"
        self._log = GuestLog(create_run_log(directory, file))

    def _end_log(self, ending: str | None) -> None:
        """Close the log. ending: how the run ended; None: it was stopped."""
        if self._log is None:
            return
        result = None
        if ending is not None and self._kernel is not None:
            result = {"ending": ending, **self._course.result(self._kernel)}
        self._log.end(result)
        self._log = None

    async def _incarnation(self, stub: Any, store: FileBlockStore) -> bool:
        """One life of the guest; False if its host lost it."""
        config = self._config
        opened = await open_session(stub, config)
        logger().info("guest_opened", guest_id=opened.guest_id)
        if (log := self._log) is not None:
            session = opened.session
            log.header(opened.guest_id, session.incarnation, config, self._plan)
        try:
            async with asyncio.TaskGroup() as group:
                vcpu_count = config.vcpu_count
                link = RpcLink(
                    stub,
                    opened.session,
                    vcpu_count + config.device_count,
                    lambda fault: self._fault_arrived(kernel, fault),
                    host=config.host,
                    reconnect_seconds=config.reconnect_seconds,
                    retransmit_seconds=config.retransmit_seconds,
                    message_arrived=None if log is None else log.message,
                )
                door: Link = link if log is None else RecordedLink(link, log)
                devices = range(vcpu_count, vcpu_count + config.device_count)
                blocks = BlockStores(store)
                disk = (
                    GuestDisk(door, blocks, devices, group.create_task)
                    if log is None
                    else RecordedDisk(door, blocks, devices, group.create_task, log)
                )
                kernel = self._new_kernel(door, disk)
                self._links.append(link)
                watch = Watch(
                    vcpu_count,
                    self._schedule,
                    link,
                    disk,
                    self._completed,
                    config.stall_seconds,
                )
                background = [
                    group.create_task(link.run()),
                    group.create_task(watch.run()),
                    group.create_task(_tick(kernel, log)),
                ]
                if log is not None:
                    log.step(0, BOOT, None)
                await kernel.boot(kernel.cpus[0])
                await self._work(kernel)
                for task in background:
                    task.cancel()
        except BaseExceptionGroup as failures:
            failure = reason_of(failures)
            if isinstance(failure, StaleIncarnationError) and log is None:
                logger().warning("host_lost_its_state")
                return False
            await self._give_up(stub, opened.session)
            raise failure from None
        except asyncio.CancelledError:
            await self._give_up(stub, opened.session)
            raise
        try:
            await close_session(stub, opened.session, config, config.reconnect_seconds)
        except (EssaError, HostUnreachableError) as error:
            logger().warning("guest_not_closed", reason=str(error))
        return True

    async def _give_up(self, stub: Any, session: pb.Session) -> None:
        """Close the guest if the host still listens; what went wrong is reported anyway."""
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await close_session(stub, session, self._config)
        except (EssaError, HostUnreachableError, TimeoutError) as error:
            logger().info("guest_not_closed", reason=str(error))

    def _fault_arrived(self, kernel: Kernel, fault: DiscardFault) -> None:
        if self._log is not None:
            self._log.fault(fault)
        kernel.discard_fault_arrived(fault)

    def _new_kernel(self, link: Link, disk: GuestDisk) -> Kernel:
        config = self._config
        self._schedule = (
            LoopSchedule() if config.perturb is None else PerturbedSchedule(config.perturb)
        )
        schedule: Schedule = self._schedule
        if self._log is not None:
            schedule = RecordedSchedule(schedule, self._log)
        kernel = Kernel(config.kernel(), link, schedule, disk, self._ledger)
        kernel.on_integrity_error = self._integrity_error
        disk.attach(kernel)
        self._kernel = kernel
        return kernel

    async def _work(self, kernel: Kernel) -> None:
        """A task for each vCPU's part of the course."""
        self._clock_started = asyncio.get_running_loop().time()
        self._course.begin(kernel)
        async with asyncio.TaskGroup() as group:
            for cpu in kernel.cpus:
                group.create_task(self._vcpu(cpu))

    async def _vcpu(self, cpu: Cpu) -> None:
        bind(vcpu=cpu.number)  # the task is this vCPU's alone
        if self._log is not None:
            self._log.step(cpu.number, BEGIN, None)
        await self._course.vcpu(cpu)

    def _keep_figures(self) -> None:
        """What the checks read is no part of the workload's figures."""
        self._figures = self._totals()

    def _stop_clock(self) -> None:
        if self._clock_started is not None:
            self._seconds += asyncio.get_running_loop().time() - self._clock_started
            self._clock_started = None

    def _reboot(self) -> None:
        self._stop_clock()
        self._past = self._totals()
        self._kernel = None
        self._ledger.power_failed()
        self._workload.rebooted()

    def _completed(self) -> int | None:
        return None if self._clock_started is None else self._workload.steps_done

    def _changed(self, resource: Resource) -> None:
        self._schedule.changed(resource)

    def _violation_found(self, what: str) -> None:
        if len(self._course.violations) < LOGGED_ERRORS_MAX:
            logger().error(
                "invariant_violated",
                what=what,
                requests=self._workload.requests_done,
            )

    def _integrity_error(self, error: IntegrityError) -> None:
        if len(self._integrity_errors) < LOGGED_ERRORS_MAX:
            logger().error(
                "integrity_error_found",
                what=error.what,
                page=error.page,
                history=error.history,
                requests=self._workload.requests_done,
            )
        self._integrity_errors.append(error)

    def _totals(self) -> Statistics:
        """Counters of all incarnations, this one included."""
        if self._kernel is None:
            return self._past
        return summed(self._past, self._kernel.statistics)

    def report(self) -> Report:
        """What the guest did so far; of the workload alone once that is done."""
        now = self._totals()
        return Report(
            name=self._config.name,
            requests=self._workload.requests_done,
            seconds=self._seconds,
            reboots=len(self._links) - 1,
            messages=sum(link.statistics.messages for link in self._links),
            commands=sum(link.statistics.commands for link in self._links),
            pages_verified=self._course.verified,
            statistics=replace(self._figures or now, integrity_errors=now.integrity_errors),
            workload=dict(sorted(self._course.counts.items())),
            integrity_errors=self._integrity_errors,
            invariant_violations=list(self._course.violations),
        )


async def _tick(kernel: Kernel, log: GuestLog | None) -> None:
    """The timer of every vCPU, for as long as somebody has a use for it."""
    while True:
        await asyncio.sleep(TICK_SECONDS)
        for cpu in kernel.cpus:
            if log is None:
                kernel.tick(cpu.number)
            else:
                log.tick(kernel, cpu.number)
