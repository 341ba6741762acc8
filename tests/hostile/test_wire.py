"""Messages that are too long, no messages at all, or more than we know, to every method.

Method: appended to a message that is right, so that nothing else is wrong with it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.essa.v1 import essa_pb2 as pb
from shared.rpc.channel import MESSAGE_BYTES_MAX
from tests.hostile.beside import beside_a_victim, channel_of, message, of_operators, told
from tests.hostile.calls import ask, connect_unbounded
from tests.hostile.statuses import METHODS, PLACES, TOKENS
from tests.hostile.victim import Victim
from tests.hostile.wire import IGNORED, MALFORMED, OVERSIZE, wrong_insides, wrong_types
from tests.rpc.world import World

MALFORMED_TEXT = "the message is malformed"


@pytest.mark.parametrize("form", MALFORMED)
def test_what_is_no_message_is_invalid(tmp_path: Path, form: str) -> None:
    async def test(world: World, victim: Victim) -> None:
        own = await world.open_guest("own")
        for method in METHODS:
            raw = message(method, own) + MALFORMED[form]
            answer = await ask(channel_of(world, method), method, raw)
            assert answer == PLACES[method.full_name]["malformed"], method.name
            assert answer.text == MALFORMED_TEXT

    beside_a_victim(test, tmp_path)


def test_what_is_no_message_inside_is_invalid(tmp_path: Path) -> None:
    async def test(world: World, victim: Victim) -> None:
        own = await world.open_guest("own")
        tried = set()
        for method in METHODS:
            for name, inside in wrong_insides(method.input_type):
                raw = message(method, own) + inside
                answer = await ask(channel_of(world, method), method, raw)
                assert answer == PLACES[method.full_name]["malformed"], (method.name, name)
                assert answer.text == MALFORMED_TEXT
                tried.add(f"{method.name}{name}")
        assert {"ExecuteEssa.essa", "Execute.commands.store", "InjectFault.fault.guests"} <= tried

    beside_a_victim(test, tmp_path)


def test_what_nobody_knows_is_ignored(tmp_path: Path) -> None:
    """Fields of a later proto, and fields that are not of the type that they have here."""

    async def test(world: World, victim: Victim) -> None:
        own = await world.open_guest("own")
        for method in METHODS:
            expected = TOKENS[method.full_name]["own"]
            more = b"".join(IGNORED.values()) + wrong_types(method.input_type)
            raw = message(method, own) + more
            answer = await told(channel_of(world, method), method, raw, expected)
            assert answer == expected, method.name

    beside_a_victim(test, tmp_path)


def test_what_is_too_long_is_refused_and_connections_stay(tmp_path: Path) -> None:
    async def test(world: World, victim: Victim) -> None:
        own = await world.open_guest("own")
        connection = world.connect(own)
        await connection.send_message(pb.ExecuteRequest())
        guests, operators = map(connect_unbounded, (world.listen, world.control_address))
        world.channels += [guests, operators]
        for method in METHODS:
            raw = message(method, own) + OVERSIZE
            answer = await ask(operators if of_operators(method) else guests, method, raw)
            assert answer == PLACES[method.full_name]["oversize"], method.name
        # As long as may be, and no longer.
        largest = OVERSIZE[:MESSAGE_BYTES_MAX]
        acknowledge = next(method for method in METHODS if method.name == "AcknowledgeFaults")
        answer = await ask(guests, acknowledge, largest)
        assert answer == PLACES[acknowledge.full_name]["malformed"]
        connection.cut()

    beside_a_victim(test, tmp_path)
