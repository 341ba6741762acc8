"""The daemon's gRPC servers: one for guests, one for operators, each with health and reflection.

Rules:
- A socket that cannot be had is an InvalidRequestError naming the option and the reason. It
  is found out with a socket of our own, because the library only says that it failed.
- The operators' Unix socket belongs to its owner alone.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from host_daemon.rpc.control_service import ControlServicer
from host_daemon.rpc.guest_service import BugFound, EssaServicer
from host_daemon.rpc.injection import Injector
from host_daemon.rpc.peers import RoleInterceptor
from host_daemon.rpc.shell import HostShell
from shared.errors import InvalidRequestError
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.identity import Role
from shared.rpc.channel import SERVER_OPTIONS, Address
from shared.rpc.status import tolerant_deserializer

if TYPE_CHECKING:
    from shared.rpc.tls import Tls

_STUBS: Final[Any] = essa_pb2_grpc  # generated without types
_HEALTH: Final[Any] = health  # its types do not know of its aio half

PRIVATE_UMASK: Final = 0o177
_ESSA_SERVICE: Final = pb.DESCRIPTOR.services_by_name["EssaService"].full_name
_CONTROL_SERVICE: Final = pb.DESCRIPTOR.services_by_name["ControlService"].full_name


class _Registrar:
    """Stands in for a server while a service is added: makes its deserializers tolerant."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """The generated code says everything twice; the other way is easier to rewrite."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Register a service."""
        tolerant = {
            name: handler._replace(
                request_deserializer=tolerant_deserializer(handler.request_deserializer)
            )
            for name, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, tolerant),)
        )


class Servers:
    """Both servers. bug_found: see the servicers. injector: what operators inject goes there.

    tls: for TCP; None for plain ports.
    """

    def __init__(self, shell: HostShell, bug_found: BugFound, tls: Tls | None = None) -> None:
        self._health = _HEALTH.aio.HealthServicer()
        self._tls = tls
        self._guests = self._server(Role.GUEST)
        self._operators = self._server(Role.OPERATOR)
        self._paths: list[str] = []
        guests, operators = _Registrar(self._guests), _Registrar(self._operators)
        self.injector = Injector(shell)
        essa, control = (
            EssaServicer(shell, self.injector, bug_found, identified=tls is not None),
            ControlServicer(shell, self.injector, bug_found),
        )
        _STUBS.add_EssaServiceServicer_to_server(essa, guests)
        _STUBS.add_ControlServiceServicer_to_server(control, operators)
        for server, service in (
            (self._guests, _ESSA_SERVICE),
            (self._operators, _CONTROL_SERVICE),
        ):
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
            names = (service, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)

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
        for service in ("", _ESSA_SERVICE, _CONTROL_SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        await self._guests.start()
        await self._operators.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, let those under way end, then cut them off."""
        await self._health.enter_graceful_shutdown()
        await self._guests.stop(grace_seconds)
        await self._operators.stop(grace_seconds)
        for path in self._paths:
            with suppress(FileNotFoundError):
                os.unlink(path)

    def _bind(self, server: grpc.aio.Server, address: Address, option: str) -> Address:
        try:
            _try_socket(address)
            if self._tls is None or address.path:
                port = server.add_insecure_port(address.target)
            else:
                port = server.add_secure_port(address.target, self._tls.server_credentials())
        except OSError as error:
            raise _unusable(option, address, _reason(error)) from None
        except RuntimeError as error:  # somebody was faster, or the library is choosier
            raise _unusable(option, address, str(error)) from None
        if address.path:
            self._paths.append(address.path)
            return address
        return Address(host=address.host, port=port)


def _unusable(option: str, address: Address, reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{option} {address} cannot be used: {reason}", field=option, value=str(address)
    )


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "it is in use by another process"
    return error.strerror or str(error)


def _try_socket(address: Address) -> None:
    """Raise OSError unless the address can be bound."""
    if address.path:
        _try_path(address.path)
        return
    family, kind, protocol, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where)


def _try_path(path: str) -> None:
    """The library replaces whatever socket is there; one that somebody serves is not ours."""
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise OSError(errno.ENOENT, f"{directory} is no directory")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"{directory} is not writable")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "it exists and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return  # left over by a process that was killed
    raise OSError(errno.EADDRINUSE, "in use")
