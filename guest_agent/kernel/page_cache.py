"""The page cache: finding, adding and removing the pages of a file.

Rules:
- Whoever finds a page gets it referenced and stable, or not at all; a page whose content
  the host has discarded is taken out on the spot.

Models: mm/filemap.c of Linux 2.6.15 with patches 1/6 and 5/6.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.discard import discard_page
from guest_agent.kernel.page import (
    ANY,
    Mapping,
    Page,
    PG_discarded,
    PG_locked,
    reads,
    writes,
)
from guest_agent.kernel.page_alloc import alloc_page, put_page
from guest_agent.kernel.page_hva import is_discarded, make_stable
from guest_agent.kernel.page_lock import lock_page, unlock_page
from shared.arch import Orc

LOOKUP_ROUNDS_MAX = 1000


async def _lookup(cpu: Cpu, mapping: Mapping, index: int) -> Page | None:
    """radix_tree_lookup and page_cache_get under the tree lock, as one step."""
    await cpu.wait_until(
        lambda: mapping.tree_lock.holder is None,
        "find_get_page",
        reads("lock", mapping.tree_lock.number),
        reads("page_tree", mapping.number),
        writes("count", ANY),
    )
    page = mapping.pages.get(index)
    if page is not None:
        page.count += 1
    return page


async def find_get_page(cpu: Cpu, mapping: Mapping, index: int) -> Page | None:
    """The file's page, referenced and stable; None if it is not there or was discarded."""
    page = await _lookup(cpu, mapping, index)
    if page is None or not cpu.kernel.guards.stable_lookup:
        return page
    if not await make_stable(cpu, page):
        cpu.kernel.statistics.stable_failed += 1
        await discard_page(cpu, page)
        await put_page(cpu, page)
        return None
    return page


async def find_lock_page(cpu: Cpu, mapping: Mapping, index: int) -> Page | None:
    """As find_get_page, and locked. A page truncated while we slept is looked up again."""
    for _ in range(LOOKUP_ROUNDS_MAX):
        page = await find_get_page(cpu, mapping, index)
        if page is None:
            return None
        await lock_page(cpu, page)
        await cpu.point("page.mapping", reads("mapping", page.pfn))
        if page.mapping is mapping and not page.flags & PG_discarded:
            return page
        await unlock_page(cpu, page)
        await put_page(cpu, page)
    raise KernelBug(f"find_lock_page: no progress on file {mapping.number} index {index}")


async def add_new_page(cpu: Cpu, mapping: Mapping, index: int) -> Page | None:
    """A fresh page in the cache: referenced, locked, on the LRU; None if somebody was faster."""
    kernel = cpu.kernel
    while kernel.cache_limit is not None and kernel.nrpages >= kernel.cache_limit:
        if not await kernel.shrink_cache(cpu):
            break
    page = await alloc_page(cpu)
    await cpu.wait_until(
        lambda: mapping.tree_lock.holder is None,
        "add_to_page_cache",
        writes("page_tree", mapping.number),
        reads("lock", mapping.tree_lock.number),
        writes("flags", page.pfn),
        writes("count", page.pfn),
        writes("mapping", page.pfn),
    )
    if index in mapping.pages:
        await put_page(cpu, page)
        return None
    page.flags |= PG_locked
    page.count += 1
    page.mapping, page.index = mapping, index
    mapping.pages[index] = page
    kernel.nrpages += 1
    page.history.append(f"vcpu{cpu.number} added file {mapping.number} index {index}")
    await kernel.lru.add(cpu, page)
    return page


async def remove_from_page_cache(cpu: Cpu, page: Page) -> None:
    """__remove_from_page_cache; the caller holds the page lock and the tree lock.

    The cache's reference is the caller's to drop afterwards. Two steps.
    """
    mapping = page.mapping
    if mapping is None:
        raise KernelBug(f"page is not in the page cache: {page.describe()}")
    await cpu.point("page_tree.delete", writes("page_tree", mapping.number))
    cpu.kernel.forget(mapping, page)
    await cpu.point("page.mapping_clear", writes("mapping", page.pfn))
    page.mapping = None


async def mark_removed(cpu: Cpu, page: Page) -> bool:
    """Before an ordinary removal: False if a discarder has removed the page already.

    A page that is Vz by now may be the subject of a fault that is on its way: it gets
    PG_discarded, so that its freeing waits for the grace period (R53).
    """
    kernel = cpu.kernel
    if await cpu.read_flags(page) & PG_discarded:
        return False
    if not (kernel.volatile_hints and kernel.guards.remove_checks_state):
        return True
    if not is_discarded(await cpu.essa(Orc.GET_STATE, page)):
        return True
    return not await cpu.test_and_set_flag(page, PG_discarded)
