"""Grace periods: when a discarded page that nobody references may be reused.

A vCPU that was interrupted by a discard fault holds nothing but the page's absolute address
until its handler has a reference. A discarded page is therefore freed only after every vCPU
has been enabled for interrupts at least once since.

Rules:
- A page is here from its last put until its grace period is over; PG_discarded is set.
- A list of one vCPU is touched by that vCPU alone, with interrupts disabled: a last put may
  come from an interrupt.
- An idle vCPU is enabled for interrupts, and handles no discard fault.

Models: the discarded page lists of the series, 2005-12-16 (5/6: CALL), 2006-09-01 (8/9:
EACH) and 2007-06-28 (6/6: SIGN_OFF).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.page import ANY, Page, PG_discarded, SpinLock, reads, writes
from guest_agent.kernel.page_alloc import free_page_now

PAGEVEC_SIZE: Final = 4
"""Pages that a vCPU collects before it takes the list's lock. DEVIATION: 14 in Linux."""
_LOCK: Final = 0
"""The number of the list's lock; the kernel numbers its own from 1."""


class Grace(StrEnum):
    """The variants; `make_grace` builds one."""

    CALL = "call"
    EACH = "each"
    SIGN_OFF = "sign-off"


class GracePeriod(Protocol):
    """One variant of the discarded list."""

    @property
    def pages(self) -> list[Page]:
        """Every page that waits here, for whoever looks from outside."""
        ...

    def wants_ticks(self, vcpu: int) -> bool:
        """Whether a timer interrupt on the vCPU would do anything now."""
        ...

    async def add(self, cpu: Cpu, page: Page) -> None:
        """Take a PG_discarded page whose last reference is gone. From interrupts, too."""
        ...

    async def reclaim(self, cpu: Cpu) -> int:
        """Free pages whose grace period is over; may sleep. Returns how many."""
        ...

    async def wait(self, cpu: Cpu) -> None:
        """Reclaim has found nothing at all: sleep while pages are about to be free."""
        ...

    async def tick(self, cpu: Cpu) -> None:
        """The body of a timer interrupt."""
        ...

    async def idle_enter(self, cpu: Cpu) -> None:
        """The vCPU is about to idle: from now on it gets no ticks."""
        ...

    async def idle_exit(self, cpu: Cpu) -> None:
        """The vCPU has something to do."""
        ...


def make_grace(kind: Grace, vcpu_count: int) -> GracePeriod:
    """The variant, empty."""
    match kind:
        case Grace.CALL:
            return CallFunction(vcpu_count)
        case Grace.EACH:
            return OnEachCpu(vcpu_count)
        case Grace.SIGN_OFF:
            return SignOff(vcpu_count)


def interrupts_back(cpu: Cpu, depth: int) -> None:
    """Leave interrupts as they were before the list was changed.

    RACE(interrupts-enabled-by-a-put): the series enables them, whoever puts the page: its
    caller may be an interrupt handler (R39).
    """
    cpu.local_irq_restore(depth if cpu.kernel.guards.free_keeps_irq_state else 0)


class _List:
    """What the variants share. unfreed: pages that will be free without anybody's doing."""

    def __init__(self) -> None:
        self.unfreed = 0

    async def wait(self, cpu: Cpu) -> None:
        """Go on when a page is free, or none will be by itself. One step; may sleep."""
        cpu.might_sleep("reclaim")
        kernel = cpu.kernel
        await cpu.wait_until(
            lambda: bool(kernel.free_list) or not self.unfreed,
            "discard_list.wait",
            reads("free_list"),
            reads("discard_list", ANY),
        )

    async def free(self, cpu: Cpu, pages: list[Page]) -> int:
        for page in pages:
            await cpu.clear_flag(page, PG_discarded)
            await free_page_now(cpu, page)
            self.unfreed -= 1  # in the same step as the page is put on the free list
        return len(pages)


class _NoTicks(_List):
    """What a variant that rests on inter-processor calls makes of time: nothing, in no step."""

    def wants_ticks(self, vcpu: int) -> bool:
        return False

    async def tick(self, cpu: Cpu) -> None:
        pass

    async def idle_enter(self, cpu: Cpu) -> None:
        pass

    async def idle_exit(self, cpu: Cpu) -> None:
        pass


@dataclass(slots=True)
class _Pagevec:
    """struct pagevec: `count` entries are valid."""

    count: int = 0
    entries: list[Page | None] = field(default_factory=lambda: [None] * PAGEVEC_SIZE)

    def pages(self) -> list[Page]:
        return [page for page in self.entries[: self.count] if page is not None]


