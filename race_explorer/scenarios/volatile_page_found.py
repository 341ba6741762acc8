"""R2, R3: a page is found in the page cache, and it is volatile.

A page that nobody uses lies in the cache, clean and volatile, as it should. A read finds it. If
the page is handed out as it is, referenced and no more, the host may discard it before the
kernel copies from it, or may have done so already; the copy then ends in a discard fault that
the kernel cannot resolve. So find_get_page makes the page stable once it has its reference: one
instruction that either keeps the page or says that it is gone, and then it is taken out of the
cache and read again from the disk.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import sys_read
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU that reads a cached page, one eviction."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def prepare() -> None:
        await kernel.boot(kernel.cpus[0])
        await sys_read(kernel.cpus[0], file, 0, 1)

    async def read(cpu: Cpu) -> None:
        await sys_read(cpu, file, 0, 1)
        world.mark("page discarded" if kernel.statistics.pages_discarded else "page kept")

    world.prepare(prepare())
    world.evictions.append(file.pages[0].pfn)
    world.run_vcpu(0, read)
    return world


SCENARIO = Scenario(
    name="volatile-page-found",
    races=("R2", "R3"),
    guards=("stable_lookup",),
    damage=("held stable",),
    sometimes=("page discarded", "page kept"),
    build=build,
)
