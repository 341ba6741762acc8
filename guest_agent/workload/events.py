"""What a guest's programs ask of their files, at page granularity, as values and as columns.

Rules:
- A page is 4 KiB; a request is a run of pages of one file, in ascending order.
- Only what was seen is here. Accesses through a mapping cannot be seen, so they are made
  by one rule, `map_touches`, and by nothing else.
- Processes, files and areas are small numbers given out in order of first appearance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

PAGE_INDEX_MAX: Final = (1 << 52) - 1
"""Greatest page index of a file: a 64-bit byte offset holds no more."""

PAGE_COUNT_MAX: Final = (1 << 31) - 1
"""Most pages of one request."""


class TraceError(Exception):
    """A trace cannot be read or made; one line for the user, with the place."""


class EventKind(IntEnum):
    """What an event is; the numbers are those of the file format."""

    READ = 0
    WRITE = 1
    MAP = 2
    """Mapped read-only or privately."""
    MAP_SHARED = 3
    """Mapped shared and writable."""
    UNMAP = 4
    """The last pages of an area leave."""
    UNMAP_PART = 5
    """Some pages of an area leave, others stay."""
    MSYNC = 6
    FSYNC = 7
    SYNC = 8
    TRUNCATE = 9
    UNLINK = 10
    FORK = 11
    EXEC = 12
    EXIT = 13


ACCESS_KINDS: Final = (EventKind.READ, EventKind.WRITE, EventKind.MAP, EventKind.MAP_SHARED)
"""Events that access pages: the requests of a trace."""

WRITE_KINDS: Final = (EventKind.WRITE, EventKind.MAP_SHARED)
"""Requests that change pages."""


@dataclass(frozen=True, slots=True)
class Read:
    """`count` pages of `file`, from page index `page`, are read by a system call."""

    process: int
    file: int
    page: int
    count: int


@dataclass(frozen=True, slots=True)
class Write:
    """The same run is written by a system call; the file grows if it ends further on."""

    process: int
    file: int
    page: int
    count: int


@dataclass(frozen=True, slots=True)
class Map:
    """`process` maps a run of `file` that lies inside it as its area number `area`.

    writable: shared and writable, so that stores reach the file; a private mapping is not.
    Area numbers are never used twice in a trace, but a forked child has its parent's.
    """

    process: int
    area: int
    file: int
    page: int
    count: int
    writable: bool


@dataclass(frozen=True, slots=True)
class Unmap:
    """A run of an area's pages leaves the address space of `process`.

    last: nothing of the area is left. A replayer whose munmap takes whole areas only waits
    for that.
    """

    process: int
    area: int
    file: int
    page: int
    count: int
    last: bool


@dataclass(frozen=True, slots=True)
class Msync:
    """A run of an area's pages is written back."""

    process: int
    area: int
    file: int
    page: int
    count: int


@dataclass(frozen=True, slots=True)
class Fsync:
    """All changed pages of `file` are written back (fsync, fdatasync)."""

    process: int
    file: int


@dataclass(frozen=True, slots=True)
class Sync:
    """All changed pages of all files are written back."""

    process: int


@dataclass(frozen=True, slots=True)
class Truncate:
    """`file` now has `page_count` pages: pages from there on are gone, or read as zero."""

    process: int
    file: int
    page_count: int


@dataclass(frozen=True, slots=True)
class Unlink:
    """The last name and the last use of `file` are gone; it never occurs again."""

    process: int
    file: int


@dataclass(frozen=True, slots=True)
class Fork:
    """`child` begins, with the areas of `process` under their numbers."""

    process: int
    child: int


@dataclass(frozen=True, slots=True)
class Exec:
    """All areas of `process` are gone; the process goes on."""

    process: int


@dataclass(frozen=True, slots=True)
class Exit:
    """`process` and all its areas are gone."""

    process: int


Event = Read | Write | Map | Unmap | Msync | Fsync | Sync | Truncate | Unlink | Fork | Exec | Exit


@dataclass(frozen=True, slots=True)
class Touch:
    """One access to one page through a mapping."""

    page: int
    store: bool


