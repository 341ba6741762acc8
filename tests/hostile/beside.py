"""A host in this process with a victim, and the calls that are made beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from google.protobuf.message_factory import GetMessageClass

from shared.essa.v1 import essa_pb2 as pb
from tests.hostile.calls import Answer, ask
from tests.hostile.statuses import LASTS
from tests.hostile.victim import Victim, open_victim
from tests.rpc.world import World, play

SECONDS: Final = 10.0
SHORT_SECONDS: Final = 0.2
"""For calls that last."""


def message(method: Any, session: pb.Session | None) -> bytes:
    """A request of that method with nothing but a session, if it takes one."""
    request = GetMessageClass(method.input_type)()
    if session is not None and takes_session(method):
        request.session.CopyFrom(session)
    raw: bytes = request.SerializeToString()
    return raw


def channel_of(world: World, method: Any) -> Any:
    """To the socket where the method is served."""
    return world.control_channel if of_operators(method) else world.channel


def of_operators(method: Any) -> bool:
    """Whether guests have no business with it."""
    return bool(method.containing_service.name == "ControlService")


def takes_session(method: Any) -> bool:
    """Whether its message carries a token."""
    return "session" in method.input_type.fields_by_name


async def told(channel: Any, method: Any, raw: bytes, expected: Answer | None) -> Answer:
    """What the host answers; calls that are expected to last are not waited for."""
    return await ask(channel, method, raw, SHORT_SECONDS if expected == LASTS else SECONDS)


def beside_a_victim(test: Callable[[World, Victim], Awaitable[None]], directory: Path) -> None:
    """Run a test against a host with a victim, to which nothing must happen."""

    async def body(world: World) -> None:
        victim = await open_victim(world.essa, world.control)
        await test(world, victim)
        assert await victim.changes() == []

    play(body, directory)
