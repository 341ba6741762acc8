"""The life of a real daemon: an exact resume after SIGTERM, a power failure after kill -9."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from host_daemon.paging.device import open_paging_device
from shared.arch import SP, SR, VZ
from shared.commands import (
    DONE,
    DiscardFault,
    Essa,
    EssaOutcome,
    FaultPending,
    KeyOutcome,
    Load,
    LoadOutcome,
    Rrbe,
    Store,
)
from shared.errors import StaleIncarnationError
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc.channel import call, connect, parse_address
from tests.process.host_process import DEADLINE_SECONDS, HostProcess, essa_here
from tests.rpc.world import Connection, FaultReader

pytestmark = pytest.mark.process

PAGES = 64
STORED = 40


class Client:
    """The two stubs, and one Execute stream."""

    def __init__(self, essa_stub: Any, control: Any) -> None:
        self.essa, self.control = essa_stub, control

    async def page_map(self) -> bytes:
        reply = await call(self.control, "GetPageMap", pb.GetPageMapRequest(name="guest"))
        return bytes(reply.states)

    async def faults(self, session: pb.Session) -> FaultReader:
        stream = self.essa.SubscribeFaults(pb.SubscribeFaultsRequest(session=session))
        await stream.initial_metadata()
        return FaultReader(stream)


def talk(host: HostProcess, work: Callable[[Client], Coroutine[Any, Any, Any]]) -> Any:
    async def body() -> Any:
        stubs: Any = essa_pb2_grpc
        channels = [connect(parse_address(a, "address")) for a in (host.listen, host.control)]
        client = Client(stubs.EssaServiceStub(channels[0]), stubs.ControlServiceStub(channels[1]))
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await work(client)
        finally:
            for channel in channels:
                await channel.close(None)

    return asyncio.run(body())


async def fill(client: Client) -> tuple[pb.Session, bytes]:
    """Pages resident, preserved and discarded; keys; a fault that nobody took."""
    request = pb.OpenGuestRequest(name="guest", page_count=PAGES, vcpu_count=2, mode=pb.MODE_SEED)
    session = (await call(client.essa, "OpenGuest", request)).session
    connection = Connection(client.essa, session)
    for pfn in range(STORED):
        assert await connection.ask(0, pfn + 1, Store(pfn, 0, b"%04d" % pfn)) == DONE
    assert await connection.ask(1, 1, Essa(3, 0)) == EssaOutcome(SR)
    evict = pb.EvictPagesRequest(name="guest")
    evict.ranges.add(first_pfn=0, page_count=20)
    await call(client.control, "EvictPages", evict)
    assert await connection.ask(1, 2, Load(0, 0, 4)) == FaultPending(1)
    assert await connection.ask(1, 3, Rrbe(30)) == KeyOutcome(0x06)
    return session, await client.page_map()


async def look(client: Client, session: pb.Session, states: bytes) -> None:
    """Everything is as `fill` left it."""
    now = await client.page_map()
    # A page-out that was under way at the signal is finished by it; nothing else moves.
    assert [s for s in now if s not in (SR, SP)] == [s for s in states if s not in (SR, SP)]
    assert now[0] == VZ
    connection = Connection(client.essa, session)
    assert await connection.ask(1, 3, Rrbe(30)) == KeyOutcome(0x06)  # repeated: answered
    assert await connection.ask(1, 4, Rrbe(30)) == KeyOutcome(0x02)
    for number, pfn in enumerate(range(1, STORED), STORED + 1):
        assert await connection.ask(0, number, Load(pfn, 0, 4)) == LoadOutcome(b"%04d" % pfn)
    assert await (await client.faults(session)).next() == DiscardFault(1, 1, 0)


def test_sigterm_resumes_exactly_and_kill_is_a_power_failure(tmp_path: Path) -> None:
    options = ("--memory", "128", "--paging-size", "256", "--state-dir", str(tmp_path))
    with HostProcess(tmp_path, *options) as host:
        assert host.values["resumed"] == "no"
        incarnation = host.values["incarnation"]
        session, states = talk(host, fill)
        code, errors = host.stop()
        assert code == 0, errors
        assert (tmp_path / "checkpoint").exists()
        assert not (tmp_path / "e").exists()
    with HostProcess(tmp_path, *options) as host:
        assert (host.values["resumed"], host.values["incarnation"]) == ("1", incarnation)
        assert not (tmp_path / "checkpoint").exists()
        talk(host, lambda client: look(client, session, states))
        host.stop(signal.SIGKILL)
    with HostProcess(tmp_path, *options) as host:
        assert host.values["resumed"] == "no"
        assert host.values["incarnation"] != incarnation

        async def stale(client: Client) -> None:
            request = pb.ExecuteEssaRequest(session=session, essa=pb.Essa(orc=1))
            with pytest.raises(StaleIncarnationError) as caught:
                await call(client.essa, "ExecuteEssa", request)
            assert caught.value.metadata["incarnation"] == host.values["incarnation"]

        talk(host, stale)
        assert host.stop(signal.SIGINT)[0] == 0


def test_a_checkpoint_is_resumed_only_as_it_was_and_kept_until_then(tmp_path: Path) -> None:
    options = ("--paging-size", "256", "--state-dir", str(tmp_path))
    sockets = ("--listen", f"unix:{tmp_path / 'e'}", "--control", f"unix:{tmp_path / 'c'}")
    with HostProcess(tmp_path, "--memory", "128", *options) as host:
        assert host.stop()[0] == 0
    checkpoint = tmp_path / "checkpoint"
    good = checkpoint.read_bytes()

    other = essa_here("host", *sockets, "--memory", "256", *options)
    assert (other.returncode, other.stdout) == (2, "")
    assert one_line(other.stderr).startswith("essa: --memory is 256; it must be 128")

    checkpoint.write_bytes(good[:100] + b"?" + good[101:])
    damaged = essa_here("host", *sockets, "--memory", "128", *options)
    assert damaged.returncode == 2
    assert "checkpoint is damaged" in one_line(damaged.stderr)
    checkpoint.write_bytes(good)

    foreign = tmp_path / "foreign"
    asyncio.run(make_paging_file(foreign))
    other_file = essa_here(
        "host", *sockets, "--memory", "128", *options, "--paging-file", str(foreign)
    )
    assert other_file.returncode == 2
    assert "belongs to another paging file" in one_line(other_file.stderr)

    (tmp_path / "paging").unlink()
    missing = essa_here("host", *sockets, "--memory", "128", *options)
    assert missing.returncode == 2
    assert "--paging-file" in one_line(missing.stderr)
    assert checkpoint.read_bytes() == good


async def make_paging_file(path: Path) -> None:
    await (await open_paging_device(path, 256)).close()


def one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    return text


def test_ctl_shows_and_evicts(tmp_path: Path) -> None:
    with HostProcess(tmp_path, "--memory", "1M") as host:
        talk(host, fill)
        control = ("--control", host.control)
        status = json.loads(essa_here("ctl", "status", "--json", *control).stdout)
        assert (status["frame_count"], status["guest_count"]) == (256, 1)
        assert status["incarnation"] == host.values["incarnation"]
        shown = json.loads(essa_here("ctl", "page-map", "guest", "--json", *control).stdout)
        assert shown["state_counts"] == {"Sr": 20, "Sp": 19, "Sz": 24, "Vz": 1}
        assert shown["runs"][0] == [0, 1, "Vz"]
        evicted = essa_here("ctl", "evict", "guest", "0x14-21", "63", "--json", *control)
        assert json.loads(evicted.stdout) == {"discarded": 0, "page_outs": 2, "skipped": 1}
        picture = essa_here("ctl", "page-map", "guest", *control).stdout
        assert picture.splitlines()[0] == "       0x0 x" + "s" * 21 + "S" * 18 + "." * 24
        (guest,) = json.loads(essa_here("ctl", "guests", "--json", *control).stdout)
        assert guest["state_counts"] == {"Sr": 18, "Sp": 21, "Sz": 24, "Vz": 1}
        assert "guest" in essa_here("ctl", "guests", *control).stdout
        assert "incarnation" in essa_here("ctl", "status", *control).stdout
        unknown = essa_here("ctl", "evict", "nobody", "1", *control)
        assert unknown.returncode == 2
        assert "nobody" in one_line(unknown.stderr)


def test_a_second_host_does_not_take_the_first_ones_sockets(tmp_path: Path) -> None:
    with HostProcess(tmp_path) as host:
        second = essa_here("host", "--listen", host.listen, "--control", f"unix:{tmp_path / 'c2'}")
        assert second.returncode == 2
        assert "in use by another process" in one_line(second.stderr)
        assert essa_here("ctl", "status", "--control", host.control).returncode == 0
        host.stop(signal.SIGKILL)
    with HostProcess(tmp_path) as host:  # over the sockets that the killed one left behind
        assert essa_here("ctl", "status", "--control", host.control).returncode == 0
