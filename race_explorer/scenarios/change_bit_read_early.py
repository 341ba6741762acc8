"""R45: the host reads a page's change bit while the guest can still store to the page.

A page is mapped writable, clean and potential volatile. The host picks it, reads its change bit,
finds it clear; the guest stores; the host takes the guest's access away and drops the page by
what it has read. The bit says something only if no store can go unseen any more: access is
removed first, on every processor, and a store that comes after it cancels the reclaim.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import sys_mmap, user_load, user_store
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU that stores through its mapping, one eviction."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=True)
        await user_load(cpu, mm, vma.start)

    async def store(cpu: Cpu) -> None:
        await user_store(cpu, mm, mm.vmas[0].start)
        world.mark("stored")

    world.prepare(prepare())
    world.evictions.append(file.pages[0].pfn)
    world.run_vcpu(0, store)
    return world


SCENARIO = Scenario(
    name="change-bit-read-early",
    races=("R45",),
    guards=("remove_access_before_read",),
    damage=("version 0 seen",),
    sometimes=("stored", "discarded"),
    build=build,
)
