"""msync: hardware dirty to software dirty for every pte of a range, then writeback.

Models: mm/msync.c of Linux 2.6.15 with patch 6/6.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.mm import Pte, Vma
from guest_agent.kernel.page import Mapping, reads
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.rmap import transfer_dirty
from guest_agent.kernel.writeback import sync_mapping


async def msync_pte(cpu: Cpu, pte: Pte) -> None:
    """Transfer the change bit of the page behind one pte. The page table lock is held.

    The extra reference keeps make_volatile away until PG_dirty, once set, takes over.
    """
    await cpu.point("pte.load", reads("pte", pte.number))
    page = pte.page
    if page is None or page.anonymous is not None:
        return  # not there, or a private copy
    hold = cpu.kernel.guards.hold_reference
    if hold:
        await cpu.get_page(page)
    await transfer_dirty(cpu, page)
    if hold:
        await put_page(cpu, page)


async def sys_msync(cpu: Cpu, vma: Vma) -> bool:
    """msync(MS_SYNC) of a whole vma: its stores that ended before the call are on the disk.

    False if the vma is gone. Only shared mappings have anything to write.
    """
    mm, mapping = vma.mm, vma.mapping
    await cpu.down_read(mm.mmap_sem)
    found = vma in mm.vmas
    if found and vma.shared and mapping is not None:
        await _sync_page_range(cpu, vma)
        await _write_range(cpu, vma, mapping)
    await cpu.up_read(mm.mmap_sem)
    return found


async def _sync_page_range(cpu: Cpu, vma: Vma) -> None:
    lock = vma.mm.page_table_lock
    await cpu.spin_lock(lock, "ptl")
    for address in range(vma.start, vma.end):
        pte = vma.mm.ptes.get(address)
        if pte is not None:
            await msync_pte(cpu, pte)
    await cpu.spin_unlock(lock, "ptl_unlock")


async def _write_range(cpu: Cpu, vma: Vma, mapping: Mapping) -> None:
    """What a non-linear vma maps may be anywhere in the file."""
    if vma.nonlinear:
        await sync_mapping(cpu, mapping)
    else:
        await sync_mapping(cpu, mapping, vma.pgoff, vma.pgoff + vma.page_count)
