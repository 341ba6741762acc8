"""Host virtual assist: when a page is stable and when it is volatile.

Rules:
- To stable is mandatory and immediate, and may fail: then the page is gone. To volatile
  may be skipped at any time; a page that stays stable is always right.
- Whoever needs a page's content first takes a reference, or the page lock, and then makes
  it stable; otherwise the next make_volatile takes it away again (R2).

Models: mm/page_hva.c of the "page host virtual assist" series, 2005-12-16
(patches 1/6 and 3/6); `RACE` marks name the rows of the race catalogue.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.page import (
    Page,
    PG_dirty,
    PG_discarded,
    PG_locked,
    PG_private,
    PG_reserved,
    PG_state_change,
    PG_swapcache,
    PG_uptodate,
    PG_writable,
    PG_writeback,
    reads,
)
from shared.arch import STATE_MASK, VZ, Orc

_BLOCKING_FLAGS = PG_dirty | PG_reserved | PG_writeback | PG_locked | PG_discarded


def is_discarded(state: int) -> bool:
    """page_hva_discarded's test of an ESSA result: usage V and content z."""
    return state & STATE_MASK == VZ


async def make_stable(cpu: Cpu, page: Page) -> bool:
    """Make the page stable; False if the host has discarded it.

    The caller holds a reference or the page lock, taken before. Spins while another vCPU
    is inside make_volatile, so it must not be called where it could interrupt one.
    """
    if not cpu.kernel.volatile_hints:
        return True
    if cpu.kernel.guards.state_change:
        # RACE(make-stable-overtakes): a make_volatile that has read its conditions will
        # issue its ESSA; waiting here puts ours after it.
        await cpu.wait_flag_clear(page, PG_state_change, "make_stable.wait")
    if cpu.kernel.guards.stable_if_resident:
        return not is_discarded(await cpu.essa(Orc.SET_STABLE_IF_RESIDENT, page))
    # RACE(test-then-set): the host discards the page between the two, and setting it stable
    # makes an empty page of it (R3).
    if is_discarded(await cpu.essa(Orc.GET_STATE, page)):
        return False
    await cpu.essa(Orc.SET_STABLE, page)
    return True


async def make_volatile(cpu: Cpu, page: Page, offset: int) -> None:
    """Offer the page to the host for discarding, unless something forbids it.

    offset: references that are no mappings and that the caller can account for: 1 for the
    page cache's, 2 for that and the caller's own. Losing PG_state_change to another vCPU
    is no error: interrupts call this too, and waiting would dead-lock them (R22).
    """
    kernel = cpu.kernel
    if not kernel.volatile_hints or await cpu.read_flags(page) & PG_discarded:
        return
    if kernel.guards.state_change and not await _try_state_change(cpu, page):
        return
    if await _discardable(cpu, page, offset):
        await _set_volatile(cpu, page, writable=bool(await cpu.read_flags(page) & PG_writable))
    if kernel.guards.state_change:
        await cpu.clear_flag(page, PG_state_change)


async def _try_state_change(cpu: Cpu, page: Page) -> bool:
    """TestSetPageStateChange; whoever loses leaves the page as it is."""
    if not cpu.kernel.guards.state_change_trylock:
        # RACE(interrupted-holder): an interrupt that waits here for the vCPU that it has
        # interrupted waits for ever (R22).
        await cpu.wait_and_set_flag(page, PG_state_change, "make_volatile.wait")
        return True
    return not await cpu.test_and_set_flag(page, PG_state_change)


async def _set_volatile(cpu: Cpu, page: Page, *, writable: bool) -> None:
    orc = Orc.SET_POTENTIAL_VOLATILE if writable else Orc.SET_VOLATILE
    await cpu.essa(orc, page)
    cpu.kernel.statistics.made_volatile += 1


async def _discardable(cpu: Cpu, page: Page, offset: int) -> bool:
    """The ten conditions, as the separate loads that they are.

    1 reserved 2 dirty 3 writeback 4 locked 5 anonymous, unless in the swap cache 6 no
    mapping, or one that mlock has marked 7 not uptodate 8 private 9 discarded
    10 mapcount != count - offset.
    """
    guards = cpu.kernel.guards
    if not guards.flags_after_counts and not await _flags_allow(cpu, page):
        return False
    if not guards.flags_after_counts and not await _has_mapping(cpu, page):
        return False
    if not await _counts_agree(cpu, page, offset):
        return False
    # RACE(dirtied-behind-the-flags): who dirties a page holds a reference meanwhile. With
    # the counts read first, either they show it, or its effect shows in the flags.
    return not guards.flags_after_counts or (
        await _flags_allow(cpu, page) and await _has_mapping(cpu, page)
    )


