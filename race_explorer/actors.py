"""Programs that stand before their next step, and the kernel's schedule door over them.

Rules:
- A program is a coroutine that yields nothing but a Step: what it is about to do. Whoever runs
  it decides when it does it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from functools import partial
from types import coroutine
from typing import Protocol

from guest_agent.kernel.page import reads, writes
from guest_agent.kernel.ports import Accesses, Vcpu


class Standing(Protocol):
    """What a program is about to do."""

    @property
    def label(self) -> str: ...  # what it is called

    def accesses(self) -> Accesses:
        """What it touches, as things are."""
        ...

    def ready(self) -> bool:
        """Whether it could do it now; `always` itself if that never changes."""
        ...


@dataclass(slots=True)
class Step:
    """A Standing that is told what to say."""

    label: str
    accesses: Callable[[], Accesses]
    ready: Callable[[], bool]


@coroutine
def stand(step: Standing) -> Generator[Standing, None, None]:
    """Hand a step to the engine; returns when it is this actor's turn."""
    yield step


def always() -> bool:
    """The condition of a step that can be taken at any time."""
    return True


def never() -> bool:
    """The condition of what does not happen."""
    return False


class _AtPoint:
    """A vCPU at a point: an interrupt that is to be taken comes instead of the step."""

    __slots__ = ("_accesses", "_vcpu", "label")

    def __init__(self, vcpu: Vcpu, label: str, accesses: Accesses) -> None:
        self._vcpu = vcpu
        self.label = label
        self._accesses = accesses

    def accesses(self) -> Accesses:
        """Of the step, and that it could be interrupted; or of the interrupt."""
        vcpu = self._vcpu
        if vcpu.interruptible():
            return (writes("irq", vcpu.number),)
        return (*self._accesses, reads("irq", vcpu.number))


class _Passing(_AtPoint):
    """Before a step that is possible at any time."""

    __slots__ = ()
    ready = staticmethod(always)


class _Waiting(_AtPoint):
    """Before a step that is possible only while a condition holds."""

    __slots__ = ("_condition",)

    def __init__(
        self, vcpu: Vcpu, label: str, accesses: Accesses, condition: Callable[[], bool]
    ) -> None:
        super().__init__(vcpu, label, accesses)
        self._condition = condition

    def ready(self) -> bool:
        """Whether the condition holds, or an interrupt is to be taken."""
        return self._vcpu.interruptible() or self._condition()


class _Idle(_AtPoint):
    """Before nothing: only an interrupt moves the vCPU."""

    __slots__ = ("ready",)

    def __init__(self, vcpu: Vcpu, label: str, accesses: Accesses) -> None:
        super().__init__(vcpu, label, accesses)
        self.ready = vcpu.interruptible


class SimSchedule:
    """ports.Schedule: every point is a choice, but those that are passed.

    passes: asked at every point: whether its program goes on at once, without a choice.
    """

    __slots__ = ("_passes",)

    def __init__(self, passes: Callable[[], bool] = never) -> None:
        self._passes = passes

    @coroutine
    def point(self, vcpu: Vcpu, label: str, accesses: Accesses) -> Generator[Standing, None, bool]:
        """One step."""
        if not self._passes():
            yield _Passing(vcpu, label, accesses)
        return vcpu.interruptible()

    @coroutine
    def wait_until(
        self, vcpu: Vcpu, condition: Callable[[], bool], label: str, accesses: Accesses
    ) -> Generator[Standing, None, bool]:
        """One step, enabled while the condition holds or an interrupt is to be taken."""
        if not (self._passes() and (vcpu.interruptible() or condition())):
            if condition is never:
                yield _Idle(vcpu, label, accesses)
            else:
                yield _Waiting(vcpu, label, accesses, condition)
        return vcpu.interruptible()

    def interrupt_raised(self, vcpu: Vcpu) -> None:
        """Nothing: enabledness is asked afresh at every step."""


Program = Coroutine[Standing, None, None]


class Actor:
    """A program and where it stands. daemon: may be unfinished when the run ends.

    begin: makes the program, which is None until then. run: takes its next step.
    """

    __slots__ = ("begin", "daemon", "name", "program", "run", "step")

    def __init__(
        self,
        name: str,
        begin: Callable[[], Program],
        resume: Callable[[Actor], None],
        daemon: bool,
    ) -> None:
        self.name = name
        self.begin = begin
        self.daemon = daemon
        self.program: Program | None = None
        self.step: Standing | None = None
        self.run = partial(resume, self)
