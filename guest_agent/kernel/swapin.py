"""The fault on a pte whose page is on the swap device.

Rules:
- The page is locked from before the pte is looked at again until it is mapped; a page that
  had to be given up is discarded only after its lock is.

Models: do_swap_page of mm/memory.c, Linux 2.6.15, with the series' volatile swap cache (v3)
and patch 4/6.
"""

from __future__ import annotations

from functools import partial

from guest_agent.kernel.checked import judge, report
from guest_agent.kernel.content import (
    ANONYMOUS_DISK,
    TAGS_PER_PAGE,
    LoadTicket,
    content_resource,
)
from guest_agent.kernel.cow import do_wp_page
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.discard import discard_page
from guest_agent.kernel.mm import Pte, SwapEntry, Vma
from guest_agent.kernel.page import (
    ANY,
    Page,
    PG_swapcache,
    PG_uptodate,
    reads,
    writes,
)
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_hva import check_write, make_stable
from guest_agent.kernel.page_lock import lock_page, unlock_page
from guest_agent.kernel.rmap import page_add_rmap
from guest_agent.kernel.swap import (
    can_share_swap_page,
    lookup_swap_cache,
    read_swap_cache,
    try_to_free_swap,
)
from guest_agent.kernel.swap_cache import swap_free
from guest_agent.kernel.vmfault import VmFault


async def do_swap_page(cpu: Cpu, vma: Vma, address: int, pte: Pte, *, write: bool) -> VmFault:
    """Bring the page in and map it; a write goes on to do_wp_page if others share the page.

    Called with the pte just read. MINOR too where somebody was faster: the access comes again.
    """
    entry = pte.entry
    assert isinstance(entry, SwapEntry)
    page = await lookup_swap_cache(cpu, entry.slot)
    fault = VmFault.MINOR
    if page is None:
        page = await read_swap_cache(cpu, entry)
        if page is None:
            return await _slot_is_gone(cpu, vma, pte, entry)
        fault = VmFault.MAJOR
    await cpu.kernel.lru.mark_accessed(cpu, page)
    await lock_page(cpu, page)
    if not await _still_in_slot(cpu, page, entry):
        await unlock_page(cpu, page)
        await put_page(cpu, page)
        return VmFault.MINOR
    if write and cpu.kernel.config.minor_faults and not await make_stable(cpu, page):
        # The lookup did not look at the state; a page that is to be written to has to be there.
        return await _give_up_discarded(cpu, page)
    mapped = await _map_swap_page(cpu, vma, address, pte, entry, page, write=write)
    if mapped is not VmFault.MINOR:
        return mapped
    if write:
        await cpu.point("pte.load", reads("pte", pte.number))
        if not pte.writable:
            copied = await do_wp_page(cpu, vma, address, pte)
            return fault if copied is VmFault.MINOR else copied
    return fault


async def _slot_is_gone(cpu: Cpu, vma: Vma, pte: Pte, entry: SwapEntry) -> VmFault:
    """The slot has no user any more: then neither may our pte name it. One lock, one look."""
    lock = vma.mm.page_table_lock
    await cpu.spin_lock(lock, "ptl")
    await cpu.point("pte.load", reads("pte", pte.number))
    if pte.page is None and pte.entry == entry:
        raise KernelBug(f"pte {pte.number} names swap slot {entry.slot}, which is free")
    await cpu.spin_unlock(lock, "ptl_unlock")
    return VmFault.MINOR


async def _still_in_slot(cpu: Cpu, page: Page, entry: SwapEntry) -> bool:
    """With the page locked: it is in the swap cache still, and at our slot. One step.

    That it was not discarded since it was found (R13) is in it: its discarder had the lock.
    """
    await cpu.point("page.private", reads("flags", page.pfn), reads("private", page.pfn))
    return bool(page.flags & PG_swapcache) and page.private == entry.slot


async def _give_up_discarded(cpu: Cpu, page: Page) -> VmFault:
    """Take a locked page that the host has discarded out of the swap cache.

    RACE(discard-under-the-page-lock): discard_page takes the page lock itself (R26).
    """
    cpu.kernel.statistics.stable_failed += 1
    early = cpu.kernel.guards.unlock_before_discard
    if early:
        await unlock_page(cpu, page)
    await discard_page(cpu, page)
    if not early:
        await unlock_page(cpu, page)
    await put_page(cpu, page)
    return VmFault.DISCARD


async def _map_swap_page(
    cpu: Cpu, vma: Vma, address: int, pte: Pte, entry: SwapEntry, page: Page, *, write: bool
) -> VmFault:
    """Under the page table lock: set the pte, unless it has changed; unlocks the page.

    The caller's reference becomes the pte's, or is dropped.
    """
    lock = vma.mm.page_table_lock
    await cpu.spin_lock(lock, "ptl")
    await cpu.point("pte.load", reads("pte", pte.number))
    same = pte.page is None and pte.entry == entry
    flags = await cpu.read_flags(page)
    if not same or not flags & PG_uptodate:
        await cpu.spin_unlock(lock, "ptl_unlock")
        await unlock_page(cpu, page)
        await put_page(cpu, page)
        return VmFault.SIGBUS if same and not flags & PG_uptodate else VmFault.MINOR
    writable = write and vma.writable and await can_share_swap_page(cpu, page)
    await check_write(cpu, page, writable=writable)
    key = ANONYMOUS_DISK, entry.anonymous.number
    await cpu.point(
        "pte.set",
        writes("pte", pte.number),
        writes("mapping", page.pfn),
        reads(*content_resource(key)),
    )
    _check_content(cpu, page, entry, cpu.kernel.ledger.begin_load(key))
    pte.page, pte.writable, pte.entry = page, writable, None
    await _set_anon_rmap(cpu, page, vma, address)
    await page_add_rmap(cpu, page)
    await swap_free(cpu, entry.slot)
    await cpu.point("vm_swap_full", reads("swap", ANY))
    if cpu.kernel.swap.full():
        await try_to_free_swap(cpu, page)
    await unlock_page(cpu, page)
    await cpu.spin_unlock(lock, "ptl_unlock")
    return VmFault.MINOR


def _check_content(cpu: Cpu, page: Page, entry: SwapEntry, ticket: LoadTicket) -> None:
    """Report a page that is not what our pte stands for.

    Whose content was read, only the first pte that comes to it can say: who read it may have
    named an owner that the slot had before.
    """
    kernel, seen = cpu.kernel, page.swapped_in
    if seen is not None:
        page.anonymous, page.swapped_in = entry.anonymous, None
        admits, copied = partial(kernel.ledger.explains, ticket), entry.anonymous.copied
        found = judge(ticket, seen, admits, tags=TAGS_PER_PAGE, copied=copied)
        if isinstance(found, str):
            report(kernel, page, found)
    elif page.anonymous != entry.anonymous:
        expected = entry.anonymous.number
        report(kernel, page, f"swap slot {entry.slot} does not hold anonymous page {expected}")


async def _set_anon_rmap(cpu: Cpu, page: Page, vma: Vma, address: int) -> None:
    """__page_set_anon_rmap, for the first pte of the page: where unmap will look. One step."""
    await cpu.point("page.set_anon_rmap", reads("mapcount", page.pfn), writes("mapping", page.pfn))
    if not page.mapcount:
        page.anon_vma, page.index = vma.anon_vma, vma.index(address)
