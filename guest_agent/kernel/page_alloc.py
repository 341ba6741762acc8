"""The page allocator: stable first when a page is taken, unused last when it is freed.

Rules:
- Between op 2 and op 1 a page is nobody's, and nothing touches its content.
- A compound page is allocated and freed as a whole; its first page has the count, and the
  others say which that is.

Models: mm/page_alloc.c of Linux 2.6.15 with patches 1/6 and 5/6; put_page's make_volatile
as in 1/6 (preset `seed`) or as in the 2007 version (preset `fixed`).
"""

from __future__ import annotations

from typing import Final

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.oops import kernel_access
from guest_agent.kernel.page import (
    Page,
    PG_active,
    PG_compound,
    PG_dirty,
    PG_discarded,
    PG_locked,
    PG_lru,
    PG_private,
    PG_reserved,
    PG_swapcache,
    PG_writeback,
    reads,
    writes,
)
from guest_agent.kernel.page_hva import make_volatile
from guest_agent.kernel.ports import Accesses
from shared.arch import PAGE_SIZE, Orc
from shared.commands import Store

_BAD_WHEN_FREED: Final = (
    PG_active
    | PG_compound
    | PG_dirty
    | PG_discarded
    | PG_locked
    | PG_lru
    | PG_private
    | PG_swapcache
    | PG_writeback
)
_BAD_WHEN_FREED_COMPOUND: Final = _BAD_WHEN_FREED & ~PG_compound
ALLOC_ROUNDS_MAX: Final = 64
_ZEROES: Final = bytes(32)


async def alloc_page(cpu: Cpu) -> Page:
    """A page with one reference, stable, content undefined; reclaims when none is free.

    Raises KernelBug when reclaim finds nothing (out of memory).
    """
    page = await _take_free_page(cpu)
    await _set_stable(cpu, page)
    await _prep_new_page(cpu, page)
    return page


async def alloc_zeroed_page(cpu: Cpu) -> Page:
    """alloc_page, and then clear_page: a page of zeroes. Sets its change bit."""
    page = await _take_free_page(cpu)
    # RACE(touched-before-stable): the page may be Uz, and clearing it then is an addressing
    # exception; or Ur, and what is stored may be dropped (R37, R48).
    if not cpu.kernel.guards.stable_first:
        await clear_page(cpu, page)
    await _set_stable(cpu, page)
    await _prep_new_page(cpu, page)
    if cpu.kernel.guards.stable_first:
        await clear_page(cpu, page)
    return page


