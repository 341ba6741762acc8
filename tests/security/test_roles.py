"""Over TLS a peer is who its certificate says, and reaches what its role is for.

Method: one host behind real sockets; the same calls with certificates of each role, and none.
What every single method answers is in tests/hostile.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from shared.errors import EssaError, IdentityMismatchError, RoleNotAllowedError
from shared.essa.v1 import essa_pb2 as pb
from shared.identity import Role
from shared.rpc.channel import Address, HostUnreachableError, call, connect
from shared.rpc.status import error_of
from tests.rpc.world import DEADLINE_SECONDS, Connection
from tests.security.people import People
from tests.security.visitors import STUBS, Visitors, visit


class Overhearing(STUBS.EssaServiceServicer):  # type: ignore[misc]
    """What passes for a host and notes who opens a guest."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def OpenGuest(self, request: Any, context: Any) -> Any:
        self.heard.append(request.name)
        return pb.OpenGuestResponse()


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

        for address, role in (
            (visitors.guests, Role.OPERATOR),
            (visitors.guests, Role.HOST),
            (visitors.operators, Role.GUEST),
            (visitors.operators, Role.HOST),
        ):
            channel = visitors.channel(address, role)
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
