"""Over TLS a peer is who its certificate says, and reaches what its role is for.

Method: one host behind real sockets; the same calls with certificates of each role, and none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from shared.errors import EssaError, IdentityMismatchError, RoleNotAllowedError
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.identity import Role
from shared.rpc.channel import Address, HostUnreachableError, call, connect
from shared.rpc.status import error_of
from tests.rpc.world import DEADLINE_SECONDS, Connection, World, running_host
from tests.security.people import People

STUBS: Any = essa_pb2_grpc


class Overhearing(STUBS.EssaServiceServicer):  # type: ignore[misc]
    """What passes for a host and notes who opens a guest."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def OpenGuest(self, request: Any, context: Any) -> Any:
        self.heard.append(request.name)
        return pb.OpenGuestResponse()


class Visitors:
    """Channels to a secure world, by role and name."""

    def __init__(self, world: World, people: People) -> None:
        self.world, self.people = world, people
        self.guests, self.operators = world.secure

    def channel(self, address: Address, role: Role | None, name: str = "guest") -> Any:
        credentials = None
        if role is not None:
            credentials = self.people.tls(role, name).channel_credentials()
        channel = connect(address, credentials)
        self.world.channels.append(channel)
        return channel

    def guest(self, name: str) -> Any:
        return STUBS.EssaServiceStub(self.channel(self.guests, Role.GUEST, name))

    async def open(self, name: str, stub: Any, page_count: int = 64) -> pb.Session:
        request = pb.OpenGuestRequest(
            name=name, page_count=page_count, vcpu_count=2, mode=pb.MODE_SEED
        )
        return (await call(stub, "OpenGuest", request)).session


def visit(directory: Path, test: Callable[[Visitors], Awaitable[None]]) -> None:
    async def body() -> None:
        people = People(directory / "people")
        tls = people.tls(Role.HOST, "host")
        async with asyncio.timeout(DEADLINE_SECONDS), running_host(directory, tls=tls) as world:
            await test(Visitors(world, people))

    asyncio.run(body())


def test_roles_and_names(tmp_path: Path) -> None:
    async def test(visitors: Visitors) -> None:
        web = visitors.guest("web")
        session = await visitors.open("web", web)
        connection = Connection(web, session)
        await connection.send_message(pb.ExecuteRequest())  # a stream is admitted

        mail = visitors.guest("mail")
        with pytest.raises(IdentityMismatchError) as caught:
            await visitors.open("web", mail)
        assert caught.value.metadata == {"guest": "web", "certificate": "mail"}
        stolen = pb.ExecuteEssaRequest(session=session, essa=pb.Essa(orc=2))
        with pytest.raises(IdentityMismatchError):
            await call(mail, "ExecuteEssa", stolen)
        failure = await _failure(mail.SubscribeFaults(pb.SubscribeFaultsRequest(session=session)))
        assert isinstance(failure, IdentityMismatchError)

        for address, role in (
            (visitors.guests, Role.OPERATOR),
            (visitors.guests, Role.HOST),
            (visitors.operators, Role.GUEST),
            (visitors.operators, Role.HOST),
        ):
            channel = visitors.channel(address, role)
            stubs = STUBS.EssaServiceStub(channel), STUBS.ControlServiceStub(channel)
            tried = (
                (stubs[0], "ExecuteEssa", stolen)
                if address is visitors.guests
                else (stubs[1], "GetStatus", pb.GetStatusRequest())
            )
            with pytest.raises(RoleNotAllowedError):
                await call(*tried)
            assert isinstance(await _reflected(channel), RoleNotAllowedError)
            health = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING

        operator = STUBS.ControlServiceStub(visitors.channel(visitors.operators, Role.OPERATOR))
        assert (await call(operator, "GetStatus", pb.GetStatusRequest())).guest_count == 1
        assert await _reflected(visitors.channel(visitors.guests, Role.GUEST)) is None
        # Whoever reaches the socket in the file system is trusted, as without TLS.
        await visitors.world.open_guest("local")

    visit(tmp_path, test)


def test_nobody_gets_in_without_a_certificate_of_the_authority(tmp_path: Path) -> None:
    async def test(visitors: Visitors) -> None:
        stranger = People(tmp_path / "strangers").tls(Role.GUEST, "web")
        own = grpc.ssl_channel_credentials(
            visitors.people.authority.pem, stranger.key, stranger.certificate
        )
        nothing = grpc.ssl_channel_credentials(visitors.people.authority.pem)
        for credentials in (None, own, nothing):
            channel = connect(visitors.guests, credentials)
            visitors.world.channels.append(channel)
            with pytest.raises(HostUnreachableError, match="UNAVAILABLE"):
                await visitors.open("web", STUBS.EssaServiceStub(channel))
        assert visitors.world.shell.host.guest_ids() == []

    visit(tmp_path, test)


def test_a_guest_talks_to_no_impostor(tmp_path: Path) -> None:
    """Neither to a host of another authority, nor to a peer of its own that is no host."""

    async def test() -> None:
        people = People(tmp_path / "people")
        credentials = people.tls(Role.GUEST, "web").channel_credentials()
        request = pb.OpenGuestRequest(name="web", page_count=64, vcpu_count=1, mode=pb.MODE_SEED)
        callees = (
            (people.tls(Role.HOST, "host"), ["web"]),
            (People(tmp_path / "strangers").tls(Role.HOST, "host"), []),
            (people.tls(Role.GUEST, "mail"), []),
        )
        for callee, heard in callees:
            server = grpc.aio.server()
            servicer = Overhearing()
            STUBS.add_EssaServiceServicer_to_server(servicer, server)
            port = server.add_secure_port("localhost:0", callee.server_credentials())
            await server.start()
            channel = connect(Address(host="localhost", port=port), credentials)
            try:
                with suppress(HostUnreachableError):
                    await call(STUBS.EssaServiceStub(channel), "OpenGuest", request)
            finally:
                await channel.close(None)
                await server.stop(None)
            assert servicer.heard == heard

    asyncio.run(asyncio.wait_for(test(), DEADLINE_SECONDS))


async def _failure(stream: Any) -> EssaError | None:
    try:
        async for _ in stream:
            return None
    except grpc.aio.AioRpcError as error:
        return error_of(error)
    return None


async def _reflected(channel: Any) -> EssaError | None:
    """What reflection answers, if that is an error."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    return await _failure(stub.ServerReflectionInfo(iter([request])))
