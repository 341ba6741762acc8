"""One guest's kernel: its memory, vCPUs, files and counters, put together.

Rules:
- No transport, clock, randomness or thread: the world is behind `ports`.
- All state is plain data that hangs on this object; nothing is global.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from guest_agent.kernel import verify, vmscan
from guest_agent.kernel.checked import IntegrityError
from guest_agent.kernel.content import TAG_SIZE, TAGS_PER_PAGE, Ledger
from guest_agent.kernel.cpu import Cpu, Interrupt, KernelBug
from guest_agent.kernel.discard import do_discard_fault
from guest_agent.kernel.grace import Grace, GracePeriod, make_grace
from guest_agent.kernel.guards import FIXED, Guards
from guest_agent.kernel.lru import LruKind, make_lru
from guest_agent.kernel.mm import Mm, Pte, Vma
from guest_agent.kernel.page import (
    AnonVma,
    Mapping,
    Page,
    PG_reserved,
    RwSemaphore,
    SpinLock,
    reads,
    writes,
)
from guest_agent.kernel.ports import Disk, Link, Schedule
from guest_agent.kernel.swap_cache import Swap
from shared.arch import InterruptionCode, Orc
from shared.commands import (
    ESSA_ARRAY_MAX,
    DiscardFault,
    Essa,
    EssaArray,
    EssaArrayOutcome,
    ProgramInterruption,
)

_ADDRESS_BITS = 40
RESERVED_PAGES = 1
"""Page 0, the lowcore; the boot-time probe asks for its state."""


class Hints(StrEnum):
    """What the guest tells its host."""

    NONE = "none"
    UNUSED = "unused"
    VOLATILE = "volatile"


@dataclass(frozen=True, slots=True)
class KernelConfig:
    """page_count: 4 KiB pages of the guest. cache_limit: pages the page cache may hold, or None.

    swap_pages: of the guest's own swap device. minor_faults: patch 4/6, by which a fault on a
    page that is in the cache changes no state. dirty_accounting: as from Linux 2.6.19 on, a pte of
    a shared mapping is writable only from the first write fault on, which dirties the page.
    grace: the variant of the discarded list.
    buffer_heads: whether pages that are written by system calls get some, until they are clean.
    """

    page_count: int
    vcpu_count: int = 1
    hints: Hints = Hints.VOLATILE
    guards: Guards = FIXED
    cache_limit: int | None = None
    swap_pages: int = 0
    minor_faults: bool = False
    dirty_accounting: bool = False
    lru: LruKind | None = None
    grace: Grace = Grace.CALL
    buffer_heads: bool = True


@dataclass(slots=True)
class Statistics:
    """Counters since boot; `essa` by operation request code."""

    cache_hits: int = 0
    cache_misses: int = 0
    disk_reads: int = 0
    disk_writes: int = 0
    swap_reads: int = 0
    swap_writes: int = 0
    minor_faults: int = 0
    major_faults: int = 0
    discard_faults: int = 0
    pages_discarded: int = 0
    made_volatile: int = 0
    stable_failed: int = 0
    signals: int = 0
    integrity_errors: int = 0
    essa: list[int] = field(default_factory=lambda: [0] * 8)


class Kernel:
    """The guest. Construct, start one task per vCPU, `boot` on one of them, then run system calls.

    ledger: handed over from one incarnation of the guest to the next, as its disk is.
    """

    def __init__(
        self,
        config: KernelConfig,
        link: Link,
        schedule: Schedule,
        disk: Disk,
        ledger: Ledger | None = None,
    ) -> None:
        if config.page_count <= RESERVED_PAGES:
            raise ValueError(f"page_count is {config.page_count}; at least {RESERVED_PAGES + 1}")
        self.config = config
        self.guards = config.guards
        self.link = link
        self.schedule = schedule
        self.disk = disk
        self.ledger = ledger if ledger is not None else Ledger()
        self.cache_limit = config.cache_limit
        self.statistics = Statistics()
        self.integrity_errors: list[IntegrityError] = []
        self.on_integrity_error: Callable[[IntegrityError], None] | None = None
        self.has_essa = False
        self._locks = 0
        self._mms = 0
        self._anonymous = 0
        self._offset = 0
        self.cpus = [Cpu(self, n) for n in range(config.vcpu_count)]
        self.mem_map = [Page(pfn) for pfn in range(config.page_count)]
        for page in self.mem_map[:RESERVED_PAGES]:
            page.flags, page.count = PG_reserved, 1
        # Last in, first out, as the per-CPU lists of hot pages are; low pfns first at boot.
        self.free_list: list[Page] = self.mem_map[: RESERVED_PAGES - 1 : -1]
        plain = LruKind.TWO_LISTS if config.cache_limit is None else LruKind.PLAIN
        self.lru = make_lru(config.lru or plain, self._new_lock())
        self.grace: GracePeriod = make_grace(config.grace, config.vcpu_count)
        self.nrpages = 0
        self.mappings: dict[int, Mapping] = {}
        self.mms: list[Mm] = []
        self.swap = Swap(config.swap_pages, self._new_lock(), self._new_lock())
        self.arrived_faults: dict[int, DiscardFault] = {}
        self._taken_faults = 0

    # What the guest may tell its host; decided at boot.

    @property
    def unused_hints(self) -> bool:
        """Whether pages are set unused when freed and stable when allocated."""
        return self.has_essa and self.config.hints is not Hints.NONE

    @property
    def volatile_hints(self) -> bool:
        """Whether clean page cache pages are offered for discarding."""
        return self.has_essa and self.config.hints is Hints.VOLATILE

    async def boot(self, cpu: Cpu) -> None:
        """Probe for ESSA on absolute page 0, then set all free pages unused."""
        outcome = await cpu.call(Essa(Orc.GET_STATE, 0))
        if isinstance(outcome, ProgramInterruption):
            if outcome.code != InterruptionCode.OPERATION:
                raise KernelBug(f"the ESSA probe ended in {outcome}")
            return
        self.has_essa = True
        if not self.unused_hints:
            return
        pfns = np.arange(RESERVED_PAGES, self.config.page_count, dtype=np.uint32)
        for start in range(0, len(pfns), ESSA_ARRAY_MAX):
            chunk = pfns[start : start + ESSA_ARRAY_MAX]
            orcs = np.full(len(chunk), Orc.SET_UNUSED, dtype=np.uint8)
            outcome = await cpu.call(EssaArray.of(orcs, chunk))
            if not isinstance(outcome, EssaArrayOutcome):
                raise KernelBug(f"setting free pages unused ended in {outcome}")
            self.statistics.essa[Orc.SET_UNUSED] += len(chunk)

    # Objects.

    def _new_lock(self) -> SpinLock:
        self._locks += 1
        return SpinLock(self._locks)

    def open_file(self, number: int, disk: int, first_block: int) -> Mapping:
        """The address space of a file whose pages lie at consecutive blocks of a disk."""
        mapping = self.mappings.get(number)
        if mapping is None:
            mapping = Mapping(number, disk, first_block, self._new_lock(), self._new_lock())
            self.mappings[number] = mapping
        return mapping

    def new_mm(self) -> Mm:
        """An empty address space."""
        self._mms += 1
        mm = Mm(self._mms, self._new_lock(), RwSemaphore(self._mms))
        self.mms.append(mm)
        return mm

    def new_anon_vma(self, vma: Vma) -> AnonVma:
        """An anon_vma for the vma's anonymous pages. No schedule point."""
        return AnonVma(SpinLock(vma.mm.number << _ADDRESS_BITS | vma.start), [vma])

    def new_anonymous(self) -> int:
        """A number for the content of an anonymous page."""
        self._anonymous += 1
        return self._anonymous

    def pte(self, mm: Mm, address: int) -> Pte:
        """The pte of a page address, made on first use."""
        pte = mm.ptes.get(address)
        if pte is None:
            # Not numbered as they come: a number must mean the same pte in every schedule.
            pte = mm.ptes[address] = Pte(mm.number << _ADDRESS_BITS | address)
        return pte

    def cache_is_full(self) -> bool:
        """Whether the page cache has all the pages that it may. Depends on every page tree."""
        return self.cache_limit is not None and self.nrpages >= self.cache_limit

    def forget(self, mapping: Mapping, page: Page) -> None:
        """radix_tree_delete and its counters. The tree lock is held, the point is behind."""
        if mapping.pages.get(page.index) is not page:
            raise KernelBug(f"page is not in its page tree: {page.describe()}")
        del mapping.pages[page.index]
        mapping.dirty.pop(page.index, None)
        self.nrpages -= 1

    def next_offset(self) -> int:
        """Byte offset of the tag that the next checked load reads; goes round the page."""
        self._offset = (self._offset + 1) % TAGS_PER_PAGE
        return self._offset * TAG_SIZE

    # Interrupts.

    def raise_interrupt(self, vcpu: int, interrupt: Interrupt) -> None:
        """Make an interrupt pending. Called by the world, or behind a point."""
        cpu = self.cpus[vcpu]
        cpu.pending.append(interrupt)
        self.schedule.interrupt_raised(cpu)

    def discard_fault_arrived(self, fault: DiscardFault) -> None:
        """Hand a discard fault to its vCPU, which waits, or will wait, for its number.

        A fault that its vCPU has taken before comes again only with the link's guard off;
        it then interrupts the vCPU as a real one would.
        """
        cpu = self.cpus[fault.vcpu]
        if fault.number > self._taken_faults:
            self._taken_faults = fault.number
            self.arrived_faults[fault.number] = fault
            self.schedule.interrupt_raised(cpu)
        elif fault.number not in self.arrived_faults:

            async def late(cpu: Cpu) -> None:
                # A program interruption, whose handler enables interrupts and may sleep.
                await do_discard_fault(cpu, fault)
                cpu.irq_off += 1

            self.raise_interrupt(fault.vcpu, late)

    async def smp_call_function(self, cpu: Cpu, function: Interrupt | None = None) -> None:
        """Interrupt every other vCPU, let it run the function, wait until each has answered.

        One step for each, one for its answer, and one at the end. Raises KernelBug if called
        with interrupts disabled, which would dead-lock.
        """
        if cpu.irq_off:
            raise KernelBug(f"smp_call_function on vcpu {cpu.number} with interrupts disabled")
        waiting = {c.number for c in self.cpus if c is not cpu}

        async def answer(other: Cpu) -> None:
            if function is not None:
                await function(other)
            await other.point("ipi.answer", writes("ipi", cpu.number))
            waiting.discard(other.number)

        for number in sorted(waiting):  # SIGP addresses one vCPU at a time
            await cpu.point("ipi.send", writes("irq", number))
            self.raise_interrupt(number, answer)
        await cpu.wait_until(lambda: not waiting, "ipi.wait", reads("ipi", cpu.number))

    async def idle(self, cpu: Cpu, until: Callable[[], bool], label: str = "idle") -> None:
        """cpu_idle: take interrupts until the condition, on resource ("idle", 0), holds.

        One step, and what the grace period makes of idling, again after every interrupt.
        """
        interrupted = True
        while interrupted:
            await self.grace.idle_enter(cpu)
            interrupted = await cpu.wait_or_interrupt(until, label, reads("idle"))
            await self.grace.idle_exit(cpu)
            if cpu.interruptible():
                await cpu.take_interrupt()

    def tick_wanted(self, vcpu: int) -> bool:
        """Whether a timer interrupt would do anything; at most one is pending.

        Depends on the resources "irq" and "discard_list" of the vCPU, and on "nohz".
        """
        return self.grace.wants_ticks(vcpu) and self.grace.tick not in self.cpus[vcpu].pending

    def tick(self, vcpu: int) -> None:
        """Raise a timer interrupt if one is wanted. Called by the world, at any time."""
        if self.tick_wanted(vcpu):
            self.raise_interrupt(vcpu, self.grace.tick)

    # Memory pressure.

    async def try_to_free_pages(self, cpu: Cpu) -> None:
        """Free discarded pages whose grace period is over, else one page of the LRU lists."""
        if not await self.grace.reclaim(cpu) and not await vmscan.try_to_free_pages(cpu):
            await self.grace.wait(cpu)

    async def shrink_cache(self, cpu: Cpu) -> bool:
        """Free the least recently used page of the page cache that can be freed."""
        return await vmscan.shrink_cache(cpu)

    # The end of a run.

    async def verify(self, cpu: Cpu, share: int = 0, shares: int = 1) -> int:
        """Compare what the guest holds with what it should hold; see `verify`."""
        return await verify.verify(self, cpu, share, shares)
