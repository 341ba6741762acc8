"""The paging device with injected faults: slow, failing, corrupting.

Rules:
- The contract of `PagingDevice` holds: every operation is completed once, never before its
  submission has returned, and a read sees the writes submitted before it.
- Transfers that wait keep their order, whichever of them a fault has struck.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from host_daemon.faults.book import FaultBook
from host_daemon.faults.rule import Rule
from host_daemon.paging.device import FilePagingDevice, Submission
from host_daemon.paging.ports import (
    PagingCompletions,
    ReadDone,
    SlotRead,
    SlotWrite,
    WriteDone,
)
from shared.faults import Kind


class _Waiting(NamedTuple):
    due: float
    submission: Submission
    fails: bool


class FaultyDevice:
    """Stands between the shell and the paging file; without faults it only passes on."""

    def __init__(self, device: FilePagingDevice, book: FaultBook) -> None:
        self.slot_count = device.slot_count
        self.identity = device.identity
        self._device = device
        self._book = book
        self._completions: PagingCompletions | None = None
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._to_damage: dict[int, int] = {}
        self._busy = 0
        self._idle = asyncio.Event()

    def start(self, completions: PagingCompletions) -> None:
        """See `PagingDevice`."""
        self._completions = completions
        self._device.start(self)

    def submit_writes(self, writes: Sequence[SlotWrite]) -> None:
        """See `PagingDevice`."""
        if self._book.device or self._waiting:
            self._take_in(writes)
        else:
            self._device.submit_writes(writes)

    def submit_reads(self, reads: Sequence[SlotRead]) -> None:
        """See `PagingDevice`."""
        if self._book.device or self._waiting:
            self._take_in(reads)
        else:
            self._device.submit_reads(reads)

    async def flush(self) -> None:
        """See `PagingDevice`; what waits is submitted first."""
        await self._all_submitted()
        await self._device.flush()

    async def close(self) -> None:
        """See `PagingDevice`; what waits is submitted first."""
        await self._all_submitted()
        await self._device.close()

    # Completions of the device itself

    def writes_done(self, results: Sequence[WriteDone]) -> None:
        """Pass on; what is to be corrupted is corrupted before anybody hears of it."""
        struck = [done for done in results if done.operation in self._to_damage]
        if struck:
            slots = [self._to_damage.pop(done.operation) for done in struck]
            self._busy += 1
            self._device.damage(slots, lambda: self._damaged(struck))
        if others := [done for done in results if done not in struck]:
            self._tell(others)

    def reads_done(self, results: Sequence[ReadDone]) -> None:
        """Pass on."""
        assert self._completions is not None
        self._completions.reads_done(results)

    # Inside

    async def _all_submitted(self) -> None:
        self._let_go(float("inf"))
        while self._busy:
            self._idle.clear()
            await self._idle.wait()

    def _take_in(self, submissions: Sequence[Submission]) -> None:
        now = asyncio.get_running_loop().time()
        due = self._waiting[-1].due if self._waiting else now
        for submission in submissions:
            way = "read" if isinstance(submission, SlotRead) else "write"
            rule = self._book.about_transfer(way, submission.operation)
            kind = None if rule is None else rule.spec.kind
            if kind is Kind.DEVICE_SLOW:
                assert isinstance(rule, Rule)
                due = max(due, now + rule.spec.delay_seconds)
            elif kind is Kind.DEVICE_CORRUPT:
                self._to_damage[submission.operation] = submission.slot
            self._waiting.append(_Waiting(due, submission, kind is Kind.DEVICE_FAILING))
        self._let_go(now)

    def _let_go(self, now: float) -> None:
        """Submit what is due, in order, and come back for the rest."""
        failing: list[Submission] = []
        while self._waiting and self._waiting[0].due <= now:
            _, submission, fails = self._waiting.popleft()
            if fails:
                failing.append(submission)
            elif isinstance(submission, SlotRead):
                self._device.submit_reads([submission])
            else:
                self._device.submit_writes([submission])
        loop = asyncio.get_running_loop()
        if failing:
            self._busy += 1
            loop.call_soon(self._fail, failing)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            due = self._waiting[0].due
            self._timer = loop.call_at(due, lambda: self._let_go(max(due, loop.time())))

    def _fail(self, failing: list[Submission]) -> None:
        self._finished_one()
        writes = [WriteDone(s.operation, False) for s in failing if isinstance(s, SlotWrite)]
        reads = [ReadDone(s.operation, None) for s in failing if isinstance(s, SlotRead)]
        if writes:
            self._tell(writes)
        if reads:
            self.reads_done(reads)

    def _damaged(self, results: Sequence[WriteDone]) -> None:
        self._finished_one()
        self._tell(results)

    def _tell(self, results: Sequence[WriteDone]) -> None:
        assert self._completions is not None
        self._completions.writes_done(results)

    def _finished_one(self) -> None:
        self._busy -= 1
        self._idle.set()
