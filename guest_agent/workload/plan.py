"""From traces to what each vCPU does: one merged order, a disk layout, a lane per vCPU.

Rules:
- Several traces run side by side: their events are merged in proportion to their lengths.
- Spread by `process`: the events of one process stay in order, on one vCPU. Processes go, in
  order of first appearance and by the pages they ask for, to the vCPU with least to do. A
  trace of one process that only reads and writes (a block trace, which knows no processes)
  is spread by place.
- Spread by `place`: 64 neighbouring pages of a file belong to one vCPU, so that reads and
  writes of one page stay in order; so do all other events of one file, and those of none.
  A program's order between places is given up for the sake of more vCPUs at work at once.
- Either way fork, exec and exit come after all that stood before them, for the process, and
  before all that its processes do later; and truncate and unlink after all that stood before
  them, for the file, and before all that is done to the file later.
- All files lie one after the other on one disk. In a file of more than 65,536 pages only
  those that the trace touches are given a block, in their order.
- With one vCPU the order is exactly the trace's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from guest_agent.workload.events import (
    ACCESS_KINDS,
    EventKind,
    Trace,
    TraceError,
    TraceFile,
)


class Spread(StrEnum):
    """What stays together on one vCPU."""

    PROCESS = "process"
    PLACE = "place"


DISK: Final = 1
"""The disk that holds all files."""
PLACE_PAGES: Final = 64
"""Neighbouring pages that stay on one vCPU where requests are spread by place."""
DENSE_PAGES_MAX: Final = 1 << 16
"""Pages of the largest file that is laid out hole by hole."""

_RUN_KINDS: Final = (
    *ACCESS_KINDS,
    EventKind.MSYNC,
    EventKind.UNMAP,
    EventKind.UNMAP_PART,
)
"""Events whose row names a run of pages."""

_PROCESS_KINDS: Final = (EventKind.FORK, EventKind.EXEC, EventKind.EXIT)
_CUT_KINDS: Final = (EventKind.TRUNCATE, EventKind.UNLINK)
"""Events that make an address space, or end one."""


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file's place: `page_count` blocks from `first_block` on."""

    number: int
    first_block: int
    page_count: int


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a guest does. `lanes[vcpu]` are the vCPU's rows of `trace`, ascending.

    trace: all traces merged, with pages as the files of the plan have them. ordinals: for
    each row, how many requests of the merged trace stand before it. roots: the processes
    that are there from the start. after: for each row, the fork, exec or exit that must be
    done first, or -1. ordered: whether a fork, exec or exit must wait for all rows before it.
    file_after: for each row, the truncate or unlink of its file that must be done first, or
    -1. file_first: for a truncate or unlink, the rows of its file that must.
    """

    trace: Trace
    files: tuple[PlannedFile, ...]
    lanes: tuple[NDArray[np.intp], ...]
    ordinals: NDArray[np.int64]
    roots: frozenset[int]
    after: NDArray[np.int64]
    file_after: NDArray[np.int64]
    file_first: dict[int, tuple[int, ...]]
    ordered: bool
    request_count: int
    block_count: int


def make_plan(
    traces: Sequence[Trace],
    vcpu_count: int,
    request_limit: int | None = None,
    spread: Spread = Spread.PROCESS,
) -> Plan:
    """Plan the traces' events, of each no more than `request_limit` requests.

    Raises:
        TraceError: no trace asks for anything.
    """
    cut = [_cut(trace, request_limit) for trace in traces]
    request_count = sum(len(trace.request_rows()) for trace in cut)
    if not request_count:
        raise TraceError("the trace holds no request")
    merged, roots, units = _merge(cut, spread)
    merged, files, block_count = _lay_out(merged)
    requests = merged.kinds <= max(ACCESS_KINDS)
    lanes = _lanes(merged, units, requests, vcpu_count)
    ordinals: NDArray[np.int64] = np.cumsum(requests) - requests
    file_after, file_first = _file_turns(merged, lanes)
    return Plan(
        trace=merged,
        files=files,
        lanes=lanes,
        ordinals=ordinals,
        roots=roots,
        after=_after(merged),
        file_after=file_after,
        file_first=file_first,
        ordered=spread is Spread.PLACE,
        request_count=request_count,
        block_count=block_count,
    )


def part(trace: Trace, rows: NDArray[np.intp] | slice) -> Trace:
    """The trace with only these rows."""
    return replace(
        trace,
        kinds=trace.kinds[rows],
        processes=trace.processes[rows],
        file_column=trace.file_column[rows],
        pages=trace.pages[rows],
        counts=trace.counts[rows],
        extras=trace.extras[rows],
        times=None,
    )


def _cut(trace: Trace, request_limit: int | None) -> Trace:
    rows = trace.request_rows()
    if request_limit is None or len(rows) <= request_limit:
        return part(trace, slice(None))
    return part(trace, slice(int(rows[request_limit - 1]) + 1))


def _merge(
    traces: Sequence[Trace], spread: Spread
) -> tuple[Trace, frozenset[int], NDArray[np.int64]]:
    """One trace of all; the root processes; and for each row the unit that stays on one vCPU."""
    columns: dict[str, list[NDArray[np.int64]]] = {name: [] for name in _COLUMNS}
    files: list[TraceFile] = []
    roots, processes, units = [], 0, 0
    for trace in traces:
        forks = trace.kinds == EventKind.FORK
        columns["kinds"].append(trace.kinds.astype(np.int64))
        columns["processes"].append(trace.processes.astype(np.int64) + processes)
        columns["file_column"].append(trace.file_column.astype(np.int64) + len(files))
        columns["pages"].append(trace.pages.astype(np.int64))
        columns["counts"].append(trace.counts.astype(np.int64))
        columns["extras"].append(trace.extras + forks * np.int64(processes))
        columns["order"].append(np.arange(len(trace), dtype=np.int64) * _ORDER // len(trace))
        own, count = _units(trace, spread)
        columns["units"].append(own + units)
        roots.append(processes)
        children = int(trace.extras[forks].max(initial=0))
        processes += max(int(trace.processes.max(initial=0)), children) + 1
        units += count
        files.extend(trace.files)
    whole = {name: np.concatenate(parts) for name, parts in columns.items()}
    order = np.argsort(whole["order"], kind="stable")
    merged = Trace(
        files=tuple(files),
        kinds=whole["kinds"][order].astype(np.uint8),
        processes=whole["processes"][order].astype(np.int32),
        file_column=whole["file_column"][order].astype(np.int32),
        pages=whole["pages"][order],
        counts=whole["counts"][order].astype(np.int32),
        extras=whole["extras"][order].astype(np.int32),
    )
    return merged, frozenset(roots), whole["units"][order]


_COLUMNS: Final = (
    "kinds", "processes", "file_column", "pages", "counts", "extras", "order", "units",
)  # fmt: skip
_ORDER: Final = 1 << 31
"""The length to which every trace is stretched for merging."""


def _units(trace: Trace, spread: Spread) -> tuple[NDArray[np.int64], int]:
    """For each row the number of what must stay together, and how many such numbers there are."""
    moves = trace.kinds <= max(EventKind.READ, EventKind.WRITE)
    if spread is Spread.PROCESS and not (moves.all() and not trace.processes.any()):
        return trace.processes.astype(np.int64), int(trace.processes.max(initial=0)) + 1
    # Place 0 of a file is what happens to the file as a whole.
    places = np.where(moves, trace.pages // PLACE_PAGES + 1, 0)
    no_file = np.isin(trace.kinds, (*_PROCESS_KINDS, EventKind.SYNC))
    files = np.where(no_file, len(trace.files), trace.file_column.astype(np.int64))
    span = int(places.max()) + 1
    different, units = np.unique(files * span + places, return_inverse=True)
    return units.astype(np.int64), len(different)


def _after(trace: Trace) -> NDArray[np.int64]:
    """For each row, the last fork, exec or exit before it that its process has part in."""
    after = np.full(len(trace), -1, dtype=np.int64)
    parted: dict[int, list[int]] = {}
    for row in np.flatnonzero(np.isin(trace.kinds, _PROCESS_KINDS)).tolist():
        parted.setdefault(int(trace.processes[row]), []).append(row)
        if trace.kinds[row] == EventKind.FORK:
            parted.setdefault(int(trace.extras[row]), []).append(row)
    order = np.argsort(trace.processes, kind="stable")
    processes = trace.processes[order]
    for process, turns in parted.items():
        rows = order[slice(*np.searchsorted(processes, (process, process + 1)))]
        position = np.searchsorted(turns, rows) - 1
        after[rows] = np.where(position < 0, -1, np.array(turns)[position])
    return after


def _file_turns(
    trace: Trace, lanes: tuple[NDArray[np.intp], ...]
) -> tuple[NDArray[np.int64], dict[int, tuple[int, ...]]]:
    """`Plan.file_after` and `Plan.file_first`. Of each lane the last row stands for all."""
    after = np.full(len(trace), -1, dtype=np.int64)
    first: dict[int, tuple[int, ...]] = {}
    cuts = np.flatnonzero(np.isin(trace.kinds, _CUT_KINDS))
    if len(lanes) == 1 or not len(cuts):
        return after, first
    lane_of = np.zeros(len(trace), dtype=np.int64)
    for number, lane in enumerate(lanes):
        lane_of[lane] = number
    rows = np.flatnonzero(~np.isin(trace.kinds, (*_PROCESS_KINDS, EventKind.SYNC)))
    rows = rows[np.argsort(trace.file_column[rows], kind="stable")]
    files = trace.file_column[rows]
    for file in np.unique(trace.file_column[cuts]).tolist():
        own = rows[slice(*np.searchsorted(files, (file, file + 1)))]
        turns = cuts[trace.file_column[cuts] == file]
        position = np.searchsorted(turns, own) - 1
        after[own] = np.where(position < 0, -1, turns[position])
        begin = 0
        for turn, end in zip(turns.tolist(), np.searchsorted(own, turns).tolist(), strict=True):
            latest = dict(
                zip(lane_of[own[begin:end]].tolist(), own[begin:end].tolist(), strict=True)
            )
            first[turn] = tuple(sorted(latest.values()))
            begin = end
    return after, first


def _lanes(
    trace: Trace, units: NDArray[np.int64], requests: NDArray[np.bool_], vcpu_count: int
) -> tuple[NDArray[np.intp], ...]:
    """Give every unit, in order of first appearance, to the vCPU with the fewest pages so far."""
    if vcpu_count == 1:
        return (np.arange(len(trace)),)
    weights = np.bincount(units, np.where(requests, trace.counts, 0)).tolist()
    different, first = np.unique(units, return_index=True)
    load = [0.0] * vcpu_count
    vcpu_of = np.zeros(len(weights), dtype=np.int64)
    for unit in different[np.argsort(first)].tolist():
        vcpu = load.index(min(load))
        vcpu_of[unit] = vcpu
        load[vcpu] += weights[unit]
    vcpus = vcpu_of[units]
    return tuple(np.flatnonzero(vcpus == vcpu) for vcpu in range(vcpu_count))


def _lay_out(trace: Trace) -> tuple[Trace, tuple[PlannedFile, ...], int]:
    """Place the files on the disk; in large ones number the touched pages afresh."""
    pages, counts = trace.pages.copy(), trace.counts
    runs = np.isin(trace.kinds, _RUN_KINDS)
    planned, first_block = [], 0
    for position, file in enumerate(trace.files):
        page_count = file.pages
        if page_count > DENSE_PAGES_MAX:
            rows = np.flatnonzero(runs & (trace.file_column == position))
            touched = _touched(pages[rows], counts[rows])
            # A run's pages are all touched, so they are neighbours afterwards too.
            pages[rows] = np.searchsorted(touched, pages[rows])
            cuts = np.flatnonzero(
                (trace.kinds == EventKind.TRUNCATE) & (trace.file_column == position)
            )
            pages[cuts] = np.searchsorted(touched, pages[cuts])
            page_count = len(touched)
        planned.append(PlannedFile(position + 1, first_block, page_count))
        first_block += page_count
    return replace(trace, pages=pages), tuple(planned), first_block


def _touched(pages: NDArray[np.int64], counts: NDArray[np.int32]) -> NDArray[np.int64]:
    """The different pages of many runs, ascending."""
    starts = np.repeat(pages - np.cumsum(counts, dtype=np.int64) + counts, counts)
    return np.unique(starts + np.arange(len(starts)))
