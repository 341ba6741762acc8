"""R11: two vCPUs fault on one discarded page, and both remove it from the page cache.

The page is mapped and volatile, and the host discards it. Both vCPUs touch it, both are
interrupted by a discard fault with the same absolute address, both take a reference and come
to discard_page. The page lock lets them in one after the other; PG_discarded tells the second
that the page is removed already. Without it the second deletes it from the page tree again
and drops the cache's reference twice.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from race_explorer.scenarios.pieces import map_and_discard, new_world, touch_once
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One process on two vCPUs, one mapped page that is discarded already."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def touch(cpu: Cpu) -> None:
        if await touch_once(cpu, mm) and kernel.statistics.discard_faults == 2:
            world.mark("two faults for one page")

    map_and_discard(world, mm, file)
    world.run_vcpu(0, touch)
    world.run_vcpu(1, touch)
    return world


SCENARIO = Scenario(
    name="concurrent-discard-faults",
    races=("R11",),
    guards=("test_set_discarded",),
    damage=("not in its page tree",),
    sometimes=("two faults for one page",),
    build=build,
)