class CallFunction(_NoTicks):
    """A pagevec per vCPU, one list, and a call to every other vCPU before pages are freed.

    DEVIATION: the series frees only what is on the list, and a pagevec that never fills
    keeps its pages for ever. Here reclaim empties its own vCPU's pagevec, and when that and
    the list hold nothing it has the other vCPUs empty theirs. What they bring to the list
    during a call waits for the next one: others may have answered before.
    """

    def __init__(self, vcpu_count: int) -> None:
        super().__init__()
        self._pagevecs = [_Pagevec() for _ in range(vcpu_count)]
        self._list: list[Page] = []
        self._lock = SpinLock(_LOCK)

    @property
    def pages(self) -> list[Page]:
        """The list's pages, then the pagevecs'."""
        return [*self._list, *(page for vec in self._pagevecs for page in vec.pages())]

    async def add(self, cpu: Cpu, page: Page) -> None:
        """Into the vCPU's pagevec, which goes to the list when it is full.

        One schedule point, two if it fills up.
        """
        if not cpu.kernel.guards.discard_list_irq_safe:
            await self._add_interruptible(cpu, page)
            return
        depth = cpu.local_irq_save()
        vec = self._pagevecs[cpu.number]
        await cpu.point("discard_list.add", writes("discard_list", 1 + cpu.number))
        vec.entries[vec.count] = page
        vec.count += 1
        if vec.count == PAGEVEC_SIZE:
            await self._drain(cpu)
        interrupts_back(cpu, depth)

    async def _add_interruptible(self, cpu: Cpu, page: Page) -> None:
        """RACE(list-not-interrupt-safe): as the series has it, with interrupts enabled.

        A last put in an interrupt finds the pagevec half changed, or the list's lock held by
        the vCPU that it has interrupted (R51).
        """
        vec, number = self._pagevecs[cpu.number], 1 + cpu.number
        await cpu.point("pagevec.load_count", reads("discard_list", number))
        count = vec.count
        if count >= PAGEVEC_SIZE:
            raise KernelBug(f"vcpu {cpu.number} writes past the end of its pagevec")
        await cpu.point("pagevec.store_entry", writes("discard_list", number))
        vec.entries[count] = page
        await cpu.point("pagevec.store_count", writes("discard_list", number))
        vec.count = count + 1
        if vec.count < PAGEVEC_SIZE:
            return
        await cpu.spin_lock(self._lock, "discard_list_lock")
        await cpu.point("discard_list.add_tail", writes("discard_list"))
        self._list += vec.pages()
        await cpu.spin_unlock(self._lock, "discard_list_unlock")
        await cpu.point("pagevec.reinit", writes("discard_list", number))
        vec.count = 0

    async def _drain(self, cpu: Cpu) -> None:
        """The vCPU's own pagevec to the list; interrupts are disabled. One step, or none."""
        vec = self._pagevecs[cpu.number]
        if vec.count:
            lists = writes("discard_list"), writes("discard_list", 1 + cpu.number)
            await cpu.locked_step(self._lock, "discard_list.drain", *lists)
            self._list += vec.pages()
            vec.count = 0

    async def reclaim(self, cpu: Cpu) -> int:
        """shrink_discards: splice the list, call every other vCPU, free the pages."""
        pages, more = await self._splice(cpu)
        if not pages and more:
            await cpu.kernel.smp_call_function(cpu, self._drain)
            pages, _ = await self._splice(cpu)
        if not pages:
            return 0
        await cpu.kernel.smp_call_function(cpu)
        return await self.free(cpu, pages)

    async def _splice(self, cpu: Cpu) -> tuple[list[Page], bool]:
        """Take what is on the list and in the vCPU's own pagevec; and whether others have any.

        One step. Three with the lock held and interrupts enabled, as the series has it.
        """
        if not cpu.kernel.guards.discard_list_irq_safe:
            await cpu.spin_lock(self._lock, "discard_list_lock")
            await cpu.point("discard_list.splice", writes("discard_list", ANY))
        else:
            await cpu.locked_step(self._lock, "discard_list.splice", writes("discard_list", ANY))
        own = self._pagevecs[cpu.number]
        pages, self._list = self._list + own.pages(), []
        own.count = 0
        self.unfreed += len(pages)
        more = any(vec.count for vec in self._pagevecs)
        if not cpu.kernel.guards.discard_list_irq_safe:
            await cpu.spin_unlock(self._lock, "discard_list_unlock")
        return pages, more


class OnEachCpu(_NoTicks):
    """A list per vCPU; reclaim has every vCPU hand its list over, then frees what it got."""

    def __init__(self, vcpu_count: int) -> None:
        super().__init__()
        self._lists: list[list[Page]] = [[] for _ in range(vcpu_count)]

    @property
    def pages(self) -> list[Page]:
        """The lists, one after the other."""
        return [page for pages in self._lists for page in pages]

    async def add(self, cpu: Cpu, page: Page) -> None:
        """To the vCPU's own list. One schedule point."""
        depth = cpu.local_irq_save()
        await cpu.point("discard_list.add", writes("discard_list", 1 + cpu.number))
        self._lists[cpu.number].append(page)
        interrupts_back(cpu, depth)

    async def reclaim(self, cpu: Cpu) -> int:
        """page_shrink_discards: splice on each vCPU, then free.

        DEVIATION: nobody is called while all lists are empty.
        """
        kernel = cpu.kernel
        await cpu.point("discard_list.peek", reads("discard_list", ANY))
        if not any(self._lists):
            return 0
        gathered: list[Page] = []

        async def splice(each: Cpu) -> None:
            own = self._lists[each.number]
            if own:
                lists = writes("discard_list"), writes("discard_list", 1 + each.number)
                await each.point("discard_list.splice", *lists)
                gathered.extend(own)
                self.unfreed += len(own)
                own.clear()

        await kernel.smp_call_function(cpu, splice)
        if kernel.guards.grace_splices_own:
            # RACE(own-list-leaks): smp_call_function calls the others (R19).
            depth = cpu.local_irq_save()
            await splice(cpu)
            cpu.local_irq_restore(depth)
        if gathered and kernel.guards.grace_calls_again:
            # RACE(answered-before-the-splice): a vCPU may have answered, and faulted on a
            # page since, that another one put on its list before it answered (R17).
            await kernel.smp_call_function(cpu)
        return await self.free(cpu, gathered)


