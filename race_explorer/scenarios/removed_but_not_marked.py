"""R53: reclaim removes a page that the host has discarded, and does not notice.

vcpu 1 has touched the page and waits for its discard fault; it holds nothing but the page's
address. Before it gets there vcpu 0's reclaim picks the page: clean, nobody refers to it, out it
goes, in the ordinary way and without anybody having touched its content. If nobody asks the host
what has become of the page it is freed like any other, at once, and allocated for something
else, which vcpu 1's handler then throws away. Asked under the tree lock, a page that turns out to
be V+z is marked PG_discarded and waits for its grace period, in which vcpu 1 gets its reference.

vcpu 0 starts where it has taken the page out of the cache.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from race_explorer.scenarios.pieces import (
    allocate,
    map_and_discard,
    new_world,
    run_alone,
    touch_once,
)
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """A pending discard fault, reclaim of its page, and an allocation."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def touch(cpu: Cpu) -> None:
        await touch_once(cpu, mm)

    async def reclaim_and_reuse(cpu: Cpu) -> None:
        if await kernel.shrink_cache(cpu):
            world.mark("reclaimed")
        await kernel.grace.reclaim(cpu)
        if await allocate(world, cpu) is discarded:
            world.mark("reused")

    discarded = map_and_discard(world, mm, file)
    world.run_vcpu(1, touch)
    run_alone(world, "cpu1")
    world.run_vcpu(0, reclaim_and_reuse)
    run_alone(world, "cpu0", lambda: not file.pages)
    return world


SCENARIO = Scenario(
    name="removed-but-not-marked",
    races=("R53",),
    guards=("remove_checks_state",),
    damage=("discard of a page without mapping",),
    sometimes=("reclaimed", "reused"),
    build=build,
)
