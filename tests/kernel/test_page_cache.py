"""The page cache: gang lookups, removal, copies, and the end of a writeback.

Method: one vCPU on the real host core for what each function does; with a guard off the
damage that the guard is for has to show. What needs two vCPUs, or an interrupt at the wrong
moment, is explored to exhaustion.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.dirty import (
    set_page_dirty,
    set_page_dirty_lock,
    set_page_uptodate,
    set_page_writeback,
)
from guest_agent.kernel.discard import discard_page, get_page_if_present
from guest_agent.kernel.filemap import sys_read, sys_write
from guest_agent.kernel.guards import FIXED, Guards
from guest_agent.kernel.kernel import Hints, KernelConfig
from guest_agent.kernel.page import Page, PG_dirty, PG_discarded, PG_referenced
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import (
    PAGEVEC_SIZE,
    add_new_page,
    find_get_page,
    find_get_page_nodiscard,
    find_get_pages,
    find_get_pages_tag,
)
from guest_agent.kernel.page_hva import make_stable, make_volatile
from guest_agent.kernel.page_lock import lock_page, unlock_page
from guest_agent.kernel.syscalls import sys_fsync, sys_truncate
from guest_agent.kernel.vmscan import Verdict, _remove, shrink_page
from guest_agent.kernel.writeback import (
    end_page_writeback,
    wait_on_page_writeback,
    write_page,
)
from race_explorer.exhaustive import Report, explore
from race_explorer.world import SimWorld
from shared.arch import USAGE_MASK, Orc, Usage
from tests.kernel.world import World

SCHEDULES_MAX = 20_000


# Gang lookups.


def test_a_gang_lookup_goes_through_the_file_in_order() -> None:
    world = World(page_count=64)

    async def program() -> None:
        await sys_read(world.cpu, world.file, 20, 12)
        await sys_read(world.cpu, world.file, 3, 1)
        await sys_read(world.cpu, world.file, 40, 2)
        first = await find_get_pages(world.cpu, world.file, 0, PAGEVEC_SIZE)
        assert [page.index for page in first] == [3, *range(20, 32), 40]
        rest = await find_get_pages(world.cpu, world.file, 41, PAGEVEC_SIZE)
        assert [page.index for page in rest] == [41]
        assert all(page.count == 2 and world.state(page) == "Sr" for page in first + rest)
        assert await find_get_pages(world.cpu, world.file, 42, PAGEVEC_SIZE) == []

    world.run(program())


def test_one_by_tag_finds_the_dirty_pages_alone() -> None:
    world = World()

    async def program() -> None:
        await sys_read(world.cpu, world.file, 0, 6)
        await sys_write(world.cpu, world.file, 4, 1)
        await sys_write(world.cpu, world.file, 1, 1)
        found = await find_get_pages_tag(world.cpu, world.file, 0, PAGEVEC_SIZE)
        assert [page.index for page in found] == [1, 4]

    world.run(program())


def test_a_discarded_page_is_taken_out_and_the_others_are_good() -> None:
    world = World()
    pages = [world.cached(index) for index in range(3)]
    world.evict(pages[1].pfn)

    async def program() -> None:
        found = await find_get_pages(world.cpu, world.file, 0, PAGEVEC_SIZE)
        assert found == [pages[0], pages[2]]
        assert [page.count for page in pages] == [2, 0, 2]

    world.run(program())
    assert world.kernel.statistics.pages_discarded == 1


def test_the_first_version_throws_good_pages_out_and_leaks_them() -> None:
    world = World(guards=FIXED.without("gang_discards_failed"))
    pages = [world.cached(index) for index in range(3)]
    world.evict(pages[1].pfn)

    async def program() -> None:
        assert await find_get_pages(world.cpu, world.file, 0, PAGEVEC_SIZE) == [pages[2]]

    world.run(program())
    assert world.state(pages[0]) == "Sr"
    assert pages[0].flags & PG_discarded
    assert [page.count for page in pages] == [1, 1, 2]
    assert set(world.file.pages) == {2}


def test_the_first_version_stumbles_over_a_good_page_that_is_dirty() -> None:
    world = World(guards=FIXED.without("gang_discards_failed"))
    discarded = world.cached(1)

    async def program() -> None:
        await sys_write(world.cpu, world.file, 0, 1)
        world.evict(discarded.pfn)
        await find_get_pages(world.cpu, world.file, 0, PAGEVEC_SIZE)

    with pytest.raises(KernelBug, match="discard of a page in use"):
        world.run(program())


def test_the_lookup_that_does_not_discard_answers_the_page_as_it_is() -> None:
    world = World()
    page = world.cached()
    world.evict(page.pfn)

    async def program() -> None:
        assert await find_get_page_nodiscard(world.cpu, world.file, 0) is page
        assert await find_get_page_nodiscard(world.cpu, world.file, 1) is None

    world.run(program())
    assert world.state(page) == "Vz"
    assert world.file.pages[0] is page


# Removal.


def test_a_page_that_reclaim_finds_discarded_waits_for_the_grace_period() -> None:
    world = World()
    page = world.cached()
    world.evict(page.pfn)
    world.run(reclaim(world))
    assert page in world.kernel.grace.pages
    assert world.kernel.statistics.pages_discarded == 0


def test_without_the_look_at_its_state_it_is_free_at_once() -> None:
    world = World(guards=FIXED.without("remove_checks_state"))
    page = world.cached()
    world.evict(page.pfn)
    world.run(reclaim(world))
    assert page in world.kernel.free_list
    assert page not in world.kernel.grace.pages


async def reclaim(world: World) -> None:
    assert await world.kernel.shrink_cache(world.cpu)


def discard_and_reclaim(guards: Guards) -> SimWorld:
    """Two vCPUs: one discards a page, the other has isolated it before and reclaims it."""
    world = SimWorld(KernelConfig(page_count=3, vcpu_count=2, guards=guards))
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_read(cpu, file, 0, 1)
        page.append(file.pages[0])
        await cpu.clear_flag(page[0], PG_referenced)
        assert await kernel.lru.isolate(cpu) is page[0]

    async def discard(cpu: Cpu) -> None:
        assert await get_page_if_present(cpu, page[0])
        await discard_page(cpu, page[0])
        await cpu.put_page_testzero(page[0])

    async def shrink(cpu: Cpu) -> None:
        before = page[0].flags & PG_discarded
        if await shrink_page(cpu, page[0], may_swap=True) is Verdict.FREED:
            world.mark("reclaimed")
        elif not before:
            world.mark("left to the discarder")

    page: list[Page] = []
    world.prepare(prepare())
    world.evict_now(page[0].pfn)
    world.run_vcpu(0, discard)
    world.run_vcpu(1, shrink)
    return world


def search(build: Callable[[Guards], SimWorld], *without: str) -> Report:
    guards = FIXED.without(*without)
    return explore(lambda: build(guards), schedules_max=SCHEDULES_MAX)


def test_a_page_leaves_the_cache_once() -> None:
    report = search(discard_and_reclaim)
    assert report.counterexample is None, report.counterexample
    assert report.exhausted
    assert report.reached["reclaimed"]
    assert report.reached["left to the discarder"]


def test_without_the_test_of_the_flag_it_leaves_twice() -> None:
    found = search(discard_and_reclaim, "removal_test_set").counterexample
    assert found is not None
    assert "not in its page tree" in found.violations[0]


# Copies between a page and a user's buffer.


def unprotected_read(guards: Guards) -> World:
    """A page is found without being made stable, and is discarded when it is read."""
    world = World(guards=guards)
    page = world.cached()
    world.evict(page.pfn)
    return world


def test_a_fault_on_the_kernels_operand_ends_the_copy() -> None:
    world = unprotected_read(FIXED.without("stable_lookup"))

    async def program() -> None:
        assert await sys_read(world.cpu, world.file, 0, 3) == 0

    world.run(program())
    assert "in kernel mode" in world.kernel.integrity_errors[0].what


def test_repeated_it_would_never_end() -> None:
    world = unprotected_read(FIXED.without("stable_lookup", "fixup_user_copy"))

    async def program() -> None:
        await sys_read(world.cpu, world.file, 0, 1)

    with pytest.raises(KernelBug, match="live-lock"):
        world.run(program())
    assert world.kernel.statistics.discard_faults > 1


# The end of a writeback.


def complete_in_make_volatile(guards: Guards) -> SimWorld:
    """One vCPU offers a page; the interrupt at the end of its writeback comes in between."""
    world = SimWorld(KernelConfig(page_count=3, vcpu_count=1, guards=guards))
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def prepare() -> None:
        await kernel.boot(kernel.cpus[0])
        await sys_write(kernel.cpus[0], file, 0, 1)

    async def write_and_offer(cpu: Cpu) -> None:
        page = await find_get_page(cpu, file, 0)
        assert page is not None
        await lock_page(cpu, page)
        await write_page(cpu, page)
        await make_volatile(cpu, page, 2)
        if any("wrote" in line for line in page.history):
            world.mark("written meanwhile")
        await put_page(cpu, page)

    world.prepare(prepare())
    world.run_vcpu(0, write_and_offer)
    return world


def test_an_interrupt_never_waits_for_whom_it_has_interrupted() -> None:
    report = search(complete_in_make_volatile)
    assert report.counterexample is None, report.counterexample
    assert report.exhausted
    assert report.reached["written meanwhile"]


def test_one_that_makes_the_page_stable_does() -> None:
    found = search(complete_in_make_volatile, "irq_never_stabilises").counterexample
    assert found is not None
    assert "dead-lock" in found.violations[0]


class _NotCompared(SimWorld):
    """The page's second content is made up: there is nothing to compare at the end."""

    def finished(self) -> list[str]:
        return []


