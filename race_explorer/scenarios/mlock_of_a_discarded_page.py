"""mlock marks the vma first, and then finds a page there that the host has discarded.

The page is mapped and volatile. vcpu 0 sets VM_LOCKED and brings the pages in: one turns out to
be discarded, and its ptes have to go before it is read anew. try_to_unmap leaves the ptes of a
locked vma alone, which the discard cannot put up with. For a discarded page VM_LOCKED does not
count (guard unmap_ignores_locked); patch 1/6 has a BUG_ON there.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import sys_mlock
from race_explorer.scenarios.pieces import map_and_discard, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU, one mapped page, one eviction."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def lock(cpu: Cpu) -> None:
        await sys_mlock(cpu, mm, mm.vmas[0])

    map_and_discard(world, mm, file)
    world.run_vcpu(0, lock)
    return world


SCENARIO = Scenario(
    name="mlock-of-a-discarded-page",
    races=("R30",),
    guards=("unmap_ignores_locked",),
    damage=("SWAP_FAIL",),
    sometimes=("discarded",),
    build=build,
)
