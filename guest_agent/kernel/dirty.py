"""PG_dirty, its tag in the page tree, and PG_uptodate with the change bit.

Models: mm/page-writeback.c of Linux 2.6.15 (set_page_dirty, set_page_dirty_lock);
SetPageUptodate of include/asm-s390/pgtable.h with patch 6/6.
DEVIATION: pages in the swap cache have no tag; nothing searches the swap cache for dirty ones.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import (
    Page,
    PG_dirty,
    PG_swapcache,
    PG_uptodate,
    PG_writeback,
    reads,
    writes,
)
from guest_agent.kernel.page_lock import lock_page, unlock_page

PAGE_DEFAULT_KEY = 0
"""What page_clear_dirty writes: ACC, F, R and C all zero."""


async def set_page_dirty(cpu: Cpu, page: Page) -> None:
    """PG_dirty first, then the tag by which writeback finds a file's page."""
    if await cpu.test_and_set_flag(page, PG_dirty, reads("mapping", page.pfn)):
        return
    mapping = page.mapping
    if mapping is None:
        return  # in the swap cache, or truncated meanwhile: nothing to write back
    await cpu.wait_until(
        lambda: mapping.tree_lock.holder is None,
        "page_tree.tag",
        reads("lock", mapping.tree_lock.number),
        writes("page_tree", mapping.number),
    )
    if mapping.pages.get(page.index) is page:
        mapping.dirty[page.index] = None


async def set_page_dirty_lock(cpu: Cpu, page: Page) -> None:
    """set_page_dirty for who holds nothing but a reference; may sleep.

    The page lock keeps truncate and reclaim away from the page's place: a page without one,
    truncated or anonymous without a slot, is left alone. (add_to_swap dirties the latter.)
    """
    await lock_page(cpu, page)
    await cpu.point("page.mapping", reads("mapping", page.pfn))
    if page.mapping is not None or await cpu.read_flags(page) & PG_swapcache:
        await set_page_dirty(cpu, page)
    await unlock_page(cpu, page)


async def clear_page_dirty_for_io(cpu: Cpu, page: Page) -> bool:
    """Take PG_dirty off for writing the page; False if it was clean. Page lock held."""
    return await cpu.test_and_clear_flag(page, PG_dirty)


async def set_page_writeback(cpu: Cpu, page: Page) -> None:
    """PG_writeback, and the dirty tag goes unless somebody has dirtied the page again."""
    await cpu.set_flag(page, PG_writeback)
    mapping = page.mapping
    if mapping is None:
        return
    await cpu.wait_until(
        lambda: mapping.tree_lock.holder is None,
        "page_tree.untag",
        reads("lock", mapping.tree_lock.number),
        writes("page_tree", mapping.number),
        writes("flags", page.pfn),
    )
    if not page.flags & PG_dirty:
        mapping.dirty.pop(page.index, None)


async def set_page_uptodate(cpu: Cpu, page: Page) -> None:
    """PG_uptodate; its first setting clears the change bit that the filling of the page set.

    Under the page lock. A page that is up to date already keeps its C: it may stem from
    stores that no one has transferred yet (R10).
    """
    guards = cpu.kernel.guards
    if not guards.clear_change_first:
        # RACE(uptodate-before-clean): a fault waits for PG_uptodate and not for the page lock;
        # it may map the page and store, and the store's C is cleared here.
        already = await cpu.test_and_set_flag(page, PG_uptodate)
        if not already or not guards.clear_change_once:
            await cpu.set_storage_key(page, PAGE_DEFAULT_KEY)
        return
    already = bool(await cpu.read_flags(page) & PG_uptodate)
    if not already or not guards.clear_change_once:
        await cpu.set_storage_key(page, PAGE_DEFAULT_KEY)
    if not already:
        await cpu.set_flag(page, PG_uptodate)
