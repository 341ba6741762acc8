"""The end of a run: everything that the guest holds is compared with what it should hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guest_agent.kernel.content import TAGS_PER_PAGE
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.filemap import get_uptodate_page, kernel_load
from guest_agent.kernel.mm import SwapEntry
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.uaccess import user_access

if TYPE_CHECKING:
    from guest_agent.kernel.kernel import Kernel


async def verify(kernel: Kernel, cpu: Cpu, share: int = 0, shares: int = 1) -> int:
    """Compare every cached page, every block that was ever stored to, everything mapped.

    Pages of files are compared whole; those not cached any more are read from the disk, and
    a block belongs to the last file that begins at or before it. What processes have mapped
    or swapped out is loaded from through its pte. share, shares: several vCPUs may each do a
    part. Returns how many pages were compared; what is wrong is reported as an integrity error.
    """
    wanted = {m.number: set(m.pages) for m in kernel.mappings.values()}
    for disk, block in kernel.ledger.stored():
        files = [m for m in kernel.mappings.values() if m.disk == disk and m.first_block <= block]
        owner = max(files, key=lambda m: m.first_block, default=None)
        if owner is not None:
            wanted[owner.number].add(block - owner.first_block)
    compared = 0
    for number, indexes in wanted.items():
        mapping = kernel.mappings[number]
        for index in sorted(indexes)[share::shares]:
            if mapping.page_count is not None and index >= mapping.page_count:
                continue  # truncated
            page, _ = await get_uptodate_page(cpu, mapping, index)
            await kernel_load(cpu, page, mapping, index, tags=TAGS_PER_PAGE)
            await put_page(cpu, page)
            compared += 1
    return compared + await _verify_mapped(kernel, cpu, share, shares)


async def _verify_mapped(kernel: Kernel, cpu: Cpu, share: int, shares: int) -> int:
    places = [
        (mm, address)
        for mm in kernel.mms
        for address, pte in sorted(mm.ptes.items())
        if pte.page is not None or isinstance(pte.entry, SwapEntry)
    ]
    for mm, address in places[share::shares]:
        await user_access(cpu, mm, address, write=False)
    return len(places[share::shares])
