"""The paging device: a sparse file of checksummed 4 KiB slots behind one worker thread.

Rules:
- Each slot is sealed with its own number, its generation and a checksum over all of it, so
  a torn write, a misdirected write and an old generation are all seen as damage.
- One batch of I/O is under way at a time; what is submitted meanwhile makes the next one.
- Inside a batch, neighbouring slots share one system call.
- A file belongs to one process (a lock), and one that is no paging file is never overwritten.

Layout: a file header of 4 KiB, then slots of 32 + 4096 bytes. Little endian throughout.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import stat
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from host_daemon.paging.ports import (
    PagingCompletions,
    PagingFileError,
    ReadDone,
    SlotRead,
    SlotWrite,
    WriteDone,
)
from shared.arch import PAGE_SIZE
from shared.runs import runs

FILE_HEADER: Final = struct.Struct("<8sI16sQ")
"""Magic, format version, identity, slot count."""
FILE_MAGIC: Final = b"ESSAPAGE"
FILE_VERSION: Final = 1
FILE_HEADER_SIZE: Final = 4096

SLOT_SEAL: Final = struct.Struct("<4sIQQ8x")
"""Magic, CRC-32 of (slot, generation, data), slot, generation; padded to 32 bytes."""
SLOT_MAGIC: Final = b"slot"
SLOT_NAME: Final = struct.Struct("<QQ")
SLOT_SIZE: Final = SLOT_SEAL.size + PAGE_SIZE

RUN_MAX: Final = 256
"""Slots of one system call: two vector elements each, and IOV_MAX is 1024."""


def slot_offset(slot: int) -> int:
    """Where a slot begins in the file."""
    return FILE_HEADER_SIZE + slot * SLOT_SIZE


def _checksum(slot: int, generation: int, data: bytes | memoryview) -> int:
    return zlib.crc32(data, zlib.crc32(SLOT_NAME.pack(slot, generation)))


def seal(slot: int, generation: int, data: bytes) -> bytes:
    """The 32 bytes that stand before a slot's data."""
    return SLOT_SEAL.pack(SLOT_MAGIC, _checksum(slot, generation, data), slot, generation)


def unseal(slot: int, generation: int, raw: memoryview) -> bytes | None:
    """The data of a slot as it stands in the file, or None unless every seal field agrees."""
    if len(raw) < SLOT_SIZE:
        return None
    magic, checksum, sealed_slot, sealed_generation = SLOT_SEAL.unpack_from(raw)
    if (magic, sealed_slot, sealed_generation) != (SLOT_MAGIC, slot, generation):
        return None
    data = raw[SLOT_SEAL.size : SLOT_SIZE]
    return bytes(data) if _checksum(slot, generation, data) == checksum else None


Submission = SlotWrite | SlotRead


class _Completed(NamedTuple):
    writes: list[WriteDone]
    reads: list[ReadDone]


@dataclass(slots=True)
class _Segment:
    """Submissions that may be done as all writes, then all reads."""

    writes: list[SlotWrite] = field(default_factory=list)
    reads: list[SlotRead] = field(default_factory=list)


def _segments(batch: Sequence[Submission]) -> Iterator[_Segment]:
    """Cut a batch where a write follows a read of the same slot."""
    segment, read_slots = _Segment(), set[int]()
    for submission in batch:
        if isinstance(submission, SlotRead):
            segment.reads.append(submission)
            read_slots.add(submission.slot)
            continue
        if submission.slot in read_slots:
            yield segment
            segment, read_slots = _Segment(), set()
        segment.writes.append(submission)
    yield segment


