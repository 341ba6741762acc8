"""How a guest dies: what is a crash, what the report says, and dead-locks that a vCPU finds out.

Method: one vCPU on the straight machine; who waits for another vCPU runs on the simulated one.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from guest_agent.kernel.cpu import Cpu, KernelBug
from guest_agent.kernel.guards import FIXED, Guards
from guest_agent.kernel.kernel import KernelConfig
from guest_agent.kernel.oops import EVENTS_MAX, Oops, check_outcome, kernel_access
from guest_agent.kernel.page import Page, PG_state_change, RwSemaphore, SpinLock
from guest_agent.kernel.page_alloc import alloc_page, put_page
from guest_agent.kernel.page_hva import make_stable, make_volatile
from guest_agent.kernel.syscalls import sys_mmap, user_load, user_store
from race_explorer.exhaustive import explore
from race_explorer.world import SimWorld
from shared.arch import InterruptionCode, Orc
from shared.commands import (
    DONE,
    EssaOutcome,
    FaultPending,
    IoError,
    KeyOutcome,
    Load,
    LoadOutcome,
    MachineCheck,
    Outcome,
    ProgramInterruption,
)
from tests.kernel.world import World

Program = Callable[[Cpu], Coroutine[Any, None, None]]


def _crash(world: World, program: Coroutine[Any, Any, object]) -> Oops:
    with pytest.raises(Oops) as caught:
        world.run(_whole(program))
    return caught.value


async def _whole(program: Coroutine[Any, Any, object]) -> None:
    await program


# What ends an access.


@pytest.mark.parametrize(
    ("outcome", "what"),
    [
        (ProgramInterruption(InterruptionCode.ADDRESSING), "addressing exception"),
        (ProgramInterruption(InterruptionCode.OPERATION), "interruption 0x01"),
        (ProgramInterruption(InterruptionCode.PRIVILEGED_OPERATION), "interruption 0x02"),
        (ProgramInterruption(InterruptionCode.SPECIFICATION), "interruption 0x06"),
        (FaultPending(3), "discard fault"),
        (MachineCheck(), "machine check"),
        (IoError(), "I/O error"),
    ],
)
@pytest.mark.parametrize("user", [False, True])
def test_an_access_that_must_succeed_and_does_not_is_a_crash(
    outcome: Outcome, what: str, user: bool
) -> None:
    world = World()
    page = world.kernel.mem_map[3]
    with pytest.raises(Oops) as caught:
        check_outcome(world.cpu, page, outcome, "testing", user=user)
    mode = "user mode" if user else "kernel mode"
    assert caught.value.what.startswith(f"{what} in {mode}")
    assert "pfn 3" in caught.value.what
    assert caught.value.what.endswith("vcpu 0 while testing")


@pytest.mark.parametrize(
    "outcome", [DONE, LoadOutcome(b"x"), KeyOutcome(0), EssaOutcome(0x0F)], ids=str
)
def test_an_access_that_succeeds_is_none(outcome: Outcome) -> None:
    world = World()
    check_outcome(world.cpu, world.kernel.mem_map[3], outcome, "testing")


def test_a_free_page_is_unused_and_an_access_to_it_crashes_with_a_full_report() -> None:
    world = World()

    async def uses_it_afterwards(cpu: Cpu) -> None:
        page = await alloc_page(cpu)
        await put_page(cpu, page)
        await kernel_access(cpu, page, Load(page.pfn, 0, 32), "reading a page that it has freed")

    lines = str(_crash(world, uses_it_afterwards(world.cpu))).splitlines()
    assert lines[0] == (
        "Oops: addressing exception in kernel mode: pfn 1 is unused; "
        "vcpu 0 while reading a page that it has freed"
    )
    assert lines[1] == "  page: pfn 1 flags 0 count 0 mapcount 0 -"
    assert lines[2] == "  state: Sz when SET_UNUSED was executed on it last"
    history = lines[lines.index("  history of the page, oldest first:") + 1 :]
    assert history[:3] == [
        "    vcpu0 essa SET_STABLE was Uz",
        "    vcpu0 allocated",
        "    vcpu0 freed",
    ]
    steps = lines[lines.index("  last steps of vcpu 0, interrupts enabled:") + 1 :]
    assert steps[-3:] == [
        "    essa pfn 1 orc 2",
        "    free_list.push: free_list 0",
        "    load pfn 1",
    ]
    assert len(steps) <= EVENTS_MAX


def test_the_report_of_a_tail_shows_the_head_too() -> None:
    world = World()
    head, tail = world.kernel.mem_map[4:6]
    tail.head = head
    lines = str(Oops("what happened", world.cpu, tail)).splitlines()
    assert lines[:3] == [
        "Oops: what happened",
        f"  page: {tail.describe()}",
        f"  head: {head.describe()}",
    ]


@pytest.mark.parametrize("write", [False, True])
def test_a_user_program_that_reaches_an_unused_page_crashes_the_guest(write: bool) -> None:
    world = World()
    mm = world.kernel.new_mm()

    async def touches(cpu: Cpu) -> None:
        vma = await sys_mmap(cpu, mm, world.file, 0, 1, writable=True)
        await user_store(cpu, mm, vma.start)
        page = mm.ptes[vma.start].page
        assert page is not None
        await cpu.essa(Orc.SET_UNUSED, page)
        await (user_store if write else user_load)(cpu, mm, vma.start)

    assert "addressing exception in user mode" in _crash(world, touches(world.cpu)).what


def test_a_page_whose_only_copy_is_damaged_is_a_machine_check() -> None:
    world = World()
    page = world.cached()
    world.run(_whole(make_stable(world.cpu, page)))
    world.evict(page.pfn)
    assert world.state(page) == "Sp"
    world.slots.clear()
    oops = _crash(world, kernel_access(world.cpu, page, Load(page.pfn, 0, 32), "testing"))
    assert oops.what.startswith("machine check in kernel mode")
    assert "pfn" in oops.report[0]


# Interrupts.


def test_interrupts_are_left_as_they_were() -> None:
    cpu = World().cpu
    outer = cpu.local_irq_save()
    inner = cpu.local_irq_save()
    assert (outer, inner, cpu.irq_off) == (0, 1, 2)
    cpu.local_irq_restore(inner)
    assert cpu.irq_off == 1
    cpu.local_irq_restore(outer)
    assert cpu.irq_off == 0


def test_an_interrupt_runs_disabled_and_on_top_of_what_it_interrupts() -> None:
    world = World()
    seen: list[object] = []

    async def inner(cpu: Cpu) -> None:
        await cpu.point("inner")
        seen.append(("inner", cpu.irq_off))

    async def outer(cpu: Cpu) -> None:
        seen.append(("outer", cpu.irq_off))
        world.kernel.raise_interrupt(0, inner)
        await cpu.point("outer")
        seen.append("outer ends")

    async def program(cpu: Cpu) -> None:
        world.kernel.raise_interrupt(0, outer)
        await cpu.point("program")
        seen.append("program")

    world.run(program(world.cpu))
    assert seen == [("outer", 1), "outer ends", ("inner", 1), "program"]


def test_an_interrupt_that_returns_enabled_is_found_out() -> None:
    world = World()

    async def enables(cpu: Cpu) -> None:
        cpu.local_irq_restore(0)

    world.kernel.raise_interrupt(0, enables)
    assert "returned with interrupts enabled" in _crash(world, world.cpu.point("here")).what


# Dead-locks of a vCPU with itself.


def _holds_and_is_interrupted(world: World, interrupt: Callable[[Page], Program]) -> Program:
    """A program that is interrupted while it holds a page's PG_state_change."""

    async def program(cpu: Cpu) -> None:
        page = world.file.pages[0]
        assert not await cpu.test_and_set_flag(page, PG_state_change)
        world.kernel.raise_interrupt(0, interrupt(page))
        await cpu.clear_flag(page, PG_state_change)

    return program


