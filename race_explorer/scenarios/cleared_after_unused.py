"""A page is freed, set unused, and then cleared.

Kernels that clear or poison what they free touch its content on the way to the free list. Once
the page is unused that is an addressing exception: nobody owns the page. Set unused has to be the
last thing that happens to it (guard unused_last).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page_alloc import alloc_page, put_page
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU that allocates a page and frees it."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel

    async def allocate_and_free(cpu: Cpu) -> None:
        page = await alloc_page(cpu)
        await put_page(cpu, page)
        if page in kernel.free_list:
            world.mark("freed")

    world.prepare(kernel.boot(kernel.cpus[0]))
    world.run_vcpu(0, allocate_and_free)
    return world


SCENARIO = Scenario(
    name="cleared-after-unused",
    races=("R36",),
    guards=("unused_last",),
    damage=("addressing exception",),
    sometimes=("freed",),
    build=build,
)
