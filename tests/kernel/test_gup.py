"""Pinned pages and DMA: stable for as long as the reference lasts, checked in both directions.

Method: one vCPU on the real host core; the host evicts at a chosen moment. With a guard off
the damage that the guard is for has to show.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from guest_agent.kernel.content import DMA_DISK, tag
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.guards import FIXED, SEED, Guards
from guest_agent.kernel.gup import follow_page, get_user_pages
from guest_agent.kernel.mm import Mm, Vma
from guest_agent.kernel.page import Page, PG_dirty
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.ports import DiskRequest
from guest_agent.kernel.syscalls import (
    sys_dma_in,
    sys_dma_out,
    sys_fork,
    sys_fsync,
    sys_mmap,
    sys_munmap,
    sys_read,
    sys_truncate,
    user_load,
    user_store,
)
from tests.kernel.world import World


class Process(World):
    """A process with one vma of three pages."""

    def __init__(
        self,
        kind: str = "shared",
        *,
        guards: Guards = FIXED,
        writable: bool = True,
        swap_pages: int = 0,
        page_count: int = 16,
    ) -> None:
        super().__init__(page_count, guards=guards, swap_pages=swap_pages)
        self.mm: Mm = self.kernel.new_mm()
        self.vma: Vma
        file = None if kind == "anonymous" else self.file

        async def program() -> None:
            self.vma = await sys_mmap(
                self.cpu, self.mm, file, 0, 3, writable=writable, shared=kind == "shared"
            )

        self.run(program())

    def page(self, place: int = 0) -> Page:
        page = self.mm.ptes[self.vma.start + place].page
        assert page is not None
        return page

    async def loads(self, place: int = 0) -> bool:
        return await user_load(self.cpu, self.mm, self.vma.start + place)

    async def stores(self, place: int = 0) -> bool:
        return await user_store(self.cpu, self.mm, self.vma.start + place)

    async def pin(self, count: int = 1, *, write: bool = False) -> list[Page]:
        await self.cpu.down_read(self.mm.mmap_sem)
        pages = await get_user_pages(self.cpu, self.mm, self.vma.start, count, write=write)
        await self.cpu.up_read(self.mm.mmap_sem)
        return pages


KINDS = ["shared", "private", "anonymous"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_gets_what_the_program_stored(kind: str) -> None:
    world = Process(kind)

    async def program() -> None:
        assert await world.stores(1)
        assert await sys_dma_out(world.cpu, world.mm, world.vma.start, 3) == 3

    world.run(program())
    assert not world.kernel.integrity_errors
    assert not [key for key in world.store.blocks if key[0] == DMA_DISK]
    assert world.mm.dma == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_sees_what_a_device_stored(kind: str) -> None:
    world = Process(kind)

    async def program() -> None:
        assert await world.stores(1)
        assert await sys_dma_in(world.cpu, world.mm, world.vma.start, 3) == 3
        pages = [world.page(place) for place in range(3)]
        assert all(page.count == 1 + (kind == "shared") for page in pages)
        for place in range(3):
            assert await world.loads(place)
        assert await sys_dma_out(world.cpu, world.mm, world.vma.start, 3) == 3

    world.run(program())
    assert not world.kernel.integrity_errors


def test_what_a_device_stored_into_a_shared_page_reaches_the_disk() -> None:
    world = Process()

    async def program() -> None:
        assert await sys_dma_in(world.cpu, world.mm, world.vma.start, 1) == 1
        assert world.page().flags & PG_dirty
        await sys_fsync(world.cpu, world.file)

    world.run(program())
    assert world.store.blocks[1, 0][0] == tag(1, 0, 1)


def test_content_that_is_not_the_programs_is_an_error() -> None:
    """The check of a transfer is one: a page that changes behind everybody fails it."""
    world = Process()

    async def program() -> None:
        assert await world.stores()
        machine = world.host._machine
        start = machine.guests[world.guest_id].location[world.page().pfn] << 12
        machine.frames.memory[start : start + 32] = tag(1, 0, 9)
        await sys_dma_out(world.cpu, world.mm, world.vma.start, 1)

    world.run(program())
    assert "torn" in world.kernel.integrity_errors[0].what


def test_pages_that_cannot_be_accessed_end_the_run() -> None:
    world = Process(writable=False)

    async def program() -> None:
        assert await sys_dma_in(world.cpu, world.mm, world.vma.start, 3) == 0
        assert await sys_dma_out(world.cpu, world.mm, world.vma.start + 1, 3) == 2
        await sys_truncate(world.cpu, world.file, 1)
        assert await sys_dma_out(world.cpu, world.mm, world.vma.start, 3) == 1

    world.run(program())
    assert world.mm.mmap_sem.readers == 0


def test_a_pinned_page_is_stable_until_it_is_let_go() -> None:
    world = Process()

    async def program() -> None:
        assert await world.loads()
        assert world.state(world.page()) == "Pr"
        (page,) = await world.pin()
        assert world.state(page) == "Sr"
        world.evict(page.pfn)
        assert world.state(page) == "Sp"
        await put_page(world.cpu, page)

    world.run(program())


def test_a_discarded_page_is_faulted_in_again() -> None:
    world = Process()

    async def program() -> None:
        assert await world.loads()
        old = world.page()
        world.evict(old.pfn)
        (page,) = await world.pin()
        assert page is not old
        assert world.state(page) == "Sr"
        await put_page(world.cpu, page)

    world.run(program())
    assert world.kernel.statistics.discard_faults == 0
    assert world.kernel.statistics.stable_failed == 1


def test_follow_page_answers_none_where_nothing_allows_the_access() -> None:
    world = Process("private")

    async def program() -> None:
        start = world.vma.start
        assert await follow_page(world.cpu, world.mm, start, write=False) is None
        assert await world.loads()
        assert await follow_page(world.cpu, world.mm, start, write=True) is None
        page = await follow_page(world.cpu, world.mm, start, write=False)
        assert page is world.page()

    world.run(program())


def test_without_stable_pin_a_device_meets_a_discarded_page() -> None:
    world = Process(guards=FIXED.without("stable_pin"))

    async def program() -> None:
        assert await world.loads()
        world.evict(world.page().pfn)
        await sys_dma_out(world.cpu, world.mm, world.vma.start, 1)

    world.run(program())
    assert "DMA out of pfn" in world.kernel.integrity_errors[0].what


@pytest.mark.parametrize("guards", [SEED, FIXED.without("touch_after_stable")])
def test_the_series_dirties_a_discarded_page_and_stumbles_over_it(guards: Guards) -> None:
    """One vCPU is enough: the host discards a mapped page, and a device is to store into it."""
    world = Process(guards=guards)

    async def program() -> None:
        assert await world.loads()
        world.evict(world.page().pfn)
        await sys_dma_in(world.cpu, world.mm, world.vma.start, 1)

    with pytest.raises(KernelBug, match="discard of a page in use"):
        world.run(program())


def test_dirtied_when_it_is_stable_the_same_page_is_just_read_again() -> None:
    world = Process()

    async def program() -> None:
        assert await world.loads()
        world.evict(world.page().pfn)
        assert await sys_dma_in(world.cpu, world.mm, world.vma.start, 1) == 1
        assert await world.loads()

    world.run(program())
    assert world.kernel.statistics.pages_discarded == 1
    assert not world.kernel.integrity_errors


Call = Callable[[Cpu, Mm, int, int], Awaitable[int]]


def in_flight(world: Process, call: Call, meanwhile: Callable[[], Awaitable[object]]) -> None:
    """Run `meanwhile` on the same vCPU when the transfers are submitted and not begun."""
    pending = [meanwhile]
    wait_until = world.wait_until

    async def interposed(
        vcpu: object, condition: Callable[[], bool], label: str, accesses: object
    ) -> bool:
        if label == "dma.wait" and pending:
            await pending.pop()()
        return await wait_until(vcpu, condition, label, accesses)  # type: ignore[arg-type]

    world.wait_until = interposed  # type: ignore[method-assign, assignment]

    async def program() -> None:
        assert await call(world.cpu, world.mm, world.vma.start, 3) == 3
        assert not pending

    world.run(program())


@pytest.mark.parametrize("call", [sys_dma_in, sys_dma_out])
def test_the_host_may_evict_while_data_moves(call: Call) -> None:
    world = Process()

    async def evict() -> None:
        for place in range(3):
            world.evict(world.page(place).pfn)
            assert world.state(world.page(place)) == "Sp"

    in_flight(world, call, evict)
    assert not world.kernel.integrity_errors


@pytest.mark.parametrize("call", [sys_dma_in, sys_dma_out])
@pytest.mark.parametrize("kind", KINDS)
def test_the_program_may_unmap_while_data_moves(kind: str, call: Call) -> None:
    world = Process(kind)

    async def unmap() -> None:
        assert await sys_munmap(world.cpu, world.mm, world.vma)

    in_flight(world, call, unmap)
    assert not world.kernel.integrity_errors
    assert not [p for p in world.kernel.mem_map if p.count and p.mapping is None and p.pfn]


@pytest.mark.parametrize("call", [sys_dma_in, sys_dma_out])
def test_the_file_may_be_truncated_while_data_moves(call: Call) -> None:
    """The page is nobody's then; what arrives in it is forgotten with it."""
    world = Process()

    async def cut() -> None:
        await sys_truncate(world.cpu, world.file, 1)

    in_flight(world, call, cut)

    async def grow() -> None:
        await sys_truncate(world.cpu, world.file, 3)
        assert await sys_read(world.cpu, world.file, 0, 3) == 3

    world.run(grow())
    assert not world.kernel.integrity_errors
    assert set(world.file.pages) == {0, 1, 2}


def test_a_fork_waits_for_the_transfers() -> None:
    world = Process("anonymous")
    order: list[str] = []
    submit = world.submit

    def watched(request: DiskRequest) -> None:
        order.append(f"submitted with {world.mm.dma} under way")
        submit(request)

    world.submit = watched  # type: ignore[method-assign]

    async def program() -> None:
        await sys_dma_in(world.cpu, world.mm, world.vma.start, 2)
        child = await sys_fork(world.cpu, world.mm)
        assert await user_load(world.cpu, child, world.vma.start)

    world.run(program())
    assert order == ["submitted with 2 under way"] * 2
    assert not world.kernel.integrity_errors
