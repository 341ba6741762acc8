"""A guest's log, and the kernel's doors that write it.

Rules:
- The doors are those of a guest that is not recorded, each behind one that writes down what
  passed it: steps and commands of an actor (a vCPU, or a device), and what came to the guest.
- A record is written where the thing happened, with no turn of the loop in between: what
  stands before it has happened before.
- While a run is recorded, transfers of one block do not overlap on the disk, so the order in which
  they ended is the order in which they happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from pydantic import TypeAdapter

from guest_agent.config import GuestConfig
from guest_agent.kernel.block import Block, BlockStore, GuestDisk, transfer
from guest_agent.kernel.kernel import Kernel
from guest_agent.kernel.ports import Accesses, DiskRequest, DiskResult, Link, Schedule, Vcpu
from guest_agent.workload.mixed import Mix
from shared.commands import Command, DiscardFault, Outcome
from shared.runlog.records import (
    END,
    FAULT,
    GUEST,
    TICK,
    command_text,
    disk_label,
    encode,
    fault_text,
    step_text,
)
from shared.runlog.writer import RunLog, RunLogError


def trace_digest(path: Path) -> str:
    """SHA-256 of a trace. Raises RunLogError."""
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RunLogError(f"cannot read {path}: {error.strerror}") from None


class GuestLog:
    """Records of one guest, gathered into a row for as long as one actor goes on.

    host_steps: of each issuer, the host's step that the outcome came of which came last.
    """

    def __init__(self, log: RunLog) -> None:
        self.host_steps: dict[int, int] = {}
        self._log = log
        self._actor = -1
        self._row: list[str] = []
        self._spelled: dict[tuple[str, int | None], tuple[str, str]] = {}

    def header(self, guest_id: int, incarnation: int, config: GuestConfig, plan: object) -> None:
        """Write what the guest was made from. Raises RunLogError for a trace that is gone."""
        self._log.header(
            GUEST,
            guest_id=guest_id,
            incarnation=f"{incarnation:016x}",
            config=TypeAdapter(GuestConfig).dump_python(config, mode="json"),
            mix=TypeAdapter(Mix).dump_python(plan, mode="json") if isinstance(plan, Mix) else None,
            traces=[[str(path.resolve()), trace_digest(path)] for path in config.traces],
        )

    def step(self, actor: int, label: str, number: int | None, interrupted: bool = False) -> None:
        """An actor goes on; interrupted: an interrupt comes first."""
        key = label, number
        spelled = self._spelled.get(key)
        if spelled is None:
            defined = len(self._spelled)
            spelled = self._spelled[key] = str(defined), str(~defined)
            self._add(actor, encode(step_text(label, number)))
        self._add(actor, spelled[interrupted])

    def submitted(self, issuer: int, command: Command) -> None:
        """A command was handed to the link."""
        self._add(issuer, encode([command_text(command)]))

    def answered(self, issuer: int) -> None:
        """Its outcome has come, and its issuer goes on. Raises RunLogError if the host is not
        recorded."""
        if issuer not in self.host_steps:
            raise RunLogError("the host does not record its run: start it with --record too")
        self._add(issuer, f"[{self.host_steps[issuer]}]")

    def event(self, name: str, *said: Any) -> None:
        """Something has come to the guest."""
        self._end_row()
        self._log.write([name, *said])

    def end(self, result: dict[str, Any] | None) -> None:
        """Close the log. result: what has come of the run, if it came to an end."""
        self._end_row()
        if result is not None:
            self._log.write([END, result])
        self._log.close()

    def _add(self, actor: int, text: str) -> None:
        if actor != self._actor:
            self._end_row()
            self._actor = actor
        self._row.append(text)

    def _end_row(self) -> None:
        if self._row:
            self._log.write_line(f"[{self._actor},{','.join(self._row)}]\n")
            self._row.clear()
        self._actor = -1

    # What comes from outside.

    def message(self, message: Any) -> None:
        """A message of outcomes is here."""
        for item in message.outcomes:
            if item.host_step > self.host_steps.get(item.vcpu, 0):
                self.host_steps[item.vcpu] = item.host_step

    def fault(self, fault: DiscardFault) -> None:
        """A discard fault is about to be handed to its vCPU."""
        self.event(FAULT, fault.number, fault_text(fault))

    def tick(self, kernel: Kernel, vcpu: int) -> None:
        """Raise a timer interrupt if one is wanted, and write it down."""
        if kernel.tick_wanted(vcpu):
            self.event(TICK, vcpu)
            kernel.tick(vcpu)


def first_touched(accesses: Accesses) -> int | None:
    """Which of the things that a step is about it touches first; with its label it names a step."""
    return accesses[0].resource[1] if accesses else None


class RecordedSchedule:
    """A `Schedule` with a log."""

    def __init__(self, schedule: Schedule, log: GuestLog) -> None:
        self._schedule = schedule
        self._log = log
        self.interrupt_raised = schedule.interrupt_raised

    async def point(self, vcpu: Vcpu, label: str, accesses: Accesses) -> bool:
        """As the other schedule."""
        interrupted = await self._schedule.point(vcpu, label, accesses)
        self._log.step(vcpu.number, label, first_touched(accesses), interrupted)
        return interrupted

    async def wait_until(
        self, vcpu: Vcpu, condition: Callable[[], bool], label: str, accesses: Accesses
    ) -> bool:
        """As the other schedule."""
        interrupted = await self._schedule.wait_until(vcpu, condition, label, accesses)
        self._log.step(vcpu.number, label, first_touched(accesses), interrupted)
        return interrupted


class RecordedLink:
    """A `Link` with a log."""

    def __init__(self, link: Link, log: GuestLog) -> None:
        self._link = link
        self._log = log
        self.fault_settled = link.fault_settled

    async def call(self, issuer: int, command: Command) -> Outcome:
        """As the other link."""
        self._log.submitted(issuer, command)
        outcome = await self._link.call(issuer, command)
        self._log.answered(issuer)
        return outcome


class RecordedDisk(GuestDisk):
    """A `GuestDisk` with a log."""

    def __init__(
        self,
        link: Link,
        store: BlockStore,
        issuers: Sequence[int],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        log: GuestLog,
    ) -> None:
        super().__init__(link, store, issuers, spawn)
        self._log = log
        self._busy: WeakValueDictionary[tuple[int, int], asyncio.Lock] = WeakValueDictionary()

    async def move(self, issuer: int, request: DiskRequest) -> DiskResult:
        """As the other disk."""
        self._log.step(issuer, disk_label("begin", request.disk), request.block)
        store = _RecordedStore(self._store, issuer, self._log, self._busy)
        return await transfer(self._link, store, issuer, request)


class _RecordedStore:
    """The blocks as one device reaches them. busy: what keeps two off one block."""

    def __init__(
        self,
        store: BlockStore,
        issuer: int,
        log: GuestLog,
        busy: WeakValueDictionary[tuple[int, int], asyncio.Lock],
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._log = log
        self._busy = busy

    async def read(self, disk: int, block: int) -> Block:
        """As the other store, once no other transfer of the block is under way."""
        async with self._busy.setdefault((disk, block), asyncio.Lock()):
            content = await self._store.read(disk, block)
            self._log.step(self._issuer, disk_label("read", disk), block)
        return content

    async def write(self, disk: int, block: int, content: Block) -> None:
        """As the other store, once no other transfer of the block is under way."""
        async with self._busy.setdefault((disk, block), asyncio.Lock()):
            await self._store.write(disk, block, content)
            self._log.step(self._issuer, disk_label("write", disk), block)
