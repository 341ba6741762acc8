"""Grace periods: when a discarded page that nobody references may be reused.

A vCPU that was interrupted by a discard fault holds nothing but the page's absolute address
until its handler has a reference. A discarded page is therefore freed only after every vCPU
has been enabled for interrupts at least once since.

Models: patch 5/6 (discarded page list) of the series, 2005-12-16.
"""

from __future__ import annotations

from typing import Protocol

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import Page, PG_discarded, writes
from guest_agent.kernel.page_alloc import free_page_now


class GracePeriod(Protocol):
    """One variant of the discarded list."""

    pages: list[Page]

    async def add(self, cpu: Cpu, page: Page) -> None:
        """Take a PG_discarded page whose last reference is gone."""
        ...

    async def reclaim(self, cpu: Cpu) -> int:
        """Free the pages whose grace period is over; may sleep. Returns how many."""
        ...


class CallFunction:
    """A list, and a call to every other vCPU before its pages are freed (shrink_discards).

    DEVIATION: one list instead of a pagevec per vCPU in front of it, so that no page waits
    in a pagevec that never fills.
    """

    def __init__(self) -> None:
        self.pages: list[Page] = []

    async def add(self, cpu: Cpu, page: Page) -> None:
        """Put the page on the list. One schedule point."""
        await cpu.point("discard_list.add", writes("discard_list"))
        self.pages.append(page)

    async def reclaim(self, cpu: Cpu) -> int:
        """Splice the list, let every vCPU come out of its disabled code, free the pages."""
        await cpu.point("discard_list.splice", writes("discard_list"))
        pages, self.pages = self.pages, []
        if not pages:
            return 0
        await cpu.kernel.smp_call_function(cpu)
        for page in pages:
            await cpu.clear_flag(page, PG_discarded)
            await free_page_now(cpu, page)
        return len(pages)
