"""The LRU list of page cache pages.

Rules:
- The list and PG_lru change together, under the LRU lock: one step each.
- Least recently used first. A page moves to the recent end when it is accessed through the
  page cache; accesses through ptes show only in the reference bit of its storage key.
"""

from __future__ import annotations

from collections import OrderedDict

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.page import Page, PG_discarded, PG_lru, SpinLock, reads, writes


class Lru:
    """The zone's list. Every method but `isolate` is one schedule point, atomic behind it."""

    def __init__(self, lock: SpinLock) -> None:
        self.pages: OrderedDict[int, Page] = OrderedDict()
        self._lock = lock

    async def _locked_step(self, cpu: Cpu, label: str, page: Page) -> None:
        """Stand before a short critical section of the LRU lock, as one step."""
        lock = self._lock
        await cpu.wait_until(
            lambda: lock.holder is None,
            label,
            reads("lock", lock.number),
            writes("lru"),
            writes("flags", page.pfn),
        )

    async def add(self, cpu: Cpu, page: Page) -> None:
        """lru_cache_add.

        DEVIATION: without the per-vCPU pagevec in front, and so without its reference.
        """
        await self._locked_step(cpu, "lru.add", page)
        if page.flags & PG_lru:
            raise KernelBug(f"page is on the LRU already: {page.describe()}")
        page.flags |= PG_lru
        self.pages[page.pfn] = page

    async def remove(self, cpu: Cpu, page: Page) -> None:
        """TestClearPageLRU and del_page_from_lru; nothing if it is not on the list."""
        await self._locked_step(cpu, "lru.del", page)
        if page.flags & PG_lru:
            page.flags &= ~PG_lru
            del self.pages[page.pfn]

    async def mark_accessed(self, cpu: Cpu, page: Page) -> None:
        """mark_page_accessed: to the recently used end."""
        await self._locked_step(cpu, "lru.mark_accessed", page)
        if page.pfn in self.pages:
            self.pages.move_to_end(page.pfn)

    async def isolate(self, cpu: Cpu) -> Page | None:
        """Take the least recently used page off the list, with a reference; None if empty.

        Three steps: lock, take, unlock.
        """
        await cpu.spin_lock(self._lock, "lru_lock")
        page = next(iter(self.pages.values()), None)
        if page is not None:
            await cpu.point(
                "lru.isolate", writes("lru"), writes("flags", page.pfn), writes("count", page.pfn)
            )
            if page.count <= 0:
                raise KernelBug(f"a free page on the LRU: {page.describe()}")
            del self.pages[page.pfn]
            page.flags &= ~PG_lru
            page.count += 1
        await cpu.spin_unlock(self._lock, "lru_unlock")
        return page

    async def put_back(self, cpu: Cpu, page: Page, *, recent: bool) -> None:
        """Put an isolated page back: at the recent end, or where it came from.

        RACE(putback-of-a-discarded-page): the discarder could not unlink it while it was
        isolated; put back, it would be freed with PG_lru set (R15).
        """
        await self._locked_step(cpu, "lru.put_back", page)
        if page.flags & PG_discarded and cpu.kernel.guards.putback_checks_discarded:
            return
        page.flags |= PG_lru
        self.pages[page.pfn] = page
        self.pages.move_to_end(page.pfn, last=recent)
