"""The kernel's `Link` over gRPC: gathered calls, answers, faults, and what breaks between.

Rules:
- All that the vCPUs and devices ask for in one turn of the event loop goes into one message,
  and so does what they ask for until the host has answered the last one: a message costs
  far more than a command.
- `GuestEnd` decides what is outstanding; a lost connection is made again, and what is
  outstanding is sent again under its old number.
- A command that nobody answers for a while is sent again under its old number: it, or its
  answer, may be lost. One that the host has parked is merely attached again.
- One writer and one reader per stream. The reader of faults only hands them out.
- What cannot be mended (another incarnation of the host, a refused message) ends `run`, and
  with it the task group of the guest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc

from guest_agent.rpc.passage import OPEN, Passage
from shared.commands import Command, DiscardFault, FaultPending, Outcome
from shared.errors import DrainingError, EssaError
from shared.essa.v1 import essa_pb2 as pb
from shared.rpc import codec
from shared.rpc.channel import HostUnreachableError, call
from shared.rpc.status import error_of
from shared.session.guards import LinkGuards
from shared.session.guest_end import GuestEnd
from shared.telemetry import logger

BACKOFF_SECONDS: Final = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Before each new try; the last one stays."""
GATHER_ROUND_TRIPS: Final = 4
GATHER_SECONDS_MAX: Final = 0.05
"""How long the next message waits for an answer to the last one: so many times what answers
have taken of late. A message whose commands are all parked gets no answer at once."""
GATHER_TURNS: Final = 2
"""Turns of the loop that the next message waits after an answer: a vCPU that was answered may
first have to let another go on, and their next commands go along with a third's. A turn costs
microseconds, a message a hundred times that."""
RETRANSMIT_SECONDS: Final = 1.0
"""A command is sent again after this long without an answer, and then ..."""
RETRANSMIT_SECONDS_MAX: Final = 8.0
"""... each time after twice as long, up to this."""
RETRANSMIT_TICKS: Final = 4
"""How often in that time the link looks whether anything is to be sent again."""
ACKNOWLEDGE_SECONDS: Final = 0.01
"""How long settled faults are gathered; nobody waits for an acknowledgement."""
ACKNOWLEDGE_MAX: Final = 65_536
"""Faults of one acknowledgement, as the wire allows."""


@dataclass(slots=True)
class LinkStatistics:
    """What went over the wire so far."""

    messages: int = 0
    commands: int = 0
    reconnections: int = 0
    retransmissions: int = 0


@dataclass(slots=True)
class _Unanswered:
    """An issuer's command that waits for its answer: when it is sent again, and how long after
    that once more."""

    number: int
    due: float
    patience: float


