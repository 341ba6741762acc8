"""An answer comes a second time, when its vCPU waits for the answer to its next command.

The network has delivered a command twice. It was executed once, as it should be, and the second
copy was answered from memory, so that two answers are under way. The first one lets the vCPU go
on: page 0 of the file could be made stable. Now it asks the same of page 1, which the host has
discarded. The second answer, "was volatile and resident", comes before the answer to that. Whoever
takes it for one uses a page without content. An answer bears the number of its command.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.filemap import kernel_load
from guest_agent.kernel.page_alloc import put_page
from guest_agent.kernel.page_cache import find_get_page
from guest_agent.kernel.syscalls import sys_read
from race_explorer.faults import FaultBudget, allow_faults
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """Two cached pages, the second one discarded; both are looked up; one command comes twice."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def prepare() -> None:
        await kernel.boot(kernel.cpus[0])
        await sys_read(kernel.cpus[0], file, 0, 2)

    async def look_up(cpu: Cpu) -> None:
        kept = await find_get_page(cpu, file, 0)
        page = await find_get_page(cpu, file, 1)
        if page is None:
            world.mark("page gone")
        else:
            await kernel_load(cpu, page, file, 1, tags=1)
        assert kept is not None
        await put_page(cpu, kept)

    world.prepare(prepare())
    world.evict_now(file.pages[1].pfn)
    allow_faults(world, FaultBudget.parse("duplicate=1"))
    world.run_vcpu(0, look_up)
    return world


SCENARIO = Scenario(
    name="answer-of-another-command",
    races=(),
    guards=("match_answers",),
    damage=("ended in EssaOutcome",),
    sometimes=("page gone", "duplicate", "the last number is answered from memory"),
    build=build,
)
