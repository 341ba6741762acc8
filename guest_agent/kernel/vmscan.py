"""Reclaim: the discarded list first, then the least recently used pages.

Models: try_to_free_pages and shrink_list of mm/vmscan.c, Linux 2.6.15, with patch 5/6.
DEVIATION: reclaim is direct and synchronous, a page at a time; there is no kswapd.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import Mapping, Page, PG_dirty, PG_writeback, reads
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import mark_removed, remove_from_page_cache
from guest_agent.kernel.page_hva import make_stable
from guest_agent.kernel.page_lock import trylock_page, unlock_page
from guest_agent.kernel.rmap import unmap_all
from guest_agent.kernel.writeback import wait_on_page_writeback, write_page
from shared.arch import KEY_REFERENCED
from shared.commands import KeyOutcome, Rrbe


async def shrink_cache(cpu: Cpu) -> bool:
    """Free one page of the cache; False if a whole turn of the LRU found none."""
    lru = cpu.kernel.lru
    for _ in range(2 * len(lru.pages) + 1):
        page = await lru.isolate(cpu)
        if page is None:
            return False
        if await _page_referenced(cpu, page):
            await lru.put_back(cpu, page, recent=True)
            await put_page(cpu, page)
            continue
        freed = await _shrink_page(cpu, page)
        if not freed:
            await lru.put_back(cpu, page, recent=True)
        await put_page(cpu, page)
        if freed:
            return True
    return False


async def _page_referenced(cpu: Cpu, page: Page) -> bool:
    """page_referenced: for a mapped page the reference bit tells what the LRU cannot see."""
    await cpu.point("page.mapcount", reads("mapcount", page.pfn))
    if not page.mapcount:
        return False
    outcome = await cpu.call(Rrbe(page.pfn))
    return isinstance(outcome, KeyOutcome) and bool(outcome.key & KEY_REFERENCED)


async def _shrink_page(cpu: Cpu, page: Page) -> bool:
    """Unmap, write back and remove one isolated page that we hold a reference to."""
    if not await trylock_page(cpu, page):
        return False
    mapping = page.mapping
    if mapping is None or await cpu.read_flags(page) & PG_writeback:
        await unlock_page(cpu, page)
        return False
    await cpu.point("page.mapcount", reads("mapcount", page.pfn))
    if page.mapcount:
        await unmap_all(cpu, page)
    if await cpu.read_flags(page) & PG_dirty:
        await _pageout(cpu, page)
        if not await trylock_page(cpu, page):
            return False
    removed = page.mapping is mapping and await _remove_mapping(cpu, page, mapping)
    await unlock_page(cpu, page)
    return removed


async def _pageout(cpu: Cpu, page: Page) -> None:
    """Write the locked page and wait; it comes back unlocked."""
    if cpu.kernel.guards.stable_lookup:
        # A dirty page is stable; this only keeps the rule that I/O goes to stable pages.
        await make_stable(cpu, page)
    if await write_page(cpu, page):
        await wait_on_page_writeback(cpu, page)


async def _remove_mapping(cpu: Cpu, page: Page, mapping: Mapping) -> bool:
    """Under the tree lock: nobody but us and the cache has it, and it is clean: remove it.

    The count is read before PG_dirty: who dirties the page holds a reference meanwhile.
    """
    await cpu.spin_lock(mapping.tree_lock, "tree_lock")
    await cpu.point("page.count", reads("count", page.pfn))
    free = page.count == 2 and not page.mapcount
    free = free and not await cpu.read_flags(page) & (PG_dirty | PG_writeback)
    ours = free and await mark_removed(cpu, page)
    if ours:
        await remove_from_page_cache(cpu, page)
    await cpu.spin_unlock(mapping.tree_lock, "tree_unlock")
    if ours:
        await cpu.put_page_testzero(page)
    return ours
