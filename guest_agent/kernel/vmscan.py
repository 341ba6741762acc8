"""Reclaim: from the active list to the inactive one, and from there out of memory.

Rules:
- An isolated page is on no list; who isolated it puts it back or frees it, and holds a
  reference until then. It may be discarded or truncated meanwhile.
- Page locks are only tried for: reclaim runs inside allocations, below other locks.

Models: mm/vmscan.c of Linux 2.6.15 with patch 5/6 and the series' volatile swap cache (v5).
DEVIATION: reclaim is direct and synchronous, a page at a time; there is no kswapd, and a
page that was written out is waited for. swap_tendency is without its mapped_ratio.
"""

from __future__ import annotations

from enum import Enum

from guest_agent.kernel.buffers import try_to_release_page
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.lru import DEF_PRIORITY, LruKind
from guest_agent.kernel.page import (
    Mapping,
    Page,
    PG_active,
    PG_dirty,
    PG_discarded,
    PG_private,
    PG_referenced,
    PG_swapcache,
    PG_writeback,
    SpinLock,
    reads,
    writes,
)
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import mark_removed, remove_from_page_cache
from guest_agent.kernel.page_hva import make_stable
from guest_agent.kernel.page_lock import trylock_page, unlock_page
from guest_agent.kernel.rmap import try_to_unmap
from guest_agent.kernel.swap import add_to_swap, swap_writepage
from guest_agent.kernel.swap_cache import remove_from_swap_cache, swap_free
from guest_agent.kernel.writeback import wait_on_page_writeback, write_page
from shared.arch import KEY_REFERENCED
from shared.commands import KeyOutcome, Rrbe

SWAPPINESS = 60
"""vm_swappiness: at 100 or more, distress included, mapped pages leave the active list too."""


class Verdict(Enum):
    """What becomes of an isolated page."""

    FREED = "freed"
    KEEP = "keep"
    ACTIVATE = "activate"


async def try_to_free_pages(cpu: Cpu) -> bool:
    """Free one page, of whatever kind; False if nothing on the lists can be freed.

    False too after waiting for another vCPU that had the last pages isolated: look again.
    """
    lru = cpu.kernel.lru
    if await _shrink(cpu, may_swap=True):
        return True
    await cpu.point("lru.isolated", reads("lru"))
    if lru.isolated:
        seen = lru.finished
        await cpu.wait_until(lambda: lru.finished != seen, "reclaim.wait", reads("lru"))
    return False


async def shrink_cache(cpu: Cpu) -> bool:
    """Free one page of the page cache, for its limit; False if none can be freed."""
    return await _shrink(cpu, may_swap=False)


async def _shrink(cpu: Cpu, *, may_swap: bool) -> bool:
    """shrink_zone at growing priority, until a page is free; anonymous ones too, or not."""
    lru = cpu.kernel.lru
    if lru.kind is LruKind.PLAIN:
        await cpu.point("lru.length", reads("lru"))
        freed, _ = await _shrink_inactive(cpu, 2 * len(lru.inactive) + 1, may_swap)
        return freed
    for priority in range(DEF_PRIORITY, -1, -1):
        await cpu.point("lru.length", writes("lru"))
        lru.prev_priority = min(lru.prev_priority, priority)
        inactive = (len(lru.inactive) >> priority) + 1
        reclaim_mapped = SWAPPINESS + (100 >> lru.prev_priority) >= 100
        await _refill_inactive(cpu, lru.refill_count(priority), reclaim_mapped)
        freed, scanned = await _shrink_inactive(cpu, inactive, may_swap)
        await cpu.point("lru.scanned", writes("lru"))
        lru.scanned(scanned)
        if freed:
            lru.prev_priority = priority
            return True
    return False


# From the active list to the inactive one.


async def _refill_inactive(cpu: Cpu, count: int, reclaim_mapped: bool) -> None:
    """Move the `count` least recently used active pages on, or to the recent end.

    Dropping the reference of the isolation makes a page volatile that may be.
    """
    lru = cpu.kernel.lru
    for _ in range(count):
        page = await lru.isolate(cpu, active=True)
        if page is None:
            return
        if not await _stays_active(cpu, page, reclaim_mapped=reclaim_mapped):
            await cpu.clear_flag(page, PG_active)
        await lru.put_back(cpu, page)
        await put_page(cpu, page)


async def _stays_active(cpu: Cpu, page: Page, *, reclaim_mapped: bool) -> bool:
    """A mapped page stays if it was referenced, or there is nowhere to put it."""
    await cpu.point("page.mapcount", reads("mapcount", page.pfn))
    if not page.mapcount:
        return False
    if not reclaim_mapped or (page.anonymous is not None and not cpu.kernel.swap.page_count):
        return True
    return await _page_referenced(cpu, page)


async def _page_referenced(cpu: Cpu, page: Page) -> bool:
    """page_referenced: PG_referenced, and the reference bit of the storage key; both cleared.

    The plain list knows of accesses through the page cache; there only a mapped page is
    asked for what its ptes did.
    """
    if cpu.kernel.lru.kind is LruKind.PLAIN:
        await cpu.point("page.mapcount", reads("mapcount", page.pfn))
        return bool(page.mapcount) and await _reference_bit(cpu, page)
    young = await _reference_bit(cpu, page)
    return await cpu.test_and_clear_flag(page, PG_referenced) or young


async def _reference_bit(cpu: Cpu, page: Page) -> bool:
    """page_test_and_clear_young."""
    outcome = await cpu.call(Rrbe(page.pfn))
    return isinstance(outcome, KeyOutcome) and bool(outcome.key & KEY_REFERENCED)


