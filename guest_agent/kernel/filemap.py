"""System calls on files: read, write, and the reading of a page from the disk.

Rules:
- The kernel touches the content of a page only while it holds a reference taken before the
  page was made stable; a discard fault in kernel mode is a bug of the kernel.

Models: do_generic_mapping_read and generic_file_buffered_write of mm/filemap.c, Linux 2.6.15.
"""

from __future__ import annotations

from guest_agent.kernel.checked import check_loaded, report
from guest_agent.kernel.content import TAG_SIZE, TAGS_PER_PAGE, tag
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.dirty import set_page_dirty, set_page_uptodate
from guest_agent.kernel.page import Mapping, Page, PG_error, PG_uptodate
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import (
    LOOKUP_ROUNDS_MAX,
    add_new_page,
    find_get_page,
    find_lock_page,
)
from guest_agent.kernel.page_lock import lock_page, unlock_page, wait_on_page_locked
from guest_agent.kernel.ports import DiskRequest, DiskResult, Vcpu
from shared.arch import PAGE_SIZE
from shared.commands import DONE, FaultPending, Load, LoadOutcome, Store


async def kernel_load(cpu: Cpu, page: Page, mapping: Mapping, index: int, *, tags: int) -> bytes:
    """The kernel reads `tags` tags of a page that it holds stable, checks and returns one."""
    kernel = cpu.kernel
    ticket = kernel.ledger.begin_load(mapping.block(index))
    offset = 0 if tags == TAGS_PER_PAGE else kernel.next_offset()
    outcome = await cpu.call(Load(page.pfn, offset, tags * TAG_SIZE))
    if isinstance(outcome, FaultPending):
        _kernel_fault(cpu, page, outcome)
    check_loaded(kernel, page, ticket, outcome, tags=tags)
    return outcome.data[:TAG_SIZE] if isinstance(outcome, LoadOutcome) else bytes(TAG_SIZE)


async def kernel_store(cpu: Cpu, page: Page, mapping: Mapping, index: int) -> None:
    """The kernel writes a new version over the whole of a page that it holds stable."""
    kernel = cpu.kernel
    key = mapping.block(index)
    version = kernel.ledger.begin_store(key)
    outcome = await cpu.call(Store(page.pfn, 0, tag(*key, version), TAGS_PER_PAGE))
    if outcome != DONE:
        if isinstance(outcome, FaultPending):
            _kernel_fault(cpu, page, outcome)
        report(kernel, page, f"store to disk {key[0]} block {key[1]} ended in {outcome}")
    kernel.ledger.end_store(key, version)


def _kernel_fault(cpu: Cpu, page: Page, outcome: FaultPending) -> None:
    """A discard fault on a page that the kernel holds stable can never be resolved."""
    cpu.kernel.link.fault_settled(outcome.fault)
    report(cpu.kernel, page, f"discard fault {outcome.fault} in kernel mode on a page held stable")
    raise KernelBug(f"discard fault in kernel mode: {page.describe()}")


async def get_uptodate_page(cpu: Cpu, mapping: Mapping, index: int) -> tuple[Page, bool]:
    """The file's page: referenced, stable, up to date; and whether it came from the cache."""
    hit = True
    for _ in range(LOOKUP_ROUNDS_MAX):
        page = await find_get_page(cpu, mapping, index)
        if page is None:
            page = await add_new_page(cpu, mapping, index)
            if page is None:
                continue
            hit = False
            await readpage(cpu, page, mapping, index)
        if await cpu.read_flags(page) & PG_uptodate:
            return page, hit
        await wait_on_page_locked(cpu, page)
        flags = await cpu.read_flags(page)
        if flags & PG_uptodate:
            return page, hit
        if flags & PG_error:
            raise KernelBug(f"read error: {page.describe()}")
        await _read_again(cpu, page, mapping, index)
        await put_page(cpu, page)
    raise KernelBug(f"no progress reading file {mapping.number} index {index}")


async def _read_again(cpu: Cpu, page: Page, mapping: Mapping, index: int) -> None:
    """The page is unlocked and not up to date: a writer has given it up half way."""
    await lock_page(cpu, page)
    if page.mapping is not mapping or await cpu.read_flags(page) & PG_uptodate:
        await unlock_page(cpu, page)
        return
    await readpage(cpu, page, mapping, index)
    await wait_on_page_locked(cpu, page)


async def readpage(cpu: Cpu, page: Page, mapping: Mapping, index: int) -> None:
    """Submit the read of a locked page; its completion interrupt unlocks it.

    No schedule point: the request is queued behind the point before.
    """
    disk, block = mapping.block(index)
    kernel = cpu.kernel
    kernel.statistics.disk_reads += 1
    ticket = kernel.ledger.begin_load((disk, block))

    async def end_read(vcpu: Vcpu, request: DiskRequest, result: DiskResult) -> None:
        completing = kernel.cpus[vcpu.number]
        if result.failed:
            report(kernel, page, f"disk read into pfn {request.pfn} failed")
            await completing.set_flag(page, PG_error)
        else:
            check_loaded(
                kernel, page, ticket, LoadOutcome(result.data, result.repeat), tags=TAGS_PER_PAGE
            )
            page.history.append(f"vcpu{vcpu.number} read disk {disk} block {block}")
            await set_page_uptodate(completing, page)
        await unlock_page(completing, page)

    kernel.disk.submit(DiskRequest(disk, block, page.pfn, False, cpu.number, end_read))


async def sys_read(cpu: Cpu, mapping: Mapping, index: int, count: int) -> None:
    """read(2) of `count` pages from page `index`, page by page in ascending order."""
    kernel = cpu.kernel
    for i in range(index, index + count):
        page, hit = await get_uptodate_page(cpu, mapping, i)
        kernel.statistics.cache_hits += hit
        kernel.statistics.cache_misses += not hit
        await kernel.lru.mark_accessed(cpu, page)
        await kernel_load(cpu, page, mapping, i, tags=1 if hit else TAGS_PER_PAGE)
        await put_page(cpu, page)


async def sys_write(cpu: Cpu, mapping: Mapping, index: int, count: int) -> None:
    """write(2) of `count` whole pages from page `index`, each with a version of its own."""
    kernel = cpu.kernel
    for i in range(index, index + count):
        page = await find_lock_page(cpu, mapping, i)
        hit = page is not None
        while page is None:
            page = await add_new_page(cpu, mapping, i) or await find_lock_page(cpu, mapping, i)
        kernel.statistics.cache_hits += hit
        kernel.statistics.cache_misses += not hit
        await kernel_store(cpu, page, mapping, i)
        await set_page_uptodate(cpu, page)
        await set_page_dirty(cpu, page)
        await unlock_page(cpu, page)
        await kernel.lru.mark_accessed(cpu, page)
        await put_page(cpu, page)


assert TAGS_PER_PAGE * TAG_SIZE == PAGE_SIZE
