"""Page faults: a page is found, made, read or brought in from the swap device, then mapped.

Rules:
- mmap_sem is held for reading; the page table lock covers the setting of a pte.
- A page whose content is needed to serve the fault is stable first; where the host was
  faster the answer is DISCARD, and the access is simply executed again.

Models: do_no_page, do_anonymous_page, do_file_page and handle_mm_fault of mm/memory.c and
filemap_nopage of mm/filemap.c, Linux 2.6.15, with patches 1/6, 3/6 and 4/6.
"""

from __future__ import annotations

from guest_agent.kernel.cow import copy_page, do_wp_page, writable_at_once
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.filemap import get_uptodate_page
from guest_agent.kernel.mm import FileEntry, Mm, Pte, SwapEntry, Vma
from guest_agent.kernel.page import (
    Anonymous,
    Mapping,
    Page,
    PG_discarded,
    PG_locked,
    PG_uptodate,
    reads,
    writes,
)
from guest_agent.kernel.page_alloc import alloc_zeroed_page, put_page
from guest_agent.kernel.page_cache import find_get_page_nodiscard
from guest_agent.kernel.page_hva import check_write, make_volatile
from guest_agent.kernel.rmap import anon_vma_prepare, make_anonymous, page_add_rmap
from guest_agent.kernel.swapin import do_swap_page
from guest_agent.kernel.vmfault import VmFault

__all__ = ["VmFault", "do_page_fault", "handle_mm_fault", "map_page"]

ZEROES = bytes(32)


async def do_page_fault(cpu: Cpu, mm: Mm, address: int, *, write: bool) -> VmFault:
    """A page translation or protection exception of a user program."""
    await cpu.down_read(mm.mmap_sem)
    fault = await handle_mm_fault(cpu, mm, address, write=write)
    await cpu.up_read(mm.mmap_sem)
    return fault


async def handle_mm_fault(cpu: Cpu, mm: Mm, address: int, *, write: bool) -> VmFault:
    """Make the page present, and writable for a write; counts the fault. mmap_sem is held.

    DISCARD, counted as major, means that a page that was needed turned out to be discarded.
    """
    vma = mm.find_vma(address)
    if vma is None or (write and not vma.writable):
        return VmFault.SIGSEGV
    pte = cpu.kernel.pte(mm, address)
    await cpu.point("pte.load", reads("pte", pte.number))
    fault = await _resolve(cpu, vma, address, pte, write=write)
    cpu.kernel.statistics.minor_faults += fault is VmFault.MINOR
    cpu.kernel.statistics.major_faults += fault in (VmFault.MAJOR, VmFault.DISCARD)
    return fault


async def _resolve(cpu: Cpu, vma: Vma, address: int, pte: Pte, *, write: bool) -> VmFault:
    """handle_pte_fault. The pte may change at any time; whoever sets it looks again."""
    entry = pte.entry
    if pte.page is not None:
        if write and not pte.writable:
            return await do_wp_page(cpu, vma, address, pte)
        return VmFault.MINOR  # somebody was faster
    if isinstance(entry, SwapEntry):
        return await do_swap_page(cpu, vma, address, pte, write=write)
    if vma.mapping is None:
        return await _do_anonymous_page(cpu, vma, address)
    index = entry.index if isinstance(entry, FileEntry) else vma.index(address)
    return await _do_no_page(cpu, vma, address, index, write=write)


async def _do_anonymous_page(cpu: Cpu, vma: Vma, address: int) -> VmFault:
    """A page of zeroes.

    DEVIATION: a read gets a page of its own too; there is no ZERO_PAGE.
    """
    await anon_vma_prepare(cpu, vma)
    page = await alloc_zeroed_page(cpu)
    content = Anonymous(cpu.kernel.new_anonymous(), ZEROES)
    await make_anonymous(cpu, page, vma, address, content)
    await map_page(cpu, vma, address, page)
    return VmFault.MINOR


