"""Writeback: dirty pages to the guest's disk, and what the completion interrupt does.

Models: mm/page-writeback.c, write_cache_pages and end_page_writeback of Linux 2.6.15; the
reference held during writeback is the 2007 version's answer to R20.
"""

from __future__ import annotations

from guest_agent.kernel.checked import check_loaded, report
from guest_agent.kernel.content import TAGS_PER_PAGE
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.dirty import clear_page_dirty_for_io, set_page_writeback
from guest_agent.kernel.page import Mapping, Page, PG_dirty, PG_error, PG_writeback, reads
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import find_get_page
from guest_agent.kernel.page_hva import make_volatile
from guest_agent.kernel.page_lock import lock_page, unlock_page
from guest_agent.kernel.ports import DiskRequest, DiskResult, Vcpu
from shared.commands import LoadOutcome


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

    async def end_write(vcpu: Vcpu, request: DiskRequest, result: DiskResult) -> None:
        completing = kernel.cpus[vcpu.number]
        if result.failed:
            report(kernel, page, f"disk write from pfn {request.pfn} failed")
            await completing.set_flag(page, PG_error)
        else:
            version = check_loaded(
                kernel, page, ticket, LoadOutcome(result.data, result.repeat), tags=TAGS_PER_PAGE
            )
            if version is not None:
                kernel.ledger.made_durable((disk, block), version)
                page.history.append(f"vcpu{vcpu.number} wrote version {version}")
        await end_page_writeback(completing, page)

    kernel.disk.submit(DiskRequest(disk, block, page.pfn, True, cpu.number, end_write))


async def end_page_writeback(cpu: Cpu, page: Page) -> None:
    """The completion interrupt's end: the page may be volatile again."""
    await cpu.clear_flag(page, PG_writeback)
    if cpu.kernel.guards.writeback_reference:
        await put_page(cpu, page)
    else:
        await make_volatile(cpu, page, 1)


async def wait_on_page_writeback(cpu: Cpu, page: Page) -> None:
    """Sleep until the page's writeback has completed; the caller holds a reference."""
    await cpu.wait_flag_clear(page, PG_writeback, "wait_on_page_writeback")


async def filemap_fdatawrite(cpu: Cpu, mapping: Mapping, indexes: list[int]) -> list[Page]:
    """Start writeback of the given pages where dirty; returns them, each referenced."""
    started = []
    for index in indexes:
        page = await find_get_page(cpu, mapping, index)
        if page is None:
            continue
        await lock_page(cpu, page)
        if page.mapping is not mapping:
            await unlock_page(cpu, page)
            await put_page(cpu, page)
            continue
        await wait_on_page_writeback(cpu, page)
        await write_page(cpu, page)
        started.append(page)
    return started


async def sync_mapping(cpu: Cpu, mapping: Mapping, first: int = 0, last: int | None = None) -> None:
    """fsync of the pages from `first` to before `last`: all that was dirty is on the disk."""
    await cpu.point("page_tree.dirty", reads("page_tree", mapping.number))
    indexes = [
        i
        for i, page in mapping.pages.items()
        if first <= i and (last is None or i < last) and page.flags & (PG_dirty | PG_writeback)
    ]
    for page in await filemap_fdatawrite(cpu, mapping, sorted(indexes)):
        await wait_on_page_writeback(cpu, page)
        await put_page(cpu, page)