# From the inactive list out of memory.


async def _shrink_inactive(cpu: Cpu, count: int, may_swap: bool) -> tuple[bool, int]:
    """Look at up to `count` inactive pages, until one is freed: whether, and after how many."""
    lru = cpu.kernel.lru
    for scanned in range(count):
        page = await lru.isolate(cpu)
        if page is None:
            return False, scanned
        verdict = await shrink_page(cpu, page, may_swap=may_swap)
        if verdict is Verdict.FREED:
            await lru.forget(cpu, page)
            await put_page(cpu, page)
            return True, scanned + 1
        if verdict is Verdict.ACTIVATE and lru.kind is LruKind.TWO_LISTS:
            await cpu.set_flag(page, PG_active)
        await lru.put_back(cpu, page)
        await put_page(cpu, page)
    return False, count


async def shrink_page(cpu: Cpu, page: Page, *, may_swap: bool) -> Verdict:
    """shrink_list for one isolated page that we hold a reference to."""
    if not await trylock_page(cpu, page):
        return Verdict.KEEP
    referenced = await _page_referenced(cpu, page)
    verdict = await _make_removable(cpu, page, may_swap=may_swap, referenced=referenced)
    if verdict is None and await cpu.read_flags(page) & PG_dirty:
        if referenced:
            verdict = Verdict.KEEP
        else:
            await _pageout(cpu, page)
            if not await trylock_page(cpu, page):
                return Verdict.KEEP
    if verdict is None:
        verdict = await _free_it(cpu, page)
    await unlock_page(cpu, page)
    return verdict


async def _make_removable(
    cpu: Cpu, page: Page, *, may_swap: bool, referenced: bool
) -> Verdict | None:
    """Give a locked page a place on the swap device, and unmap it; None: go on with it."""
    flags = await cpu.read_flags(page)
    if flags & PG_writeback:
        return Verdict.KEEP
    if flags & PG_discarded and page.anonymous is not None:
        # Discarded since it was isolated, and out of the swap cache: it must not get a slot
        # again. A file's page is told apart when it is to be removed (mark_removed).
        return Verdict.KEEP
    if not may_swap and page.anonymous is not None:
        return Verdict.KEEP
    if referenced and await _in_use(cpu, page):
        return Verdict.ACTIVATE
    if page.anonymous is not None and not flags & PG_swapcache and not await add_to_swap(cpu, page):
        return Verdict.ACTIVATE
    await cpu.point("page.mapcount", reads("mapcount", page.pfn))
    if not page.mapcount:
        return None
    if not await try_to_unmap(cpu, page):
        return Verdict.ACTIVATE
    await cpu.point("page.mapcount", reads("mapcount", page.pfn))
    return Verdict.KEEP if page.mapcount else None


async def _in_use(cpu: Cpu, page: Page) -> bool:
    """page_mapping_inuse: mapped, in the swap cache, or of a file that somebody maps."""
    await cpu.point("page.mapcount", reads("mapcount", page.pfn))
    if page.mapcount or await cpu.read_flags(page) & PG_swapcache:
        return True
    mapping = page.mapping
    if mapping is None:
        return False
    await cpu.point("i_mmap.mapped", reads("i_mmap", mapping.number))
    return bool(mapping.i_mmap or mapping.i_mmap_nonlinear)


async def _pageout(cpu: Cpu, page: Page) -> None:
    """Write a locked dirty page to its file, or to the swap device, and wait; it is unlocked."""
    if cpu.kernel.guards.stable_lookup:
        # A dirty page is stable; this only keeps the rule that I/O goes to stable pages.
        await make_stable(cpu, page)
    swapped = await cpu.read_flags(page) & PG_swapcache
    if await (swap_writepage if swapped else write_page)(cpu, page):
        await wait_on_page_writeback(cpu, page)


async def _free_it(cpu: Cpu, page: Page) -> Verdict:
    """Take a locked page that is neither mapped nor dirty out of its cache."""
    flags = await cpu.read_flags(page)
    if flags & PG_private and not await try_to_release_page(cpu, page):
        return Verdict.ACTIVATE
    mapping = page.mapping
    if flags & PG_swapcache:
        return await _remove(cpu, page, cpu.kernel.swap.tree_lock, None)
    if mapping is None:
        # Truncated, or swapped in and given up, since it was isolated: ours may be the last
        # reference, and putting it back costs nothing then.
        return Verdict.KEEP
    return await _remove(cpu, page, mapping.tree_lock, mapping)


async def _remove(cpu: Cpu, page: Page, lock: SpinLock, mapping: Mapping | None) -> Verdict:
    """Under the tree lock: nobody but us and the cache has it, and it is clean: remove it.

    mapping: None for the swap cache. The counts are read before PG_dirty: who dirties the
    page holds a reference meanwhile.
    """
    slot = 0
    await cpu.spin_lock(lock, "tree_lock")
    await cpu.point("page.counts", reads("count", page.pfn), reads("mapcount", page.pfn))
    removed = page.count == 2 and not page.mapcount
    removed = removed and not await cpu.read_flags(page) & (PG_dirty | PG_writeback)
    removed = removed and page.mapping is mapping and await mark_removed(cpu, page)
    if removed and mapping is None:
        slot = await remove_from_swap_cache(cpu, page)
    elif removed:
        await remove_from_page_cache(cpu, page)
    await cpu.spin_unlock(lock, "tree_unlock")
    if not removed:
        return Verdict.KEEP
    if slot:
        await swap_free(cpu, slot)
    await cpu.put_page_testzero(page)
    return Verdict.FREED
