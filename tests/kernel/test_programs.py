"""Programs of operations that hypothesis draws and shrinks: nothing is lost, nothing breaks.

Method: any list of operations can be executed. On one vCPU, one thing after the other, with
the invariants checked after every operation and pages evicted in between; on three vCPUs
under random schedules with a host that evicts all the time.
"""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guest_agent.kernel import invariants
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.grace import Grace
from guest_agent.kernel.guards import FIXED
from guest_agent.kernel.kernel import KernelConfig
from guest_agent.workload.operations import Kind, Memory, Operation, Shape
from guest_agent.workload.program import Machine
from race_explorer.straight import Straight
from tests.support.random_guest import RandomGuest
from tests.support.random_guest import Shape as GuestShape

SHAPE = Shape(
    files=2,
    file_pages=6,
    processes=3,
    areas=3,
    area_pages=3,
    private_pages=10,
    locked_pages=3,
)
PAGES = 26
SMALL = st.integers(0, 11)

OPERATIONS = st.builds(
    Operation,
    st.sampled_from(Kind),
    process=SMALL,
    place=SMALL,
    page=SMALL,
    count=st.integers(0, 3),
    memory=st.sampled_from(Memory),
)
EVICTIONS = st.integers(1, PAGES - 1)
PROGRAMS = st.lists(OPERATIONS | EVICTIONS, min_size=15, max_size=60)

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class OneAfterTheOther(Straight):
    """One vCPU; every step is followed by every check."""

    def __init__(self, *, minor_faults: bool, grace: Grace) -> None:
        config = KernelConfig(PAGES, 1, swap_pages=8, minor_faults=minor_faults, grace=grace)
        super().__init__(config, frame_count=PAGES // 2)
        self.cpu: Cpu = self.kernel.cpus[0]
        self.run(self.kernel.boot(self.cpu))
        self.machine = Machine(self.kernel, SHAPE)

    def follow(self, program: list[Operation | int]) -> None:
        for step in program:
            if isinstance(step, Operation):
                self.run(self.machine.execute(self.cpu, step))
            elif self.host.begin_eviction(self.guest_id, step):
                self.settle()
            self.check()
        self.run(self.machine.finish(self.cpu))
        self.check()
        self.run(self._verify())
        self.check()

    def check(self) -> None:
        self.run(self._check())
        assert invariants.at_every_step(self.kernel) == []
        assert self.kernel.integrity_errors == []

    async def _check(self) -> None:
        assert await invariants.check(self.kernel, self.cpu) == []

    async def _verify(self) -> None:
        await self.kernel.verify(self.cpu)


@relaxed
@given(PROGRAMS, st.booleans(), st.sampled_from([Grace.CALL, Grace.EACH]))
def test_one_after_the_other(
    program: list[Operation | int], minor_faults: bool, grace: Grace
) -> None:
    OneAfterTheOther(minor_faults=minor_faults, grace=grace).follow(program)


LANES = st.lists(st.lists(OPERATIONS, min_size=5, max_size=20), min_size=3, max_size=3)


@relaxed
@given(LANES, st.integers(0, 1 << 30), st.booleans(), st.sampled_from(Grace))
def test_side_by_side(
    lanes: list[list[Operation]], seed: int, minor_faults: bool, grace: Grace
) -> None:
    shape = GuestShape(
        pages=PAGES, swap_pages=8, program=SHAPE, minor_faults=minor_faults, grace=grace
    )
    assert RandomGuest(shape, FIXED, lanes, seed).run() == []


def test_operations_at_what_is_gone_are_signals_or_refused() -> None:
    """Whatever stands before: the numbers of an operation always mean something, or nothing."""
    world = OneAfterTheOther(minor_faults=False, grace=Grace.CALL)
    random = Random(1)
    world.follow(
        [
            Operation(kind, random.randrange(99), random.randrange(99), random.randrange(99), 3)
            for kind in (Kind.MUNMAP, Kind.MMAP, Kind.TRUNCATE, Kind.LOAD, Kind.EXIT, Kind.STORE)
        ]
    )
    counts = world.machine.counts
    assert sum(counts.values()) - counts["signals"] == 6
    assert counts["refused"] == 1, "the last process does not exit"
