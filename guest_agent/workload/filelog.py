"""The events of a recording while it is read, and the trace they become.

Rules:
- Rows are kept in bytes; they become pages when all is known, at the end.
- A file's size is known from what the calls returned (stat, lseek to the end, truncation,
  writes). Data appended to a file of unknown size is placed once the size shows.
- In the finished trace no read and no mapping goes beyond its file's size at that point,
  an UNLINK stands behind the last event of its file, and a file that no event accesses is
  not there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from guest_agent.workload.events import ACCESS_KINDS, EventKind, Trace, TraceFile
from shared.arch import PAGE_SIZE

Probe = Callable[[str], int | None]
"""Answers the size of a regular file now, NOT_REGULAR, or None if there is nothing."""

NOT_REGULAR: Final = -1


@dataclass(eq=False, slots=True)
class FileState:
    """One file, whatever its names, while the recording is read."""

    path: str
    size: int | None = None
    """Bytes; None while nothing has shown it."""
    initial: int | None = None
    """Bytes before the first event."""
    appended: int = 0
    """Bytes appended while the size was unknown."""
    base: int | None = None
    """Where the first of these went."""
    seen: bool = False
    """It has an event."""
    touched: bool = False
    """Some call has changed its size or content."""
    unlinked: bool = False
    regular: bool = True

    def learn_size(self, size: int) -> None:
        """Take the size that a call has shown."""
        if self.size is None:
            self.base = max(0, size - self.appended)
            if self.initial is None and (self.appended or not self.touched):
                self.initial = self.base
        self.size = size

    def grow(self, end: int) -> None:
        """A write has reached byte `end`."""
        self.touched = True
        if self.size is not None:
            self.size = max(self.size, end)


class Row(NamedTuple):
    """One event, in bytes. relative: `start` counts from the file's `base`."""

    kind: EventKind
    process: int
    file: FileState | None
    start: int = 0
    length: int = 0
    extra: int = 0
    relative: bool = False


@dataclass(slots=True)
class FileLog:
    """The rows so far, and the files by their present paths."""

    probe: Probe
    rows: list[Row] = field(default_factory=list)
    by_path: dict[str, FileState] = field(default_factory=dict)
    _unlinks: list[tuple[int, Row]] = field(default_factory=list)

    def file(self, path: str) -> FileState:
        """Return the file that has this path now."""
        state = self.by_path.get(path)
        if state is None:
            state = self.by_path[path] = FileState(path)
        return state

    def created(self, path: str) -> FileState:
        """Return a new, empty file at `path`; whatever was there is another one."""
        state = self.by_path[path] = FileState(path, size=0, initial=0)
        return state

    def add(self, row: Row) -> None:
        """Append an event."""
        if row.file is not None:
            row.file.seen = True
        self.rows.append(row)

    def size_now(self, file: FileState) -> int:
        """Return the size of a file that is about to be mapped, probed if no call showed it."""
        if file.size is None:
            file.learn_size(max(0, self.probe(file.path) or 0))
        assert file.size is not None
        return file.size

    def append(self, process: int, file: FileState, length: int) -> int:
        """Write `length` bytes at the file's end; return the end, 0 if it is unknown."""
        if file.size is None:
            row = Row(EventKind.WRITE, process, file, file.appended, length, relative=True)
            file.appended += length
            file.touched = True
            self.add(row)
            return 0
        self.add(Row(EventKind.WRITE, process, file, file.size, length))
        file.grow(file.size + length)
        return file.size

    def truncate(self, process: int, file: FileState, size: int) -> None:
        """Set the file's size. Before its first event this is what it begins with."""
        if not file.seen and size == 0:
            file.initial = 0
        else:
            self.add(Row(EventKind.TRUNCATE, process, file, size))
        file.touched = True
        file.learn_size(size)

    def unlink(self, process: int, path: str) -> None:
        """Take the name away. The file goes on for those who use it."""
        file = self.by_path.pop(path, None)
        if file is not None:
            self.drop(process, file)

    def drop(self, process: int, file: FileState) -> None:
        """Let the file end with its last use."""
        file.unlinked = True
        self._unlinks.append((len(self.rows), Row(EventKind.UNLINK, process, file)))

    def rename(self, process: int, old: str, new: str, *, exchange: bool) -> None:
        """Move the name of a file, or of all files below a directory."""
        if old == new:
            return
        if exchange:
            first, second = self._below(old), self._below(new)
            for path in [*first, *second]:
                del self.by_path[path]
            moved = {new + path[len(old) :]: file for path, file in first.items()}
            moved |= {old + path[len(new) :]: file for path, file in second.items()}
        else:
            self.unlink(process, new)
            first = self._below(old)
            for path in first:
                del self.by_path[path]
            moved = {new + path[len(old) :]: file for path, file in first.items()}
        for path, file in moved.items():
            file.path = path
        self.by_path |= moved

    def _below(self, path: str) -> dict[str, FileState]:
        inside = path + "/"
        return {
            name: file
            for name, file in self.by_path.items()
            if name == path or name.startswith(inside)
        }

    def finish(self, name: Callable[[str, int], str], origin: str) -> Trace:
        """Make the trace. `name` gives a file's name in it, from its path and number."""
        accessed = {
            row.file: None for row in self.rows if row.file is not None and row.kind in ACCESS_KINDS
        }
        for file in accessed:
            self._settle(file)
        rows = [row for row in self._ordered() if row.file is None or row.file in accessed]
        rows = [row for row in rows if row.file is None or row.file.regular]
        return _Paging(rows).trace(name, origin)

    def _settle(self, file: FileState) -> None:
        """Decide what no call has shown, from what is there now."""
        size = None if file.unlinked else self.probe(file.path)
        if size == NOT_REGULAR:
            file.regular = False
        elif file.base is None:
            file.base = max(0, (size or 0) - file.appended)
            if file.initial is None and file.appended:
                file.initial = file.base

    def _ordered(self) -> list[Row]:
        """Return the rows with each UNLINK behind its file's last row."""
        last: dict[FileState, int] = {}
        for place, row in enumerate(self.rows):
            if row.file is not None:
                last[row.file] = place
        placed = [
            (max(place - 1, last.get(row.file, -1)), row)
            for place, row in self._unlinks
            if row.file is not None
        ]
        placed.sort(key=lambda entry: entry[0])
        ordered, done = [], 0
        for place, row in placed:
            ordered += self.rows[done : place + 1]
            done = max(done, place + 1)
            ordered.append(row)
        return ordered + self.rows[done:]


