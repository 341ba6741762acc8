"""Truncate: what leaves the cache and the page tables, what stays, and what readers see.

Method: one vCPU on the real host core, every load checked. The race of a fault with a truncate
is explored to exhaustion, with and without the sequence that closes it.
"""

from __future__ import annotations

import pytest

from guest_agent.kernel import truncate
from guest_agent.kernel.content import TAGS_PER_PAGE, tag
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.fault import map_page
from guest_agent.kernel.filemap import get_uptodate_page, i_size_write, kernel_load
from guest_agent.kernel.kernel import Hints, KernelConfig
from guest_agent.kernel.mm import FileEntry
from guest_agent.kernel.page import Mapping, Page, PG_dirty
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import find_get_page
from guest_agent.kernel.page_lock import lock_page
from guest_agent.kernel.syscalls import (
    sys_fallocate,
    sys_fsync,
    sys_mmap,
    sys_read,
    sys_remap_file_pages,
    sys_truncate,
    sys_write,
    user_load,
    user_store,
)
from guest_agent.kernel.writeback import write_page
from race_explorer.exhaustive import Report, explore
from race_explorer.world import SimWorld
from tests.kernel.world import World


def test_pages_behind_the_end_leave_the_cache_dirty_or_not() -> None:
    world = World()

    async def program() -> None:
        await sys_read(world.cpu, world.file, 0, 4)
        await sys_write(world.cpu, world.file, 2, 2)
        await sys_truncate(world.cpu, world.file, 1)
        assert await sys_read(world.cpu, world.file, 0, 4) == 1
        await sys_fsync(world.cpu, world.file)

    world.run(program())
    assert set(world.file.pages) == {0}
    assert not world.file.dirty
    assert world.kernel.statistics.disk_writes == 0
    assert world.kernel.nrpages == 1
    assert len(world.kernel.free_list) == 14


def test_a_file_without_pages_has_none_to_read() -> None:
    world = World()

    async def program() -> None:
        await sys_truncate(world.cpu, world.file, 0)
        assert await sys_read(world.cpu, world.file, 0, 3) == 0
        await sys_truncate(world.cpu, world.file, 2)
        assert await sys_read(world.cpu, world.file, 0, 3) == 2

    world.run(program())
    assert world.kernel.statistics.disk_reads == 2


def test_a_write_makes_the_file_longer() -> None:
    world = World()

    async def program() -> None:
        await sys_truncate(world.cpu, world.file, 1)
        assert await sys_write(world.cpu, world.file, 4, 2) == 2

    world.run(program())
    assert world.file.page_count == 6


def test_fallocate_only_ever_makes_it_longer() -> None:
    world = World()

    async def program() -> None:
        await sys_fallocate(world.cpu, world.file, 3)
        assert world.file.page_count is None  # longer already
        await sys_truncate(world.cpu, world.file, 4)
        await sys_fallocate(world.cpu, world.file, 2)
        assert world.file.page_count == 4
        await sys_fallocate(world.cpu, world.file, 6)
        assert world.file.page_count == 6

    world.run(program())


def test_what_was_never_written_to_the_disk_is_lost_and_the_disk_is_believed() -> None:
    """Version 1 is on the disk, 2 only in memory; after the truncate the file grows again."""
    world = World()

    async def program() -> None:
        await sys_write(world.cpu, world.file, 0, 1)
        await sys_fsync(world.cpu, world.file)
        await sys_write(world.cpu, world.file, 0, 1)
        await sys_truncate(world.cpu, world.file, 0)
        await sys_truncate(world.cpu, world.file, 1)
        assert await sys_read(world.cpu, world.file, 0, 1) == 1

    world.run(program())
    assert world.store.blocks[1, 0] == (tag(1, 0, 1), TAGS_PER_PAGE)
    assert world.kernel.ledger.legal((1, 0)) == [1]
    assert not world.kernel.integrity_errors


def test_a_reader_may_see_the_page_that_it_has_in_its_hand() -> None:
    """Its content is no error, and says nothing about what the file holds afterwards."""
    world = World()

    async def program() -> None:
        await sys_write(world.cpu, world.file, 0, 1)
        page, _ = await get_uptodate_page(world.cpu, world.file, 0)
        await sys_truncate(world.cpu, world.file, 0)
        assert await kernel_load(world.cpu, page, world.file, 0, tags=1) == tag(1, 0, 1)
        await sys_truncate(world.cpu, world.file, 1)
        assert await sys_read(world.cpu, world.file, 0, 1) == 1
        assert await kernel_load(world.cpu, page, world.file, 0, tags=1) == tag(1, 0, 1)
        await put_page(world.cpu, page)
        assert page.count == 0

    world.run(program())
    assert not world.kernel.integrity_errors


def test_it_waits_for_a_write_that_is_under_way() -> None:
    world = World()

    async def program() -> None:
        await sys_write(world.cpu, world.file, 0, 1)
        page = world.file.pages[0]
        await world.cpu.get_page(page)
        await lock_page(world.cpu, page)
        assert await write_page(world.cpu, page)
        assert not world.store.blocks
        await sys_truncate(world.cpu, world.file, 0)
        assert world.store.blocks[1, 0][0] == tag(1, 0, 1)
        await put_page(world.cpu, page)

    world.run(program())
    assert world.kernel.ledger.legal((1, 0)) == [1]


