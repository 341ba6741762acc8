"""Goal: an array of n ESSAs equals n single ones in order, down to the last byte of state.

Method: two hosts are brought into the same random condition: slots in use, release lists
part full, pages in reclaim, in transit and damaged. One gets the array, the other the
elements one by one; results and whole snapshots must be equal. Pfns come repeated, unordered,
strictly increasing, dense and outside storage, so that every path is taken.
"""

from __future__ import annotations

from random import Random
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from host_daemon.core import compiled, essa_array, release
from host_daemon.core.config import HostGuards
from host_daemon.core.effects import StageKind
from host_daemon.core.host import Host
from shared.arch import Mode
from shared.commands import Essa, EssaArray, EssaArrayOutcome, EssaOutcome, Load, Sske, Store
from tests.host.test_snapshot import equal
from tests.host.world import SeededChoices, World, make_world

PAGES = 1400

_essa_pass: Any = compiled.ESSA_PASS
needs_pass = pytest.mark.skipif(
    compiled.ESSA_PASS is None, reason="installed without a C compiler; .ci/run insists on one"
)


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
    array = EssaArray.of(np.array(orcs, np.uint8), np.array(pfns, np.uint32))
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
@pytest.mark.parametrize("guard", [True, False])
@pytest.mark.parametrize("length", [510, 511, 512, 1022, 1023, 4095, 4096, 5000])
def test_long_arrays_equal_singles(mode: Mode, guard: bool, length: int) -> None:
    """Across the ends of the pass's blocks, and long enough for it to let other threads run."""
    pair = twins(mode, length, 40, HostGuards(slot_generation=guard))
    random = Random(length)
    for pages in (PAGES, 12):
        pfns = [random.randrange(pages) for _ in range(length)]
        compare(*pair, [random.choice((0, 1, 2, 3, 4, 6)) for _ in pfns], pfns)
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


@needs_pass
def test_only_what_needs_more_than_the_table_goes_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pass is not only right but built and taken, slots and drains included."""
    assert essa_array.ESSA_PASS is not None
    world, _ = twins(Mode.SEED, 0, 0, HostGuards())
    alone: list[int] = []
    monkeypatch.setattr(essa_array, "_one", lambda *args: alone.append(args[-1]) or 0)
    random = Random(3)
    pfns = random.sample(range(PAGES), 1200)
    orcs = [random.choice((0, 1, 2, 3, 4, 6)) for _ in pfns]
    orcs[7] = 9
    orcs[1199] = 15
    world.execute(EssaArray.of(np.array(orcs, np.uint8), np.array(pfns, np.uint32)))
    full = [index for index in alone if orcs[index] <= 6]
    assert [index for index in alone if orcs[index] > 6] == [7, 1199]
    assert len(full) <= len(pfns) // 511  # a list was full there


@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=10, deadline=None)
@given(elements(), st.integers(0, 1 << 16), st.sampled_from([0, 40]))
def test_without_the_pass_all_go_one_by_one(
    mode: Mode, element: tuple[list[int], list[int]], seed: int, moves: int
) -> None:
    """What is done where there was no C compiler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(essa_array, "ESSA_PASS", None)
        patch.setattr(release, "ESSA_PASS", None)
        compare(*twins(mode, seed, moves, HostGuards()), *element)


def buffers(**other: bytes | bytearray) -> list[bytes | bytearray]:
    """What the pass takes for two elements of a guest with four pages, but for `other`."""
    named: dict[str, bytes | bytearray] = {
        "orcs": bytes(2),
        "pfns": bytes(8),
        "listed": b"",
        "states": bytearray(4),
        "keys": bytearray(4),
        "location": bytearray(16),
        "kinds": bytearray(1),
        "generations": bytearray(4),
        "table": bytes(448),
    }
    return list((named | other).values())


def passed(start: int = 0, **other: bytes | bytearray) -> int:
    """How many elements the pass executes; none of them needs a list."""
    counts = [5] * 7
    states, entries, freed = _essa_pass.run(start, False, True, counts, *buffers(**other))
    assert counts == [5 + len(states)] + [5] * 6
    assert (entries, freed) == (None, None)
    return len(states)


