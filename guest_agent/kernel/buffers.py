"""Buffer heads: what a file system hangs on a page that it writes to, and when it lets go.

Rules:
- A page with buffers has PG_private and one reference more; while it has them it stays
  stable, because nobody but the file system knows what hangs there.
- Buffers come and go under the page lock. The series sets max_buffer_heads to 0: they go as
  soon as the page is clean and on the disk.

Models: fs/buffer.c of Linux 2.6.15 (create_empty_buffers, try_to_free_buffers,
block_invalidatepage); try_to_release_page of mm/filemap.c.
"""

from __future__ import annotations

from typing import Final

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.page import (
    Page,
    PG_dirty,
    PG_locked,
    PG_private,
    PG_writeback,
    writes,
)
from guest_agent.kernel.page_lock import lock_page, unlock_page

HEADS_PER_PAGE: Final = 1
"""CHOICE: blocks of the file system are as large as pages."""


async def create_empty_buffers(cpu: Cpu, page: Page) -> None:
    """Give a page buffers unless it has some. The page lock is held. Up to three steps."""
    if await cpu.read_flags(page) & PG_private:
        return
    await cpu.get_page(page)
    await cpu.point("page.attach_buffers", writes("flags", page.pfn), writes("private", page.pfn))
    page.flags |= PG_private
    page.buffers = HEADS_PER_PAGE


async def try_to_release_page(cpu: Cpu, page: Page) -> bool:
    """Take a page's buffers away; False while they are needed for a write, begun or to come.

    The caller holds the page lock and a reference of its own. What makes the page volatile
    again is the caller's unlock_page or put_page, since a locked page stays stable.
    """
    flags = await cpu.read_flags(page)
    if not flags & PG_locked:
        raise KernelBug(f"release of a page that is not locked: {page.describe()}")
    if flags & PG_private and flags & (PG_writeback | PG_dirty):
        return False
    if flags & PG_private:
        await _drop_buffers(cpu, page)
    return True


async def block_invalidatepage(cpu: Cpu, page: Page) -> None:
    """Truncate: the buffers go, and what was to be written with them is forgotten.

    The caller holds the page lock and a reference of its own; no writeback is under way.
    """
    if await cpu.read_flags(page) & PG_private:
        await _drop_buffers(cpu, page)


async def _drop_buffers(cpu: Cpu, page: Page) -> None:
    """drop_buffers and __clear_page_buffers. Two steps.

    RACE(dirtied-without-buffers): the page may become dirty through a pte meanwhile. Its
    writeback does without buffers, as for every page that was only ever mapped.
    """
    await cpu.point("page.drop_buffers", writes("flags", page.pfn), writes("private", page.pfn))
    page.flags &= ~PG_private
    page.buffers = 0
    if await cpu.put_page_testzero(page):
        raise KernelBug(f"buffers had the last reference: {page.describe()}")


async def release_buffers(cpu: Cpu, page: Page) -> None:
    """Lock the page and try to take its buffers away. The caller holds a reference."""
    if not await cpu.read_flags(page) & PG_private:
        return
    await lock_page(cpu, page)
    await try_to_release_page(cpu, page)
    await unlock_page(cpu, page)
