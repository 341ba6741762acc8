"""The page that copy-on-write copies from is discarded under its hands.

A private mapping maps a file's page, which is volatile. vcpu 0 stores to it: do_wp_page takes a
reference, which keeps others from making the page volatile but does not make it stable, and
copies. If the host discards the page first, the kernel copies from nothing: a discard fault in
kernel mode. Making the old page stable before it is read closes it; where that fails the page is
discarded and the fault is taken again (guard stable_copy_source).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import sys_mmap, user_load, user_store
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU, a private mapping of one page, one eviction."""
    world = new_world(protections, vcpu_count=1, page_count=4)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=True, shared=False)
        await user_load(cpu, mm, vma.start)

    async def store(cpu: Cpu) -> None:
        await user_store(cpu, mm, mm.vmas[0].start)

    world.prepare(prepare())
    world.evictions.append(file.pages[0].pfn)
    world.run_vcpu(0, store)
    return world


SCENARIO = Scenario(
    name="copy-source-discarded",
    races=("R24",),
    guards=("stable_copy_source",),
    damage=("discard fault in kernel mode",),
    sometimes=("discarded",),
    build=build,
)
