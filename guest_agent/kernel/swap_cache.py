"""The swap map and the swap cache: which slots are in use, and which pages hold their content.

Rules:
- A slot's count is the number of ptes that name it, and one more while its page is in the
  swap cache. It is free at 0; slot 0 does not exist.
- swap_lock covers the map, the tree lock the cache. A page enters and leaves the cache only
  under its page lock.

Models: swap_map of mm/swapfile.c and swapper_space of mm/swap_state.c, Linux 2.6.15.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.page import (
    ANY,
    Anonymous,
    Page,
    PG_locked,
    PG_swapcache,
    SpinLock,
    reads,
    writes,
)

NO_SLOT = 0


class Swap:
    """swap_info_struct and swapper_space of the guest's one swap device.

    map: users by slot; the entry of slot 0 is not used. pages: the swap cache, by slot. cursor:
    where the search for a free slot begins. free: how many slots are.
    """

    def __init__(self, page_count: int, lock: SpinLock, tree_lock: SpinLock) -> None:
        self.page_count = page_count
        self.lock = lock
        self.tree_lock = tree_lock
        self.map = [0] * (page_count + 1)
        self.pages: dict[int, Page] = {}
        self.cursor = 1
        self.free = page_count

    def full(self) -> bool:
        """vm_swap_full: more than half of the slots are in use."""
        return 2 * self.free < self.page_count

    def take(self) -> int:
        """scan_swap_map: a free slot, now with a count of 1, or NO_SLOT."""
        if not self.free:
            return NO_SLOT
        try:
            slot = self.map.index(0, self.cursor)
        except ValueError:
            slot = self.map.index(0, 1)
        self.map[slot] = 1
        self.cursor = slot + 1
        self.free -= 1
        return slot

    def release(self, slot: int) -> int:
        """swap_entry_free: one user less; returns how many are left. BUG for a free slot."""
        if slot == NO_SLOT or not self.map[slot]:
            raise KernelBug(f"swap_free: slot {slot} is free already")
        self.map[slot] -= 1
        self.free += not self.map[slot]
        return self.map[slot]


async def _map_step(cpu: Cpu, label: str, slot: int) -> Swap:
    """Stand before a short critical section of swap_lock, as one step."""
    swap = cpu.kernel.swap
    if swap.lock.held_by(cpu.number):
        raise KernelBug(f"dead-lock: vcpu {cpu.number} holds swap_lock and wants it for {label}")
    await cpu.wait_until(
        lambda: swap.lock.holder is None,
        label,
        reads("lock", swap.lock.number),
        writes("swap", slot),
    )
    return swap


async def get_swap_page(cpu: Cpu) -> int:
    """A free slot, with one user: its page in the swap cache; NO_SLOT if there is none.

    One step.
    """
    return (await _map_step(cpu, "get_swap_page", ANY)).take()


async def swap_duplicate(cpu: Cpu, slot: int) -> None:
    """One more pte names the slot. One step. Raises KernelBug for a free slot."""
    if not await swap_duplicate_if_used(cpu, slot):
        raise KernelBug(f"swap_duplicate: slot {slot} is free")


async def swap_duplicate_if_used(cpu: Cpu, slot: int) -> bool:
    """One more user, or False for a slot that was freed meanwhile. One step."""
    swap = await _map_step(cpu, "swap_duplicate", slot)
    if slot == NO_SLOT or not swap.map[slot]:
        return False
    swap.map[slot] += 1
    return True


async def swap_free(cpu: Cpu, slot: int) -> None:
    """One user of the slot less; the last one frees it. One step."""
    (await _map_step(cpu, "swap_free", slot)).release(slot)


async def find_swap_page_nodiscard(cpu: Cpu, slot: int) -> Page | None:
    """find_get_page_nodiscard on swapper_space: referenced, in whatever state it is. One step."""
    swap = cpu.kernel.swap
    await cpu.wait_until(
        lambda: swap.tree_lock.holder is None,
        "find_swap_page",
        reads("lock", swap.tree_lock.number),
        reads("swap", slot),
        writes("count", ANY),
    )
    page = swap.pages.get(slot)
    if page is not None:
        page.count += 1
    return page


async def add_to_swap_cache(cpu: Cpu, page: Page, slot: int, content: Anonymous) -> bool:
    """__add_to_swap_cache: the page holds the slot's content from now on, and is locked.

    False if another page does. The caller has counted the cache as a user of the slot; a
    page that is anonymous already is locked already. One step.
    """
    swap = cpu.kernel.swap
    await cpu.wait_until(
        lambda: swap.tree_lock.holder is None,
        "add_to_swap_cache",
        reads("lock", swap.tree_lock.number),
        writes("swap", slot),
        writes("flags", page.pfn),
        writes("count", page.pfn),
        writes("private", page.pfn),
        writes("mapping", page.pfn),
    )
    if slot in swap.pages:
        return False
    if page.flags & PG_swapcache:
        raise KernelBug(f"page is in the swap cache already: {page.describe()}")
    swap.pages[slot] = page
    page.flags |= PG_swapcache | PG_locked
    page.count += 1
    page.private = slot
    page.anonymous, page.swapped_in = content, None
    page.history.append(f"vcpu{cpu.number} in the swap cache at slot {slot}")
    return True


async def remove_from_swap_cache(cpu: Cpu, page: Page) -> int:
    """__delete_from_swap_cache: the slot, whose count and the page reference the caller drops.

    The caller holds the page lock and the tree lock. One step.
    """
    swap, slot = cpu.kernel.swap, page.private
    await cpu.point(
        "swap_cache.delete",
        writes("swap", slot),
        writes("flags", page.pfn),
        writes("private", page.pfn),
    )
    in_cache = page.flags & PG_swapcache and swap.pages.get(slot) is page
    if not in_cache or not page.flags & PG_locked:
        raise KernelBug(f"page is not in the swap cache, or not locked: {page.describe()}")
    del swap.pages[slot]
    page.flags &= ~PG_swapcache
    page.private = NO_SLOT
    page.history.append(f"vcpu{cpu.number} out of the swap cache, slot {slot}")
    return slot


async def delete_from_swap_cache(cpu: Cpu, page: Page) -> None:
    """Take a locked page out of the cache, with the slot's use and the reference of the cache.

    Who may do so, the caller has settled: the discarder by PG_discarded, others by
    mark_removed. The caller holds a reference of its own.
    """
    lock = cpu.kernel.swap.tree_lock
    await cpu.spin_lock(lock, "swap_tree_lock")
    slot = await remove_from_swap_cache(cpu, page)
    await cpu.spin_unlock(lock, "swap_tree_unlock")
    await release_swap_cache(cpu, page, slot)


async def release_swap_cache(cpu: Cpu, page: Page, slot: int) -> None:
    """Drop what the cache held of a page that has just left it. Two steps."""
    await swap_free(cpu, slot)
    if await cpu.put_page_testzero(page):
        raise KernelBug(f"removed from the swap cache without a reference: {page.describe()}")