async def clear_page(cpu: Cpu, page: Page) -> None:
    """Fill the page with zeroes. One command."""
    store = Store(page.pfn, 0, _ZEROES, PAGE_SIZE // len(_ZEROES))
    await kernel_access(cpu, page, store, "clearing a page")


async def _take_free_page(cpu: Cpu) -> Page:
    """rmqueue: a page from the free list, as it lies there."""
    kernel = cpu.kernel
    for _ in range(ALLOC_ROUNDS_MAX):
        await cpu.point("free_list.pop", writes("free_list"))
        if kernel.free_list:
            return kernel.free_list.pop()
        await kernel.try_to_free_pages(cpu)
    raise KernelBug("out of memory: no page could be reclaimed")


async def _set_stable(cpu: Cpu, page: Page) -> None:
    """arch_alloc_page. One command, or none without hints.

    RACE(stable-if-resident-at-allocation): op 6 leaves a page that is Uz or Vz what it is,
    and the first touch of the new page faults (R35).
    """
    if cpu.kernel.unused_hints:
        unconditional = cpu.kernel.guards.stable_unconditional
        await cpu.essa(Orc.SET_STABLE if unconditional else Orc.SET_STABLE_IF_RESIDENT, page)


async def _prep_new_page(cpu: Cpu, page: Page) -> None:
    await cpu.point(
        "page.prep_new",
        writes("flags", page.pfn),
        writes("count", page.pfn),
        reads("mapcount", page.pfn),
    )
    if page.count or page.mapcount or page.flags:
        raise KernelBug(f"bad page from the free list: {page.describe()}")
    page.count = 1
    page.history.append(f"vcpu{cpu.number} allocated")


async def put_page(cpu: Cpu, page: Page) -> None:
    """page_cache_release: drop a reference, free the page with the last one."""
    page = page.head or page  # constant while the reference is held
    if cpu.kernel.guards.volatile_before_put:
        await cpu.point("page.count", reads("count", page.pfn))
        if page.count > 1:
            await make_volatile(cpu, page, 2)
        if await cpu.put_page_testzero(page):
            await free_hot_cold_page(cpu, page)
        return
    if await cpu.put_page_testzero(page):
        await free_hot_cold_page(cpu, page)
        return
    # RACE(volatile-after-put): the page is no longer ours; it may be freed and reused
    # while its conditions are read (R20).
    await make_volatile(cpu, page, 1)


async def free_hot_cold_page(cpu: Cpu, page: Page) -> None:
    """Free a page without references; a discarded one only after its grace period."""
    kernel = cpu.kernel
    flags = await cpu.read_flags(page)
    if flags & PG_compound:
        await _free_compound(cpu, page)
        return
    if flags & PG_discarded:
        if kernel.guards.grace_period:
            await kernel.grace.add(cpu, page)
            return
        await cpu.clear_flag(page, PG_discarded)
    elif flags & PG_lru:
        # __page_cache_release. (A discarded page has been taken off by its discarder.)
        await kernel.lru.remove(cpu, page)
    await free_page_now(cpu, page)


async def free_page_now(cpu: Cpu, page: Page) -> None:
    """free_pages_check, set unused, free list. A reserved page stays what it is."""
    kernel = cpu.kernel
    if kernel.unused_hints and not kernel.guards.reserved_before_unused:
        # RACE(reserved-page-unused): its driver still uses it (R38).
        await cpu.essa(Orc.SET_UNUSED, page)
    await cpu.point("page.free_check", *_whole_page(page))
    if page.flags & PG_reserved:
        page.history.append(f"vcpu{cpu.number} not freed: reserved")
        return
    _free_check(cpu, page, _BAD_WHEN_FREED)
    if kernel.unused_hints:
        if kernel.guards.reserved_before_unused:
            await cpu.essa(Orc.SET_UNUSED, page)
        # Last of all: from here on nothing may touch the page's content.
        # RACE(touched-after-unused): so whoever clears or poisons freed pages, as
        # init_on_free does, must have done it before (R36).
        if not kernel.guards.unused_last:
            await clear_page(cpu, page)
    await cpu.point("free_list.push", writes("free_list"))
    kernel.free_list.append(page)


def _whole_page(page: Page) -> Accesses:
    """What free_pages_check looks at and resets."""
    pfn = page.pfn
    return (
        writes("flags", pfn),
        writes("mapping", pfn),
        writes("private", pfn),
        reads("count", pfn),
        reads("mapcount", pfn),
    )


def _free_check(cpu: Cpu, page: Page, bad: int) -> None:
    """free_pages_check, and forget what the page was."""
    if page.anonymous is not None:
        bad &= ~PG_dirty  # nobody is left who could want it written
    if page.flags & bad or page.mapcount or page.count or page.buffers:
        raise KernelBug(f"bad page freed: {page.describe()}")
    page.flags = 0
    page.mapping = page.anonymous = page.anon_vma = page.head = None
    page.private = 0
    page.history.append(f"vcpu{cpu.number} freed")


# Compound pages.


async def alloc_compound(cpu: Cpu, order: int) -> Page | None:
    """2**order pages in a row, aligned, as one page with one reference; None if there are none.

    As for every allocation of a higher order, nothing is reclaimed for it and the caller has
    to live without. DEVIATION: a search of the free list instead of the buddy system.
    """
    kernel, size = cpu.kernel, 1 << order
    await cpu.point("free_list.pop", writes("free_list"))
    free = {page.pfn for page in kernel.free_list}
    first = next((p for p in sorted(free) if p % size == 0 and _all_free(p, size, free)), None)
    if first is None:
        return None
    pages = kernel.mem_map[first : first + size]
    kernel.free_list = [page for page in kernel.free_list if not first <= page.pfn < first + size]
    for page in pages:
        await _set_stable(cpu, page)
    head = pages[0]
    await _prep_new_page(cpu, head)
    for page in pages:
        await cpu.point("page.prep_compound", *_whole_page(page))
        if page.count != (page is head) or page.mapcount or page.flags:
            raise KernelBug(f"bad page from the free list: {page.describe()}")
        page.flags |= PG_compound
        if page is head:
            page.index = order
        else:
            page.head = head
    return head


def _all_free(first: int, size: int, free: set[int]) -> bool:
    return all(pfn in free for pfn in range(first, first + size))


async def _free_compound(cpu: Cpu, head: Page) -> None:
    """free_compound_page: every page is checked, then set unused, then all are free.

    RACE(free-page-resurrected): whoever holds the address of a tail finds the head by it,
    so none may become a page of its own before the others (R18).
    """
    kernel = cpu.kernel
    await cpu.point("page.order", reads("mapping", head.pfn))
    pages = kernel.mem_map[head.pfn : head.pfn + (1 << head.index)]
    for page in pages:
        await cpu.point("page.free_check", *_whole_page(page))
        if not page.flags & PG_compound or page.head is not (None if page is head else head):
            raise KernelBug(f"bad compound page freed: {page.describe()}")
        _free_check(cpu, page, _BAD_WHEN_FREED_COMPOUND)
    if kernel.unused_hints:
        for page in pages:
            await cpu.essa(Orc.SET_UNUSED, page)
    await cpu.point("free_list.push", writes("free_list"))
    kernel.free_list += reversed(pages)


# Reserved pages.


async def reserve_page(cpu: Cpu) -> Page:
    """A page that a driver keeps for itself: its references come and go, the page stays."""
    page = await alloc_page(cpu)
    await cpu.set_flag(page, PG_reserved)
    return page


async def release_reserved_page(cpu: Cpu, page: Page) -> None:
    """free_reserved_page: give it back. Nobody else may have a reference."""
    await cpu.clear_flag(page, PG_reserved)
    await cpu.point("page.init_count", writes("count", page.pfn))
    if page.count > 1:
        raise KernelBug(f"release of a reserved page in use: {page.describe()}")
    page.count = 1
    await put_page(cpu, page)
