"""Swapping: pages to the swap device and back, and when a slot may be given up.

Rules:
- A clean page in the swap cache may be volatile: its content is on the swap device. Whoever
  gives the slot up makes the page stable first, or leaves it alone.
- Under the page table lock nothing here discards a page: its discarder wants that lock.

Models: mm/swapfile.c, mm/swap_state.c and mm/page_io.c of Linux 2.6.15 with the series'
volatile swap cache (v3 2006-04, v4 2006-09).
"""

from __future__ import annotations

from functools import partial

from guest_agent.kernel.checked import check_loaded, report
from guest_agent.kernel.content import ANONYMOUS_DISK, SWAP_DISK, TAGS_PER_PAGE
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.dirty import (
    clear_page_dirty_for_io,
    set_page_dirty,
    set_page_writeback,
)
from guest_agent.kernel.discard import discard_page
from guest_agent.kernel.filemap import end_read
from guest_agent.kernel.mm import SwapEntry
from guest_agent.kernel.page import (
    ANY,
    Anonymous,
    Page,
    PG_swapcache,
    PG_writeback,
    reads,
    writes,
)
from guest_agent.kernel.page_alloc import alloc_page, put_page
from guest_agent.kernel.page_cache import LOOKUP_ROUNDS_MAX, mark_removed
from guest_agent.kernel.page_hva import make_stable
from guest_agent.kernel.page_lock import trylock_page, unlock_page
from guest_agent.kernel.ports import DiskRequest, DiskResult
from guest_agent.kernel.swap_cache import (
    NO_SLOT,
    add_to_swap_cache,
    delete_from_swap_cache,
    find_swap_page_nodiscard,
    get_swap_page,
    release_swap_cache,
    remove_from_swap_cache,
    swap_duplicate_if_used,
    swap_free,
)
from guest_agent.kernel.writeback import end_write
from shared.commands import LoadOutcome

# Finding the page of a slot.


async def lookup_swap_cache(cpu: Cpu, slot: int) -> Page | None:
    """The slot's page, referenced and stable; None if it is not cached or was discarded.

    With patch 4/6 the page comes in the state that it has, and may be discarded.
    """
    if cpu.kernel.config.minor_faults:
        return await find_swap_page_nodiscard(cpu, slot)
    return await find_swap_page(cpu, slot)


async def find_swap_page(cpu: Cpu, slot: int) -> Page | None:
    """find_get_page on swapper_space: referenced and stable, or None. May sleep."""
    page = await find_swap_page_nodiscard(cpu, slot)
    if page is None or not cpu.kernel.guards.stable_lookup:
        return page
    if not await make_stable(cpu, page):
        cpu.kernel.statistics.stable_failed += 1
        await discard_page(cpu, page)
        await put_page(cpu, page)
        return None
    return page


async def read_swap_cache(cpu: Cpu, entry: SwapEntry) -> Page | None:
    """read_swap_cache_async: the slot's page, referenced, read from the swap device if need be.

    A page that is being read is locked until its completion interrupt. None if the slot has
    been freed since the caller saw it.
    """
    fresh: Page | None = None
    for _ in range(LOOKUP_ROUNDS_MAX):
        page = await find_swap_page(cpu, entry.slot)
        if page is None and fresh is None:
            fresh = await alloc_page(cpu)
        if page is not None or not await swap_duplicate_if_used(cpu, entry.slot):
            break
        assert fresh is not None
        if await add_to_swap_cache(cpu, fresh, entry.slot, entry.anonymous):
            await cpu.kernel.lru.add(cpu, fresh)
            _swap_readpage(cpu, fresh, entry.slot)
            return fresh
        await swap_free(cpu, entry.slot)
    else:
        raise KernelBug(f"no progress reading swap slot {entry.slot}")
    if fresh is not None:
        await put_page(cpu, fresh)
    return page


# The device.


