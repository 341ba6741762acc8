"""The guest's loop, turned by hand: its seat at the gate, and its session with the host.

Rules:
- The guest's own code runs between turns, and never inside one: what the loop's callbacks take in
  they only put down.
- A turn ends when what it waits for is there, and raises when the time is over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import uvloop

from essa_cli.gate.seat import ARRIVAL_SECONDS, Seat
from guest_agent.rpc.link import RpcLink
from shared.commands import Command, DiscardFault, Outcome
from shared.errors import EssaError
from shared.essa.v1 import essa_pb2, essa_pb2_grpc
from shared.essa.v1 import gate_pb2 as pb
from shared.rpc import codec
from shared.rpc.channel import Address, HostUnreachableError, call, connect, parse_address
from shared.rpc.status import error_of
from shared.session.guards import LinkGuards

if TYPE_CHECKING:
    import grpc

    from shared.rpc.tls import Tls

NEVER_SECONDS: Final = 1e6
"""Nothing is sent again because time has passed."""
COMMANDS: Final = "Execute"
FAULTS: Final = "SubscribeFaults"
T = TypeVar("T")


class GateFailedError(Exception):
    """The race cannot go on; says why in one line."""


class Line:
    """The loop and the seat. parked: commands that the host has said to wait, and why for ever.

    name, credentials: what the guest calls itself and shows; without TLS any name does.
    """

    def __init__(self, gate: Address, tls: Tls | None = None) -> None:
        self.timeout_seconds = 10.0
        self.name = tls.identity.name if tls else "guest"
        self.credentials: grpc.ChannelCredentials | None = (
            tls.channel_credentials() if tls else None
        )
        self.parked: dict[tuple[int, int], str] = {}
        self._loop = uvloop.new_event_loop()
        self._changed = asyncio.Event()
        self._heard: deque[pb.AttendResponse] = deque()
        self._seat = self._loop.run_until_complete(self._sit(gate, tls))

    async def _sit(self, gate: Address, tls: Tls | None) -> Seat:
        seat = Seat(gate, pb.GATE_ROLE_GUEST, tls)
        self._reader = asyncio.ensure_future(self._read(seat))
        self._reader.add_done_callback(lambda _: self.changed())
        return seat

    async def _read(self, seat: Seat) -> None:
        while message := await seat.hear():
            if message.WhichOneof("body") == "parked":
                self.parked[message.parked.issuer, message.parked.number] = message.parked.assertion
            else:
                self._heard.append(message)
            self._changed.set()

    @property
    def _closed(self) -> bool:
        return self._reader.done()

    def changed(self) -> None:
        """Something was put down that a turn may wait for."""
        self._changed.set()

    # Between turns.

    def task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something that goes on in turns, and whose end a turn may wait for."""
        task = self._loop.create_task(work)
        task.add_done_callback(lambda _: self.changed())
        return task

    def run(self, work: Awaitable[T]) -> T:
        """Turn until it is done."""
        return self._loop.run_until_complete(asyncio.wait_for(work, self.timeout_seconds))

    def turn(self, ready: Callable[[], bool], what: str, seconds: float | None = None) -> None:
        """Turn until that holds. Raises GateFailedError when the time is over."""
        limit = self.timeout_seconds if seconds is None else seconds

        async def wait() -> None:
            while not ready():
                self._changed.clear()
                await self._changed.wait()

        if ready():
            return
        try:
            self._loop.run_until_complete(asyncio.wait_for(wait(), limit))
        except TimeoutError:
            raise GateFailedError(f"the guest waited {limit:g} seconds for {what}") from None

    def next(self) -> pb.AttendResponse | None:
        """What the gate says next, however long that takes; None when it has closed.

        Raises CliError if it gives no seat.
        """

        async def wait() -> None:
            while not self._heard and not self._closed:
                self._changed.clear()
                await self._changed.wait()

        self._loop.run_until_complete(wait())
        if not self._heard:
            self._reader.result()
            return None
        return self._heard.popleft()

    def say(self, message: pb.AttendRequest) -> None:
        """Send a message to the gate, in the next turn."""
        self._loop.call_soon(self._seat.say, message)

    def order(self, order: pb.HostOrder) -> pb.Report:
        """Let the host do something, and return its report."""
        self.say(pb.AttendRequest(order=order))
        # The gate is patient with the host, and does not answer for it.
        limit = self.timeout_seconds + ARRIVAL_SECONDS
        self.turn(lambda: bool(self._heard) or self._closed, "the host's report", limit)
        if not self._heard or self._heard[0].WhichOneof("body") != "told":
            raise GateFailedError("the gate has not passed on what the host reports")
        report = self._heard.popleft().told
        if report.failure:
            raise GateFailedError(f"the host: {report.failure}")
        return report

    def close(self) -> None:
        """End all that goes on in turns."""
        self._reader.cancel()
        self._loop.run_until_complete(self._seat.leave())
        self._loop.close()


