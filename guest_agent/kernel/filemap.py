"""System calls on files: read, write, and the reading of a page from the disk.

Rules:
- The kernel touches the content of a page only while it holds a reference taken before the
  page was made stable; a discard fault in kernel mode is a bug of the kernel.
- Who changes a file's size, or writes to it by a system call, holds its i_sem.

Models: do_generic_mapping_read and generic_file_buffered_write of mm/filemap.c, Linux 2.6.15;
the fixup of user copies of the 2006-09 version.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from guest_agent.kernel.buffers import create_empty_buffers
from guest_agent.kernel.checked import check_loaded, report
from guest_agent.kernel.content import TAG_SIZE, TAGS_PER_PAGE, tag
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.dirty import set_page_dirty, set_page_uptodate
from guest_agent.kernel.discard import storage_access
from guest_agent.kernel.oops import check_outcome
from guest_agent.kernel.page import Mapping, Page, PG_error, PG_uptodate, reads, writes
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import (
    LOOKUP_ROUNDS_MAX,
    add_new_page,
    find_get_page,
    find_lock_page,
)
from guest_agent.kernel.page_lock import lock_page, unlock_page, wait_on_page_locked
from guest_agent.kernel.ports import Check, DiskRequest, DiskResult, Vcpu
from shared.arch import PAGE_SIZE
from shared.commands import FaultPending, Load, LoadOutcome, Outcome, Store

if TYPE_CHECKING:
    from guest_agent.kernel.kernel import Kernel

COPY_ROUNDS_MAX: Final = 8
"""Discard faults in a row, all of them handled, after which a copy counts as never ending."""


async def kernel_load(
    cpu: Cpu, page: Page, mapping: Mapping, index: int, *, tags: int
) -> bytes | None:
    """The kernel reads `tags` tags of a page that it holds stable, checks and returns one.

    None: the copy was ended by a discard fault, and that is reported.
    """
    kernel = cpu.kernel
    ticket = kernel.ledger.begin_load(mapping.block(index))
    offset = 0 if tags == TAGS_PER_PAGE else kernel.next_offset()
    outcome = await _copy(cpu, page, Load(page.pfn, offset, tags * TAG_SIZE), ticket)
    if outcome is None:
        return None
    check_loaded(kernel, page, ticket, outcome, tags=tags)
    return outcome.data[:TAG_SIZE] if isinstance(outcome, LoadOutcome) else bytes(TAG_SIZE)


async def kernel_store(cpu: Cpu, page: Page, mapping: Mapping, index: int) -> bool:
    """The kernel writes a new version over the whole of a page that it holds stable.

    False: the copy was ended by a discard fault, and that is reported.
    """
    key = mapping.block(index)
    ticket = cpu.kernel.ledger.store(key)
    store = Store(page.pfn, 0, tag(*key, ticket.version), TAGS_PER_PAGE)
    if await _copy(cpu, page, store, ticket) is None:
        ticket.nullified()
        return False
    ticket.end()
    return True


async def _copy(cpu: Cpu, page: Page, command: Load | Store, check: Check) -> Outcome | None:
    """The cache's side of a copy to or from a user's buffer: one access.

    None: a discard fault took it, which can only mean that the page was not held stable.
    RACE(fault-on-the-kernel-operand): executing the access again would never end, because the
    kernel's address goes on naming the page whose content is gone (R41).
    """
    if not cpu.kernel.guards.fixup_user_copy:
        return await _repeat(cpu, page, command, check)
    outcome = await cpu.call(command, check)
    if not isinstance(outcome, FaultPending):
        check_outcome(cpu, page, outcome, "copying between a user's buffer and a page")
        return outcome
    cpu.kernel.link.fault_settled(outcome.fault)
    report(cpu.kernel, page, f"discard fault {outcome.fault} in kernel mode on a page held stable")
    return None


async def _repeat(cpu: Cpu, page: Page, command: Load | Store, check: Check) -> Outcome:
    """The fault is handled, and the nullified instruction executed again."""
    for _ in range(COPY_ROUNDS_MAX):
        outcome = await storage_access(cpu, command, check)
        if outcome is not None:
            check_outcome(cpu, page, outcome, "copying between a user's buffer and a page")
            return outcome
    raise KernelBug(f"live-lock: {COPY_ROUNDS_MAX} discard faults in one copy: {page.describe()}")


# The size of a file, and who may change it.


async def i_size_read(cpu: Cpu, mapping: Mapping) -> int | None:
    """The file's size in pages, None for a file that ends nowhere. One step."""
    await cpu.point("i_size.read", reads("i_size", mapping.number))
    return mapping.page_count