async def _do_no_page(cpu: Cpu, vma: Vma, address: int, index: int, *, write: bool) -> VmFault:
    """do_no_page with filemap_nopage: find or read the page, then install the pte.

    In Linux 2.6.15 the pte of a shared writable mapping is writable from the first touch,
    read or write. A write to a private mapping breaks copy-on-write early. DEVIATION: with dirty
    accounting a shared pte is never writable at first, and a write that finds none faults twice;
    2.6.19 does both at once.
    """
    kernel, mapping = cpu.kernel, vma.file
    await cpu.point("truncate_count", reads("i_size", mapping.number))
    truncate_count = mapping.truncate_count
    if mapping.page_count is not None and index >= mapping.page_count:
        return VmFault.SIGBUS
    page, hit = await _nopage(cpu, mapping, index)
    kernel.statistics.cache_hits += hit
    kernel.statistics.cache_misses += not hit
    await kernel.lru.mark_accessed(cpu, page)
    if write and not vma.shared:
        copy = await copy_page(cpu, vma, address, page)
        if copy is None:
            return VmFault.DISCARD
        page = copy
    await map_page(cpu, vma, address, page, truncate_count)
    return VmFault.MINOR if hit else VmFault.MAJOR


async def _nopage(cpu: Cpu, mapping: Mapping, index: int) -> tuple[Page, bool]:
    """The file's page, referenced and up to date; and whether it came from the cache.

    With patch 4/6 a page that is there stays in its state: the pte may map a page that is
    volatile, or discarded already, and the access will tell. One that had to be waited for is
    offered as soon as it is up to date.
    """
    if cpu.kernel.config.minor_faults:
        page = await find_get_page_nodiscard(cpu, mapping, index)
        if page is not None:
            flags = await cpu.read_flags(page)
            if flags & PG_uptodate and not flags & (PG_locked | PG_discarded):
                return page, True
            await put_page(cpu, page)
    page, hit = await get_uptodate_page(cpu, mapping, index)
    if cpu.kernel.config.minor_faults:
        # Nothing on the rest of the way offers the page: its pte takes our reference over.
        await make_volatile(cpu, page, 2)
    return page, hit


async def map_page(
    cpu: Cpu, vma: Vma, address: int, page: Page, truncate_count: int | None = None
) -> None:
    """Install a pte; the caller's reference becomes the pte's.

    If another vCPU was faster, or the page was truncated or discarded meanwhile, the
    reference is dropped and the access will fault again.
    """
    mm = vma.mm
    await cpu.spin_lock(mm.page_table_lock, "ptl")
    pte = cpu.kernel.pte(mm, address)
    await cpu.point("pte.load", reads("pte", pte.number))
    taken = pte.page is not None or isinstance(pte.entry, SwapEntry)
    # A non-linear pte that was being unmapped may have looked empty, and so linear.
    if isinstance(pte.entry, FileEntry) and pte.entry.index != page.index:
        taken = True
    if taken or not await _may_install(cpu, vma, page, truncate_count):
        await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")
        await put_page(cpu, page)
        return
    writable = vma.writable and (page.anonymous is not None or writable_at_once(cpu, vma))
    await check_write(cpu, page, writable=writable)
    await cpu.point("pte.set", writes("pte", pte.number))
    pte.page, pte.writable, pte.entry = page, writable, None
    await page_add_rmap(cpu, page)
    await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")


async def _may_install(cpu: Cpu, vma: Vma, page: Page, truncate_count: int | None) -> bool:
    """Under the page table lock: neither truncated nor discarded since it was found."""
    if truncate_count is not None:
        await cpu.point("truncate_count", reads("i_size", vma.file.number))
        if vma.file.truncate_count != truncate_count:
            return False
    config = cpu.kernel.config
    if not config.minor_faults or not config.guards.install_checks_discarded:
        return True
    # RACE(pte-to-a-discarded-page): the page was not made stable when it was found; its
    # discarder unmaps what it sees and never comes back (R13).
    return not await cpu.read_flags(page) & PG_discarded
