"""R54: the handler of a discard fault enables interrupts before it has its reference.

A discarded page is reused after its grace period, when every vCPU has answered a call and so was
enabled for interrupts once. vcpu 1 was interrupted by a discard fault and holds nothing but the
page's address. Its handler must not answer before it has a reference: enabled too early it
says that it is through with the page, vcpu 0 frees and reuses it, and vcpu 1 takes a reference
to what is now somebody else's page, and discards it. Without any grace period the same happens
at once (R17).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page_cache import find_get_page
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
    """A pending discard fault, its page on the discarded list, a grace period, an allocation."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def touch(cpu: Cpu) -> None:
        await touch_once(cpu, mm)

    async def look() -> None:
        assert await find_get_page(kernel.cpus[0], file, 0) is None

    async def reuse(cpu: Cpu) -> None:
        await kernel.grace.reclaim(cpu)
        if await allocate(world, cpu) is discarded:
            world.mark("reused")

    discarded = map_and_discard(world, mm, file)
    world.run_vcpu(1, touch)
    run_alone(world, "cpu1")
    world.prepare(look())
    assert discarded.count == 0
    world.run_vcpu(0, reuse)
    return world


SCENARIO = Scenario(
    name="enabled-too-early",
    races=("R54", "R17"),
    guards=("fault_irqs_off", "grace_period"),
    damage=("discard of a page without mapping",) * 2,
    sometimes=("reused",),
    build=build,
)
