"""A connection breaks between the discard of a page and the delivery of the fault.

A vCPU has touched a discarded page and was told that a fault will come. It waits for nothing else.
The host has sent the fault, by a connection that breaks: the message is gone, and nobody at either
end has seen it go. So the host keeps every fault until the guest has acknowledged it, and sends
them all again by the next connection. The connection of the commands may break just so: what was
not answered is sent again under its old number, or its vCPU waits for ever.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.discard import storage_access
from race_explorer.faults import FaultBudget, allow_faults
from race_explorer.scenarios.pieces import discard_and_hold, give_back, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld
from shared.commands import Load


def build(protections: Protections) -> SimWorld:
    """A page that was discarded before, one touch of it, and one cut of both connections."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def touch(cpu: Cpu) -> None:
        await storage_access(cpu, Load(page.pfn, 0, 32))

    (page,) = discard_and_hold(world, file, 1)
    give_back(world, page)
    allow_faults(world, FaultBudget.parse("cut=1"))
    world.run_vcpu(0, touch)
    return world


SCENARIO = Scenario(
    name="cut-before-delivery",
    races=(),
    guards=("redeliver_faults", "resend_outstanding"),
    damage=("deadlock: cpu0 at discard_fault.arrive", "deadlock: cpu0 at reply"),
    sometimes=(
        "discard fault",
        "a command is lost on its way",
        "an outcome is lost on its way",
        "a fault is lost on its way",
    ),
    build=build,
)
