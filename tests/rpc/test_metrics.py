"""/metrics of a real host: what a scrape says, and what becomes of it when things go wrong.

Method: a scraper in a thread of its own, as Prometheus is one elsewhere, reads what a host in
this process serves while guests use it; the client library's parser is the judge of the format.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from host_daemon.metrics import GUEST_FAMILIES, HOST_FAMILIES, HostMetrics
from shared import metrics
from shared.commands import DONE, Essa, FaultPending, Load, Store
from shared.errors import InvalidRequestError
from shared.essa.v1 import essa_pb2 as pb
from shared.metrics import Kind, MetricsServer, metrics_address
from shared.rpc.channel import Address, call
from tests.rpc.world import World, play

ANYWHERE = Address(host="127.0.0.1", port=0)
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(address: Address, **headers: str) -> str:
    request = Request(f"http://{address}/metrics", headers=headers)
    with urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in plain_text(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


async def use(world: World) -> None:
    """Two pages of a guest: one discarded and touched, one paged out and in."""
    connection = world.connect(await world.open_guest("web"))
    assert await connection.ask(0, 1, Store(1, 0, b"gone")) == DONE
    assert await connection.ask(0, 2, Store(2, 0, b"kept")) == DONE
    await connection.ask(0, 3, Essa(3, 1))
    await world.evict(1, 2, name="web")
    assert await connection.ask(0, 4, Load(1, 0, 4)) == FaultPending(1)
    await connection.ask(0, 5, Load(2, 0, 4))


def test_a_scrape_says_what_happened(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        server = MetricsServer(ANYWHERE, HostMetrics(world.shell).collect)
        server.start()
        try:
            await use(world)
            found = samples(await asyncio.to_thread(read, server.address))
        finally:
            await server.stop()
        for prefix, labels in (("essa_host", {}), ("essa_host_guest", {"guest": "web"})):
            assert value(found, f"{prefix}_page_ins_total", **labels) == 1
            assert value(found, f"{prefix}_page_outs_total", **labels) == 1
            assert value(found, f"{prefix}_discard_faults_total", **labels) == 1
            assert value(found, f"{prefix}_discards_total", usage="volatile", **labels) == 1
            name = f"{prefix}_instructions_total"
            assert value(found, name, orc="set_volatile", **labels) == 1
        assert value(found, "essa_host_guest_pages", guest="web", state="Sz") == 62
        assert value(found, "essa_host_guest_pages", guest="web", state="Sr") == 1
        assert value(found, "essa_host_guest_unacknowledged_faults", guest="web") == 1
        assert value(found, "essa_host_guest_streams", guest="web") == 1
        assert value(found, "essa_host_frames", state="used") == 1
        assert value(found, "essa_host_guests") == 1
        assert value(found, "process_resident_memory_bytes") > 1 << 20

    play(test, tmp_path)


def test_names_and_types_are_as_the_tables_say(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        server = MetricsServer(ANYWHERE, HostMetrics(world.shell).collect)
        server.start()
        try:
            await use(world)
            text = await asyncio.to_thread(read, server.address, Accept=OPEN_METRICS)
        finally:
            await server.stop()
        families: dict[str, Metric] = {family.name: family for family in open_metrics(text)}
        for family in (*HOST_FAMILIES, *GUEST_FAMILIES):
            served = families[family.name.removesuffix("_total")]
            assert (served.type, served.documentation) == (family.kind, family.text)
            assert (family.kind is Kind.COUNTER) == family.name.endswith("_total")
            assert served.samples
            common = {"guest"} if family in GUEST_FAMILIES else set()
            assert set(served.samples[0].labels) == {*family.labels, *common}

    play(test, tmp_path)


def test_a_closed_guest_goes_and_stays_in_the_hosts_sums(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await use(world)
        session = await world.open_guest("short")
        await call(world.essa, "CloseGuest", pb.CloseGuestRequest(session=session))
        closed = world.shell.sessions.by_name("web")
        world.shell.close_guest(closed)
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for metric in await HostMetrics(world.shell).collect()
            for sample in metric.samples
        }
        assert found["essa_host_page_outs_total",] == 1
        assert not [key for key in found if key[0].startswith("essa_host_guest_")]

    play(test, tmp_path)


def test_a_guest_that_closes_while_the_host_is_read_is_left_out(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        for name in ("one", "two"):
            await world.open_guest(name)
        scrape = asyncio.create_task(HostMetrics(world.shell).collect())
        await asyncio.sleep(0)
        world.shell.close_guest(world.shell.sessions.by_name("two"))
        guests = {
            sample.labels["guest"]
            for metric in await scrape
            for sample in metric.samples
            if "guest" in sample.labels
        }
        assert guests == {"one"}

    play(test, tmp_path)


def test_a_loop_that_does_not_answer_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SCRAPE_SECONDS", 0.05)

    async def never() -> list[Metric]:
        await asyncio.Event().wait()
        return []

    async def body() -> None:
        server = MetricsServer(ANYWHERE, never)
        server.start()
        try:
            with pytest.raises(HTTPError) as caught:
                await asyncio.to_thread(read, server.address)
            assert caught.value.code == 503
            caught.value.close()
        finally:
            await server.stop()

    asyncio.run(body())


def test_silent_clients_take_no_more_than_their_places() -> None:
    async def nothing() -> list[Metric]:
        return []

    def crowd(address: Address) -> bytes:
        where = (address.host, address.port)
        silent = [socket.create_connection(where) for _ in range(metrics.SCRAPES_MAX)]
        try:
            with socket.create_connection(where, timeout=10) as late:
                return late.recv(1)
        finally:
            for one in silent:
                one.close()

    async def body() -> None:
        server = MetricsServer(ANYWHERE, nothing)
        server.start()
        try:
            assert await asyncio.to_thread(crowd, server.address) == b""
        finally:
            await server.stop()

    asyncio.run(body())


@pytest.mark.parametrize(
    ("text", "exposed", "told"),
    [
        ("unix:m", True, "scrapers know no Unix sockets"),
        ("0.0.0.0:9464", False, "unless --insecure-metrics is given"),
        ("example.org:9464", False, "unless --insecure-metrics is given"),
        ("9464", True, "it must be unix:PATH or HOST:PORT"),
    ],
)
def test_an_address_that_makes_no_sense_is_told(text: str, exposed: bool, told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        metrics_address(text, "--metrics", exposed=exposed)


def test_the_world_may_read_if_that_is_said_aloud() -> None:
    assert metrics_address("0.0.0.0:1", "--metrics", exposed=True).port == 1
    assert metrics_address("[::1]:1", "--metrics", exposed=False).host == "::1"


def test_an_address_in_use_is_told() -> None:
    async def body() -> Any:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            MetricsServer(
                Address(host="127.0.0.1", port=taken.getsockname()[1]), lambda: asyncio.sleep(0, [])
            )

    with pytest.raises(InvalidRequestError, match=r"--metrics 127.* in use"):
        asyncio.run(body())
