"""Address spaces: ptes, minor faults on mapped files, and the accesses of user programs.

Rules:
- The page table lock covers every change of a pte.
- An access is translated and then executed; while it is under way no one can finish
  flushing its pte (IPTE), and a nullified access is translated afresh.

Models: mm/memory.c of Linux 2.6.15 (do_no_page, do_wp_page, zap_pte_range; filemap_nopage)
with patches 1/6 and 3/6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from guest_agent.kernel.checked import check_loaded, report
from guest_agent.kernel.content import (
    ANONYMOUS_DISK,
    TAG_SIZE,
    TAGS_PER_PAGE,
    BlockKey,
    tag,
)
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.discard import discard_page, end_translation, storage_access
from guest_agent.kernel.filemap import get_uptodate_page, kernel_load
from guest_agent.kernel.page import Anonymous, Mapping, Page, SpinLock, reads, writes
from guest_agent.kernel.page_alloc import alloc_page, put_page
from guest_agent.kernel.page_hva import check_write, make_stable
from guest_agent.kernel.rmap import page_add_rmap, page_remove_rmap, ptep_clear_flush
from shared.commands import DONE, Load, LoadOutcome, Store

USER_RETRIES_MAX = 10_000


class VmFault(Enum):
    """What handle_mm_fault answers."""

    MINOR = "minor"
    MAJOR = "major"
    DISCARD = "discard"


@dataclass(slots=True, eq=False)
class Pte:
    """One page table entry; `page` is None while it is not present."""

    number: int
    page: Page | None = None
    writable: bool = False


@dataclass(slots=True, eq=False)
class Mm:
    """struct mm_struct: the vmas and ptes of one process, by page address (addr >> 12)."""

    number: int
    page_table_lock: SpinLock
    ptes: dict[int, Pte] = field(default_factory=dict)
    vmas: list[Vma] = field(default_factory=list)
    next_address: int = 0x1000

    def find_vma(self, address: int) -> Vma | None:
        """The vma that holds the page address."""
        return next((v for v in self.vmas if v.start <= address < v.start + v.page_count), None)


@dataclass(slots=True, eq=False)
class Vma:
    """struct vm_area_struct of a linear file mapping. start: a page address.

    shared: MAP_SHARED; otherwise MAP_PRIVATE, and a write breaks copy-on-write.
    """

    mm: Mm
    mapping: Mapping
    start: int
    pgoff: int
    page_count: int
    writable: bool
    shared: bool = True

    def address(self, index: int) -> int | None:
        """vma_address: where the file's page `index` is mapped."""
        if self.pgoff <= index < self.pgoff + self.page_count:
            return self.start + index - self.pgoff
        return None

    def index(self, address: int) -> int:
        """linear_page_index: the file's page behind a page address."""
        return self.pgoff + address - self.start


async def handle_mm_fault(cpu: Cpu, mm: Mm, address: int, *, write: bool) -> VmFault:
    """Make the page present, and writable for a write; counts the fault.

    DISCARD, counted as major, means that the page to copy from was discarded: the caller
    simply executes the access again. Raises KernelBug for an address outside every vma.
    """
    vma = mm.find_vma(address)
    if vma is None:
        raise KernelBug(f"segmentation fault at page address {address:#x}")
    pte = cpu.kernel.pte(mm, address)
    await cpu.point("pte.load", reads("pte", pte.number))
    if write and pte.page is not None:
        fault = await do_wp_page(cpu, vma, address, pte)
    else:
        fault = await _do_no_page(cpu, vma, address, write=write)
    cpu.kernel.statistics.minor_faults += fault is VmFault.MINOR
    cpu.kernel.statistics.major_faults += fault is not VmFault.MINOR
    return fault


async def _do_no_page(cpu: Cpu, vma: Vma, address: int, *, write: bool) -> VmFault:
    """do_no_page with filemap_nopage: find or read the page, then install the pte.

    In Linux 2.6.15 the pte of a shared writable mapping is writable from the first touch,
    read or write. A write to a private mapping breaks copy-on-write early.
    """
    kernel = cpu.kernel
    page, hit = await get_uptodate_page(cpu, vma.mapping, vma.index(address))
    kernel.statistics.cache_hits += hit
    kernel.statistics.cache_misses += not hit
    await kernel.lru.mark_accessed(cpu, page)
    if write and not vma.shared:
        copy = await copy_page(cpu, vma, address, page)
        if copy is None:
            return VmFault.DISCARD
        page = copy
    await map_page(cpu, vma, address, page)
    return VmFault.MINOR if hit else VmFault.MAJOR


async def copy_page(cpu: Cpu, vma: Vma, address: int, old: Page) -> Page | None:
    """An anonymous copy of a file's page, or None if the page turns out to be discarded.

    Takes over the caller's reference to `old`. RACE(copy-source-discarded): the source has
    to be stable before it is read, or the kernel copies zeroes or faults half way (R24).
    """
    kernel = cpu.kernel
    new = await alloc_page(cpu)
    if not await make_stable(cpu, old):
        await put_page(cpu, new)
        await discard_page(cpu, old)
        await put_page(cpu, old)
        return None
    index = vma.index(address)
    content = await kernel_load(cpu, old, vma.mapping, index, tags=TAGS_PER_PAGE)
    await cpu.call(Store(new.pfn, 0, content, TAGS_PER_PAGE))
    new.anonymous = Anonymous(kernel.new_anonymous(), content)
    await put_page(cpu, old)
    return new


