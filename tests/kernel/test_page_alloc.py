"""The allocator: in which order a page becomes somebody's and nobody's, and what it refuses.

Method: one vCPU on the straight machine; with its guard off each protection's damage shows.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from guest_agent.kernel.content import TAGS_PER_PAGE
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.discard import get_page_if_present
from guest_agent.kernel.guards import FIXED
from guest_agent.kernel.kernel import RESERVED_PAGES, Hints
from guest_agent.kernel.oops import Oops, kernel_access
from guest_agent.kernel.page import Page, PG_compound, PG_dirty, PG_locked, PG_reserved
from guest_agent.kernel.page_alloc import (
    alloc_compound,
    alloc_page,
    alloc_zeroed_page,
    put_page,
    release_reserved_page,
    reserve_page,
)
from shared.arch import PAGE_SIZE, Orc
from shared.commands import Essa, Load, LoadOutcome, Store
from tests.kernel.world import World

PAGE_COUNT = 16
T = TypeVar("T")
DATA = b"driver's data   " * 2


def _get(world: World, program: Coroutine[Any, Any, T]) -> T:
    """What a program returns."""
    results: list[T] = []

    async def keep() -> None:
        results.append(await program)

    world.run(keep())
    return results[0]


def _raises(world: World, program: Coroutine[Any, Any, object], what: str) -> None:
    with pytest.raises(KernelBug, match=what):
        _get(world, program)


def _orcs(world: World, page: Page) -> list[int]:
    """The ESSAs on the page since boot."""
    commands = (command for _, command in world.commands)
    return [c.orc for c in commands if isinstance(c, Essa) and c.pfn == page.pfn]


def _load(cpu: Cpu, page: Page) -> Coroutine[Any, Any, object]:
    return kernel_access(cpu, page, Load(page.pfn, 0, PAGE_SIZE), "testing")


def _store(cpu: Cpu, page: Page) -> Coroutine[Any, Any, object]:
    return kernel_access(cpu, page, Store(page.pfn, 0, DATA, TAGS_PER_PAGE), "testing")


# One page.


def test_a_page_is_stable_before_anything_and_unused_after_everything() -> None:
    world = World(PAGE_COUNT)
    page = _get(world, alloc_zeroed_page(world.cpu))
    world.run(put_page(world.cpu, page))
    mine = [c for _, c in world.commands if getattr(c, "pfn", None) == page.pfn]
    assert mine == [
        Essa(Orc.SET_STABLE, page.pfn),
        Store(page.pfn, 0, bytes(32), TAGS_PER_PAGE),
        Essa(Orc.SET_UNUSED, page.pfn),
    ]
    assert world.state(page) == "Ur"
    assert world.kernel.free_list[-1] is page


@pytest.mark.parametrize("hints", list(Hints))
def test_a_zeroed_page_holds_zeroes_whatever_was_there(hints: Hints) -> None:
    world = World(PAGE_COUNT, hints=hints)
    before = _get(world, alloc_page(world.cpu))
    _get(world, _store(world.cpu, before))
    world.run(put_page(world.cpu, before))
    page = _get(world, alloc_zeroed_page(world.cpu))
    assert page is before
    assert _get(world, _load(world.cpu, page)) == LoadOutcome(bytes(32), TAGS_PER_PAGE)


def test_a_guest_that_gives_no_hints_issues_no_essa() -> None:
    world = World(PAGE_COUNT, hints=Hints.NONE)
    page = _get(world, alloc_page(world.cpu))
    world.run(put_page(world.cpu, page))
    assert _orcs(world, page) == []


@pytest.mark.parametrize(
    ("guard", "program"),
    [
        ("stable_first", alloc_zeroed_page),
        ("stable_unconditional", alloc_zeroed_page),
        ("unused_last", lambda cpu: _alloc_and_put(cpu)),
    ],
)
def test_without_the_guard_the_kernel_touches_an_unused_page(
    guard: str, program: Callable[[Cpu], Coroutine[Any, Any, object]]
) -> None:
    """R37, R35 and R36: the page is Uz, or Ur, when it is cleared."""
    world = World(PAGE_COUNT)
    _get(world, program(world.cpu))
    world = World(PAGE_COUNT, guards=FIXED.without(guard))
    with pytest.raises(Oops) as caught:
        _get(world, program(world.cpu))
    assert caught.value.what.startswith("addressing exception in kernel mode")
    assert "clearing a page" in caught.value.what


async def _alloc_and_put(cpu: Cpu) -> None:
    await put_page(cpu, await alloc_page(cpu))


def test_a_page_that_was_discarded_and_freed_is_allocated_like_any_other() -> None:
    """R35: op 1 is unconditional, the page may be Vz."""
    world = World(PAGE_COUNT)
    page = world.kernel.free_list[-1]
    world.run(_essa(world.cpu, Orc.SET_VOLATILE, page))
    assert world.state(page) == "Vz"
    assert _get(world, alloc_zeroed_page(world.cpu)) is page


async def _essa(cpu: Cpu, orc: Orc, page: Page) -> None:
    await cpu.essa(orc, page)


@pytest.mark.parametrize("flag", [PG_dirty, PG_locked])
def test_a_page_with_something_left_on_it_is_not_freed(flag: int) -> None:
    world = World(PAGE_COUNT)
    page = _get(world, alloc_page(world.cpu))
    page.mapcount = 1
    _raises(world, put_page(world.cpu, page), "bad page freed")
    page.mapcount, page.count, page.flags = 0, 1, flag
    _raises(world, put_page(world.cpu, page), "bad page freed")


def test_a_page_with_a_user_is_not_handed_out() -> None:
    world = World(PAGE_COUNT)
    world.kernel.free_list[-1].count = 1
    _raises(world, alloc_page(world.cpu), "bad page from the free list")


def test_memory_that_is_all_in_use_is_a_crash() -> None:
    world = World(4)
    for _ in range(4 - RESERVED_PAGES):
        _get(world, alloc_page(world.cpu))
    _raises(world, alloc_page(world.cpu), "out of memory")


# Reserved pages.


def test_a_reserved_page_outlives_its_references() -> None:
    world = World(PAGE_COUNT)
    page = _get(world, reserve_page(world.cpu))
    _get(world, _store(world.cpu, page))
    world.run(put_page(world.cpu, page))
    assert (page.count, page.flags) == (0, PG_reserved)
    assert page not in world.kernel.free_list
    assert _orcs(world, page) == [Orc.SET_STABLE]
    world.evict(page.pfn)
    assert _get(world, _load(world.cpu, page)) == LoadOutcome(DATA, TAGS_PER_PAGE)

    world.run(release_reserved_page(world.cpu, page))
    assert world.state(page) == "Ur"
    assert world.kernel.free_list[-1] is page


def test_r38_without_the_guard_the_driver_finds_its_page_unused() -> None:
    world = World(PAGE_COUNT, guards=FIXED.without("reserved_before_unused"))
    page = _get(world, reserve_page(world.cpu))
    world.run(put_page(world.cpu, page))
    assert page not in world.kernel.free_list
    _raises(world, _load(world.cpu, page), "addressing exception")


def test_a_reserved_page_in_use_is_not_released() -> None:
    world = World(PAGE_COUNT)
    page = _get(world, reserve_page(world.cpu))
    world.run(world.cpu.get_page(page))
    _raises(world, release_reserved_page(world.cpu, page), "in use")


# Compound pages.


@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_compound_page_is_taken_and_given_back_as_a_whole(order: int) -> None:
    world = World(PAGE_COUNT)
    free = {page.pfn for page in world.kernel.free_list}
    head = _get(world, alloc_compound(world.cpu, order))
    assert head is not None
    assert head.pfn % (1 << order) == 0
    pages = world.kernel.mem_map[head.pfn : head.pfn + (1 << order)]
    assert {page.pfn for page in world.kernel.free_list} == free - {page.pfn for page in pages}
    assert [page.count for page in pages] == [1] + [0] * (len(pages) - 1)
    assert all(page.flags == PG_compound for page in pages)
    assert [page.head for page in pages] == [None] + [head] * (len(pages) - 1)
    assert {world.state(page) for page in pages} == {"Sz"}

    world.run(put_page(world.cpu, pages[-1]))
    assert {page.pfn for page in world.kernel.free_list} == free
    assert len(world.kernel.free_list) == len(free)
    assert {world.state(page) for page in pages} == {"Uz"}
    assert not any(page.flags or page.head or page.count for page in pages)


def test_references_to_any_of_its_pages_are_the_heads() -> None:
    world = World(PAGE_COUNT)
    head = _get(world, alloc_compound(world.cpu, 1))
    assert head is not None
    tail = world.kernel.mem_map[head.pfn + 1]
    world.run(world.cpu.get_page(tail))
    assert (head.count, tail.count) == (2, 0)
    world.run(put_page(world.cpu, head))
    assert (head.count, tail.head) == (1, head)
    world.run(put_page(world.cpu, tail))
    assert tail in world.kernel.free_list


def test_r18_a_compound_page_that_is_free_is_not_brought_back_by_its_address() -> None:
    world = World(PAGE_COUNT)
    head = _get(world, alloc_compound(world.cpu, 1))
    assert head is not None
    tail = world.kernel.mem_map[head.pfn + 1]
    world.run(put_page(world.cpu, head))
    for page in (head, tail):
        assert not _get(world, get_page_if_present(world.cpu, page.head or page))


def test_without_a_row_of_free_pages_there_is_no_compound_page() -> None:
    world = World(4)
    taken = [_get(world, alloc_page(world.cpu)) for _ in range(3)]
    for page in taken[::2]:
        world.run(put_page(world.cpu, page))
    before = list(world.kernel.free_list)
    assert _get(world, alloc_compound(world.cpu, 1)) is None
    assert world.kernel.free_list == before
    world.run(put_page(world.cpu, taken[1]))
    assert _get(world, alloc_compound(world.cpu, 1)) is world.kernel.mem_map[2]


def test_a_compound_page_with_a_user_of_a_tail_is_not_freed() -> None:
    world = World(PAGE_COUNT)
    head = _get(world, alloc_compound(world.cpu, 1))
    assert head is not None
    world.kernel.mem_map[head.pfn + 1].mapcount = 1
    _raises(world, put_page(world.cpu, head), "bad page freed")
