"""msync: hardware dirty to software dirty for every pte of a range, then writeback.

Models: mm/msync.c of Linux 2.6.15 with patch 6/6.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.memory import Pte, Vma
from guest_agent.kernel.page import reads
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.rmap import transfer_dirty
from guest_agent.kernel.writeback import sync_mapping


async def msync_pte(cpu: Cpu, pte: Pte) -> None:
    """Transfer the change bit of the page behind one pte. The page table lock is held.

    The extra reference keeps make_volatile away until PG_dirty, once set, takes over.
    """
    await cpu.point("pte.load", reads("pte", pte.number))
    page = pte.page
    if page is None:
        return
    hold = cpu.kernel.guards.hold_reference
    if hold:
        await cpu.get_page(page)
    await transfer_dirty(cpu, page)
    if hold:
        await put_page(cpu, page)


async def sys_msync(cpu: Cpu, vma: Vma) -> None:
    """msync(MS_SYNC) of a whole vma: its stores that ended before the call are on the disk."""
    mm = vma.mm
    await cpu.spin_lock(mm.page_table_lock, "ptl")
    for address in range(vma.start, vma.start + vma.page_count):
        pte = mm.ptes.get(address)
        if pte is not None:
            await msync_pte(cpu, pte)
    await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")
    await sync_mapping(cpu, vma.mapping, vma.pgoff, vma.pgoff + vma.page_count)
