"""Every scenario is shown three ways: found with a guard off, absent with it on, reached.

Method: depth-first search with sleep sets over the shipped session, core and kernel. "Absent"
means exhausted: no schedule of the scenario's steps is left untried.
"""

from __future__ import annotations

import pytest

from guest_agent.kernel.guards import FIXED, SEED
from race_explorer.engine import Report, explore, replay
from race_explorer.scenarios import SCENARIOS
from race_explorer.scenarios.scenario import Scenario

SCHEDULES_MAX = 60_000
GUARDS = [(name, guard) for name, scenario in SCENARIOS.items() for guard in scenario.guards]
FOUND_IN_SEED = (
    "stale-change-bit",
    "dirty-bit-in-transit",
    "counts-apart",
    "writable-flag-taken",
    "freed-while-fault-pending",
)


def _search(scenario: Scenario, *without: str) -> Report:
    guards = FIXED.without(*without)
    return explore(lambda: scenario.build(guards), schedules_max=SCHEDULES_MAX)


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_with_all_guards_the_race_is_absent_and_the_situation_reached(name: str) -> None:
    scenario = SCENARIOS[name]
    report = _search(scenario)
    assert report.counterexample is None, report.counterexample
    assert report.exhausted, f"{report.schedules} schedules were not all"
    missing = [s for s in scenario.sometimes if not report.reached[s]]
    assert not missing, f"never reached: {missing}"


@pytest.mark.parametrize(("name", "guard"), GUARDS)
def test_without_the_guard_the_race_is_found_and_replays(name: str, guard: str) -> None:
    scenario = SCENARIOS[name]
    report = _search(scenario, guard)
    found = report.counterexample
    assert found is not None, f"{guard} guards nothing in {name}"
    again = replay(lambda: scenario.build(FIXED.without(guard)), found.choices)
    assert (again.steps, again.violations) == (found.steps, found.violations)


@pytest.mark.parametrize("name", FOUND_IN_SEED)
def test_the_series_as_written_has_the_defect(name: str) -> None:
    report = explore(lambda: SCENARIOS[name].build(SEED), schedules_max=SCHEDULES_MAX)
    assert report.counterexample is not None


def test_the_race_catalogue_rows_of_the_first_release_are_covered() -> None:
    rows = {row for scenario in SCENARIOS.values() for row in scenario.races}
    assert rows >= {"R1", "R4", "R11", "R17", "R50"}
