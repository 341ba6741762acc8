"""Evictions by an injected fault: resident pages, seeded, at a rate.

Rules:
- Which pages could go is looked up REFRESH_SECONDS apart, or when all are tried; a page that
  has changed its state meanwhile is passed over.
- Pages and rate are the fault's; between two ticks guests go on.
"""

from __future__ import annotations

import asyncio
from typing import Final

import numpy as np

from host_daemon.faults.rule import Rule
from host_daemon.rpc.sessions import GuestSession
from host_daemon.rpc.shell import HostShell
from shared.arch import CONTENT_MASK, USAGE_LETTERS, USAGE_MASK, Content
from shared.errors import InvalidRequestError
from shared.faults import FaultSpec

TICK_SECONDS: Final = 0.01
REFRESH_SECONDS: Final = 0.25
EVICTIONS_A_TICK_MAX: Final = 256


def check_victims(shell: HostShell, spec: FaultSpec) -> None:
    """Raise GuestNotFoundError, or InvalidRequestError for pages outside every guest named."""
    if not spec.guests:
        return
    sessions = [shell.sessions.by_name(name) for name in spec.guests]
    high = max(session.spec.page_count for session in sessions) - 1
    for pfns in spec.pages:
        if pfns.start > high:
            raise InvalidRequestError(
                f"pages begins at {pfns.start}; the last page is {high}",
                field="pages",
                value=pfns.start,
                high=high,
            )


class Evictions:
    """One fault at work, from its making to `stop` or its last strike."""

    def __init__(self, shell: HostShell, rule: Rule) -> None:
        self._shell = shell
        self._rule = rule
        self._usages = [USAGE_LETTERS[letter] for letter in rule.spec.states or USAGE_LETTERS]
        self._candidates: list[tuple[int, int]] = []
        self._looked_at = float("-inf")
        self._ticked_at = asyncio.get_running_loop().time() - 1 / rule.spec.rate
        self._timer: asyncio.TimerHandle | None = None
        self._tick()

    def stop(self) -> None:
        """Evict nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        rule, loop = self._rule, asyncio.get_running_loop()
        due = (loop.time() - self._ticked_at) * rule.spec.rate
        wanted = min(int(due + 1e-9), EVICTIONS_A_TICK_MAX)
        if wanted:
            self._ticked_at = loop.time() - min(due - wanted, wanted) / rule.spec.rate
            self._evict(min(wanted, rule.spec.count - rule.struck) if rule.spec.count else wanted)
        if rule.exhausted:
            self._timer = None
            self._shell.book.end(rule)
        else:
            self._timer = loop.call_later(max(TICK_SECONDS, 0.5 / rule.spec.rate), self._tick)

    def _evict(self, wanted: int) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._looked_at > REFRESH_SECONDS:
            self._look(loop.time())
        sessions = {session.guest_id: session for session in self._shell.sessions}
        while wanted and self._candidates:
            guest_id, pfn = self._candidates.pop()
            session = sessions.get(guest_id)
            if session is None or not self._is_wanted(self._shell.host.state_byte(guest_id, pfn)):
                continue
            self._rule.matched += 1
            eviction = self._shell.evict(session, [pfn])
            if eviction.skipped == 0:
                self._rule.struck += 1
                wanted -= 1

    def _look(self, now: float) -> None:
        """List what could go, in an order drawn from the seed."""
        self._looked_at = now
        found: list[tuple[int, int]] = []
        for session in self._shell.sessions:
            if self._rule.concerns_guest(session.spec.name):
                found += [(session.guest_id, pfn) for pfn in self._pfns(session)]
        self._rule.random.shuffle(found)
        self._candidates = found

    def _pfns(self, session: GuestSession) -> list[int]:
        states = self._shell.host.page_map(session.guest_id)
        resident = (states & CONTENT_MASK) == Content.RESIDENT
        pfns = np.flatnonzero(resident & np.isin(states & USAGE_MASK, self._usages))
        wanted: list[int] = pfns[self._rule.concerns_pfns(pfns)].tolist()
        return wanted

    def _is_wanted(self, byte: int) -> bool:
        return byte & CONTENT_MASK == Content.RESIDENT and byte & USAGE_MASK in self._usages
