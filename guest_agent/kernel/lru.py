"""The LRU lists: which page reclaim looks at next.

Rules:
- A list, PG_lru and PG_active change together, under the LRU lock.
- Least recently used first. Accesses through the page cache are marked here; accesses
  through ptes show only in the reference bit of the storage key, which vmscan asks for.

Models: mm/swap.c and mm_inline.h of Linux 2.6.15.
DEVIATION: no pagevecs in front, and so neither their references nor their delay.
"""

from __future__ import annotations

from collections import ChainMap, OrderedDict
from enum import StrEnum

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.page import (
    Page,
    PG_active,
    PG_discarded,
    PG_lru,
    PG_referenced,
    SpinLock,
    reads,
    writes,
)

DEF_PRIORITY = 12
"""Reclaim begins with a 1 / 2**12 of the lists."""


class LruKind(StrEnum):
    """TWO_LISTS: Linux's. PLAIN: one list in exact order of use, as stack distances have it."""

    TWO_LISTS = "two-lists"
    PLAIN = "plain"


class Lru:
    """The zone's lists. Where nothing is said a method is one schedule point, atomic behind it.

    isolated: pages that some vCPU has taken off to look at. finished: how many of those it
    was done with so far. prev_priority: how hard reclaim had to try the last time. pressure:
    what scanning the inactive list has earned the active one and not used yet.
    """

    kind = LruKind.TWO_LISTS

    def __init__(self, lock: SpinLock) -> None:
        self.active: OrderedDict[int, Page] = OrderedDict()
        self.inactive: OrderedDict[int, Page] = OrderedDict()
        self.isolated = 0
        self.finished = 0
        self.prev_priority = DEF_PRIORITY
        self.pressure = 0
        self._lock = lock

    @property
    def pages(self) -> ChainMap[int, Page]:
        """Every page on the lists, by pfn. For checks; no schedule point."""
        return ChainMap(self.active, self.inactive)

    def list_of(self, page: Page) -> OrderedDict[int, Page]:
        """The list where the page is or belongs. The LRU lock is held."""
        return self.active if page.flags & PG_active else self.inactive

    def scanned(self, count: int) -> None:
        """So many inactive pages were looked at. The point is behind."""
        self.pressure += count * len(self.active)

    def refill_count(self, priority: int) -> int:
        """How many active pages to look at: the same share of their list as of the other.

        CHOICE: kept exact from page to page, which Linux does in batches of 32. The point is
        behind.
        """
        if not self.inactive:
            return (len(self.active) >> priority) + 1
        count, self.pressure = divmod(self.pressure, len(self.inactive))
        return min(count, len(self.active))

    async def locked_step(self, cpu: Cpu, label: str, page: Page) -> None:
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
        """lru_cache_add; lru_cache_add_active for an anonymous page."""
        await self.locked_step(cpu, "lru.add", page)
        if page.flags & PG_lru:
            raise KernelBug(f"page is on the LRU already: {page.describe()}")
        if page.anonymous is not None and self.kind is LruKind.TWO_LISTS:
            page.flags |= PG_active
        page.flags |= PG_lru
        self.list_of(page)[page.pfn] = page

    async def remove(self, cpu: Cpu, page: Page) -> None:
        """TestClearPageLRU and del_page_from_lru; nothing if it is not on a list."""
        await self.locked_step(cpu, "lru.del", page)
        if page.flags & PG_lru:
            del self.list_of(page)[page.pfn]
            page.flags &= ~(PG_lru | PG_active)

    async def mark_accessed(self, cpu: Cpu, page: Page) -> None:
        """mark_page_accessed: unreferenced, referenced, active. Two or three steps."""
        flags = await cpu.read_flags(page)
        if not flags & PG_referenced:
            await cpu.set_flag(page, PG_referenced)
        elif flags & PG_lru and not flags & PG_active:
            await self._activate(cpu, page)
            await cpu.clear_flag(page, PG_referenced)

    async def _activate(self, cpu: Cpu, page: Page) -> None:
        """activate_page."""
        await self.locked_step(cpu, "lru.activate", page)
        if page.flags & PG_lru and not page.flags & PG_active:
            del self.inactive[page.pfn]
            page.flags |= PG_active
            self.active[page.pfn] = page

    async def isolate(self, cpu: Cpu, *, active: bool = False) -> Page | None:
        """Take the least recently used page off a list, with a reference; None if it is empty.

        Lock, one step for each page looked at, unlock; with interrupts disabled, because an
        interrupt may free a page. One that is being freed (its count is 0) is passed over.
        """
        depth = cpu.local_irq_save()
        await cpu.spin_lock(self._lock, "lru_lock")
        pages = self.active if active else self.inactive
        taken = None
        for _ in range(len(pages)):
            page = next(iter(pages.values()))
            await cpu.point(
                "lru.isolate", writes("lru"), writes("flags", page.pfn), writes("count", page.pfn)
            )
            if page.count > 0:
                del pages[page.pfn]
                page.flags &= ~PG_lru
                page.count += 1
                self.isolated += 1
                taken = page
                break
            pages.move_to_end(page.pfn)
        await cpu.spin_unlock(self._lock, "lru_unlock")
        cpu.local_irq_restore(depth)
        return taken

    async def put_back(self, cpu: Cpu, page: Page) -> None:
        """Put an isolated page back, at the recent end of its list.

        RACE(putback-of-a-discarded-page): the discarder could not unlink it while it was
        isolated; put back, it would be freed with PG_lru set (R15).
        """
        await self.locked_step(cpu, "lru.put_back", page)
        self._finish()
        if page.flags & PG_discarded and cpu.kernel.guards.putback_checks_discarded:
            page.flags &= ~PG_active
            return
        if page.flags & PG_lru:
            raise KernelBug(f"page is on the LRU already: {page.describe()}")
        page.flags |= PG_lru
        self.list_of(page)[page.pfn] = page

    async def forget(self, cpu: Cpu, page: Page) -> None:
        """An isolated page is about to be freed instead of being put back."""
        await self.locked_step(cpu, "lru.forget", page)
        page.flags &= ~PG_active
        self._finish()

    def _finish(self) -> None:
        self.isolated -= 1
        self.finished += 1


class PlainLru(Lru):
    """One list, the inactive one; a page moves to its recent end at every access."""

    kind = LruKind.PLAIN

    async def mark_accessed(self, cpu: Cpu, page: Page) -> None:
        """mark_page_accessed: to the recently used end. One step."""
        await self.locked_step(cpu, "lru.mark_accessed", page)
        if page.flags & PG_lru:
            self.inactive.move_to_end(page.pfn)


def make_lru(kind: LruKind, lock: SpinLock) -> Lru:
    """The lists of a kind."""
    return PlainLru(lock) if kind is LruKind.PLAIN else Lru(lock)
