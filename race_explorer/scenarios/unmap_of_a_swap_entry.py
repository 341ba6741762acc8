"""munmap takes away the last pte that names a swap slot, and looks at the page in the slot.

A child maps the page, which is in the swap cache and volatile; our pte names its slot. munmap
gives our use of the slot up under the page table lock, and finds that the cache is its only user
now: perhaps the page can leave the cache with it. The host may have discarded the page. A lookup
that makes it stable would discard it on the spot, for which it needs the swap lock and the page
table lock that are held; so this one looks up without (guard swap_nodiscard_lookup).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import Page
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

    async def prepare() -> None:
        await kernel.boot(kernel.cpus[0])
        _, page = await share_and_swap(kernel.cpus[0], mm)
        shared.append(page)

    async def unmap(cpu: Cpu) -> None:
        (vma,) = mm.vmas
        await sys_munmap(cpu, mm, vma)
        world.mark("unmapped")

    world.prepare(prepare())
    world.evictions.append(shared[0].pfn)
    world.run_vcpu(0, unmap)
    return world


SCENARIO = Scenario(
    name="unmap-of-a-swap-entry",
    races=("R27",),
    guards=("swap_nodiscard_lookup",),
    damage=("dead-lock",),
    sometimes=("unmapped", "discarded"),
    build=build,
)
