"""fork and exit: address spaces are copied, page by page, and taken down.

Models: dup_mmap of kernel/fork.c and copy_one_pte of mm/memory.c, Linux 2.6.15, with the
2006-04 version's test for discarded pages; exit_mmap of mm/mmap.c.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.mm import FileEntry, Mm, Pte, SwapEntry, Vma
from guest_agent.kernel.mmap import link_vma, sys_munmap
from guest_agent.kernel.page import Page, PG_discarded, reads, writes
from guest_agent.kernel.rmap import page_dup_rmap, ptep_set_wrprotect
from guest_agent.kernel.swap_cache import swap_duplicate


async def sys_fork(cpu: Cpu, mm: Mm) -> Mm:
    """A copy of the address space; private pages are shared until one side writes.

    DEVIATION: waits for DMA into the parent's pages to end; whether the child or the parent
    keeps a page that a device writes to is another story than ours.
    """
    await cpu.down_write(mm.mmap_sem)
    await cpu.wait_until(lambda: not mm.dma, "fork.dma", reads("dma", mm.number), writes("mms"))
    child = cpu.kernel.new_mm()
    child.mmap_sem.writer = cpu.number  # as in later kernels; nobody can want it yet
    child.next_address = mm.next_address
    for vma in mm.vmas:
        copy = Vma(
            child,
            vma.mapping,
            vma.start,
            vma.pgoff,
            vma.page_count,
            vma.writable,
            vma.shared,
            nonlinear=vma.nonlinear,
            anon_vma=vma.anon_vma,
            placed=dict(vma.placed),
        )
        await link_vma(cpu, copy)
        if _has_to_be_copied(vma):
            await _copy_page_range(cpu, vma, copy)
    await cpu.up_write(child.mmap_sem)
    await cpu.up_write(mm.mmap_sem)
    return child


def _has_to_be_copied(vma: Vma) -> bool:
    """copy_page_range skips what page faults can fill in as well."""
    return vma.nonlinear or vma.anon_vma is not None


async def _copy_page_range(cpu: Cpu, vma: Vma, copy: Vma) -> None:
    for address in range(vma.start, vma.end):
        source = vma.mm.ptes.get(address)
        if source is None:
            continue
        await cpu.spin_lock(copy.mm.page_table_lock, "ptl.child")
        await cpu.spin_lock(vma.mm.page_table_lock, "ptl")
        await copy_one_pte(cpu, vma, address, source, cpu.kernel.pte(copy.mm, address))
        await cpu.spin_unlock(vma.mm.page_table_lock, "ptl_unlock")
        await cpu.spin_unlock(copy.mm.page_table_lock, "ptl_unlock.child")


async def copy_one_pte(cpu: Cpu, vma: Vma, address: int, source: Pte, target: Pte) -> None:
    """Copy one pte to the child; both page table locks are held."""
    await cpu.point("pte.load", reads("pte", source.number))
    page = source.page
    if page is None:
        await _copy_entry(cpu, target, source.entry)
    elif await _is_being_discarded(cpu, page):
        await _copy_entry(cpu, target, _entry_instead(vma, address, page))
    else:
        await _share_page(cpu, vma, source, target, page)


async def _is_being_discarded(cpu: Cpu, page: Page) -> bool:
    """RACE(fork-of-a-discarded-page): unmap_all has been through the child's page tables,
    which were empty then, or will not come to them any more (R16)."""
    if not (cpu.kernel.volatile_hints and cpu.kernel.guards.fork_checks_discarded):
        return False
    return bool(await cpu.read_flags(page, reads("private", page.pfn)) & PG_discarded)


def _entry_instead(vma: Vma, address: int, page: Page) -> SwapEntry | FileEntry | None:
    """What unmap_all would have left behind."""
    if page.anonymous is not None:
        return SwapEntry(page.private, page.anonymous)
    if vma.nonlinear:
        return FileEntry(page.index)
    return None


async def _copy_entry(cpu: Cpu, target: Pte, entry: SwapEntry | FileEntry | None) -> None:
    if entry is None:
        return
    if isinstance(entry, SwapEntry):
        await swap_duplicate(cpu, entry.slot)
    await cpu.point("pte.set", writes("pte", target.number))
    target.entry = entry


async def _share_page(cpu: Cpu, vma: Vma, source: Pte, target: Pte, page: Page) -> None:
    if source.writable and not vma.shared:
        await ptep_set_wrprotect(cpu, source)
    await cpu.get_page(page)
    await page_dup_rmap(cpu, page)
    await cpu.point("pte.set", writes("pte", target.number))
    target.page, target.writable = page, source.writable


async def sys_exit(cpu: Cpu, mm: Mm) -> None:
    """exit_mmap: nobody runs in the address space any more."""
    await cpu.point("exit_mmap", reads("vma", mm.number))
    for vma in list(mm.vmas):
        await sys_munmap(cpu, mm, vma)
    await cpu.point("mm.exit", writes("mms"))
    cpu.kernel.mms.remove(mm)
