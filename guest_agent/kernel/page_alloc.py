"""The page allocator: stable first when a page is taken, unused last when it is freed.

Models: mm/page_alloc.c of Linux 2.6.15 with patches 1/6 and 5/6; put_page's make_volatile
as in 1/6 (preset `seed`) or as in the 2007 version (preset `fixed`).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.page import (
    Page,
    PG_dirty,
    PG_discarded,
    PG_locked,
    PG_lru,
    PG_private,
    PG_writeback,
    reads,
    writes,
)
from guest_agent.kernel.page_hva import make_volatile
from shared.arch import Orc

_BAD_WHEN_FREED = PG_dirty | PG_locked | PG_lru | PG_private | PG_writeback | PG_discarded
ALLOC_ROUNDS_MAX = 64


async def alloc_page(cpu: Cpu) -> Page:
    """A page with one reference, stable, content undefined; reclaims when none is free.

    Raises KernelBug when reclaim finds nothing (out of memory).
    """
    kernel = cpu.kernel
    for _ in range(ALLOC_ROUNDS_MAX):
        await cpu.point("free_list.pop", writes("free_list"))
        if kernel.free_list:
            page = kernel.free_list.pop()
            break
        await kernel.try_to_free_pages(cpu)
    else:
        raise KernelBug("out of memory: no page could be reclaimed")
    if kernel.unused_hints:
        # First of all: the page may be Uz, and nothing may touch it before it is stable.
        await cpu.essa(Orc.SET_STABLE, page)
    await cpu.point("page.prep_new", writes("flags", page.pfn), writes("count", page.pfn))
    if page.count or page.mapcount or page.flags:
        raise KernelBug(f"bad page from the free list: {page.describe()}")
    page.count = 1
    page.history.append(f"vcpu{cpu.number} allocated")
    return page


async def put_page(cpu: Cpu, page: Page) -> None:
    """page_cache_release: drop a reference, free the page with the last one."""
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
    if await cpu.read_flags(page) & PG_discarded:
        if kernel.guards.grace_period:
            await kernel.grace.add(cpu, page)
            return
        await cpu.clear_flag(page, PG_discarded)
    await free_page_now(cpu, page)


async def free_page_now(cpu: Cpu, page: Page) -> None:
    """free_pages_check, set unused, free list."""
    kernel = cpu.kernel
    await cpu.point("page.free_check", writes("flags", page.pfn), writes("mapping", page.pfn))
    if page.flags & _BAD_WHEN_FREED or page.mapcount or page.count:
        raise KernelBug(f"bad page freed: {page.describe()}")
    page.flags = 0
    page.mapping = page.anonymous = None
    page.history.append(f"vcpu{cpu.number} freed")
    if kernel.unused_hints:
        # Last of all: from here on nothing may touch the page's content (R36).
        await cpu.essa(Orc.SET_UNUSED, page)
    await cpu.point("free_list.push", writes("free_list"))
    kernel.free_list.append(page)
