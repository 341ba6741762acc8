"""Goal: reclaim in stages is safe against whatever the guest does between two of them.

Method: a victim is stopped before each stage, then one command comes, then reclaim goes on.
The two orders of reading the change bit are shown side by side: with the guard a store is
never lost, without it the interleaving that loses it is played by hand (R45).
"""

from __future__ import annotations

import numpy as np
import pytest

from host_daemon.core.config import HostGuards
from host_daemon.core.effects import CHOOSE_VICTIM, StageKind
from shared.arch import Mode
from shared.commands import DONE, DeviceStore, EssaArray, FaultPending, Load, Store
from tests.host.world import STATES, bring, make_world

P = 3
STOPS = [StageKind.REMOVE_ACCESS, StageKind.READ_CHANGE_BIT, StageKind.COMMIT]
NEW = b"n" * 32 + b"q" * 4064

# state, changed -> state once evicted; a slot is held then. Mode `kvm` knows only "unused".
EVICTED = [
    (Mode.SEED, "Sr", False, 0x02, True),
    (Mode.SEED, "Sr", True, 0x02, True),
    (Mode.SEED, "Ur", True, 0x07, False),
    (Mode.SEED, "Vr", True, 0x0F, False),
    (Mode.SEED, "Vr", False, 0x0F, False),
    (Mode.SEED, "Pr", False, 0x0F, False),
    (Mode.SEED, "Pr", True, 0x02, True),
    (Mode.KVM, "Sr", False, 0x02, True),
    (Mode.KVM, "Ur", True, 0x06, False),
    (Mode.KVM, "Vr", False, 0x0E, True),
    (Mode.KVM, "Pr", False, 0x0A, True),
    (Mode.KVM, "Pr", True, 0x0A, True),
]


@pytest.mark.parametrize("guard", [True, False])
@pytest.mark.parametrize(("mode", "state", "changed", "after", "held"), EVICTED)
def test_eviction(
    mode: Mode, state: str, changed: bool, after: int, held: bool, guard: bool
) -> None:
    world = make_world(mode, guards=HostGuards(remove_access_before_read=guard))
    bring(world, P, state, changed=changed)
    world.evict(P)
    assert world.state(P) == after
    statistics = world.host.statistics()
    assert statistics.frames_free == 8
    assert (statistics.slots_free == 63) == held
    assert statistics.paging.page_outs == held
    dropped = {"U": "discarded_unused", "V": "discarded_volatile"}
    name = dropped.get(state[0], "discarded_potential_volatile")
    assert getattr(statistics.paging, name) == (not held)


@pytest.mark.parametrize("state", ["Sp", "Sz", "Uz", "Vz", "Up", "Vp", "Pp"])
def test_what_is_not_resident_is_no_victim(state: str) -> None:
    mode = Mode.SEED if state in STATES[Mode.SEED] else Mode.KVM
    world = make_world(mode)
    bring(world, P, state)
    assert not world.host.begin_eviction(world.guest, P)
    bring(world, 4, "Sr")
    assert world.host.begin_eviction(world.guest, 4)
    assert not world.host.begin_eviction(world.guest, 4), "a victim is not chosen twice"


@pytest.mark.parametrize("guard", [True, False])
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("orc", range(1, 7))
@pytest.mark.parametrize("state", ["Sr", "Ur", "Vr", "Pr"])
def test_an_essa_between_stages_cancels(state: str, orc: int, stop: StageKind, guard: bool) -> None:
    world = make_world(guards=HostGuards(remove_access_before_read=guard))
    bring(world, P, state, tag=b"q")
    world.reclaim_to(P, stop)
    before = world.state(P)
    outcome = world.essa(orc, P)
    assert outcome is not None
    assert outcome.state == before
    after = world.state(P)
    assert after == {2: 0x04, 3: 0x0C, 4: 0x08}.get(orc, 0x00)
    world.settle()
    assert world.state(P) == after, "reclaim left the page alone"
    world.essa(1, P)
    assert world.content(P) == b"q" * 4096


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("state", ["Sr", "Ur", "Vr", "Pr"])
def test_get_state_and_loads_do_not_cancel(state: str, stop: StageKind) -> None:
    world = make_world()
    bring(world, P, state)
    world.reclaim_to(P, stop)
    world.essa(0, P)
    world.execute(Load(P, 0, 8))
    world.execute(Load(P, 0, 8))
    world.settle()
    assert world.host.statistics().frames_free == 8, "the page has gone"


@pytest.mark.parametrize("device", [False, True])
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("state", ["Sr", "Pr"])
def test_a_store_between_stages_is_never_lost(state: str, stop: StageKind, device: bool) -> None:
    """R45 with the guard: seen by the change bit, or by the access that was removed."""
    world = make_world()
    bring(world, P, state, tag=b"q")
    world.reclaim_to(P, stop)
    command = DeviceStore(P, 0, b"n" * 32) if device else Store(P, 0, b"n" * 32)
    assert world.execute(command, 2 if device else 0) == DONE
    cancelled = stop is not StageKind.REMOVE_ACCESS
    world.settle()
    assert (world.state(P) & 3 == 0) == cancelled
    assert world.content(P) == NEW


