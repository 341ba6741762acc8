"""R4: msync moves the hardware dirty bit to PG_dirty, and for a moment neither is set.

A page is mapped writable, was stored to, and is potential volatile: the host keeps it only
because its change bit is set. vcpu 0's msync clears the change bit and sets PG_dirty; in
between the page looks clean to the host, which discards it, and the store is lost. The
series' rule: a reference first, then stable, then clear C, then PG_dirty. vcpu 1 offers the
page meanwhile, as every unlock_page and put_page does.

The rule is not enough. vcpu 1 may read the flags before PG_dirty is set and the counts after
the reference is dropped: it finds no obstacle and makes a dirty page volatile, whose change
bit is clear. Reading the counts first closes that (guard flags_after_counts).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.msync import msync_pte
from guest_agent.kernel.page_hva import make_volatile
from race_explorer.scenarios.pieces import map_and_touch, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One process with one dirty mapped page, an offer, one eviction."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def msync(cpu: Cpu) -> None:
        (pte,) = mm.ptes.values()
        await cpu.spin_lock(mm.page_table_lock, "ptl")
        await msync_pte(cpu, pte)
        await cpu.spin_unlock(mm.page_table_lock, "ptl_unlock")
        world.mark("transferred")

    async def offer(cpu: Cpu) -> None:
        await make_volatile(cpu, page, 1)

    page = map_and_touch(world, mm, file, writable=True, store=True)
    world.evictions.append(page.pfn)
    world.run_vcpu(0, msync)
    world.run_vcpu(1, offer)
    return world


SCENARIO = Scenario(
    name="dirty-bit-in-transit",
    races=("R4", "R2"),
    guards=("stable_before_clear", "hold_reference", "flags_after_counts"),
    damage=("mapped writable was discarded", "page in use", "page in use"),
    sometimes=("transferred",),
    build=build,
)
