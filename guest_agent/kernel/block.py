"""What a disk does with one request, without knowing where its blocks are kept.

Rules:
- A read moves the block into the page by a device store, a write moves the page to the
  block by a device load; then the completion interrupt comes to the request's vCPU.
- DMA_DISK has no blocks: what it is sent is gone, what it delivers came with the request.
- The same coroutine runs over a file and the gRPC link, and in the race explorer.
"""

from __future__ import annotations

from typing import Protocol

from guest_agent.kernel.content import DMA_DISK
from guest_agent.kernel.kernel import Kernel
from guest_agent.kernel.ports import DiskRequest, DiskResult, Link
from shared.arch import PAGE_SIZE
from shared.commands import DONE, DeviceLoad, DeviceStore, LoadOutcome

Block = tuple[bytes, int]
"""A block's content: data and how often it repeats to make up 4 KiB."""


class BlockStore(Protocol):
    """Where the blocks are. A write that has returned survives the guest."""

    async def read(self, disk: int, block: int) -> Block:
        """The block's content; one never written reads as version 0 of itself."""
        ...

    async def write(self, disk: int, block: int, content: Block) -> None:
        """Replace the block's content."""
        ...


async def transfer(link: Link, store: BlockStore, issuer: int, request: DiskRequest) -> DiskResult:
    """Move the block. issuer: the device, from vcpu_count on. One command on the host."""
    if request.check is not None:
        request.check.begin()
    if request.write:
        outcome = await link.call(issuer, DeviceLoad(request.pfn, 0, PAGE_SIZE))
        if not isinstance(outcome, LoadOutcome):
            return DiskResult(b"", 0, failed=True)
        if request.disk != DMA_DISK:
            await store.write(request.disk, request.block, (outcome.data, outcome.repeat))
        return DiskResult(outcome.data, outcome.repeat)
    data, repeat = request.content or await store.read(request.disk, request.block)
    failed = await link.call(issuer, DeviceStore(request.pfn, 0, data, repeat)) != DONE
    return DiskResult(data, repeat, failed=failed)


def complete(kernel: Kernel, request: DiskRequest, result: DiskResult) -> None:
    """Tell the oracle, and make the completion interrupt of a finished transfer pending."""
    if request.ended is not None:
        request.ended(result)
    kernel.raise_interrupt(request.vcpu, lambda cpu: request.done(cpu, request, result))
