"""A booted guest with a swap device and one process that has anonymous memory."""

from __future__ import annotations

from guest_agent.kernel.guards import FIXED, Guards
from guest_agent.kernel.mm import Mm, SwapEntry, Vma
from guest_agent.kernel.page import Page
from guest_agent.kernel.swap_cache import get_swap_page
from guest_agent.kernel.syscalls import sys_fork, sys_mmap, user_load, user_store
from guest_agent.kernel.vmscan import try_to_free_pages
from tests.kernel.world import World


class SwapWorld(World):
    """A World with one process that has `count` pages of anonymous memory, all stored to."""

    def __init__(
        self,
        count: int = 1,
        *,
        page_count: int = 16,
        swap_pages: int = 8,
        guards: Guards = FIXED,
        minor_faults: bool = False,
    ) -> None:
        super().__init__(
            page_count, guards=guards, swap_pages=swap_pages, minor_faults=minor_faults
        )
        self.mm = self.kernel.new_mm()
        self.vma: Vma

        async def prepare() -> None:
            self.vma = await sys_mmap(self.cpu, self.mm, None, 0, count, writable=True)
            for address in range(self.vma.start, self.vma.end):
                assert await user_store(self.cpu, self.mm, address)

        self.run(prepare())

    async def swap_out(self) -> None:
        """Reclaim until nothing can be reclaimed: all anonymous pages are on the device."""
        while await try_to_free_pages(self.cpu):
            pass

    def entry(self, mm: Mm | None = None, number: int = 0) -> SwapEntry:
        """The swap entry in a pte of the process."""
        entry = (mm or self.mm).ptes[self.vma.start + number].entry
        assert isinstance(entry, SwapEntry)
        return entry

    def page(self, mm: Mm | None = None, number: int = 0) -> Page:
        """The page that a pte of the process maps."""
        page = (mm or self.mm).ptes[self.vma.start + number].page
        assert page is not None
        return page

    async def shared_and_swapped(self) -> Mm:
        """Fork, swap out, and let the child load: its pte maps the page, ours names the slot."""
        child = await sys_fork(self.cpu, self.mm)
        await self.swap_out()
        assert await user_load(self.cpu, child, self.vma.start)
        return child

    def fill_swap(self) -> None:
        """Take slots until the device counts as full."""

        async def program() -> None:
            while not self.kernel.swap.full():
                assert await get_swap_page(self.cpu)

        self.run(program())

    def end(self) -> None:
        """Compare all of memory; there is nothing wrong with it."""

        async def program() -> None:
            await self.kernel.verify(self.cpu)

        self.run(program())
        assert not self.kernel.integrity_errors
