"""Reclaim: what ages how on the two lists, what is passed over, and what a discard leaves.

Method: one vCPU on the real host core, reclaim called by hand or by allocations; the one test
of two vCPUs goes through every schedule of its steps.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from guest_agent.kernel.buffers import create_empty_buffers
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.guards import FIXED, Guards
from guest_agent.kernel.kernel import KernelConfig
from guest_agent.kernel.lru import DEF_PRIORITY, LruKind
from guest_agent.kernel.page import (
    Page,
    PG_active,
    PG_dirty,
    PG_discarded,
    PG_lru,
    PG_private,
    PG_referenced,
)
from guest_agent.kernel.page_alloc import alloc_page, put_page
from guest_agent.kernel.page_hva import make_stable
from guest_agent.kernel.page_lock import lock_page, unlock_page
from guest_agent.kernel.syscalls import (
    sys_mmap,
    sys_munmap,
    sys_read,
    sys_write,
    user_load,
    user_store,
)
from guest_agent.kernel.vmscan import shrink_cache, try_to_free_pages
from race_explorer.exhaustive import Report, explore
from race_explorer.world import SimWorld
from tests.kernel.world import World

Program = Coroutine[Any, Any, None]


def on(world: World, page: Page) -> str:
    """Which list the page is on; its flags agree."""
    lru = world.kernel.lru
    names = [
        n for n, pages in (("active", lru.active), ("inactive", lru.inactive)) if page.pfn in pages
    ]
    assert bool(page.flags & PG_lru) is bool(names)
    if not names:
        return "none"
    assert names == ["active" if page.flags & PG_active else "inactive"]
    return names[0]


def read(world: World, *indexes: int) -> None:
    """Read pages of the file, in this order."""

    async def program() -> None:
        for index in indexes:
            await sys_read(world.cpu, world.file, index, 1)

    world.run(program())


def reclaim(world: World, count: int = 1) -> int:
    """Free up to `count` pages; how many it was."""
    freed = 0

    async def program() -> None:
        nonlocal freed
        for _ in range(count):
            freed += await try_to_free_pages(world.cpu)

    world.run(program())
    return freed


# Aging.


def test_a_page_is_inactive_then_referenced_then_active() -> None:
    world = World()
    read(world, 0)
    page = world.file.pages[0]
    assert on(world, page) == "inactive"
    assert page.flags & PG_referenced
    read(world, 0)
    assert on(world, page) == "active"
    assert not page.flags & PG_referenced
    read(world, 0)
    assert on(world, page) == "active"
    assert page.flags & PG_referenced


def test_a_page_used_twice_survives_a_stream_of_pages_used_once() -> None:
    world = World(page_count=12)
    read(world, 100, 100, *range(16))
    assert 100 in world.file.pages
    assert 3 not in world.file.pages


def test_the_plain_list_forgets_it() -> None:
    world = World(page_count=12, lru=LruKind.PLAIN)
    read(world, 100, 100, *range(16))
    assert 100 not in world.file.pages


def test_the_oldest_inactive_page_goes_first() -> None:
    world = World()
    read(world, 0, 1, 2)
    assert reclaim(world) == 1
    assert sorted(world.file.pages) == [1, 2]


def test_active_pages_age_onto_the_inactive_list() -> None:
    world = World()
    read(world, 0, 0, 1, 1)
    first, second = world.file.pages[0], world.file.pages[1]
    assert reclaim(world) == 1
    assert sorted(world.file.pages) == [1]
    assert (on(world, first), on(world, second)) == ("none", "active")


def test_with_a_cache_limit_one_plain_list_is_the_rule() -> None:
    assert World(cache_limit=4).kernel.lru.kind is LruKind.PLAIN
    assert World().kernel.lru.kind is LruKind.TWO_LISTS


def test_the_plain_list_asks_the_ptes_once() -> None:
    world = World(lru=LruKind.PLAIN)
    mm = world.kernel.new_mm()

    async def program() -> None:
        vma = await sys_mmap(world.cpu, mm, world.file, 0, 1, writable=False)
        assert await user_load(world.cpu, mm, vma.start)
        await sys_read(world.cpu, world.file, 1, 1)

    world.run(program())
    assert reclaim(world) == 1
    assert sorted(world.file.pages) == [0]
    assert reclaim(world) == 1
    assert not world.file.pages


# What reclaim passes over, and what it does to a page.


def test_a_mapped_page_in_use_is_unmapped_only_under_distress() -> None:
    world = World()
    other = world.kernel.open_file(2, disk=1, first_block=1000)
    mm = world.kernel.new_mm()

    async def program() -> None:
        vma = await sys_mmap(world.cpu, mm, world.file, 0, 1, writable=False)
        for _ in range(3):
            await sys_read(world.cpu, world.file, 0, 1)
            assert await user_load(world.cpu, mm, vma.start)
        await sys_read(world.cpu, other, 0, 1)

    world.run(program())
    assert reclaim(world) == 1
    assert sorted(world.file.pages) == [0]
    assert not other.pages
    assert world.kernel.lru.prev_priority == DEF_PRIORITY
    assert reclaim(world) == 1
    assert not world.file.pages
    assert world.kernel.lru.prev_priority <= 1
    (pte,) = mm.ptes.values()
    assert pte.page is None


def test_anonymous_memory_begins_active_and_stays_without_a_swap_device() -> None:
    world = World()
    mm = world.kernel.new_mm()

    async def program() -> None:
        vma = await sys_mmap(world.cpu, mm, None, 0, 1, writable=True)
        assert await user_store(world.cpu, mm, vma.start)

    world.run(program())
    (pte,) = mm.ptes.values()
    assert pte.page is not None
    assert on(world, pte.page) == "active"
    assert reclaim(world) == 0
    assert on(world, pte.page) == "active"
    assert world.kernel.lru.isolated == 0


def test_a_limit_on_the_page_cache_leaves_anonymous_memory_alone() -> None:
    world = World(page_count=32, cache_limit=2, swap_pages=8)
    mm = world.kernel.new_mm()

    async def program() -> None:
        vma = await sys_mmap(world.cpu, mm, None, 0, 3, writable=True)
        for address in range(vma.start, vma.end):
            assert await user_store(world.cpu, mm, address)
        await sys_read(world.cpu, world.file, 0, 10)
        assert not await shrink_cache(world.cpu) or world.kernel.nrpages < 2

    world.run(program())
    assert all(pte.page is not None for pte in mm.ptes.values())
    assert world.kernel.nrpages <= 2


def test_a_locked_page_is_put_back() -> None:
    world = World()
    page = world.cached()

    async def program() -> None:
        await lock_page(world.cpu, page)
        assert not await try_to_free_pages(world.cpu)
        await unlock_page(world.cpu, page)

    world.run(program())
    assert on(world, page) == "inactive"
    assert page.count == 1


def test_a_dirty_page_is_written_and_freed() -> None:
    world = World()
    world.run(sys_write(world.cpu, world.file, 0, 1))
    assert reclaim(world, 2) == 1
    assert world.kernel.statistics.disk_writes == 1
    read(world, 0)
    assert not world.kernel.integrity_errors


def test_buffers_go_before_their_page() -> None:
    world = World()
    page = world.cached()

    async def program() -> None:
        await world.cpu.get_page(page)
        await lock_page(world.cpu, page)
        assert await make_stable(world.cpu, page)
        await create_empty_buffers(world.cpu, page)
        await unlock_page(world.cpu, page)
        await put_page(world.cpu, page)
        assert page.flags & PG_private
        assert world.state(page) == "Sr"
        assert await try_to_free_pages(world.cpu)

    world.run(program())
    assert page.buffers == 0
    assert page.count == 0


def test_a_page_that_is_being_freed_is_passed_over() -> None:
    world = World()
    read(world, 0, 1)
    dying, other = world.file.pages[0], world.file.pages[1]
    dying.count -= 1
    taken: list[Page | None] = []

    async def program() -> None:
        taken.append(await world.kernel.lru.isolate(world.cpu))

    world.run(program())
    assert taken == [other]
    assert on(world, dying) == "inactive"


def test_the_last_reference_takes_the_page_off_the_list() -> None:
    world = World()
    mm = world.kernel.new_mm()

    async def program() -> None:
        vma = await sys_mmap(world.cpu, mm, None, 0, 1, writable=True)
        assert await user_store(world.cpu, mm, vma.start)
        await sys_munmap(world.cpu, mm, vma)

    world.run(program())
    assert not world.kernel.lru.pages


def test_a_page_cannot_be_listed_twice() -> None:
    world = World()
    page = world.cached()
    with pytest.raises(KernelBug, match="on the LRU already"):
        world.run(world.kernel.lru.add(world.cpu, page))


# Discarded while isolated.


def discard_while_isolated(guards: Guards) -> tuple[World, Page]:
    """A page is discarded and found out between isolation and putback; then it is freed."""
    world = World(guards=guards)
    page = world.cached()

    async def program() -> None:
        assert await world.kernel.lru.isolate(world.cpu) is page
        world.evict(page.pfn)
        await sys_read(world.cpu, world.file, 0, 1)
        assert page.flags & PG_discarded
        await world.kernel.lru.put_back(world.cpu, page)
        await put_page(world.cpu, page)
        assert world.kernel.grace.pages == [page]
        await world.kernel.grace.reclaim(world.cpu)

    world.run(program())
    return world, page


def test_a_discarded_page_is_not_put_back() -> None:
    world, page = discard_while_isolated(FIXED)
    assert page in world.kernel.free_list
    assert on(world, page) == "none"
    assert world.kernel.lru.isolated == 0


def test_r15_put_back_it_is_freed_with_pg_lru_set() -> None:
    with pytest.raises(KernelBug, match=r"bad page freed.*PG_lru"):
        discard_while_isolated(FIXED.without("putback_checks_discarded"))


def test_a_discarded_page_found_by_reclaim_waits_for_its_grace_period() -> None:
    world = World()
    page = world.cached()
    world.evict(page.pfn)
    assert reclaim(world) == 1
    assert world.kernel.grace.pages == [page]
    assert not world.file.pages


# Two vCPUs.


def two_reclaimers() -> Report:
    """One cached page, dirty; both vCPUs allocate, and no page is free."""

    def build() -> SimWorld:
        world = SimWorld(KernelConfig(page_count=3, vcpu_count=2))
        kernel = world.kernel
        file = kernel.open_file(1, disk=1, first_block=0)

        async def prepare() -> None:
            cpu = kernel.cpus[0]
            await kernel.boot(cpu)
            await sys_write(cpu, file, 0, 2)

        async def allocate(cpu: Cpu) -> None:
            page = await alloc_page(cpu)
            if kernel.lru.isolated:
                world.mark("the other has one isolated")
            await put_page(cpu, page)

        world.prepare(prepare())
        assert not kernel.free_list
        assert all(page.flags & PG_dirty for page in file.pages.values())
        world.run_vcpu(0, allocate)
        world.run_vcpu(1, allocate)
        return world

    return explore(build, schedules_max=100)


def test_who_finds_every_page_isolated_waits_for_the_other() -> None:
    report = two_reclaimers()
    assert report.counterexample is None
    assert report.reached["the other has one isolated"]
