"""Discarded pages: their removal from the page cache, and the discard fault.

Rules:
- The page lock and PG_discarded see to it that a page is removed once, however many vCPUs
  fault on it.
- A vCPU that waits for its fault counts as disabled for interrupts until it holds a
  reference to the page or was refused one; the grace period of freed pages rests on that.

Models: page_hva_discard_page of mm/vmscan.c (patch 1/6, 2005-12-16) and do_discard_fault of
arch/s390/mm/fault.c (patch 6/6).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.page import (
    Page,
    PG_dirty,
    PG_discarded,
    PG_private,
    PG_swapcache,
    PG_writeback,
    reads,
    writes,
)
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_lock import lock_page, unlock_page
from guest_agent.kernel.ports import Check
from guest_agent.kernel.rmap import unmap_all
from guest_agent.kernel.swap_cache import delete_from_swap_cache
from shared.arch import PAGE_SHIFT
from shared.commands import DiscardFault, FaultPending, Load, Outcome, Store


async def discard_page(cpu: Cpu, page: Page) -> None:
    """Take a page whose content the host has discarded out of the page cache.

    The caller holds a reference and releases it afterwards; the last put sends the page to
    the discarded list. page->mapping stays, because later discard faults on the same page
    still have ptes to unmap. May sleep.
    """
    await lock_page(cpu, page)
    # RACE(concurrent-discard-faults): two vCPUs come here for one page; whoever sets
    # PG_discarded removes it. The bit is set before the unmapping, so that nobody maps a
    # page behind unmap_all's back and makes it volatile again.
    early = cpu.kernel.guards.discarded_before_unmap
    already = early and await cpu.test_and_set_flag(page, PG_discarded)
    await cpu.point("page.mapcount", reads("mapcount", page.pfn))
    if page.mapcount:
        await unmap_all(cpu, page)
    already = already or (not early and await cpu.test_and_set_flag(page, PG_discarded))
    if not already or not cpu.kernel.guards.test_set_discarded:
        await _remove_discarded(cpu, page)
    await unlock_page(cpu, page)


async def _remove_discarded(cpu: Cpu, page: Page) -> None:
    """The part of __page_hva_discard_page that must happen once."""
    kernel = cpu.kernel
    await kernel.lru.remove(cpu, page)
    flags = await cpu.read_flags(page)
    if flags & (PG_writeback | PG_dirty | PG_private):
        raise KernelBug(f"discard of a page in use: {page.describe()}")
    if flags & PG_swapcache:
        await delete_from_swap_cache(cpu, page)
        _discarded(cpu, page)
        return
    mapping = page.mapping
    if mapping is None:
        raise KernelBug(f"discard of a page without mapping: {page.describe()}")
    await cpu.spin_lock(mapping.tree_lock, "tree_lock")
    await cpu.point(
        "page_tree.delete", writes("page_tree", mapping.number), writes("mapping", page.pfn)
    )
    kernel.forget(mapping, page)
    if not kernel.guards.discard_keeps_mapping:
        page.mapping = None
    await cpu.spin_unlock(mapping.tree_lock, "tree_unlock")
    _discarded(cpu, page)
    if await cpu.put_page_testzero(page):
        raise KernelBug(f"discard without a reference: {page.describe()}")


def _discarded(cpu: Cpu, page: Page) -> None:
    cpu.kernel.statistics.pages_discarded += 1
    page.history.append(f"vcpu{cpu.number} discarded")


async def get_page_if_present(cpu: Cpu, page: Page) -> bool:
    """Take a reference unless the page is free: one compare-and-swap loop, one step."""
    # The caller settles its fault in this step.
    await cpu.point("page.get_if_present", writes("count", page.pfn), writes("fault", cpu.number))
    # RACE(free-page-resurrected): without the test a page on the free list comes back to
    # life with one reference (R18).
    if page.count <= 0 and cpu.kernel.guards.reference_if_present:
        return False
    page.count += 1
    return True


async def do_discard_fault(cpu: Cpu, fault: DiscardFault) -> None:
    """Program interruption 0x1a; entered with interrupts disabled, returns with them enabled.

    The address is absolute: the page it names may have been freed and reused since. The
    grace period keeps it from being reused until this vCPU is enabled again (R17).
    """
    kernel = cpu.kernel
    page = kernel.mem_map[fault.address >> PAGE_SHIFT]
    page = page.head or page  # a compound page has its count in the first one
    kernel.statistics.discard_faults += 1
    if not kernel.guards.fault_irqs_off:
        cpu.irq_off -= 1
        await cpu.point("discard_fault.enabled_early")
        cpu.irq_off += 1
    present = await get_page_if_present(cpu, page)
    kernel.link.fault_settled(fault.number)
    cpu.irq_off -= 1
    if present:
        await discard_page(cpu, page)
        await put_page(cpu, page)


async def storage_access(
    cpu: Cpu, command: Load | Store, check: Check | None = None
) -> Outcome | None:
    """One access by an instruction; None if a discard fault nullified it and was handled.

    The vCPU is disabled for interrupts from the submission until the outcome is known and,
    after a fault, until the handler enables them.
    """
    cpu.irq_off += 1
    outcome = await cpu.call(command, check)
    if not isinstance(outcome, FaultPending):
        cpu.irq_off -= 1
        return outcome
    if check is not None:
        check.nullified()
    if cpu.translation is not None:
        await end_translation(cpu)
    await do_discard_fault(cpu, await await_fault(cpu, outcome.fault, command.pfn))
    return None


async def await_fault(cpu: Cpu, number: int, pfn: int) -> DiscardFault:
    """Wait for the program interruption in which an access to the page has ended. One step.

    RACE(freed-while-fault-pending): an instruction and its interruption are one moment to
    a guest. Here a message is under way between the two, however long it takes, and a grace period
    that ended meanwhile would let the page be reused that the fault is about.
    """
    arrived = cpu.kernel.arrived_faults
    depth = cpu.irq_off
    if not cpu.kernel.guards.pending_fault_irqs_off:
        cpu.local_irq_restore(0)
    await cpu.wait_until(
        lambda: number in arrived,
        "discard_fault.arrive",
        writes("fault", cpu.number),
        reads("private", pfn),  # whether the page is part of a compound one
    )
    cpu.local_irq_restore(depth)
    return arrived.pop(number)


async def end_translation(cpu: Cpu) -> None:
    """The access is over, or nullified: ptep_clear_flush need not wait for it any more."""
    pte = cpu.translation
    if pte is None:
        raise KernelBug(f"vcpu {cpu.number} has no translation under way")
    await cpu.point("translation.end", writes("tlb", pte.number))
    cpu.translation = None
