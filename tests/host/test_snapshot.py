"""Goal: a restored host goes on exactly as the one the snapshot was taken of.

Method: a random run with everything going on at once; a snapshot somewhere in it; then both
hosts get the same inputs and must give the same outcomes, effects, stages and snapshots.
"""

from __future__ import annotations

import copy
from random import Random
from typing import Any

import numpy as np
import pytest

from host_daemon.core.effects import Effect, PageIn, PageOut
from host_daemon.core.host import Host
from shared.arch import Mode
from shared.commands import (
    Command,
    DeviceLoad,
    DeviceStore,
    Essa,
    EssaArray,
    Load,
    LoadOutcome,
    Sske,
    Store,
)
from tests.host.world import SeededChoices, World, bring, make_world

PAGES = 40


def equal(left: Any, right: Any) -> bool:
    """Deep equality with arrays in it."""
    if isinstance(left, np.ndarray):
        return isinstance(right, np.ndarray) and np.array_equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(v, right[k]) for k, v in left.items())
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    return type(left) is type(right) and bool(left == right)


def plain(value: Any) -> bool:
    """Whether a snapshot holds nothing but plain data and arrays."""
    if isinstance(value, dict):
        return all(isinstance(k, str) and plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    return value is None or type(value) in (int, bool, str, bytes, np.ndarray)


def _command(random: Random) -> tuple[int, Command]:
    pfn, vcpu = random.randrange(PAGES), random.randrange(2)
    tag = bytes([random.randrange(256)]) * 32
    kind = random.randrange(7)
    if kind == 0:
        return vcpu, Load(pfn, 0, 4096)
    if kind == 1:
        return vcpu, Store(pfn, 0, tag, 128)
    if kind == 2:
        return 2, random.choice((DeviceLoad(pfn, 0, 64), DeviceStore(pfn, 32, tag)))
    if kind == 3:
        return vcpu, Sske(pfn, random.choice((0, 2, 4)))
    if kind == 4:
        pfns = np.array(sorted(random.sample(range(PAGES), 20)), np.uint32)
        orcs = np.array([random.choice((0, 1, 1, 2, 3, 4, 6)) for _ in pfns], np.uint8)
        return vcpu, EssaArray.of(orcs, pfns)
    return vcpu, Essa(random.randrange(7), pfn)


def _act(random: Random, host: Host, flights: dict[int, PageOut | PageIn]) -> list[Any]:
    """One random input; what came of it. Transfers that land carry content by slot."""
    dice = random.random()
    stages = host.enabled()
    result: list[Any] = [stages, host.reclaim_wanted()]
    if dice < 0.5:
        issuer, command = _command(random)
        outcome = host.execute(1, issuer, command)
        result.append(outcome.__repr__())
    elif dice < 0.85 and stages:
        host.run(random.choice(stages))
    elif flights:
        operation = random.choice(sorted(flights))
        flight = flights.pop(operation)
        if isinstance(flight, PageOut):
            host.page_out_done(operation, random.random() < 0.95)
        else:
            data = bytes([flight.slot]) * 4096
            host.page_in_done(operation, data if random.random() < 0.95 else None)
    elif random.random() < 0.3:
        host.redeliver_faults(1)
    effects: list[Effect] = host.take_effects()
    flights.update({e.operation: e for e in effects if isinstance(e, PageOut | PageIn)})
    return [*result, effects]


@pytest.mark.parametrize("policy", ["hints-first", "zvm", "random"])
@pytest.mark.parametrize("mode", list(Mode))
def test_a_restored_host_goes_on_exactly(mode: Mode, policy: str) -> None:
    for seed in range(6):
        world = make_world(
            mode, frames=10, slots=48, pages=PAGES, policy=policy, low_watermark=2,
            high_watermark=4,
        )  # fmt: skip
        host, random = world.host, Random(f"{mode} {policy} {seed}")
        flights: dict[int, PageOut | PageIn] = {}
        for _ in range(150):
            _act(random, host, flights)
        snapshot = host.snapshot()
        assert plain(snapshot)
        # The choice source is the shell's to keep, so that with policy `random` only the two
        # restored hosts, with equal sources, can be compared.
        twins = [Host.restore(copy.deepcopy(snapshot), SeededChoices(seed)) for _ in range(2)]
        assert equal(twins[0].snapshot(), snapshot)
        if policy != "random":
            twins.append(host)
        runs = [(Random(seed), twin, dict(flights)) for twin in twins]
        for _ in range(150):
            results = [_act(*run) for run in runs]
            assert all(equal(result, results[0]) for result in results)
        assert all(equal(twin.snapshot(), twins[0].snapshot()) for twin in twins)
        twins[0].check()


def test_effects_must_have_been_taken() -> None:
    world = make_world()
    bring(world, 0, "Sp")
    world.host.execute(world.guest, 0, Load(0, 0, 8))
    world.host.run(world.host.enabled()[0])
    with pytest.raises(AssertionError):
        world.host.snapshot()


def test_transfers_in_flight_start_anew_after_a_restart() -> None:
    world = make_world()
    bring(world, 0, "Sp", tag=b"a")  # to be read
    bring(world, 1, "Sr", tag=b"b")  # to be written
    bring(world, 2, "Sr", tag=b"c")  # to be written, then stored to
    assert world.execute(Load(0, 0, 4096)) is None
    for pfn in (1, 2):
        world.host.begin_eviction(world.guest, pfn)
    for _ in range(4):
        for stage in [s for s in world.host.enabled() if s.guest_id]:
            world.host.run(stage)
            world.take()
    world.execute(Store(2, 0, b"d"), 1)
    assert len(world.flights) == 3
    resumed = World(Host.restore(world.host.snapshot(), SeededChoices()), world.guest)
    resumed.device = world.device
    resumed.host.restart_transfers()
    resumed.settle()
    assert resumed.completed.pop(0) == LoadOutcome(b"a" * 32, 128)
    assert resumed.state(1) == 0x02
    assert resumed.content(1) == b"b" * 4096
    assert resumed.content(2) == b"d" + b"c" * 4095
    assert resumed.host.statistics().slots_free == 64
