"""Goal: pages in transit: what every orc and every access does to them, by table.

Method: a page is stopped at each point of its way out and in; then one command comes. The
tables here say what the page is right after, whether the transfer lives, and what the page
is and holds once everything has landed, in whatever order.
"""

from __future__ import annotations

import pytest

from host_daemon.core.effects import StageKind
from shared.commands import (
    DONE,
    Command,
    DeviceLoad,
    DeviceStore,
    Essa,
    EssaOutcome,
    FaultPending,
    IoError,
    Iske,
    KeyOutcome,
    Load,
    LoadOutcome,
    MachineCheck,
    Outcome,
    ProgramInterruption,
    Rrbe,
    Sske,
    Store,
)
from tests.host.world import World, bring, make_world

P = 3  # the page
DEVICE = 2
SR, SP, SZ, UR, UZ, VR, VZ, PR = 0x00, 0x02, 0x03, 0x04, 0x07, 0x0C, 0x0F, 0x08
LOAD, STORE = Load(P, 0, 64), Store(P, 0, b"n" * 32)
DEVICE_LOAD, DEVICE_STORE = DeviceLoad(P, 0, 64), DeviceStore(P, 0, b"n" * 32)
LOADED = LoadOutcome(b"q" * 32, 2)
NEW = b"n" * 32 + b"q" * 4064
OLD = b"q" * 4096


def issuer_of(command: Command) -> int:
    """A device's commands come from the device."""
    return DEVICE if isinstance(command, DeviceLoad | DeviceStore) else 0


# Page-out of a changed page: command -> (outcome, state right after, page-out lives).
PAGE_OUT: list[tuple[Command, Outcome, int, bool]] = [
    (Essa(0, P), EssaOutcome(SR), SR, True),
    (Essa(1, P), EssaOutcome(SR), SR, False),
    (Essa(2, P), EssaOutcome(SR), UR, False),
    (Essa(3, P), EssaOutcome(SR), VR, False),
    (Essa(4, P), EssaOutcome(SR), PR, False),
    (Essa(5, P), EssaOutcome(SR), SR, False),
    (Essa(6, P), EssaOutcome(SR), SR, False),
    (LOAD, LOADED, SR, True),
    (STORE, DONE, SR, False),
    (DEVICE_LOAD, LOADED, SR, True),
    (DEVICE_STORE, DONE, SR, False),
    (Iske(P), KeyOutcome(0x02), SR, True),
    (Rrbe(P), KeyOutcome(0x02), SR, True),
    (Sske(P, 0x10), DONE, SR, True),
]
STOPS = [StageKind.SUBMIT_PAGE_OUT, None]  # not yet submitted; in flight


def begin_page_out(state: str, stop: StageKind | None) -> World:
    """A changed page on its way out."""
    world = make_world()
    bring(world, P, state, changed=True, tag=b"q")
    world.reclaim_to(P, StageKind.SUBMIT_PAGE_OUT)
    if stop is None:
        world.run(StageKind.SUBMIT_PAGE_OUT, P)
    return world


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("before", ["Sr", "Pr"])
@pytest.mark.parametrize(("command", "outcome", "after", "lives"), PAGE_OUT)
def test_page_out(
    command: Command,
    outcome: Outcome,
    after: int,
    lives: bool,
    before: str,
    stop: StageKind | None,
) -> None:
    world = begin_page_out(before, stop)
    assert world.state(P) == SR, "a changed P page is stable once its page-out has begun"
    free = world.host.statistics().slots_free
    assert world.execute(command, issuer_of(command)) == outcome
    assert world.state(P) == after
    world.host.check()
    submitted = stop is None
    released_now = not lives and not submitted
    assert world.host.statistics().slots_free == free + released_now
    world.settle()  # a late completion is among it
    assert world.state(P) == (SP if lives else after)
    held = 64 - world.host.statistics().slots_free
    assert held == (1 if lives else 0), "the slot of a cancelled page-out is free at last"
    if after != UR:
        stored = isinstance(command, Store)
        assert world.content(P) == (NEW if stored else OLD)


def test_a_cancelled_page_outs_slot_is_held_until_its_late_completion() -> None:
    world = begin_page_out("Sr", None)
    (first,) = world.flights
    world.execute(STORE)
    # A second page-out overtakes the first: it must have got another slot.
    world.reclaim_to(P, StageKind.SUBMIT_PAGE_OUT)
    world.run(StageKind.SUBMIT_PAGE_OUT, P)
    second = max(world.flights)
    assert world.flights[first].slot != world.flights[second].slot
    world.land(second)
    world.land(first)
    world.host.check()
    assert world.content(P) == NEW


def test_a_page_out_that_fails_leaves_the_page_resident_and_its_slot_unused() -> None:
    world = begin_page_out("Sr", None)
    (operation,) = world.flights
    slot = world.flights[operation].slot
    world.land(operation, ok=False)
    assert world.state(P) == SR
    assert world.host.statistics().slots_retired == 1
    world.evict(P)
    assert slot not in world.device
    assert world.content(P) == OLD
    world.host.check()


def test_late_failure_of_a_cancelled_page_out_retires_the_slot_too() -> None:
    world = begin_page_out("Sr", None)
    world.execute(STORE)
    (operation,) = world.flights
    world.land(operation, ok=False)
    assert world.host.statistics().slots_retired == 1
    world.host.check()


