"""R17: the message of a discard fault is under way until its page has been freed and reused.

To a CPU an instruction and the fault it ends in are one moment. Over a network they are two: the
answer says that there will be a fault, and the fault comes with a message of its own, whenever that
comes. Both vCPUs have touched a discarded page. vcpu 1's message is late. vcpu 0 handles its own
fault, waits for a grace period, frees the page, and stores to another page of the file in it. Then
the message comes, with the address alone, and the handler throws the new page away.

Numbers do not help: both faults are legitimate, and neither comes twice. What helps is that a vCPU
that waits for its fault counts as disabled for interrupts, so that no grace period ends before
its handler holds a reference, or was refused one.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import sys_write
from race_explorer.scenarios.pieces import map_and_discard, new_world, run_alone, touch_once
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """Two vCPUs have touched one discarded page, and no message has come; one may reuse it."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()
    touched: list[int] = []

    async def touch(cpu: Cpu) -> None:
        if await touch_once(cpu, mm):
            touched.append(cpu.number)

    async def touch_and_reuse(cpu: Cpu) -> None:
        await touch(cpu)
        await kernel.grace.reclaim(cpu)
        world.mark("the other message is late", lambda: 1 not in touched)
        await sys_write(cpu, file, 1, 1)
        world.mark("reused", lambda: file.pages[1] is discarded)

    discarded = map_and_discard(world, mm, file)
    world.run_vcpu(0, touch_and_reuse)
    world.run_vcpu(1, touch)
    for actor in ("cpu0", "cpu1"):
        run_alone(world, actor)  # each to its access, and to the answer that there will be a fault
    return world


SCENARIO = Scenario(
    name="fault-delayed-past-reuse",
    races=("R17",),
    guards=("pending_fault_irqs_off",),
    damage=("discard of a page in use",),
    sometimes=("the other message is late", "reused"),
    build=build,
)