def test_a_page_that_the_host_has_discarded_is_no_obstacle() -> None:
    world = World()
    page = world.cached()
    world.evict(page.pfn)
    world.run(sys_truncate(world.cpu, world.file, 0))
    assert not world.file.pages
    assert page in world.kernel.grace.pages
    assert world.kernel.statistics.pages_discarded == 1


def test_mapped_pages_are_unmapped_and_further_accesses_get_a_signal() -> None:
    world = World()
    mm = world.kernel.new_mm()

    async def program() -> None:
        vma = await sys_mmap(world.cpu, mm, world.file, 0, 3, writable=True)
        for address in range(vma.start, vma.end):
            assert await user_store(world.cpu, mm, address)
        pages = list(world.file.pages.values())
        await sys_truncate(world.cpu, world.file, 1)
        assert [page.mapcount for page in pages] == [1, 0, 0]
        assert [page.count for page in pages[1:]] == [0, 0]
        assert not pages[1].flags & PG_dirty
        assert await user_load(world.cpu, mm, vma.start)
        assert not await user_load(world.cpu, mm, vma.start + 1)
        assert not await user_store(world.cpu, mm, vma.start + 2)
        await sys_truncate(world.cpu, world.file, 2)
        assert await user_load(world.cpu, mm, vma.start + 1)

    world.run(program())
    assert world.kernel.statistics.signals == 2
    assert not world.kernel.integrity_errors


def test_private_copies_go_with_the_file() -> None:
    """even_cows: beyond the end of the file there is nothing, not even one's own."""
    world = World(swap_pages=8)
    mm = world.kernel.new_mm()

    async def program() -> None:
        vma = await sys_mmap(world.cpu, mm, world.file, 0, 2, writable=True, shared=False)
        assert await user_store(world.cpu, mm, vma.start)
        assert await user_store(world.cpu, mm, vma.start + 1)
        kept, copy = (mm.ptes[vma.start + i].page for i in (0, 1))
        await sys_truncate(world.cpu, world.file, 1)
        assert copy is not None
        assert copy.count == 0
        assert mm.ptes[vma.start].page is kept
        assert not await user_load(world.cpu, mm, vma.start + 1)

    world.run(program())


def test_a_non_linear_mapping_keeps_the_offset_and_loses_the_page() -> None:
    world = World()
    mm = world.kernel.new_mm()

    async def program() -> None:
        vma = await sys_mmap(world.cpu, mm, world.file, 0, 2, writable=True)
        assert await sys_remap_file_pages(world.cpu, mm, vma, vma.start, 5)
        assert await user_load(world.cpu, mm, vma.start)
        assert await user_load(world.cpu, mm, vma.start + 1)
        await sys_truncate(world.cpu, world.file, 4)
        assert mm.ptes[vma.start].page is None
        assert mm.ptes[vma.start].entry == FileEntry(5)
        assert mm.ptes[vma.start + 1].page is world.file.pages[1]
        assert not await user_load(world.cpu, mm, vma.start)

    world.run(program())
    assert set(world.file.pages) == {1}


# Races.


class _NoStrays(SimWorld):
    """At the end no pte may map a page that is not the file's."""

    file: Mapping

    def finished(self) -> list[str]:
        pages = [p.page for mm in self.kernel.mms for p in mm.ptes.values() if p.page is not None]
        strays = [page for page in pages if not _at_home(page)]
        return [f"a pte maps {page.describe()}" for page in strays] or super().finished()


def _at_home(page: Page) -> bool:
    return page.mapping is not None and page.mapping.pages.get(page.index) is page


def fault_and_truncate() -> SimWorld:
    """Two vCPUs: one is about to map a page that it has found, the other truncates the file.

    Without hints: how a page's state changes on the way is another story.
    """
    world = _NoStrays(KernelConfig(page_count=3, vcpu_count=2, hints=Hints.NONE))
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=False)
        kernel.pte(mm, vma.start)
        await sys_read(cpu, file, 0, 1)

    async def fault(cpu: Cpu) -> None:
        sequence = file.truncate_count
        page = await find_get_page(cpu, file, 0)
        if page is None:
            return
        await map_page(cpu, vma, vma.start, page, sequence)
        (pte,) = mm.ptes.values()
        world.mark("not mapped" if pte.page is None else "mapped for a while")

    async def cut(cpu: Cpu) -> None:
        await i_size_write(cpu, file, 0)
        await truncate.unmap_mapping_range(cpu, file, 0)
        await truncate.truncate_inode_pages(cpu, file, 0)

    world.prepare(prepare())
    (vma,) = mm.vmas
    world.run_vcpu(0, fault)
    world.run_vcpu(1, cut)
    return world


def explored() -> Report:
    return explore(fault_and_truncate, schedules_max=60_000)


def test_no_pte_outlives_a_truncate() -> None:
    report = explored()
    assert report.counterexample is None, report.counterexample
    assert report.exhausted
    assert report.reached["mapped for a while"]
    assert report.reached["not mapped"]


def test_without_the_sequence_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgetful(cpu: Cpu, mapping: Mapping, first: int) -> None:
        before = mapping.truncate_count
        await unmap(cpu, mapping, first)
        mapping.truncate_count = before

    unmap = truncate.unmap_mapping_range
    monkeypatch.setattr(truncate, "unmap_mapping_range", forgetful)
    found = explored().counterexample
    assert found is not None
    assert "a pte maps" in found.violations[0]
