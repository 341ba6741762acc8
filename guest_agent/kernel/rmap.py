"""Reverse mapping: from a page to its ptes, and the dirty transfer at the last unmap.

Models: mm/rmap.c of Linux 2.6.15 with patches 1/6, 2/6, 3/6 and 6/6 of the series, and its
volatile swap cache.
"""

from __future__ import annotations

from collections.abc import Iterator

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.dirty import PAGE_DEFAULT_KEY, set_page_dirty
from guest_agent.kernel.mm import FileEntry, Pte, SwapEntry, Vma
from guest_agent.kernel.page import (
    ANY,
    AnonVma,
    Anonymous,
    Page,
    PG_swapcache,
    PG_uptodate,
    reads,
    writes,
)
from guest_agent.kernel.page_alloc import free_hot_cold_page, put_page
from guest_agent.kernel.page_hva import make_stable, make_volatile, reset_write
from guest_agent.kernel.swap_cache import swap_duplicate
from shared.arch import KEY_CHANGED

# Anonymous pages.


async def anon_vma_prepare(cpu: Cpu, vma: Vma) -> None:
    """The vma is about to get an anonymous page: give it an anon_vma. One step."""
    await cpu.point("anon_vma.prepare", writes("anon_vma"))
    if vma.anon_vma is None:
        vma.anon_vma = cpu.kernel.new_anon_vma(vma)


async def make_anonymous(cpu: Cpu, page: Page, vma: Vma, address: int, content: Anonymous) -> None:
    """A new page becomes anonymous memory of the vma, and goes on the LRU. Two steps."""
    assert vma.anon_vma is not None
    await cpu.point("page.make_anonymous", writes("mapping", page.pfn), writes("flags", page.pfn))
    page.anon_vma, page.index, page.anonymous = vma.anon_vma, vma.index(address), content
    page.flags |= PG_uptodate
    await cpu.kernel.lru.add(cpu, page)


# One more pte, one less.


async def page_add_rmap(cpu: Cpu, page: Page) -> None:
    """page_add_file_rmap or page_add_anon_rmap: one more pte maps the page.

    The caller's reference is the pte's from now on. Patch 4/6 leaves the page's state alone.
    """
    await cpu.point("page.mapcount_inc", writes("mapcount", page.pfn))
    page.mapcount += 1
    if not cpu.kernel.config.minor_faults:
        await make_volatile(cpu, page, 1)


async def page_dup_rmap(cpu: Cpu, page: Page) -> None:
    """fork: one more pte for a page that the parent maps. One step."""
    await cpu.point("page.mapcount_inc", writes("mapcount", page.pfn))
    page.mapcount += 1


async def page_remove_rmap(cpu: Cpu, page: Page) -> None:
    """One pte less; with the last one the hardware dirty bit moves to PG_dirty.

    The pte's reference is still held, and no longer counted as a mapping: that keeps
    make_volatile away while the dirty bit is in transit.
    """
    if not cpu.kernel.guards.reset_write_last:
        # RACE(flag-before-the-drop): while the pte still counts as a mapping, the page can be
        # offered; without PG_writable the host need not look at the change bit (R6).
        await cpu.point("page.mapcount", reads("mapcount", page.pfn))
        if page.mapcount == 1:
            await reset_write(cpu, page)
    await cpu.point("page.mapcount_dec", writes("mapcount", page.pfn))
    if page.mapcount <= 0:
        raise KernelBug(f"unmap of a page that is not mapped: {page.describe()}")
    page.mapcount -= 1
    if page.mapcount or not await _has_dirty_reader(cpu, page):
        return
    await transfer_dirty(cpu, page)
    await reset_write(cpu, page)


async def _has_dirty_reader(cpu: Cpu, page: Page) -> bool:
    """A file's page, or one with a copy on the swap device: somebody asks for its PG_dirty.

    DEVIATION: as in the 2009 version; an anonymous page without a slot is dirtied by
    add_to_swap when it gets one.
    """
    return page.anonymous is None or bool(await cpu.read_flags(page) & PG_swapcache)


