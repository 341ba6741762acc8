"""Writeback: dirty pages to the guest's disk, and what the completion interrupt does.

Models: mm/page-writeback.c, write_cache_pages, filemap_fdatawait and end_page_writeback of
Linux 2.6.15; the reference held during writeback is the 2007 version's answer to R20.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from guest_agent.kernel.buffers import release_buffers
from guest_agent.kernel.checked import check_loaded, report
from guest_agent.kernel.content import TAGS_PER_PAGE
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.dirty import clear_page_dirty_for_io, set_page_writeback
from guest_agent.kernel.page import (
    ANY,
    Mapping,
    Page,
    PG_error,
    PG_private,
    PG_writeback,
    reads,
)
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import PAGEVEC_SIZE, find_get_page, find_get_pages_tag
from guest_agent.kernel.page_hva import make_stable, make_volatile
from guest_agent.kernel.page_lock import lock_page, unlock_page
from guest_agent.kernel.ports import DiskRequest, DiskResult, Vcpu
from shared.commands import LoadOutcome

if TYPE_CHECKING:
    from guest_agent.kernel.kernel import Kernel


async def write_page(cpu: Cpu, page: Page) -> bool:
    """Start the writeback of a locked page and unlock it; False if it was clean.

    The caller holds a reference, and the page is stable.
    """
    mapping = page.mapping
    if mapping is None or not await clear_page_dirty_for_io(cpu, page):
        await unlock_page(cpu, page)
        return False
    await set_page_writeback(cpu, page)
    if cpu.kernel.guards.writeback_reference:
        await cpu.get_page(page)
    await unlock_page(cpu, page)
    _submit(cpu, page, mapping)
    return True


def _submit(cpu: Cpu, page: Page, mapping: Mapping) -> None:
    kernel = cpu.kernel
    disk, block = mapping.block(page.index)
    kernel.statistics.disk_writes += 1
    ticket = kernel.ledger.begin_load((disk, block))

    def ended(result: DiskResult) -> None:
        if result.failed:
            report(kernel, page, f"disk write from pfn {page.pfn} failed")
            return
        outcome = LoadOutcome(result.data, result.repeat)
        version = check_loaded(kernel, page, ticket, outcome, tags=TAGS_PER_PAGE)
        if version is not None:
            kernel.ledger.made_durable((disk, block), version)
            page.history.append(f"wrote version {version}")

    kernel.disk.submit(
        DiskRequest(
            disk,
            block,
            page.pfn,
            True,
            cpu.number,
            partial(end_write, kernel, page),
            check=ticket,
            ended=ended,
        )
    )


async def end_write(
    kernel: Kernel, page: Page, vcpu: Vcpu, _request: DiskRequest, result: DiskResult
) -> None:
    """The completion interrupt of a write."""
    completing = kernel.cpus[vcpu.number]
    if result.failed:
        await completing.set_flag(page, PG_error)
    await end_page_writeback(completing, page)


async def end_page_writeback(cpu: Cpu, page: Page) -> None:
    """The completion interrupt's end: the page may be volatile again."""
    await cpu.clear_flag(page, PG_writeback)
    if not cpu.kernel.guards.irq_never_stabilises:
        # RACE(interrupted-holder): this vCPU may be inside make_volatile for the same page,
        # below us, and then never comes to clear PG_state_change (R23).
        await make_stable(cpu, page)
    if cpu.kernel.guards.writeback_reference:
        await put_page(cpu, page)
    else:
        await make_volatile(cpu, page, 1)


async def wait_on_page_writeback(cpu: Cpu, page: Page) -> None:
    """Sleep until the page's writeback has completed; the caller holds a reference."""
    cpu.might_sleep("wait_on_page_writeback")
    await cpu.wait_flag_clear(page, PG_writeback, "wait_on_page_writeback")


async def sync_mapping(cpu: Cpu, mapping: Mapping, first: int = 0, last: int | None = None) -> None:
    """fsync of the pages from `first` to before `last`: all that was dirty is on the disk."""
    await filemap_fdatawrite_range(cpu, mapping, first, last)
    await filemap_fdatawait_range(cpu, mapping, first, last)


async def filemap_fdatawrite_range(
    cpu: Cpu, mapping: Mapping, first: int, last: int | None
) -> None:
    """Start the writeback of the pages that have the dirty tag."""
    while last is None or first < last:
        pages = await find_get_pages_tag(cpu, mapping, first, PAGEVEC_SIZE)
        if not pages:
            break
        # While its reference is held: afterwards the page may be another one of the file.
        first = pages[-1].index + 1
        for page in pages:
            if last is None or page.index < last:
                await _write_if_ours(cpu, mapping, page)
            await put_page(cpu, page)


async def _write_if_ours(cpu: Cpu, mapping: Mapping, page: Page) -> None:
    """Lock and write a page that may have been truncated since it was found."""
    await lock_page(cpu, page)
    await cpu.point("page.mapping", reads("mapping", page.pfn))
    if page.mapping is not mapping:
        await unlock_page(cpu, page)
        return
    await wait_on_page_writeback(cpu, page)
    await write_page(cpu, page)


async def filemap_fdatawait_range(cpu: Cpu, mapping: Mapping, first: int, last: int | None) -> None:
    """Wait for the writeback of the pages under way, and let their buffers go.

    CHOICE: Linux finds them by PAGECACHE_TAG_WRITEBACK, which the completion interrupt clears
    under the tree lock; the flag itself says the same.
    """
    await cpu.point("page_tree.writeback", reads("page_tree", mapping.number), reads("flags", ANY))
    under_way = [
        index
        for index, page in mapping.pages.items()
        if first <= index
        and (last is None or index < last)
        and page.flags & (PG_writeback | PG_private)
    ]
    for index in sorted(under_way):
        page = await find_get_page(cpu, mapping, index)
        if page is None:
            continue
        await wait_on_page_writeback(cpu, page)
        await release_buffers(cpu, page)
        await put_page(cpu, page)