def _swap_readpage(cpu: Cpu, page: Page, slot: int) -> None:
    """Submit the read of a locked page; its completion interrupt unlocks it.

    No schedule point: the request is queued behind the point before. Who maps the page checks
    what has come: whoever was overtaken since it read its pte may read a slot that is somebody
    else's by now, or nobody's, and is told so by the pte.
    """
    kernel = cpu.kernel
    kernel.statistics.swap_reads += 1

    def ended(result: DiskResult) -> None:
        if result.failed:
            report(kernel, page, f"swap read of slot {slot} failed")
        else:
            page.swapped_in = LoadOutcome(result.data, result.repeat)
            page.history.append(f"swapped in from slot {slot}")

    kernel.disk.submit(
        DiskRequest(
            SWAP_DISK,
            slot,
            page.pfn,
            False,
            cpu.number,
            partial(end_read, kernel, page),
            ended=ended,
        )
    )


async def swap_writepage(cpu: Cpu, page: Page) -> bool:
    """Start writing a locked, stable page of the swap cache and unlock it.

    False if nothing is to be written: it was clean, or nobody needs its content any more.
    """
    if not await clear_page_dirty_for_io(cpu, page) or await try_to_free_swap(cpu, page):
        await unlock_page(cpu, page)
        return False
    await set_page_writeback(cpu, page)
    if cpu.kernel.guards.writeback_reference:
        await cpu.get_page(page)
    slot, content = page.private, page.anonymous
    await unlock_page(cpu, page)
    assert content is not None
    _submit_write(cpu, page, slot, content)
    return True


def _submit_write(cpu: Cpu, page: Page, slot: int, content: Anonymous) -> None:
    kernel = cpu.kernel
    kernel.statistics.swap_writes += 1
    ticket = kernel.ledger.begin_load((ANONYMOUS_DISK, content.number))

    def ended(result: DiskResult) -> None:
        if result.failed:
            report(kernel, page, f"swap write to slot {slot} failed")
        else:
            outcome = LoadOutcome(result.data, result.repeat)
            check_loaded(kernel, page, ticket, outcome, tags=TAGS_PER_PAGE, copied=content.copied)
            page.history.append(f"swapped out to slot {slot}")

    kernel.disk.submit(
        DiskRequest(
            SWAP_DISK,
            slot,
            page.pfn,
            True,
            cpu.number,
            partial(end_write, kernel, page),
            check=ticket,
            ended=ended,
        )
    )


# Into the swap cache and out of it.


async def add_to_swap(cpu: Cpu, page: Page) -> bool:
    """Give a locked anonymous page a slot; it is dirty then. False if no slot is free."""
    content = page.anonymous
    assert content is not None
    for _ in range(LOOKUP_ROUNDS_MAX):
        slot = await get_swap_page(cpu)
        if slot == NO_SLOT:
            return False
        if await add_to_swap_cache(cpu, page, slot, content):
            await set_page_dirty(cpu, page)
            return True
        # Somebody read this slot ahead of its being freed and taken again.
        await swap_free(cpu, slot)
    raise KernelBug("no progress finding a swap slot")


async def try_to_free_swap(cpu: Cpu, page: Page) -> bool:
    """remove_exclusive_swap_page: give up the slot that nothing but the cache uses.

    The caller holds the page lock and the only other reference. The page is dirty
    afterwards. False if somebody else uses slot or page, or the page turns out discarded.
    """
    flags = await cpu.read_flags(page)
    if not flags & PG_swapcache or flags & PG_writeback:
        return False
    await cpu.point("page.count", reads("count", page.pfn))
    if page.count != 2:
        return False
    swap, slot = cpu.kernel.swap, page.private
    await cpu.spin_lock(swap.lock, "swap_lock")
    await cpu.point("swap_map.load", reads("swap", slot))
    removed = swap.map[slot] == 1 and await _remove_exclusive(cpu, page)
    await cpu.spin_unlock(swap.lock, "swap_unlock")
    if removed:
        await release_swap_cache(cpu, page, slot)
    return removed


