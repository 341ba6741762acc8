"""mlock: pages are there, and stable, and stay so; the mark on the file is for good.

Method: one vCPU on the real host core; states are read back from the host.
"""

from __future__ import annotations

import pytest

from guest_agent.kernel.guards import FIXED, Guards
from guest_agent.kernel.mlock import CHUNK
from guest_agent.kernel.mm import Mm, Vma
from guest_agent.kernel.page import Page
from guest_agent.kernel.syscalls import (
    sys_mlock,
    sys_mmap,
    sys_munlock,
    sys_munmap,
    sys_read,
    sys_truncate,
    user_load,
)
from tests.kernel.world import World


class Process(World):
    """A process that maps the first pages of the file."""

    def __init__(
        self,
        count: int = 3,
        *,
        guards: Guards = FIXED,
        page_count: int = 16,
        writable: bool = False,
        shared: bool = True,
    ) -> None:
        super().__init__(page_count, guards=guards)
        self.mm: Mm = self.kernel.new_mm()
        self.vma: Vma

        async def program() -> None:
            self.vma = await sys_mmap(
                self.cpu, self.mm, self.file, 0, count, writable=writable, shared=shared
            )

        self.run(program())

    def pages(self) -> list[Page]:
        ptes = (self.mm.ptes[address] for address in range(self.vma.start, self.vma.end))
        return [pte.page for pte in ptes if pte.page is not None]

    def lock(self, *, complete: bool = True) -> None:
        async def program() -> None:
            assert await sys_mlock(self.cpu, self.mm, self.vma) is complete

        self.run(program())

    def states(self) -> set[str]:
        return {self.state(page) for page in self.pages()}


def test_locked_pages_are_present_and_stable() -> None:
    world = Process()
    world.cached(1)  # volatile before
    world.lock()
    assert len(world.pages()) == 3
    assert world.states() == {"Sr"}
    assert all(page.count == 2 for page in world.pages())
    assert world.vma.locked


def test_without_the_mark_they_are_volatile_when_mlock_returns() -> None:
    world = Process(guards=FIXED.without("mlock_marks_mapping"))
    world.lock()
    assert world.states() == {"Vr"}
    world.evict(world.pages()[0].pfn)

    async def touch() -> None:
        assert await user_load(world.cpu, world.mm, world.vma.start)

    world.run(touch())
    assert world.kernel.statistics.discard_faults == 1


def test_the_host_takes_their_frames_but_not_their_content() -> None:
    world = Process()
    world.lock()
    for page in world.pages():
        world.evict(page.pfn)

    async def touch() -> None:
        for address in range(world.vma.start, world.vma.end):
            assert await user_load(world.cpu, world.mm, address)

    world.run(touch())
    assert world.kernel.statistics.discard_faults == 0
    assert world.kernel.statistics.disk_reads == 3


def test_more_than_a_chunk_is_locked_chunk_by_chunk() -> None:
    world = Process(CHUNK + 5, page_count=CHUNK + 16)
    world.lock()
    assert len(world.pages()) == CHUNK + 5
    assert world.states() == {"Sr"}


def test_reclaim_leaves_them_alone() -> None:
    world = Process(3, page_count=8)
    world.lock()
    locked = world.pages()

    async def fill() -> None:
        assert await sys_read(world.cpu, world.file, 3, 20) == 20

    world.run(fill())
    assert world.pages() == locked


def test_the_mark_outlives_the_lock_and_the_mapping() -> None:
    world = Process()
    world.lock()

    async def unlock() -> None:
        assert await sys_munlock(world.cpu, world.mm, world.vma)
        assert not world.vma.locked
        assert await sys_munmap(world.cpu, world.mm, world.vma)
        assert not await sys_munlock(world.cpu, world.mm, world.vma)

    world.run(unlock())
    assert world.file.mlocked
    assert world.state(world.cached(7)) == "Sr"


def test_a_page_behind_the_end_of_the_file_cannot_be_locked() -> None:
    world = Process()
    world.run(sys_truncate(world.cpu, world.file, 2))
    world.lock(complete=False)
    assert len(world.mm.ptes) >= 2
    assert world.kernel.statistics.signals == 0


def test_a_writable_private_mapping_gets_its_copies_at_once() -> None:
    world = Process(writable=True, shared=False)
    world.lock()
    assert all(page.anonymous is not None for page in world.pages())
    assert len(world.pages()) == 3


@pytest.mark.parametrize("call", [sys_mlock, sys_munlock])
def test_a_vma_that_is_gone_is_refused(call: object) -> None:
    world = Process()

    async def program() -> None:
        assert await sys_munmap(world.cpu, world.mm, world.vma)
        assert callable(call)
        assert not await call(world.cpu, world.mm, world.vma)

    world.run(program())
    assert not world.file.mlocked
