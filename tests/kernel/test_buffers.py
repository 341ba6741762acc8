"""Buffer heads: when a page has them, what they hold up, and when they go.

Method: one vCPU on the real host core; states are read back from the host. What two vCPUs do
to one page is explored to exhaustion.
"""

from __future__ import annotations

import pytest

from guest_agent.kernel.buffers import (
    HEADS_PER_PAGE,
    create_empty_buffers,
    release_buffers,
    try_to_release_page,
)
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.filemap import sys_write
from guest_agent.kernel.guards import FIXED, Guards
from guest_agent.kernel.kernel import Hints, KernelConfig
from guest_agent.kernel.page import Page, PG_dirty, PG_private, PG_writeback
from guest_agent.kernel.page_cache import find_get_page
from guest_agent.kernel.page_lock import lock_page, unlock_page
from guest_agent.kernel.syscalls import (
    sys_fsync,
    sys_mmap,
    sys_mprotect,
    sys_read,
    user_load,
)
from race_explorer.exhaustive import explore
from race_explorer.world import SimWorld
from tests.kernel.world import World
from tests.support.straight import Straight


def written(world: World) -> Page:
    """A page that a system call has just written."""
    world.run(write(world))
    return world.file.pages[0]


async def write(world: World) -> None:
    assert await sys_write(world.cpu, world.file, 0, 1) == 1


def test_a_written_page_has_buffers_and_their_reference_until_it_is_on_the_disk() -> None:
    world = World()
    page = written(world)
    assert page.flags & PG_private
    assert (page.buffers, page.count) == (HEADS_PER_PAGE, 2)
    assert world.state(page) == "Sr"
    world.run(sys_fsync(world.cpu, world.file))
    assert not page.flags & PG_private
    assert (page.buffers, page.count) == (0, 1)
    assert world.state(page) == "Vr"


def test_a_page_that_is_only_read_has_none() -> None:
    page = World().cached()
    assert (page.flags & PG_private, page.buffers, page.count) == (0, 0, 1)


def test_a_guest_can_do_without() -> None:
    machine = Straight(KernelConfig(page_count=8, buffer_heads=False))
    kernel = machine.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    machine.run(kernel.boot(kernel.cpus[0]))

    async def program() -> None:
        await sys_write(kernel.cpus[0], file, 0, 1)

    machine.run(program())
    assert (file.pages[0].buffers, file.pages[0].count) == (0, 1)


@pytest.mark.parametrize("busy", [PG_dirty, PG_writeback])
def test_buffers_stay_while_a_write_needs_them(busy: int) -> None:
    world = World()
    page = world.cached()

    async def program() -> None:
        await find_get_page(world.cpu, world.file, 0)
        await lock_page(world.cpu, page)
        await create_empty_buffers(world.cpu, page)
        page.flags |= busy
        assert not await try_to_release_page(world.cpu, page)
        assert page.buffers
        page.flags &= ~busy
        assert await try_to_release_page(world.cpu, page)
        assert not page.buffers

    world.run(program())
    assert page.count == 2


def test_a_page_has_to_be_locked_for_it() -> None:
    world = World()
    page = world.cached()

    async def program() -> None:
        await try_to_release_page(world.cpu, page)

    with pytest.raises(KernelBug, match="not locked"):
        world.run(program())


def test_reclaim_takes_them_away() -> None:
    """Memory for two pages, both written to, and two more that are needed."""
    world = World(page_count=3)

    async def program() -> None:
        assert await sys_write(world.cpu, world.file, 0, 2) == 2
        assert await sys_read(world.cpu, world.file, 2, 2) == 2

    world.run(program())
    assert set(world.file.pages) == {2, 3}
    assert all(not page.buffers and page.count == 1 for page in world.file.pages.values())
    assert world.kernel.statistics.disk_writes == 2


def protect_with_buffers(guards: Guards) -> tuple[World, Page]:
    """mprotect makes a page writable that is mapped, clean, and has buffers."""
    world = World(guards=guards)
    mm = world.kernel.new_mm()

    async def program() -> None:
        vma = await sys_mmap(world.cpu, mm, world.file, 0, 1, writable=False)
        await user_load(world.cpu, mm, vma.start)
        page = world.file.pages[0]
        await lock_page(world.cpu, page)
        await create_empty_buffers(world.cpu, page)
        await unlock_page(world.cpu, page)
        await sys_mprotect(world.cpu, mm, vma, writable=True)

    world.run(program())
    return world, world.file.pages[0]


def test_the_flag_is_what_keeps_such_a_page_stable_where_the_counts_are_wrong() -> None:
    """The buffers' reference fills the gap that the series' mprotect leaves."""
    as_written = FIXED.without("check_write_offset")
    world, page = protect_with_buffers(as_written)
    assert world.state(page) == "Sr"
    world, page = protect_with_buffers(as_written.without("private_blocks"))
    assert world.state(page) == "Pr"
    world.evict(page.pfn)

    async def find() -> None:
        await find_get_page(world.cpu, world.file, 0)

    with pytest.raises(KernelBug, match="discard of a page in use"):
        world.run(find())


def release_and_write() -> SimWorld:
    """Two vCPUs: one lets the buffers of a clean page go, the other writes to the page."""
    world = SimWorld(KernelConfig(page_count=3, vcpu_count=2, hints=Hints.NONE))
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_read(cpu, file, 0, 1)
        page = await find_get_page(cpu, file, 0)
        assert page is not None
        await lock_page(cpu, page)
        await create_empty_buffers(cpu, page)
        await unlock_page(cpu, page)

    async def release(cpu: Cpu) -> None:
        await release_buffers(cpu, page)

    async def write(cpu: Cpu) -> None:
        await lock_page(cpu, page)
        world.mark("still there" if page.buffers else "released")
        await create_empty_buffers(cpu, page)
        assert page.buffers, "written without buffers"
        await unlock_page(cpu, page)

    world.prepare(prepare())
    page = file.pages[0]
    world.run_vcpu(0, release)
    world.run_vcpu(1, write)
    return world


def test_whoever_writes_has_buffers_whatever_comes_in_between() -> None:
    report = explore(release_and_write, schedules_max=60_000)
    assert report.counterexample is None
    assert report.exhausted
    assert report.reached["still there"]
    assert report.reached["released"]
