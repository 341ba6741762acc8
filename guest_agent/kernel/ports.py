"""The doors between the guest kernel and the world; there are no others.

Rules:
- `Link.call`, `Schedule.point` and `Schedule.wait_until` are the only awaitables that
  kernel code ever waits for; `Disk.submit` is synchronous.
- A point stands before its effect, and exactly one shared access follows it.
- Interrupts come in through `Kernel.raise_interrupt` and run nested on their vCPU.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from shared.commands import Command, Outcome

Resource = tuple[str, int]
"""What a step touches: a kind (`flags`, `counts`, `pte`, `state`, `lock`) and a number in it."""


@dataclass(frozen=True, slots=True)
class Access:
    """One resource that the next step reads, or writes."""

    resource: Resource
    write: bool


Accesses = tuple[Access, ...]


class Vcpu(Protocol):
    """What the world may know of a vCPU."""

    number: int

    def interruptible(self) -> bool:
        """Whether an interrupt is pending and the vCPU is enabled for it."""
        ...


class Link(Protocol):
    """The guest's way to its host. One command per issuer at a time."""

    async def call(self, issuer: int, command: Command) -> Outcome:
        """Execute the command on the host exactly once. Issuers: vCPUs, then devices."""
        ...

    def fault_settled(self, number: int) -> None:
        """The handler of discard fault `number` holds its reference or was refused it."""
        ...


class Schedule(Protocol):
    """Where the world may run somebody else first.

    Both return True when an interrupt is to be taken before the step; the vCPU then runs
    it and asks again. With False the step's effect follows at once.
    """

    def point(self, vcpu: Vcpu, label: str, accesses: Accesses) -> Awaitable[bool]:
        """Stand before one shared access."""
        ...

    def wait_until(
        self, vcpu: Vcpu, condition: Callable[[], bool], label: str, accesses: Accesses
    ) -> Awaitable[bool]:
        """Stand before one shared access that is possible only while `condition()` holds.

        The condition depends on nothing but the resources in `accesses`.
        """
        ...

    def interrupt_raised(self, vcpu: Vcpu) -> None:
        """An interrupt has become pending for `vcpu`: wake it if it waits."""
        ...


class Check(Protocol):
    """An oracle's view of a load, a store or a transfer that is under way."""

    @property
    def resource(self) -> Resource:
        """Whose content it is about."""
        ...

    def begin(self) -> None:
        """It is being executed now. Where that cannot be told, it counts from when it was made."""
        ...

    def nullified(self) -> None:
        """It was begun, and a discard fault has nullified it; it may begin again."""
        ...

    def accesses(self) -> Accesses:
        """What the oracle would touch now, to see it begin and end."""
        ...


@dataclass(frozen=True, slots=True)
class DiskRequest:
    """One block transfer between a device of the guest and one page.

    write: True moves the page to the device. vcpu: gets the completion interrupt.
    done: runs as the interrupt's body, on that vCPU, with interrupts disabled.
    content: (data, repeat) of a device that brings its own, such as a network card.
    check, ended: for the oracle, which hears of the end before the interrupt is raised.
    """

    disk: int
    block: int
    pfn: int
    write: bool
    vcpu: int
    done: Callable[[Vcpu, DiskRequest, DiskResult], Coroutine[Any, Any, None]]
    content: tuple[bytes, int] | None = None
    check: Check | None = None
    ended: Callable[[DiskResult], None] | None = None


@dataclass(frozen=True, slots=True)
class DiskResult:
    """How a transfer ended: the content moved (data, repeat), or an I/O error."""

    data: bytes
    repeat: int
    failed: bool = False


class Disk(Protocol):
    """The guest's own disk. It moves whole 4 KiB blocks by device commands over the link."""

    def submit(self, request: DiskRequest) -> None:
        """Queue a transfer; its completion interrupt comes later, in any order."""
        ...