class GatedSession:
    """An open guest and its link, which is the daemon's. A Passage; see `Line`.

    commands, outcomes, faults: how many were sent, have come, and have come. sent: commands that
    went on their way and that nobody has taken; kept_outcomes, kept_faults: what came likewise.
    sendings: how often the link has looked for something to send.
    """

    def __init__(
        self, line: Line, address: str, request: essa_pb2.OpenGuestRequest, guards: LinkGuards
    ) -> None:
        self.commands = self.outcomes = self.faults = self.sendings = 0
        self.sent: list[tuple[int, int, Command]] = []
        self.kept_outcomes: list[tuple[int, int, Outcome]] = []
        self.kept_faults: list[DiscardFault] = []
        self._line = line
        self._calls: dict[int, asyncio.Task[Outcome]] = {}
        self._answered: set[int] = set()
        self._wanted = {COMMANDS: asyncio.Event(), FAULTS: asyncio.Event()}
        self._at_the_door: set[str] = set()
        for wanted in self._wanted.values():
            wanted.set()
        line.run(self._open(address, request, guards))
        line.turn(lambda: self.sendings > 0 or self._run.done(), "its connection")

    async def _open(
        self, address: str, request: essa_pb2.OpenGuestRequest, guards: LinkGuards
    ) -> None:
        self._channel = connect(parse_address(address, "host"), self._line.credentials)
        stub: Any = essa_pb2_grpc.EssaServiceStub(self._channel)  # type: ignore[no-untyped-call]
        with suppress(TimeoutError):  # the call will say what the matter is
            async with asyncio.timeout(self._line.timeout_seconds / 2):
                await self._channel.channel_ready()
        try:
            opened = await call(stub, "OpenGuest", request, address)
        except HostUnreachableError as error:
            raise GateFailedError(str(error)) from error
        self._stub, self._session = stub, opened.session
        self.link = RpcLink(
            stub,
            opened.session,
            request.vcpu_count + request.device_count,
            lambda _: None,
            retransmit_seconds=NEVER_SECONDS,
            guards=guards,
            passage=self,
        )
        self._run = asyncio.ensure_future(self.link.run())
        self._run.add_done_callback(lambda _: self._line.changed())

    def close(self) -> None:
        """End the connections."""

        async def end() -> None:
            tasks = [self._run, *self._calls.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._channel.close(None)

        self._line.run(end())

    # Passage

    async def connecting(self, stream: str) -> None:
        """Wait until the connection is wanted, and the host is there."""
        self._at_the_door.add(stream)
        self._line.changed()
        await self._wanted[stream].wait()
        # A try that fails on a busy machine would count what it sends twice.
        await self._channel.channel_ready()
        self._at_the_door.discard(stream)

    def sending(self, batch: Sequence[tuple[int, int, Command]]) -> None:
        """Note what goes on its way."""
        self.sendings += 1
        self.commands += len(batch)
        self.sent += batch
        self._line.changed()

    def outcome(self, issuer: int, number: int, outcome: Outcome) -> bool:
        """Let an outcome pass whose command was called; keep any other."""
        self.outcomes += 1
        self._line.changed()
        if issuer in self._calls:
            self._answered.add(issuer)
            return True
        self.kept_outcomes.append((issuer, number, outcome))
        return False

    def fault(self, fault: DiscardFault) -> bool:
        """Keep it."""
        self.faults += 1
        self.kept_faults.append(fault)
        self._line.changed()
        return False

    # What the guest does, between turns.

    def turn(self, ready: Callable[[], bool], what: str) -> None:
        """As `Line.turn`; raises what the link has ended with."""
        self._line.turn(lambda: ready() or self._run.done(), what)
        if self._run.done() and not ready():
            failure = self._run.exception()
            raise GateFailedError(f"the link has ended: {failure!r}") from failure

    def has_received(self, traffic: pb.Traffic) -> bool:
        """Whether all that the host has sent was received, and who waits for it knows."""
        return (
            self.outcomes >= traffic.outcomes_sent
            and self.faults >= traffic.faults_sent
            and all(self._calls[issuer].done() for issuer in self._answered)
        )

    def call(self, issuer: int, command: Command) -> Callable[[], Outcome | None]:
        """Send a command, and wait until it is answered, or known to be parked.

        Returns what asks for its outcome. Raises AssertionError with what the host's core says is
        wrong with itself.
        """
        sent = issuer, self.link.end.last_number(issuer) + 1
        task = self._line.task(self.link.call(issuer, command))
        self._calls[issuer] = task

        def parked() -> str | None:
            return self._line.parked.get(sent)

        self.turn(lambda: task.done() or parked() is not None, "an answer of the host")
        if assertion := parked():
            raise AssertionError(assertion)

        def outcome() -> Outcome | None:
            if not task.done():
                return None
            self._calls.pop(issuer, None)
            self._answered.discard(issuer)
            return task.result()

        return outcome

    def send_outgoing(self) -> list[tuple[int, int, Command]]:
        """Let the link send what there is, over a new connection if there is none."""
        before = self.sendings
        self.sent.clear()  # what was called before there was somebody to hold it
        self._line.run(self._send())
        self.turn(lambda: self.sendings > before, "its commands to be sent")
        sent, self.sent = self.sent, []
        return sent

    async def _send(self) -> None:
        self._wanted[COMMANDS].set()
        self.link.send()

    def subscribe(self) -> None:
        """Let the link connect for discard faults."""
        self._wanted[FAULTS].set()

    def keep_apart(self, streams: Sequence[str]) -> None:
        """Let no new connection be made of these."""
        for stream in streams:
            self._wanted[stream].clear()

    def come_apart(self, streams: Sequence[str]) -> None:
        """Wait until the link has found out that they are broken."""
        self.turn(lambda: self._at_the_door.issuperset(streams), "its connections to break")

    def acknowledge(self, numbers: Sequence[int]) -> None:
        """Acknowledge faults, now."""
        self._line.run(self.link.acknowledge(numbers))

    def second_copy(self, issuer: int, number: int, command: Command) -> Exception | None:
        """Send a command as it was sent before, by a connection of its own; what it was refused
        with, or None. Its answer gets lost."""
        task = self._line.task(self._copy(issuer, number, command))
        parked = (issuer, number)
        self._line.parked.pop(parked, None)
        self.turn(lambda: task.done() or parked in self._line.parked, "an answer to a copy")
        return task.result() if task.done() else None

    async def _copy(self, issuer: int, number: int, command: Command) -> Exception | None:
        self.commands += 1
        (message,) = codec.messages_from_commands([(issuer, number, command)])
        message.session.CopyFrom(self._session)
        stream = self._stub.Execute()
        try:
            await stream.write(message)
            await stream.read()
            self.outcomes += 1
            await stream.done_writing()
        except Exception as error:
            refused: EssaError | None = error_of(error)  # type: ignore[arg-type]
            if refused is None:
                raise
            return refused
        return None
