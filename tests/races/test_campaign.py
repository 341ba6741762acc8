"""A campaign is its seed: cut, merged, stopped; and the classes that its runs fall into.

Method: ranges against the whole, for every strategy that draws; classes against the schedules
that sleep sets leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings

from guest_agent.kernel.page import writes
from guest_agent.kernel.ports import Access
from race_explorer.campaign import STRATEGY_NAMES, measure, search
from race_explorer.classes import trace_class
from race_explorer.engine import ANY, Path
from race_explorer.exhaustive import explore
from race_explorer.report import End, Report, merge
from race_explorer.strategies.delay import Delay
from race_explorer.strategies.profile import PROBE_RUNS
from race_explorer.strategies.strategy import Kind
from tests.races.test_engine import Counters, Memories, increment
from tests.races.test_strategies import DRAWING, PLANS, SEED
from tests.races.toys import BUGS, Toy, private


@pytest.mark.parametrize("name", DRAWING)
@pytest.mark.parametrize("cuts", [(0, 100), (0, 37, 100), (0, 5, 12, 13, 60, 100)])
@pytest.mark.parametrize("stop_at_first", [True, False])
def test_a_campaign_in_ranges_says_what_one_says(
    name: str, cuts: Sequence[int], stop_at_first: bool
) -> None:
    def build() -> Toy:
        return Toy(BUGS["late"] | {"idle": private("idle", 5)})

    whole = search(build, name, 100, SEED, stop_at_first=stop_at_first)
    parts = [
        search(build, name, end - start, SEED, first=start, stop_at_first=stop_at_first)
        for start, end in pairwise(cuts)
    ]
    assert merge(parts[::-1]) == whole


def test_a_range_may_be_given_what_others_have_measured() -> None:
    def build() -> Toy:
        return Toy(BUGS["late"])

    profile = measure(build, "urw", SEED)
    told = search(build, "urw", 20, SEED, first=50, profile=profile)
    assert told == search(build, "urw", 20, SEED, first=50)
    assert told.profile == profile


def test_a_missing_range_is_no_report() -> None:
    def part(first: int, seed: int = SEED) -> Report:
        return search(lambda: Toy(BUGS["late"]), "random", 5, seed, first=first)

    with pytest.raises(ValueError, match="run 5 is missing"):
        merge([part(0), part(10)])
    with pytest.raises(ValueError, match="one campaign"):
        merge([part(0), part(5, seed=8)])
    with pytest.raises(ValueError, match="0 reports"):
        merge([])


@pytest.mark.parametrize("name", ["delay", "exhaustive"])
def test_a_systematic_search_cannot_be_cut(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        search(lambda: Toy(BUGS["late"]), name, 5, first=5)


@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_a_caller_may_stop_it(name: str) -> None:
    seen: list[int] = []

    def two_more(report: Report) -> bool:
        seen.append(report.schedules + report.pruned)
        return len(seen) < 3

    programs = {"a": private("a", 2), "b": private("b", 2)}
    report = search(
        lambda: (
            Counters({"a": increment(0), "b": increment(0)})
            if name == "exhaustive"
            else Toy(programs)
        ),
        name,
        50,
        stop_at_first=False,
        on_progress=two_more,
    )
    assert report.end is End.CALLER
    assert seen == [1, 2, 3]


def test_the_probes_are_the_first_runs() -> None:
    """PCT has no change points in them, and has them at once behind them."""
    report = search(lambda: Toy(BUGS["late"]), "pct", PROBE_RUNS + 4, SEED, stop_at_first=False)
    assert report.kinds == {
        Kind("pct", d): n for d, n in {1: PROBE_RUNS + 1, 2: 1, 3: 1, 4: 1}.items()
    }


# Classes of schedules.


@given(PLANS)
@settings(max_examples=40, deadline=None)
def test_there_are_as_many_classes_as_sleep_sets_leave_schedules(
    steps: list[list[tuple[str, Access]]],
) -> None:
    """And two runs are of one class only if they end alike."""
    plan = dict(zip("abc", steps, strict=False))
    classes: dict[int, set[str]] = {}
    strategy = Delay(deviations_max=100)
    while isinstance(strategy.begin(0, None), Kind):
        world = Memories(plan)
        path = Path(world)
        while options := world.options():
            path.step(options, strategy.choose(options))
        found = trace_class(path.steps, path.taken)
        classes.setdefault(found, set()).update(world.reached())
    pruned = explore(lambda: Memories(plan), schedules_max=5_000, stop_at_first=False)
    assert len(classes) == pruned.schedules
    assert all(len(outcomes) == 1 for outcomes in classes.values())


def test_classes_of_a_kind_are_told_apart_where_any_is_touched() -> None:
    steps = [("a", "x"), ("b", "y")]
    one = trace_class(steps, [(writes("host", ANY),), (writes("host", 1),)])
    other = trace_class(steps[::-1], [(writes("host", 1),), (writes("host", ANY),)])
    assert one != other
    same = trace_class(steps, [(writes("host", 2),), (writes("host", 1),)])
    assert same == trace_class(steps[::-1], [(writes("host", 1),), (writes("host", 2),)])


def test_a_report_counts_classes_and_those_seen_once() -> None:
    report = search(
        lambda: Counters({"a": increment(1), "b": increment(2)}),
        "random",
        10,
        stop_at_first=False,
        classify_every=3,
    )
    assert report.classified == 4
    assert len(report.classes) == 1
    assert report.singletons == 0
