"""A device is to store into a page of a program that the host may discard.

The page is mapped writable and clean, and so potential volatile. get_user_pages takes a
reference, which alone makes nothing stable: the host may discard the page before the device
stores, and what the device brings is lost (guard stable_pin). Nor may the page be marked dirty
before it is stable: the host may have discarded it, and a discarder finds a page that somebody
wants written (guard touch_after_stable).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import sys_dma_in, sys_mmap, user_load
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU, one device, one shared writable page, one eviction."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=True)
        await user_load(cpu, mm, vma.start)

    async def receive(cpu: Cpu) -> None:
        (vma,) = mm.vmas
        assert await sys_dma_in(cpu, mm, vma.start, 1) == 1
        world.mark("received")

    world.prepare(prepare())
    world.evictions.append(file.pages[0].pfn)
    world.run_vcpu(0, receive)
    return world


SCENARIO = Scenario(
    name="pinned-for-a-device",
    races=("R2",),
    guards=("stable_pin", "touch_after_stable"),
    damage=("DMA into", "discard of a page in use"),
    sometimes=("received", "make_stable failed"),
    build=build,
)
