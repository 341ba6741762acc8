"""R25: a write fault dirties a page that the host has discarded.

A guest that counts dirty pages (Linux 2.6.19 and later) maps a shared page read-only at first. The
first store faults; the fault makes the pte writable and the page dirty, and nothing in that looks
at the page's content. The page was volatile, and the host has discarded it before the fault or
discards it in the middle. Dirty and discarded is what the discard cannot put up with; had it not
looked, writeback would have written zeroes to the disk. So the page is made stable before its pte
becomes writable, and whoever finds it gone answers VM_FAULT_DISCARD.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import PG_dirty
from guest_agent.kernel.syscalls import user_store
from race_explorer.scenarios.pieces import map_and_touch, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One process that has read a shared page and now writes to it, one eviction."""
    world = new_world(protections, vcpu_count=1, dirty_accounting=True)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def write(cpu: Cpu) -> None:
        await user_store(cpu, mm, mm.vmas[0].start)
        world.mark("another page was written to", lambda: file.pages.get(0) is not page)
        world.mark("dirty", lambda: bool(page.flags & PG_dirty))

    page = map_and_touch(world, mm, file, writable=True)
    world.evictions.append(page.pfn)
    world.run_vcpu(0, write)
    return world


SCENARIO = Scenario(
    name="dirtied-although-discarded",
    races=("R25",),
    guards=("dirty_stable_first",),
    damage=("page in use",),
    sometimes=("another page was written to", "dirty"),
    build=build,
)
