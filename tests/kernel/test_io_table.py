"""Goal: hinting saves exactly the page I/Os that it is meant to save, and adds none.

Method: the kernel on the host core, one system call after the other. Counted is every page that
moves to or from a disk, whoever moves it: the host's page-outs and page-ins, and the transfers
of the guest's own disk and swap device. The numbers are those of the discussion of 2009-03
(linux-mm, "Guest page hinting version 7"): 2 I/Os against 1 for a clean file page, 3 against 1
where guest and host page out the same page; and of the merged hints for unused pages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from guest_agent.kernel.kernel import Hints, KernelConfig
from guest_agent.kernel.mm import SwapEntry
from guest_agent.kernel.page import Mapping, Page
from guest_agent.kernel.syscalls import (
    sys_mmap,
    sys_munmap,
    sys_read,
    user_load,
    user_store,
)
from guest_agent.kernel.vmscan import try_to_free_pages
from host_daemon.core.effects import CHOOSE_VICTIM
from race_explorer.straight import Straight
from shared.arch import CONTENT_MASK, Content
from shared.commands import DeviceLoad, DeviceStore

RECLAIM_ROUNDS_MAX = 20


class Machine(Straight):
    """A booted guest: one file, one process with one page of anonymous memory."""

    def __init__(self, hints: Hints, *, minor_faults: bool) -> None:
        super().__init__(
            KernelConfig(page_count=16, hints=hints, swap_pages=8, minor_faults=minor_faults)
        )
        self.cpu = self.kernel.cpus[0]
        self.file: Mapping = self.kernel.open_file(1, disk=1, first_block=0)
        self.mm = self.kernel.new_mm()
        self.run(self.kernel.boot(self.cpu))

    def io(self) -> int:
        """Page I/Os so far."""
        paging = self.host.guest_statistics(self.guest_id).paging
        own = sum(isinstance(command, DeviceLoad | DeviceStore) for _, command in self.commands)
        return paging.page_outs + paging.page_ins + own

    def do(self, program: Awaitable[object]) -> None:
        """Run one system call or access, whatever it answers."""

        async def run() -> None:
            await program

        self.run(run())
        assert self.kernel.integrity_errors == []

    def anonymous(self) -> Page:
        """Map a page of anonymous memory and store to it."""
        self.do(sys_mmap(self.cpu, self.mm, None, 0, 1, writable=True))
        self.do(user_store(self.cpu, self.mm, self.address))
        page = self.mm.ptes[self.address].page
        assert page is not None
        return page

    @property
    def address(self) -> int:
        """Of the process's last mapping."""
        return self.mm.vmas[-1].start

    def cached(self) -> Page:
        """Read the first page of the file."""
        self.do(sys_read(self.cpu, self.file, 0, 1))
        return self.file.pages[0]

    def swapped_out(self) -> bool:
        """Whether the anonymous page is on the swap device and nowhere else."""
        entry = self.mm.ptes[self.address].entry
        return isinstance(entry, SwapEntry) and entry.slot not in self.kernel.swap.pages

    def swap_out(self) -> None:
        """The guest is short of memory itself, until the anonymous page is gone."""
        for _ in range(RECLAIM_ROUNDS_MAX):
            self.do(try_to_free_pages(self.cpu))
            if self.swapped_out():
                return
        raise AssertionError("reclaim does not come to the anonymous page")


Row = Callable[[Machine], int]


def clean_file_page(machine: Machine) -> int:
    """In the cache, evicted, read again."""
    page = machine.cached()
    begun = machine.io()
    machine.evict(page.pfn)
    machine.cached()
    return machine.io() - begun


def unused_page(machine: Machine) -> int:
    """Freed, evicted, allocated again."""
    page = machine.anonymous()
    machine.do(sys_munmap(machine.cpu, machine.mm, machine.mm.vmas[-1]))
    begun = machine.io()
    machine.evict(page.pfn)
    assert machine.anonymous() is page, "another page is reused"
    return machine.io() - begun


def guest_swapped_page(machine: Machine) -> int:
    """The host takes a frame; then the guest reclaims, first its file page, then the other.

    Without volatile hints both pick the anonymous page: out, in again, out to swap. With them
    the host takes the file page, for which nothing has to be written.
    """
    page = machine.anonymous()
    machine.cached()
    begun = machine.io()
    machine.host.run(CHOOSE_VICTIM)
    machine.settle()
    preserved = machine.host.state_byte(machine.guest_id, page.pfn) & CONTENT_MASK
    volatile = machine.kernel.config.hints is Hints.VOLATILE
    assert (preserved == Content.PRESERVED) != volatile
    machine.swap_out()
    return machine.io() - begun


def dirty_anonymous_page(machine: Machine) -> int:
    """Stored to, evicted, loaded again."""
    page = machine.anonymous()
    begun = machine.io()
    machine.evict(page.pfn)
    machine.do(user_load(machine.cpu, machine.mm, machine.address))
    return machine.io() - begun


def dirty_page_evicted_then_swapped(machine: Machine) -> int:
    """As the guest-swapped page, but the host is told to take that one: hints cannot help."""
    page = machine.anonymous()
    begun = machine.io()
    machine.evict(page.pfn)
    machine.swap_out()
    return machine.io() - begun


def swap_cache_page(machine: Machine) -> int:
    """Swapped in again and clean, evicted, loaded again: the swap device has it as well."""
    machine.anonymous()
    machine.swap_out()
    machine.do(user_load(machine.cpu, machine.mm, machine.address))
    page = machine.mm.ptes[machine.address].page
    assert page is not None
    assert page.pfn in [p.pfn for p in machine.kernel.swap.pages.values()]
    begun = machine.io()
    machine.evict(page.pfn)
    machine.do(user_load(machine.cpu, machine.mm, machine.address))
    return machine.io() - begun


TABLE: list[tuple[Row, int, int, int]] = [
    (clean_file_page, 2, 2, 1),
    (unused_page, 2, 0, 0),
    (guest_swapped_page, 3, 3, 1),
    (dirty_anonymous_page, 2, 2, 2),
    (dirty_page_evicted_then_swapped, 3, 3, 3),
    (swap_cache_page, 2, 2, 1),
]
"""Row, and its I/Os without hints, with hints for unused pages, with volatile hints."""

CASES = [
    pytest.param(row, hints, expected, id=f"{row.__name__}-{hints}")
    for row, *numbers in TABLE
    for hints, expected in zip(Hints, numbers, strict=True)
]


@pytest.mark.parametrize("minor_faults", [False, True], ids=["plain", "with-4/6"])
@pytest.mark.parametrize(("row", "hints", "expected"), CASES)
def test_page_ios_per_eviction_and_reuse(
    row: Row, hints: Hints, expected: int, minor_faults: bool
) -> None:
    assert row(Machine(hints, minor_faults=minor_faults)) == expected