class SlotFile:
    """The file itself; every method blocks and runs on one thread at a time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def perform(self, batch: Sequence[Submission]) -> _Completed:
        """Do a whole batch; results in the batch's order of kinds, none missing."""
        completed = _Completed([], [])
        for segment in _segments(batch):
            completed.writes.extend(self._write(segment.writes))
            completed.reads.extend(self._read(segment.reads))
        return completed

    def damage(self, slots: Sequence[int]) -> None:
        """Flip the last byte of each slot, as a bad medium would; its checksum shows it."""
        for slot in slots:
            offset = slot_offset(slot + 1) - 1
            (byte,) = os.pread(self._descriptor, 1, offset)
            os.pwrite(self._descriptor, bytes([byte ^ 0xFF]), offset)

    def sync(self) -> None:
        """Put all that was written on stable storage."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file, and with it give up its lock."""
        os.close(self._descriptor)

    def _write(self, writes: Sequence[SlotWrite]) -> Iterator[WriteDone]:
        newest = {write.slot: write for write in writes}
        failed = set[int]()
        for first, count in runs(sorted(newest), RUN_MAX):
            run = [newest[slot] for slot in range(first, first + count)]
            if not self._write_run(run):
                # One bad slot must not cost its neighbours: each gets a try of its own.
                failed.update(w.slot for w in run if count == 1 or not self._write_run([w]))
        return (WriteDone(write.operation, write.slot not in failed) for write in writes)

    def _write_run(self, run: Sequence[SlotWrite]) -> bool:
        pieces = [b for w in run for b in (seal(w.slot, w.generation, w.data), w.data)]
        offset, total = slot_offset(run[0].slot), len(run) * SLOT_SIZE
        try:
            written = os.pwritev(self._descriptor, pieces, offset)
            if written < total:
                rest = memoryview(b"".join(pieces))
                while written < total:
                    written += os.pwrite(self._descriptor, rest[written:], offset + written)
        except OSError:
            return False
        return True

    def _read(self, reads: Sequence[SlotRead]) -> Iterator[ReadDone]:
        found: dict[int, memoryview] = {}
        for first, count in runs(sorted({read.slot for read in reads}), RUN_MAX):
            raw = self._read_run(first, count)
            for position in range(count):
                start = position * SLOT_SIZE
                piece = raw[start : start + SLOT_SIZE]
                if len(piece) < SLOT_SIZE and count > 1:
                    piece = self._read_run(first + position, 1)
                found[first + position] = piece
        return (
            ReadDone(read.operation, unseal(read.slot, read.generation, found[read.slot]))
            for read in reads
        )

    def _read_run(self, first: int, count: int) -> memoryview:
        """As many bytes as there are; an error, like the file's end, only makes it short."""
        view, done = memoryview(bytearray(count * SLOT_SIZE)), 0
        while done < len(view):
            try:
                step = os.preadv(self._descriptor, [view[done:]], slot_offset(first) + done)
            except OSError:
                break
            if step == 0:
                break
            done += step
        return view[:done]


