"""mprotect: the protection of a vma and of the ptes that it has.

Models: mm/mprotect.c of Linux 2.6.15 with patch 3/6.
"""

from __future__ import annotations

from guest_agent.kernel.cow import unreferenced_offset, writable_at_once
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.mm import Mm, Pte, Vma
from guest_agent.kernel.page import reads, writes
from guest_agent.kernel.page_hva import check_write
from guest_agent.kernel.rmap import ptep_clear_flush


async def sys_mprotect(cpu: Cpu, mm: Mm, vma: Vma, *, writable: bool) -> bool:
    """mprotect(2) of a whole vma: PROT_READ, or PROT_READ and PROT_WRITE.

    False if the vma is gone. Ptes of a shared mapping become writable at once, those of a
    private one by a fault, which breaks copy-on-write.
    """
    await cpu.down_write(mm.mmap_sem)
    found = vma in mm.vmas
    if found:
        await cpu.point("vma.prot", writes("vma", mm.number))
        vma.writable = writable
        for address in range(vma.start, vma.end):
            pte = mm.ptes.get(address)
            if pte is not None:
                await _change_pte(cpu, vma, pte, writable=writable and writable_at_once(cpu, vma))
    await cpu.up_write(mm.mmap_sem)
    return found


async def _change_pte(cpu: Cpu, vma: Vma, pte: Pte, *, writable: bool) -> None:
    """change_pte_range for one pte: take it away, check, set it anew."""
    lock = vma.mm.page_table_lock
    await cpu.spin_lock(lock, "ptl")
    await cpu.point("pte.load", reads("pte", pte.number))
    if pte.page is not None and pte.writable is not writable:
        page = await ptep_clear_flush(cpu, pte)
        assert page is not None
        # RACE(check-write-offset): the pte's reference is all there is; the series' offset
        # of 2 takes a foreign reference for one of ours.
        await check_write(cpu, page, writable=writable, offset=unreferenced_offset(cpu))
        await cpu.point("pte.set", writes("pte", pte.number))
        pte.page, pte.writable = page, writable
    await cpu.spin_unlock(lock, "ptl_unlock")