@dataclass(eq=False, slots=True)
class _Extent:
    """A file of the finished trace, in pages."""

    number: int
    initial: int
    now: int
    most: int
    shrunk: bool = False


class _Paging:
    """Turns rows into columns of pages, following every file's size."""

    def __init__(self, rows: list[Row]) -> None:
        self._columns: list[tuple[int, int, int, int, int, int]] = []
        self._files: dict[FileState, _Extent] = {}
        self._mapped: dict[int, tuple[int, int]] = {}
        """By area: first page and the one behind the last, as far as they are in the file."""
        self._left: dict[int, dict[int, int]] = {0: {}}
        """By process and area: pages still mapped."""
        for row in rows:
            self._take(row)

    def trace(self, name: Callable[[str, int], str], origin: str) -> Trace:
        """Return the finished trace."""
        table = np.array(self._columns, dtype=np.int64).reshape(-1, 6)
        return Trace(
            files=tuple(
                TraceFile(name(file.path, extent.number), extent.most, extent.initial)
                for file, extent in self._files.items()
            ),
            kinds=table[:, 0].astype(np.uint8),
            processes=table[:, 1].astype(np.int32),
            file_column=table[:, 2].astype(np.int32),
            pages=table[:, 3].copy(),
            counts=table[:, 4].astype(np.int32),
            extras=table[:, 5].astype(np.int32),
            origin=origin,
        )

    def _emit(
        self, row: Row, kind: EventKind, file: int = 0, page: int = 0, count: int = 0
    ) -> None:
        self._columns.append((kind, row.process, file, page, count, row.extra))

    def _take(self, row: Row) -> None:
        if row.file is None:
            self._take_process(row)
            return
        extent = self._extent(row.file)
        start = row.start + (row.file.base or 0 if row.relative else 0)
        page, end = start // PAGE_SIZE, _pages(start + row.length)
        match row.kind:
            case EventKind.WRITE:
                extent.now = max(extent.now, end)
                extent.most = max(extent.most, end)
                self._emit(row, row.kind, extent.number, page, end - page)
            case EventKind.READ | EventKind.MAP | EventKind.MAP_SHARED:
                end = self._within(extent, end)
                if end > page:
                    self._emit(row, row.kind, extent.number, page, end - page)
                    if row.kind != EventKind.READ:
                        self._mapped[row.extra] = (page, end)
                        self._left[row.process][row.extra] = end - page
            case EventKind.UNMAP | EventKind.MSYNC:
                self._take_part(row, extent, page, end)
            case EventKind.TRUNCATE:
                size = _pages(row.start)
                if size != extent.now:
                    extent.shrunk = extent.shrunk or size < extent.now
                    extent.now, extent.most = size, max(extent.most, size)
                    self._emit(row, row.kind, extent.number, size)
            case _:
                self._emit(row, row.kind, extent.number)

    def _take_part(self, row: Row, extent: _Extent, page: int, end: int) -> None:
        first, behind = self._mapped.get(row.extra, (0, 0))
        page, end = max(page, first), min(end, behind)
        left = self._left[row.process]
        if end <= page or row.extra not in left:
            return
        kind = row.kind
        if kind == EventKind.UNMAP:
            left[row.extra] -= end - page
            if left[row.extra]:
                kind = EventKind.UNMAP_PART
            else:
                del left[row.extra]
        self._emit(row, kind, extent.number, page, end - page)

    def _take_process(self, row: Row) -> None:
        match row.kind:
            case EventKind.FORK:
                self._left[row.extra] = dict(self._left[row.process])
            case EventKind.EXEC:
                if not self._left[row.process]:
                    return
                self._left[row.process] = {}
            case EventKind.EXIT:
                del self._left[row.process]
        self._emit(row, row.kind)

    def _extent(self, file: FileState) -> _Extent:
        extent = self._files.get(file)
        if extent is None:
            initial = _pages(file.initial or 0)
            extent = _Extent(len(self._files), initial, initial, initial)
            self._files[file] = extent
        return extent

    def _within(self, extent: _Extent, end: int) -> int:
        """Return how far a read may go. What it saw was there, though no call has told."""
        if end > extent.now and not extent.shrunk:
            extent.initial = max(extent.initial, end)
            extent.now, extent.most = end, max(extent.most, end)
        return min(end, extent.now)


def _pages(byte_count: int) -> int:
    return -(-byte_count // PAGE_SIZE)
