"""truncate: a file becomes shorter, and nobody keeps what was cut off.

Rules:
- First the size, then the ptes, then the pages: a fault that comes in between finds a size
  that is too small, or a truncate_count that has changed.
- A page leaves the cache under its lock, when no writeback of it is under way.

Models: vmtruncate and unmap_mapping_range of mm/memory.c, mm/truncate.c, Linux 2.6.15.
DEVIATION: truncate_inode_pages makes no first round that only tries for the locks; blocks
that are cut off stay on the disk as they are, so that a file which grows again has them back.
"""

from __future__ import annotations

from guest_agent.kernel.buffers import block_invalidatepage
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.filemap import down_i_sem, i_size_read, i_size_write, up_i_sem
from guest_agent.kernel.page import Mapping, Page, PG_dirty, PG_uptodate, reads, writes
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import (
    PAGEVEC_SIZE,
    find_get_pages,
    mark_removed,
    remove_from_page_cache,
)
from guest_agent.kernel.page_lock import lock_page, unlock_page
from guest_agent.kernel.writeback import wait_on_page_writeback
from guest_agent.kernel.zap import zap_page_range


async def sys_truncate(cpu: Cpu, mapping: Mapping, page_count: int) -> None:
    """truncate(2): the file has `page_count` pages from now on, more or fewer than before."""
    await down_i_sem(cpu, mapping)
    before = await i_size_read(cpu, mapping)
    await i_size_write(cpu, mapping, page_count)
    if before is None or page_count < before:
        await unmap_mapping_range(cpu, mapping, page_count)
        await truncate_inode_pages(cpu, mapping, page_count)
    await up_i_sem(cpu, mapping)


async def sys_fallocate(cpu: Cpu, mapping: Mapping, page_count: int) -> None:
    """posix_fallocate(3): the file has `page_count` pages from now on, unless it has more."""
    await down_i_sem(cpu, mapping)
    before = await i_size_read(cpu, mapping)
    if before is not None and before < page_count:
        await i_size_write(cpu, mapping, page_count)
    await up_i_sem(cpu, mapping)


async def unmap_mapping_range(cpu: Cpu, mapping: Mapping, first: int) -> None:
    """Remove every pte of the file's pages from `first` on, and of private copies of them.

    RACE(fault-vs-truncate): a fault may hold a page that it has found before, and no pte yet.
    It sets one only if truncate_count, looked at under the page table lock, is what it was
    before the search; and if it comes to that lock first, we find its pte afterwards.
    """
    await cpu.spin_lock(mapping.i_mmap_lock, "i_mmap_lock")
    await cpu.point("truncate_count.inc", writes("i_size", mapping.number))
    mapping.truncate_count += 1
    await cpu.point("i_mmap.walk", reads("i_mmap", mapping.number))
    for vma in [*mapping.i_mmap, *mapping.i_mmap_nonlinear]:
        await zap_page_range(cpu, vma, truncated_from=first)
    await cpu.spin_unlock(mapping.i_mmap_lock, "i_mmap_unlock")


async def truncate_inode_pages(cpu: Cpu, mapping: Mapping, first: int) -> None:
    """Take the file's pages from `first` on out of the cache; rounds until none is left."""
    while await _truncate_round(cpu, mapping, first):
        pass


async def _truncate_round(cpu: Cpu, mapping: Mapping, first: int) -> bool:
    """One pass in ascending order; False if it found nothing."""
    found = False
    while pages := await find_get_pages(cpu, mapping, first, PAGEVEC_SIZE):
        found = True
        first = pages[-1].index + 1
        for page in pages:
            await lock_page(cpu, page)
            await wait_on_page_writeback(cpu, page)
            await truncate_complete_page(cpu, mapping, page)
            await unlock_page(cpu, page)
            await put_page(cpu, page)
    return found


async def truncate_complete_page(cpu: Cpu, mapping: Mapping, page: Page) -> None:
    """Forget one page of the file; the caller holds the page lock and a reference."""
    await cpu.point("page.mapping", reads("mapping", page.pfn))
    if page.mapping is not mapping:
        return  # reclaim, or another truncate, was faster
    await block_invalidatepage(cpu, page)
    await cpu.clear_flag(page, PG_dirty | PG_uptodate)
    await cpu.spin_lock(mapping.tree_lock, "tree_lock")
    removed = await mark_removed(cpu, page)
    if removed:
        await remove_from_page_cache(cpu, page, truncated=True)
    await cpu.spin_unlock(mapping.tree_lock, "tree_unlock")
    if removed:
        await put_page(cpu, page)