def reuse_behind_the_interrupt(guards: Guards) -> SimWorld:
    """One vCPU ends a page's writeback, the other reclaims the page and uses it again."""
    world = _NotCompared(KernelConfig(page_count=3, vcpu_count=2, guards=guards))
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    pages: list[Page] = []

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_read(cpu, file, 0, 1)
        page = file.pages[0]
        pages.append(page)
        assert await kernel.lru.isolate(cpu) is page
        await lock_page(cpu, page)
        assert await make_stable(cpu, page)
        await set_page_writeback(cpu, page)
        if guards.writeback_reference:
            await cpu.get_page(page)

    async def interrupt(cpu: Cpu) -> None:
        depth = cpu.local_irq_save()
        await end_page_writeback(cpu, pages[0])
        cpu.local_irq_restore(depth)

    async def reuse(cpu: Cpu) -> None:
        (page,) = pages
        await wait_on_page_writeback(cpu, page)
        removed = await _remove(cpu, page, file.tree_lock, file) is Verdict.FREED
        await unlock_page(cpu, page)
        if not removed:
            world.mark("not reclaimed")
            return
        await put_page(cpu, page)
        assert await add_new_page(cpu, file, 1) is page
        world.mark("reused")
        await set_page_uptodate(cpu, page)
        await unlock_page(cpu, page)
        state = await cpu.essa(Orc.GET_STATE, page)
        assert Usage(state & USAGE_MASK) is Usage.STABLE, "not stable, and somebody uses it"

    world.prepare(prepare())
    world.run_vcpu(1, interrupt)
    world.run_vcpu(0, reuse)
    return world