def map_touches(event: Map) -> Iterator[Touch]:
    """Yield the accesses that stand for a mapping's use. The one rule, for stat and replay.

    Every page of the run is touched once, in ascending order, at the moment it is mapped:
    by a store if the mapping is shared and writable, by a load otherwise.
    """
    for page in range(event.page, event.page + event.count):
        yield Touch(page, event.writable)


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A file, or a disk of a block trace.

    pages: the most that the file ever has in this trace, so no event goes beyond.
    initial_pages: what it has before the first event; 0 for a file that the trace creates.
    """

    name: str
    pages: int
    initial_pages: int


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Files and events; the events as columns, so that millions fit.

    A column that is the same in every row may be a broadcast of one value; columns are
    read only. Meaning of a row by its kind:

    - `file_column`, `pages`, `counts`: the run of pages (TRUNCATE: `pages` is the new
      number of pages; 0 where the kind has none).
    - `processes`: process 0 is there from the start, each other begins with a FORK.
    - `extras`: the area of MAP, MAP_SHARED, UNMAP, UNMAP_PART and MSYNC, the child of FORK.
    - `times`: microseconds from the first event, or None where the source has only order.
    """

    files: tuple[TraceFile, ...]
    kinds: NDArray[np.uint8]
    processes: NDArray[np.int32]
    file_column: NDArray[np.int32]
    pages: NDArray[np.int64]
    counts: NDArray[np.int32]
    extras: NDArray[np.int32]
    times: NDArray[np.int64] | None = None
    origin: str = ""
    """Where the trace comes from, in words."""

    def __post_init__(self) -> None:
        """Check that the columns are of one length."""
        length = len(self.pages)
        assert len(self.kinds) == len(self.processes) == length
        assert len(self.file_column) == len(self.counts) == len(self.extras) == length
        assert self.times is None or len(self.times) == length

    def __len__(self) -> int:
        """Count the events."""
        return len(self.pages)

    def events(self, start: int = 0, stop: int | None = None) -> Iterator[Event]:
        """Yield the events from number `start` up to `stop` (the end) as values."""
        stop = len(self) if stop is None else min(stop, len(self))
        for begin in range(start, stop, _CHUNK):
            part = slice(begin, min(begin + _CHUNK, stop))
            rows = zip(
                self.kinds[part].tolist(),
                self.processes[part].tolist(),
                self.file_column[part].tolist(),
                self.pages[part].tolist(),
                self.counts[part].tolist(),
                self.extras[part].tolist(),
                strict=True,
            )
            for row in rows:
                yield _event(*row)

    def request_rows(self) -> NDArray[np.intp]:
        """Return the rows that access pages, in order."""
        return np.flatnonzero(self.kinds <= max(ACCESS_KINDS))


_CHUNK: Final = 65_536
"""Rows that `Trace.events` holds as Python objects at a time."""


def _event(kind: int, process: int, file: int, page: int, count: int, extra: int) -> Event:
    match kind:
        case EventKind.READ:
            return Read(process, file, page, count)
        case EventKind.WRITE:
            return Write(process, file, page, count)
        case EventKind.MAP | EventKind.MAP_SHARED:
            return Map(process, extra, file, page, count, kind == EventKind.MAP_SHARED)
        case EventKind.UNMAP | EventKind.UNMAP_PART:
            return Unmap(process, extra, file, page, count, kind == EventKind.UNMAP)
        case EventKind.MSYNC:
            return Msync(process, extra, file, page, count)
        case EventKind.FSYNC:
            return Fsync(process, file)
        case EventKind.SYNC:
            return Sync(process)
        case EventKind.TRUNCATE:
            return Truncate(process, file, page)
        case EventKind.UNLINK:
            return Unlink(process, file)
        case EventKind.FORK:
            return Fork(process, extra)
        case EventKind.EXEC:
            return Exec(process)
        case EventKind.EXIT:
            return Exit(process)
    raise AssertionError(f"kind {kind}")


def block_trace(
    *,
    disks: tuple[TraceFile, ...],
    disk_column: NDArray[np.int32] | None,
    pages: NDArray[np.int64],
    counts: NDArray[np.int32] | int,
    writes: NDArray[np.bool_] | None,
    times: NDArray[np.int64] | None = None,
    origin: str = "",
) -> Trace:
    """Make a trace of reads and writes alone, by one process.

    disk_column None: all on disk 0. writes None: all are reads.
    """
    length = len(pages)
    zero = np.broadcast_to(np.int32(0), length)
    if isinstance(counts, int):
        counts = np.broadcast_to(np.int32(counts), length)
    kinds: NDArray[np.uint8] = (
        np.broadcast_to(np.uint8(EventKind.READ), length)
        if writes is None
        else writes.astype(np.uint8)
    )
    return Trace(
        files=disks,
        kinds=kinds,
        processes=zero,
        file_column=zero if disk_column is None else disk_column,
        pages=pages,
        counts=counts,
        extras=zero,
        times=times,
        origin=origin,
    )
