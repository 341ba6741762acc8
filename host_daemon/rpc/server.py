"""The daemon's gRPC servers: one for guests, one for operators, each with health and reflection.

Rules:
- The operators' Unix socket belongs to its owner alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import grpc

from host_daemon.rpc.control_service import ControlServicer
from host_daemon.rpc.guest_service import BugFound, EssaServicer
from host_daemon.rpc.injection import Injector
from host_daemon.rpc.peers import RoleInterceptor
from host_daemon.rpc.shell import HostShell
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.identity import Role
from shared.rpc.channel import SERVER_OPTIONS, Address
from shared.rpc.sockets import bind
from shared.rpc.standard import Standard
from shared.rpc.tolerant import TolerantRegistrar

if TYPE_CHECKING:
    from shared.rpc.tls import Tls

_STUBS: Final[Any] = essa_pb2_grpc  # generated without types

PRIVATE_UMASK: Final = 0o177
_ESSA_SERVICE: Final = pb.DESCRIPTOR.services_by_name["EssaService"].full_name
_CONTROL_SERVICE: Final = pb.DESCRIPTOR.services_by_name["ControlService"].full_name


class Servers:
    """Both servers. bug_found: see the servicers. injector: what operators inject goes there.

    tls: for TCP; None for plain ports.
    """

    def __init__(self, shell: HostShell, bug_found: BugFound, tls: Tls | None = None) -> None:
        self._standard = Standard()
        self._tls = tls
        self._guests = self._server(Role.GUEST)
        self._operators = self._server(Role.OPERATOR)
        self._paths: list[str] = []
        guests, operators = TolerantRegistrar(self._guests), TolerantRegistrar(self._operators)
        self.injector = Injector(shell)
        essa, control = (
            EssaServicer(shell, self.injector, bug_found, identified=tls is not None),
            ControlServicer(shell, self.injector, bug_found),
        )
        _STUBS.add_EssaServiceServicer_to_server(essa, guests)
        _STUBS.add_ControlServiceServicer_to_server(control, operators)
        self._standard.add(self._guests, _ESSA_SERVICE)
        self._standard.add(self._operators, _CONTROL_SERVICE)

    def _server(self, role: Role) -> grpc.aio.Server:
        guards = () if self._tls is None else (RoleInterceptor(role),)
        return grpc.aio.server(options=SERVER_OPTIONS, interceptors=guards)

    def bind(
        self, listen: Sequence[Address], control: Address
    ) -> tuple[tuple[Address, ...], Address]:
        """Take all sockets; returns the addresses with their true ports.

        Raises InvalidRequestError. Nothing is served before `start`.
        """
        guests = tuple(self._bind(self._guests, address, "--listen") for address in listen)
        mask = os.umask(PRIVATE_UMASK)
        try:
            return guests, self._bind(self._operators, control, "--control")
        finally:
            os.umask(mask)

    async def start(self) -> None:
        """Serve."""
        await self._standard.serving()
        await self._guests.start()
        await self._operators.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, let those under way end, then cut them off."""
        await self._standard.leaving()
        await self._guests.stop(grace_seconds)
        await self._operators.stop(grace_seconds)
        for path in self._paths:
            with suppress(FileNotFoundError):
                os.unlink(path)

    def _bind(self, server: grpc.aio.Server, address: Address, option: str) -> Address:
        credentials = None if self._tls is None else self._tls.server_credentials()
        bound = bind(server, address, option, credentials)
        if address.path:
            self._paths.append(address.path)
        return bound
