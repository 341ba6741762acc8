"""R5: the last unmap moves the hardware dirty bit to PG_dirty, with the same gap as msync.

A page is mapped writable once and was stored to: it is potential volatile, and the host keeps it
because its change bit is set. munmap takes the pte away; with the last one gone the storage key is
all that knows of the store, so page_remove_rmap moves it: clear C, set PG_dirty. In between the
page looks clean to the host, and nobody maps it any more who would notice. The rule is that of
msync: stable first. The reference that holds off an offer is the pte's own, given back only after
that.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import PG_dirty
from guest_agent.kernel.page_hva import make_volatile
from guest_agent.kernel.syscalls import sys_munmap
from race_explorer.scenarios.pieces import map_and_touch, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One process that unmaps the page it has stored to, an offer, one eviction."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def unmap(cpu: Cpu) -> None:
        await sys_munmap(cpu, mm, mm.vmas[0])
        world.mark("moved", lambda: bool(page.flags & PG_dirty))

    async def offer(cpu: Cpu) -> None:
        await make_volatile(cpu, page, 1)

    page = map_and_touch(world, mm, file, writable=True, store=True)
    world.evictions.append(page.pfn)
    world.run_vcpu(0, unmap)
    world.run_vcpu(1, offer)
    return world


SCENARIO = Scenario(
    name="dirty-bit-at-the-last-unmap",
    races=("R5",),
    guards=("stable_before_clear",),
    damage=("mapped writable was discarded",),
    sometimes=("moved",),
    build=build,
)
