"""Goal: discard faults are numbered from 1, come in order and again until acknowledged.

Method: faults are raised by several vCPUs and delivered, acknowledged and redelivered in
every order that matters; a guest that never acknowledges is made to wait.
"""

from __future__ import annotations

from host_daemon.core.effects import Stage, StageKind
from host_daemon.core.faults import FAULTS_MAX
from shared.commands import DiscardFault, FaultPending, Load, ProgramInterruption, Store
from tests.host.world import World, bring, make_world


def three() -> World:
    """Faults 1 to 3: of vCPU 0 on page 4, of vCPU 1 on page 5, of vCPU 0 on page 4 again."""
    world = make_world()
    bring(world, 4, "Vz")
    bring(world, 5, "Vz")
    assert world.execute(Load(4, 8, 1), 0) == FaultPending(1)
    assert world.execute(Store(5, 0, b"x"), 1) == FaultPending(2)
    assert world.execute(Load(4, 0, 1), 0) == FaultPending(3)
    return world


FAULTS = [DiscardFault(1, 0, 4 << 12), DiscardFault(2, 1, 5 << 12), DiscardFault(3, 0, 4 << 12)]


def waiting(world: World) -> list[int]:
    """Numbers of the delivery stages."""
    return [s.number for s in world.host.enabled() if s.kind is StageKind.DELIVER_FAULT]


def deliver_all(world: World) -> list[DiscardFault]:
    """Run the deliveries; what came."""
    world.delivered.clear()
    while waiting(world):
        (number,) = waiting(world)
        world.run(StageKind.DELIVER_FAULT, number)
    return world.delivered


def test_in_order_one_stage_at_a_time() -> None:
    assert deliver_all(three()) == FAULTS


def test_redelivered_until_acknowledged() -> None:
    world = three()
    deliver_all(world)
    assert waiting(world) == []
    world.host.redeliver_faults(world.guest)
    assert deliver_all(world) == FAULTS
    world.host.acknowledge_fault(world.guest, 2)
    world.host.redeliver_faults(world.guest)
    assert deliver_all(world) == [FAULTS[0], FAULTS[2]]
    for number in (1, 2, 3, 3):
        world.host.acknowledge_fault(world.guest, number)
    world.host.redeliver_faults(world.guest)
    assert deliver_all(world) == []
    assert world.host.guest_statistics(world.guest).faults_open == 0


def test_acknowledged_before_it_was_delivered_again() -> None:
    world = three()
    deliver_all(world)
    world.host.redeliver_faults(world.guest)
    world.host.acknowledge_fault(world.guest, 1)
    assert deliver_all(world) == FAULTS[1:]


def test_a_new_fault_comes_after_the_old_ones() -> None:
    world = three()
    world.run(StageKind.DELIVER_FAULT, 1)
    world.execute(Load(5, 0, 1), 1)
    assert [fault.number for fault in deliver_all(world)] == [2, 3, 4]


def test_a_guest_that_acknowledges_nothing_waits_for_its_next_fault() -> None:
    world = make_world()
    bring(world, 4, "Vz")
    for number in range(1, FAULTS_MAX + 1):
        assert world.execute(Load(4, 0, 1)) == FaultPending(number)
    assert world.execute(Load(4, 0, 1)) is None
    resume = Stage(StageKind.RESUME, world.guest, 0)
    assert resume not in world.host.enabled()
    world.host.acknowledge_fault(world.guest, 7)
    world.run(StageKind.RESUME, 0)
    assert world.completed.pop(0) == FaultPending(FAULTS_MAX + 1)
    # What waits is looked at from scratch: the page may be another one's by then.
    assert world.execute(Load(4, 0, 1)) is None
    world.essa(2, 4, vcpu=1)
    world.run(StageKind.RESUME, 0)
    assert world.completed.pop(0) == ProgramInterruption(0x05)
    world.host.check()