# Page-in: command -> (outcome or None, state right after, page-in lives, state at the end).
# The first load, of vCPU 1, is parked throughout; `first` is how it ends.
PAGE_IN: list[tuple[Command, bool, Outcome | None, int, bool, int, Outcome]] = [
    (Essa(0, P), True, EssaOutcome(SP), SP, True, SR, LOADED),
    (Essa(1, P), True, EssaOutcome(SP), SP, True, SR, LOADED),
    (Essa(2, P), True, EssaOutcome(SP), UZ, False, UZ, ProgramInterruption(0x05)),
    (Essa(3, P), True, EssaOutcome(SP), VZ, False, VZ, FaultPending(1)),
    (Essa(4, P), True, EssaOutcome(SP), SP, True, SR, LOADED),
    (Essa(4, P), False, EssaOutcome(SP), VZ, False, VZ, FaultPending(1)),
    (Essa(5, P), True, None, SP, True, SR, LOADED),
    (Essa(6, P), True, EssaOutcome(SP), SP, True, SR, LOADED),
    (LOAD, True, None, SP, True, SR, LOADED),
    (STORE, True, None, SP, True, SR, LOADED),
    (DEVICE_LOAD, True, None, SP, True, SR, LOADED),
    (DEVICE_STORE, True, None, SP, True, SR, LOADED),
    (Iske(P), True, KeyOutcome(0x02), SP, True, SR, LOADED),
    (Rrbe(P), True, KeyOutcome(0x02), SP, True, SR, LOADED),
    (Sske(P, 0x10), True, DONE, SP, True, SR, LOADED),
]
LATER = {Essa: EssaOutcome(SP), Load: LOADED, DeviceLoad: LOADED, Store: DONE, DeviceStore: DONE}


def begin_page_in(*, changed: bool = True, submitted: bool = True) -> World:
    """A page on its way in, on which vCPU 1's load waits."""
    world = make_world()
    bring(world, P, "Sp", changed=changed, tag=b"q")
    assert world.execute(LOAD, 1) is None
    if submitted:
        world.run(StageKind.SUBMIT_PAGE_IN, P)
    return world


@pytest.mark.parametrize("submitted", [False, True])
@pytest.mark.parametrize(
    ("command", "changed", "outcome", "after", "lives", "at_end", "first"), PAGE_IN
)
def test_page_in(
    command: Command,
    changed: bool,
    outcome: Outcome | None,
    after: int,
    lives: bool,
    at_end: int,
    first: Outcome,
    submitted: bool,
) -> None:
    world = begin_page_in(changed=changed, submitted=submitted)
    frames = world.host.statistics().frames_free
    assert world.execute(command, issuer_of(command)) == outcome
    assert world.state(P) == after
    world.host.check()
    assert world.host.statistics().frames_free == frames + (not lives)
    world.settle()  # vCPU 1's load was first in the queue and goes on first
    assert world.state(P) == at_end
    assert world.completed.pop(1) == first
    if outcome is None:
        assert world.completed.pop(issuer_of(command)) == LATER[type(command)]
    assert not world.completed
    if at_end == SR:
        stored = isinstance(command, Store)
        assert world.content(P) == (NEW if stored else OLD)


def test_what_is_parked_on_a_page_given_up_does_not_wait_for_the_read() -> None:
    world = begin_page_in()
    world.essa(2, P)
    assert world.flights, "the read is still under way"
    world.run(StageKind.RESUME, 1)
    assert world.completed == {1: ProgramInterruption(0x05)}
    device = begin_page_in()
    assert device.execute(DEVICE_STORE, DEVICE) is None
    device.essa(3, P)
    device.run(StageKind.RESUME, DEVICE)
    assert device.completed == {DEVICE: IoError()}


def test_a_dropped_page_in_that_completes_late_touches_nobody_elses_page() -> None:
    """The frame and the slot of the dropped page-in are in other hands by then."""
    world = begin_page_in()
    (operation,) = world.flights
    world.essa(2, P)
    world.run(StageKind.DRAIN_RELEASE_LIST, 0)
    for pfn in range(8, 16):  # all frames, the dropped one's among them
        world.execute(Store(pfn, 0, bytes([pfn]) * 32, 128), 1 - (pfn & 1))
    world.land(operation)
    world.host.check()
    for pfn in range(8, 16):
        assert world.content(pfn) == bytes([pfn]) * 4096


def test_op_1_after_op_2_during_page_in_reads_as_zeroes() -> None:
    world = begin_page_in()
    world.essa(2, P)
    world.essa(1, P)
    assert world.state(P) == SZ
    world.settle()
    assert world.completed.pop(1) == LoadOutcome(bytes(32), 2)


@pytest.mark.parametrize("command", [LOAD, STORE, Essa(5, P), DEVICE_LOAD, DEVICE_STORE])
def test_a_damaged_copy_ends_every_parked_access_in_a_machine_check(command: Command) -> None:
    world = begin_page_in()
    assert world.execute(command, issuer_of(command)) is None
    (operation,) = world.flights
    world.land(operation, ok=False)
    world.settle()
    assert world.completed == {1: MachineCheck(), issuer_of(command): MachineCheck()}
    assert world.state(P) == SP
    assert world.host.guest_statistics(world.guest).paging.machine_checks == 2
    world.host.check()


def test_orc_4_gives_a_clean_damaged_page_up_and_keeps_a_changed_one() -> None:
    for changed, after in ((False, VZ), (True, SP)):
        world = begin_page_in(changed=changed)
        (operation,) = world.flights
        world.land(operation, ok=False)
        world.essa(4, P)
        assert world.state(P) == after
        world.host.check()
