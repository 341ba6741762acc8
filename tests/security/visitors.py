"""A host over TLS, and channels to it for whoever comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.identity import Role
from shared.rpc.channel import Address, call, connect
from tests.rpc.world import DEADLINE_SECONDS, World, running_host
from tests.security.people import People

STUBS: Any = essa_pb2_grpc


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

    async def ready(self, address: Address, role: Role, name: str) -> Any:
        """A channel that is connected, however busy the machine is."""
        channel = self.channel(address, role, name)
        await channel.channel_ready()
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
