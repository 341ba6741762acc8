"""A fault on a page of the swap cache holds the page lock when it finds the page discarded.

With minor faults (patch 4/6) a lookup in the swap cache does not look at the page's state; a
write fault makes the page stable once it has locked it. The host was faster: the page has to be
taken out of the swap cache, and its discarder takes the page lock. The fault gives the lock up
before that (guard unlock_before_discard), or it waits for itself for ever. Then it reads the
page from the swap device again.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import Page
from guest_agent.kernel.syscalls import user_store
from race_explorer.scenarios.pieces import new_world, share_and_swap
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU, a page that a child maps and our pte has swapped out, one eviction."""
    world = new_world(protections, vcpu_count=1, page_count=5, swap_pages=8, minor_faults=True)
    kernel = world.kernel
    mm = kernel.new_mm()
    shared: list[Page] = []

    async def prepare() -> None:
        await kernel.boot(kernel.cpus[0])
        _, page = await share_and_swap(kernel.cpus[0], mm)
        shared.append(page)

    async def store(cpu: Cpu) -> None:
        (vma,) = mm.vmas
        await user_store(cpu, mm, vma.start)

    world.prepare(prepare())
    world.evict_now(shared[0].pfn)
    world.run_vcpu(0, store)
    return world


SCENARIO = Scenario(
    name="fault-holds-the-page-lock",
    races=("R26",),
    guards=("unlock_before_discard",),
    damage=("deadlock: cpu0 at lock_page",),
    sometimes=("make_stable failed", "discarded"),
    build=build,
)
