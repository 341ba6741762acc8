"""Goal: an array of n ESSAs equals n single ones in order, down to the last byte of state.

Method: two hosts are brought into the same random condition: slots in use, release lists
part full, pages in reclaim, in transit and damaged. One gets the array, the other the
elements one by one; results and whole snapshots must be equal. Pfns come repeated, unordered,
strictly increasing, dense and outside storage, so that every path is taken.
"""

from __future__ import annotations

from random import Random

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from host_daemon.core import essa_array
from host_daemon.core.config import HostGuards
from host_daemon.core.effects import StageKind
from host_daemon.core.host import Host
from shared.arch import Mode
from shared.commands import Essa, EssaArray, EssaArrayOutcome, EssaOutcome, Load, Sske, Store
from tests.host.test_snapshot import equal
from tests.host.world import SeededChoices, World, make_world

PAGES = 1400


def condition(mode: Mode, seed: int, guards: HostGuards) -> World:
    """A host with pages in every state, most of them preserved, and lists part full."""
    random = Random(seed)
    world = make_world(mode, frames=220, slots=PAGES + 300, pages=PAGES, guards=guards)
    fresh = random.sample(range(PAGES), PAGES - 200)
    while len(fresh) > 200:
        chosen, fresh = fresh[:200], fresh[200:]
        for pfn in chosen:
            world.execute(Store(pfn, 0, bytes([pfn & 0xFF]) * 32))
            if random.random() < 0.2:
                world.execute(Essa(random.choice((2, 3, 4)), pfn))
            world.host.begin_eviction(world.guest, pfn)
        world.settle()
    for pfn in fresh:
        world.execute(Store(pfn, 0, b"r" * 32))
    for pfn in random.sample(range(PAGES), 150):
        if random.random() < 0.5:
            world.execute(Sske(pfn, random.choice((0, 2))))
        world.execute(Essa(random.choice((1, 2, 3, 4)), pfn), random.randrange(2))
    return world


def add_moves(world: World, seed: int, count: int) -> None:
    """Begin evictions and page-ins, and leave them where they are; damage a copy or two."""
    random = Random(seed)
    states = world.host.page_map(world.guest)
    for pfn in random.sample(range(PAGES), count):
        if states[pfn] & 0x03 == 0:
            world.host.begin_eviction(world.guest, pfn)
        elif states[pfn] & 0x03 == 2:
            world.execute(Load(pfn, 0, 8), random.randrange(2))
    for _ in range(count):
        stages = [s for s in world.host.enabled() if s.guest_id and s.kind not in (
            StageKind.DRAIN_RELEASE_LIST, StageKind.RESUME)]  # fmt: skip
        if not stages:
            break
        world.host.run(random.choice(stages))
        world.take()
        if world.flights and random.random() < 0.3:
            world.land(random.choice(list(world.flights)), ok=random.random() < 0.7)


_WORLDS: dict[tuple[Mode, bool], dict[str, object]] = {}


def twins(mode: Mode, seed: int, moves: int, guards: HostGuards) -> tuple[World, World]:
    """Two hosts in the same condition. The base is built once per mode and guards."""
    key = (mode, guards.slot_generation)
    if key not in _WORLDS:
        _WORLDS[key] = condition(mode, 1, guards).host.snapshot()
    base = World(Host.restore(_WORLDS[key], SeededChoices()), 1)
    if moves:
        add_moves(base, seed, moves)
    snapshot = base.host.snapshot()
    return base, World(Host.restore(snapshot, SeededChoices()), 1)


def compare(array_world: World, single_world: World, orcs: list[int], pfns: list[int]) -> None:
    """The array on one, the elements on the other; everything must be equal."""
    array = EssaArray(np.array(orcs, np.uint8), np.array(pfns, np.uint32))
    outcome = array_world.execute(array, 1)
    singles = bytearray()
    for orc, pfn in zip(orcs, pfns, strict=True):
        single = single_world.execute(Essa(orc, pfn), 1)
        singles.append(single.state if isinstance(single, EssaOutcome) else 0x80 | single.code)
    assert outcome == EssaArrayOutcome(bytes(singles))
    assert equal(array_world.host.snapshot(), single_world.host.snapshot())


@st.composite
def elements(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """orcs and pfns, of every kind of order."""
    seed = draw(st.integers(0, 1 << 20))
    length = draw(st.integers(1, 700))
    kind = draw(st.sampled_from(["increasing", "increasing", "dense", "repeated", "unordered"]))
    random = Random(seed)
    top = PAGES + draw(st.sampled_from([0, 0, 20]))
    if kind == "increasing":
        pfns = sorted(random.sample(range(top), length))
    elif kind == "dense":
        start = random.randrange(top - length)
        pfns = list(range(start, start + length))
    elif kind == "repeated":
        pfns = [random.randrange(12) for _ in range(length)]
    else:
        pfns = random.sample(range(top), length)
    codes = draw(st.sampled_from([[0, 1, 2, 3, 4, 6], [2, 3, 4], [1, 6], [0, 2, 4, 7, 15]]))
    return [random.choice(codes) for _ in pfns], pfns


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("guard", [True, False])
@settings(max_examples=40, deadline=None)
@given(elements(), st.integers(0, 1 << 16), st.sampled_from([0, 3, 40, 400]))
def test_array_equals_singles(
    mode: Mode, guard: bool, element: tuple[list[int], list[int]], seed: int, moves: int
) -> None:
    pair = twins(mode, seed, moves, HostGuards(slot_generation=guard))
    compare(*pair, *element)
    pair[0].host.check()


@pytest.mark.parametrize("mode", list(Mode))
def test_lists_fill_and_drain_in_mid_array(mode: Mode) -> None:
    """More than 511 slots given up by one array, after a list that is part full."""
    left, right = twins(mode, 0, 0, HostGuards())
    states = left.host.page_map(1)
    preserved = [int(pfn) for pfn in np.flatnonzero(states & 3 == 2)]
    assert len(preserved) > 600
    for world in (left, right):
        world.execute(Essa(2, preserved[0]), 1)
    released = left.host.guest_statistics(1).paging.released
    compare(left, right, [2] * len(preserved), preserved)
    # In mode `kvm` the first page is on the list twice and has one slot to free.
    assert left.host.guest_statistics(1).paging.released - released >= 510


def test_increasing_pages_without_flags_never_go_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The vector path is not only right but taken, slots and drains included."""
    left, right = twins(Mode.SEED, 0, 0, HostGuards())
    calls = []
    monkeypatch.setattr(essa_array, "_one_by_one", lambda *args: calls.append(args) or b"")
    random = Random(3)
    pfns = sorted(random.sample(range(PAGES), 1200))
    array = EssaArray(
        np.array([random.choice((0, 1, 2, 3, 4, 6, 9)) for _ in pfns], np.uint8),
        np.array(pfns, np.uint32),
    )
    left.execute(array)
    assert not calls
    array.pfns[0] = array.pfns[1]
    right.execute(array)
    assert len(calls) == 1
