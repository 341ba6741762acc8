"""The door between the host's shell and its paging device.

Rules:
- Everything here runs on the event loop's thread; only the device's own I/O leaves it.
- Submitting never blocks, never awaits and never completes before it has returned.
- Every submitted operation is completed exactly once, in any order, also after an error.
- The core names operations; the device only hands the numbers back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class SlotWrite(NamedTuple):
    """One page on its way out: 4 KiB to `slot`, sealed with the slot's `generation`."""

    operation: int
    slot: int
    generation: int
    data: bytes


class SlotRead(NamedTuple):
    """One page on its way in; content of another generation counts as damaged."""

    operation: int
    slot: int
    generation: int


class WriteDone(NamedTuple):
    """How a write ended. ok=False: the slot's content is not to be relied on."""

    operation: int
    ok: bool


class ReadDone(NamedTuple):
    """How a read ended. data=None: unreadable, wrong checksum or another generation."""

    operation: int
    data: bytes | None


class PagingCompletions(Protocol):
    """Who hears of completions: one call may carry several. The shell is one."""

    def writes_done(self, results: Sequence[WriteDone]) -> None:
        """Called on the loop."""
        ...

    def reads_done(self, results: Sequence[ReadDone]) -> None:
        """Called on the loop."""
        ...


class PagingDevice(Protocol):
    """4 KiB slots, numbered from 0, with a checksum and a generation each.

    The file is created, or opened again after a checkpoint, before the shell sees it:
    `await open_paging_device(path, slot_count, keep=...)` in `host_daemon.paging.device`.
    keep=False begins a new file with a new identity; keep=True opens the one that is there
    and raises PagingFileError if it is missing, too small or no paging file.
    """

    slot_count: int

    identity: bytes
    """16 random bytes, written into the file when it was created; a checkpoint names them."""

    def start(self, completions: PagingCompletions) -> None:
        """Say who hears of completions. Called once, before the first submission."""
        ...

    def submit_writes(self, writes: Sequence[SlotWrite]) -> None:
        """Queue writes. Two writes to one slot take effect in the order submitted."""
        ...

    def submit_reads(self, reads: Sequence[SlotRead]) -> None:
        """Queue reads. A read of a slot sees every write submitted before it."""
        ...

    async def flush(self) -> None:
        """Return when all that was submitted is completed, heard of, and on stable storage."""
        ...

    async def close(self) -> None:
        """Complete what is under way and close the file. Idempotent."""
        ...


class PagingFileError(Exception):
    """The paging file cannot be used; the text names the file and the reason in one line."""
