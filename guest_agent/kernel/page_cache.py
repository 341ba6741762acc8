"""The page cache: finding, adding and removing the pages of a file.

Rules:
- Whoever finds a page gets it referenced and stable, or not at all; a page whose content
  the host has discarded is taken out on the spot. The one exception says so in its name.
- A page leaves the cache once: either it is removed, or discarded.

Models: mm/filemap.c of Linux 2.6.15 with patches 1/6 and 5/6; find_get_page_nodiscard of
patch 4/6.
"""

from __future__ import annotations

from heapq import nsmallest
from itertools import takewhile
from typing import Final

from guest_agent.kernel.content import content_resource
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
PAGEVEC_SIZE: Final = 14
"""Pages that a gang lookup of writeback or truncate takes at a time."""

_Tree = dict[int, Page] | dict[int, None]
"""The page tree, or the indexes that have a tag in it."""


# Finding.


async def find_get_page_nodiscard(cpu: Cpu, mapping: Mapping, index: int) -> Page | None:
    """The file's page, referenced, in whatever state: it may be discarded already.

    radix_tree_lookup and page_cache_get under the tree lock, as one step.
    """
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
    page = await find_get_page_nodiscard(cpu, mapping, index)
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
        await cpu.point("page.mapping", reads("mapping", page.pfn), reads("flags", page.pfn))
        if page.mapping is mapping and not page.flags & PG_discarded:
            return page
        await unlock_page(cpu, page)
        await put_page(cpu, page)
    raise KernelBug(f"find_lock_page: no progress on file {mapping.number} index {index}")


async def find_get_pages(cpu: Cpu, mapping: Mapping, first: int, count: int) -> list[Page]:
    """The next `count` pages from page `first` on, ascending, each referenced and stable."""
    return await _gang_lookup(cpu, mapping, mapping.pages, first, count)


async def find_get_pages_tag(cpu: Cpu, mapping: Mapping, first: int, count: int) -> list[Page]:
    """The same of the pages with PAGECACHE_TAG_DIRTY."""
    return await _gang_lookup(cpu, mapping, mapping.dirty, first, count)


async def _gang_lookup(
    cpu: Cpu, mapping: Mapping, tagged: _Tree, first: int, count: int
) -> list[Page]:
    for _ in range(LOOKUP_ROUNDS_MAX):
        pages = await _gang_lookup_once(cpu, mapping, tagged, first, count)
        if pages is not None:
            return pages
    raise KernelBug(f"find_get_pages: no progress on file {mapping.number} from {first}")


async def _gang_lookup_once(
    cpu: Cpu, mapping: Mapping, tagged: _Tree, first: int, count: int
) -> list[Page] | None:
    """One turn; None, with nothing held, if a page was discarded.

    CHOICE: the tree lock is not held from page to page. Linux shares it between readers, and
    the lock that we have cannot be shared: holding it would hide races between lookups.
    """
    await cpu.wait_until(
        lambda: mapping.tree_lock.holder is None,
        "gang_lookup",
        reads("lock", mapping.tree_lock.number),
        reads("page_tree", mapping.number),
    )
    pages: list[Page] = []
    for index in _next_indexes(tagged, first, count):
        page = await find_get_page_nodiscard(cpu, mapping, index)
        if page is None:
            continue  # removed since
        pages.append(page)
        if cpu.kernel.guards.stable_lookup and not await make_stable(cpu, page):
            cpu.kernel.statistics.stable_failed += 1
            await _gang_failed(cpu, pages)
            return None
    return pages


def _next_indexes(tagged: _Tree, first: int, count: int) -> list[int]:
    """radix_tree_gang_lookup; files that are cached without holes need no search."""
    dense = list(takewhile(tagged.__contains__, range(first, first + count)))
    if len(dense) == count:
        return dense
    return nsmallest(count, (index for index in tagged if index >= first))


async def _gang_failed(cpu: Cpu, pages: list[Page]) -> None:
    """The last page could not be made stable: discard it and give all of them back.

    RACE(gang-discards-wrong): the version of 2005-09 has one wrong word in the loop that
    should give the references back: it discards every page found so far (R33).
    """
    await discard_page(cpu, pages[-1])
    for page in reversed(pages):
        if cpu.kernel.guards.gang_discards_failed:
            await put_page(cpu, page)
        else:
            await discard_page(cpu, page)


# Adding and removing.


async def add_new_page(cpu: Cpu, mapping: Mapping, index: int) -> Page | None:
    """A fresh page in the cache: referenced, locked, on the LRU; None if somebody was faster."""
    kernel = cpu.kernel
    while await _cache_is_full(cpu):
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


async def _cache_is_full(cpu: Cpu) -> bool:
    """Whether its limit, if there is one, is reached. One step, or none without a limit."""
    if cpu.kernel.cache_limit is None:
        return False
    await cpu.point("nrpages", reads("page_tree", ANY))
    return cpu.kernel.cache_is_full()


async def remove_from_page_cache(cpu: Cpu, page: Page, *, truncated: bool = False) -> None:
    """__remove_from_page_cache; the caller holds the page lock and the tree lock.

    The cache's reference is the caller's to drop afterwards. truncated: what memory has of
    the page is lost, and the disk's version is what there is. Two steps.
    """
    mapping = page.mapping
    if mapping is None:
        raise KernelBug(f"page is not in the page cache: {page.describe()}")
    block = mapping.block(page.index)
    lost = (writes(*content_resource(block)),) if truncated else ()
    await cpu.point("page_tree.delete", writes("page_tree", mapping.number), *lost)
    cpu.kernel.forget(mapping, page)
    if truncated:
        cpu.kernel.ledger.lost(block)
    await cpu.point("page.mapping_clear", writes("mapping", page.pfn))
    page.mapping = None


async def mark_removed(cpu: Cpu, page: Page) -> bool:
    """Before an ordinary removal: False if a discarder has removed the page already.

    A page that is Vz by now may be the subject of a fault that is on its way: it gets
    PG_discarded, so that its freeing waits for the grace period (R53).
    """
    kernel = cpu.kernel
    # RACE(removed-twice): vmscan holds a page off the LRU, not stable; a discarder removes it
    # meanwhile and leaves page->mapping as it was (R12).
    tests = kernel.guards.removal_test_set
    if tests and await cpu.read_flags(page) & PG_discarded:
        return False
    if not (kernel.volatile_hints and kernel.guards.remove_checks_state):
        return True
    if not is_discarded(await cpu.essa(Orc.GET_STATE, page)):
        return True
    discarded_before = await cpu.test_and_set_flag(page, PG_discarded)
    return not (tests and discarded_before)