async def _stable(cpu: Cpu, page: Page) -> None:
    await make_stable(cpu, page)


def test_r23_an_interrupt_that_stabilises_spins_on_what_it_has_interrupted() -> None:
    world = World()
    world.cached()
    program = _holds_and_is_interrupted(world, lambda page: lambda cpu: _stable(cpu, page))
    what = _crash(world, program(world.cpu)).what
    assert what == (
        "dead-lock: vcpu 0 spins on PG_state_change (make_stable.wait) that it holds itself"
    )


@pytest.mark.parametrize("guards", [FIXED, FIXED.without("state_change_trylock")])
def test_r22_an_interrupt_that_offers_a_page_gives_up(guards: Guards) -> None:
    world = World(guards=guards)
    world.cached()
    program = _holds_and_is_interrupted(world, lambda page: lambda cpu: make_volatile(cpu, page, 1))
    if guards.state_change_trylock:
        world.run(program(world.cpu))
    else:
        assert _crash(world, program(world.cpu)).what.startswith("dead-lock: vcpu 0")


def test_a_lock_that_the_vcpu_holds_is_a_dead_lock() -> None:
    world = World()
    lock = SpinLock(99)

    async def takes_it(cpu: Cpu) -> None:
        await cpu.spin_lock(lock, "a_lock")

    async def interrupted(cpu: Cpu) -> None:
        await takes_it(cpu)
        world.kernel.raise_interrupt(0, takes_it)
        await cpu.spin_unlock(lock, "unlock")

    what = _crash(world, interrupted(world.cpu)).what
    assert what == "dead-lock: vcpu 0 spins on a spin lock (a_lock) that it holds itself"

    async def one_step(cpu: Cpu) -> None:
        await cpu.locked_step(lock, "one_step")

    assert "dead-lock" in _crash(world, one_step(world.cpu)).what


