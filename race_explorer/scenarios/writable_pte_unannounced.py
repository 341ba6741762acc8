"""R7: a pte becomes writable, and the host is not told that it must look at the change bit.

A volatile page may be dropped at any time without a look at its change bit: the guest has
promised that it is clean. A fault maps a cached page writable and shared; the program stores.
check_write sees to it that from before the pte is set the page is potential volatile, or stable,
and that every later offer is one of potential volatile. Without it the page is offered as
volatile right after it was mapped, and the host drops the store with the page.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import sys_mmap, sys_read, user_store
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU that stores to a cached page through a new mapping, one eviction."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_read(cpu, file, 0, 1)
        await sys_mmap(cpu, mm, file, 0, 1, writable=True)

    async def store(cpu: Cpu) -> None:
        await user_store(cpu, mm, mm.vmas[0].start)
        world.mark("stored")

    world.prepare(prepare())
    world.evictions.append(file.pages[0].pfn)
    world.run_vcpu(0, store)
    return world


SCENARIO = Scenario(
    name="writable-pte-unannounced",
    races=("R7",),
    guards=("check_write",),
    damage=("version 0 seen",),
    sometimes=("stored", "discarded"),
    build=build,
)