class RpcLink:
    """One guest's way to its host. Enter `run` into a task group before the first call."""

    def __init__(
        self,
        stub: Any,
        session: pb.Session,
        issuer_count: int,
        fault_arrived: Callable[[DiscardFault], None],
        *,
        host: object = "the host",
        reconnect_seconds: float = 60.0,
        retransmit_seconds: float = RETRANSMIT_SECONDS,
        guards: LinkGuards | None = None,
        passage: Passage = OPEN,
        message_arrived: Callable[[pb.ExecuteResponse], None] | None = None,
    ) -> None:
        self.statistics = LinkStatistics()
        self._stub = stub
        self._session = session
        self._fault_arrived = fault_arrived
        self._host = host
        self._reconnect_seconds = reconnect_seconds
        self._retransmit_seconds = retransmit_seconds
        self._unanswered: dict[int, _Unanswered] = {}
        self._message_arrived = message_arrived
        self._passage = passage
        self._end = GuestEnd(issuer_count, guards or LinkGuards())
        self._answers: dict[int, asyncio.Future[Outcome]] = {}
        self._promised: set[int] = set()
        self._delivered = 0
        self._something_to_send = asyncio.Event()
        self._something_settled = asyncio.Event()
        self._host_heard: asyncio.Future[None] | None = None
        self._round_trip = 0.0005
        self._unacknowledged: list[int] = []

    async def call(self, issuer: int, command: Command) -> Outcome:
        """Execute the command on the host exactly once."""
        self._end.submit(issuer, command)
        answer = asyncio.get_running_loop().create_future()
        self._answers[issuer] = answer
        self._something_to_send.set()
        outcome: Outcome = await answer
        return outcome

    def fault_settled(self, number: int) -> None:
        """Acknowledge the fault, soon and together with others."""
        self._end.fault_settled(number)
        self._something_settled.set()

    def outstanding(self) -> dict[int, Command]:
        """The commands without an outcome, by issuer; for a person who asks what it is."""
        return self._end.outstanding()

    @property
    def end(self) -> GuestEnd:
        """The guest's end of the session, for whoever holds the passage."""
        return self._end

    def send(self) -> None:
        """Something was submitted to the guest's end, and not by `call`."""
        self._something_to_send.set()

    async def acknowledge(self, numbers: Sequence[int]) -> None:
        """Acknowledge these faults now. Raises as `call` does."""
        request = pb.AcknowledgeFaultsRequest(session=self._session, numbers=numbers)
        await call(self._stub, "AcknowledgeFaults", request, self._host)

    @property
    def in_flight(self) -> int:
        """Commands without an outcome, and faults that were announced and have not come."""
        return len(self._answers) + len(self._promised)

    async def run(self) -> None:
        """Keep both streams up until cancelled.

        Raises the EssaError that ended the session (StaleIncarnationError: reboot), or
        HostUnreachableError when the host stays away.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_up("Execute", self._execute))
            group.create_task(self._keep_up("SubscribeFaults", self._subscribe))
            group.create_task(self._acknowledge())
            group.create_task(self._retransmit())

    # Connections.

    async def _keep_up(
        self, name: str, stream: Callable[[Callable[[], None]], Awaitable[None]]
    ) -> None:
        """Run a stream again and again; patience begins anew whenever one has worked."""
        loop = asyncio.get_running_loop()
        gone_since: float | None = None
        tries = 0

        def works() -> None:
            nonlocal gone_since, tries
            if gone_since is not None:
                logger().info("stream_restored", stream=name, seconds=loop.time() - gone_since)
            gone_since, tries = None, 0

        while True:
            await self._passage.connecting(name)
            try:
                await stream(works)
                reason = "ended by the host"
            except grpc.aio.AioRpcError as error:
                reason = _transient(error)
            if gone_since is None:
                gone_since = loop.time()
                self.statistics.reconnections += 1
                logger().warning("stream_lost", stream=name, reason=reason)
            if loop.time() - gone_since > self._reconnect_seconds:
                raise HostUnreachableError(
                    f"no answer from {self._host} for {self._reconnect_seconds:g} seconds: {reason}"
                )
            await asyncio.sleep(BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS) - 1)])
            tries += 1

    # Commands.

    async def _execute(self, works: Callable[[], None]) -> None:
        """One connection of the Execute stream, until it breaks."""
        self._end.connection_lost()
        self._something_to_send.set()
        passage, stream = self._passage, self._stub.Execute()
        writer = asyncio.create_task(self._write(stream))
        # A bug in the writer must not leave the reader waiting for ever.
        writer.add_done_callback(lambda _: _failure(writer) and stream.cancel())
        try:
            async for message in stream:
                works()
                if self._message_arrived is not None:
                    self._message_arrived(message)
                for issuer, number, outcome in codec.outcomes_from_message(message):
                    if passage.outcome(issuer, number, outcome) and self._end.receive(
                        issuer, number, outcome
                    ):
                        self._answered(issuer, outcome)
                self._let_write()  # after the vCPUs, so that their next commands go along
        except asyncio.CancelledError:
            if (failure := _failure(writer)) is not None:
                raise failure from None
            raise
        finally:
            writer.cancel()
            stream.cancel()

    async def _write(self, stream: Any) -> None:
        """Write what there is, as one message; meanwhile the next one gathers."""
        loop = asyncio.get_running_loop()
        session: pb.Session | None = self._session
        while True:
            await self._something_to_send.wait()
            self._something_to_send.clear()
            batch = self._end.outgoing()
            self._passage.sending(batch)
            messages = codec.messages_from_commands(batch)
            if not messages:
                continue
            # Before the writing: the answer may be here before the write has returned.
            heard = self._host_heard = loop.create_future()
            begun = loop.time()
            for message in messages:
                if session is not None:
                    message.session.CopyFrom(session)
                    session = None
                self.statistics.messages += 1
                self.statistics.commands += len(message.commands)
                try:
                    await stream.write(message)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    return  # the stream is over, and its reader says why
            patience = min(GATHER_ROUND_TRIPS * self._round_trip, GATHER_SECONDS_MAX)
            timer = loop.call_later(patience, self._let_write)
            await heard
            timer.cancel()
            for _ in range(GATHER_TURNS):
                await asyncio.sleep(0)
            # Also after losing patience: a host that has become slower is waited for longer.
            self._round_trip += (loop.time() - begun - self._round_trip) / 8

    async def _retransmit(self) -> None:
        """Now and then, queue once more what has been unanswered for too long."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._retransmit_seconds / RETRANSMIT_TICKS)
            now, former = loop.time(), self._unanswered
            self._unanswered = {}
            for issuer, number in self._end.unanswered().items():
                command = former.get(issuer)
                if command is None or command.number != number:
                    patience = self._retransmit_seconds
                    command = _Unanswered(number, now + patience, patience)
                elif now >= command.due:
                    self._end.send_again(issuer)
                    self.statistics.retransmissions += 1
                    command.patience = min(
                        2 * command.patience,
                        max(RETRANSMIT_SECONDS_MAX, self._retransmit_seconds),
                    )
                    command.due = now + command.patience
                    self._something_to_send.set()
                self._unanswered[issuer] = command

    def _let_write(self) -> None:
        if self._host_heard is not None and not self._host_heard.done():
            self._host_heard.set_result(None)

    def _answered(self, issuer: int, outcome: Outcome) -> None:
        if isinstance(outcome, FaultPending) and outcome.fault > self._delivered:
            self._promised.add(outcome.fault)
        answer = self._answers.pop(issuer)
        if not answer.done():
            answer.set_result(outcome)

    # Discard faults.

    async def _subscribe(self, works: Callable[[], None]) -> None:
        """One connection of the fault stream, until it breaks."""
        stream = self._stub.SubscribeFaults(pb.SubscribeFaultsRequest(session=self._session))
        try:
            await stream.initial_metadata()
            if not stream.done():
                works()
            async for message in stream:
                for fault in codec.faults_from_message(message):
                    self._delivered = max(self._delivered, fault.number)
                    self._promised.discard(fault.number)
                    if self._passage.fault(fault) and self._end.fault_received(fault):
                        self._fault_arrived(fault)
                self._something_settled.set()  # what was settled before is acknowledged again
        finally:
            stream.cancel()

    async def _acknowledge(self) -> None:
        while True:
            await self._something_settled.wait()
            await asyncio.sleep(ACKNOWLEDGE_SECONDS)
            self._something_settled.clear()
            self._take_settled()
            while self._unacknowledged:
                await self._send_acknowledgement()

    def _take_settled(self) -> None:
        self._unacknowledged += self._end.acknowledgements()

    async def _send_acknowledgement(self) -> None:
        numbers = self._unacknowledged[:ACKNOWLEDGE_MAX]
        try:
            await self.acknowledge(numbers)
        except (HostUnreachableError, DrainingError):
            # The streams find out whether the host comes back; the numbers are kept for then.
            await asyncio.sleep(BACKOFF_SECONDS[-1])
            return
        del self._unacknowledged[: len(numbers)]


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    """What a task failed with; None if it has not, or not yet."""
    return task.exception() if task.done() and not task.cancelled() else None


def _transient(error: grpc.aio.AioRpcError) -> str:
    """Why a stream broke, if it may be made again; else raises the error it carries.

    Raises:
        EssaError: the host refused it, and would again.
        HostUnreachableError: whoever listens there is no ESSA host.
    """
    refused: EssaError | None = error_of(error)
    if refused is not None and not isinstance(refused, DrainingError):
        raise refused
    text = " ".join((error.details() or "").split())
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        raise HostUnreachableError(f"the host answered {error.code().name}: {text}")
    return f"{error.code().name}: {text}"
