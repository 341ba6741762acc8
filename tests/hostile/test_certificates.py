"""Over TLS another guest's token is worth nothing, and a role reaches no method of the other one.

Method: as in test_tokens, with the right token of a victim that itself came over TLS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.essa.v1 import essa_pb2 as pb
from shared.identity import Role
from shared.rpc.channel import call
from tests.hostile.beside import message, of_operators
from tests.hostile.calls import ask
from tests.hostile.statuses import METHODS, PLACES, TOKENS
from tests.hostile.victim import open_victim
from tests.security.visitors import STUBS, Visitors, visit


def stolen(method: Any, session: pb.Session) -> bytes:
    """A request with another guest's token, or in its name."""
    if method.name == "OpenGuest":
        request = pb.OpenGuestRequest(
            name="victim", page_count=1, vcpu_count=1, mode=pb.MODE_SEED, take_over=True
        )
        raw: bytes = request.SerializeToString()
        return raw
    return message(method, session)


def test_a_stolen_token_is_worth_nothing_without_its_certificate(tmp_path: Path) -> None:
    async def test(visitors: Visitors) -> None:
        honest, thief = [
            await visitors.ready(visitors.guests, Role.GUEST, name) for name in ("victim", "thief")
        ]
        victim = await open_victim(STUBS.EssaServiceStub(honest), visitors.world.control)
        own = await visitors.open("thief", STUBS.EssaServiceStub(thief))
        for method in METHODS:
            expected = TOKENS[method.full_name]["stolen"]
            if expected is not None:
                raw = stolen(method, victim.session)
                assert await ask(thief, method, raw) == expected, method.name
        # Not vacuously: each is let in with its own token.
        for channel, session in ((thief, own), (honest, victim.session)):
            request = pb.AcknowledgeFaultsRequest(session=session)
            await call(STUBS.EssaServiceStub(channel), "AcknowledgeFaults", request)
        assert await victim.changes() == []

    visit(tmp_path, test)


@pytest.mark.parametrize("role", Role)
def test_a_role_reaches_the_methods_that_it_is_for(tmp_path: Path, role: Role) -> None:
    async def test(visitors: Visitors) -> None:
        world = visitors.world
        victim = await open_victim(world.essa, world.control)
        guests, operators = [
            await visitors.ready(address, role, "victim")
            for address in (visitors.guests, visitors.operators)
        ]
        for method in METHODS:
            wanted = Role.OPERATOR if of_operators(method) else Role.GUEST
            raw = message(method, victim.session)
            rows = PLACES[method.full_name]
            there, elsewhere = (operators, guests)[:: 1 if of_operators(method) else -1]
            if role is not wanted:
                assert await ask(there, method, raw) == rows["role"], method.name
            assert await ask(elsewhere, method, raw) == rows["elsewhere"], method.name
        assert await victim.changes() == []

    visit(tmp_path, test)
