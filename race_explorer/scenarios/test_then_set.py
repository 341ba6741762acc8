"""Asking for a page's state and then setting it stable is not what op 6 does.

vcpu 0 looks a cached page up: it finds it volatile and not discarded, and is about to set it
stable. The host discards the page. SET_STABLE has no condition: the page is stable now, its
content is zeroes, and vcpu 0 reads them as the file's. Op 6 tests and sets in one operation and
says that the page is gone (guard stable_if_resident).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import sys_read
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU, one cached page, one eviction."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def prepare() -> None:
        await kernel.boot(kernel.cpus[0])
        await sys_read(kernel.cpus[0], file, 0, 1)

    async def read(cpu: Cpu) -> None:
        await sys_read(cpu, file, 0, 1)

    world.prepare(prepare())
    world.evictions.append(file.pages[0].pfn)
    world.run_vcpu(0, read)
    return world


SCENARIO = Scenario(
    name="test-then-set",
    races=("R3",),
    guards=("stable_if_resident",),
    damage=("no tag",),
    sometimes=("make_stable failed",),
    build=build,
)
