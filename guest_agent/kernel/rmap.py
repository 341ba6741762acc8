"""Reverse mapping: from a page to its ptes, and the dirty transfer at the last unmap.

Models: mm/rmap.c of Linux 2.6.15 with patches 1/6, 3/6 and 6/6 of the series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.dirty import PAGE_DEFAULT_KEY, set_page_dirty
from guest_agent.kernel.page import Page, PG_writable, reads, writes
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_hva import make_stable, make_volatile, reset_write
from shared.arch import KEY_CHANGED

if TYPE_CHECKING:
    from guest_agent.kernel.memory import Mm, Pte


async def page_add_rmap(cpu: Cpu, page: Page) -> None:
    """page_add_file_rmap, or page_add_new_anon_rmap: one more pte maps the page.

    The caller's reference is the pte's from now on.
    """
    await cpu.point("page.mapcount_inc", writes("mapcount", page.pfn))
    page.mapcount += 1
    await make_volatile(cpu, page, 1)


async def page_remove_rmap(cpu: Cpu, page: Page) -> None:
    """One pte less; with the last one the hardware dirty bit moves to PG_dirty.

    The pte's reference is still held, and no longer counted as a mapping: that keeps
    make_volatile away while the dirty bit is in transit.
    """
    await cpu.point("page.mapcount_dec", writes("mapcount", page.pfn))
    if page.mapcount <= 0:
        raise KernelBug(f"unmap of a page that is not mapped: {page.describe()}")
    page.mapcount -= 1
    if page.mapcount or page.anonymous is not None:
        # DEVIATION: no transfer for anonymous pages, as in the 2009 version; without a swap
        # cache their PG_dirty has no reader.
        return
    early = not cpu.kernel.guards.reset_write_last
    if early:
        await reset_write(cpu, page)
    await transfer_dirty(cpu, page)
    if not early:
        await reset_write(cpu, page)


async def transfer_dirty(cpu: Cpu, page: Page) -> None:
    """Move the change bit of the storage key to PG_dirty (page_test_dirty and after).

    The caller holds a reference that make_volatile cannot account for. The page must be
    stable before C is cleared: between SSKE and set_page_dirty it looks clean to the host
    and to the guest (R4, R5).
    """
    guards = cpu.kernel.guards
    if not await cpu.insert_storage_key(page) & KEY_CHANGED:
        return
    if guards.stable_before_clear and not await make_stable(cpu, page):
        await _changed_but_discarded(cpu, page)
        return
    await cpu.set_storage_key(page, PAGE_DEFAULT_KEY)
    await set_page_dirty(cpu, page)
    if not guards.stable_before_clear and not await make_stable(cpu, page):
        await _changed_but_discarded(cpu, page)


async def _changed_but_discarded(cpu: Cpu, page: Page) -> None:
    """C was seen set and op 6 then reported V+z: the 2005 series has BUG_ON here (R50).

    C outlives writeback, so a page may be clean, read-only mapped, volatile and changed;
    the host discards it rightly. Preset `fixed` takes it for what it is: discarded.
    """
    if not cpu.kernel.guards.tolerate_discard:
        raise KernelBug(f"BUG_ON(!page_hva_make_stable(page)): {page.describe()}")
    if await cpu.read_flags(page) & PG_writable:
        raise KernelBug(f"a page mapped writable was discarded: {page.describe()}")
    page.history.append(f"vcpu{cpu.number} C was set and the page is discarded")


async def ptep_clear_flush(cpu: Cpu, pte: Pte) -> Page | None:
    """Clear the pte and flush it everywhere; returns the page it mapped. Two steps.

    Like IPTE, it returns only when no other vCPU's access through the pte is under way.
    """
    await cpu.point("pte.clear", writes("pte", pte.number))
    page, pte.page = pte.page, None
    others = [c for c in cpu.kernel.cpus if c is not cpu]
    await cpu.wait_until(
        lambda: all(c.translation is not pte for c in others), "pte.flush", reads("tlb", pte.number)
    )
    return page


async def unmap_all(cpu: Cpu, page: Page) -> None:
    """Remove every pte of a file page. The caller holds the page lock and a reference."""
    mapping = page.mapping
    if mapping is None:
        return
    await cpu.spin_lock(mapping.i_mmap_lock, "i_mmap_lock")
    for vma in list(mapping.i_mmap):
        address = vma.address(page.index)
        if address is not None:
            await _unmap_one(cpu, page, vma.mm, address)
    await cpu.spin_unlock(mapping.i_mmap_lock, "i_mmap_unlock")


async def _unmap_one(cpu: Cpu, page: Page, mm: Mm, address: int) -> None:
    pte = mm.ptes.get(address)
    if pte is None:
        return
    await cpu.spin_lock(mm.page_table_lock, "ptl")
    await cpu.point("pte.load", reads("pte", pte.number))
    if pte.page is page:
        await ptep_clear_flush(cpu, pte)
        await page_remove_rmap(cpu, page)
        await put_page(cpu, page)
    await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")
