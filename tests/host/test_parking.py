"""Goal: what has to wait waits, holds nobody back, and goes on when it can.

Method: a pool of one or two frames; commands parked for frames and for page-ins; other
vCPUs change the page meanwhile; the status says when nothing can be done.
"""

from __future__ import annotations

import pytest

from host_daemon.core.effects import CHOOSE_VICTIM, Stage, StageKind
from shared.arch import Mode
from shared.commands import (
    DONE,
    DeviceLoad,
    DeviceStore,
    Essa,
    EssaOutcome,
    FaultPending,
    Iske,
    KeyOutcome,
    Load,
    LoadOutcome,
    ProgramInterruption,
    Store,
)
from tests.host.world import World, bring, make_world

ZEROES = LoadOutcome(bytes(32))


def full(mode: Mode = Mode.SEED) -> World:
    """One frame, and page 0 has it."""
    world = make_world(mode, frames=1)
    bring(world, 0, "Sr", tag=b"a")
    return world


def resumable(world: World) -> list[int]:
    """Issuers whose command could go on."""
    return [s.number for s in world.host.enabled() if s.kind is StageKind.RESUME]


def test_a_command_that_waits_for_a_frame_holds_nobody_back() -> None:
    world = full()
    assert world.execute(Load(1, 0, 32), 0) is None
    assert world.execute(Load(0, 0, 32), 1) == LoadOutcome(b"a" * 32)
    assert world.essa(3, 1, vcpu=1) == EssaOutcome(0x03), "an ESSA needs no frame"
    assert world.execute(Iske(1), 1) == KeyOutcome(0)
    assert world.host.statistics().parked == 1


def test_a_frame_freed_resumes_the_first_that_came() -> None:
    world = full()
    assert world.execute(Load(1, 0, 32), 1) is None
    assert world.execute(Store(2, 0, b"x"), 0) is None
    assert resumable(world) == []
    assert world.host.statistics().waiting_for_frame == 2
    world.host.begin_eviction(world.guest, 0)
    for kind in (StageKind.REMOVE_ACCESS, StageKind.READ_CHANGE_BIT, StageKind.COMMIT,
                 StageKind.SUBMIT_PAGE_OUT):  # fmt: skip
        world.run(kind, 0)
    world.land(*world.flights)
    assert resumable(world) == [1, 0], "both could take the frame; the first in line is first"
    world.run(StageKind.RESUME, 1)
    assert world.completed == {1: ZEROES}
    assert resumable(world) == []


@pytest.mark.parametrize(("orc", "outcome"), [(2, ProgramInterruption(0x05)), (3, FaultPending(1))])
def test_what_waits_for_a_frame_sees_what_the_page_has_become(orc: int, outcome: object) -> None:
    world = full()
    assert world.execute(Load(1, 0, 32), 0) is None
    world.essa(orc, 1, vcpu=1)
    world.run(StageKind.RESUME, 0)
    assert world.completed == {0: outcome}


def test_two_that_wait_for_the_same_page_need_one_frame() -> None:
    world = full()
    assert world.execute(Load(1, 0, 32), 0) is None
    assert world.execute(Store(1, 0, b"y" * 32), 1) is None
    world.essa(2, 0)  # displaces vCPU 0's own command, as a CPU does only one at a time
    assert world.execute(Load(1, 0, 32), 0) is None
    world.evict(0)
    assert world.completed == {1: DONE, 0: LoadOutcome(b"y" * 32)}


def test_a_preserved_page_waits_for_a_frame_first_and_for_its_content_then() -> None:
    world = full()
    world.evict(0)
    bring(world, 1, "Sr")
    assert world.execute(Load(0, 0, 32), 0) is None
    assert not any(s.kind is StageKind.SUBMIT_PAGE_IN for s in world.host.enabled())
    world.essa(2, 1)  # page 1 may go; this displaces the load
    assert world.execute(Load(0, 0, 32), 0) is None
    world.host.begin_eviction(world.guest, 1)
    for kind in (StageKind.REMOVE_ACCESS, StageKind.READ_CHANGE_BIT, StageKind.COMMIT):
        world.run(kind, 1)
    world.run(StageKind.RESUME, 0)
    assert not world.completed
    assert resumable(world) == [], "now it waits for the paging device"
    world.run(StageKind.SUBMIT_PAGE_IN, 0)
    world.land(*world.flights)
    world.run(StageKind.RESUME, 0)
    assert world.completed == {0: LoadOutcome(b"a" * 32)}


@pytest.mark.parametrize("command", [DeviceLoad(1, 0, 32), DeviceStore(1, 0, b"d" * 32)])
def test_devices_wait_as_vcpus_do(command: DeviceLoad | DeviceStore) -> None:
    world = full()
    assert world.execute(command, 2) is None
    world.evict(0)
    assert world.completed == {2: DONE if isinstance(command, DeviceStore) else ZEROES}


def test_stuck_is_said_when_nothing_can_be_evicted() -> None:
    world = make_world(frames=1, slots=0, pages=4, overcommit_paging=True)
    bring(world, 0, "Sr")
    assert world.execute(Load(1, 0, 32), 1) is None
    statistics = world.host.statistics()
    assert statistics.waiting_for_frame == 1
    assert statistics.stuck
    assert CHOOSE_VICTIM not in world.host.enabled()
    world.essa(3, 0)  # the guest lets a page go
    assert not world.host.statistics().stuck
    assert world.host.reclaim_wanted()
    world.run(StageKind.CHOOSE_VICTIM)
    world.settle()
    assert world.completed == {1: ZEROES}


def test_a_new_command_displaces_the_issuers_parked_one() -> None:
    world = full()
    assert world.execute(Store(1, 0, b"x"), 0) is None
    assert world.execute(Essa(0, 1), 0) == EssaOutcome(0x03)
    world.evict(0)
    assert not world.completed
    assert world.state(1) == 0x03


def test_resuming_what_cannot_go_on_leaves_it_parked() -> None:
    world = full()
    assert world.execute(Load(1, 0, 32), 0) is None
    world.host.run(Stage(StageKind.RESUME, world.guest, 0))
    assert world.host.statistics().parked == 1
    assert not world.host.take_effects()


def test_mode_kvm_orc_5_needs_no_frame() -> None:
    world = full(Mode.KVM)
    assert world.essa(5, 1) == EssaOutcome(0x02)
