"""Swapping: anonymous memory to the swap device and back, shared, volatile and discarded.

Method: one vCPU on the real host core, the swap device in memory; every load is checked
against what was stored.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from guest_agent.kernel.content import ANONYMOUS_DISK, SWAP_DISK, TAGS_PER_PAGE, tag
from guest_agent.kernel.cpu import KernelBug
from guest_agent.kernel.mm import SwapEntry
from guest_agent.kernel.page import Page, PG_dirty, PG_swapcache, PG_writable
from guest_agent.kernel.swap import find_swap_page
from guest_agent.kernel.swap_cache import (
    find_swap_page_nodiscard,
    get_swap_page,
    swap_duplicate,
    swap_free,
)
from guest_agent.kernel.syscalls import sys_exit, sys_fork, sys_mmap, user_load, user_store
from tests.kernel.swap_world import SwapWorld

# Out and in.


def test_more_memory_than_there_is() -> None:
    world = SwapWorld(40, page_count=16, swap_pages=64)
    mm, start = world.mm, world.vma.start

    async def program() -> None:
        for address in range(start, start + 40):
            assert await user_load(world.cpu, mm, address)
        for address in range(start, start + 40, 3):
            assert await user_store(world.cpu, mm, address)

    world.run(program())
    assert world.kernel.statistics.swap_writes >= 25
    assert world.kernel.statistics.swap_reads >= 25
    world.end()


def test_what_is_swapped_out_lies_in_its_slot() -> None:
    world = SwapWorld()
    number = world.page().anonymous
    assert number is not None
    world.run(world.swap_out())
    entry = world.entry()
    assert entry == SwapEntry(1, number)
    stored = tag(ANONYMOUS_DISK, number.number, 1)
    assert world.store.blocks[SWAP_DISK, entry.slot] == (stored, TAGS_PER_PAGE)
    assert world.kernel.swap.map == [0, 1] + 7 * [0]
    assert not world.kernel.swap.pages
    world.end()


def test_a_page_that_was_never_stored_to_comes_back_as_zeroes() -> None:
    world = SwapWorld()

    async def program() -> None:
        vma = await sys_mmap(world.cpu, world.mm, None, 0, 1, writable=True)
        assert await user_load(world.cpu, world.mm, vma.start)
        await world.swap_out()
        entry = world.mm.ptes[vma.start].entry
        assert isinstance(entry, SwapEntry)
        assert world.store.blocks[SWAP_DISK, entry.slot] == (bytes(32), TAGS_PER_PAGE)
        assert await user_load(world.cpu, world.mm, vma.start)

    world.run(program())
    world.end()


def test_a_load_brings_the_page_in_clean_and_keeps_the_slot() -> None:
    world = SwapWorld()

    async def program() -> None:
        await world.swap_out()
        assert await user_load(world.cpu, world.mm, world.vma.start)

    world.run(program())
    page = world.page()
    assert page.flags & PG_swapcache
    assert not page.flags & PG_dirty
    assert world.state(page) == "Vr"
    assert world.kernel.swap.map[page.private] == 1
    assert world.kernel.statistics.major_faults == 1


def test_a_clean_page_leaves_again_without_a_write() -> None:
    world = SwapWorld()

    async def program() -> None:
        await world.swap_out()
        assert await user_load(world.cpu, world.mm, world.vma.start)
        await world.swap_out()
        assert await user_load(world.cpu, world.mm, world.vma.start)

    world.run(program())
    counted = world.kernel.statistics
    assert (counted.swap_writes, counted.swap_reads) == (1, 2)
    world.end()


def test_a_page_stored_to_after_it_came_in_is_written_again() -> None:
    world = SwapWorld()

    async def program() -> None:
        await world.swap_out()
        assert await user_load(world.cpu, world.mm, world.vma.start)
        assert await user_store(world.cpu, world.mm, world.vma.start)
        await world.swap_out()
        assert await user_load(world.cpu, world.mm, world.vma.start)

    world.run(program())
    assert world.kernel.statistics.swap_writes == 2
    world.end()


def test_a_store_finds_the_page_its_own_and_does_not_copy() -> None:
    world = SwapWorld()
    before = world.page().anonymous

    async def program() -> None:
        await world.swap_out()
        assert await user_store(world.cpu, world.mm, world.vma.start)

    world.run(program())
    assert world.page().anonymous is before
    assert world.state(world.page()) == "Pr"
    world.end()


def test_a_full_device_gives_the_slot_up_at_once() -> None:
    world = SwapWorld(swap_pages=4)

    async def program() -> None:
        await world.swap_out()
        slot = world.entry().slot
        world.fill_swap()
        assert await user_load(world.cpu, world.mm, world.vma.start)
        assert world.kernel.swap.map[slot] == 0

    world.run(program())
    page = world.page()
    assert not page.flags & PG_swapcache
    assert page.flags & PG_dirty
    assert world.state(page) == "Sr"
    world.end()


def test_without_a_free_slot_pages_stay() -> None:
    world = SwapWorld(3, swap_pages=2)
    world.run(world.swap_out())
    present = [pte for pte in world.mm.ptes.values() if pte.page is not None]
    assert len(present) == 1
    world.end()


def test_memory_and_device_full_is_the_end() -> None:
    with pytest.raises(KernelBug, match="out of memory"):
        SwapWorld(20, page_count=16, swap_pages=3)


def test_a_damaged_slot_is_an_integrity_error() -> None:
    world = SwapWorld()

    async def program() -> None:
        await world.swap_out()
        world.store.blocks[SWAP_DISK, world.entry().slot] = (tag(0, 99, 1), TAGS_PER_PAGE)
        await user_load(world.cpu, world.mm, world.vma.start)

    world.run(program())
    assert "found disk 0 block 99" in world.kernel.integrity_errors[0].what


def test_a_slot_that_holds_the_page_of_another_is_an_integrity_error() -> None:
    world = SwapWorld(2)

    async def program() -> None:
        await world.swap_out()
        assert await user_load(world.cpu, world.mm, world.vma.start)
        slot = world.page().private
        mine, other = world.mm.ptes[world.vma.start + 1], world.entry(number=1)
        await swap_duplicate(world.cpu, slot)
        mine.entry = SwapEntry(slot, other.anonymous)
        await user_load(world.cpu, world.mm, world.vma.start + 1)

    world.run(program())
    assert "does not hold anonymous page" in world.kernel.integrity_errors[0].what


# Slots.


def test_slots_go_round_and_are_counted() -> None:
    world = SwapWorld(swap_pages=3)

    async def program() -> None:
        cpu, swap = world.cpu, world.kernel.swap
        slots = [await get_swap_page(cpu) for _ in range(4)]
        assert slots == [1, 2, 3, 0]
        await swap_duplicate(cpu, 2)
        await swap_free(cpu, 1)
        await swap_free(cpu, 2)
        assert swap.map == [0, 0, 1, 1]
        assert await get_swap_page(cpu) == 1
        assert swap.free == 0

    world.run(program())


def test_a_free_slot_is_neither_duplicated_nor_freed() -> None:
    world = SwapWorld()
    with pytest.raises(KernelBug, match="slot 3 is free"):
        world.run(swap_duplicate(world.cpu, 3))
    with pytest.raises(KernelBug, match="slot 3 is free already"):
        world.run(swap_free(world.cpu, 3))


def test_exit_gives_every_slot_back() -> None:
    world = SwapWorld(12, page_count=10, swap_pages=16)

    async def program() -> None:
        child = await sys_fork(world.cpu, world.mm)
        for address in range(world.vma.start, world.vma.end, 2):
            assert await user_store(world.cpu, child, address)
        assert any(world.kernel.swap.map)
        await sys_exit(world.cpu, child)
        await sys_exit(world.cpu, world.mm)
        await world.swap_out()

    world.run(program())
    assert not any(world.kernel.swap.map)
    assert world.kernel.swap.free == 16
    assert not world.kernel.swap.pages
    assert not world.kernel.lru.pages


# Shared over fork.


def test_parent_and_child_find_one_page_in_the_swap_cache() -> None:
    world = SwapWorld()

    async def program() -> None:
        child = await world.shared_and_swapped()
        assert world.kernel.swap.map[world.entry().slot] == 2
        assert await user_load(world.cpu, world.mm, world.vma.start)
        assert world.page() is world.page(child)
        assert world.page().mapcount == 2
        assert await user_store(world.cpu, child, world.vma.start)
        assert world.page() is not world.page(child)
        assert await user_load(world.cpu, world.mm, world.vma.start)

    world.run(program())
    assert world.kernel.statistics.swap_reads == 1
    world.end()


def test_a_store_by_one_process_copies_what_the_other_still_has_on_the_device() -> None:
    world = SwapWorld()

    async def program() -> None:
        child = await sys_fork(world.cpu, world.mm)
        await world.swap_out()
        assert await user_store(world.cpu, child, world.vma.start)
        assert world.page(child).anonymous != world.entry().anonymous
        assert await user_load(world.cpu, world.mm, world.vma.start)

    world.run(program())
    world.end()


# The volatile swap cache.


def test_a_discarded_page_of_the_swap_cache_is_read_again() -> None:
    world = SwapWorld()

    async def program() -> None:
        await world.swap_out()
        assert await user_load(world.cpu, world.mm, world.vma.start)
        page = world.page()
        world.evict(page.pfn)
        assert world.state(page) == "Vz"
        assert await user_load(world.cpu, world.mm, world.vma.start)
        assert world.page() is not page
        assert page in world.kernel.grace.pages

    world.run(program())
    counted = world.kernel.statistics
    assert (counted.discard_faults, counted.pages_discarded, counted.swap_reads) == (1, 1, 2)
    world.end()


def test_a_lookup_discards_what_the_host_has_discarded() -> None:
    world = SwapWorld()

    async def program() -> None:
        child = await world.shared_and_swapped()
        page = world.page(child)
        world.evict(page.pfn)
        assert await user_load(world.cpu, world.mm, world.vma.start)
        assert page.mapcount == 0
        assert world.kernel.statistics.stable_failed == 1
        assert world.kernel.statistics.discard_faults == 0
        assert await user_load(world.cpu, child, world.vma.start)

    world.run(program())
    world.end()


def test_a_page_with_newer_content_than_its_slot_is_preserved() -> None:
    world = SwapWorld()

    async def program() -> None:
        await world.swap_out()
        assert await user_store(world.cpu, world.mm, world.vma.start)
        page = world.page()
        assert page.flags & PG_writable
        assert world.kernel.swap.pages[page.private] is page
        world.evict(page.pfn)
        assert world.state(page) == "Sp"

    world.run(program())
    world.end()


def test_with_minor_faults_a_discarded_page_is_mapped_and_found_out_by_the_access() -> None:
    world = SwapWorld(minor_faults=True)

    async def program() -> None:
        child = await world.shared_and_swapped()
        world.evict(world.page(child).pfn)
        assert await user_load(world.cpu, world.mm, world.vma.start)

    world.run(program())
    counted = world.kernel.statistics
    assert (counted.discard_faults, counted.stable_failed) == (1, 0)
    world.end()


def test_a_lookup_of_an_empty_slot_finds_nothing() -> None:
    world = SwapWorld()
    found: list[Page | None] = []

    async def look(find: Callable[..., Coroutine[Any, Any, Page | None]]) -> None:
        found.append(await find(world.cpu, 5))

    world.run(look(find_swap_page))
    world.run(look(find_swap_page_nodiscard))
    assert found == [None, None]