def test_a_page_under_writeback_is_not_reused_before_the_interrupt_is_through() -> None:
    report = search(reuse_behind_the_interrupt)
    assert report.counterexample is None, report.counterexample
    assert report.exhausted
    assert report.reached["reused"]
    assert report.reached["not reclaimed"]


def test_without_its_reference_the_interrupt_offers_somebody_elses_page() -> None:
    found = search(reuse_behind_the_interrupt, "writeback_reference").counterexample
    assert found is not None
    assert "somebody uses it" in found.violations[0]


# The dirty tag.


def test_sync_writes_what_is_dirty_and_nothing_else() -> None:
    world = World(page_count=64)

    async def program() -> None:
        await sys_read(world.cpu, world.file, 0, 40)
        await sys_write(world.cpu, world.file, 5, 30)
        await sys_fsync(world.cpu, world.file)

    world.run(program())
    assert world.kernel.statistics.disk_writes == 30
    assert not world.file.dirty
    assert not any(page.flags & PG_dirty for page in world.file.pages.values())
    assert all(page.count == 1 for page in world.file.pages.values())


def test_a_page_that_has_left_the_tree_gets_no_tag() -> None:
    """page->mapping may outlive the entry, and the tag would be another page's."""
    world = World(hints=Hints.NONE)
    page = world.cached()
    world.kernel.forget(world.file, page)
    world.run(set_page_dirty(world.cpu, page))
    assert page.flags & PG_dirty
    assert not world.file.dirty


def test_who_holds_only_a_reference_dirties_nobodys_page() -> None:
    world = World()
    page = world.cached()

    async def program() -> None:
        await world.cpu.get_page(page)
        await sys_truncate(world.cpu, world.file, 0)
        await set_page_dirty_lock(world.cpu, page)
        assert not page.flags & PG_dirty
        await put_page(world.cpu, page)

    world.run(program())
    assert page in world.kernel.free_list
