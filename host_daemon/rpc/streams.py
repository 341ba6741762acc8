"""The two kinds of lasting connections: outcomes and discard faults, one writer each.

Rules:
- `push` and `end` are called on the loop and never block; the handler's coroutine, or one
  task in its place, does the writing.
- What is pushed while a message is being written goes into the next one.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from host_daemon.rpc.sessions import GuestSession
from shared.commands import DiscardFault, Outcome
from shared.rpc import codec
from shared.rpc.codec import Answered


class OutcomeStream:
    """One Execute stream. An OutcomeSink.

    A handler makes it, writes what is known at once with `write`, and ends with `finish` or
    not, and `close`.
    """

    def __init__(self, session: GuestSession, context: Any) -> None:
        self.session = session
        self.ended = False
        self._context = context
        self._handler = asyncio.current_task()
        self._outbox: list[Answered] = []
        self._writing = False
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        session.streams[self] = None

    def push(self, vcpu: int, number: int, outcome: Outcome) -> None:
        """Send an outcome with whatever else completes in this turn of the loop."""
        self._outbox.append((vcpu, number, outcome))
        self._changed.set()
        if not self._writing and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write_outbox())

    def released(self) -> None:
        """A command that was received here has been received again elsewhere."""
        self._changed.set()

    def end(self) -> None:
        """Cancel the handler; it sees `ended`."""
        if not self.ended:
            self.ended = True
            assert self._handler is not None
            self._handler.cancel()

    async def write(self, outcomes: list[Answered]) -> None:
        """Send outcomes now, or leave them to the write that is under way."""
        self._outbox += outcomes
        if self._writing:
            return
        self._writing = True
        try:
            while self._outbox:
                batch, self._outbox = self._outbox, []
                for message in codec.messages_from_outcomes(batch):
                    await self._context.write(message)
        finally:
            self._writing = False

    async def finish(self) -> None:
        """Wait until everything that was received here is answered, here or elsewhere."""
        while self in self.session.waiting.values():
            self._changed.clear()
            await self._changed.wait()
        if self._task is not None:
            await asyncio.wait([self._task])
        await self.write([])

    async def close(self) -> None:
        """Nothing is written after this."""
        self.session.streams.pop(self, None)
        for vcpu in [vcpu for vcpu, sink in self.session.waiting.items() if sink is self]:
            del self.session.waiting[vcpu]
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _write_outbox(self) -> None:
        try:
            await self.write([])
        except grpc.aio.InternalError:
            pass  # the peer is gone, and its handler is told by the library
        finally:
            self._task = None


class FaultStream:
    """One SubscribeFaults stream. A FaultSink."""

    def __init__(self) -> None:
        self._faults: list[DiscardFault] = []
        self._ended = False
        self._changed = asyncio.Event()

    def push(self, fault: DiscardFault) -> None:
        """Send a fault with whatever else comes in this turn of the loop."""
        self._faults.append(fault)
        self._changed.set()

    def end(self) -> None:
        """Let the handler return, once it has sent what it has."""
        self._ended = True
        self._changed.set()

    async def take(self) -> list[DiscardFault]:
        """The next faults; none: the stream has ended."""
        while not self._faults and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        faults, self._faults = self._faults, []
        return faults
