"""A vCPU: every shared access of the kernel goes through one of these methods.

Rules:
- Each `async def` here passes exactly one schedule point and performs one shared access
  behind it (interrupts, which run at that point, not counted).
- A pending interrupt runs nested, with interrupts disabled, when its vCPU comes to a point
  with interrupts enabled; the interrupted code goes on when it returns.
- Who waits for what only its own vCPU could give back waits for ever: that is found out at
  once, as a dead-lock, and not by everybody standing still.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from guest_agent.kernel.oops import EVENTS_MAX, Event, Oops
from guest_agent.kernel.oops import KernelBug as KernelBug
from guest_agent.kernel.page import Page, PG_state_change, RwSemaphore, SpinLock, reads, writes
from guest_agent.kernel.ports import Access, Check
from shared.arch import STATE_NAMES, Orc
from shared.commands import Command, Essa, EssaOutcome, Iske, KeyOutcome, Outcome, Sske

if TYPE_CHECKING:
    from guest_agent.kernel.kernel import Kernel
    from guest_agent.kernel.mm import Pte

Interrupt = Callable[["Cpu"], Coroutine[Any, Any, None]]


class Cpu:
    """One vCPU of one guest.

    irq_off: depth of interrupt disabling. translation: the pte that an access under way
    uses (ptep_clear_flush waits for it, as IPTE does). events: what it did last, for an oops.
    check: of the command under way, for a link that can tell when it is executed.
    """

    def __init__(self, kernel: Kernel, number: int) -> None:
        self.kernel = kernel
        self.number = number
        self.irq_off = 0
        self.pending: deque[Interrupt] = deque()
        self.translation: Pte | None = None
        self.events: deque[Event] = deque(maxlen=EVENTS_MAX)
        self.check: Check | None = None

    def interruptible(self) -> bool:
        """Whether an interrupt is pending and the vCPU is enabled for it."""
        return self.irq_off == 0 and bool(self.pending)

    def uses(self, pte: Pte) -> bool:
        """Whether an access of this vCPU through the pte is under way."""
        return self.translation is pte

    async def point(self, label: str, *accesses: Access) -> None:
        """Stand before one shared access."""
        self.events.append((label, accesses))
        while await self.kernel.schedule.point(self, label, accesses):
            await self.take_interrupt()

    async def wait_until(
        self, condition: Callable[[], bool], label: str, *accesses: Access
    ) -> None:
        """Stand before one shared access that is possible only while `condition()` holds."""
        self.events.append((label, accesses))
        while await self.kernel.schedule.wait_until(self, condition, label, accesses):
            await self.take_interrupt()

    async def wait_or_interrupt(
        self, condition: Callable[[], bool], label: str, *accesses: Access
    ) -> bool:
        """Stand there until the condition holds (False), or an interrupt is to be taken (True)."""
        self.events.append((label, accesses))
        return await self.kernel.schedule.wait_until(self, condition, label, accesses)

    async def take_interrupt(self) -> None:
        """Run one pending interrupt on top of what this vCPU does."""
        interrupt = self.pending.popleft()
        self.events.append(("interrupt", ()))
        depth = self.local_irq_save()
        await interrupt(self)
        if self.irq_off != depth + 1:
            raise Oops("an interrupt handler returned with interrupts enabled", self)
        self.events.append(("interrupt.end", ()))
        self.local_irq_restore(depth)

    def local_irq_save(self) -> int:
        """Disable interrupts, one level deeper; what `local_irq_restore` wants afterwards."""
        depth = self.irq_off
        self.irq_off = depth + 1
        return depth

    def local_irq_restore(self, depth: int) -> None:
        """Leave interrupts as they were at the matching `local_irq_save`."""
        self.irq_off = depth

    def might_sleep(self, what: str) -> None:
        """Raise Oops where a vCPU that has interrupts disabled is about to sleep."""
        if self.irq_off:
            raise Oops(f"{what} may sleep, and interrupts are disabled", self)

    async def call(self, command: Command, check: Check | None = None) -> Outcome:
        """Execute one command on the host; interrupts that are pending come first."""
        while self.interruptible():
            await self.take_interrupt()
        self.events.append(command)
        self.check = check
        outcome = await self.kernel.link.call(self.number, command)
        self.check = None
        return outcome

    # The page's words.

    async def read_flags(self, page: Page, *accesses: Access) -> int:
        """Load page->flags. accesses: what else the caller looks at in this step."""
        await self.point("page.flags", reads("flags", page.pfn), *accesses)
        return page.flags

    async def set_flag(self, page: Page, flag: int) -> None:
        """set_bit."""
        await self.point("page.set_bit", writes("flags", page.pfn))
        page.flags |= flag

    async def clear_flag(self, page: Page, flag: int) -> None:
        """clear_bit."""
        await self.point("page.clear_bit", writes("flags", page.pfn))
        page.flags &= ~flag
        if flag & PG_state_change:
            page.state_changer = None

    async def test_and_set_flag(self, page: Page, flag: int, *accesses: Access) -> bool:
        """test_and_set_bit: whether it was set before. accesses: see `read_flags`."""
        await self.point("page.test_and_set_bit", writes("flags", page.pfn), *accesses)
        was = bool(page.flags & flag)
        page.flags |= flag
        if flag & PG_state_change and not was:
            page.state_changer = self.number
        return was

    async def test_and_clear_flag(self, page: Page, flag: int) -> bool:
        """test_and_clear_bit: whether it was set before."""
        await self.point("page.test_and_clear_bit", writes("flags", page.pfn))
        was = bool(page.flags & flag)
        page.flags &= ~flag
        return was

    async def wait_flag_clear(self, page: Page, flag: int, label: str) -> None:
        """Go on once the flag is seen clear (one load)."""
        self._check_state_changer(page, flag, label)
        await self.wait_until(lambda: not page.flags & flag, label, reads("flags", page.pfn))

    async def wait_and_set_flag(self, page: Page, flag: int, label: str) -> None:
        """Set the flag once it is clear: a test_and_set_bit that succeeds."""
        self._check_state_changer(page, flag, label)
        await self.wait_until(lambda: not page.flags & flag, label, writes("flags", page.pfn))
        page.flags |= flag
        if flag & PG_state_change:
            page.state_changer = self.number

    def _check_state_changer(self, page: Page, flag: int, label: str) -> None:
        """RACE(interrupted-holder): this vCPU may have been interrupted while it held the bit.

        Nobody else clears it then. (PG_locked is different: any vCPU's interrupt unlocks.)
        """
        if flag & PG_state_change and page.state_changer == self.number:
            raise self._dead_lock(label, "PG_state_change", page)

    def _dead_lock(self, label: str, what: str, page: Page | None = None) -> Oops:
        return Oops(
            f"dead-lock: vcpu {self.number} spins on {what} ({label}) that it holds itself",
            self,
            page,
        )

    async def get_page(self, page: Page) -> None:
        """get_page: atomic_inc(&page->_count); a compound page has its count in the head."""
        page = page.head or page
        await self.point("page.get", writes("count", page.pfn))
        page.count += 1

    async def put_page_testzero(self, page: Page) -> bool:
        """atomic_dec_and_test(&page->_count)."""
        await self.point("page.put", writes("count", page.pfn))
        if page.count <= 0:
            raise KernelBug(f"put_page on a free page: {page.describe()}")
        page.count -= 1
        return page.count == 0

    # Locks.

    async def spin_lock(self, lock: SpinLock, label: str) -> None:
        """Take the lock once it is free. Raises Oops for a lock that this vCPU holds."""
        self._check_holder(lock, label)
        await self.wait_until(lambda: lock.holder is None, label, writes("lock", lock.number))
        lock.holder = self.number

    async def locked_step(self, lock: SpinLock, label: str, *accesses: Access) -> None:
        """Stand before a short critical section of the lock, taken and released in one step.

        Nobody can be seen to hold the lock for it, so it must hold no point.
        """
        self._check_holder(lock, label)
        await self.wait_until(
            lambda: lock.holder is None, label, reads("lock", lock.number), *accesses
        )

    def _check_holder(self, lock: SpinLock, label: str) -> None:
        if lock.held_by(self.number):
            raise self._dead_lock(label, "a spin lock")

    async def spin_unlock(self, lock: SpinLock, label: str) -> None:
        """Release the lock."""
        await self.point(label, writes("lock", lock.number))
        if lock.holder != self.number:
            raise KernelBug(f"vcpu {self.number} unlocks {label} held by {lock.holder}")
        lock.holder = None

    # DEVIATION: readers and writers get mmap_sem as they come; in Linux a waiting writer
    # keeps later readers out. Nothing here takes it twice, so only the order differs.

    async def down_read(self, semaphore: RwSemaphore) -> None:
        """Share the semaphore once no writer has it. One step; may sleep."""
        self.might_sleep("down_read")
        self._check_writer(semaphore)
        await self.wait_until(
            lambda: semaphore.writer is None, "down_read", writes("sem", semaphore.number)
        )
        semaphore.readers += 1

    async def up_read(self, semaphore: RwSemaphore) -> None:
        """Give the share back. One step."""
        await self.point("up_read", writes("sem", semaphore.number))
        if semaphore.readers <= 0:
            raise Oops(f"up_read of semaphore {semaphore.number}, which nobody reads", self)
        semaphore.readers -= 1

    async def down_write(self, semaphore: RwSemaphore) -> None:
        """Take the semaphore once nobody has it. One step; may sleep."""
        self.might_sleep("down_write")
        self._check_writer(semaphore)
        await self.wait_until(
            lambda: semaphore.writer is None and not semaphore.readers,
            "down_write",
            writes("sem", semaphore.number),
        )
        semaphore.writer = self.number

    async def up_write(self, semaphore: RwSemaphore) -> None:
        """Give the semaphore back. One step."""
        await self.point("up_write", writes("sem", semaphore.number))
        if semaphore.writer != self.number:
            raise Oops(
                f"up_write of semaphore {semaphore.number}, held by {semaphore.writer}", self
            )
        semaphore.writer = None

    def _check_writer(self, semaphore: RwSemaphore) -> None:
        if semaphore.held_by(self.number):
            raise self._dead_lock("mmap_sem", f"semaphore {semaphore.number}")

    # The machine's instructions.

    async def essa(self, orc: Orc, page: Page) -> int:
        """ESSA on the page: the state before. One command, one step."""
        outcome = await self.call(Essa(orc, page.pfn))
        if not isinstance(outcome, EssaOutcome):
            raise Oops(f"ESSA {orc.name} ended in {outcome}", self, page)
        self.kernel.statistics.essa[orc] += 1
        page.last_essa = (orc, outcome.state)
        page.history.append(
            f"vcpu{self.number} essa {orc.name} was {STATE_NAMES.get(outcome.state & 0xF, '?')}"
        )
        return outcome.state

    async def insert_storage_key(self, page: Page) -> int:
        """ISKE: the page's storage key."""
        outcome = await self.call(Iske(page.pfn))
        if not isinstance(outcome, KeyOutcome):
            raise Oops(f"ISKE ended in {outcome}", self, page)
        return outcome.key

    async def set_storage_key(self, page: Page, key: int) -> None:
        """SSKE: write the page's whole storage key."""
        await self.call(Sske(page.pfn, key))
        page.history.append(f"vcpu{self.number} sske {key:#x}")
