"""Plans: who does what, in which order, and where the files lie."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest_agent.workload.events import (
    Event,
    Exit,
    Fork,
    Map,
    Read,
    Trace,
    TraceError,
    Truncate,
    Write,
)
from guest_agent.workload.plan import DENSE_PAGES_MAX, PLACE_PAGES, Plan, Spread, make_plan, part
from guest_agent.workload.tracefile import load, resolve, shipped
from tests.guest_shell.traces import trace_of

SPREADS = list(Spread)


def rows_by_lane(plan: Plan) -> list[list[int]]:
    return [lane.tolist() for lane in plan.lanes]


def lane_of(plan: Plan) -> dict[int, int]:
    return {row: n for n, lane in enumerate(rows_by_lane(plan)) for row in lane}


@pytest.mark.parametrize("name", list(shipped()))
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("vcpus", [1, 2, 7])
def test_every_event_is_done_once_by_one_vcpu_in_order(
    name: str, spread: Spread, vcpus: int
) -> None:
    trace = load(resolve(name))
    plan = make_plan([trace], vcpus, spread=spread)
    lanes = rows_by_lane(plan)
    assert sorted(row for lane in lanes for row in lane) == list(range(len(trace)))
    assert all(lane == sorted(lane) for lane in lanes)
    assert len(lanes) == vcpus
    assert plan.request_count == len(trace.request_rows())


@pytest.mark.parametrize("name", list(shipped()))
def test_one_vcpu_does_exactly_the_trace(name: str) -> None:
    trace = load(resolve(name))
    plan = make_plan([trace], 1)
    assert list(part(plan.trace, plan.lanes[0]).events()) == list(trace.events())


@pytest.mark.parametrize("name", list(shipped()))
def test_spread_by_process_keeps_a_process_on_one_vcpu(name: str) -> None:
    plan = make_plan([load(resolve(name))], 4)
    lanes = lane_of(plan)
    vcpus = defaultdict(set)
    for number, process in enumerate(plan.trace.processes.tolist()):
        vcpus[process].add(lanes[number])
    assert all(len(on) == 1 for on in vcpus.values())


@pytest.mark.parametrize("name", list(shipped()))
def test_spread_by_place_keeps_a_page_on_one_vcpu_and_uses_them_all(name: str) -> None:
    plan = make_plan([load(resolve(name))], 4, spread=Spread.PLACE)
    lanes = lane_of(plan)
    vcpus = defaultdict(set)
    for number, event in enumerate(plan.trace.events()):
        if isinstance(event, Read | Write):
            vcpus[event.file, event.page // PLACE_PAGES].add(lanes[number])
    assert all(len(on) == 1 for on in vcpus.values())
    assert all(len(lane) for lane in plan.lanes)


@pytest.mark.parametrize("spread", SPREADS)
def test_a_block_trace_uses_all_vcpus_either_way(spread: Spread) -> None:
    trace = trace_of(*(Read(0, 0, page, 1) for page in range(1024)), pages=(1024,))
    plan = make_plan([trace], 4, spread=spread)
    assert [len(lane) for lane in plan.lanes] == [256] * 4


def test_what_a_process_does_comes_after_its_fork_and_its_exec() -> None:
    events: list[Event] = [
        Read(0, 0, 0, 1),
        Fork(0, 1),
        Read(1, 0, 1, 1),
        Read(0, 0, 2, 1),
        Fork(1, 2),
        Read(2, 0, 3, 1),
        Exit(1),
        Read(0, 0, 4, 1),
    ]
    plan = make_plan([trace_of(*events)], 2)
    assert plan.after.tolist() == [-1, -1, 1, 1, 1, 4, 4, 1]


@pytest.mark.parametrize("name", list(shipped()))
def test_nothing_waits_for_what_comes_later(name: str) -> None:
    """So a replay can always go on: the first row that is not done waits for no one."""
    plan = make_plan([load(resolve(name)), load(resolve("search"))], 3)
    assert (plan.after < np.arange(len(plan.after))).all()
    assert (plan.file_after < np.arange(len(plan.after))).all()
    assert all(max(rows, default=-1) < row for row, rows in plan.file_first.items())


def test_several_traces_are_merged_in_proportion_and_kept_apart() -> None:
    long = trace_of(*(Read(0, 0, page, 1) for page in range(40)))
    short = trace_of(Fork(0, 1), *(Write(1, 1, page, 1) for page in range(3)))
    plan = make_plan([long, short], 1)
    events = list(plan.trace.events())
    assert [e for e in events if isinstance(e, Read)] == list(long.events())
    others = [(n, e) for n, e in enumerate(events) if not isinstance(e, Read)]
    assert [e for _, e in others] == [Fork(1, 2), *(Write(2, 3, page, 1) for page in range(3))]
    assert [n for n, _ in others] == [1, 12, 23, 34]
    assert plan.roots == {0, 1}
    places = [(f.number, f.first_block, f.page_count) for f in plan.files]
    assert places == [(1, 0, 64), (2, 64, 64), (3, 128, 64), (4, 192, 64)]
    assert plan.block_count == 256


def test_the_limit_counts_requests_of_each_trace() -> None:
    trace = trace_of(Read(0, 0, 0, 1), Fork(0, 1), Map(1, 0, 0, 0, 3, False), Write(1, 0, 1, 1))
    plan = make_plan([trace, trace], 1, request_limit=2)
    assert plan.request_count == 4
    kinds = [type(event) for event in plan.trace.events()]
    assert sorted(kinds, key=str) == sorted([Read, Fork, Map] * 2, key=str)
    assert make_plan([trace], 1, request_limit=99).request_count == 3


def test_a_trace_without_requests_is_refused() -> None:
    with pytest.raises(TraceError, match="no request"):
        make_plan([trace_of(Fork(0, 1), Exit(1))], 1)


Runs = list[tuple[int, int]]


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(1, 9)), min_size=1, max_size=30))
def test_in_a_huge_file_only_touched_pages_have_blocks(runs: Runs) -> None:
    """Property: the same pages stay the same, different ones different, neighbours neighbours."""
    events = [Read(0, 0, page, count) for page, count in runs]
    plan = make_plan([trace_of(*events, pages=((1 << 40) + 10,))], 1)
    touched = {page + i for page, count in runs for i in range(count)}
    assert plan.block_count == len(touched)
    placed: dict[int, int] = {}
    for before, after in zip(events, plan.trace.events(), strict=True):
        assert isinstance(after, Read)
        assert before.count == after.count
        for i in range(before.count):
            assert placed.setdefault(before.page + i, after.page + i) == after.page + i
    assert sorted(placed.values()) == list(range(len(touched)))
    assert sorted(placed) == sorted(placed, key=placed.__getitem__)


def test_a_huge_file_is_cut_off_between_the_same_pages() -> None:
    events: list[Event] = [Write(0, 0, 1 << 30, 2), Write(0, 0, 7, 2), Truncate(0, 0, 1 << 30)]
    plan = make_plan([trace_of(*events, pages=((1 << 31),))], 1)
    assert list(plan.trace.events()) == [Write(0, 0, 2, 2), Write(0, 0, 0, 2), Truncate(0, 0, 2)]


def test_a_file_of_ordinary_size_keeps_its_holes() -> None:
    trace: Trace = trace_of(Read(0, 0, DENSE_PAGES_MAX - 1, 1), pages=(DENSE_PAGES_MAX,))
    plan = make_plan([trace], 1)
    assert plan.block_count == DENSE_PAGES_MAX
    assert next(plan.trace.events()) == Read(0, 0, DENSE_PAGES_MAX - 1, 1)
