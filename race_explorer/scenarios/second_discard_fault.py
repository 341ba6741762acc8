"""A discard fault is delivered a second time, when its page is in use again.

Faults are sent again after a reconnect until they are acknowledged, and the network may repeat
one by itself. vcpu 0 has handled the fault: the page is out of the cache, its grace period is
over, it was reused for another page of the file, and written to. The second copy names the same
address. Taken for a fault of its own it throws the new page away, data and all. Faults are
numbered per guest, and a number that was delivered before is dismissed.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import sys_write
from race_explorer.scenarios.pieces import map_and_discard, new_repeating_world, touch_once
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld
from shared.commands import Command, DiscardFault


def _fault(carried: Command | DiscardFault) -> bool:
    return isinstance(carried, DiscardFault)


def build(protections: Protections) -> SimWorld:
    """A discarded page, one touch, a grace period, a write to a page of the same file."""
    world = new_repeating_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def touch_and_reuse(cpu: Cpu) -> None:
        await touch_once(cpu, mm)
        await kernel.grace.reclaim(cpu)
        await sys_write(cpu, file, 1, 1)
        world.mark("reused", lambda: file.pages[1] is discarded)

    discarded = map_and_discard(world, mm, file)
    world.repeats = _fault
    world.run_vcpu(0, touch_and_reuse)
    return world


SCENARIO = Scenario(
    name="second-discard-fault",
    races=("R17",),
    guards=("dismiss_duplicate_faults",),
    damage=("discard of a page in use",),
    sometimes=("reused", "second discard fault"),
    build=build,
)
