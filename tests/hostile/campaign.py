"""A hostile client against a real host: so many calls, several at a time, and their statuses.

Rules:
- It has a guest of its own, as whoever may open one has; the honest guests' tokens it has not.
- InjectFault is only for operators, who may do harm: of the control service it is left out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc.channel import call, connect, parse_address
from tests.hostile.messages import Generator

AT_A_TIME: Final = 24
PATIENCE_SECONDS: Final = 60.0
"""For an answer, on a machine that may be busy."""
ENDLESS_SECONDS: Final = 1.0
"""Of a call that has no end by itself, such as a subscription or a command that is parked."""
LEFT_OUT: Final = frozenset({"InjectFault"})
CLEAR: Final = frozenset(
    {
        "OK",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "ABORTED",
        "RESOURCE_EXHAUSTED",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "CANCELLED",
    }
)
ENDLESS: Final = frozenset({"Execute", "ExecuteEssa", "SubscribeFaults", "WatchEvents"})
"""Of these alone DEADLINE_EXCEEDED is clear: a call without an end was ended by us."""


@dataclass(slots=True)
class Told:
    """What came of the calls. unclear: the texts of statuses that say nothing, with their call."""

    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    unclear: list[str] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """How many were made."""
        return sum(sum(counts.values()) for counts in self.statuses.values())


def _methods() -> list[tuple[str, Any]]:
    """Both services' methods with the targets that serve them."""
    services = pb.DESCRIPTOR.services_by_name
    return [
        (name, method)
        for name in ("EssaService", "ControlService")
        for method in services[name].methods
        if method.name not in LEFT_OUT
    ]


async def attack(listen: str, control: str, messages: int, seed: int) -> Told:
    """Make so many calls."""
    told = Told()
    channels = {
        "EssaService": connect(parse_address(listen, "listen")),
        "ControlService": connect(parse_address(control, "control")),
    }
    try:
        session = await _own_guest(channels["EssaService"], seed)
        generator, numbers = Generator(seed, session), iter(range(messages))
        methods = _methods()

        async def caller() -> None:
            for number in numbers:
                service, method = methods[number % len(methods)]
                raw = generator.message(method.input_type)
                status, text = await _call(channels[service], service, method, raw)
                told.statuses.setdefault(method.name, Counter())[status] += 1
                ended = status == "DEADLINE_EXCEEDED" and method.name in ENDLESS
                if status not in CLEAR and not ended:
                    told.unclear.append(f"{number}: {method.name}: {status}: {text}: {raw[:60]!r}")

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_A_TIME):
                group.create_task(caller())
    finally:
        for channel in channels.values():
            await channel.close(None)
    return told


async def _own_guest(channel: grpc.aio.Channel, seed: int) -> pb.Session:
    stub = essa_pb2_grpc.EssaServiceStub(channel)  # type: ignore[no-untyped-call]
    request = pb.OpenGuestRequest(
        name=f"hostile-{seed}", page_count=64, vcpu_count=4, device_count=2, mode=pb.MODE_SEED
    )
    opened: pb.OpenGuestResponse = await call(stub, "OpenGuest", request)
    return opened.session


async def _call(channel: Any, service: str, method: Any, raw: bytes) -> tuple[str, str]:
    path = f"/essa.v1.{service}/{method.name}"
    seconds = ENDLESS_SECONDS if method.name in ENDLESS else PATIENCE_SECONDS
    try:
        if method.client_streaming:
            stream = channel.stream_stream(path)(timeout=seconds)
            await stream.write(raw)
            await stream.done_writing()
            async for _ in stream:
                pass
        elif method.server_streaming:
            async for _ in channel.unary_stream(path)(raw, timeout=seconds):
                pass
        else:
            await channel.unary_unary(path)(raw, timeout=seconds)
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    except asyncio.InvalidStateError:  # the host had ended the stream before we wrote
        return "CANCELLED", ""
    return "OK", ""
