"""mlock: pages that stay in memory; with hints, pages that stay stable.

Rules:
- A file that was ever locked is marked for good, and its pages are never offered to the host
  again: to look for locked vmas in every make_volatile would cost too much.

Models: mm/mlock.c and make_pages_present of mm/memory.c, Linux 2.6.15, with patch 2/6.
"""

from __future__ import annotations

from typing import Final

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.gup import get_user_pages
from guest_agent.kernel.mm import Mm, Vma
from guest_agent.kernel.page import writes
from guest_agent.kernel.page_alloc import put_page

CHUNK: Final = 32
"""Pages that make_pages_present pins at a time."""


async def sys_mlock(cpu: Cpu, mm: Mm, vma: Vma) -> bool:
    """mlock(2) of a whole vma. False if the vma is gone, or a page of it cannot be had."""
    await cpu.down_write(mm.mmap_sem)
    present = vma in mm.vmas
    if present:
        await _set_locked(cpu, vma, locked=True)
        # RACE(mlock-marks-late): a page that is brought in before the file is marked is
        # volatile again with the put after it, and then locked and discardable (R31).
        early = cpu.kernel.guards.mlock_marks_mapping
        if early:
            await _mark_mapping(cpu, vma)
        present = await make_pages_present(cpu, vma)
        if not early:
            await _mark_mapping(cpu, vma)
    await cpu.up_write(mm.mmap_sem)
    return present


async def sys_munlock(cpu: Cpu, mm: Mm, vma: Vma) -> bool:
    """munlock(2) of a whole vma; False if it is gone. The file's mark stays."""
    await cpu.down_write(mm.mmap_sem)
    found = vma in mm.vmas
    if found:
        await _set_locked(cpu, vma, locked=False)
    await cpu.up_write(mm.mmap_sem)
    return found


async def _set_locked(cpu: Cpu, vma: Vma, *, locked: bool) -> None:
    """VM_LOCKED on or off; mmap_sem is held for writing. One step."""
    await cpu.point("vma.locked", writes("vma", vma.mm.number))
    vma.locked = locked


async def _mark_mapping(cpu: Cpu, vma: Vma) -> None:
    """mapping->mlocked = 1, which nobody takes back. One step."""
    if vma.mapping is not None:
        await cpu.point("mapping.mlocked", writes("mlocked"))
        vma.mapping.mlocked = True


async def make_pages_present(cpu: Cpu, vma: Vma) -> bool:
    """Fault in every page of a locked vma, and make it stable; mmap_sem is held.

    Writable private mappings get their copies now. False if not all could be had.
    """
    for start in range(vma.start, vma.end, CHUNK):
        count = min(CHUNK, vma.end - start)
        pages = await get_user_pages(cpu, vma.mm, start, count, write=vma.writable)
        for page in pages:
            await put_page(cpu, page)
        if len(pages) < count:
            return False
    return True
