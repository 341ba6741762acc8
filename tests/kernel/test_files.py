"""Files: reading, writing, mapping, msync and what reaches the disk; every load is checked.

Method: one vCPU on the real host core and a disk in memory; evictions between calls.
"""

from __future__ import annotations

from guest_agent.kernel.content import TAGS_PER_PAGE, tag
from guest_agent.kernel.cow import copy_page
from guest_agent.kernel.fault import VmFault, handle_mm_fault, map_page
from guest_agent.kernel.filemap import get_uptodate_page
from guest_agent.kernel.kernel import Hints
from guest_agent.kernel.page import Page, PG_dirty, PG_writable
from guest_agent.kernel.syscalls import (
    sys_fsync,
    sys_mmap,
    sys_msync,
    sys_munmap,
    sys_read,
    sys_sync,
    sys_write,
    user_load,
    user_store,
)
from shared.arch import KEY_CHANGED, PAGE_SHIFT, Orc
from tests.kernel.world import World


def on_disk(world: World, index: int = 0) -> bytes | None:
    """The tag that fills the file's block on the disk."""
    content = world.store.blocks.get(world.file.block(index))
    assert content is None or content[1] == TAGS_PER_PAGE
    return content and content[0]


def test_a_second_read_is_a_hit() -> None:
    world = World()
    world.run(sys_read(world.cpu, world.file, 0, 3))
    world.run(sys_read(world.cpu, world.file, 1, 1))
    counted = world.kernel.statistics
    assert (counted.cache_hits, counted.cache_misses, counted.disk_reads) == (1, 3, 3)


def test_a_discarded_page_is_read_again_from_the_disk() -> None:
    world = World()
    page = world.cached()
    world.evict(page.pfn)
    assert world.state(page) == "Vz"
    world.run(sys_read(world.cpu, world.file, 0, 1))
    assert world.kernel.statistics.disk_reads == 2
    assert world.kernel.statistics.integrity_errors == 0


def test_a_write_is_stable_until_it_is_on_the_disk() -> None:
    world = World()
    world.run(sys_write(world.cpu, world.file, 0, 1))
    page = world.file.pages[0]
    assert page.flags & PG_dirty
    assert world.state(page) == "Sr"
    assert on_disk(world) is None
    world.run(sys_fsync(world.cpu, world.file))
    assert on_disk(world) == tag(1, 0, 1)
    assert not page.flags & PG_dirty
    assert world.state(page) == "Vr"


def test_a_dirty_page_is_paged_out_by_the_host_and_comes_back() -> None:
    world = World()
    world.run(sys_write(world.cpu, world.file, 0, 1))
    world.evict(world.file.pages[0].pfn)
    assert world.state(world.file.pages[0]) == "Sp"
    world.run(sys_read(world.cpu, world.file, 0, 1))
    assert world.kernel.statistics.integrity_errors == 0
    assert world.kernel.statistics.disk_reads == 0


def test_a_mapped_store_reaches_the_disk_by_msync() -> None:
    world = World()
    mm = world.kernel.new_mm()

    async def program() -> None:
        vma = await sys_mmap(world.cpu, mm, world.file, 0, 2, writable=True)
        await user_store(world.cpu, mm, vma.start + 1)
        assert world.state(world.file.pages[1]) == "Pr"
        await sys_msync(world.cpu, vma)

    world.run(program())
    assert on_disk(world, 1) == tag(1, 1, 1)
    assert not world.key(world.file.pages[1]) & KEY_CHANGED


def test_a_mapped_store_survives_the_host_and_the_unmap() -> None:
    world = World()
    mm = world.kernel.new_mm()

    async def program() -> None:
        vma = await sys_mmap(world.cpu, mm, world.file, 0, 1, writable=True)
        await user_store(world.cpu, mm, vma.start)
        page = world.file.pages[0]
        world.evict(page.pfn)
        assert world.state(page) == "Sp"
        await sys_munmap(world.cpu, mm, vma)
        assert page.flags & PG_dirty
        assert not page.flags & PG_writable
        await sys_sync(world.cpu)

    world.run(program())
    assert on_disk(world) == tag(1, 0, 1)
    assert not world.kernel.integrity_errors


def test_a_discard_fault_unmaps_the_page_and_the_access_finds_a_new_one() -> None:
    world = World()
    mm = world.kernel.new_mm()

    async def program() -> None:
        vma = await sys_mmap(world.cpu, mm, world.file, 0, 1, writable=False)
        await user_load(world.cpu, mm, vma.start)
        old = world.file.pages[0]
        world.evict(old.pfn)
        await user_load(world.cpu, mm, vma.start)
        assert world.file.pages[0] is not old
        assert old in world.kernel.grace.pages
        assert old.mapcount == 0

    world.run(program())
    counted = world.kernel.statistics
    assert (counted.discard_faults, counted.major_faults, counted.disk_reads) == (1, 2, 2)


