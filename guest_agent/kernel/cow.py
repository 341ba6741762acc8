"""Copy-on-write: a private page of one's own instead of a shared one.

Models: do_wp_page and the early copy of do_no_page in mm/memory.c, Linux 2.6.15, with
patches 1/6 and 3/6.
"""

from __future__ import annotations

from guest_agent.kernel.checked import check_loaded
from guest_agent.kernel.content import ANONYMOUS_DISK, TAG_SIZE, TAGS_PER_PAGE, BlockKey
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.dirty import set_page_dirty_lock
from guest_agent.kernel.discard import discard_page
from guest_agent.kernel.mm import Mm, Pte, Vma
from guest_agent.kernel.oops import kernel_access
from guest_agent.kernel.page import Anonymous, Page, reads, writes
from guest_agent.kernel.page_alloc import alloc_page, put_page
from guest_agent.kernel.page_hva import check_write, make_stable
from guest_agent.kernel.page_lock import trylock_page, unlock_page
from guest_agent.kernel.rmap import (
    anon_vma_prepare,
    make_anonymous,
    page_add_rmap,
    page_remove_rmap,
    ptep_clear_flush,
)
from guest_agent.kernel.swap import can_share_swap_page
from guest_agent.kernel.vmfault import VmFault
from shared.arch import PAGE_SIZE
from shared.commands import Load, LoadOutcome, Store


async def copy_page(cpu: Cpu, vma: Vma, address: int, old: Page) -> Page | None:
    """An anonymous copy of a page, or None if the page turns out to be discarded.

    Takes over the caller's reference to `old`. RACE(copy-source-discarded): the source has
    to be stable before it is read, or the kernel copies zeroes or faults half way (R24).
    """
    await anon_vma_prepare(cpu, vma)
    new = await alloc_page(cpu)
    if cpu.kernel.guards.stable_copy_source and not await make_stable(cpu, old):
        await put_page(cpu, new)
        await discard_page(cpu, old)
        await put_page(cpu, old)
        return None
    content = await _read_source(cpu, vma, address, old)
    store = Store(new.pfn, 0, content, TAGS_PER_PAGE)
    await kernel_access(cpu, new, store, "filling a copy")
    await make_anonymous(cpu, new, vma, address, Anonymous(cpu.kernel.new_anonymous(), content))
    await put_page(cpu, old)
    return new


async def _read_source(cpu: Cpu, vma: Vma, address: int, page: Page) -> bytes:
    """The kernel reads the whole page, checks it, and returns the 32 bytes that it repeats."""
    kernel = cpu.kernel
    if page.anonymous is not None:
        key: BlockKey = (ANONYMOUS_DISK, page.anonymous.number)
    else:
        key = vma.file.block(vma.expected_index(address))
    ticket = kernel.ledger.begin_load(key)
    outcome = await kernel_access(cpu, page, Load(page.pfn, 0, PAGE_SIZE), "copying a page", ticket)
    copied = page.anonymous.copied if page.anonymous is not None else None
    check_loaded(kernel, page, ticket, outcome, tags=TAGS_PER_PAGE, copied=copied)
    return outcome.data[:TAG_SIZE] if isinstance(outcome, LoadOutcome) else bytes(TAG_SIZE)


async def do_wp_page(cpu: Cpu, vma: Vma, address: int, pte: Pte) -> VmFault:
    """A write to a page that is mapped read-only: use it, if it is ours alone, or copy it."""
    mm = vma.mm
    await cpu.spin_lock(mm.page_table_lock, "ptl")
    old = pte.page
    if old is None or pte.writable:
        await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")
        return VmFault.MINOR
    if vma.shared and cpu.kernel.config.dirty_accounting:
        return await _write_shared(cpu, mm, pte, old)
    if vma.shared or await _ours_alone(cpu, old):
        await _reuse(cpu, pte, old)
        await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")
        return VmFault.MINOR
    await cpu.get_page(old)
    await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")
    await cpu.get_page(old)
    new = await copy_page(cpu, vma, address, old)
    if new is not None:
        await _replace_pte(cpu, vma, pte, old, new)
    await put_page(cpu, old)
    return VmFault.MINOR if new is not None else VmFault.DISCARD


def writable_at_once(cpu: Cpu, vma: Vma) -> bool:
    """Whether ptes to a writable mapping's file pages are writable without a write fault."""
    return vma.shared and not cpu.kernel.config.dirty_accounting


async def _write_shared(cpu: Cpu, mm: Mm, pte: Pte, page: Page) -> VmFault:
    """The first write through a shared pte: the page is dirty from here on. Frees the lock.

    RACE(dirtied-although-discarded): the page may be volatile, and gone; to make its pte
    writable does not tell. Dirty all the same, it has zeroes written to the disk (R25).
    """
    await cpu.get_page(page)
    there = not cpu.kernel.guards.dirty_stable_first or await make_stable(cpu, page)
    if there:
        # Our reference is to count as a stranger's: what will be dirty must not be offered now.
        await check_write(cpu, page, writable=True, offset=1)
        await cpu.point("pte.set", writes("pte", pte.number))
        pte.writable = True
    await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")
    if there:
        await set_page_dirty_lock(cpu, page)
    else:
        await discard_page(cpu, page)
    await put_page(cpu, page)
    return VmFault.MINOR if there else VmFault.DISCARD


async def _ours_alone(cpu: Cpu, page: Page) -> bool:
    """Whether an anonymous page has no other user; the page lock is only tried for."""
    if page.anonymous is None or not await trylock_page(cpu, page):
        return False
    alone = await can_share_swap_page(cpu, page)
    await unlock_page(cpu, page)
    return alone


async def _reuse(cpu: Cpu, pte: Pte, page: Page) -> None:
    """Make the pte writable. The page table lock is held, and no reference but the pte's.

    RACE(check-write-offset): the series' check_write counts on a reference of the caller's
    here, and takes a foreign one for it.
    """
    await check_write(cpu, page, writable=True, offset=unreferenced_offset(cpu))
    await cpu.point("pte.set", writes("pte", pte.number))
    pte.writable = True


def unreferenced_offset(cpu: Cpu) -> int:
    """The offset for check_write where the caller holds no reference besides the pte's."""
    return 1 if cpu.kernel.guards.check_write_offset else 2


async def _replace_pte(cpu: Cpu, vma: Vma, pte: Pte, old: Page, new: Page) -> None:
    """Let the pte map the copy, if it still maps the original."""
    lock = vma.mm.page_table_lock
    await cpu.spin_lock(lock, "ptl")
    await cpu.point("pte.load", reads("pte", pte.number))
    if pte.page is not old:
        await cpu.spin_unlock(lock, "ptl_unlock")
        await put_page(cpu, new)
        return
    await ptep_clear_flush(cpu, pte)
    await page_remove_rmap(cpu, old)
    await put_page(cpu, old)
    await cpu.point("pte.set", writes("pte", pte.number))
    pte.page, pte.writable = new, True
    await page_add_rmap(cpu, new)
    await cpu.spin_unlock(lock, "ptl_unlock")