async def _flags_allow(cpu: Cpu, page: Page) -> bool:
    flags = await cpu.read_flags(page)
    blocking = _BLOCKING_FLAGS | (PG_private if cpu.kernel.guards.private_blocks else 0)
    return not flags & blocking and bool(flags & PG_uptodate)


async def _has_mapping(cpu: Cpu, page: Page) -> bool:
    """A file that mlock has not marked, or the swap cache, has the content."""
    await cpu.point("page.mapping", reads("mapping", page.pfn), reads("mlocked"))
    if page.anonymous is not None:
        return bool(await cpu.read_flags(page) & PG_swapcache)
    return page.mapping is not None and not page.mapping.mlocked


async def _counts_agree(cpu: Cpu, page: Page, offset: int) -> bool:
    """Condition 10: no reference besides the mappings' and the `offset` known ones."""
    if cpu.kernel.guards.counts_in_one_load:
        await cpu.point("page.counts", reads("mapcount", page.pfn), reads("count", page.pfn))
        return page.mapcount == page.count - offset
    # RACE(counts-apart): an unmap between the two loads makes a foreign reference look
    # like the mapping's.
    await cpu.point("page.mapcount", reads("mapcount", page.pfn))
    mapcount = page.mapcount
    await cpu.point("page.count", reads("count", page.pfn))
    if mapcount > page.count - offset and not cpu.kernel.guards.tolerant_compare:
        raise KernelBug(f"BUG_ON(mapcount {mapcount} > count - {offset}): {page.describe()}")
    return mapcount == page.count - offset


async def check_write(cpu: Cpu, page: Page, *, writable: bool, offset: int = 2) -> None:
    """Before a writable pte is set: from now on the host must look at the change bit (R7).

    A page that qualifies becomes potential volatile; one that does not is made stable,
    because it might be volatile all the same (R8). Called under the page table lock by the
    holder of a reference.
    """
    kernel = cpu.kernel
    if not (writable and kernel.volatile_hints and kernel.guards.check_write):
        return
    if await cpu.read_flags(page) & PG_writable:
        return
    await _take_state_change(cpu, page)
    if not await cpu.read_flags(page) & PG_writable:
        if await _discardable(cpu, page, offset):
            await _set_volatile(cpu, page, writable=True)
        elif kernel.guards.check_write_stable:
            await cpu.essa(Orc.SET_STABLE_IF_RESIDENT, page)
        await cpu.set_flag(page, PG_writable)
    await cpu.clear_flag(page, PG_state_change)


async def _take_state_change(cpu: Cpu, page: Page) -> None:
    if cpu.kernel.guards.check_write_waits:
        await cpu.wait_and_set_flag(page, PG_state_change, "check_write.wait")
        return
    # RACE(inverted-loop): as the series has it, `while (!TestSet)`: a free bit is taken on
    # the first turn and left on the second; a bit that is held is fallen through.
    while not await cpu.test_and_set_flag(page, PG_state_change):
        pass


async def reset_write(cpu: Cpu, page: Page) -> None:
    """After the last unmap: V will do again. Giving up is harmless, the page stays P-capable.

    The caller still holds the reference of the pte it has removed.
    """
    if not cpu.kernel.volatile_hints or not await cpu.read_flags(page) & PG_writable:
        return
    if await cpu.test_and_set_flag(page, PG_state_change):
        return
    if await _nobody_maps(cpu, page):
        await cpu.clear_flag(page, PG_writable)
    await cpu.clear_flag(page, PG_state_change)


async def _nobody_maps(cpu: Cpu, page: Page) -> bool:
    """Whether only the page cache and our late pte refer to the page.

    RACE(writable-flag-taken-away): another vCPU may be through with check_write and about
    to map the page writable; PG_writable is then its flag. It shows as a reference, or as a
    mapping already. Whoever takes one later waits in check_write for PG_state_change.
    """
    if not cpu.kernel.guards.reset_write_counts:
        return True
    await cpu.point("page.counts", reads("mapcount", page.pfn), reads("count", page.pfn))
    return page.mapcount == 0 and page.count == 2
