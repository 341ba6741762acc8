"""get_user_pages: a program's pages, pinned for a device; and the transfers of such a device.

Rules:
- A pinned page is referenced first and then made stable: whatever a device, or the kernel,
  does with it, it stays stable until the reference goes.
- mmap_sem is held while pages are pinned, and not while data moves.

Models: follow_page and get_user_pages of mm/memory.c, Linux 2.6.15, with patch 1/6; direct
I/O of fs/direct-io.c for its users.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from guest_agent.kernel.checked import check_loaded, content_key, is_current, report
from guest_agent.kernel.content import DMA_DISK, TAGS_PER_PAGE, BlockKey, tag
from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.dirty import set_page_dirty, set_page_dirty_lock
from guest_agent.kernel.discard import discard_page
from guest_agent.kernel.fault import handle_mm_fault
from guest_agent.kernel.mm import Mm
from guest_agent.kernel.page import ANY, Page, PG_swapcache, reads, writes
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_hva import make_stable
from guest_agent.kernel.ports import DiskRequest, DiskResult, Vcpu
from guest_agent.kernel.vmfault import VmFault
from shared.commands import LoadOutcome

if TYPE_CHECKING:
    from guest_agent.kernel.kernel import Kernel

PIN_ROUNDS_MAX = 10_000


async def follow_page(cpu: Cpu, mm: Mm, address: int, *, write: bool) -> Page | None:
    """The page behind a page address, referenced and stable; mmap_sem is held.

    None: no pte allows the access, or the page was discarded and is unmapped by now.
    CHOICE: stable under the page table lock, as in the version of 2005-09; that of 2005-12
    gives the lock up first.
    """
    pte = cpu.kernel.pte(mm, address)
    await cpu.spin_lock(mm.page_table_lock, "ptl")
    await cpu.point("pte.load", reads("pte", pte.number))
    page = pte.page if pte.writable or not write else None
    stable = page is not None and await _get_stable(cpu, page, write=write)
    await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")
    if page is None or stable:
        return page
    cpu.kernel.statistics.stable_failed += 1
    await discard_page(cpu, page)
    await put_page(cpu, page)
    return None


async def _get_stable(cpu: Cpu, page: Page, *, write: bool) -> bool:
    """FOLL_GET and FOLL_TOUCH: a reference, a stable page, a dirty one for a write.

    RACE(dirty-before-stable): the page may be discarded already. Dirtied first, as
    follow_page of Linux does, it runs into the BUG_ON(PageDirty) of its discarding.
    """
    guards = cpu.kernel.guards
    await cpu.get_page(page)
    if write and not guards.touch_after_stable:
        await _touch(cpu, page)
    if guards.stable_pin and not await make_stable(cpu, page):
        return False
    if write and guards.touch_after_stable:
        await _touch(cpu, page)
    return True


async def _touch(cpu: Cpu, page: Page) -> None:
    """Set PG_dirty where it has a reader. The pte keeps truncate away from the page."""
    if page.anonymous is None or await cpu.read_flags(page) & PG_swapcache:
        await set_page_dirty(cpu, page)


async def get_user_pages(cpu: Cpu, mm: Mm, address: int, count: int, *, write: bool) -> list[Page]:
    """Pin `count` pages from a page address on, faulting them in; mmap_sem is held.

    Fewer, if there is an address that cannot be accessed like that.
    """
    pages: list[Page] = []
    for place in range(address, address + count):
        page = await _pin(cpu, mm, place, write=write)
        if page is None:
            break
        pages.append(page)
    return pages


async def _pin(cpu: Cpu, mm: Mm, address: int, *, write: bool) -> Page | None:
    for _ in range(PIN_ROUNDS_MAX):
        page = await follow_page(cpu, mm, address, write=write)
        if page is not None:
            await cpu.kernel.lru.mark_accessed(cpu, page)
            return page
        fault = await handle_mm_fault(cpu, mm, address, write=write)
        if fault in (VmFault.SIGBUS, VmFault.SIGSEGV):
            return None
    raise KernelBug(f"get_user_pages: no progress at page address {address:#x}")


# Transfers.


@dataclass(slots=True, eq=False)
class _Batch:
    """The transfers of one system call that are under way."""

    mm: Mm
    left: int = 0


async def sys_dma_out(cpu: Cpu, mm: Mm, address: int, count: int) -> int:
    """A device reads `count` of the program's pages, as in a direct write or a send.

    Returns how many pages the device got; each is compared whole.
    """
    return await _dma(cpu, mm, address, count, into=False)


async def sys_dma_in(cpu: Cpu, mm: Mm, address: int, count: int) -> int:
    """A device stores into `count` of the program's pages, as in a direct read or a receive.

    Returns how many pages have new content: a version of their own, that the device brings.
    """
    return await _dma(cpu, mm, address, count, into=True)


async def _dma(cpu: Cpu, mm: Mm, address: int, count: int, *, into: bool) -> int:
    """Pin, transfer, wait; dirty what was stored into; let go.

    mm.dma is raised while mmap_sem is held: a fork that has it sees all transfers.
    """
    await cpu.down_read(mm.mmap_sem)
    pages = await get_user_pages(cpu, mm, address, count, write=into)
    await cpu.point("mm.dma", writes("dma", mm.number))
    mm.dma += len(pages)
    await cpu.up_read(mm.mmap_sem)
    batch = _Batch(mm)
    for page in pages:
        await cpu.point(
            "dma.submit",
            reads("mapping", page.pfn),
            reads("page_tree", ANY),
            writes("dma", mm.number),
        )
        if is_current(page):
            _submit(cpu, batch, page, into=into)
    await cpu.wait_until(lambda: not batch.left, "dma.wait", reads("dma", mm.number))
    for page in pages:
        if into:
            await set_page_dirty_lock(cpu, page)
        await put_page(cpu, page)
    await cpu.point("mm.dma", writes("dma", mm.number))
    mm.dma -= len(pages)
    return len(pages)


def _submit(cpu: Cpu, batch: _Batch, page: Page, *, into: bool) -> None:
    """Queue the transfer of one page whose content is current. Behind a point."""
    key = content_key(page)
    assert key is not None, "a page that is current has content"
    batch.left += 1
    submit = _submit_in if into else _submit_out
    submit(cpu, batch, page, key)


def _submit_out(cpu: Cpu, batch: _Batch, page: Page, key: BlockKey) -> None:
    kernel = cpu.kernel
    ticket = kernel.ledger.begin_load(key)
    copied = page.anonymous.copied if page.anonymous is not None else None

    def ended(result: DiskResult) -> None:
        if result.failed:
            report(kernel, page, f"DMA out of pfn {page.pfn} failed")
        else:
            seen = LoadOutcome(result.data, result.repeat)
            check_loaded(kernel, page, ticket, seen, tags=TAGS_PER_PAGE, copied=copied)

    kernel.disk.submit(
        DiskRequest(
            DMA_DISK,
            key[1],
            page.pfn,
            True,
            cpu.number,
            partial(_completed, kernel, batch),
            check=ticket,
            ended=ended,
        )
    )


def _submit_in(cpu: Cpu, batch: _Batch, page: Page, key: BlockKey) -> None:
    kernel = cpu.kernel
    ticket = kernel.ledger.store(key)

    def ended(result: DiskResult) -> None:
        if result.failed:
            report(kernel, page, f"DMA into pfn {page.pfn} failed")
            ticket.nullified()
        else:
            page.history.append(f"received version {ticket.version}")
            ticket.end()

    kernel.disk.submit(
        DiskRequest(
            DMA_DISK,
            key[1],
            page.pfn,
            False,
            cpu.number,
            partial(_completed, kernel, batch),
            content=(tag(*key, ticket.version), TAGS_PER_PAGE),
            check=ticket,
            ended=ended,
        )
    )


async def _completed(
    kernel: Kernel, batch: _Batch, vcpu: Vcpu, _request: DiskRequest, _result: DiskResult
) -> None:
    """The completion interrupt of one transfer."""
    await kernel.cpus[vcpu.number].point("dma.done", writes("dma", batch.mm.number))
    batch.left -= 1