def test_what_another_vcpu_holds_is_waited_for() -> None:
    def build() -> SimWorld:
        world = SimWorld(KernelConfig(page_count=3, vcpu_count=2))
        page, lock = world.kernel.mem_map[1], SpinLock(99)

        async def holds_both(cpu: Cpu) -> None:
            await cpu.wait_and_set_flag(page, PG_state_change, "bit")
            await cpu.spin_lock(lock, "lock")
            await cpu.spin_unlock(lock, "unlock")
            await cpu.clear_flag(page, PG_state_change)

        world.prepare(world.kernel.boot(world.kernel.cpus[0]))
        world.run_vcpu(0, holds_both)
        world.run_vcpu(1, holds_both)
        return world

    report = explore(build, schedules_max=1_000)
    assert report.counterexample is None
    assert report.exhausted
    assert report.schedules > 1


# mmap_sem.


def test_readers_share_and_a_writer_is_alone() -> None:
    def build() -> SimWorld:
        world = SimWorld(KernelConfig(page_count=3, vcpu_count=3))
        semaphore = RwSemaphore(1)

        async def reads_it(cpu: Cpu) -> None:
            await cpu.down_read(semaphore)
            assert semaphore.writer is None
            if semaphore.readers == 2:
                world.mark("two readers")
            await cpu.up_read(semaphore)

        async def writes_it(cpu: Cpu) -> None:
            await cpu.down_write(semaphore)
            assert (semaphore.readers, semaphore.writer) == (0, cpu.number)
            world.mark("writer")
            await cpu.up_write(semaphore)

        world.prepare(world.kernel.boot(world.kernel.cpus[0]))
        world.run_vcpu(0, reads_it)
        world.run_vcpu(1, writes_it)
        world.run_vcpu(2, reads_it)
        return world

    report = explore(build, schedules_max=1_000)
    assert report.counterexample is None, report.counterexample
    assert report.exhausted
    assert report.reached["two readers"]
    assert report.reached["writer"] == report.schedules


def test_a_semaphore_of_ones_own_is_a_dead_lock_and_misuse_is_found_out() -> None:
    world = World()
    cpu, semaphore = world.cpu, RwSemaphore(1)
    world.run(cpu.down_write(semaphore))
    assert "dead-lock" in _crash(world, cpu.down_read(semaphore)).what
    assert "dead-lock" in _crash(world, cpu.down_write(semaphore)).what
    assert "nobody reads" in _crash(world, cpu.up_read(semaphore)).what
    world.run(cpu.up_write(semaphore))
    assert "held by None" in _crash(world, cpu.up_write(semaphore)).what


def test_nobody_sleeps_with_interrupts_disabled() -> None:
    world = World()
    cpu, semaphore = world.cpu, RwSemaphore(1)
    depth = cpu.local_irq_save()
    for program in (cpu.down_read(semaphore), cpu.down_write(semaphore)):
        assert "may sleep, and interrupts are disabled" in _crash(world, program).what
    cpu.local_irq_restore(depth)
    world.run(cpu.down_read(semaphore))


def test_an_oops_is_a_kernel_bug() -> None:
    assert issubclass(Oops, KernelBug)
