"""mmap and munmap: vmas and where rmap finds them.

Models: mm/mmap.c of Linux 2.6.15.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.mm import Mm, Vma
from guest_agent.kernel.page import Mapping, reads, writes
from guest_agent.kernel.zap import zap_page_range


async def link_vma(cpu: Cpu, vma: Vma) -> None:
    """Make the vma known to its file, its anon_vma and its address space. Up to three steps."""
    mapping, anon_vma = vma.mapping, vma.anon_vma
    if mapping is not None:
        await cpu.wait_until(
            lambda: mapping.i_mmap_lock.holder is None,
            "i_mmap.add",
            reads("lock", mapping.i_mmap_lock.number),
            writes("i_mmap", mapping.number),
        )
        (mapping.i_mmap_nonlinear if vma.nonlinear else mapping.i_mmap).append(vma)
    if anon_vma is not None:
        await cpu.wait_until(
            lambda: anon_vma.lock.holder is None,
            "anon_vma.add",
            reads("lock", anon_vma.lock.number),
            writes("anon_vma"),
        )
        anon_vma.vmas.append(vma)
    await cpu.point("vma.link", writes("vma", vma.mm.number))
    vma.mm.vmas.append(vma)


async def _unlink_vma(cpu: Cpu, vma: Vma) -> None:
    mapping, anon_vma = vma.mapping, vma.anon_vma
    if mapping is not None:
        await cpu.wait_until(
            lambda: mapping.i_mmap_lock.holder is None,
            "i_mmap.del",
            reads("lock", mapping.i_mmap_lock.number),
            writes("i_mmap", mapping.number),
        )
        (mapping.i_mmap_nonlinear if vma.nonlinear else mapping.i_mmap).remove(vma)
    if anon_vma is not None:
        await cpu.wait_until(
            lambda: anon_vma.lock.holder is None,
            "anon_vma.del",
            reads("lock", anon_vma.lock.number),
            writes("anon_vma"),
        )
        anon_vma.vmas.remove(vma)
    await cpu.point("vma.unlink", writes("vma", vma.mm.number))
    vma.mm.vmas.remove(vma)


async def sys_mmap(
    cpu: Cpu,
    mm: Mm,
    mapping: Mapping | None,
    index: int,
    count: int,
    *,
    writable: bool,
    shared: bool = True,
) -> Vma:
    """mmap(2) of `count` pages: of a file from page `index`, or, without one, anonymous."""
    await cpu.down_write(mm.mmap_sem)
    start = mm.next_address
    pgoff = start if mapping is None else index
    vma = Vma(mm, mapping, start, pgoff, count, writable, shared and mapping is not None)
    mm.next_address += count
    await link_vma(cpu, vma)
    await cpu.up_write(mm.mmap_sem)
    return vma


async def sys_munmap(cpu: Cpu, mm: Mm, vma: Vma) -> bool:
    """munmap(2) of a whole vma: unmap its pages, then unlink it; False if it is gone already."""
    await cpu.down_write(mm.mmap_sem)
    if vma in mm.vmas:
        await zap_page_range(cpu, vma)
        await _unlink_vma(cpu, vma)
        for address in range(vma.start, vma.end):
            mm.ptes.pop(address, None)
        found = True
    else:
        found = False
    await cpu.up_write(mm.mmap_sem)
    return found
