"""R20: put_page drops its reference and then offers a page that is no longer its own.

A file was truncated while two readers held its page, which is out of the cache and theirs alone.
Both drop it. With the series' order vcpu 0 decrements first and calls make_volatile after; it
trusts the conditions to fail. But vcpu 1's put is the last one, the page is freed and allocated
anew, while vcpu 0 sets PG_state_change in its flags: the allocator meets a flag on a free page,
and a little later it would be an offer of the new owner's page. Offered before the decrement, with
the reference held, the page cannot go away.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.page import Page
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import find_get_page
from guest_agent.kernel.syscalls import sys_read, sys_truncate
from race_explorer.scenarios.pieces import allocate, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """A truncated page with two references, the dropping of both, an allocation."""
    world = new_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    held: list[Page] = []

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        await sys_read(cpu, file, 0, 1)
        for _ in range(2):
            found = await find_get_page(cpu, file, 0)
            assert found is not None
            held.append(found)
        await sys_truncate(cpu, file, 0)

    async def put(cpu: Cpu) -> None:
        await put_page(cpu, page)

    async def put_and_allocate(cpu: Cpu) -> None:
        await put_page(cpu, page)
        if await allocate(world, cpu) is page:
            world.mark("reused")

    world.prepare(prepare())
    page = held[0]
    world.run_vcpu(0, put)
    world.run_vcpu(1, put_and_allocate)
    return world


SCENARIO = Scenario(
    name="volatile-after-put",
    races=("R20",),
    guards=("volatile_before_put",),
    damage=("bad page from the free list",),
    sometimes=("reused",),
    build=build,
)
