"""Discard faults whose delivery an injected fault delays, repeats, holds or breaks.

Rules:
- Faults stay in order: what comes behind one that waits, waits too.
- Nothing is lost: what was not sent on this stream is unacknowledged, and the core delivers it
  again on the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from host_daemon.faults.book import FaultBook
from host_daemon.faults.rule import Rule
from shared.commands import DiscardFault
from shared.faults import Kind
from shared.rpc.status import StreamResetError


class _Late(NamedTuple):
    """due: not before this time of the loop. held_by: not while this one is active."""

    fault: DiscardFault
    due: float
    held_by: Rule | None
    copies: int


class LateFaults:
    """What waits on one stream. send: takes a fault whose time has come."""

    def __init__(
        self,
        guest: str,
        book: FaultBook,
        send: Callable[[DiscardFault], None],
        broke: Callable[[], None],
    ) -> None:
        self.broken = False
        self._guest = guest
        self._book = book
        self._send = send
        self._broke = broke
        self._late: deque[_Late] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> bool:
        """Whether anything waits."""
        return bool(self._late)

    def take_in(self, fault: DiscardFault) -> None:
        """A fault that is to be delivered: now, later, twice, or not on this stream."""
        rule = self._book.about_delivery(self._guest, fault)
        kind = None if rule is None else rule.spec.kind
        if self.broken or kind is Kind.RESET:
            self.broken = True
            self._broke()
            return
        due = asyncio.get_running_loop().time()
        if rule is not None and kind is Kind.FAULT_DELAY:
            due += rule.spec.delay_seconds
        held_by = rule if kind is Kind.FAULT_HOLD else None
        copies = 2 if kind is Kind.FAULT_DUPLICATE else 1
        self._late.append(_Late(fault, due, held_by, copies))
        self.look_again()

    def look_again(self) -> None:
        """Send what need not wait any longer."""
        loop = asyncio.get_running_loop()
        while self._late:
            head = self._late[0]
            if head.held_by is not None and head.held_by.active:
                return
            if head.due > loop.time():
                if self._timer is None:
                    self._timer = loop.call_at(head.due, self._time_has_come)
                return
            self._late.popleft()
            for _ in range(head.copies):
                self._send(head.fault)

    def refuse_if_broken(self) -> None:
        """Raise StreamResetError once a reset has struck."""
        if self.broken:
            raise StreamResetError("an injected fault has reset the stream")

    def _time_has_come(self) -> None:
        self._timer = None
        self.look_again()
