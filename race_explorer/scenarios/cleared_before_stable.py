"""A new page of anonymous memory is cleared, and only then set stable.

A free page is unused: the host may have dropped it, and need not keep what is stored there. An
access to it is an addressing exception, so the page has to be stable before its content is
touched (guard stable_first). Nor is any kind of set-stable enough: op 6 leaves a page that has no
content what it is, and the page stays unused (guard stable_unconditional).
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import sys_mmap, user_store
from race_explorer.scenarios.pieces import new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """One vCPU, one page of memory that was never touched."""
    world = new_world(protections, vcpu_count=1)
    kernel = world.kernel
    mm = kernel.new_mm()

    async def prepare() -> None:
        await kernel.boot(kernel.cpus[0])
        await sys_mmap(kernel.cpus[0], mm, None, 0, 1, writable=True)

    async def store(cpu: Cpu) -> None:
        assert await user_store(cpu, mm, mm.vmas[0].start)
        world.mark("stored")

    world.prepare(prepare())
    world.run_vcpu(0, store)
    return world


SCENARIO = Scenario(
    name="cleared-before-stable",
    races=("R35", "R37", "R48"),
    guards=("stable_first", "stable_unconditional"),
    damage=("addressing exception", "addressing exception"),
    sometimes=("stored",),
    build=build,
)
