"""A vCPU: every shared access of the kernel goes through one of these methods.

Rules:
- Each `async def` here passes exactly one schedule point and performs one shared access
  behind it (interrupts, which run at that point, not counted).
- A pending interrupt runs nested, with interrupts disabled, when its vCPU comes to a point
  with interrupts enabled; the interrupted code goes on when it returns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from guest_agent.kernel.page import Page, SpinLock, reads, writes
from guest_agent.kernel.ports import Access
from shared.arch import STATE_NAMES, Orc
from shared.commands import Command, Essa, EssaOutcome, Iske, KeyOutcome, Outcome, Sske

if TYPE_CHECKING:
    from guest_agent.kernel.kernel import Kernel
    from guest_agent.kernel.memory import Pte

Interrupt = Callable[["Cpu"], Coroutine[Any, Any, None]]


class KernelBug(Exception):
    """BUG(): the guest's kernel has found itself in a state that must not be."""


class Cpu:
    """One vCPU of one guest.

    irq_off: depth of interrupt disabling. translation: the pte that an access under way
    uses (ptep_clear_flush waits for it, as IPTE does).
    """

    def __init__(self, kernel: Kernel, number: int) -> None:
        self.kernel = kernel
        self.number = number
        self.irq_off = 0
        self.pending: deque[Interrupt] = deque()
        self.translation: Pte | None = None

    def interruptible(self) -> bool:
        """Whether an interrupt is pending and the vCPU is enabled for it."""
        return bool(self.pending) and self.irq_off == 0

    async def point(self, label: str, *accesses: Access) -> None:
        """Stand before one shared access."""
        while await self.kernel.schedule.point(self, label, accesses):
            await self._take_interrupt()

    async def wait_until(
        self, condition: Callable[[], bool], label: str, *accesses: Access
    ) -> None:
        """Stand before one shared access that is possible only while `condition()` holds."""
        while await self.kernel.schedule.wait_until(self, condition, label, accesses):
            await self._take_interrupt()

    async def _take_interrupt(self) -> None:
        interrupt = self.pending.popleft()
        self.irq_off += 1
        await interrupt(self)
        self.irq_off -= 1

    async def call(self, command: Command) -> Outcome:
        """Execute one command on the host; interrupts that are pending come first."""
        while self.interruptible():
            await self._take_interrupt()
        return await self.kernel.link.call(self.number, command)

    # The page's words.

    async def read_flags(self, page: Page) -> int:
        """Load page->flags."""
        await self.point("page.flags", reads("flags", page.pfn))
        return page.flags

    async def set_flag(self, page: Page, flag: int) -> None:
        """set_bit."""
        await self.point("page.set_bit", writes("flags", page.pfn))
        page.flags |= flag

    async def clear_flag(self, page: Page, flag: int) -> None:
        """clear_bit."""
        await self.point("page.clear_bit", writes("flags", page.pfn))
        page.flags &= ~flag

    async def test_and_set_flag(self, page: Page, flag: int) -> bool:
        """test_and_set_bit: whether it was set before."""
        await self.point("page.test_and_set_bit", writes("flags", page.pfn))
        was = bool(page.flags & flag)
        page.flags |= flag
        return was

    async def test_and_clear_flag(self, page: Page, flag: int) -> bool:
        """test_and_clear_bit: whether it was set before."""
        await self.point("page.test_and_clear_bit", writes("flags", page.pfn))
        was = bool(page.flags & flag)
        page.flags &= ~flag
        return was

    async def wait_flag_clear(self, page: Page, flag: int, label: str) -> None:
        """Go on once the flag is seen clear (one load)."""
        await self.wait_until(lambda: not page.flags & flag, label, reads("flags", page.pfn))

    async def wait_and_set_flag(self, page: Page, flag: int, label: str) -> None:
        """Set the flag once it is clear: a test_and_set_bit that succeeds."""
        await self.wait_until(lambda: not page.flags & flag, label, writes("flags", page.pfn))
        page.flags |= flag

    async def get_page(self, page: Page) -> None:
        """atomic_inc(&page->_count)."""
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
        """Take the lock once it is free."""
        await self.wait_until(lambda: lock.holder is None, label, writes("lock", lock.number))
        lock.holder = self.number

    async def spin_unlock(self, lock: SpinLock, label: str) -> None:
        """Release the lock."""
        await self.point(label, writes("lock", lock.number))
        if lock.holder != self.number:
            raise KernelBug(f"vcpu {self.number} unlocks {label} held by {lock.holder}")
        lock.holder = None

    # The machine's instructions.

    async def essa(self, orc: Orc, page: Page) -> int:
        """ESSA on the page: the state before. One command, one step."""
        outcome = await self.call(Essa(orc, page.pfn))
        if not isinstance(outcome, EssaOutcome):
            raise KernelBug(f"ESSA {orc.name}: {outcome} on {page.describe()}")
        self.kernel.statistics.essa[orc] += 1
        page.history.append(
            f"vcpu{self.number} essa {orc.name} was {STATE_NAMES.get(outcome.state & 0xF, '?')}"
        )
        return outcome.state

    async def insert_storage_key(self, page: Page) -> int:
        """ISKE: the page's storage key."""
        outcome = await self.call(Iske(page.pfn))
        if not isinstance(outcome, KeyOutcome):
            raise KernelBug(f"ISKE: {outcome} on {page.describe()}")
        return outcome.key

    async def set_storage_key(self, page: Page, key: int) -> None:
        """SSKE: write the page's whole storage key."""
        await self.call(Sske(page.pfn, key))
        page.history.append(f"vcpu{self.number} sske {key:#x}")
