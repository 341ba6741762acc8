"""A second copy of "set volatile" comes when the page has long been made stable.

vcpu 1 has read a page and offered it when it was done. The command was answered; the network
has kept a copy, of a connection that was lost perhaps, and delivers it later. vcpu 0 meanwhile
has taken a reference, made the page stable, and reads it. Executed again the copy makes the page
volatile under its hands, and the host discards it. Commands are numbered per vCPU: the last number
is answered from memory, and an older one is refused. Op 6 could be repeated without harm; ops 1
to 4 and SSKE could not.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.filemap import kernel_load
from guest_agent.kernel.page_cache import find_get_page
from guest_agent.kernel.syscalls import sys_read
from race_explorer.scenarios.pieces import give_back, new_repeating_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld
from shared.arch import Orc
from shared.commands import Command, DiscardFault, Essa


def _set_volatile(carried: Command | DiscardFault) -> bool:
    return isinstance(carried, Essa) and carried.orc == Orc.SET_VOLATILE


def build(protections: Protections) -> SimWorld:
    """An offered page, a copy of the offer's command on the way, a lookup, one eviction."""
    world = new_repeating_world(protections, vcpu_count=2)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def prepare() -> None:
        await kernel.boot(kernel.cpus[1])
        world.repeats = _set_volatile
        await sys_read(kernel.cpus[1], file, 0, 1)

    async def use(cpu: Cpu) -> None:
        if await find_get_page(cpu, file, 0) is None:
            world.mark("page gone")
            return
        give_back(world, page)
        await kernel_load(cpu, page, file, 0, tags=1)
        world.mark("page used")

    async def go_on(cpu: Cpu) -> None:
        await cpu.essa(Orc.GET_STATE, page)  # any command: the numbers go on with it

    world.prepare(prepare())
    page = file.pages[0]
    world.evictions.append(page.pfn)
    world.run_vcpu(0, use)
    world.run_vcpu(1, go_on)
    return world


SCENARIO = Scenario(
    name="late-second-copy",
    races=(),
    guards=("answer_repeats",),
    damage=("held stable",),
    sometimes=(
        "page used",
        "page gone",
        "an old number is refused",
        "the last number is answered from memory",
    ),
    build=build,
)
