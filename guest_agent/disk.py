"""The guest's own disk: a sparse file of blocks.

Rules:
- What a transfer does, and how they queue, stands in `guest_agent.kernel.block`; here the
  blocks are read and written off the event loop.
- One batch of file I/O is under way at a time; neighbouring blocks share one system call.
- A completed write is in the file, and stays there whatever becomes of guest or host. It is
  not forced to the medium: the emulated power failures are those of processes.
- A hole in the file, or a block of zeros, was never written: it reads as version 0 of itself.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from guest_agent.kernel.block import Block, block_of_bytes
from guest_agent.kernel.content import TAGS_PER_PAGE, parse_tag, tag
from shared.arch import PAGE_SIZE
from shared.runs import runs

RUN_MAX: Final = 256
"""Blocks of one system call."""
FILE_BYTES_MAX: Final = 1 << 43
"""8 TiB: what the common file systems let one sparse file span."""
BLOCKS_MAX: Final = FILE_BYTES_MAX // PAGE_SIZE


class DiskFileError(Exception):
    """The disk's file cannot be used; the text names it and the reason in one line."""


class BlockFile:
    """The file itself; every method blocks and runs on one thread at a time."""

    def __init__(self, descriptor: int, disk: int) -> None:
        self.disk = disk
        self._descriptor = descriptor

    def read(self, blocks: Sequence[int]) -> dict[int, Block]:
        """The contents. Raises OSError."""
        found: dict[int, Block] = {}
        for first, count in runs(sorted(set(blocks)), RUN_MAX):
            raw = memoryview(os.pread(self._descriptor, count * PAGE_SIZE, first * PAGE_SIZE))
            for position in range(count):
                piece = raw[position * PAGE_SIZE : (position + 1) * PAGE_SIZE]
                found[first + position] = block_of_bytes(piece, self.disk, first + position)
        return found

    def write(self, contents: dict[int, Block]) -> None:
        """Replace the contents. Raises OSError."""
        for first, count in runs(sorted(contents), RUN_MAX):
            pieces = [
                data * repeat
                for data, repeat in map(contents.__getitem__, range(first, first + count))
            ]
            if os.pwritev(self._descriptor, pieces, first * PAGE_SIZE) != count * PAGE_SIZE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def versions(self) -> Iterator[tuple[int, int]]:
        """The version of every block that was written and holds its own tag throughout."""
        for block in self._data_blocks():
            data, repeat = block_of_bytes(
                os.pread(self._descriptor, PAGE_SIZE, block * PAGE_SIZE), self.disk, block
            )
            seen = parse_tag(data) if repeat == TAGS_PER_PAGE else None
            if seen is not None and seen[:2] == (self.disk, block) and seen[2] > 0:
                yield block, seen[2]

    def close(self) -> None:
        """Close the file, and with it give up its lock."""
        os.close(self._descriptor)

    def _data_blocks(self) -> Iterator[int]:
        offset = 0
        while True:
            try:
                offset = os.lseek(self._descriptor, offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole from here on
                    return
                raise
            end = os.lseek(self._descriptor, offset, os.SEEK_HOLE)
            yield from range(offset // PAGE_SIZE, -(-end // PAGE_SIZE))
            offset = end


@dataclass(slots=True)
class _Batch:
    """What the next round of file I/O does. Writes come first: a read sees what precedes it."""

    writes: list[tuple[int, Block, asyncio.Future[None]]]
    reads: list[tuple[int, asyncio.Future[Block]]]


class FileBlockStore:
    """One disk in one sparse file; see `BlockStore`. Create it with `open_block_store`."""

    def __init__(self, file: BlockFile) -> None:
        self.disk = file.disk
        self._file = file
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="essa-disk")
        self._next = _Batch([], [])
        self._busy = False

    async def read(self, disk: int, block: int) -> Block:
        """The block's content; one never written reads as version 0 of itself."""
        self._check(disk, block)
        done: asyncio.Future[Block] = asyncio.get_running_loop().create_future()
        self._next.reads.append((block, done))
        self._schedule()
        return await done

    async def write(self, disk: int, block: int, content: Block) -> None:
        """Replace the block's content."""
        self._check(disk, block)
        assert len(content[0]) * content[1] == PAGE_SIZE, "not a whole block"
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._next.writes.append((block, content, done))
        self._schedule()
        await done

    async def versions(self) -> list[tuple[int, int]]:
        """(block, version) of all that was ever written: what a guest finds when it starts."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, lambda: list(self._file.versions()))

    def close(self) -> None:
        """Complete what is under way and close the file."""
        self._worker.shutdown()
        self._file.close()

    def _check(self, disk: int, block: int) -> None:
        assert disk == self.disk, f"disk {disk} is not here"
        assert 0 <= block < BLOCKS_MAX, f"block {block} is beyond the disk"

    def _schedule(self) -> None:
        if not self._busy:
            self._busy = True
            # From the end of the loop's turn: what else this turn asks for joins the batch.
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        batch, self._next = self._next, _Batch([], [])
        work = asyncio.get_running_loop().run_in_executor(self._worker, self._perform, batch)
        work.add_done_callback(lambda done: self._finished(batch, done))

    def _perform(self, batch: _Batch) -> dict[int, Block]:
        self._file.write({block: content for block, content, _ in batch.writes})
        return self._file.read([block for block, _ in batch.reads])

    def _finished(self, batch: _Batch, work: asyncio.Future[dict[int, Block]]) -> None:
        if self._next.reads or self._next.writes:
            self._begin()
        else:
            self._busy = False
        try:
            contents = work.result()
        except OSError as failure:
            waiters: list[asyncio.Future[Any]] = [w for _, _, w in batch.writes]
            waiters += [r for _, r in batch.reads]
            for waiting in waiters:
                if not waiting.done():
                    waiting.set_exception(failure)
            return
        for _, _, written in batch.writes:
            if not written.done():
                written.set_result(None)
        for block, read in batch.reads:
            if not read.done():
                read.set_result(contents[block])


class BlockStores:
    """The files' disk, and in memory all others: swap device and DMA buffers.

    What those hold means nothing to the next incarnation of the guest, and is kept as it
    came: a block of zeroes is one, not a hole.
    """

    def __init__(self, files: FileBlockStore) -> None:
        self._files = files
        self._others: dict[tuple[int, int], Block] = {}

    async def read(self, disk: int, block: int) -> Block:
        """The block's content; one never written reads as version 0 of itself."""
        if disk == self._files.disk:
            return await self._files.read(disk, block)
        found = self._others.get((disk, block))
        return found if found is not None else (tag(disk, block, 0), TAGS_PER_PAGE)

    async def write(self, disk: int, block: int, content: Block) -> None:
        """Replace the block's content."""
        if disk == self._files.disk:
            await self._files.write(disk, block, content)
        else:
            self._others[disk, block] = content


def open_block_store(path: Path, disk: int = 1) -> FileBlockStore:
    """Open the disk's file, or create an empty one. Raises DiskFileError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DiskFileError(f"cannot use {path}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DiskFileError(f"{path} is no regular file")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if status.st_size % PAGE_SIZE:
            raise DiskFileError(f"{path} is no disk: its size is no multiple of {PAGE_SIZE}")
    except BlockingIOError:
        os.close(descriptor)
        raise DiskFileError(f"{path} is in use by another guest") from None
    except BaseException:
        os.close(descriptor)
        raise
    return FileBlockStore(BlockFile(descriptor, disk))
