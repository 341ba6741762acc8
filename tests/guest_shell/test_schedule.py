"""LoopSchedule and PerturbedSchedule: points are free, waiting is woken and never polls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

from guest_agent.kernel.page import reads, writes
from guest_agent.rpc.schedule import LoopSchedule, PerturbedSchedule


class Cpu:
    """As much of a vCPU as a schedule sees."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pending = False

    def interruptible(self) -> bool:
        return self.pending


def play(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await body()

    asyncio.run(bounded())


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Counted:
    """A condition that counts how often it is looked at."""

    def __init__(self) -> None:
        self.holds = False
        self.looks = 0

    def __call__(self) -> bool:
        self.looks += 1
        return self.holds


def test_a_point_takes_no_turn_of_the_loop() -> None:
    """A coroutine that only passes points ends in the first `send`."""
    schedule, cpu = LoopSchedule(), Cpu(0)

    async def program() -> None:
        for _ in range(100):
            assert not await schedule.point(cpu, "step", (writes("flags", 1),))

    with pytest.raises(StopIteration):
        program().send(None)


def test_an_interrupt_is_announced_at_points_and_waits_even_if_the_condition_holds() -> None:
    async def body() -> None:
        schedule, cpu = LoopSchedule(), Cpu(0)
        cpu.pending = True
        assert await schedule.point(cpu, "step", ())
        assert await schedule.wait_until(cpu, lambda: True, "wait", ())
        cpu.pending = False
        assert not await schedule.wait_until(cpu, lambda: True, "wait", ())

    play(body)


def test_a_write_to_the_resource_wakes_and_nothing_else_does() -> None:
    async def body() -> None:
        schedule, condition = LoopSchedule(), Counted()
        waiting = asyncio.ensure_future(
            schedule.wait_until(Cpu(0), condition, "wait", (reads("flags", 1),))
        )
        await turns()
        looks = condition.looks
        await schedule.point(Cpu(1), "another page", (writes("flags", 2),))
        await schedule.point(Cpu(1), "only read", (reads("flags", 1),))
        await turns()
        assert condition.looks == looks, "the condition was looked at without cause"
        await schedule.point(Cpu(1), "set", (writes("flags", 1),))
        condition.holds = True  # the effect stands behind the point
        assert not await waiting
        assert condition.looks == looks + 2, "once at the end of the turn, once by the waiter"

    play(body)


def test_one_lock_goes_to_one_waiter_at_a_time() -> None:
    """Many vCPUs take, hold over some turns, and release; nobody is forgotten."""

    async def body() -> None:
        schedule = LoopSchedule()
        holder: list[int] = []
        taken: list[int] = []

        async def program(cpu: Cpu) -> None:
            for _ in range(20):
                await schedule.wait_until(cpu, lambda: not holder, "lock", (writes("lock", 1),))
                holder.append(cpu.number)
                await turns(cpu.number % 3)
                assert holder == [cpu.number]
                await schedule.point(cpu, "unlock", (writes("lock", 1),))
                holder.clear()
                taken.append(cpu.number)
                await turns(1)

        await asyncio.gather(*(program(Cpu(n)) for n in range(8)))
        assert sorted(taken) == sorted(list(range(8)) * 20)

    play(body)


def test_a_raised_interrupt_wakes_its_vcpu() -> None:
    async def body() -> None:
        schedule, cpu, other = LoopSchedule(), Cpu(0), Cpu(1)
        mine = asyncio.ensure_future(schedule.wait_until(cpu, lambda: False, "a", ()))
        theirs = asyncio.ensure_future(schedule.wait_until(other, lambda: False, "b", ()))
        await turns()
        cpu.pending = other.pending = True
        schedule.interrupt_raised(cpu)
        assert await mine
        await turns()
        assert not theirs.done()
        theirs.cancel()

    play(body)


def test_a_vcpu_woken_while_disabled_looks_again_and_goes_on_waiting() -> None:
    """As a discard fault does that arrives for a vCPU with interrupts off."""

    async def body() -> None:
        schedule, cpu, condition = LoopSchedule(), Cpu(0), Counted()
        waiting = asyncio.ensure_future(schedule.wait_until(cpu, condition, "fault", ()))
        await turns()
        schedule.interrupt_raised(cpu)
        await turns()
        assert not waiting.done()
        condition.holds = True
        schedule.interrupt_raised(cpu)
        assert not await waiting

    play(body)


def test_waiting_names_vcpus_and_tells_an_undeclared_change() -> None:
    async def body() -> None:
        schedule, condition = LoopSchedule(), Counted()
        waits = [
            asyncio.ensure_future(schedule.wait_until(Cpu(n), condition, f"w{n}", ()))
            for n in (1, 0)
        ]
        await turns()
        assert [(w.vcpu, w.label, w.ready) for w in schedule.waiting()] == [
            (0, "w0", False),
            (1, "w1", False),
        ]
        condition.holds = True
        assert all(w.ready for w in schedule.waiting())
        for wait in waits:
            wait.cancel()
        await turns()
        assert schedule.waiting() == []

    play(body)


def test_perturbed_points_let_others_run_and_still_keep_the_effect_at_once() -> None:
    async def body() -> None:
        schedule, order, counter = PerturbedSchedule(7), [], [0]

        async def program(cpu: Cpu) -> None:
            for _ in range(50):
                assert not await schedule.point(cpu, "step", (writes("x"),))
                seen = counter[0]
                counter[0] = seen + 1
                order.append(cpu.number)

        await asyncio.gather(program(Cpu(0)), program(Cpu(1)))
        assert counter == [100]
        changes = sum(a != b for a, b in pairwise(order))
        assert changes > 5, "never interleaved"

    play(body)


def test_an_interrupt_raised_during_a_perturbed_point_is_announced_by_it() -> None:
    async def body() -> None:
        schedule, cpu = PerturbedSchedule(1), Cpu(0)

        async def raise_at_once() -> None:
            cpu.pending = True

        for _ in range(200):
            cpu.pending = False
            raising = asyncio.ensure_future(raise_at_once())
            announced = await schedule.point(cpu, "step", ())
            assert announced == cpu.pending
            await raising

    play(body)
