"""Goal: guests come and go, share the pool and know nothing of each other.

Method: several guests of both modes on one host; one is closed in the middle of everything.
"""

from __future__ import annotations

import numpy as np
import pytest

from host_daemon.core.config import GuestSpec, HostConfig
from host_daemon.core.effects import PageIn, PageOut, StageKind, Traced
from host_daemon.core.host import Host
from shared.arch import Mode
from shared.commands import DONE, ESSA_ARRAY_MAX, Essa, EssaArray, Load, LoadOutcome, Store
from tests.host.world import SeededChoices, World, bring, make_world


def test_guests_do_not_see_each_others_pages() -> None:
    host = Host(HostConfig(8, 64), SeededChoices())
    seed = World(host, host.open_guest(GuestSpec("seed", 8)))
    kvm = World(host, host.open_guest(GuestSpec("kvm", 8, mode=Mode.KVM)))
    assert host.guest_ids() == [1, 2]
    seed.execute(Store(3, 0, b"s" * 32, 128))
    kvm.execute(Store(3, 0, b"k" * 32, 128))
    kvm.essa(2, 3)
    assert (seed.state(3), kvm.state(3)) == (0x00, 0x04)
    seed.device = kvm.device  # one paging device
    seed.evict(3)
    kvm.evict(3)
    assert (seed.state(3), kvm.state(3)) == (0x02, 0x06)
    assert seed.content(3) == b"s" * 4096
    assert kvm.content(3) == bytes(4096)
    assert host.counts(1)["Sr"] == 1
    assert host.counts(2) == {
        "Sr": 0, "Sp": 7, "Sz": 0, "Ur": 1, "Up": 0, "Uz": 0, "Vr": 0, "Vp": 0, "Vz": 0,
        "Pr": 0, "Pp": 0,
    }  # fmt: skip


def test_paging_space_is_reserved_and_given_back() -> None:
    host = Host(HostConfig(4, 20), SeededChoices())
    first = host.open_guest(GuestSpec("a", 12))
    host.open_guest(GuestSpec("b", 8))
    assert host.statistics().slots_reserved == 20
    host.close_guest(first)
    assert host.open_guest(GuestSpec("a", 12)) == 3, "ids are never used again"


def test_closing_a_guest_in_the_middle_of_everything_gives_all_of_it_back() -> None:
    for mode in Mode:
        world = make_world(mode, frames=8, slots=32)
        host, guest = world.host, world.guest
        other = World(host, host.open_guest(GuestSpec("other", 16, mode=mode)))
        other.execute(Store(0, 0, b"o" * 32, 128))
        bring(world, 0, "Sp")
        bring(world, 1, "Sp")
        bring(world, 2, "Sp")
        world.essa(2, 2)  # on a release list
        for pfn in (4, 5, 6, 7):
            bring(world, pfn, "Sr")
        assert world.execute(Load(0, 0, 8)) is None  # page-in, to be submitted
        assert world.execute(Load(1, 0, 8), 1) is None
        world.run(StageKind.SUBMIT_PAGE_IN, 1)  # page-in in flight
        world.reclaim_to(4, StageKind.COMMIT)
        world.reclaim_to(5, StageKind.SUBMIT_PAGE_OUT)
        for pfn in (6, 7):
            world.reclaim_to(pfn, StageKind.SUBMIT_PAGE_OUT)
            world.run(StageKind.SUBMIT_PAGE_OUT, pfn)
        world.execute(Store(7, 0, b"x"), 1)  # cancelled in flight
        host.close_guest(guest)
        host.check()
        statistics = host.statistics()
        assert statistics.frames_free == 7
        assert statistics.slots_free == 30, "two page-outs are still with the device"
        assert statistics.parked == 0
        assert [stage for stage in host.enabled() if stage.guest_id == guest] == []
        for operation, flight in list(world.flights.items()):
            assert isinstance(flight, PageOut | PageIn)
            world.land(operation)
        host.check()
        assert host.statistics().slots_free == 32
        assert host.statistics().paging.page_outs == 3, "counters outlive the guest"
        assert other.content(0) == b"o" * 4096


def test_statistics_are_copies_and_sum_up() -> None:
    world = make_world()
    bring(world, 0, "Vz")
    world.execute(Load(0, 0, 8))
    before = world.host.guest_statistics(world.guest)
    world.execute(Load(0, 0, 8))
    assert before.paging.discard_faults == 1
    assert world.host.statistics().paging.discard_faults == 2
    assert world.host.guest_statistics(world.guest).paging.essa == (0, 0, 0, 1, 0, 0, 0)


@pytest.mark.parametrize("arrays", [1, 5])
@pytest.mark.parametrize("asked", [False, True])
def test_elements_of_arrays_are_counted_whenever_somebody_asks(arrays: int, asked: bool) -> None:
    host = Host(HostConfig(8, ESSA_ARRAY_MAX), SeededChoices())
    guest = host.open_guest(GuestSpec("large", ESSA_ARRAY_MAX))
    orcs = np.resize(np.array([0, 1, 2, 3, 4, 6, 6, 7, 15], np.uint8), ESSA_ARRAY_MAX)
    pfns = np.arange(ESSA_ARRAY_MAX, dtype=np.uint32)
    counts = np.bincount(orcs)
    for number in range(1, arrays + 1):
        host.execute(guest, 0, EssaArray.of(orcs, pfns))
        if asked or number == arrays:
            expected = tuple((counts[:7] * number).tolist())
            assert host.guest_statistics(guest).paging.essa == expected
    host.execute(guest, 0, EssaArray.of(orcs, pfns))
    expected = tuple((counts[:7] * (arrays + 1)).tolist())
    again = Host.restore(host.snapshot(), SeededChoices())
    assert again.guest_statistics(guest).paging.essa == expected
    host.execute(guest, 0, Essa(0, 0))
    host.close_guest(guest)
    assert host.statistics().paging.essa == (expected[0] + 1, *expected[1:])


def test_a_page_map_is_a_copy_without_flags() -> None:
    world = make_world()
    bring(world, 0, "Sr")
    world.reclaim_to(0, StageKind.COMMIT)
    page_map = world.host.page_map(world.guest)
    assert page_map[0] == 0x00
    page_map[:] = 0x0F
    assert world.state(1) == 0x03


def test_tracing_tells_every_change_and_only_while_it_is_on() -> None:
    world = make_world()
    world.host.trace(True)
    bring(world, 0, "Sp")
    world.execute(Essa(3, 0), 1)
    world.execute(Essa(0, 0))
    seen = [
        (e.event.cause, e.event.number, e.event.before, e.event.after)
        for e in world.other_effects
        if isinstance(e, Traced)
    ]
    assert seen == [
        ("store", 0, 0x03, 0x00),
        ("begin_eviction", 0, 0x00, 0x40),
        ("commit", 0, 0x40, 0x10),
        ("page_out_done", 0, 0x10, 0x02),
        ("essa", 1, 0x02, 0x0F),
    ]
    world.host.trace(False)
    world.other_effects.clear()
    world.essa(1, 0)
    assert world.other_effects == []


def test_stores_of_repeated_data_fill_and_no_more() -> None:
    world = make_world(frames=2)
    bring(world, 0, "Sr", tag=b"a")
    bring(world, 1, "Sr", tag=b"b")
    assert world.execute(Store(0, 4064, b"xy", 16)) == DONE
    assert world.content(0) == b"a" * 4064 + b"xy" * 16
    assert world.execute(Load(1, 0, 32)) == LoadOutcome(b"b" * 32)