def test_without_the_guard_a_store_after_the_change_bit_was_read_is_lost() -> None:
    """R45: C read while the guest still has access; the store, unseen; then the discard."""
    lost = make_world(guards=HostGuards(remove_access_before_read=False))
    bring(lost, P, "Pr", tag=b"q")
    lost.reclaim_to(P, StageKind.REMOVE_ACCESS)  # comes second here: C has been read
    assert lost.execute(Store(P, 0, b"n" * 32)) == DONE
    lost.settle()
    assert lost.state(P) == 0x0F
    assert lost.execute(Load(P, 0, 8)) == FaultPending(1), "the guest's write is gone"

    # Before C is read, and after access is gone, the store is safe even so.
    for stop in (StageKind.READ_CHANGE_BIT, StageKind.COMMIT):
        kept = make_world(guards=HostGuards(remove_access_before_read=False))
        bring(kept, P, "Pr", tag=b"q")
        kept.reclaim_to(P, stop)
        kept.execute(Store(P, 0, b"n" * 32))
        kept.settle()
        assert kept.content(P) == NEW


def test_a_store_to_a_volatile_victim_may_be_lost_and_that_is_the_bargain() -> None:
    world = make_world()
    bring(world, P, "Vr")
    world.reclaim_to(P, StageKind.REMOVE_ACCESS)
    world.execute(Store(P, 0, b"n"))
    world.settle()
    assert world.state(P) == 0x0F


def test_op_6_against_the_discard_either_wins_or_reports_v_and_z() -> None:
    for stop in STOPS:
        world = make_world()
        bring(world, P, "Vr", tag=b"q")
        world.reclaim_to(P, stop)
        assert world.essa(6, P).state == 0x0C
        world.settle()
        assert world.content(P) == b"q" * 4096
    world = make_world()
    bring(world, P, "Vr")
    world.evict(P)
    assert world.essa(6, P).state == 0x0F
    assert world.state(P) == 0x0F


def test_without_a_slot_the_page_stays_and_is_not_chosen_again() -> None:
    world = make_world(frames=2, slots=1, pages=3, overcommit_paging=True)
    bring(world, 0, "Sp")  # takes the only slot
    bring(world, 1, "Sr")
    assert CHOOSE_VICTIM not in world.host.enabled()
    world.reclaim_to(1, StageKind.COMMIT)  # an operator may still try
    world.run(StageKind.COMMIT, 1)
    assert world.state(1) == 0x00
    bring(world, 2, "Vr")
    assert CHOOSE_VICTIM in world.host.enabled(), "what can be dropped still goes"
    world.host.check()


def test_commit_drains_the_release_lists_when_slots_run_out() -> None:
    world = make_world(frames=2, slots=1, pages=3, overcommit_paging=True)
    bring(world, 0, "Sp")
    world.essa(2, 0, vcpu=1)  # the slot is on vCPU 1's list
    assert world.host.statistics().slots_free == 0
    bring(world, 1, "Sr", tag=b"q")
    assert CHOOSE_VICTIM in world.host.enabled()
    world.reclaim_to(1, StageKind.SUBMIT_PAGE_OUT)
    assert StageKind.DRAIN_RELEASE_LIST not in {stage.kind for stage in world.host.enabled()}
    world.settle()
    assert world.content(1) == b"q" * 4096


def test_watermarks() -> None:
    """Wanted from below low until high is in sight; what is on its way counts."""
    world = make_world(frames=6, low_watermark=2, high_watermark=4)
    for pfn in range(4):
        bring(world, pfn, "Sr")
    assert not world.host.reclaim_wanted(), "two free frames are not below two"
    bring(world, 4, "Sr")
    chosen = 0
    while world.host.reclaim_wanted():
        world.run(StageKind.CHOOSE_VICTIM)
        chosen += 1
    assert chosen == 3, "one frame is free and four are wanted"
    world.settle()
    assert not world.host.reclaim_wanted()
    assert world.host.statistics().frames_free == 4
    bring(world, 5, "Sr")
    assert not world.host.reclaim_wanted(), "three are not below two"


def test_commands_that_wait_for_frames_ask_for_reclaim_without_watermarks() -> None:
    world = make_world(frames=2)
    bring(world, 0, "Sr")
    bring(world, 1, "Sr")
    assert not world.host.reclaim_wanted()
    for vcpu in (0, 1):
        assert world.execute(Load(4 + vcpu, 0, 8), vcpu) is None
    for _ in range(2):
        assert world.host.reclaim_wanted()
        world.run(StageKind.CHOOSE_VICTIM)
    assert not world.host.reclaim_wanted()
    world.settle()
    assert sorted(world.completed) == [0, 1]


@pytest.mark.parametrize("policy", ["hints-first", "zvm", "random"])
def test_every_policy_empties_the_pool(policy: str) -> None:
    world = make_world(frames=8, policy=policy)
    for pfn, state in enumerate(("Sr", "Ur", "Vr", "Pr", "Pr", "Sr", "Vr", "Ur")):
        bring(world, pfn, state, changed=pfn == 4)
    while CHOOSE_VICTIM in world.host.enabled():
        world.run(StageKind.CHOOSE_VICTIM)
    world.settle()
    assert world.host.statistics().frames_free == 8
    assert [world.state(pfn) for pfn in range(8)] == [2, 7, 15, 15, 2, 2, 15, 7]


def test_arrays_cancel_reclaim_as_single_essas_do() -> None:
    world = make_world(pages=64, frames=40, slots=64)
    for pfn in range(32):
        bring(world, pfn, "Vr")
    world.reclaim_to(7, StageKind.COMMIT)
    world.reclaim_to(9, StageKind.COMMIT)
    orcs = np.full(32, 6, np.uint8)
    orcs[9] = 0  # GET_STATE leaves the reclaim of page 9 alone
    world.execute(EssaArray.of(orcs, np.arange(32, dtype=np.uint32)))
    world.settle()
    assert world.state(7) == 0x00
    assert world.state(9) == 0x0F
