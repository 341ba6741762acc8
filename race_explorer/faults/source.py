"""The faults of one world, as steps that are offered while the budget lasts.

Rules:
- A fault is offered only where it makes a difference: a message that is on its way can be lost,
  a page that is being written can fail to be. So a run in which nothing fails comes to its end,
  and nobody has to use a budget up.
- Every fault declares what it touches, the budget of its kind included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from guest_agent.kernel.page import ANY, reads, writes
from guest_agent.kernel.ports import Accesses
from race_explorer.actors import Actor, Standing, Step
from race_explorer.engine import Option
from race_explorer.faults import hosts, messages, paging
from race_explorer.faults.budget import LINK_KINDS, FaultBudget, FaultKind
from race_explorer.faults.failure import Failure
from race_explorer.faults.wire import SimWire
from race_explorer.world import SimWorld

_ON_THE_LINK: Final[dict[FaultKind, Callable[[SimWire], Iterator[Failure]]]] = {
    FaultKind.REQUEST_LOST: messages.lost_requests,
    FaultKind.REPLY_LOST: messages.lost_replies,
    FaultKind.DUPLICATE: messages.duplicates,
    FaultKind.FAULT_REPEATED: messages.repeated_faults,
    FaultKind.CUT: hosts.cuts,
    FaultKind.CHECKPOINT: hosts.checkpoints,
    FaultKind.POWER: hosts.power_failures,
}
_PLACES: Final = {kind: place for place, kind in enumerate(FaultKind)}


class Faults:
    """A Source. happened: how often each kind has, in this run."""

    def __init__(self, world: SimWorld) -> None:
        self.happened: dict[FaultKind, int] = dict.fromkeys(FaultKind, 0)
        self._world = world
        self._wire: SimWire | None = None
        self._left: dict[FaultKind, int] = {}
        self._paused: dict[str, Standing] = {}

    def allow(self, budget: FaultBudget) -> None:
        """So many more of each kind."""
        world = self._world
        for kind, times in budget.times:
            self._left[kind] = self._left.get(kind, 0) + times
        if FaultKind.TICK in budget:
            world.has_timer = True
        if budget.on_the_link() and self._wire is None:
            self._wire = world.wire = SimWire(world)
            world.sources.insert(0, self._wire)

    # world.Source

    def due(self) -> list[Option]:
        """Who is paused can be resumed; a guest that is no more can boot."""
        options = [
            Option(f"fault.resume.{name}", "resume", _of_vcpu(name), partial(self._resume, name))
            for name in self._paused
        ]
        if self._guest_is_gone():
            options.append(Option("fault.reboot", "reboot", hosts.EVERYTHING, self._reboot))
        return options

    def possible(self) -> list[Option]:
        """The faults, in the order of their kinds."""
        if self._guest_is_gone():
            return []
        kinds = [kind for kind in FaultKind if self._left.get(kind)]
        return [self._option(kind, failure) for kind in kinds for failure in self._failures(kind)]

    def left_over(self) -> list[str]:
        """Nothing: what has failed is over."""
        return []

    def _failures(self, kind: FaultKind) -> Iterator[Failure]:
        if kind in LINK_KINDS:
            assert self._wire is not None
            return _ON_THE_LINK[kind](self._wire)
        match kind:
            case FaultKind.READ_FAILS:
                return paging.bad_reads(self._world)
            case FaultKind.WRITE_FAILS:
                return paging.bad_writes(self._world)
            case FaultKind.TICK:
                return self._ticks()
            case _:
                return self._pauses()

    def _option(self, kind: FaultKind, failure: Failure) -> Option:
        name = f"fault.{kind}.{failure.of}" if failure.of else f"fault.{kind}"
        touched = (*failure.touched, writes("budget", _PLACES[kind]))
        return Option(name, failure.label, touched, partial(self._happens, kind, failure))

    def _happens(self, kind: FaultKind, failure: Failure) -> None:
        self._left[kind] -= 1
        self.happened[kind] += 1
        self._world.mark(kind.value)
        failure.happen()

    # The guest.

    def _guest_is_gone(self) -> bool:
        return self._world.stopped or (self._wire is not None and self._wire.stale)

    def _reboot(self) -> None:
        """After a power failure, or a machine check. DEVIATION: the host forgets the guest then,
        but for its disk, and has lost all its own memory as well."""
        if self._world.stopped:
            self._world.new_host()
        self._paused.clear()
        self._world.reboot()

    def _pauses(self) -> Iterator[Failure]:
        for actor in self._world.standing():
            step, name = actor.step, actor.name
            running = step is not None and step.label != "idle" and name not in self._paused
            if running and name.startswith("cpu"):
                yield Failure(name, "pause", _of_vcpu(name), partial(self._pause, actor))

    def _pause(self, actor: Actor) -> None:
        assert actor.step is not None
        self._paused[actor.name] = actor.step
        actor.step = Step(actor.step.label, actor.step.accesses, lambda: False)

    def _resume(self, name: str) -> None:
        actor = next(actor for actor in self._world.standing() if actor.name == name)
        actor.step = self._paused.pop(name)

    def _ticks(self) -> Iterator[Failure]:
        kernel = self._world.kernel
        for cpu in kernel.cpus:
            if kernel.tick_wanted(cpu.number):
                touched = (writes("irq", cpu.number), reads("discard_list", ANY), reads("nohz"))
                tick = partial(kernel.tick, cpu.number)
                yield Failure(f"cpu{cpu.number}", "tick", touched, tick)


def _of_vcpu(name: str) -> Accesses:
    """Something of every step of a vCPU."""
    number = int(name.removeprefix("cpu"))
    return (writes("irq", number), writes("reply", number))
