"""Every call of the wire with every token that is not one's own: refused, and nothing has happened.

Method: the methods come from the descriptor, and what each is told stands in its rows of
`statuses`. Beside it is a guest that looks after itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.essa.v1 import essa_pb2 as pb
from shared.rpc.channel import call
from tests.hostile.beside import (
    beside_a_victim,
    channel_of,
    message,
    of_operators,
    takes_session,
    told,
)
from tests.hostile.calls import ask
from tests.hostile.statuses import CLEAR, METHODS, PLACES, TOKENS
from tests.hostile.victim import Victim
from tests.rpc.world import INCARNATION, World

FORGED = b"f" * 16
WRONG: dict[str, Callable[[pb.Session], pb.Session | None]] = {
    "missing": lambda own: None,
    "empty": lambda own: pb.Session(incarnation=INCARNATION),
    "forged": lambda own: pb.Session(token=FORGED, incarnation=INCARNATION),
    "long": lambda own: pb.Session(token=own.token + b"f", incarnation=INCARNATION),
    "stale": lambda own: pb.Session(token=FORGED, incarnation=INCARNATION + 1),
    "outdated": lambda own: pb.Session(token=own.token, incarnation=INCARNATION + 1),
}


def test_every_method_has_its_rows() -> None:
    names = {method.full_name for method in METHODS}
    assert set(TOKENS) == set(PLACES) == set(CLEAR) == names
    for method in METHODS:
        cases = TOKENS[method.full_name]
        for case in (*WRONG, "closed"):
            assert (cases[case] is not None) is takes_session(method), f"{method.name}: {case}"


def test_a_call_with_its_own_token_is_told_what_it_lacks(tmp_path: Path) -> None:
    async def test(world: World, victim: Victim) -> None:
        own = await world.open_guest("own")
        for method in METHODS:
            expected = TOKENS[method.full_name]["own"]
            channel = channel_of(world, method)
            assert await told(channel, method, message(method, own), expected) == expected, (
                method.name
            )

    beside_a_victim(test, tmp_path)


@pytest.mark.parametrize("case", WRONG)
def test_no_call_is_let_in_without_a_token_of_its_own(tmp_path: Path, case: str) -> None:
    async def test(world: World, victim: Victim) -> None:
        session = WRONG[case](victim.session)
        for method in filter(takes_session, METHODS):
            expected = TOKENS[method.full_name][case]
            answer = await ask(world.channel, method, message(method, session))
            assert answer == expected, method.name

    beside_a_victim(test, tmp_path)


def test_the_token_of_a_closed_guest_is_worth_nothing(tmp_path: Path) -> None:
    async def test(world: World, victim: Victim) -> None:
        gone = await world.open_guest("gone")
        await call(world.essa, "CloseGuest", pb.CloseGuestRequest(session=gone))
        for method in filter(takes_session, METHODS):
            expected = TOKENS[method.full_name]["closed"]
            assert await ask(world.channel, method, message(method, gone)) == expected, method.name

    beside_a_victim(test, tmp_path)


@pytest.mark.parametrize("case", ["forged", "outdated", "another's"])
def test_a_stream_keeps_its_session(tmp_path: Path, case: str) -> None:
    reasons = {
        "forged": "INVALID_TOKEN",
        "outdated": "STALE_INCARNATION",
        "another's": "INVALID_REQUEST",
    }

    async def test(world: World, victim: Victim) -> None:
        own = await world.open_guest("own")
        session = victim.session if case == "another's" else WRONG[case](own)
        connection = world.connect(own)
        await connection.send_message(pb.ExecuteRequest())
        await connection.send_message(pb.ExecuteRequest(session=session))
        failure = await connection.failure()
        assert failure is not None
        assert failure.reason == reasons[case]

    beside_a_victim(test, tmp_path)


def test_no_service_is_served_where_the_other_one_is(tmp_path: Path) -> None:
    async def test(world: World, victim: Victim) -> None:
        for method in METHODS:
            expected = PLACES[method.full_name]["elsewhere"]
            others = world.channel if of_operators(method) else world.control_channel
            answer = await ask(others, method, message(method, victim.session))
            assert answer == expected, method.name

    beside_a_victim(test, tmp_path)
