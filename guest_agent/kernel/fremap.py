"""remap_file_pages: non-linear mappings, whose ptes say which page of the file they have.

Models: mm/fremap.c of Linux 2.6.15 (install_file_pte).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.mm import FileEntry, Mm, Vma
from guest_agent.kernel.page import Mapping, reads, writes
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.rmap import page_remove_rmap, ptep_clear_flush


async def sys_remap_file_pages(cpu: Cpu, mm: Mm, vma: Vma, address: int, index: int) -> bool:
    """Let one page address of a shared mapping stand for page `index` of the file.

    MAP_NONBLOCK: the page is brought in by the next access. False if the vma is gone or is
    not a shared mapping of a file.
    """
    await cpu.down_write(mm.mmap_sem)
    possible = vma in mm.vmas and vma.shared and vma.mapping is not None
    if possible:
        if not vma.nonlinear:
            await _make_nonlinear(cpu, vma, vma.file)
        await _install_file_pte(cpu, vma, address, index)
    await cpu.up_write(mm.mmap_sem)
    return possible


async def _make_nonlinear(cpu: Cpu, vma: Vma, mapping: Mapping) -> None:
    """Move the vma to the list whose vmas are searched address by address. One step."""
    await cpu.wait_until(
        lambda: mapping.i_mmap_lock.holder is None,
        "i_mmap.nonlinear",
        reads("lock", mapping.i_mmap_lock.number),
        writes("i_mmap", mapping.number),
        writes("vma", vma.mm.number),
    )
    mapping.i_mmap.remove(vma)
    vma.nonlinear = True
    mapping.i_mmap_nonlinear.append(vma)


async def _install_file_pte(cpu: Cpu, vma: Vma, address: int, index: int) -> None:
    lock = vma.mm.page_table_lock
    pte = cpu.kernel.pte(vma.mm, address)
    await cpu.spin_lock(lock, "ptl")
    await cpu.point("pte.load", reads("pte", pte.number))
    page = await ptep_clear_flush(cpu, pte) if pte.page is not None else None
    await cpu.point("pte.set", writes("pte", pte.number), writes("vma", vma.mm.number))
    pte.entry = FileEntry(index)
    vma.placed[address] = index
    if page is not None:
        await page_remove_rmap(cpu, page)
        await put_page(cpu, page)
    await cpu.spin_unlock(lock, "ptl_unlock")
