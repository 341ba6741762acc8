"""The two measures: guests at work with a probe beside them, and what an idle guest costs."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any

from bench.client import guest_stub
from bench.cluster.load import between, working
from bench.cluster.settings import Settings
from bench.processes import Server, host_server
from shared.arch import Orc
from shared.essa.v1 import essa_pb2 as pb


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many guests at once: what they did a second together, and unary ESSAs beside them."""

    guests: int
    seconds: float
    requests_per_second: float
    commands_per_second: float
    commands_per_message: float
    discard_faults_per_second: float
    errors: int
    unary_calls: int
    unary_p50_ms: float
    unary_p99_ms: float

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Idle:
    """Growth of the daemon's resident set by guests that have their streams open and do nothing."""

    guests: int
    growth_bytes: int

    @property
    def bytes_per_guest(self) -> float:
        """Of the growth."""
        return self.growth_bytes / self.guests


async def crowd(guest_count: int, settings: Settings) -> Crowd:
    """Let so many guests work on a host of their own."""
    frames = guest_count * settings.guest_frames + settings.guest_pages
    slots = (guest_count + 1) * settings.guest_pages
    with tempfile.TemporaryDirectory(prefix="essa-bench-") as name:
        listen, control = f"unix:{name}/g", f"unix:{name}/c"
        options = ("--memory", str(frames), "--paging-size", str(slots))
        with host_server(listen, control, *options):
            async with working(listen, guest_count, settings) as load, guest_stub(listen) as stub:
                session = await _open(stub, "probe", settings)
                await asyncio.sleep(settings.warm_seconds)
                before, begun = await load.sample(), time.monotonic()
                times = await _probe(stub, session, begun + settings.seconds, settings)
                seconds = time.monotonic() - begun
                done = between(before, await load.sample())
    return Crowd(
        guests=guest_count,
        seconds=seconds,
        requests_per_second=done.requests,
        commands_per_second=done.commands,
        commands_per_message=done.commands / done.messages if done.messages else 0.0,
        discard_faults_per_second=done.discard_faults,
        errors=done.errors,
        unary_calls=len(times),
        unary_p50_ms=percentile(times, 0.50) * 1e3,
        unary_p99_ms=percentile(times, 0.99) * 1e3,
    )


async def _open(stub: Any, name: str, settings: Settings) -> pb.Session:
    request = pb.OpenGuestRequest(
        name=name,
        page_count=settings.guest_pages,
        vcpu_count=settings.vcpu_count,
        mode=pb.MODE_SEED,
    )
    response: pb.OpenGuestResponse = await stub.OpenGuest(request)
    return response.session


async def _probe(stub: Any, session: pb.Session, until: float, settings: Settings) -> list[float]:
    """Seconds of unary ESSAs, one in flight, over all pages and five operations in turn."""
    orcs = [orc for orc in Orc if orc is not Orc.SET_STABLE_MAKE_RESIDENT]
    times: list[float] = []
    while not times or time.monotonic() < until:
        number = len(times)
        essa = pb.Essa(orc=orcs[number % len(orcs)], pfn=number % settings.guest_pages)
        begun = time.monotonic()
        await stub.ExecuteEssa(pb.ExecuteEssaRequest(session=session, essa=essa))
        times.append(time.monotonic() - begun)
        await asyncio.sleep(settings.probe_pause_seconds)
    return times


def percentile(times: list[float], share: float) -> float:
    """The smallest of the times that so large a share does not exceed."""
    ordered = sorted(times)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


async def idle(settings: Settings) -> Idle:
    """Open guests on a host of their own, each on a connection of its own."""
    slots = str((settings.idle_guests + 1) * settings.guest_pages)
    with tempfile.TemporaryDirectory(prefix="essa-bench-") as name:
        listen, control = f"unix:{name}/g", f"unix:{name}/c"
        with host_server(listen, control, "--memory", "64M", "--paging-size", slots) as server:
            async with AsyncExitStack() as stack:
                await _idle_guest(stack, listen, "first", settings)  # what is paid only once
                before = server.resident_bytes()
                for number in range(settings.idle_guests):
                    await _idle_guest(stack, listen, f"idle-{number}", settings)
                growth = await _settled(server) - before
    return Idle(settings.idle_guests, growth)


async def _idle_guest(stack: AsyncExitStack, listen: str, name: str, settings: Settings) -> None:
    stub = await stack.enter_async_context(guest_stub(listen))
    session = await _open(stub, name, settings)
    execute = stub.Execute()
    stack.callback(execute.cancel)
    await execute.write(pb.ExecuteRequest(session=session))
    faults = stub.SubscribeFaults(pb.SubscribeFaultsRequest(session=session))
    stack.callback(faults.cancel)
    await faults.initial_metadata()


async def _settled(server: Server) -> int:
    await asyncio.sleep(0.2)
    return server.resident_bytes()
