"""Programs that stand before their next step, and the kernel's schedule door over them.

Rules:
- A program is a coroutine that yields nothing but a Step: what it is about to do. Whoever runs
  it decides when it does it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from types import coroutine

from guest_agent.kernel.page import reads, writes
from guest_agent.kernel.ports import Accesses, Vcpu


@dataclass(slots=True)
class Step:
    """What a coroutine is about to do. ready: whether it could; accesses: what it touches."""

    label: str
    accesses: Callable[[], Accesses]
    ready: Callable[[], bool]


@coroutine
def stand(step: Step) -> Generator[Step, None, None]:
    """Hand a step to the engine; returns when it is this actor's turn."""
    yield step


def always() -> bool:
    """The condition of a step that can be taken at any time."""
    return True


class SimSchedule:
    """ports.Schedule: every point is a choice."""

    async def point(self, vcpu: Vcpu, label: str, accesses: Accesses) -> bool:
        """One step."""
        await stand(Step(label, _touching(vcpu, accesses), always))
        return vcpu.interruptible()

    async def wait_until(
        self, vcpu: Vcpu, condition: Callable[[], bool], label: str, accesses: Accesses
    ) -> bool:
        """One step, enabled while the condition holds or an interrupt is to be taken."""
        touched = _touching(vcpu, accesses)
        await stand(Step(label, touched, lambda: vcpu.interruptible() or condition()))
        return vcpu.interruptible()

    def interrupt_raised(self, vcpu: Vcpu) -> None:
        """Nothing: enabledness is asked afresh at every step."""


def _touching(vcpu: Vcpu, accesses: Accesses) -> Callable[[], Accesses]:
    """What a step at a point touches: an interrupt that is to be taken comes instead of it."""
    step, interrupt = (*accesses, reads("irq", vcpu.number)), (writes("irq", vcpu.number),)
    return lambda: interrupt if vcpu.interruptible() else step


@dataclass(slots=True, eq=False)
class Actor:
    """A program and where it stands. daemon: may be unfinished when the run ends."""

    name: str
    program: Coroutine[Step, None, None]
    step: Step | None = None
    daemon: bool = False