class SignOff(_List):
    """A list per vCPU, gathered at its tick; a batch is freed when every vCPU has signed off.

    A vCPU signs off at a tick, and when it begins to idle. mask: whom the batch waits for.
    """

    def __init__(self, vcpu_count: int) -> None:
        super().__init__()
        self._all = (1 << vcpu_count) - 1
        self._lists: list[list[Page]] = [[] for _ in range(vcpu_count)]
        self._gathered: list[Page] = []
        self._batch: list[Page] = []
        self._mask = 0
        self._idle = 0
        self._lock = SpinLock(_LOCK)

    @property
    def pages(self) -> list[Page]:
        """The batch, what is gathered for the next one, then the vCPUs' lists."""
        return [*self._batch, *self._gathered, *(p for pages in self._lists for p in pages)]

    def wants_ticks(self, vcpu: int) -> bool:
        """Not while it idles: the timer of an idle vCPU is stopped."""
        asked = bool(self._lists[vcpu]) or bool(self._mask >> vcpu & 1)
        return asked and not self._idle >> vcpu & 1

    async def add(self, cpu: Cpu, page: Page) -> None:
        """page_free_discarded: to the vCPU's own list. One schedule point."""
        depth = cpu.local_irq_save()
        await cpu.point("discard_list.add", writes("discard_list", 1 + cpu.number))
        self._lists[cpu.number].append(page)
        self.unfreed += 1
        interrupts_back(cpu, depth)

    async def reclaim(self, cpu: Cpu) -> int:
        """Nothing: time frees the pages. No step."""
        return 0

    async def tick(self, cpu: Cpu) -> None:
        """Sign off for this vCPU; runs with interrupts disabled."""
        await self._sign_off(cpu)

    async def idle_enter(self, cpu: Cpu) -> None:
        """Stop the timer, then sign off: who starts a batch either sees us idle, or is seen."""
        depth = cpu.local_irq_save()
        await cpu.point("nohz.set", writes("nohz"))
        self._idle |= 1 << cpu.number
        if cpu.kernel.guards.grace_idle_signs_off:
            await self._sign_off(cpu)
        cpu.local_irq_restore(depth)

    async def idle_exit(self, cpu: Cpu) -> None:
        """Start the timer, before anything else is done. One step.

        A batch that was begun meanwhile does not wait for us and need not: its pages had
        no pte any more, so we cannot have faulted on one of them since.
        """
        depth = cpu.local_irq_save()
        await cpu.point("nohz.clear", writes("nohz"), writes("irq", cpu.number))
        self._idle &= ~(1 << cpu.number)
        cpu.local_irq_restore(depth)

    async def _sign_off(self, cpu: Cpu) -> None:
        """page_shrink_discard_list; interrupts are disabled."""
        own, bit = self._lists[cpu.number], 1 << cpu.number
        await cpu.point("sign_off.look", reads("discard_list"))
        if not own and not self._mask & bit:
            return
        await cpu.spin_lock(self._lock, "sign_off.lock")
        await cpu.point("sign_off", writes("discard_list"), writes("discard_list", 1 + cpu.number))
        self._gathered += own
        own.clear()
        self._mask &= ~bit
        free: list[Page] = []
        if not self._mask:
            free, self._batch, self._gathered = [*self._batch], self._gathered, []
            if self._batch:
                free += await self._begin_batch(cpu, bit)
        await cpu.spin_unlock(self._lock, "sign_off.unlock")
        await self.free(cpu, free)

    async def _begin_batch(self, cpu: Cpu, bit: int) -> list[Page]:
        """Wait for every vCPU but this one and those that idle; the batch if that is nobody.

        RACE(idle-vcpu-never-ticks): who idles gets no tick to sign off at (R19). The mask is
        set before the idle ones are taken out of it: one that begins to idle in between
        finds itself in the mask and signs off.
        """
        self._mask = self._all
        await cpu.point("sign_off.exclude", reads("nohz"), writes("discard_list"))
        self._mask &= ~bit
        if cpu.kernel.guards.grace_idle_signs_off:
            self._mask &= ~self._idle
        if self._mask:
            return []
        batch, self._batch = self._batch, []
        return batch
