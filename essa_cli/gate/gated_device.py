"""The paging device under the gate: the daemon's own, which waits before each operation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from host_daemon.paging.ports import (
    PagingCompletions,
    PagingDevice,
    ReadDone,
    SlotRead,
    SlotWrite,
    WriteDone,
)


class GatedDevice:
    """A paging device that waits before each operation. waiting: them, by number."""

    def __init__(self, device: PagingDevice) -> None:
        self.slot_count = device.slot_count
        self.identity = device.identity
        self.waiting: dict[int, SlotWrite | SlotRead] = {}
        self._device = device
        self._completions: PagingCompletions | None = None
        self._done = asyncio.Event()

    def start(self, completions: PagingCompletions) -> None:
        """Say who hears of completions."""
        self._completions = completions
        self._device.start(self)

    def submit_writes(self, writes: Sequence[SlotWrite]) -> None:
        """Let them wait."""
        self.waiting.update((write.operation, write) for write in writes)

    def submit_reads(self, reads: Sequence[SlotRead]) -> None:
        """Let them wait."""
        self.waiting.update((read.operation, read) for read in reads)

    async def do(self, operation: int, *, fails: bool) -> None:
        """Let the device do one, or fail to, and let whoever is told know."""
        submission = self.waiting.pop(operation)
        self._done.clear()
        match submission:
            case SlotWrite() if fails:
                self.writes_done([WriteDone(operation, False)])
            case SlotRead() if fails:
                self.reads_done([ReadDone(operation, None)])
            case SlotWrite():
                self._device.submit_writes([submission])
            case SlotRead():
                self._device.submit_reads([submission])
        await self._done.wait()

    def writes_done(self, results: Sequence[WriteDone]) -> None:
        """Pass it on."""
        assert self._completions is not None
        self._completions.writes_done(results)
        self._done.set()

    def reads_done(self, results: Sequence[ReadDone]) -> None:
        """Pass it on."""
        assert self._completions is not None
        self._completions.reads_done(results)
        self._done.set()

    async def flush(self) -> None:
        """As the device."""
        await self._device.flush()

    async def close(self) -> None:
        """As the device."""
        await self._device.close()
