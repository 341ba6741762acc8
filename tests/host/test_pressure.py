"""Goal: frames and slots are taken away and given back, and nothing of a page is lost by it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from host_daemon.core.host import Host
from host_daemon.core.pressure import FRAMES_LEFT_MIN, limits
from shared.commands import Load, LoadOutcome, Store
from shared.errors import InvalidRequestError
from tests.host.world import SeededChoices, World, make_world

FRAMES = 40


def _filled() -> World:
    """Every frame has a page with content of its own."""
    world = make_world(pages=2 * FRAMES, frames=FRAMES, slots=4 * FRAMES)
    for pfn in range(FRAMES):
        assert world.execute(Store(pfn, 0, bytes([pfn + 1]))) is not None
    return world


def _reclaim(world: World) -> None:
    while world.host.reclaim_wanted():
        stage = next(s for s in world.host.enabled() if s.kind.name == "CHOOSE_VICTIM")
        world.host.run(stage)
        world.take()
        world.settle()


def test_reclaim_finds_the_frames_that_are_withheld() -> None:
    world = _filled()
    assert not world.host.reclaim_wanted()
    world.host.withhold(frames=10, slots=0)
    _reclaim(world)
    statistics = world.host.statistics()
    assert (statistics.frames_withheld, statistics.frames_free) == (10, 0)
    assert statistics.paging.page_outs == 10
    world.host.check()

    world.host.withhold(frames=0, slots=0)
    assert world.host.statistics().frames_free == 10
    for pfn in range(FRAMES):
        if world.execute(Load(pfn, 0, 1)) is None:
            world.settle()
            assert world.completed.pop(0) == LoadOutcome(bytes([pfn + 1]))
    world.host.check()


def test_an_access_waits_for_a_frame_until_one_is_given_back() -> None:
    world = make_world(pages=2 * FRAMES, frames=FRAMES, slots=0, overcommit_paging=True)
    world.host.withhold(frames=limits(world.host.config)[0], slots=0)
    for pfn in range(FRAMES_LEFT_MIN):
        assert world.execute(Store(pfn, 0, b"x")) is not None
    assert world.execute(Store(FRAMES, 0, b"x")) is None
    assert world.host.statistics().stuck
    world.host.withhold(frames=0, slots=0)
    world.settle()
    assert 0 in world.completed


def test_without_slots_what_has_to_be_written_stays() -> None:
    world = _filled()
    slots = world.host.config.slot_count
    world.host.withhold(frames=0, slots=slots)
    world.evict(3)
    assert world.host.content(world.guest, 3) is not None
    world.host.withhold(frames=0, slots=0)
    world.evict(3)
    assert world.host.content(world.guest, 3) is None


def test_bounds_are_named_and_nothing_changes() -> None:
    world = _filled()
    frames, slots = limits(world.host.config)
    assert frames == FRAMES - FRAMES_LEFT_MIN
    world.host.withhold(frames=1, slots=1)
    for field, values in {
        "frames": {"frames": frames + 1, "slots": 0},
        "slots": {"frames": 0, "slots": slots + 1},
    }.items():
        with pytest.raises(InvalidRequestError, match=f"^{field} withheld would be") as caught:
            world.host.withhold(**values)
        assert caught.value.metadata["field"] == field
        assert world.host.statistics().frames_withheld == 1
    small = replace(world.host.config, frame_count=8)
    assert limits(small)[0] == 0


def test_a_restored_host_withholds_as_much() -> None:
    world = _filled()
    world.host.withhold(frames=5, slots=7)
    statistics = Host.restore(world.host.snapshot(), SeededChoices()).statistics()
    assert (statistics.frames_withheld, statistics.slots_withheld) == (5, 7)
