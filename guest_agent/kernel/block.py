"""What a disk does with requests, without knowing where its blocks are kept.

Rules:
- A read moves the block into the page by a device store, a write moves the page to the
  block by a device load; then the completion interrupt comes to the request's vCPU.
- DMA_DISK has no blocks: what it is sent is gone, what it delivers came with the request.
- The same coroutine runs over a file and the gRPC link, and in the race explorer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

from guest_agent.kernel.content import DMA_DISK, TAG_SIZE, TAGS_PER_PAGE, tag
from guest_agent.kernel.cpu import KernelBug
from guest_agent.kernel.kernel import Kernel
from guest_agent.kernel.ports import DiskRequest, DiskResult, Link
from shared.arch import PAGE_SIZE
from shared.commands import DONE, DeviceLoad, DeviceStore, LoadOutcome, MachineCheck, Outcome

Block = tuple[bytes, int]
"""A block's content: data and how often it repeats to make up 4 KiB."""


_ZERO_TAG: Final = bytes(TAG_SIZE)


class BlockStore(Protocol):
    """Where the blocks are. A write that has returned survives the guest."""

    async def read(self, disk: int, block: int) -> Block:
        """The block's content; one never written reads as version 0 of itself."""
        ...

    async def write(self, disk: int, block: int, content: Block) -> None:
        """Replace the block's content."""
        ...


def block_of_bytes(raw: bytes | memoryview, disk: int, block: int) -> Block:
    """A block's content from its bytes as a file keeps them; short where the file ends.

    Nothing but zeros was never written.
    """
    data = bytes(raw)
    first = data[:TAG_SIZE]
    if len(data) == PAGE_SIZE and data == first * TAGS_PER_PAGE and first != _ZERO_TAG:
        return first, TAGS_PER_PAGE
    if not data.strip(b"\0"):
        return tag(disk, block, 0), TAGS_PER_PAGE
    return data.ljust(PAGE_SIZE, b"\0"), 1


async def transfer(link: Link, store: BlockStore, issuer: int, request: DiskRequest) -> DiskResult:
    """Move the block. issuer: the device, from vcpu_count on. One command on the host.

    Raises KernelBug for a machine check: the page's only copy is lost, and nobody can go on.
    """
    if request.check is not None:
        request.check.begin()
    if request.write:
        outcome = await link.call(issuer, DeviceLoad(request.pfn, 0, PAGE_SIZE))
        if not isinstance(outcome, LoadOutcome):
            _stop_if_damaged(outcome, request)
            return DiskResult(b"", 0, failed=True)
        if request.disk != DMA_DISK:
            await store.write(request.disk, request.block, (outcome.data, outcome.repeat))
        return DiskResult(outcome.data, outcome.repeat)
    data, repeat = request.content or await store.read(request.disk, request.block)
    outcome = await link.call(issuer, DeviceStore(request.pfn, 0, data, repeat))
    _stop_if_damaged(outcome, request)
    return DiskResult(data, repeat, failed=outcome != DONE)


def _stop_if_damaged(outcome: Outcome, request: DiskRequest) -> None:
    if isinstance(outcome, MachineCheck):
        verb = "write from" if request.write else "read into"
        raise KernelBug(f"machine check: disk {verb} pfn {request.pfn}, which is damaged")


def complete(kernel: Kernel, request: DiskRequest, result: DiskResult) -> None:
    """Tell the oracle, and make the completion interrupt of a finished transfer pending."""
    if request.ended is not None:
        request.ended(result)
    kernel.raise_interrupt(request.vcpu, lambda cpu: request.done(cpu, request, result))


class GuestDisk:
    """The kernel's `Disk`. Attach the kernel before the first transfer completes.

    issuers: the device numbers on the link; each moves one block at a time. spawn: begins a
    task in the guest's task group, so that a failed transfer ends the guest.
    """

    def __init__(
        self,
        link: Link,
        store: BlockStore,
        issuers: Sequence[int],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._link = link
        self._store = store
        self._idle_issuers = list(reversed(issuers))
        self._queue: deque[DiskRequest] = deque()
        self._spawn = spawn
        self._kernel: Kernel | None = None
        self._under_way = 0

    def attach(self, kernel: Kernel) -> None:
        """Say which kernel gets the completion interrupts."""
        self._kernel = kernel

    @property
    def in_flight(self) -> int:
        """Transfers submitted and not completed."""
        return self._under_way + len(self._queue)

    def submit(self, request: DiskRequest) -> None:
        """Queue a transfer; its completion interrupt comes later, in any order."""
        if self._idle_issuers:
            self._under_way += 1
            self._spawn(self._serve(self._idle_issuers.pop(), request))
        else:
            self._queue.append(request)

    async def _serve(self, issuer: int, request: DiskRequest) -> None:
        """Move this block, then those that wait, until none does."""
        kernel = self._kernel
        assert kernel is not None, "a transfer before attach"
        while True:
            complete(kernel, request, await self.move(issuer, request))
            if not self._queue:
                break
            request = self._queue.popleft()
        self._under_way -= 1
        self._idle_issuers.append(issuer)

    async def move(self, issuer: int, request: DiskRequest) -> DiskResult:
        """Move one block."""
        return await transfer(self._link, self._store, issuer, request)
