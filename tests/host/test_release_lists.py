"""Goal: block release lists free what they name, when they should, and nothing newer (R42).

Method: slots are given up by hand and counted; the story of R42 is played with the guard,
where the new copy survives the drain, and without it, where the guest reads zeroes.
"""

from __future__ import annotations

import pytest

from host_daemon.core.config import HostGuards
from host_daemon.core.effects import Stage, StageKind
from shared.arch import RELEASE_LIST_MAX, Mode
from shared.commands import Essa, Load, LoadOutcome, Store
from tests.host.world import World, bring, make_world

P = 3
DRAIN = StageKind.DRAIN_RELEASE_LIST


def slots_free(world: World) -> int:
    """The host's count."""
    return world.host.statistics().slots_free


@pytest.mark.parametrize("orc", [2, 3, 4])
@pytest.mark.parametrize(("mode", "state"), [(Mode.SEED, "Sp"), (Mode.KVM, "Vp")])
def test_giving_up_a_copy_queues_its_slot_and_a_drain_frees_it(
    mode: Mode, state: str, orc: int
) -> None:
    world = make_world(mode)
    bring(world, P, state)
    world.essa(orc, P, vcpu=1)
    assert slots_free(world) == 63, "the state changed at once, the slot is still held"
    assert world.host.guest_statistics(world.guest).release_entries == 1
    assert Stage(DRAIN, world.guest, 0) not in world.host.enabled(), "it is vCPU 1's list"
    world.run(DRAIN, 1)
    assert slots_free(world) == 64
    assert world.host.guest_statistics(world.guest).paging.released == 1
    world.host.check()


def test_a_full_list_is_drained_on_the_spot() -> None:
    pages = RELEASE_LIST_MAX + 1
    world = make_world(frames=pages, slots=pages, pages=pages)
    for pfn in range(pages):
        world.execute(Store(pfn, 0, b"x"))
        assert world.host.begin_eviction(world.guest, pfn)
    world.settle()
    assert slots_free(world) == 0
    for pfn in range(RELEASE_LIST_MAX - 1):
        world.essa(2, pfn)
    assert slots_free(world) == 0
    world.essa(2, RELEASE_LIST_MAX - 1)
    assert slots_free(world) == RELEASE_LIST_MAX
    assert not any(stage.kind is DRAIN for stage in world.host.enabled())
    world.essa(2, RELEASE_LIST_MAX)
    assert world.host.guest_statistics(world.guest).release_entries == 1
    world.host.check()


def stale_entry(mode: Mode, *, guard: bool) -> World:
    """R42: the guest frees a page, takes it again, writes, and the host pages it out anew."""
    world = make_world(mode, guards=HostGuards(slot_generation=guard))
    bring(world, P, "Sp", tag=b"o")
    world.essa(2, P)
    world.essa(1, P)
    world.execute(Store(P, 0, b"n" * 32, 128))
    assert world.host.begin_eviction(world.guest, P)
    for kind in (StageKind.REMOVE_ACCESS, StageKind.READ_CHANGE_BIT, StageKind.COMMIT,
                 StageKind.SUBMIT_PAGE_OUT):  # fmt: skip
        world.run(kind, P)
    world.land(*world.flights)
    assert world.state(P) == 0x02
    return world


@pytest.mark.parametrize("mode", list(Mode))
def test_a_stale_entry_frees_only_the_copy_it_names(mode: Mode) -> None:
    world = stale_entry(mode, guard=True)
    world.run(DRAIN, 0)
    assert slots_free(world) == 63
    assert world.content(P) == b"n" * 4096
    world.host.check()


@pytest.mark.parametrize("mode", list(Mode))
def test_without_the_guard_a_stale_entry_drops_live_data(mode: Mode) -> None:
    world = stale_entry(mode, guard=False)
    world.run(DRAIN, 0)
    assert slots_free(world) == 64
    assert world.content(P) == bytes(4096), "what the guest wrote is gone"
    world.host.check()


def test_without_the_guard_a_page_in_under_way_is_dropped_with_its_copy() -> None:
    world = stale_entry(Mode.SEED, guard=False)
    assert world.execute(Load(P, 0, 32)) is None
    world.run(StageKind.SUBMIT_PAGE_IN, P)
    world.run(DRAIN, 0)
    world.settle()
    assert world.completed.pop(0) == LoadOutcome(bytes(32))


def test_without_the_guard_a_page_given_up_again_frees_its_slots_all_the_same() -> None:
    world = stale_entry(Mode.SEED, guard=False)
    world.essa(2, P)
    world.run(DRAIN, 0)
    assert slots_free(world) == 64
    world.host.check()


def test_mode_kvm_keeps_the_slot_with_the_page_until_the_drain() -> None:
    world = make_world(Mode.KVM)
    bring(world, P, "Sp")
    world.essa(2, P)
    world.essa(2, P)  # queued again, as KVM does
    assert world.host.guest_statistics(world.guest).release_entries == 2
    # Touched before the drain: the page is in use again and the entries mean nothing.
    world.execute(Store(P, 0, b"n" * 32, 128))
    assert slots_free(world) == 64
    world.run(DRAIN, 0)
    assert slots_free(world) == 64
    assert world.host.guest_statistics(world.guest).paging.released == 0
    assert world.content(P) == b"n" * 4096


def test_mode_kvm_drains_a_page_made_stable_again_because_it_is_still_zero() -> None:
    world = make_world(Mode.KVM)
    bring(world, P, "Sp")
    world.essa(2, P)
    world.essa(1, P)
    assert world.state(P) == 0x03
    world.run(DRAIN, 0)
    assert slots_free(world) == 64
    assert world.state(P) == 0x03


def test_mode_kvm_a_preserved_page_without_a_slot_reads_as_zeroes() -> None:
    world = make_world(Mode.KVM)
    assert world.state(P) == 0x02
    assert world.execute(Load(P, 0, 64)) == LoadOutcome(bytes(32), 2)
    assert world.host.statistics().paging.page_ins == 0


def test_a_slot_in_other_hands_is_not_freed_by_an_old_entry() -> None:
    """Mode `kvm`: the named slot was freed on touch and belongs to another page by now."""
    world = make_world(Mode.KVM, slots=16)
    bring(world, P, "Sp")
    world.execute(Essa(2, P))
    world.execute(Store(P, 0, b"n"))  # frees the slot, leaves the entry
    bring(world, 5, "Sr", tag=b"w")
    world.reclaim_to(5, StageKind.SUBMIT_PAGE_OUT)
    world.run(StageKind.SUBMIT_PAGE_OUT, 5)
    (operation,) = world.flights
    assert world.flights[operation].slot in world.device, "the same slot, taken again"
    world.land(operation)
    world.run(DRAIN, 0)
    world.host.check()
    assert world.content(5) == b"w" * 4096
