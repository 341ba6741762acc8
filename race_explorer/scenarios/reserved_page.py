"""The references of a reserved page are all dropped, and its driver goes on using it.

Freeing refuses a reserved page. If it is set unused before that test, the page stays with its
driver and yet belongs to nobody: the host drops its content, and the driver's next access is an
addressing exception. The test comes first (guard reserved_before_unused).
"""

from __future__ import annotations

from guest_agent.kernel.content import TAGS_PER_PAGE, tag
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.oops import kernel_access
from guest_agent.kernel.page import Page
from guest_agent.kernel.page_alloc import put_page, release_reserved_page, reserve_page
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld
from shared.arch import PAGE_SIZE
from shared.commands import Load, LoadOutcome, Store

DRIVERS = tag(9, 0, 1)


def build(protections: Protections) -> SimWorld:
    """One vCPU, one page of a driver's, one eviction."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    reserved: list[Page] = []

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        page = await reserve_page(cpu)
        store = Store(page.pfn, 0, DRIVERS, TAGS_PER_PAGE)
        await kernel_access(cpu, page, store, "filling a driver's page")
        reserved.append(page)

    async def put_and_use(cpu: Cpu) -> None:
        (page,) = reserved
        await put_page(cpu, page)
        load = Load(page.pfn, 0, PAGE_SIZE)
        found = await kernel_access(cpu, page, load, "using a driver's page")
        assert found == LoadOutcome(DRIVERS, TAGS_PER_PAGE), "a driver's page has lost its content"
        world.mark("used")

    async def release(cpu: Cpu) -> None:
        await release_reserved_page(cpu, reserved[0])

    world.prepare(prepare())
    world.closing = release
    world.evictions.append(reserved[0].pfn)
    world.run_vcpu(0, put_and_use)
    return world


SCENARIO = Scenario(
    name="reserved-page",
    races=("R38",),
    guards=("reserved_before_unused",),
    damage=("addressing exception",),
    sometimes=("used",),
    build=build,
)
