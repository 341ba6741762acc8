"""What all importers share: their input, their options, and how bytes become pages.

Rules:
- A request is a byte range of a disk; it touches every 4 KiB page that it overlaps.
- Requests of no bytes touch nothing and are left out.
- Malformed input is a TraceError that names the line or record, counted from 1.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from guest_agent.workload.events import (
    PAGE_COUNT_MAX,
    PAGE_INDEX_MAX,
    Trace,
    TraceError,
    TraceFile,
    block_trace,
)
from shared.arch import PAGE_SIZE

SECTOR_BYTES: Final = 512

_TIME_BOUND: Final = 1 << 62
"""Microseconds; differences of two times still fit into 64 bits."""

ID_UNITS: Final = ("object", "sector", "page", "byte")
"""What an object id may be: a name without order, or the place on a disk in these units."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the content of a file does not say. None: the format's own rule."""

    block_bytes: int | None = None
    """Bytes of one block where the format counts in blocks (ARC, LIRS, SPC)."""
    sector_shift: int = 0
    """Sectors added to every place, for partitions that are not aligned to pages."""
    id_unit: str | None = None
    """One of ID_UNITS, for the object ids of libCacheSim formats."""
    columns: str | None = None
    """Columns of a CSV file as libCacheSim writes them: `time-col=2, obj-id-col=5`."""
    action: str | None = None
    """Action of blkparse lines to take (Q, D, C)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The beginning of a file, decompressed, and what is known of the whole."""

    head: bytes
    complete: bool
    """The head is all there is."""
    byte_count: int | None
    """Bytes of the file; None if it is compressed."""

    def first_lines(self, count: int) -> list[str]:
        """Return the first lines that are not empty; no half line unless it is the last."""
        lines = self.head.decode("latin-1").split("\n")
        if not self.complete and len(lines) > 1:
            lines.pop()
        return [line.strip() for line in lines if line.strip()][:count]


_HEAD_BYTES: Final = 65_536
_UNPACKERS: Final = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
_PACK_ERRORS: Final = (OSError, EOFError, lzma.LZMAError, zlib.error)


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading; gzip, bzip2 and xz are unpacked, known by their content."""
    with path.open("rb") as file:
        signature = file.read(8)
    if signature.startswith(b"\x28\xb5\x2f\xfd"):
        raise TraceError(f"{path}: is packed with zstd; unpack it first (zstd -d)")
    for prefix, unpack in _UNPACKERS:
        if signature.startswith(prefix):
            return unpack(path, "rb")  # type: ignore[return-value,unused-ignore]
    return path.open("rb")


def sample(path: Path) -> Sample:
    """Read the beginning of a file. Raises TraceError if that cannot be done."""
    try:
        with open_bytes(path) as file:
            head = file.read(_HEAD_BYTES)
            more = bool(file.read(1))
            plain = not isinstance(file, gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile)
        return Sample(head, not more, path.stat().st_size if plain else None)
    except _PACK_ERRORS as error:
        raise unreadable(path, error) from error


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, stripped, with their numbers from 1."""
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(file, 1):
                text = line.decode("latin-1").strip()
                if text:
                    yield number, text
    except _PACK_ERRORS as error:
        raise unreadable(path, error) from error


def all_bytes(path: Path) -> bytes:
    """Read a whole file, unpacked. Raises TraceError if that cannot be done."""
    try:
        with open_bytes(path) as file:
            return file.read()
    except _PACK_ERRORS as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> TraceError:
    """Make the one line for a file that cannot be read to its end."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return TraceError(f"{path}: {text or type(error).__name__}")


def number(text: str, what: str) -> int:
    """Read a plain decimal number. Raises ValueError with the field's name."""
    text = text.strip()
    if not text.isdecimal():
        raise ValueError(f"{what} is {text[:40]!r}, not a number")
    return int(text)


def microseconds(text: str, what: str) -> int:
    """Read a time in seconds, with or without a fraction."""
    try:
        time = round(float(text) * 1e6)
    except (ValueError, OverflowError):
        time = _TIME_BOUND
    if abs(time) >= _TIME_BOUND:
        raise ValueError(f"{what} is {text.strip()[:40]!r}, not a time in seconds")
    return time


class Requests:
    """Byte ranges of disks, gathered row by row, in compact arrays."""

    def __init__(self, options: Options) -> None:
        self._shift = options.sector_shift * SECTOR_BYTES
        self._numbers: dict[str, int] = {}
        self._disks = array("i")
        self._pages = array("q")
        self._counts = array("i")
        self._writes = bytearray()
        self._times = array("q")

    def __len__(self) -> int:
        return len(self._pages)

    def add(self, disk: str, offset: int, length: int, *, write: bool, time: int | None) -> None:
        """Add the pages of bytes `offset` to `offset + length`. Raises ValueError."""
        if not length:
            return
        offset += self._shift
        first = offset // PAGE_SIZE
        count = (offset + length - 1) // PAGE_SIZE - first + 1
        if offset < 0 or first + count > PAGE_INDEX_MAX or count > PAGE_COUNT_MAX:
            raise ValueError(f"{length} bytes at byte {offset} are more than a disk can hold")
        if time is not None:
            if abs(time) >= _TIME_BOUND:
                raise ValueError("the time is out of its bounds")
            self._times.append(time)
        self._disks.append(self._numbers.setdefault(disk, len(self._numbers)))
        self._pages.append(first)
        self._counts.append(count)
        self._writes.append(write)

    def trace(self, origin: str) -> Trace:
        """Return what was gathered. Times count from the first request's."""
        times = np.array(self._times, dtype=np.int64)
        return from_columns(
            disk_names=tuple(self._numbers),
            disks=np.array(self._disks, dtype=np.int32),
            pages=np.array(self._pages, dtype=np.int64),
            counts=np.array(self._counts, dtype=np.int32),
            writes=np.frombuffer(bytes(self._writes), dtype=np.bool_),
            times=times - times[0] if len(times) else None,
            origin=origin,
        )


def from_columns(
    *,
    disk_names: tuple[str, ...],
    disks: NDArray[np.int32],
    pages: NDArray[np.int64],
    counts: NDArray[np.int32],
    writes: NDArray[np.bool_] | None,
    times: NDArray[np.int64] | None,
    origin: str,
) -> Trace:
    """Make a block trace whose disks are as large as its requests reach."""
    sizes = np.zeros(len(disk_names), dtype=np.int64)
    np.maximum.at(sizes, disks, pages + counts)
    files = tuple(
        TraceFile(name, size, size) for name, size in zip(disk_names, sizes.tolist(), strict=True)
    )
    return block_trace(
        disks=files,
        disk_column=disks,
        pages=pages,
        counts=counts,
        writes=writes,
        times=times,
        origin=origin,
    )


def number_objects(
    ids: NDArray[np.uint64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """Give every object pages of its own; return each request's first page and their sum.

    An object has as many pages as its largest request; objects follow each other in order
    of their first request.
    """
    _, first, which = np.unique(ids, return_index=True, return_inverse=True)
    sizes = np.zeros(len(first), dtype=np.int64)
    np.maximum.at(sizes, which, counts)
    order = np.argsort(first)
    starts = np.empty_like(sizes)
    starts[order] = np.cumsum(sizes[order]) - sizes[order]
    return starts[which], int(sizes.sum())
