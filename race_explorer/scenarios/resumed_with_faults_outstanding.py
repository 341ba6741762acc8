"""The host is stopped and resumed while it waits to hear of a discard fault.

What the host writes down when it is stopped includes the faults that were not acknowledged. It
cannot know more: the message may have been lost, or have arrived, or have been dealt with, and
only the acknowledgement was late. The process that goes on sends them again. The guest meanwhile
may have taken the page out of its cache, waited for a grace period, and allocated it for something
else. Fault numbers go on where they were, so that the guest knows the fault for what it is: one
that it has had. Taken for a new one it throws away a page that is in use.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from race_explorer.faults import FaultBudget, allow_faults
from race_explorer.scenarios.pieces import (
    allocate,
    map_and_discard,
    new_world,
    run_alone,
    touch_once,
)
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """A discarded page, one touch, a grace period, a reuse; the host is stopped once."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def touch_and_reuse(cpu: Cpu) -> None:
        await touch_once(cpu, mm)
        await kernel.grace.reclaim(cpu)
        if await allocate(world, cpu) is discarded:
            world.mark("reused")

    discarded = map_and_discard(world, mm, file)
    world.run_vcpu(0, touch_and_reuse)
    run_alone(world, "cpu0")  # to its access, and to the answer that there will be a fault
    allow_faults(world, FaultBudget.parse("checkpoint=1"))
    return world


SCENARIO = Scenario(
    name="resumed-with-faults-outstanding",
    races=("R17",),
    guards=("dismiss_duplicate_faults", "redeliver_faults"),
    damage=("discard of a page without mapping", "deadlock: cpu0 at discard_fault.arrive"),
    sometimes=("reused", "checkpoint", "resumed with a fault outstanding"),
    build=build,
    bound=800,
)
