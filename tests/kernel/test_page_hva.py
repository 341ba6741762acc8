"""Stable and volatile: the ten conditions, writable ptes, and what a discard leaves.

Method: one vCPU on the real host core, one page; states are read back from the host.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guest_agent.kernel.cpu import KernelBug
from guest_agent.kernel.page import (
    Page,
    PG_dirty,
    PG_discarded,
    PG_locked,
    PG_private,
    PG_reserved,
    PG_state_change,
    PG_uptodate,
    PG_writable,
    PG_writeback,
)
from guest_agent.kernel.page_alloc import alloc_page, put_page
from guest_agent.kernel.page_cache import find_get_page
from guest_agent.kernel.page_hva import check_write, make_stable, make_volatile, reset_write
from tests.kernel.world import World


def _set(flag: int) -> Callable[[Page], None]:
    def obstruct(page: Page) -> None:
        page.flags |= flag

    return obstruct


def _not_uptodate(page: Page) -> None:
    page.flags &= ~PG_uptodate


def _truncated(page: Page) -> None:
    page.mapping = None


def _referenced(page: Page) -> None:
    page.count += 1


OBSTACLES: dict[str, Callable[[Page], None]] = {
    "1 reserved": _set(PG_reserved),
    "2 dirty": _set(PG_dirty),
    "3 writeback": _set(PG_writeback),
    "4 locked": _set(PG_locked),
    "6 no mapping": _truncated,
    "7 not uptodate": _not_uptodate,
    "8 private": _set(PG_private),
    "9 discarded": _set(PG_discarded),
    "10 a foreign reference": _referenced,
    "another vCPU is at it": _set(PG_state_change),
}


def test_a_clean_cached_page_is_volatile_after_its_last_put() -> None:
    world = World()
    assert world.state(world.cached()) == "Vr"


@pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=OBSTACLES)
def test_each_condition_keeps_a_page_stable(obstacle: Callable[[Page], None]) -> None:
    world = World()
    page = world.cached()

    async def program() -> None:
        assert await make_stable(world.cpu, page)
        obstacle(page)
        await make_volatile(world.cpu, page, 1)

    world.run(program())
    assert world.state(page) == "Sr"


def test_without_an_obstacle_the_same_page_becomes_volatile() -> None:
    world = World()
    page = world.cached()

    async def program() -> None:
        assert await make_stable(world.cpu, page)
        await make_volatile(world.cpu, page, 1)

    world.run(program())
    assert world.state(page) == "Vr"
    assert not page.flags & PG_state_change


def test_a_page_with_a_writable_mapping_becomes_potential_volatile() -> None:
    world = World()
    page = world.cached()
    page.flags |= PG_writable
    world.run(make_volatile(world.cpu, page, 1))
    assert world.state(page) == "Pr"


def test_make_stable_fails_on_a_discarded_page_and_changes_nothing() -> None:
    world = World()
    page = world.cached()
    world.evict(page.pfn)
    answers: list[bool] = []

    async def program() -> None:
        answers.append(await make_stable(world.cpu, page))

    world.run(program())
    assert answers == [False]
    assert world.state(page) == "Vz"


def test_find_get_page_takes_a_discarded_page_out() -> None:
    world = World()
    page = world.cached()
    world.evict(page.pfn)
    found: list[Page | None] = []

    async def program() -> None:
        found.append(await find_get_page(world.cpu, world.file, 0))

    world.run(program())
    assert found == [None]
    assert not world.file.pages
    assert page in world.kernel.grace.pages
    assert page.count == 0


def test_check_write_makes_a_qualified_page_potential_volatile() -> None:
    world = World()
    page = world.cached()

    async def program() -> None:
        await world.cpu.get_page(page)
        await check_write(world.cpu, page, writable=True)

    world.run(program())
    assert page.flags & PG_writable
    assert world.state(page) == "Pr"


def test_check_write_makes_a_page_with_a_second_user_stable() -> None:
    world = World()
    page = world.cached()
    page.count += 1

    async def program() -> None:
        await world.cpu.get_page(page)
        await check_write(world.cpu, page, writable=True)

    world.run(program())
    assert page.flags & PG_writable
    assert world.state(page) == "Sr"


def test_reset_write_gives_up_when_another_vcpu_is_at_it() -> None:
    world = World()
    page = world.cached()
    page.count += 1  # the reference of the pte that was removed
    page.flags |= PG_writable | PG_state_change
    world.run(reset_write(world.cpu, page))
    assert page.flags & PG_writable
    page.flags &= ~PG_state_change
    world.run(reset_write(world.cpu, page))
    assert not page.flags & PG_writable


def test_reset_write_leaves_the_flag_to_another_user_of_the_page() -> None:
    world = World()
    page = world.cached()
    page.count += 2
    page.flags |= PG_writable
    world.run(reset_write(world.cpu, page))
    assert page.flags & PG_writable


def test_allocated_pages_are_stable_and_freed_ones_unused() -> None:
    world = World()
    pages: list[Page] = []

    async def take() -> None:
        pages.append(await alloc_page(world.cpu))

    world.run(take())
    assert world.state(pages[0])[0] == "S"
    world.run(put_page(world.cpu, pages[0]))
    assert world.state(pages[0])[0] == "U"
    assert pages[0] in world.kernel.free_list


def test_freeing_a_page_in_use_is_a_bug() -> None:
    world = World()
    page = world.cached()

    async def program() -> None:
        await world.cpu.put_page_testzero(page)
        await world.cpu.put_page_testzero(page)

    with pytest.raises(KernelBug, match="free page"):
        world.run(program())
