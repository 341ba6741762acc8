"""R19: reclaim collects the discarded pages of every vCPU but its own.

In the version of 2006-04 each vCPU has a list of discarded pages, and reclaim has them spliced
by smp_call_function, which calls the others. What the vCPU that reclaims has on its own list
stays there: with nothing else left the guest is out of memory, its memory on a list.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.grace import Grace
from guest_agent.kernel.lru import LruKind
from guest_agent.kernel.page_alloc import alloc_page, put_page
from race_explorer.scenarios.pieces import discard_and_hold, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """Two vCPUs; the first has the last reference to a discarded page, and no other is free."""
    world = new_world(protections, vcpu_count=2, page_count=2, grace=Grace.EACH, lru=LruKind.PLAIN)
    file = world.kernel.open_file(1, disk=1, first_block=0)

    async def put_and_take(cpu: Cpu) -> None:
        await put_page(cpu, page)
        assert await alloc_page(cpu) is page
        world.mark("taken again")
        await put_page(cpu, page)

    async def nothing(cpu: Cpu) -> None:
        """Be there for calls."""

    (page,) = discard_and_hold(world, file, 1)
    world.run_vcpu(0, put_and_take)
    world.run_vcpu(1, nothing)
    return world


SCENARIO = Scenario(
    name="list-of-the-caller",
    races=("R19",),
    guards=("grace_splices_own",),
    damage=("out of memory",),
    sometimes=("taken again",),
    build=build,
)
