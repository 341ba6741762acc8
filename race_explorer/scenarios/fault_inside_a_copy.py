"""read copies from a page of the page cache that the host has discarded.

A lookup that makes the page stable keeps that from happening; without it (guard stable_lookup)
the kernel's side of the copy meets a discard fault. It is no use to handle it and to execute the
copy again: the user's address would be translated afresh, but the kernel's own address names the
page whose content is gone, for ever. The fault has to end the copy, and to be reported (guard
fixup_user_copy).
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
        world.mark("read")

    world.prepare(prepare())
    world.evictions.append(file.pages[0].pfn)
    world.run_vcpu(0, read)
    return world


SCENARIO = Scenario(
    name="fault-inside-a-copy",
    races=("R41",),
    guards=("fixup_user_copy",),
    damage=("live-lock",),
    sometimes=("read", "make_stable failed"),
    build=build,
    pairs=(("fixup_user_copy", "stable_lookup"),),
)
