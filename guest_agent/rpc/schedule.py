"""The kernel's `Schedule` over asyncio: points cost nothing, waiting never polls.

Rules:
- `point` returns without a turn of the event loop. The effect behind it follows at once, so
  at the end of the turn it has happened.
- A point with a write to a resource that somebody waits for has the waiter's condition looked
  at again at the end of that turn; a raised interrupt wakes its vCPU in any case.
- A condition that holds when its waiter is woken may be false again when the waiter runs;
  it is looked at once more there, so that `wait_until` returns only with the condition true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from random import Random
from typing import Final

from guest_agent.kernel.ports import Accesses, Resource, Vcpu

YIELD_ODDS: Final = 12
"""A perturbed point yields once in this many times ..."""
YIELD_TURNS_MAX: Final = 4
"""... for one to this many turns: an answer from the host may come in between."""
_LOG_NO_YIELD: Final = log(1 - 1 / YIELD_ODDS)


@dataclass(slots=True, eq=False)
class _Waiter:
    """One vCPU inside `wait_until`. woken: set when it is to look again."""

    vcpu: Vcpu
    condition: Callable[[], bool]
    label: str
    accesses: Accesses
    woken: asyncio.Future[None]

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a vCPU waits for. ready: the condition holds, so an undeclared step made it true."""

    vcpu: int
    label: str
    accesses: Accesses
    ready: bool


class LoopSchedule:
    """Free-running vCPUs: each goes on until it waits for the host or for another."""

    def __init__(self) -> None:
        self._waiters: dict[int, _Waiter] = {}
        self._by_resource: dict[Resource, list[_Waiter]] = {}
        self._changed: dict[Resource, None] = {}
        self._check_scheduled = False

    async def point(self, vcpu: Vcpu, label: str, accesses: Accesses) -> bool:
        """Go on at once, unless an interrupt is to be taken first."""
        self._writing(accesses)
        return vcpu.interruptible()

    async def wait_until(
        self, vcpu: Vcpu, condition: Callable[[], bool], label: str, accesses: Accesses
    ) -> bool:
        """Go on when the condition holds (False) or an interrupt is to be taken (True)."""
        while True:
            if vcpu.interruptible():
                return True
            if condition():
                break
            await self._park(vcpu, condition, label, accesses)
        self._writing(accesses)
        return False

    def interrupt_raised(self, vcpu: Vcpu) -> None:
        """Wake the vCPU if it waits."""
        waiter = self._waiters.get(vcpu.number)
        if waiter is not None:
            waiter.wake()

    def changed(self, resource: Resource) -> None:
        """A step that writes the resource is about to happen, or has just happened.

        Called by the shell too, for what it changes itself.
        """
        self._changed[resource] = None
        if not self._check_scheduled:
            self._check_scheduled = True
            asyncio.get_running_loop().call_soon(self._check)

    def waiting(self) -> list[Waiting]:
        """The vCPUs that wait, and for what; for a person who asks why nothing moves."""
        return [
            Waiting(n, w.label, w.accesses, w.condition())
            for n, w in sorted(self._waiters.items())
            if not w.woken.done()
        ]

    def _writing(self, accesses: Accesses) -> None:
        """A step with these accesses is about to happen."""
        by_resource = self._by_resource
        if by_resource:
            for access in accesses:
                if access.write and access.resource in by_resource:
                    self.changed(access.resource)

    def _check(self) -> None:
        self._check_scheduled = False
        changed, self._changed = self._changed, {}
        for resource in changed:
            for waiter in self._by_resource.get(resource, ()):
                if waiter.condition():
                    waiter.wake()

    async def _park(
        self, vcpu: Vcpu, condition: Callable[[], bool], label: str, accesses: Accesses
    ) -> None:
        woken = asyncio.get_running_loop().create_future()
        waiter = _Waiter(vcpu, condition, label, accesses, woken)
        assert vcpu.number not in self._waiters, f"vcpu {vcpu.number} waits twice"
        self._waiters[vcpu.number] = waiter
        resources = {access.resource for access in accesses}
        for resource in resources:
            self._by_resource.setdefault(resource, []).append(waiter)
        try:
            await woken
        finally:
            del self._waiters[vcpu.number]
            for resource in resources:
                waiters = self._by_resource[resource]
                waiters.remove(waiter)
                if not waiters:
                    del self._by_resource[resource]


class PerturbedSchedule(LoopSchedule):
    """Yields before some points, so that runs meet in orders they otherwise never would.

    The choice of points is seeded; the order in which answers come is not, so two runs with
    one seed are alike but not equal.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = Random(seed)
        self._points_left = self._gap()

    async def point(self, vcpu: Vcpu, label: str, accesses: Accesses) -> bool:
        """Perhaps let others run first; then as `LoopSchedule`."""
        self._points_left -= 1
        if not self._points_left:
            await self._yield()
        self._writing(accesses)  # as in `LoopSchedule`; a call of its own would cost a coroutine
        return vcpu.interruptible()

    async def wait_until(
        self, vcpu: Vcpu, condition: Callable[[], bool], label: str, accesses: Accesses
    ) -> bool:
        """Perhaps let others run first; then as `LoopSchedule`."""
        self._points_left -= 1
        if not self._points_left:
            await self._yield()
        return await super().wait_until(vcpu, condition, label, accesses)

    def _gap(self) -> int:
        """Points until the next yield, itself included: each yields with the same chance.

        One draw for many points, because most points are far cheaper than a draw.
        """
        return 1 + int(log(1.0 - self._random.random()) / _LOG_NO_YIELD)

    async def _yield(self) -> None:
        self._points_left = self._gap()
        for _ in range(self._random.randint(1, YIELD_TURNS_MAX)):
            await asyncio.sleep(0)