class FilePagingDevice:
    """The paging device that the host's shell drives; see `PagingDevice` for the contract."""

    def __init__(self, file: SlotFile, slot_count: int, identity: bytes) -> None:
        self.slot_count = slot_count
        self.identity = identity
        self._file = file
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="essa-paging")
        self._completions: PagingCompletions | None = None
        self._pending: list[Submission] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    def start(self, completions: PagingCompletions) -> None:
        """Say who hears of completions. Called once, before the first submission."""
        assert self._completions is None, "started twice"
        self._completions = completions

    def submit_writes(self, writes: Sequence[SlotWrite]) -> None:
        """Queue writes. Two writes to one slot take effect in the order submitted."""
        for write in writes:
            assert 0 <= write.slot < self.slot_count, write.slot
            assert len(write.data) == PAGE_SIZE, len(write.data)
        self._submit(writes)

    def submit_reads(self, reads: Sequence[SlotRead]) -> None:
        """Queue reads. A read of a slot sees every write submitted before it."""
        for read in reads:
            assert 0 <= read.slot < self.slot_count, read.slot
        self._submit(reads)

    def damage(self, slots: Sequence[int], done: Callable[[], None]) -> None:
        """Damage slots that are written; `done` is called when they are. For injected faults."""
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._worker, self._file.damage, slots)

        def finished(work: asyncio.Future[None]) -> None:
            work.result()
            done()

        work.add_done_callback(finished)

    async def flush(self) -> None:
        """Return when all that was submitted is completed, heard of, and on stable storage.

        Raises PagingFileError when the last of these cannot be had.
        """
        await self._idle.wait()
        try:
            await asyncio.get_running_loop().run_in_executor(self._worker, self._file.sync)
        except OSError as error:
            raise PagingFileError(f"the paging file does not sync: {error.strerror}") from None

    async def close(self) -> None:
        """Complete what is under way and close the file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        self._worker.shutdown()
        self._file.close()

    def _submit(self, submissions: Sequence[Submission]) -> None:
        assert self._completions is not None, "submitted before start"
        assert not self._closed, "submitted after close"
        self._pending.extend(submissions)
        if self._idle.is_set() and self._pending:
            self._idle.clear()
            # From the end of the loop's turn: what else this turn submits joins the batch.
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        batch, self._pending = self._pending, []
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._worker, self._file.perform, batch)
        work.add_done_callback(self._finished)

    def _finished(self, work: asyncio.Future[_Completed]) -> None:
        assert self._completions is not None
        completed = work.result()
        if self._pending:
            self._begin()  # first, so that the thread works while the loop tells the results
        else:
            self._idle.set()
        if completed.writes:
            self._completions.writes_done(completed.writes)
        if completed.reads:
            self._completions.reads_done(completed.reads)


def _create(descriptor: int, path: str, slot_count: int) -> bytes:
    size = slot_offset(slot_count)
    old = os.pread(descriptor, len(FILE_MAGIC), 0)
    if old not in (b"", FILE_MAGIC):
        raise PagingFileError(f"{path} holds something else; it will not be overwritten")
    os.ftruncate(descriptor, 0)
    volume = os.fstatvfs(descriptor)
    free = volume.f_bavail * volume.f_frsize
    if free < size:
        raise PagingFileError(f"{path} needs {size} bytes for its slots; its disk has {free} free")
    identity = secrets.token_bytes(16)
    os.ftruncate(descriptor, size)
    header = FILE_HEADER.pack(FILE_MAGIC, FILE_VERSION, identity, slot_count)
    os.pwrite(descriptor, header, 0)
    return identity


def _check(descriptor: int, path: str, slot_count: int) -> bytes:
    raw = os.pread(descriptor, FILE_HEADER.size, 0)
    if len(raw) < FILE_HEADER.size or raw[: len(FILE_MAGIC)] != FILE_MAGIC:
        raise PagingFileError(f"{path} is no paging file")
    _, version, identity, slots = FILE_HEADER.unpack(raw)
    if version != FILE_VERSION:
        raise PagingFileError(f"{path} has format version {version}; this is {FILE_VERSION}")
    if slots < slot_count or os.fstat(descriptor).st_size < slot_offset(slot_count):
        raise PagingFileError(f"{path} is too small for {slot_count} slots")
    return bytes(identity)


def _open(path: str, slot_count: int, keep: bool) -> tuple[int, bytes]:
    """Open, lock and create or check the file: (descriptor, identity)."""
    flags = os.O_RDWR | os.O_CLOEXEC | (0 if keep else os.O_CREAT)
    descriptor = os.open(path, flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise PagingFileError(f"{path} is no regular file")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor, (_check if keep else _create)(descriptor, path, slot_count)
    except BlockingIOError:
        os.close(descriptor)
        raise PagingFileError(f"{path} is in use by another host") from None
    except BaseException:
        os.close(descriptor)
        raise


async def open_paging_device(
    path: str | os.PathLike[str], slot_count: int, *, keep: bool = False
) -> FilePagingDevice:
    """Create the paging file sparse at its full size or, with `keep`, open the one there.

    Raises PagingFileError when it cannot be used: not writable, disk too small, locked by
    another process, no paging file, or (`keep`) missing or with too few slots.
    """
    assert slot_count > 0
    name = os.fspath(path)
    try:
        descriptor, identity = await asyncio.to_thread(_open, name, slot_count, keep)
    except OSError as error:
        raise PagingFileError(f"cannot use {name}: {error.strerror}") from None
    return FilePagingDevice(SlotFile(descriptor), slot_count, identity)
