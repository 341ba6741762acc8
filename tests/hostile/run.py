"""A host process with honest guests at work and a quiet one, and a hostile client beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import GuestNotFoundError
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc.channel import call, connect, parse_address
from tests.hostile.campaign import Told, attack
from tests.hostile.honest import NAMES, HonestGuests
from tests.hostile.victim import open_victim
from tests.process.host_process import HostProcess

GROWTH_MAX = 32 << 20
"""Of the host's memory after the first tenth of the calls, in bytes."""
SETTLE_READINGS = 20
TELL_SECONDS = 2.0
LOOK_SECONDS = 0.05

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Aftermath:
    """told: of the calls. seconds: what they took. resident: the host's memory after the first
    tenth, and at the end, in bytes. work: operations of the honest guests that ended meanwhile, by
    name. wrong: everything that must not be."""

    told: Told
    seconds: float
    resident: tuple[int, int]
    work: dict[str, int]
    wrong: list[str]


def beset(
    directory: Path, messages: int, seed: int, operations: int, tell: Tell = lambda line: None
) -> Aftermath:
    """Run it all to its end. operations: of each honest guest. tell: how far it is."""
    with HostProcess(directory, "--memory", "320", "--paging-size", "64M") as host:
        after = asyncio.run(_beset(host, messages, seed, operations, tell))
        code, log = host.stop()
    bugs = ("bug_found", "Traceback")
    after.wrong.extend(line for line in log.splitlines() if any(bug in line for bug in bugs))
    if code:
        after.wrong.append(f"the host ended with {code}")
    return after


def resident_bytes(process_id: int) -> int:
    """The resident set of a process."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


async def _beset(
    host: HostProcess, messages: int, seed: int, operations: int, tell: Tell
) -> Aftermath:
    where = parse_address(host.listen, "listen"), parse_address(host.control, "control")
    channels = [connect(address) for address in where]
    stubs: Any = essa_pb2_grpc
    control = stubs.ControlServiceStub(channels[1])
    told, first = Told(), messages // 10
    try:
        # Nothing of it is resident: the host is short of memory, and would take it away.
        victim = await open_victim(
            stubs.EssaServiceStub(channels[0]), control, "victim", evicted=True
        )
        with HonestGuests(host.listen, operations) as honest:
            for name in NAMES:
                await _at_work(control, name)
            began = time.monotonic()
            telling = asyncio.create_task(_tell(host, told, honest, messages, tell))
            await attack(*where, victim.name, first, seed, told)
            before = await _settled_bytes(host.process_id)
            await attack(*where, victim.name, messages - first, seed + 1, told)
            over = time.monotonic()
            after = await _settled_bytes(host.process_id)
            telling.cancel()
            wrong = [*told.unclear, *await victim.changes()]
            await asyncio.to_thread(honest.wait)
        faults = (await call(control, "ListFaults", pb.ListFaultsRequest())).faults
        wrong += [f"a fault was injected: {fault}" for fault in faults]
    finally:
        for channel in channels:
            await channel.close(None)
    for ended in honest.ended:
        wrong += ended.wrong(operations)
    work = dict.fromkeys(NAMES, 0)
    for ended in honest.ended:
        if ended.at < over:
            work[ended.name] += operations
    wrong += [f"{name} has done nothing meanwhile" for name in NAMES if not work[name]]
    if after - before > GROWTH_MAX:
        wrong.append(f"memory grew from {before} to {after} bytes")
    return Aftermath(told, over - began, (before, after), work, wrong)


async def _settled_bytes(process_id: int) -> int:
    """What the process needs when nobody sends it anything large: the least of some readings."""
    readings = []
    for _ in range(SETTLE_READINGS):
        await asyncio.sleep(LOOK_SECONDS)
        readings.append(resident_bytes(process_id))
    return min(readings)


async def _at_work(control: Any, name: str) -> None:
    """Return when the guest has executed an ESSA."""
    while True:
        try:
            response = await call(control, "GetGuest", pb.GetGuestRequest(name=name))
        except GuestNotFoundError:
            pass  # it has yet to come
        else:
            if any(response.guest.counters.essa_counts):
                return
        await asyncio.sleep(LOOK_SECONDS)


async def _tell(
    host: HostProcess, told: Told, honest: HonestGuests, messages: int, tell: Tell
) -> None:
    while True:
        await asyncio.sleep(TELL_SECONDS)
        tell(
            f"{told.calls} of {messages} calls, {len(told.unclear)} unclear; "
            f"{len(honest.ended)} honest guests ended; "
            f"the host has {resident_bytes(host.process_id) >> 20} MiB"
        )