@needs_pass
@pytest.mark.parametrize(
    "other",
    [
        {"orcs": bytes(3)},
        {"pfns": bytes(7)},
        {"listed": bytes(11)},
        {"listed": bytes(511 * 12)},
        {"states": bytearray(5)},
        {"states": bytes(4)},
        {"keys": bytearray(3)},
        {"location": bytearray(12)},
        {"kinds": bytearray()},
        {"generations": bytearray()},
        {"table": bytes(447)},
    ],
    ids=lambda other: f"{next(iter(other))} of {len(next(iter(other.values())))}",
)
def test_the_pass_refuses_buffers_that_do_not_fit(other: dict[str, bytes | bytearray]) -> None:
    assert passed() == 2
    with pytest.raises((ValueError, BufferError)):
        passed(**other)


@needs_pass
def test_the_pass_stays_inside_its_buffers() -> None:
    """A pfn that is not there ends it; a frame or a slot that is not there is our own bug."""
    assert passed(pfns=np.array([3, 4], "<u4").tobytes()) == 1
    far = bytearray(np.full(4, 9, "<u4").tobytes())
    assert passed(location=far) == 2
    for entry in (1 << 15 | 4 << 8, 1 << 15):  # its frame is of another kind; it gives up a slot
        table = np.full(224, entry, "<u2").tobytes()
        with pytest.raises(SystemError, match="does not exist"):
            passed(location=far, table=table)
    assert passed(5) == 0
    for start in (-1, 1 << 70):
        with pytest.raises((ValueError, OverflowError)):
            passed(start)
    for counts in ([0] * 6, (0,) * 7):
        with pytest.raises(ValueError, match="counts must be a list of 7"):
            _essa_pass.run(0, False, True, counts, *buffers())
    with pytest.raises(TypeError):
        _essa_pass.run(0, False, True, [0] * 7)


@needs_pass
def test_a_full_list_frees_its_slots_only_if_they_are_held() -> None:
    """The one element gives up slot 1 and is the 511th entry."""
    listed = np.tile(np.array([9, 2, 1], "<u4"), (510, 1))
    listed[:, 1] = np.arange(2, 512)
    location = bytearray(np.array([1, 0, 0, 0], "<u4").tobytes())
    table = np.full(224, 1 << 15, "<u2").tobytes()
    named = {"orcs": bytes(1), "pfns": bytes(4), "listed": listed.tobytes(), "table": table}
    held = bytearray(np.ones(512, "<u2").tobytes())
    counts = [0] * 7
    arguments = buffers(**named, location=location[:], generations=held[:])
    states, entries, freed = _essa_pass.run(0, False, True, counts, *arguments)
    assert (states, entries, counts[0]) == (bytes(1), b"", 1)
    assert np.frombuffer(freed, "<u4").tolist() == [*range(2, 512), 1]
    arguments = buffers(**named, location=location[:], generations=held[:])
    _, entries, freed = _essa_pass.run(0, True, False, counts, *arguments)
    assert (len(entries), freed) == (511 * 12, None)  # for release.py to drain
    held[2 * 300] = 2
    arguments = buffers(**named, location=location[:], generations=held[:])
    with pytest.raises(SystemError, match="slot 300 is not held"):
        _essa_pass.run(0, False, True, counts, *arguments)


@needs_pass
def test_freeing_refuses_what_does_not_fit_and_slots_that_are_not_held() -> None:
    entries = np.array([7, 1, 3, 8, 2, 1], np.uint32)
    generations, slots = np.array([0, 3, 1], np.uint16), np.zeros(2, np.uint32)
    for bad in ((entries[:5], generations, slots), (entries, generations, slots[:1])):
        with pytest.raises(ValueError, match="three numbers"):
            _essa_pass.free(*bad)
    assert generations.tolist() == [0, 3, 1]
    _essa_pass.free(entries, generations, slots)
    assert (generations.tolist(), slots.tolist()) == ([0, 4, 2], [1, 2])
    with pytest.raises(SystemError, match="slot 1 is not held"):
        _essa_pass.free(entries, generations, slots)
    with pytest.raises(SystemError, match="slot 9 is not held"):
        _essa_pass.free(np.array([7, 9, 3], np.uint32), generations, slots[:1])
    with pytest.raises(TypeError):
        _essa_pass.free(entries)
