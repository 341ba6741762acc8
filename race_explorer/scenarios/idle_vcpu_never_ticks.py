"""R19: a batch of discarded pages waits for a vCPU that idles, and gets no ticks.

In the version of 2007 time ends the grace period: each vCPU signs off at its timer's tick. An
idle one has stopped its timer. It is enabled for interrupts and so in no fault handler: it signs
off when it begins to idle, and a batch that begins meanwhile leaves it out (guard
grace_idle_signs_off). With the guard off the batch waits for it for ever.
"""

from __future__ import annotations

from functools import partial

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.grace import Grace
from guest_agent.kernel.lru import LruKind
from guest_agent.kernel.page import reads
from guest_agent.kernel.page_alloc import put_page
from race_explorer.scenarios.pieces import discard_and_hold, new_world
from race_explorer.scenarios.scenario import Protections, Scenario
from race_explorer.scenarios.timer import Timer
from race_explorer.world import SimWorld


def build(protections: Protections) -> SimWorld:
    """Two vCPUs with timers; one has the last reference to the only page, the other idles."""
    world = new_world(
        protections, vcpu_count=2, page_count=2, grace=Grace.SIGN_OFF, lru=LruKind.PLAIN
    )
    kernel = world.kernel
    file = kernel.open_file(1, disk=1, first_block=0)

    async def put_and_wait(cpu: Cpu) -> None:
        await put_page(cpu, page)
        await cpu.wait_until(lambda: page in kernel.free_list, "freed", reads("free_list"))
        world.mark("freed")

    async def nothing(cpu: Cpu) -> None:
        """Idle at once."""

    (page,) = discard_and_hold(world, file, 1)
    world.run_vcpu(0, put_and_wait)
    world.run_vcpu(1, nothing)
    for vcpu in range(2):
        ticks = partial(Timer(kernel).ticks, vcpu)
        world.spawn_later(f"timer{vcpu}", ticks, daemon=True)
    return world


SCENARIO = Scenario(
    name="idle-vcpu-never-ticks",
    races=("R19",),
    guards=("grace_idle_signs_off",),
    damage=("deadlock: cpu0 at freed",),
    sometimes=("freed",),
    build=build,
)
