"""An exhaustive search that was cut into subtrees is the same search.

Method: scenarios, with guards on and off, are searched whole and cut at several depths; the
schedules, what they reach and the first counterexample must be the same, to the number.
"""

from __future__ import annotations

import pytest

from race_explorer.case import Case
from race_explorer.engine import World, replay
from race_explorer.exhaustive import explore
from race_explorer.recycling import recycled
from race_explorer.report import End, Report
from race_explorer.subtrees import joined, search_subtree, subtrees

BUDGET = 2_000
CASES = [
    Case("cleared-after-unused"),
    Case("test-then-set"),
    Case("second-discard-fault"),
    Case("copy-source-discarded"),
    Case("uptodate-before-clean"),
    Case("make-stable-overtakes"),
    Case("test-then-set", without=("stable_if_resident",)),
    Case("dirty-bit-in-transit", without=("stable_before_clear",)),
    Case("make-stable-overtakes", without=("state_change",)),
    Case("stale-change-bit", without=("tolerate_discard",)),
]


def _cut(case: Case, depth: int, budget: int = BUDGET) -> Report:
    build = recycled(case.build)
    parts = subtrees(build, depth)
    return joined(
        (search_subtree(build, part, budget) for part in parts),
        budget,
        lambda number, left: search_subtree(build, parts[number], left),
    )


@pytest.mark.parametrize("depth", [3, 6])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join((case.scenario, *case.without)))
def test_it_meets_the_same_schedules_and_the_same_counterexample(case: Case, depth: int) -> None:
    whole, cut = explore(recycled(case.build), schedules_max=BUDGET), _cut(case, depth)
    assert (cut.end, cut.schedules, cut.reached) == (whole.end, whole.schedules, whole.reached)
    assert cut.pruned >= whole.pruned, "source sets do not reach above the cut"
    assert (cut.found, cut.counterexample) == (whole.found, whole.counterexample)
    assert cut.kinds == whole.kinds
    if cut.pruned == whole.pruned:
        assert cut.steps == whole.steps


def test_without_a_cut_it_is_the_search_itself() -> None:
    case = CASES[5]
    whole, cut = explore(case.build, schedules_max=BUDGET), _cut(case, 0)
    assert (cut.pruned, cut.steps) == (whole.pruned, whole.steps)


def test_subtrees_have_no_schedule_in_common() -> None:
    build = recycled(Case("test-then-set").build)
    prefixes = [part.choices for part in subtrees(build, 3)]
    assert len(prefixes) > 1
    assert len(set(prefixes)) == len(prefixes)
    assert prefixes == sorted(prefixes), "in the order in which one search would come to them"


@pytest.mark.parametrize("budget", [1, 7, 100])
def test_the_budget_is_one_for_all(budget: int) -> None:
    report = _cut(Case("make-stable-overtakes"), 3, budget)
    assert report.schedules + report.pruned == budget
    assert report.end is End.BUDGET


def test_the_counterexample_is_a_run_of_the_world_itself() -> None:
    case = CASES[7]
    found = _cut(case, 6).counterexample
    assert found is not None

    def build() -> World:
        return case.build()

    assert replay(build, found.choices) == found
