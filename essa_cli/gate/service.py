"""The gate: who attends it, and one question to one of them at a time.

Rules:
- The caller's thread asks and waits; the library's threads only carry messages.
- What guest and host have to tell each other for a step is passed on while an answer is awaited.
- An answer that does not come in time, or never will, is a GateError that says why.
- Over TLS a role in the race is for certificates of this role; who has another leaves it free.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import grpc

from essa_cli.gate.seat import ARRIVAL_SECONDS
from host_daemon.rpc.peers import check_role
from shared.errors import InvalidRequestError, RoleNotAllowedError
from shared.essa.v1 import gate_pb2 as pb
from shared.essa.v1 import gate_pb2_grpc
from shared.identity import Role
from shared.rpc.channel import SERVER_OPTIONS, Address
from shared.rpc.sockets import bind
from shared.rpc.status import abort_blocking
from shared.rpc.tolerant import TolerantRegistrar, decoded

if TYPE_CHECKING:
    from shared.rpc.tls import Tls

_STUBS: Final[Any] = gate_pb2_grpc  # generated without types
HOST: Final = pb.GATE_ROLE_HOST
GUEST: Final = pb.GATE_ROLE_GUEST
NAMES: Final = {HOST: "the host", GUEST: "the guest"}
_OF_CERTIFICATES: Final = {HOST: Role.HOST, GUEST: Role.GUEST}
THREADS: Final = 8
"""More than ever attend, those included who are refused."""
_GONE: Final = pb.AttendRequest()
"""Stands for the end of a stream."""


class GateError(Exception):
    """The schedule cannot be enforced; says why in one line."""


class _Attendant:
    """One process at the gate. refused: why its stream ends, if not as it should."""

    def __init__(self) -> None:
        self.outbox: queue.SimpleQueue[pb.AttendResponse | None] = queue.SimpleQueue()
        self.refused: InvalidRequestError | None = None


class Gate:
    """A gate that is open. timeout_seconds: how long it waits for a report.

    tls: for TCP; None for a plain port. Raises InvalidRequestError for an address that cannot be
    had.
    """

    def __init__(self, address: Address, timeout_seconds: float, tls: Tls | None = None) -> None:
        self.timeout_seconds = timeout_seconds
        self._said: queue.SimpleQueue[tuple[pb.GateRole, _Attendant, pb.AttendRequest]]
        self._said = queue.SimpleQueue()
        self._attending: dict[pb.GateRole, _Attendant] = {}
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(THREADS), options=SERVER_OPTIONS)
        # With a malformed message the library would wait for that stream for ever when it stops.
        registrar = TolerantRegistrar(self._server)
        _STUBS.add_GateServiceServicer_to_server(_Servicer(self), registrar)
        credentials = tls.server_credentials() if tls else None
        self.address = bind(self._server, address, "--listen", credentials)
        self._server.start()

    def close(self) -> None:
        """Let everybody go."""
        with self._lock:
            for attendant in self._attending.values():
                attendant.outbox.put(None)
        self._server.stop(1.0).wait()

    # The library's threads.

    def enter(self, role: pb.GateRole) -> _Attendant | None:
        """Somebody arrives; None if somebody else has the role."""
        with self._lock:
            if role not in NAMES or role in self._attending:
                return None
            attendant = self._attending[role] = _Attendant()
        return attendant

    def said(self, role: pb.GateRole, attendant: _Attendant, message: pb.AttendRequest) -> None:
        """Somebody says something."""
        self._said.put((role, attendant, message))

    def leave(self, role: pb.GateRole, attendant: _Attendant) -> None:
        """Somebody goes."""
        with self._lock:
            if self._attending.get(role) is attendant:
                del self._attending[role]
        attendant.outbox.put(None)
        self.said(role, attendant, _GONE)

    # The caller's thread.

    def wait_for_both(self, timeout_seconds: float) -> None:
        """Return when a host and a guest are there. Raises GateError."""
        there: set[pb.GateRole] = set()
        while len(there) < len(NAMES):
            role, _, message = self._next(timeout_seconds, "a host and a guest")
            if message is _GONE:
                raise GateError(f"{NAMES[role]} has gone")
            there.add(role)

    def ask_guest(self, message: pb.AttendResponse) -> tuple[pb.Report, pb.Report | None]:
        """Say something to the guest: its report, and the last one that the host made meanwhile."""
        self._say(GUEST, message)
        of_host: pb.Report | None = None
        while True:
            role, said = self._heard(GUEST)
            if role == GUEST and said.WhichOneof("body") == "report":
                return _whole(GUEST, said.report), of_host
            if role == GUEST:
                of_host = self.ask_host(pb.AttendResponse(order=said.order))
                self._say(GUEST, pb.AttendResponse(told=of_host))

    def ask_host(self, message: pb.AttendResponse) -> pb.Report:
        """Say something to the host: its report."""
        self._say(HOST, message)
        restarts = message.order.WhichOneof("body") == "restart"
        while True:
            role, said = self._heard(HOST, restarts=restarts)
            if role == HOST and said.WhichOneof("body") == "report":
                return _whole(HOST, said.report)

    def _say(self, role: pb.GateRole, message: pb.AttendResponse) -> None:
        with self._lock:
            attendant = self._attending.get(role)
        if attendant is None:
            raise GateError(f"{NAMES[role]} has gone")
        attendant.outbox.put(message)

    def _heard(
        self, waits_for: pb.GateRole, *, restarts: bool = False
    ) -> tuple[pb.GateRole, pb.AttendRequest]:
        """What is said next, but for commands that are parked: those are passed on."""
        patience = self.timeout_seconds
        if restarts:
            patience = max(patience, ARRIVAL_SECONDS)
        while True:
            role, _, said = self._next(patience, NAMES[waits_for])
            if said is _GONE:
                if not (restarts and role == HOST):
                    raise GateError(f"{NAMES[role]} has gone")
            elif said.WhichOneof("body") == "parked":
                self._say(GUEST, pb.AttendResponse(parked=said.parked))
            elif said.WhichOneof("body") != "arrival":
                return role, said

    def _next(
        self, timeout_seconds: float, whom: str
    ) -> tuple[pb.GateRole, _Attendant, pb.AttendRequest]:
        try:
            return self._said.get(timeout=timeout_seconds)
        except queue.Empty:
            raise GateError(f"no word from {whom} for {timeout_seconds:g} seconds") from None


class _Servicer(gate_pb2_grpc.GateServiceServicer):
    """Carries messages."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def Attend(
        self, request_iterator: Iterable[pb.AttendRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.AttendResponse]:
        """Let a process take part."""
        requests = iter(request_iterator)
        try:
            arrival = decoded(next(requests, pb.AttendRequest()))
            role = arrival.arrival.role
            if role in _OF_CERTIFICATES:
                check_role(context, _OF_CERTIFICATES[role])
        except (InvalidRequestError, RoleNotAllowedError) as error:
            abort_blocking(context, error)
        attendant = self._gate.enter(role)
        if attendant is None:
            text = "role is taken, or is none" if role in NAMES else "arrival must come first"
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, text)
            raise AssertionError("abort returns")
        self._gate.said(role, attendant, arrival)
        context.add_callback(lambda: self._gate.leave(role, attendant))
        reader = threading.Thread(target=self._read, args=(role, attendant, requests), daemon=True)
        reader.start()
        while (message := attendant.outbox.get()) is not None:
            yield message
        if attendant.refused is not None:
            abort_blocking(context, attendant.refused)

    def _read(
        self, role: pb.GateRole, attendant: _Attendant, requests: Iterator[pb.AttendRequest]
    ) -> None:
        with suppress(Exception):  # the library raises Exception itself when a stream breaks
            try:
                for message in requests:
                    self._gate.said(role, attendant, decoded(message))
            except InvalidRequestError as error:
                attendant.refused = error
        attendant.outbox.put(None)  # who has no more to say goes


def _whole(role: pb.GateRole, report: pb.Report) -> pb.Report:
    """A report of who can go on. Raises GateError."""
    if report.failure:
        raise GateError(f"{NAMES[role]}: {report.failure}")
    return report
