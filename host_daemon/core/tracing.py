"""Trace events: which pages changed state in an input, found by looking before and after."""

from __future__ import annotations

from host_daemon.core.effects import Traced, TraceEvent
from host_daemon.core.guest import Guest
from host_daemon.core.machine import Machine
from shared.commands import Command, EssaArray


class Tracer:
    """Between `before...` and `after` lies exactly one input to one guest."""

    __slots__ = ("_states",)

    def __init__(self) -> None:
        self._states: dict[int, int] = {}

    def before(self, guest: Guest, command: Command) -> None:
        """Note the states of the pages that a command names."""
        pfns = command.pfns.tolist() if isinstance(command, EssaArray) else [command.pfn]
        self.before_pages(guest, pfns)

    def before_pages(self, guest: Guest, pfns: list[int]) -> None:
        """Note the states of these pages."""
        self._states = {pfn: guest.states[pfn] for pfn in pfns if pfn < guest.page_count}

    def after(self, machine: Machine, guest: Guest, cause: str, number: int) -> None:
        """Add a Traced effect for each of them that changed."""
        for pfn, before in self._states.items():
            after = guest.states[pfn]
            if after != before:
                event = TraceEvent(guest.number, pfn, cause, number, before, after)
                machine.effects.append(Traced(event))
