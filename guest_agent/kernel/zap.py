"""Taking ptes away: munmap, truncate and exit.

Models: zap_pte_range of mm/memory.c, Linux 2.6.15.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.mm import FileEntry, Pte, SwapEntry, Vma
from guest_agent.kernel.page import Page, reads, writes
from guest_agent.kernel.rmap import page_remove_rmap, ptep_clear_flush, put_mapped_page
from guest_agent.kernel.swap import free_swap_and_cache, free_swap_cache


async def zap_page_range(cpu: Cpu, vma: Vma, *, truncated_from: int | None = None) -> None:
    """Unmap the vma's pages; or, for truncate, those from a page of the file on.

    Copies of truncated pages in private mappings go too (even_cows). In a non-linear vma a
    truncated page leaves its file offset behind.
    """
    kernel = cpu.kernel
    for address in range(vma.start, vma.end):
        # Truncate has no mmap_sem: a fault may be about to set a pte that is not there yet.
        pte = vma.mm.ptes.get(address) if truncated_from is None else kernel.pte(vma.mm, address)
        if pte is not None:
            await _zap_pte(cpu, vma, address, pte, truncated_from)


async def _zap_pte(cpu: Cpu, vma: Vma, address: int, pte: Pte, truncated_from: int | None) -> None:
    await cpu.spin_lock(vma.mm.page_table_lock, "ptl")
    await cpu.point("pte.load", reads("pte", pte.number), reads("vma", vma.mm.number))
    if truncated_from is None or _index_of(vma, address, pte) >= truncated_from:
        if pte.page is not None:
            leave_offset = vma.nonlinear and truncated_from is not None
            await _zap_page(cpu, pte, pte.page, leave_offset=leave_offset)
        elif pte.entry is not None and not (vma.nonlinear and truncated_from is not None):
            await _zap_entry(cpu, pte)
    await cpu.spin_unlock(vma.mm.page_table_lock, "ptl_unlock")


def _index_of(vma: Vma, address: int, pte: Pte) -> int:
    """Which page of the file a pte stands for."""
    if vma.nonlinear and pte.page is not None:
        return pte.page.index
    if isinstance(pte.entry, FileEntry):
        return pte.entry.index
    return vma.index(address)


async def _zap_page(cpu: Cpu, pte: Pte, page: Page, *, leave_offset: bool) -> None:
    await ptep_clear_flush(cpu, pte)
    if leave_offset:
        await cpu.point("pte.set", writes("pte", pte.number))
        pte.entry = FileEntry(page.index)
    await page_remove_rmap(cpu, page)
    if page.anonymous is not None:
        await free_swap_cache(cpu, page)
    await put_mapped_page(cpu, page)


async def _zap_entry(cpu: Cpu, pte: Pte) -> None:
    await cpu.point("pte.clear", writes("pte", pte.number))
    entry, pte.entry = pte.entry, None
    if isinstance(entry, SwapEntry):
        await free_swap_and_cache(cpu, entry)