async def i_size_write(cpu: Cpu, mapping: Mapping, page_count: int) -> None:
    """Change the file's size; i_sem is held. One step."""
    await cpu.point("i_size.write", writes("i_size", mapping.number))
    mapping.page_count = page_count


async def down_i_sem(cpu: Cpu, mapping: Mapping) -> None:
    """Keep other writers, and truncate, away from the file. One step; may sleep."""
    cpu.might_sleep("down_i_sem")
    if mapping.held_by(cpu.number):
        raise KernelBug(f"dead-lock: vcpu {cpu.number} has i_sem of file {mapping.number}")
    await cpu.wait_until(
        lambda: mapping.i_sem is None, "i_sem.down", writes("i_sem", mapping.number)
    )
    mapping.i_sem = cpu.number


async def up_i_sem(cpu: Cpu, mapping: Mapping) -> None:
    """Let the next writer at the file. One step."""
    await cpu.point("i_sem.up", writes("i_sem", mapping.number))
    mapping.i_sem = None


# Reading pages.


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

    def ended(result: DiskResult) -> None:
        if result.failed:
            report(kernel, page, f"disk read into pfn {page.pfn} failed")
        else:
            outcome = LoadOutcome(result.data, result.repeat)
            check_loaded(kernel, page, ticket, outcome, tags=TAGS_PER_PAGE)
            page.history.append(f"read disk {disk} block {block}")

    kernel.disk.submit(
        DiskRequest(
            disk,
            block,
            page.pfn,
            False,
            cpu.number,
            partial(end_read, kernel, page),
            check=ticket,
            ended=ended,
        )
    )


async def end_read(
    kernel: Kernel, page: Page, vcpu: Vcpu, _request: DiskRequest, result: DiskResult
) -> None:
    """The completion interrupt of a read: the page is up to date and unlocked, or in error."""
    completing = kernel.cpus[vcpu.number]
    if result.failed:
        await completing.set_flag(page, PG_error)
    else:
        await set_page_uptodate(completing, page)
    await unlock_page(completing, page)


# System calls.


async def sys_read(cpu: Cpu, mapping: Mapping, index: int, count: int) -> int:
    """read(2) of `count` pages from page `index`, page by page in ascending order.

    Returns how many pages were read: the file may end before, or be cut off meanwhile.
    """
    for i in range(index, index + count):
        if not await _read_page(cpu, mapping, i):
            return i - index
    return count


async def _read_page(cpu: Cpu, mapping: Mapping, index: int) -> bool:
    """do_generic_mapping_read for one page; False at the end of the file.

    The size is read again after a page came from the disk: it may lie beyond by then.
    """
    kernel = cpu.kernel
    if not _inside(await i_size_read(cpu, mapping), index):
        return False
    page, hit = await get_uptodate_page(cpu, mapping, index)
    kernel.statistics.cache_hits += hit
    kernel.statistics.cache_misses += not hit
    inside = hit or _inside(await i_size_read(cpu, mapping), index)
    if inside:
        await kernel.lru.mark_accessed(cpu, page)
        tags = 1 if hit else TAGS_PER_PAGE
        inside = await kernel_load(cpu, page, mapping, index, tags=tags) is not None
    await put_page(cpu, page)
    return inside


def _inside(page_count: int | None, index: int) -> bool:
    return page_count is None or index < page_count


async def sys_write(cpu: Cpu, mapping: Mapping, index: int, count: int) -> int:
    """write(2) of `count` whole pages from page `index`, each with a version of its own.

    Returns how many pages were written. The file grows if it ends before.
    """
    await down_i_sem(cpu, mapping)
    written = 0
    for i in range(index, index + count):
        if not await _write_page(cpu, mapping, i):
            break
        written += 1
    await up_i_sem(cpu, mapping)
    return written


async def _write_page(cpu: Cpu, mapping: Mapping, index: int) -> bool:
    """generic_file_buffered_write for one page: prepare, copy, commit. False: copy ended."""
    kernel = cpu.kernel
    page = await find_lock_page(cpu, mapping, index)
    hit = page is not None
    while page is None:
        page = await add_new_page(cpu, mapping, index) or await find_lock_page(cpu, mapping, index)
    kernel.statistics.cache_hits += hit
    kernel.statistics.cache_misses += not hit
    if kernel.config.buffer_heads:
        await create_empty_buffers(cpu, page)
    copied = await kernel_store(cpu, page, mapping, index)
    if copied:
        await set_page_uptodate(cpu, page)
        await set_page_dirty(cpu, page)
        if not _inside(await i_size_read(cpu, mapping), index):
            await i_size_write(cpu, mapping, index + 1)
    await unlock_page(cpu, page)
    await kernel.lru.mark_accessed(cpu, page)
    await put_page(cpu, page)
    return copied


assert TAGS_PER_PAGE * TAG_SIZE == PAGE_SIZE
