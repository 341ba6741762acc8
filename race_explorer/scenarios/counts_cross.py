"""An assertion about two counts that are read one after the other.

vcpu 0 offers a mapped page: it reads a mapcount of 1. vcpu 1 unmaps the page, which drops the
mapcount and the reference. vcpu 0 reads the count: more mappings than references, as it seems.
One version has a BUG_ON for that, and nothing is wrong. A comparison that tolerates it merely
finds that the counts do not agree (guard tolerant_compare); with both counts read at one instant
they cannot cross, so each of the two guards hides the other.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page_hva import make_volatile
from guest_agent.kernel.syscalls import sys_mmap, sys_munmap, user_load
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """Two vCPUs, one mapped page."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=False)
        await user_load(cpu, mm, vma.start)

    async def offer(cpu: Cpu) -> None:
        await make_volatile(cpu, page, 1)

    async def unmap(cpu: Cpu) -> None:
        await sys_munmap(cpu, mm, mm.vmas[0])
        world.mark("unmapped")

    world.prepare(prepare())
    page = file.pages[0]
    world.run_vcpu(0, offer)
    world.run_vcpu(1, unmap)
    return world


SCENARIO = Scenario(
    name="counts-cross",
    races=("R34",),
    guards=("tolerant_compare", "counts_in_one_load"),
    damage=("BUG_ON",),
    sometimes=("unmapped",),
    build=build,
    pairs=(("tolerant_compare", "counts_in_one_load"),),
)
