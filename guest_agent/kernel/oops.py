"""How a guest dies: what the machine or the kernel found, and all that is known about it.

Rules:
- An oops ends the guest. Its first line says what happened; the lines after it are the page
  (its struct, its state as ESSA last reported it, its history) and what the vCPU did last.
- What is told here is read at no schedule point: nothing in the kernel may depend on it.

Models: die() and the program check handlers of arch/s390/kernel/traps.c, Linux 2.6.15.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from guest_agent.kernel.ports import Accesses, Check
from shared.arch import STATE_MASK, STATE_NAMES, InterruptionCode
from shared.commands import (
    Command,
    EssaArray,
    FaultPending,
    IoError,
    MachineCheck,
    Outcome,
    ProgramInterruption,
)

if TYPE_CHECKING:
    from guest_agent.kernel.cpu import Cpu
    from guest_agent.kernel.page import Page

EVENTS_MAX: Final = 24
"""Steps of its own that a vCPU remembers."""

Event = tuple[str, Accesses] | Command
"""One step of a vCPU: the point it stood at and what that touched, or a command."""


class KernelBug(Exception):
    """BUG(): the guest's kernel has found itself in a state that must not be."""


class Oops(KernelBug):
    """The guest has crashed. what: one sentence; str() is the whole report, of several lines."""

    def __init__(self, what: str, cpu: Cpu, page: Page | None = None) -> None:
        self.what = what
        self.vcpu = cpu.number
        self.report = tuple(_report(cpu, page))
        super().__init__("\n".join((f"Oops: {what}", *self.report)))


def _report(cpu: Cpu, page: Page | None) -> list[str]:
    lines = []
    if page is not None:
        lines.append(f"  page: {page.describe()}")
        if page.head is not None:
            lines.append(f"  head: {page.head.describe()}")
        if page.last_essa is not None:
            orc, state = page.last_essa
            found = STATE_NAMES.get(state & STATE_MASK, f"{state:#x}")
            lines.append(f"  state: {found} when {orc.name} was executed on it last")
        lines.append("  history of the page, oldest first:")
        lines += [f"    {event}" for event in page.history] or ["    (nothing)"]
    depth = "enabled" if cpu.irq_off == 0 else f"disabled {cpu.irq_off} deep"
    lines.append(f"  last steps of vcpu {cpu.number}, interrupts {depth}:")
    lines += [f"    {_describe(event)}" for event in cpu.events]
    return lines


def _describe(event: Event) -> str:
    if isinstance(event, tuple):
        label, accesses = event
        touched = (f"{kind} {number}" for (kind, number) in (a.resource for a in accesses))
        return f"{label}: {', '.join(touched)}" if accesses else label
    name = type(event).__name__.lower()
    if isinstance(event, EssaArray):
        return f"{name} of {len(event.pfns)}"
    orc = getattr(event, "orc", None)
    return f"{name} pfn {event.pfn}" + ("" if orc is None else f" orc {orc}")


def check_outcome(
    cpu: Cpu, page: Page, outcome: Outcome, doing: str, *, user: bool = False
) -> None:
    """Raise Oops unless the access came to a good end. Plain code, no schedule point.

    doing: as in "while ...". user: the access was a user program's; that saves nobody, since
    a program can only reach pages that the kernel has given it. A discard fault is the
    caller's own affair where it may come at all; here it comes from a page that should be
    stable, so that executing the access again would fault for ever.
    """
    mode = f"in {'user' if user else 'kernel'} mode"
    where = f"vcpu {cpu.number} while {doing}"
    match outcome:
        case ProgramInterruption(InterruptionCode.ADDRESSING):
            raise Oops(f"addressing exception {mode}: pfn {page.pfn} is unused; {where}", cpu, page)
        case ProgramInterruption(code):
            raise Oops(f"interruption {code:#04x} {mode} at pfn {page.pfn}; {where}", cpu, page)
        case FaultPending():
            raise Oops(f"discard fault {mode}: pfn {page.pfn} is gone; {where}", cpu, page)
        case MachineCheck():
            raise Oops(f"machine check {mode}: pfn {page.pfn} is damaged; {where}", cpu, page)
        case IoError():
            raise Oops(f"I/O error {mode} at pfn {page.pfn}; {where}", cpu, page)


async def kernel_access(
    cpu: Cpu, page: Page, command: Command, doing: str, check: Check | None = None
) -> Outcome:
    """An access of the kernel's own to a page that is its to use: one command.

    Raises Oops for anything but success.
    """
    outcome = await cpu.call(command, check)
    check_outcome(cpu, page, outcome, doing)
    return outcome
