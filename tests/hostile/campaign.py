"""A hostile client against a real host: so many calls, several at a time, and their statuses.

It has a guest of its own, as whoever may open one has; the honest guests' tokens it has not.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc.channel import Address, call
from tests.hostile.calls import ask, connect_unbounded
from tests.hostile.messages import Generator
from tests.hostile.statuses import CLEAR, METHODS
from tests.rpc.world import Connection

AT_A_TIME: Final = 24
PATIENCE_SECONDS: Final = 60.0
"""For an answer, on a machine that may be busy."""
LASTING_SECONDS: Final = 1.0
"""Of a call that may have no end by itself: a subscription, or a command that is parked."""


@dataclass(slots=True)
class Told:
    """What came of the calls. unclear: those whose status is not one of their method's."""

    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    unclear: list[str] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """How many were made."""
        return sum(sum(counts.values()) for counts in self.statuses.values())


async def attack(
    guests: Address, operators: Address, taken: str, messages: int, seed: int, told: Told
) -> None:
    """Make so many calls, and add what is told. taken: the name of a guest that is open."""
    channels = [connect_unbounded(guests), connect_unbounded(operators)]
    name = f"hostile-{seed}"
    try:
        connection = await _own_guest(channels[0], name)
        generator, numbers = Generator(seed, connection.session, name, taken), iter(range(messages))

        async def caller() -> None:
            for number in numbers:
                method = METHODS[number % len(METHODS)]
                raw = generator.message(method.input_type)
                clear = CLEAR[method.full_name]
                lasts = "DEADLINE_EXCEEDED" in clear
                channel = channels[method.containing_service.name == "ControlService"]
                seconds = LASTING_SECONDS if lasts else PATIENCE_SECONDS
                answer = await ask(channel, method, raw, seconds)
                told.statuses.setdefault(method.name, Counter())[answer.status] += 1
                if answer.status not in clear:
                    told.unclear.append(f"{number}: {method.name}: {answer}: {raw[:60]!r}")

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_A_TIME):
                group.create_task(caller())
        connection.cut()
    finally:
        for channel in channels:
            await channel.close(None)


async def _own_guest(channel: Any, name: str) -> Connection:
    """With an open connection, so that its name is held."""
    stub = essa_pb2_grpc.EssaServiceStub(channel)  # type: ignore[no-untyped-call]
    request = pb.OpenGuestRequest(
        name=name, page_count=64, vcpu_count=4, device_count=2, mode=pb.MODE_SEED
    )
    opened: pb.OpenGuestResponse = await call(stub, "OpenGuest", request)
    connection = Connection(stub, opened.session)
    await connection.send_message(pb.ExecuteRequest())
    return connection
