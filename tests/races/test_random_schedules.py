"""A whole guest under random schedules: no violation with all guards, damage without one.

Method: three vCPUs, threads of up to two processes, with every operation of the kernel mixed;
twelve frames for 24 pages, a small swap device, and a host that evicts all the time. Every load
is checked, every invariant when all is done, and every stored block at the end. What runs is
the shipped session, core and kernel.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from guest_agent.kernel.grace import Grace
from guest_agent.kernel.guards import FIXED
from guest_agent.kernel.kernel import Statistics
from guest_agent.workload.mixed import Weights
from guest_agent.workload.operations import Kind
from guest_agent.workload.operations import Shape as ProgramShape
from tests.support.random_guest import Shape, run

SEEDS = range(16)
SWAPPING = Shape(
    pages=20,
    swap_pages=30,
    operations=100,
    weights=Weights(store=60, load=60, read=10, write=5, mmap=20, pressure=6),
    program=ProgramShape(
        files=1, file_pages=6, processes=3, areas=4, area_pages=4, private_pages=22, locked_pages=2
    ),
)
"""Anonymous memory that does not fit."""
NONE = Weights(**dict.fromkeys(Weights.__dataclass_fields__, 0) | {"read": 1})
READ_ONLY_MAPS = replace(NONE, read=10, write=30, fsync=10, sync=6, mmap=30, munmap=20, load=60)
"""Cached pages that system calls store to and that are unmapped again: a change bit outlives
the writeback."""
FOUND_AT_ONCE = {
    "state_change": Weights(),
    "stable_lookup": Weights(),
    "stable_before_clear": Weights(),
    "check_write": Weights(),
    "test_set_discarded": Weights(),
    "tolerate_discard": READ_ONLY_MAPS,
}


@pytest.mark.parametrize("seed", SEEDS)
def test_with_all_guards_nothing_is_lost(seed: int) -> None:
    guest, violations = run(seed)
    assert not violations
    assert guest.kernel.statistics.pages_discarded > 0


@pytest.mark.parametrize("grace", list(Grace))
@pytest.mark.parametrize("minor_faults", [False, True])
def test_nor_in_any_variant(grace: Grace, minor_faults: bool) -> None:
    for seed in (20, 21):
        assert not run(seed, shape=Shape(grace=grace, minor_faults=minor_faults))[1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nor_with_memory_on_the_swap_device(seed: int) -> None:
    guest, violations = run(seed, shape=SWAPPING)
    assert not violations
    assert guest.kernel.statistics.signals


def test_every_operation_is_executed() -> None:
    """The runs above are about something."""
    done: Counter[str] = Counter()
    seen = Statistics()
    for seed in range(4):
        for shape in (Shape(), SWAPPING):
            guest, _ = run(seed, shape=shape)
            done += guest.machine.counts
            seen.swap_reads += guest.kernel.statistics.swap_reads
            seen.discard_faults += guest.kernel.statistics.discard_faults
    assert {kind.value for kind in Kind} <= {name for name, count in done.items() if count}
    assert seen.swap_reads > 0
    assert seen.discard_faults > 0


@pytest.mark.parametrize("guard", list(FOUND_AT_ONCE))
def test_without_a_guard_the_damage_shows(guard: str) -> None:
    shape = Shape(operations=100, weights=FOUND_AT_ONCE[guard])
    assert any(run(seed, FIXED.without(guard), shape)[1] for seed in SEEDS)


def test_a_run_is_its_seed() -> None:
    first, second = (run(3)[0].kernel.statistics for _ in range(2))
    assert first == second