def test_a_private_store_leaves_the_file_alone() -> None:
    world = World()
    mm = world.kernel.new_mm()

    async def program() -> None:
        vma = await sys_mmap(world.cpu, mm, world.file, 0, 2, writable=True, shared=False)
        await user_load(world.cpu, mm, vma.start)
        await user_store(world.cpu, mm, vma.start)  # do_wp_page
        await user_store(world.cpu, mm, vma.start + 1)  # early copy-on-write
        copies = [mm.ptes[vma.start + i].page for i in (0, 1)]
        assert all(c is not None and c.anonymous is not None for c in copies)
        assert all(c is not None and world.state(c) == "Sr" for c in copies)
        await user_load(world.cpu, mm, vma.start)
        await sys_read(world.cpu, world.file, 0, 2)
        await sys_munmap(world.cpu, mm, vma)
        assert all(c is not None and c.count == 0 for c in copies)

    world.run(program())
    assert not world.file.dirty
    assert not world.kernel.integrity_errors


def test_a_copy_keeps_its_content_until_it_is_stored_to() -> None:
    world = World()
    mm = world.kernel.new_mm()

    async def program() -> None:
        await sys_write(world.cpu, world.file, 0, 1)
        vma = await sys_mmap(world.cpu, mm, world.file, 0, 1, writable=True, shared=False)
        page, _ = await get_uptodate_page(world.cpu, world.file, 0)
        copy = await copy_page(world.cpu, vma, vma.start, page)
        assert copy is not None
        await map_page(world.cpu, vma, vma.start, copy)
        await user_load(world.cpu, mm, vma.start)
        await sys_write(world.cpu, world.file, 0, 1)
        await user_load(world.cpu, mm, vma.start)

    world.run(program())
    assert not world.kernel.integrity_errors


def test_a_write_fault_whose_source_is_discarded_is_taken_again() -> None:
    world = World()
    mm = world.kernel.new_mm()
    faults: list[VmFault] = []

    async def program() -> None:
        vma = await sys_mmap(world.cpu, mm, world.file, 0, 1, writable=True, shared=False)
        await user_load(world.cpu, mm, vma.start)
        world.evict(world.file.pages[0].pfn)
        faults.append(await handle_mm_fault(world.cpu, mm, vma.start, write=True))
        faults.append(await handle_mm_fault(world.cpu, mm, vma.start, write=True))
        await user_store(world.cpu, mm, vma.start)

    world.run(program())
    assert faults == [VmFault.DISCARD, VmFault.MAJOR]
    assert world.kernel.statistics.major_faults == 3
    assert not world.kernel.integrity_errors


def test_the_discarded_list_is_freed_by_reclaim() -> None:
    world = World(page_count=3)
    page = world.cached()
    world.evict(page.pfn)
    world.run(sys_read(world.cpu, world.file, 0, 1))
    world.run(sys_read(world.cpu, world.file, 1, 1))
    assert world.file.pages[1] is page


def overwrite(world: World, page: Page, offset: int, data: bytes) -> None:
    """Change a page's frame behind everybody's back."""
    machine = world.host._machine
    start = (machine.guests[world.guest_id].location[page.pfn] << PAGE_SHIFT) + offset
    machine.frames.memory[start : start + len(data)] = data


def test_content_that_changes_behind_the_guest_is_an_integrity_error() -> None:
    world = World()
    page = world.cached()
    overwrite(world, page, 0, tag(1, 0, 7) * TAGS_PER_PAGE)
    world.run(sys_read(world.cpu, world.file, 0, 1))
    assert world.kernel.statistics.integrity_errors == 1
    error = world.kernel.integrity_errors[0]
    assert "version 7" in error.what
    assert any("allocated" in line for line in error.history)


def test_a_torn_page_is_found_by_the_whole_page_check() -> None:
    world = World()
    page = world.cached()
    overwrite(world, page, 2048, tag(1, 0, 1) * 64)
    world.run(verify(world))
    assert "torn" in world.kernel.integrity_errors[0].what


async def verify(world: World) -> None:
    assert await world.kernel.verify(world.cpu) == 1


def test_without_the_facility_no_essa_follows_the_probe() -> None:
    world = World(essa_enabled=False)
    page = world.cached()
    assert not world.kernel.has_essa
    assert world.state(page) == "Sr"
    assert sum(world.kernel.statistics.essa) == 0


def test_unused_hints_alone_leave_cached_pages_stable() -> None:
    world = World(hints=Hints.UNUSED)
    assert world.state(world.cached()) == "Sr"
    assert world.kernel.statistics.essa[Orc.SET_STABLE] == 1
    assert world.kernel.statistics.essa[Orc.SET_VOLATILE] == 0


def test_reclaim_writes_dirty_pages_back_and_reuses_them() -> None:
    world = World(page_count=4)
    world.run(sys_write(world.cpu, world.file, 0, 8))
    world.run(sys_read(world.cpu, world.file, 0, 8))
    assert not world.kernel.integrity_errors
    assert world.kernel.statistics.disk_writes >= 5


def test_an_access_outside_every_vma_ends_in_a_signal() -> None:
    world = World()
    ends: list[bool] = []

    async def access() -> None:
        ends.append(await user_load(world.cpu, world.kernel.new_mm(), 0x1000))

    world.run(access())
    assert ends == [False]
    assert world.kernel.statistics.signals == 1
