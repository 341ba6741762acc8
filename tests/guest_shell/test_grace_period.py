"""In a real guest, too, no grace period ends while a discard fault is under way.

Method: kernel and host core as shipped, the kernel on the schedule of the guest's process. The
host's stages are run by hand, so that the message of a fault is late for as long as a test likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from guest_agent.kernel.block import complete, transfer
from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.grace import Grace
from guest_agent.kernel.guards import FIXED, Guards
from guest_agent.kernel.kernel import Kernel, KernelConfig
from guest_agent.kernel.page import Page
from guest_agent.kernel.ports import DiskRequest
from guest_agent.kernel.syscalls import sys_mmap, user_load
from guest_agent.rpc.schedule import LoopSchedule
from race_explorer.scenarios.pieces import touch_once
from race_explorer.straight import Straight

TURNS = 200
"""Of the event loop; far more than all that is possible takes."""


class LateFaults(Straight):
    """Two vCPUs as tasks; a fault arrives when `deliver` says so, and time passes at every turn."""

    def __init__(self, grace: Grace, guards: Guards) -> None:
        config = KernelConfig(4, 2, guards=guards, grace=grace)
        super().__init__(config)
        self.kernel = Kernel(config, self, LoopSchedule(), self)
        self.over = False
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, request: DiskRequest) -> None:
        """A task for the transfer."""
        self.start(self._transfer(request))

    async def _transfer(self, request: DiskRequest) -> None:
        complete(self.kernel, request, await transfer(self, self.store, self.device, request))

    def start(self, program: Coroutine[Any, Any, None]) -> None:
        """A task whose failure is the test's."""
        self._tasks.add(asyncio.ensure_future(program))

    async def turns(self, until: Callable[[], bool] = lambda: False) -> None:
        """Let all tasks go on as far as they can, or until something holds."""
        for _ in range(TURNS):
            if until():
                return
            for cpu in self.kernel.cpus:
                self.kernel.tick(cpu.number)
            await asyncio.sleep(0)
            for task in [task for task in self._tasks if task.done()]:
                self._tasks.remove(task)
                task.result()

    def deliver(self, number: int) -> None:
        """The message of a discard fault arrives."""
        (stage,) = self.host.enabled()
        assert stage.number == number
        self._work()

    async def finish(self) -> None:
        """No vCPU has anything to do any more."""
        self.over = True
        for cpu in self.kernel.cpus:  # an interrupt: they look again
            self.kernel.raise_interrupt(cpu.number, _nothing)
        await self.turns(lambda: not self._tasks)
        assert not self._tasks


async def _nothing(_cpu: Cpu) -> None:
    """An interrupt's handler."""


async def discarded_and_touched_twice(world: LateFaults) -> Page:
    """The host has discarded a mapped page; both vCPUs have touched it and wait for their faults.

    vcpu 0 is told of its fault first, and begins a grace period when it has handled it.
    """
    kernel = world.kernel
    file, mm = kernel.open_file(1, disk=1, first_block=0), kernel.new_mm()

    async def prepare() -> None:
        cpu = kernel.cpus[0]
        await kernel.boot(cpu)
        vma = await sys_mmap(cpu, mm, file, 0, 1, writable=False)
        await user_load(cpu, mm, vma.start)

    async def touch(cpu: Cpu, then: Callable[[Cpu], Coroutine[Any, Any, object]]) -> None:
        assert await touch_once(cpu, mm)
        await then(cpu)
        await kernel.idle(cpu, lambda: world.over)

    world.start(prepare())
    await world.turns()
    page = file.pages[0]
    world.evict(page.pfn)
    world.start(touch(kernel.cpus[0], kernel.grace.reclaim))
    world.start(touch(kernel.cpus[1], _nothing))
    await world.turns()
    return page


def play(grace: Grace, guards: Guards) -> tuple[bool, bool]:
    """Whether the page is free before the late fault has come, and after."""

    async def body() -> tuple[bool, bool]:
        async with asyncio.timeout(60):
            world = LateFaults(grace, guards)
            page = await discarded_and_touched_twice(world)
            world.deliver(1)
            await world.turns(lambda: page in world.kernel.free_list)
            before = page in world.kernel.free_list
            world.deliver(2)
            await world.turns(lambda: page in world.kernel.free_list)
            after = page in world.kernel.free_list
            await world.finish()
            return before, after

    return asyncio.run(body())


@pytest.mark.parametrize("grace", list(Grace))
def test_the_page_of_a_late_fault_is_kept_until_its_handler_was_refused_it(grace: Grace) -> None:
    assert play(grace, FIXED) == (False, True)


@pytest.mark.parametrize("grace", list(Grace))
def test_without_the_guard_it_is_free_before_the_fault_has_come(grace: Grace) -> None:
    assert play(grace, FIXED.without("pending_fault_irqs_off")) == (True, True)
