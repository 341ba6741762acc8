"""The two kinds of lasting connections: outcomes and discard faults, one writer each.

Rules:
- `push` and `end` are called on the loop and never block; of outcomes one task does the
  writing, so that the handler takes in the next message while an answer is on its way.
- What is pushed while a message is being written goes into the next one.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc

from host_daemon.faults.book import FaultBook
from host_daemon.rpc.late import LateFaults
from host_daemon.rpc.sessions import GuestSession
from shared.commands import DiscardFault, Outcome
from shared.rpc import codec
from shared.rpc.codec import Answered

OUTBOX_MAX: Final = 256
"""Outcomes that may wait for a peer that reads slowly before nothing more is taken from it."""


class OutcomeStream:
    """One Execute stream. An OutcomeSink.

    injected: outcomes, by issuer and number, that an injected fault loses (None) or delays
    by so many seconds. A handler makes it, hands it what is known at once with `send`, and
    ends with `finish` or not, and `close`.
    """

    def __init__(self, session: GuestSession, context: Any) -> None:
        self.session = session
        self.ended = False
        self._closed = False
        self._context = context
        self._handler = asyncio.current_task()
        self._outbox: list[Answered] = []
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self.injected: dict[tuple[int, int], float | None] = {}
        session.streams[self] = None

    def push(self, vcpu: int, number: int, outcome: Outcome) -> None:
        """Send an outcome with whatever else completes in this turn of the loop."""
        if self.injected and self._kept_back((vcpu, number, outcome)):
            return
        self._outbox.append((vcpu, number, outcome))
        self._changed.set()
        self._begin_writing()

    def released(self) -> None:
        """A command that was received here has been received again elsewhere."""
        self._changed.set()

    def end(self) -> None:
        """Cancel the handler; it sees `ended`."""
        if not self.ended:
            self.ended = True
            assert self._handler is not None
            self._handler.cancel()

    async def send(self, outcomes: list[Answered]) -> None:
        """Send outcomes; waits only while too many of an earlier message are unsent."""
        if self.injected:
            outcomes = [answered for answered in outcomes if not self._kept_back(answered)]
        while self._task is not None and len(self._outbox) > OUTBOX_MAX:
            await asyncio.wait([self._task])
        self._outbox += outcomes
        self._begin_writing()

    async def finish(self) -> None:
        """Wait until everything that was received here is answered, here or elsewhere."""
        while self in self.session.waiting.values():
            self._changed.clear()
            await self._changed.wait()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Nothing is written after this."""
        self._closed = True
        self.session.streams.pop(self, None)
        for vcpu in [vcpu for vcpu, sink in self.session.waiting.items() if sink is self]:
            del self.session.waiting[vcpu]
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _kept_back(self, answered: Answered) -> bool:
        """Whether an injected fault loses the outcome, or brings it later."""
        if (key := answered[:2]) not in self.injected:
            return False
        seconds = self.injected.pop(key)
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, self.push, *answered)
        return True

    def _begin_writing(self) -> None:
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._write_outbox())

    async def _write_outbox(self) -> None:
        try:
            while self._outbox:
                batch, self._outbox = self._outbox, []
                for message in codec.messages_from_outcomes(batch):
                    if self.session.stamp is not None:
                        self.session.stamp(message)
                    await self._context.write(message)
        except grpc.aio.InternalError:
            pass  # the peer is gone, and its handler is told by the library
        finally:
            self._task = None


class FaultStream:
    """One SubscribeFaults stream. A FaultSink."""

    def __init__(self, guest: str, book: FaultBook) -> None:
        self._faults: list[DiscardFault] = []
        self._ended = False
        self._changed = asyncio.Event()
        self._book = book
        self._late = LateFaults(guest, book, self._send, self._changed.set)

    def push(self, fault: DiscardFault) -> None:
        """Send a fault with whatever else comes in this turn of the loop."""
        if self._book.delivery or self._late.waiting:
            self._late.take_in(fault)
        else:
            self._send(fault)

    def look_again(self) -> None:
        """An injected fault is over: what it held may go on."""
        self._late.look_again()

    def _send(self, fault: DiscardFault) -> None:
        self._faults.append(fault)
        self._changed.set()

    def end(self) -> None:
        """Let the handler return, once it has sent what it has."""
        self._ended = True
        self._changed.set()

    async def take(self) -> list[DiscardFault]:
        """The next faults; none: the stream has ended."""
        while not self._faults and not self._ended and not self._late.broken:
            self._changed.clear()
            await self._changed.wait()
        self._late.refuse_if_broken()
        faults, self._faults = self._faults, []
        return faults
