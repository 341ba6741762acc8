"""A full swap device gives up the slot of a page that is volatile.

A child maps the page, which is in the swap cache and volatile: its content is on the swap
device. Our pte names the slot. munmap takes it away, and since the device is more than half full
the slot is freed and the page leaves the swap cache. Now its content is nowhere but in memory,
and the host may still discard it, or has done so already; the child has lost what was stored.
The page has to be stable before its slot goes, and keeps it where that fails (guard
swap_slot_stable).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import Page
from guest_agent.kernel.swap_cache import get_swap_page, swap_free
from guest_agent.kernel.syscalls import sys_munmap
from race_explorer.scenarios.pieces import new_world, share_and_swap
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU, a page that a child maps and our pte has swapped out, one eviction."""
    world = new_world(protections, vcpu_count=1, page_count=5, swap_pages=4)
    kernel = world.kernel
    mm = kernel.new_mm()
    shared: list[Page] = []
    others: list[int] = []

    async def prepare() -> None:
        await kernel.boot(kernel.cpus[0])
        _, page = await share_and_swap(kernel.cpus[0], mm)
        shared.append(page)
        while not kernel.swap.full():
            others.append(await get_swap_page(kernel.cpus[0]))

    async def unmap(cpu: Cpu) -> None:
        (vma,) = mm.vmas
        await sys_munmap(cpu, mm, vma)
        world.mark("slot kept", lambda: bool(kernel.swap.pages))
        world.mark("slot freed", lambda: not kernel.swap.pages)

    async def free_the_others(cpu: Cpu) -> None:
        for slot in others:
            await swap_free(cpu, slot)

    world.prepare(prepare())
    world.closing = free_the_others
    world.evictions.append(shared[0].pfn)
    world.run_vcpu(0, unmap)
    return world


SCENARIO = Scenario(
    name="slot-freed-before-its-page",
    races=("R28",),
    guards=("swap_slot_stable",),
    damage=("slot 0 is free",),
    sometimes=("slot freed", "slot kept"),
    build=build,
)
