"""Every scenario is shown three ways: found with a guard off, absent with it on, reached.

Method: depth-first search with sleep sets over the shipped session, core and kernel. "Absent"
means exhausted: no schedule of the scenario's steps is left untried.
"""

from __future__ import annotations

import pytest

from guest_agent.kernel.guards import SEED
from race_explorer.engine import replay
from race_explorer.exhaustive import Report, explore
from race_explorer.recycling import recycled
from race_explorer.scenarios import SCENARIOS
from race_explorer.scenarios.scenario import Protections, Scenario

SCHEDULES_MAX = 60_000
ALL = Protections()
REMOVALS = [
    pytest.param(name, guards, damage, id=f"{name}-{'+'.join(guards)}")
    for name, scenario in SCENARIOS.items()
    for guards, damage in scenario.removals()
]
MASKED = [
    pytest.param(name, guard, id=f"{name}-{guard}")
    for name, scenario in SCENARIOS.items()
    if scenario.pairs
    for guard in scenario.guards
]
FOUND_IN_SEED = (
    "stale-change-bit",
    "dirty-bit-in-transit",
    "counts-apart",
    "writable-flag-taken",
    "freed-while-fault-pending",
)


def _search(scenario: Scenario, protections: Protections) -> Report:
    worlds = recycled(lambda: scenario.build(protections))
    return explore(worlds, schedules_max=SCHEDULES_MAX)


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_with_all_guards_the_race_is_absent_and_the_situation_reached(name: str) -> None:
    scenario = SCENARIOS[name]
    limit = scenario.bound or SCHEDULES_MAX
    report = explore(recycled(lambda: scenario.build(ALL)), schedules_max=limit)
    assert report.counterexample is None, report.counterexample
    assert report.exhausted is (scenario.bound is None), f"{report.schedules} schedules"
    missing = [s for s in scenario.sometimes if not report.reached[s]]
    assert not missing, f"never reached: {missing}"


@pytest.mark.parametrize(("name", "guards", "damage"), REMOVALS)
def test_without_the_guard_the_race_is_found_and_replays(
    name: str, guards: tuple[str, ...], damage: str
) -> None:
    scenario, protections = SCENARIOS[name], ALL.without(*guards)
    found = _search(scenario, protections).counterexample
    assert found is not None, f"{guards} guard nothing in {name}"
    assert any(damage in violation for violation in found.violations), found.violations
    again = replay(lambda: scenario.build(protections), found.choices)
    assert (again.steps, again.violations) == (found.steps, found.violations)


@pytest.mark.parametrize(("name", "guard"), MASKED)
def test_guards_that_mask_each_other_hold_one_by_one(name: str, guard: str) -> None:
    report = _search(SCENARIOS[name], ALL.without(guard))
    assert report.counterexample is None, report.counterexample
    assert report.exhausted


@pytest.mark.parametrize("name", FOUND_IN_SEED)
def test_the_series_as_written_has_the_defect(name: str) -> None:
    assert _search(SCENARIOS[name], Protections(SEED)).counterexample is not None


def test_the_race_catalogue_rows_of_the_first_release_are_covered() -> None:
    rows = {row for scenario in SCENARIOS.values() for row in scenario.races}
    assert rows >= {"R1", "R4", "R11", "R17", "R50"}


def test_protections_find_a_guard_in_its_group_and_refuse_an_unknown_one() -> None:
    some = ALL.without("check_write", "slot_generation", "answer_repeats")
    assert some.guest == ALL.guest.without("check_write")
    assert not some.host.slot_generation
    assert some.host.discard_clears_change_bit
    assert not some.link.answer_repeats
    with pytest.raises(TypeError, match="no_such"):
        ALL.without("no_such")