async def _remove_exclusive(cpu: Cpu, page: Page) -> bool:
    """Look at the references again under the tree lock, and take the page out of the cache."""
    lock = cpu.kernel.swap.tree_lock
    await cpu.spin_lock(lock, "swap_tree_lock")
    await cpu.point("page.count", reads("count", page.pfn), reads("flags", page.pfn))
    removed = page.count == 2 and not page.flags & PG_writeback
    removed = removed and await _may_free_slot(cpu, page)
    if removed:
        await remove_from_swap_cache(cpu, page)
        await set_page_dirty(cpu, page)
    await cpu.spin_unlock(lock, "swap_tree_unlock")
    return removed


async def _may_free_slot(cpu: Cpu, page: Page) -> bool:
    """Whether the slot's content is safe in the page.

    RACE(slot-freed-too-early): a volatile page has its content on the swap device only in
    the host's eyes; with the slot gone, a discard loses it (R28).
    """
    if cpu.kernel.guards.swap_slot_stable and not await make_stable(cpu, page):
        return False
    return await mark_removed(cpu, page)


async def free_swap_and_cache(cpu: Cpu, entry: SwapEntry) -> None:
    """A pte that named the slot is gone: one user less, and perhaps the cached page with it.

    The caller holds the page table lock. A page that turns out to be discarded stays where it
    is, with its slot, until somebody finds it who may discard it.
    """
    swap = cpu.kernel.swap
    await cpu.spin_lock(swap.lock, "swap_lock")
    await cpu.point("swap_entry_free", writes("swap", entry.slot))
    page = None
    if swap.release(entry.slot) == 1:
        page = await _find_to_free(cpu, entry.slot)
        if page is not None and not await trylock_page(cpu, page):
            await put_page(cpu, page)
            page = None
    await cpu.spin_unlock(swap.lock, "swap_unlock")
    if page is not None:
        await _free_cached(cpu, page)
        await unlock_page(cpu, page)
        await put_page(cpu, page)


async def _find_to_free(cpu: Cpu, slot: int) -> Page | None:
    """The slot's page. RACE(lookup-under-the-page-table-lock): a lookup that stabilises would
    discard the page on the spot, for which it needs locks that the caller holds (R27).
    """
    if cpu.kernel.guards.swap_nodiscard_lookup:
        return await find_swap_page_nodiscard(cpu, slot)
    return await find_swap_page(cpu, slot)


async def _free_cached(cpu: Cpu, page: Page) -> None:
    """Drop a locked page from the swap cache: only the cache uses it, or the device is full."""
    await cpu.point("page.count", reads("count", page.pfn), reads("swap", ANY))
    unused = page.count == 2 or cpu.kernel.swap.full()
    flags = await cpu.read_flags(page)
    if not flags & PG_swapcache or flags & PG_writeback or not unused:
        return
    if await _may_free_slot(cpu, page):
        await delete_from_swap_cache(cpu, page)
        await set_page_dirty(cpu, page)


async def free_swap_cache(cpu: Cpu, page: Page) -> None:
    """Give the slot up if only a pte that is gone used it, and the page lock is free.

    For who is about to drop the reference of an anonymous page's pte, under its lock.
    """
    if await cpu.read_flags(page) & PG_swapcache and await trylock_page(cpu, page):
        await try_to_free_swap(cpu, page)
        await unlock_page(cpu, page)


async def can_share_swap_page(cpu: Cpu, page: Page) -> bool:
    """Whether one process alone uses a locked anonymous page: by a pte, or by its slot."""
    await cpu.point("page.mapcount", reads("mapcount", page.pfn))
    users = page.mapcount
    if users <= 1 and await cpu.read_flags(page) & PG_swapcache:
        swap = cpu.kernel.swap
        await cpu.wait_until(
            lambda: swap.lock.holder is None,
            "page_swapcount",
            reads("lock", swap.lock.number),
            reads("swap", page.private),
        )
        users += swap.map[page.private] - 1  # without the cache
    return users == 1
