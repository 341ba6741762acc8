"""Exact LRU misses of a trace at every cache size, by stack distances.

Rules:
- Each request is expanded into single-page accesses in ascending order; mapped pages by
  `events.map_touches`. Reads and writes are accesses alike and both insert.
- The stack distance of an access is the number of different pages accessed since the last
  access to the same page. An LRU list of C pages hits exactly where it is less than C; the
  first access to a page always misses.
- Pages that a truncate or unlink drops are not taken out of the list.

The count works in blocks of BLOCK accesses, so that memory grows with the pages and not with
the accesses. For an access at time i with the previous access to its page at time p:

- p in the same block: the pages accessed in between are the i - p - 1 accesses less those j
  whose own previous access lies in between too, p < prev(j).
- p before the block: the pages last seen after p when the block began, and those that the
  block has accessed since whose previous access lies before p, or that are new.

Both ask for the number of earlier accesses j in the block with prev(j) > p, which
`_greater_before` counts for a whole block at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from guest_agent.workload.events import WRITE_KINDS, Trace

BLOCK: Final = 1 << 18
"""Accesses counted at a time: large enough for vectors, small enough for the cache."""

PERCENTS: Final = (10, 25, 50, 75)
"""Cache sizes, in per cent of the footprint, that a summary names."""

Progress = Callable[[int, int], None]
"""Called with the accesses done and the accesses there are."""


@dataclass(frozen=True, slots=True, eq=False)
class LruCurve:
    """Misses of an LRU list at every size."""

    access_count: int
    unique_count: int
    hits: NDArray[np.int64]
    """hits[C] is the number of hits with a cache of C pages, 0 <= C <= unique_count."""

    def misses(self, cache_pages: int) -> int:
        """Return the misses with a cache of `cache_pages` pages, cold ones included."""
        return self.access_count - int(self.hits[min(cache_pages, self.unique_count)])

    def miss_ratio(self, cache_pages: int) -> float:
        """Return misses per access; 0 for a trace without accesses."""
        return self.misses(cache_pages) / self.access_count if self.access_count else 0.0

    def size_at(self, percent: float) -> int:
        """Return the cache size that is `percent` of the footprint, rounded down."""
        return int(self.unique_count * percent // 100)


@dataclass(frozen=True, slots=True, eq=False)
class PageRuns:
    """The requests of a trace with their pages renumbered 0, 1, ... over all files."""

    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    unique_count: int


def page_runs(trace: Trace) -> PageRuns:
    """Number the pages that are accessed, and only these.

    The runs of a file overlap; their union is a few intervals, found from the sorted starts.
    """
    rows = trace.request_rows()
    counts = trace.counts[rows].astype(np.int64)
    files = trace.file_column[rows]
    sizes = np.array([file.pages for file in trace.files], dtype=np.int64)
    # A gap of one page between files keeps the last run of one off the first of the next.
    bases = np.concatenate(([0], np.cumsum(sizes + 1)))
    starts = bases[files] + trace.pages[rows]
    if not len(rows):
        return PageRuns(starts, counts, 0)
    order = np.argsort(starts, kind="stable")
    sorted_starts = starts[order]
    reach = np.maximum.accumulate(sorted_starts + counts[order])
    opens = np.concatenate(([True], sorted_starts[1:] > reach[:-1]))
    interval = np.cumsum(opens) - 1
    first = np.flatnonzero(opens)
    last = np.concatenate((first[1:], [len(order)])) - 1
    lengths = reach[last] - sorted_starts[first]
    numbers = np.concatenate(([0], np.cumsum(lengths)))
    dense = np.empty_like(starts)
    dense[order] = numbers[interval] + sorted_starts - sorted_starts[first][interval]
    return PageRuns(dense, counts, int(numbers[-1]))


def lru_curve(trace: Trace, progress: Progress | None = None) -> LruCurve:
    """Count the hits of an LRU list at every size. Seconds for a million accesses."""
    runs = page_runs(trace)
    total = int(runs.counts.sum())
    histogram = np.zeros(runs.unique_count, dtype=np.int64)
    counter = _Counter(runs.unique_count)
    for pages in _blocks(runs):
        distances = counter.distances(pages)
        histogram += np.bincount(distances, minlength=runs.unique_count)
        if progress is not None:
            progress(counter.now, total)
    hits = np.concatenate(([0], np.cumsum(histogram)))
    return LruCurve(access_count=total, unique_count=runs.unique_count, hits=hits)


def _blocks(runs: PageRuns) -> Iterator[NDArray[np.int64]]:
    """Yield the accesses, expanded, at most BLOCK at a time."""
    ends = np.cumsum(runs.counts)
    total = int(ends[-1]) if len(ends) else 0
    for begin in range(0, total, BLOCK):
        end = min(begin + BLOCK, total)
        low = int(np.searchsorted(ends, begin, side="right"))
        high = int(np.searchsorted(ends, end, side="left")) + 1
        counts = runs.counts[low:high]
        opening = ends[low:high] - counts
        # Access number a of a run that opens at access number o is page start + (a - o).
        pages = np.repeat(runs.starts[low:high] - opening, counts)
        skipped = begin - int(opening[0])
        yield pages[skipped : skipped + end - begin] + np.arange(begin, end)


class _Counter:
    """The LRU stack between blocks: when each page was last accessed."""

    def __init__(self, unique_count: int) -> None:
        self.now = 0
        self._last = np.full(unique_count, -1, dtype=np.int64)
        """By page: the time of its last access, -1 before the first."""
        self._stack = np.zeros(0, dtype=np.int64)
        """Those times, ascending."""

    def distances(self, pages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Take the next accesses; return the distances of those that are not first ones."""
        count, begin = len(pages), self.now
        times = np.arange(begin, begin + count)
        order = np.argsort(pages, kind="stable")
        sorted_pages = pages[order]
        opens = np.concatenate(([True], sorted_pages[1:] != sorted_pages[:-1]))
        closes = np.concatenate((opens[1:], [True]))
        previous = np.empty(count, dtype=np.int64)
        previous[order[1:]] = times[order[:-1]]
        previous[order[opens]] = self._last[sorted_pages[opens]]

        greater = _greater_before(previous)
        inside = previous >= begin
        across = (previous >= 0) & ~inside
        near = times[inside] - previous[inside] - 1 - greater[inside]
        behind = np.searchsorted(self._stack, previous[across], side="right")
        lower = times[across] - begin - greater[across]
        far = len(self._stack) - behind + lower

        self._advance(previous[order[opens]], sorted_pages[closes], times[order[closes]])
        self.now += count
        return np.concatenate((near, far))

    def _advance(
        self, left: NDArray[np.int64], pages: NDArray[np.int64], times: NDArray[np.int64]
    ) -> None:
        """Move the block's pages to the top: `left` are their times before it."""
        stays = np.ones(len(self._stack), dtype=np.bool_)
        stays[np.searchsorted(self._stack, left[left >= 0])] = False
        self._stack = np.concatenate((self._stack[stays], np.sort(times)))
        self._last[pages] = times


