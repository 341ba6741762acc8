"""R18: the handler of a discard fault takes a reference on a page that has none.

vcpu 1 waits for its discard fault. vcpu 0 has removed the page and drops the last reference: it
waits on the discarded list. vcpu 1's handler comes with the page's address. A plain increment
brings the page back to life; the handler finds that nothing is left to do, drops its reference,
and with that frees the page a second time: it is on the list twice, and soon has two owners. The
handler takes a reference only if there is one already.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.discard import discard_page
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import find_get_page_nodiscard
from guest_agent.kernel.syscalls import sys_fsync, sys_mmap, sys_write, user_load
from race_explorer.scenarios.pieces import new_world, run_alone, touch_once
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """A pending discard fault, and the last put of its page.

    It is the only page there is: what reads the two blocks at the end uses it again and again.
    """
    world = new_world(protections, vcpu_count=2, page_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        for index in (1, 0):
            await sys_write(cpu, file, index, 1)
            await sys_fsync(cpu, file)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=False)
        await user_load(cpu, mm, vma.start)

    async def touch(cpu: Cpu) -> None:
        await touch_once(cpu, mm)

    async def discard() -> None:
        held = await find_get_page_nodiscard(kernel.cpus[0], file, 0)
        assert held is page
        await discard_page(kernel.cpus[0], page)

    async def put(cpu: Cpu) -> None:
        await put_page(cpu, page)
        world.mark("last reference", lambda: page.count == 0)
        world.mark("not the last reference", lambda: page.count > 0)

    world.prepare(prepare())
    page = file.pages[0]
    world.evict_now(page.pfn)
    world.run_vcpu(1, touch)
    run_alone(world, "cpu1")
    world.prepare(discard())
    world.run_vcpu(0, put)
    return world


SCENARIO = Scenario(
    name="free-page-resurrected",
    races=("R18",),
    guards=("reference_if_present",),
    damage=("bad page",),
    sometimes=("last reference", "not the last reference"),
    build=build,
)
