"""Goal: through every fault, alone and mixed, guests find no wrong byte and no violation.

Method: one host with its real paging file, two guests of three vCPUs with a mixed workload,
overcommitted and under steady eviction; a kind passes only if it has struck.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from guest_agent.kernel.cpu import KernelBug
from shared.faults import KINDS, Kind, Place
from tests.faults.cluster import Cluster, cluster, verdict
from tests.faults.mixtures import draw, run_mixture

SECONDS_MAX = 60
OPERATIONS = 250

ALONE: dict[str, tuple[Kind, dict[str, object]]] = {
    "evict": (Kind.EVICT, {"rate": 1000, "count": 0}),
    "memory-pressure": (Kind.MEMORY_PRESSURE, {"percent": 40}),
    "request-lost": (Kind.REQUEST_LOST, {"odds": 0.01, "count": 0}),
    "reply-lost": (Kind.REPLY_LOST, {"odds": 0.01, "count": 0}),
    "doubled acknowledgements": (Kind.DUPLICATE, {"method": "AcknowledgeFaults", "count": 0}),
    "delayed requests": (Kind.DELAY, {"odds": 0.02, "count": 0, "delay": 0.01}),
    "delayed replies": (Kind.DELAY, {"odds": 0.02, "count": 0, "delay": 0.01, "side": "reply"}),
    "duplicate": (Kind.DUPLICATE, {"odds": 0.1, "count": 0}),
    "reset": (Kind.RESET, {"odds": 0.005, "count": 3}),
    "reset of the subscription": (Kind.RESET, {"method": "SubscribeFaults", "count": 2}),
    "slow-consumer": (Kind.SLOW_CONSUMER, {"rate": 500, "count": 200}),
    "slow sending of faults": (Kind.SLOW_CONSUMER, {"method": "SubscribeFaults", "rate": 50}),
    "fault-delay": (Kind.FAULT_DELAY, {"count": 0, "delay": 0.02}),
    "fault-duplicate": (Kind.FAULT_DUPLICATE, {"count": 0}),
    "fault-hold": (Kind.FAULT_HOLD, {"for": 0.8}),
    "device-slow": (Kind.DEVICE_SLOW, {"delay": 0.01}),
    "device-failing": (Kind.DEVICE_FAILING, {"count": 5, "odds": 0.3}),
    "failing writes of a guest": (
        Kind.DEVICE_FAILING,
        {"guest": "two", "pages": "0-95", "count": 5, "odds": 0.3},
    ),
    "device-full": (Kind.DEVICE_FULL, {"for": 0.3}),
}
LOSSES = {Kind.DEVICE_CORRUPT}
"""Kinds that cost a guest a page; further below."""


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def world(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    context = cluster(tmp_path_factory.mktemp("cluster"))
    yield runner.run(context.__aenter__())
    runner.run(context.__aexit__(None, None, None))


def test_no_kind_is_left_out() -> None:
    told = {kind for kind, _ in ALONE.values()} | LOSSES
    assert told == {kind for kind, known in KINDS.items() if known.place is not Place.PROCESS}


@pytest.mark.parametrize("name", ALONE)
def test_a_fault_alone(runner: asyncio.Runner, world: Cluster, name: str) -> None:
    kind, fields = ALONE[name]

    async def body() -> None:
        steady = world.inject(Kind.EVICT, rate=3000, count=0, seed=1)
        rule = world.inject(kind, **fields)
        async with asyncio.timeout(SECONDS_MAX):
            operations = OPERATIONS
            reports = await world.run(7, operations)
            while not rule.struck and operations < 8 * OPERATIONS:  # discard faults can be rare
                operations *= 2
                if not rule.active:  # on a busy machine its time may pass before the first one
                    rule = world.inject(kind, **fields)
                reports += await world.run(operations, operations)
        world.injector.stop(None)
        assert verdict(reports) == (0, 0)
        assert rule.struck > 0
        assert steady.struck > 0
        assert all(report.pages_verified for report in reports)
        world.shell.host.check()

    runner.run(body())


def test_a_mixture(runner: asyncio.Runner, world: Cluster) -> None:
    """Many more by `python -m tests.faults`."""

    async def body() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            outcome = await run_mixture(world, 10, 2 * OPERATIONS)
        assert outcome.is_clean, outcome
        assert sum(count > 0 for count in outcome.struck.values()) >= 4, outcome

    runner.run(body())


def test_a_seed_names_its_mixture() -> None:
    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
    assert {spec.kind for seed in range(100) for spec in draw(seed)} == set(KINDS_MIXED)


KINDS_MIXED = {kind for kind, _ in ALONE.values()}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [(Kind.DEVICE_CORRUPT, {"count": 0}), (Kind.DEVICE_FAILING, {"operation": "read", "count": 0})],
)
def test_a_lost_page_is_a_machine_check(
    runner: asyncio.Runner, world: Cluster, kind: Kind, fields: dict[str, object]
) -> None:
    """The guest stops, as it should, and says why; it never goes on with wrong bytes."""

    async def body() -> None:
        before = world.shell.host.statistics().paging.machine_checks
        world.inject(Kind.EVICT, rate=3000, count=0, states="S")
        rule = world.inject(kind, **fields)
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.timeout(SECONDS_MAX):
                await world.run(3, 4 * OPERATIONS)
        world.injector.stop(None)
        assert caught.group_contains(KernelBug, match="machine check")
        assert not caught.group_contains(AssertionError)
        assert rule.struck > 0
        assert world.shell.host.statistics().paging.machine_checks > before
        world.shell.host.check()

    runner.run(body())