async def put_mapped_page(cpu: Cpu, page: Page) -> None:
    """Drop the reference of a pte that is gone.

    With patch 4/6 the page's state stays what it is: it was offered before it was mapped,
    and is volatile as a rule (page_cache_release_nohv).
    """
    if not cpu.kernel.config.minor_faults:
        await put_page(cpu, page)
    elif await cpu.put_page_testzero(page):
        await free_hot_cold_page(cpu, page)


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
    the host discards it rightly. Preset `fixed` takes it for what it is: discarded. It may
    have been mapped writable since, by fork, mprotect or a minor fault, but not stored to.
    """
    if not cpu.kernel.guards.tolerate_discard:
        raise KernelBug(f"BUG_ON(!page_hva_make_stable(page)): {page.describe()}")
    await cpu.point("page.mapping", reads("mapping", page.pfn), reads("content", ANY))
    mapping = page.mapping
    if mapping is not None and not cpu.kernel.ledger.is_durable(mapping.block(page.index)):
        raise KernelBug(f"a page mapped writable was discarded: {page.describe()}")
    page.history.append(f"vcpu{cpu.number} C was set and the page is discarded")


# Changing ptes. The page table lock is held.


async def ptep_clear_flush(cpu: Cpu, pte: Pte) -> Page | None:
    """Clear the pte and flush it everywhere; returns the page it mapped. Two steps.

    Like IPTE, it returns only when no other vCPU's access through the pte is under way.
    """
    await cpu.point("pte.clear", writes("pte", pte.number))
    page, pte.page = pte.page, None
    await _flush(cpu, pte)
    return page


async def ptep_set_wrprotect(cpu: Cpu, pte: Pte) -> None:
    """Make the pte read-only and flush it everywhere. Two steps."""
    await cpu.point("pte.wrprotect", writes("pte", pte.number))
    pte.writable = False
    await _flush(cpu, pte)


async def _flush(cpu: Cpu, pte: Pte) -> None:
    others = [c for c in cpu.kernel.cpus if c is not cpu]
    await cpu.wait_until(
        lambda: not any(c.uses(pte) for c in others), "pte.flush", reads("tlb", pte.number)
    )


# Unmapping a page everywhere. The caller holds the page lock and a reference.


async def unmap_all(cpu: Cpu, page: Page) -> None:
    """Remove every pte of a page that the host has discarded."""
    locked_too = cpu.kernel.guards.unmap_ignores_locked
    if not await _unmap_everywhere(cpu, page, locked_too=locked_too):
        raise KernelBug(f"BUG: SWAP_FAIL in unmap_all: {page.describe()}")


async def try_to_unmap(cpu: Cpu, page: Page) -> bool:
    """Remove every pte for reclaim; False if a locked vma maps the page."""
    return await _unmap_everywhere(cpu, page, locked_too=False)


async def _unmap_everywhere(cpu: Cpu, page: Page, *, locked_too: bool) -> bool:
    anon_vma, mapping = page.anon_vma, page.mapping
    if anon_vma is not None:
        await cpu.spin_lock(anon_vma.lock, "anon_vma_lock")
        done = await _unmap_vmas(cpu, page, _linear(anon_vma, page), locked_too=locked_too)
        await cpu.spin_unlock(anon_vma.lock, "anon_vma_unlock")
        return done
    if mapping is None:
        raise KernelBug(f"ptes that nobody can find: {page.describe()}")
    await cpu.spin_lock(mapping.i_mmap_lock, "i_mmap_lock")
    # CHOICE: a prio tree promises no order; newest first is the one that shows more.
    linear = reversed(mapping.i_mmap)
    places = [(v, a) for v in linear if (a := v.address(page.index)) is not None]
    # In a non-linear vma the page may be anywhere.
    places += [(v, a) for v in mapping.i_mmap_nonlinear for a in range(v.start, v.end)]
    done = await _unmap_vmas(cpu, page, iter(places), locked_too=locked_too)
    await cpu.spin_unlock(mapping.i_mmap_lock, "i_mmap_unlock")
    return done


def _linear(anon_vma: AnonVma, page: Page) -> Iterator[tuple[Vma, int]]:
    for vma in list(anon_vma.vmas):
        address = vma.address(page.index)
        if address is not None:
            yield vma, address


async def _unmap_vmas(
    cpu: Cpu, page: Page, places: Iterator[tuple[Vma, int]], *, locked_too: bool
) -> bool:
    for vma, address in places:
        if not await _unmap_one(cpu, page, vma, address, locked_too=locked_too):
            return False
    return True


async def _unmap_one(cpu: Cpu, page: Page, vma: Vma, address: int, *, locked_too: bool) -> bool:
    """try_to_unmap_one; False if VM_LOCKED forbids it."""
    pte = cpu.kernel.pte(vma.mm, address)
    if not cpu.kernel.guards.unmap_takes_lock:
        # RACE(peek-before-the-lock): as page_check_address of the series does; a pte that is
        # about to be set under the lock is missed (R14).
        await cpu.point("pte.peek", reads("pte", pte.number))
        if pte.page is not page:
            return True
    await cpu.spin_lock(vma.mm.page_table_lock, "ptl")
    await cpu.point("pte.load", reads("pte", pte.number), reads("vma", vma.mm.number))
    allowed = True
    if pte.page is page:
        allowed = locked_too or not vma.locked
        if allowed:
            await _remove_pte(cpu, page, pte, nonlinear=vma.nonlinear)
    await cpu.spin_unlock(vma.mm.page_table_lock, "ptl_unlock")
    return allowed


async def _remove_pte(cpu: Cpu, page: Page, pte: Pte, *, nonlinear: bool) -> None:
    """Clear one pte of the page, and leave behind where its content is to be found."""
    await ptep_clear_flush(cpu, pte)
    if page.anonymous is not None:
        await swap_duplicate(cpu, page.private)
        await cpu.point("pte.set", writes("pte", pte.number))
        pte.entry = SwapEntry(page.private, page.anonymous)
    elif nonlinear:
        await cpu.point("pte.set", writes("pte", pte.number))
        pte.entry = FileEntry(page.index)
    await page_remove_rmap(cpu, page)
    await put_mapped_page(cpu, page)
