"""Every call of the wire with every token that is not one's own: refused, and nothing has happened.

Method: the methods come from the descriptor, so that a new one is tried, or named as one that
needs no token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc.channel import call
from shared.rpc.status import error_of
from tests.rpc.world import INCARNATION, World, play

SERVICES = pb.DESCRIPTOR.services_by_name
WITHOUT_TOKEN = {"OpenGuest"}
METHODS = [m for m in SERVICES["EssaService"].methods if m.name not in WITHOUT_TOKEN]

TOKENS = {
    "missing": (None, "INVALID_TOKEN"),
    "empty": (pb.Session(incarnation=INCARNATION), "INVALID_TOKEN"),
    "forged": (pb.Session(token=b"f" * 16, incarnation=INCARNATION), "INVALID_TOKEN"),
    "too long": (pb.Session(token=b"f" * 17, incarnation=INCARNATION), "INVALID_TOKEN"),
    "stale": (pb.Session(token=b"f" * 16, incarnation=INCARNATION + 1), "STALE_INCARNATION"),
}


async def _refusal(stub: Any, method: Any, request: Any) -> str:
    """The reason of the host's refusal, or the status if it gave none."""
    try:
        made = getattr(stub, method.name)(
            iter([request]) if method.client_streaming else request, timeout=10
        )
        if method.server_streaming:
            async for _ in made:
                pass
        else:
            await made
    except grpc.aio.AioRpcError as error:
        refused = error_of(error)
        return error.code().name if refused is None else refused.reason
    return "OK"


def _seen(world: World) -> list[Any]:
    """Everything that a guest could notice: pages, faults, counters."""
    host = world.shell.host
    return [
        (host.page_map(number).tobytes(), repr(host.guest_statistics(number)))
        for number in host.guest_ids()
    ]


def _message(method: Any, session: pb.Session | None) -> Any:
    message = GetMessageClass(method.input_type)()
    if session is not None:
        message.session.CopyFrom(session)
    return message


@pytest.mark.parametrize("name", TOKENS)
def test_no_call_is_let_in_without_a_token_of_its_own(tmp_path: Path, name: str) -> None:
    session, reason = TOKENS[name]

    async def test(world: World) -> None:
        await world.open_guest("honest")
        before = _seen(world)
        for method in METHODS:
            told = await _refusal(world.essa, method, _message(method, session))
            assert told == reason, method.name
        assert _seen(world) == before

    play(test, tmp_path)


def test_the_right_token_of_another_incarnation_is_stale(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        own = await world.open_guest("honest")
        stale = pb.Session(token=own.token, incarnation=INCARNATION + 1)
        before = _seen(world)
        for method in METHODS:
            told = await _refusal(world.essa, method, _message(method, stale))
            assert told == "STALE_INCARNATION", method.name
        assert _seen(world) == before

    play(test, tmp_path)


def test_the_token_of_a_closed_guest_is_worth_nothing(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        stolen = await world.open_guest("gone")
        await call(world.essa, "CloseGuest", pb.CloseGuestRequest(session=stolen))
        await world.open_guest("honest")
        before = _seen(world)
        for method in METHODS:
            told = await _refusal(world.essa, method, _message(method, stolen))
            assert told == "INVALID_TOKEN", method.name
        assert _seen(world) == before

    play(test, tmp_path)


def test_operators_calls_are_not_served_where_guests_are(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        channel = world.channel
        stub = essa_pb2_grpc.ControlServiceStub(channel)  # type: ignore[no-untyped-call]
        for method in SERVICES["ControlService"].methods:
            told = await _refusal(stub, method, _message(method, None))
            assert told == "UNIMPLEMENTED", method.name

    play(test, tmp_path)