async def do_wp_page(cpu: Cpu, vma: Vma, address: int, pte: Pte) -> VmFault:
    """A write to a page that a private mapping maps read-only: copy it."""
    mm = vma.mm
    await cpu.spin_lock(mm.page_table_lock, "ptl")
    old = pte.page
    if old is None or pte.writable:
        await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")
        return VmFault.MINOR
    await cpu.get_page(old)
    await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")
    await cpu.get_page(old)
    new = await copy_page(cpu, vma, address, old)
    if new is not None:
        await _replace_pte(cpu, mm, pte, old, new)
    await put_page(cpu, old)
    return VmFault.MINOR if new is not None else VmFault.DISCARD


async def _replace_pte(cpu: Cpu, mm: Mm, pte: Pte, old: Page, new: Page) -> None:
    """Let the pte map the copy, if it still maps the original."""
    await cpu.spin_lock(mm.page_table_lock, "ptl")
    await cpu.point("pte.load", reads("pte", pte.number))
    if pte.page is not old:
        await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")
        await put_page(cpu, new)
        return
    await ptep_clear_flush(cpu, pte)
    await page_remove_rmap(cpu, old)
    await put_page(cpu, old)
    await cpu.point("pte.set", writes("pte", pte.number))
    pte.page, pte.writable = new, True
    await page_add_rmap(cpu, new)
    await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")


async def map_page(cpu: Cpu, vma: Vma, address: int, page: Page) -> None:
    """Install a pte for a stable page; the caller's reference becomes the pte's.

    If another vCPU was faster, the reference is dropped.
    """
    mm = vma.mm
    await cpu.spin_lock(mm.page_table_lock, "ptl")
    pte = cpu.kernel.pte(mm, address)
    await cpu.point("pte.load", reads("pte", pte.number))
    if pte.page is not None:
        await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")
        await put_page(cpu, page)
        return
    writable = vma.writable and (vma.shared or page.anonymous is not None)
    await check_write(cpu, page, writable=writable)
    await cpu.point("pte.set", writes("pte", pte.number))
    pte.page, pte.writable = page, writable
    await page_add_rmap(cpu, page)
    await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")


async def translate(cpu: Cpu, mm: Mm, address: int, *, write: bool) -> Pte | None:
    """Dynamic address translation: the pte, its use registered, or None for a page fault."""
    pte = cpu.kernel.pte(mm, address)
    await cpu.point("pte.translate", reads("pte", pte.number), writes("tlb", pte.number))
    if pte.page is None or (write and not pte.writable):
        return None
    cpu.translation = pte
    return pte


async def user_access(cpu: Cpu, mm: Mm, address: int, *, write: bool) -> None:
    """A user program loads from, or stores over, one page of its address space; checked."""
    for _ in range(USER_RETRIES_MAX):
        vma = mm.find_vma(address)
        if vma is not None and write and not vma.writable:
            raise KernelBug(f"store to a read-only mapping at page address {address:#x}")
        pte = await translate(cpu, mm, address, write=write)
        if pte is None or vma is None:
            await handle_mm_fault(cpu, mm, address, write=write)
            continue
        access = store_through_pte if write else load_through_pte
        if await access(cpu, vma, address, pte):
            return
    raise KernelBug(f"no progress at page address {address:#x} after {USER_RETRIES_MAX} faults")


def _block(vma: Vma, address: int, page: Page) -> BlockKey:
    """Whose content the program expects: the file's, or that of its own private copy."""
    if page.anonymous is not None:
        return ANONYMOUS_DISK, page.anonymous.number
    return vma.mapping.block(vma.index(address))


async def load_through_pte(cpu: Cpu, vma: Vma, address: int, pte: Pte) -> bool:
    """One load of one tag through the pte; False if it was nullified."""
    kernel, page = cpu.kernel, pte.page
    assert page is not None
    ticket = kernel.ledger.begin_load(_block(vma, address, page))
    outcome = await storage_access(cpu, Load(page.pfn, kernel.next_offset(), TAG_SIZE))
    if outcome is None:
        return False
    copied = page.anonymous.copied if page.anonymous and 0 in ticket.legal else None
    if copied is None or outcome != LoadOutcome(copied):
        check_loaded(kernel, page, ticket, outcome, tags=1)
    await end_translation(cpu)
    return True


async def store_through_pte(cpu: Cpu, vma: Vma, address: int, pte: Pte) -> bool:
    """One store of a new version over the page through the pte; False if nullified."""
    kernel, page = cpu.kernel, pte.page
    assert page is not None
    key = _block(vma, address, page)
    version = kernel.ledger.begin_store(key)
    outcome = await storage_access(cpu, Store(page.pfn, 0, tag(*key, version), TAGS_PER_PAGE))
    if outcome is None:
        kernel.ledger.cancel_store(key, version)
        return False
    if outcome != DONE:
        report(kernel, page, f"store through a pte ended in {outcome}")
    kernel.ledger.end_store(key, version)
    await end_translation(cpu)
    return True


async def zap_page_range(cpu: Cpu, vma: Vma) -> None:
    """Unmap every present page of the vma."""
    mm = vma.mm
    for address in range(vma.start, vma.start + vma.page_count):
        pte = mm.ptes.get(address)
        if pte is None:
            continue
        await cpu.spin_lock(mm.page_table_lock, "ptl")
        await cpu.point("pte.load", reads("pte", pte.number))
        if pte.page is not None:
            page = await ptep_clear_flush(cpu, pte)
            assert page is not None
            await page_remove_rmap(cpu, page)
            await put_page(cpu, page)
        await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")
