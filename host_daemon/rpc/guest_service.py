"""Adapter from `essa.v1.EssaService` to the shell; decides nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from host_daemon.core.config import GuestSpec
from host_daemon.faults.rule import Rule
from host_daemon.rpc.injection import Injector
from host_daemon.rpc.peers import check_name
from host_daemon.rpc.sessions import GuestSession
from host_daemon.rpc.shell import HostShell
from host_daemon.rpc.streams import FaultStream, OutcomeStream
from shared.arch import Mode
from shared.commands import Essa, Outcome
from shared.errors import DrainingError, InvalidRequestError, InvalidTokenError
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.faults import Kind
from shared.identity import NAME, NAME_BOUND
from shared.rpc import codec
from shared.rpc.status import reports_status
from shared.rpc.tolerant import decoded
from shared.telemetry import bind, logger

MODES: Final = {pb.MODE_SEED: Mode.SEED, pb.MODE_KVM: Mode.KVM}
RANGES_MAX: Final = 1024
FAULT_NUMBERS_MAX: Final = 65_536

BugFound = Callable[[Exception], None]


def spec_from_message(request: pb.OpenGuestRequest) -> GuestSpec:
    """Decode and check what a new guest is to be."""
    if NAME.fullmatch(request.name) is None:
        raise InvalidRequestError(
            f"name is {request.name!r}; it must be {NAME_BOUND}",
            field="name",
            value=request.name,
        )
    mode = MODES.get(request.mode)
    if mode is None:
        raise InvalidRequestError(
            f"mode is {request.mode}; it must be MODE_SEED or MODE_KVM",
            field="mode",
            value=request.mode,
        )
    ranges = request.unbacked_ranges
    check_range_count("unbacked_ranges", len(ranges))
    spec = GuestSpec(
        name=request.name,
        page_count=request.page_count,
        vcpu_count=request.vcpu_count,
        device_count=request.device_count,
        mode=mode,
        essa_enabled=request.essa_enabled if request.HasField("essa_enabled") else True,
        unused_access_resident_ok=request.unused_access_resident_ok,
        unbacked=tuple(range(r.first_pfn, r.first_pfn + r.page_count) for r in ranges),
    )
    spec.check()
    return spec


def check_range_count(field: str, count: int) -> None:
    """Raise InvalidRequestError for too many ranges."""
    if count > RANGES_MAX:
        raise InvalidRequestError(
            f"{field} holds {count}; it must hold at most {RANGES_MAX}",
            field=field,
            value=count,
            high=RANGES_MAX,
        )


class EssaServicer(essa_pb2_grpc.EssaServiceServicer):
    """Serves guests. bug_found: told of every exception that is our own bug.

    identified: whether peers may have certificates, which then say who they are.
    """

    def __init__(
        self,
        shell: HostShell,
        injector: Injector,
        bug_found: BugFound,
        *,
        identified: bool = False,
    ) -> None:
        self._identified = identified
        self._shell = shell
        self._injector = injector
        self._book = shell.book
        self.bug_found = bug_found

    def _session(self, message: pb.Session, context: Any) -> GuestSession:
        """The session that a call names; from here on the call's log says whose it is."""
        session = self._named(message, context)
        bind(guest=session.spec.name)
        return session

    def _named(self, message: pb.Session, context: Any) -> GuestSession:
        """The session that a call names."""
        session = self._shell.session(message.token, message.incarnation)
        if self._identified:
            check_name(context, session.spec.name)
        return session

    async def _strike(
        self,
        method: str,
        session: GuestSession,
        request: Any,
        context: Any,
        issuer: int = 0,
        command: Essa | None = None,
    ) -> tuple[GuestSession, Rule | None]:
        """Let injected faults have their way with a call: its session then, and what struck it.

        Asked for only where there is one: it costs a call that nothing strikes too much.
        """
        struck = await self._injector.before_call(method, session.spec.name, issuer, command)
        return self._session(request.session, context), struck

    @reports_status
    async def OpenGuest(self, request: pb.OpenGuestRequest, context: Any) -> pb.OpenGuestResponse:
        """Open a guest and give out its token."""
        spec = spec_from_message(request)
        bind(guest=spec.name)
        if self._identified:
            check_name(context, spec.name)
        struck: Rule | None = None
        if self._book.calls:
            struck = await self._injector.before_call("OpenGuest", spec.name)
        if request.take_over and self._shell.close_abandoned(spec.name):
            logger().warning("guest_taken_over")
        session = self._shell.open_guest(spec)
        logger().info("guest_opened", pages=spec.page_count, vcpus=spec.vcpu_count)
        await self._injector.after_call(struck)
        incarnation = self._shell.sessions.incarnation
        return pb.OpenGuestResponse(
            session=pb.Session(token=session.token, incarnation=incarnation),
            guest_id=session.guest_id,
        )

    @reports_status
    async def ExecuteEssa(
        self, request: pb.ExecuteEssaRequest, context: Any
    ) -> pb.ExecuteEssaResponse:
        """Decode, execute, encode; only operation 5 ever has to wait."""
        session = self._named(request.session, context)
        try:
            return await self._execute_essa(session, request, context)
        except Exception:
            # For whoever reports it. Saying so in every call would cost as much as its ESSA.
            bind(guest=session.spec.name, vcpu=request.vcpu)
            raise

    async def _execute_essa(
        self, session: GuestSession, request: pb.ExecuteEssaRequest, context: Any
    ) -> pb.ExecuteEssaResponse:
        struck: Rule | None = None
        if not request.HasField("essa"):
            raise InvalidRequestError("essa is missing", field="essa")
        command = codec.essa_from_message(request.essa)
        if self._book.calls:
            bind(guest=session.spec.name, vcpu=request.vcpu)
            session, struck = await self._strike(
                "ExecuteEssa", session, request, context, request.vcpu, command
            )
        waiter: asyncio.Future[Outcome | None] | None = None

        def done(outcome: Outcome | None) -> None:
            if waiter is not None and not waiter.done():
                waiter.set_result(outcome)

        outcome = self._shell.execute_by_hand(session, request.vcpu, command, done)
        if outcome is None:
            waiter = asyncio.get_running_loop().create_future()
            outcome = await waiter
            if outcome is None:
                raise self._why_ended()
        if struck is not None:
            await self._injector.after_call(struck)
        return codec.essa_response_from_outcome(outcome)

    @reports_status
    async def Execute(self, _requests: Any, context: Any) -> None:
        """Take in envelopes and answer; each is one turn of the loop, decoded to executed."""
        stream: OutcomeStream | None = None
        try:
            while isinstance(request := decoded(await context.read()), pb.ExecuteRequest):
                if stream is None:
                    stream = OutcomeStream(self._session(request.session, context), context)
                elif request.HasField("session"):
                    self._same_session(stream, request.session)
                commands = codec.commands_from_message(request)
                if self._book.commands:
                    commands = self._injector.take_in(stream, commands)
                ready = self._shell.execute(stream.session, commands, stream)
                if ready:
                    await stream.send(ready)
                if self._book.paces:
                    await self._injector.pace("Execute", stream.session)
            if stream is not None:
                await stream.finish()
        except asyncio.CancelledError:
            if stream is None or not stream.ended:
                raise
            raise self._why_ended() from None
        finally:
            if stream is not None:
                self._shell.stream_gone(stream.session)
                await stream.close()

    def _same_session(self, stream: OutcomeStream, message: pb.Session) -> None:
        if self._shell.session(message.token, message.incarnation) is not stream.session:
            raise InvalidRequestError("session changed inside a stream", field="session")

    @reports_status
    async def SubscribeFaults(self, request: pb.SubscribeFaultsRequest, context: Any) -> None:
        """Send faults as the shell delivers them, several in a message if they are there."""
        session = self._session(request.session, context)
        stream = FaultStream(session.spec.name, self._book)
        # Tells the guest that the subscription stands, before the first fault comes.
        await context.send_initial_metadata(())
        self._shell.subscribe(session, stream)
        try:
            while faults := await stream.take():
                if self._book.paces:
                    await self._injector.pace("SubscribeFaults", session)
                await context.write(codec.message_from_faults(faults))
        finally:
            self._shell.unsubscribe(session, stream)
        self._shell.refuse_while_draining()

    @reports_status
    async def AcknowledgeFaults(
        self, request: pb.AcknowledgeFaultsRequest, context: Any
    ) -> pb.AcknowledgeFaultsResponse:
        """Forget faults."""
        session, struck = self._session(request.session, context), None
        if self._book.calls:
            session, struck = await self._strike("AcknowledgeFaults", session, request, context)
        numbers = request.numbers
        if len(numbers) > FAULT_NUMBERS_MAX:
            raise InvalidRequestError(
                f"numbers holds {len(numbers)}; it must hold at most {FAULT_NUMBERS_MAX}",
                field="numbers",
                value=len(numbers),
                high=FAULT_NUMBERS_MAX,
            )
        self._shell.acknowledge(session, numbers)
        if struck is not None and struck.spec.kind is Kind.DUPLICATE:
            self._shell.acknowledge(session, numbers)
        await self._injector.after_call(struck)
        return pb.AcknowledgeFaultsResponse()

    @reports_status
    async def CloseGuest(
        self, request: pb.CloseGuestRequest, context: Any
    ) -> pb.CloseGuestResponse:
        """Close a guest."""
        session, struck = self._session(request.session, context), None
        if self._book.calls:
            session, struck = await self._strike("CloseGuest", session, request, context)
        self._shell.close_guest(session)
        logger().info("guest_closed")
        await self._injector.after_call(struck)
        return pb.CloseGuestResponse()

    def _why_ended(self) -> Exception:
        if self._shell.draining:
            return DrainingError("the host is shutting down")
        return InvalidTokenError("the guest was closed")
