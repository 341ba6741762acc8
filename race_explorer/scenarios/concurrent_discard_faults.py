"""R11: two vCPUs fault on one discarded page, and both remove it from the page cache.

The page is mapped and volatile, and the host discards it. Both vCPUs touch it, both are
interrupted by a discard fault with the same absolute address, both take a reference and come
to discard_page. The page lock lets them in one after the other; PG_discarded tells the second
that the page is removed already. Without it the second deletes it from the page tree again
and drops the cache's reference twice.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.discard import end_translation, storage_access
from guest_agent.kernel.guards import Guards
from guest_agent.kernel.kernel import KernelConfig
from guest_agent.kernel.syscalls import sys_mmap, user_load
from race_explorer.scenarios.scenario import Scenario
from race_explorer.world import SimWorld
from shared.commands import Load


def build(guards: Guards) -> SimWorld:
    """One process on two vCPUs, one mapped page that is discarded already."""
    world = SimWorld(KernelConfig(page_count=3, vcpu_count=2, guards=guards))
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=False)
        await user_load(cpu, mm, vma.start)

    async def touch(cpu: Cpu) -> None:
        (pte,) = mm.ptes.values()
        if pte.page is None:
            return
        cpu.translation = pte
        if await storage_access(cpu, Load(pte.page.pfn, 0, 32)) is not None:
            await end_translation(cpu)
        elif kernel.statistics.discard_faults == 2:
            world.mark("two faults for one page")

    world.prepare(prepare())
    page = file.pages[0]
    world.evict_now(page.pfn)
    world.run_vcpu(0, touch)
    world.run_vcpu(1, touch)
    return world


SCENARIO = Scenario(
    name="concurrent-discard-faults",
    races=("R11",),
    guards=("test_set_discarded",),
    sometimes=("two faults for one page",),
    build=build,
)
