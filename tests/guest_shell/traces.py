"""Traces written out event by event."""

from __future__ import annotations

import random

import numpy as np

from guest_agent.workload.events import (
    Event,
    EventKind,
    Exec,
    Exit,
    Fork,
    Fsync,
    Map,
    Msync,
    Read,
    Sync,
    Trace,
    TraceFile,
    Truncate,
    Unlink,
    Unmap,
    Write,
)

Row = tuple[int, int, int, int, int, int]


def row(event: Event) -> Row:
    """Kind, process, file, page, count, extra."""
    match event:
        case Read(process, file, page, count):
            return EventKind.READ, process, file, page, count, 0
        case Write(process, file, page, count):
            return EventKind.WRITE, process, file, page, count, 0
        case Map(process, area, file, page, count, writable):
            kind = EventKind.MAP_SHARED if writable else EventKind.MAP
            return kind, process, file, page, count, area
        case Unmap(process, area, file, page, count, last):
            kind = EventKind.UNMAP if last else EventKind.UNMAP_PART
            return kind, process, file, page, count, area
        case Msync(process, area, file, page, count):
            return EventKind.MSYNC, process, file, page, count, area
        case Fsync(process, file):
            return EventKind.FSYNC, process, file, 0, 0, 0
        case Sync(process):
            return EventKind.SYNC, process, 0, 0, 0, 0
        case Truncate(process, file, page_count):
            return EventKind.TRUNCATE, process, file, page_count, 0, 0
        case Unlink(process, file):
            return EventKind.UNLINK, process, file, 0, 0, 0
        case Fork(process, child):
            return EventKind.FORK, process, 0, 0, 0, child
        case Exec(process):
            return EventKind.EXEC, process, 0, 0, 0, 0
        case Exit(process):
            return EventKind.EXIT, process, 0, 0, 0, 0


def trace_of(*events: Event, pages: tuple[int, ...] = (64, 64)) -> Trace:
    """A trace of these events over files with so many pages each."""
    columns = np.array([row(event) for event in events], dtype=np.int64).T
    return Trace(
        files=tuple(TraceFile(f"file-{n}", count, count) for n, count in enumerate(pages)),
        kinds=columns[0].astype(np.uint8),
        processes=columns[1].astype(np.int32),
        file_column=columns[2].astype(np.int32),
        pages=columns[3],
        counts=columns[4].astype(np.int32),
        extras=columns[5].astype(np.int32),
    )


def busy_trace(seed: int, request_count: int, pages: int = 160) -> Trace:
    """Single pages of two files, half of them from a tenth of the pages; a quarter are writes."""
    choices = random.Random(seed)
    events: list[Event] = []
    for number in range(request_count):
        among = pages // 10 if choices.random() < 0.5 else pages
        request = Write if choices.random() < 0.25 else Read
        events.append(request(0, choices.randrange(2), choices.randrange(among), 1))
        if number % 97 == 96:
            events.append(Fsync(0, choices.randrange(2)))
    return trace_of(*events, pages=(pages, pages))