def _greater_before(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each value, how many of those before it are greater.

    Values are ranked into a permutation of 0 to 2**bits - 1 and sorted bit by bit from the
    highest. Before each bit, values with equal higher bits stand together in their original
    order, so a value with a 0 is smaller than just those before it in its group with a 1,
    and no pair is counted at two bits.
    """
    count = len(values)
    bits = max(1, (count - 1).bit_length())
    ranks = np.arange(1 << bits, dtype=np.int32)  # what pads the end is greater than all
    ranks[np.argsort(values, kind="stable")] = np.arange(count, dtype=np.int32)
    array = ranks
    greater = np.zeros(1 << bits, dtype=np.int32)
    places = np.arange(1 << bits, dtype=np.int32)
    for bit in range(bits - 1, -1, -1):
        ones = (array >> bit) & 1
        # A group of 2**(bit + 1) values holds 2**bit ones, hence those before the group.
        before = np.cumsum(ones, dtype=np.int32) - ((places >> (bit + 1)) << bit)
        is_one = ones.astype(np.bool_)
        is_zero = ~is_one
        half = 1 << bit
        zeros, zero_counts = array[is_zero], greater[is_zero] + before[is_zero]
        array = np.stack((zeros.reshape(-1, half), array[is_one].reshape(-1, half)), 1).ravel()
        greater = np.stack(
            (zero_counts.reshape(-1, half), greater[is_one].reshape(-1, half)), 1
        ).ravel()
    return greater[ranks[:count]].astype(np.int64)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a trace holds, counted."""

    events: int
    requests: int
    accesses: int
    write_requests: int
    write_accesses: int
    processes: int
    files: int
    span_seconds: float | None
    """From the first event to the last, None where the source has only order."""


def count(trace: Trace) -> Counts:
    """Count requests, accesses, and how many of them write."""
    rows = trace.request_rows()
    kinds, counts = trace.kinds[rows], trace.counts[rows]
    writes = np.isin(kinds, [int(kind) for kind in WRITE_KINDS])
    span = None
    if trace.times is not None:
        span = float(trace.times.max() - trace.times.min()) / 1e6 if len(trace) else 0.0
    return Counts(
        events=len(trace),
        requests=len(rows),
        accesses=int(counts.sum(dtype=np.int64)),
        write_requests=int(writes.sum()),
        write_accesses=int(counts[writes].sum(dtype=np.int64)),
        processes=len(np.unique(trace.processes)),
        files=len(trace.files),
        span_seconds=span,
    )
