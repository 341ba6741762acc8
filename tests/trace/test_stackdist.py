"""Exact LRU misses, against a list that is kept by hand.

Method: random requests over several files, in blocks so small that every path of the count
is taken, at every cache size; and the shipped traces at the sizes that a summary names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guest_agent.workload import stackdist, tracefile
from guest_agent.workload.events import (
    Map,
    Read,
    Trace,
    TraceFile,
    Write,
    block_trace,
    map_touches,
)

Access = tuple[int, int]


def accesses(trace: Trace) -> Iterator[Access]:
    for event in trace.events():
        match event:
            case Read() | Write():
                for page in range(event.page, event.page + event.count):
                    yield event.file, page
            case Map():
                for touch in map_touches(event):
                    yield event.file, touch.page


def lru_misses(pages: list[Access], capacity: int) -> int:
    """Count the misses of a linked list of `capacity` pages, the oldest leaving first."""
    cache: OrderedDict[Access, None] = OrderedDict()
    misses = 0
    for page in pages:
        if page in cache:
            cache.move_to_end(page)
            continue
        misses += 1
        cache[page] = None
        if len(cache) > capacity:
            cache.popitem(last=False)
    return misses


Request = tuple[int, int, int]


def block(requests: list[Request]) -> Trace:
    files, pages, counts = ([row[column] for row in requests] for column in range(3))
    return block_trace(
        disks=tuple(TraceFile(f"disk-{n}", 40, 40) for n in range(3)),
        disk_column=np.array(files, dtype=np.int32),
        pages=np.array(pages, dtype=np.int64),
        counts=np.array(counts, dtype=np.int32),
        writes=None,
    )


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 34), st.integers(1, 6)), max_size=60),
    st.sampled_from([1, 2, 3, 5, 8, 32, 1 << 18]),
)
def test_misses_equal_a_list_kept_by_hand(requests: list[Request], block_size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stackdist, "BLOCK", block_size)
        trace = block(requests)
        curve = stackdist.lru_curve(trace)
    pages = list(accesses(trace))
    assert curve.access_count == len(pages)
    assert curve.unique_count == len(set(pages))
    for capacity in range(curve.unique_count + 2):
        assert curve.misses(capacity) == lru_misses(pages, capacity)


@pytest.mark.parametrize("name", ["compile", "search", "sqlite"])
def test_shipped_traces_equal_a_list_kept_by_hand(name: str) -> None:
    trace = tracefile.load(tracefile.resolve(name))
    curve = stackdist.lru_curve(trace)
    pages = list(accesses(trace))
    assert curve.unique_count == len(set(pages))
    for percent in stackdist.PERCENTS:
        size = len(set(pages)) * percent // 100
        assert curve.size_at(percent) == size
        assert curve.misses(size) == lru_misses(pages, size)


def test_a_shipped_trace_is_small_enough_for_exact_replay() -> None:
    trace = tracefile.load(tracefile.resolve("search"))
    counts = stackdist.count(trace)
    assert counts.accesses <= 20_000
    assert counts.write_requests == 0


def test_cold_misses_and_sizes_beyond_the_footprint() -> None:
    curve = stackdist.lru_curve(block([(0, 0, 3), (0, 0, 3)]))
    assert [curve.misses(size) for size in (0, 1, 2, 3, 4, 100)] == [6, 6, 6, 3, 3, 3]
    assert curve.miss_ratio(3) == 0.5


def test_a_trace_without_accesses() -> None:
    curve = stackdist.lru_curve(block([]))
    assert (curve.access_count, curve.unique_count, curve.miss_ratio(0)) == (0, 0, 0.0)


def test_pages_far_apart_are_numbered_densely() -> None:
    trace = block_trace(
        disks=(TraceFile("d", 1 << 50, 0),),
        disk_column=None,
        pages=np.array([(1 << 50) - 2, 0, (1 << 50) - 1, 5], dtype=np.int64),
        counts=np.array([2, 6, 1, 1], dtype=np.int32),
        writes=None,
    )
    runs = stackdist.page_runs(trace)
    assert runs.unique_count == 8
    assert runs.starts.tolist() == [6, 0, 7, 5]


def test_progress_ends_at_the_number_of_accesses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stackdist, "BLOCK", 4)
    seen: list[tuple[int, int]] = []
    stackdist.lru_curve(
        block([(0, 0, 6), (0, 2, 5)]), lambda done, total: seen.append((done, total))
    )
    assert seen == [(4, 11), (8, 11), (11, 11)]


def test_counts_tell_reads_from_writes() -> None:
    counts = stackdist.count(tracefile.load(tracefile.resolve("sqlite")))
    assert 0 < counts.write_requests < counts.requests < counts.accesses
    assert counts.span_seconds is None
    trace = block_trace(
        disks=(TraceFile("d", 9, 9),),
        disk_column=None,
        pages=np.array([0, 1], dtype=np.int64),
        counts=np.array([4, 1], dtype=np.int32),
        writes=np.array([False, True]),
        times=np.array([0, 2_500_000], dtype=np.int64),
    )
    counts = stackdist.count(trace)
    assert (counts.requests, counts.accesses) == (2, 5)
    assert (counts.write_requests, counts.write_accesses) == (1, 1)
    assert counts.span_seconds == 2.5
