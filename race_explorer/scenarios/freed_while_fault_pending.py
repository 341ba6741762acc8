"""R17: a discard fault names a page that has been freed and reused since.

Both vCPUs touch a discarded page. vcpu 1 is interrupted and holds nothing but the page's
absolute address. vcpu 0 handles its own fault meanwhile: the page leaves the cache, is freed,
and is allocated for something else. Then vcpu 1's handler takes a reference to the page at
that address and discards it: live data is thrown out. The discarded list keeps such a page
from being reused until every vCPU was enabled for interrupts once, and a vCPU that waits for
its fault counts as disabled.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from race_explorer.scenarios.pieces import allocate, map_and_discard, new_world, touch_once
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """Two vCPUs; one of two pages is mapped, and discarded already."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def touch(cpu: Cpu) -> None:
        await touch_once(cpu, mm)

    async def touch_and_reuse(cpu: Cpu) -> None:
        await touch(cpu)
        world.mark("the other fault is pending", lambda: bool(kernel.cpus[1].irq_off))
        await kernel.grace.reclaim(cpu)
        if await allocate(world, cpu) is discarded:
            world.mark("page reused")

    discarded = map_and_discard(world, mm, file)
    world.run_vcpu(0, touch_and_reuse)
    world.run_vcpu(1, touch)
    return world


SCENARIO = Scenario(
    name="freed-while-fault-pending",
    races=("R17",),
    guards=("grace_period",),
    damage=("discard of a page without mapping",),
    sometimes=("the other fault is pending", "page reused"),
    build=build,
)
