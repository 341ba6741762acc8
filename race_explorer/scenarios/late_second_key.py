"""A second copy of SSKE comes when the page has been stored to again.

msync has moved the change bit of a mapped page to PG_dirty, and the page was written: it is clean,
and potential volatile, so that the host keeps it only if the change bit says so. The network has
kept a copy of the SSKE that cleared the bit. vcpu 0 stores to the page, which sets the bit; then
the copy comes and clears it. To the host the page is clean; it is discarded, and the store is
lost. As for the operations 1 to 4: commands are numbered per vCPU, and an old number is refused.
"""

from __future__ import annotations

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.syscalls import sys_exit, sys_fsync, sys_mmap, sys_msync, user_store
from race_explorer.scenarios.pieces import new_repeating_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.world import SimWorld
from shared.commands import Command, DiscardFault, Sske


def _set_key(carried: Command | DiscardFault) -> bool:
    return isinstance(carried, Sske)


def build(protections: Protections) -> SimWorld:
    """A mapped page that was written back, a copy of the SSKE, a store, one eviction."""
    world = new_repeating_world(protections, vcpu_count=1)
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)
    mm = kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=True)
        await user_store(cpu, mm, vma.start)
        world.repeats = _set_key
        await sys_msync(cpu, vma)
        world.repeats = lambda _: False
        await sys_fsync(cpu, file)

    async def store(cpu: Cpu) -> None:
        await user_store(cpu, mm, mm.vmas[0].start)
        world.mark("stored")

    async def close(cpu: Cpu) -> None:
        await sys_exit(cpu, mm)  # which looks at the change bit

    world.closing = close
    world.prepare(prepare())
    world.evictions.append(file.pages[0].pfn)
    world.run_vcpu(0, store)
    return world


SCENARIO = Scenario(
    name="late-second-key",
    races=(),
    guards=("answer_repeats",),
    damage=("version 1 seen, legal were (2,)",),
    sometimes=("stored", "discarded", "second Sske", "an old number is refused"),
    build=build,
)
