"""A whole guest under random schedules: no violation with all guards, damage without one.

Method: three vCPUs with random system calls and accesses, eight frames for fourteen pages, a
host that evicts all the time; every load checked, every stored block compared at the end. What
runs is the shipped session, core and kernel.
"""

from __future__ import annotations

import pytest

from guest_agent.kernel.guards import FIXED
from tests.support.random_guest import Shape, run

SEEDS = range(24)
FOUND_AT_ONCE = (
    "state_change",
    "stable_lookup",
    "stable_before_clear",
    "check_write",
    "test_set_discarded",
    "tolerate_discard",
)


@pytest.mark.parametrize("seed", SEEDS)
def test_with_all_guards_nothing_is_lost(seed: int) -> None:
    world, violations = run(seed)
    assert not violations
    assert world.kernel.statistics.pages_discarded > 20


@pytest.mark.parametrize("guard", FOUND_AT_ONCE)
def test_without_a_guard_the_damage_shows(guard: str) -> None:
    shape = Shape(operations=200)
    assert any(run(seed, FIXED.without(guard), shape)[1] for seed in SEEDS)


def test_a_run_is_its_seed() -> None:
    first, second = (run(3)[0].kernel.statistics for _ in range(2))
    assert first == second
