"""Goal: exceptions come in the architecture's order and change nothing; bad calls neither.

Method: an ESSA that earns several exceptions at once loses them one by one. Whatever raises
leaves a snapshot byte for byte as it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from host_daemon.core.config import GuestSpec, HostConfig
from host_daemon.core.effects import Stage, StageKind
from host_daemon.core.host import Host
from shared.arch import Mode
from shared.commands import (
    DeviceLoad,
    Essa,
    EssaArray,
    EssaArrayOutcome,
    EssaOutcome,
    IoError,
    Iske,
    Load,
    ProgramInterruption,
    Rrbe,
    Sske,
    Store,
)
from shared.errors import (
    GuestExistsError,
    GuestNotFoundError,
    InvalidRequestError,
    PagingSpaceError,
)
from tests.host.test_snapshot import equal
from tests.host.world import STATES, SeededChoices, bring, make_world

OUTSIDE = 99


@pytest.mark.parametrize("mode", list(Mode))
def test_order(mode: Mode) -> None:
    off = make_world(mode, spec={"essa_enabled": False})
    on = make_world(mode)
    assert off.execute(Essa(9, OUTSIDE, problem_state=True)) == ProgramInterruption(0x01)
    assert on.execute(Essa(9, OUTSIDE, problem_state=True)) == ProgramInterruption(0x02)
    assert on.execute(Essa(9, OUTSIDE)) == ProgramInterruption(0x06)
    assert on.execute(Essa(6, OUTSIDE)) == ProgramInterruption(0x05)
    assert isinstance(on.execute(Essa(6, 0)), EssaOutcome)


@pytest.mark.parametrize("mode", list(Mode))
def test_order_in_arrays(mode: Mode) -> None:
    off = make_world(mode, spec={"essa_enabled": False})
    on = make_world(mode)
    for length in (2, 64):  # one by one, and as a whole
        orcs = np.array([1] * (length - 2) + [9, 9], np.uint8)
        pfns = np.arange(length, dtype=np.uint32)
        pfns[-1] = OUTSIDE
        array = EssaArray.of(orcs, pfns)
        problem = EssaArray.of(orcs, pfns, problem_state=True)
        assert off.execute(problem) == EssaArrayOutcome(b"\x81" * length)
        assert on.execute(problem) == EssaArrayOutcome(b"\x82" * length)
        outcome = on.execute(array)
        assert isinstance(outcome, EssaArrayOutcome)
        assert outcome.states[-2:] == b"\x86\x86"
        outside = EssaArray.of(orcs[:-2], pfns[:-2] + np.uint32(OUTSIDE))
        if length > 2:
            assert on.execute(outside) == EssaArrayOutcome(b"\x85" * (length - 2))


@pytest.mark.parametrize("command", [Load(OUTSIDE, 0, 8), Store(OUTSIDE, 0, b"x"), Iske(OUTSIDE),
                                     Rrbe(OUTSIDE), Sske(OUTSIDE, 0)])  # fmt: skip
def test_addresses_outside_storage_are_addressing_exceptions(command: Any) -> None:
    assert make_world().execute(command) == ProgramInterruption(0x05)


def test_a_device_outside_storage_gets_an_io_error() -> None:
    assert make_world().execute(DeviceLoad(OUTSIDE, 0, 8), 2) == IoError()


def test_exceptions_and_faults_change_no_state_and_no_key() -> None:
    for mode in Mode:
        for state in STATES[mode]:
            world = make_world(mode)
            bring(world, 3, state)
            before = world.state(3), world.key(3)
            world.execute(Essa(7, 3))
            world.execute(Essa(2, 3, problem_state=True))
            assert (world.state(3), world.key(3)) == before


def test_unbacked_memory_in_mode_kvm() -> None:
    world = make_world(Mode.KVM, spec={"unbacked": (range(2, 4),)})
    assert world.essa(0, 2) == EssaOutcome(0x00)
    for orc in range(1, 7):
        assert world.essa(orc, 3) == EssaOutcome(0x10)
    for command in (Load(2, 0, 8), Store(3, 0, b"x"), Iske(2), Sske(2, 0), Rrbe(2)):
        assert world.execute(command) == ProgramInterruption(0x05)
    assert world.execute(DeviceLoad(2, 0, 8), 2) == IoError()
    array = EssaArray.of(np.full(16, 2, np.uint8), np.arange(16, dtype=np.uint32))
    long = EssaArray.of(np.full(17, 2, np.uint8), np.arange(17, dtype=np.uint32))
    for command in (array, long):
        outcome = world.execute(command)
        assert isinstance(outcome, EssaArrayOutcome)
        assert outcome.states[1:5] == bytes([outcome.states[1], 0x10, 0x10, outcome.states[4]])
    assert not world.host.begin_eviction(world.guest, 2)


def _raises(world: Any, error: type[Exception], call: Any) -> None:
    before = world.host.snapshot()
    with pytest.raises(error):
        call(world.host)
    assert equal(before, world.host.snapshot())


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (GuestNotFoundError, lambda host: host.execute(7, 0, Essa(0, 0))),
        (GuestNotFoundError, lambda host: host.close_guest(7)),
        (GuestNotFoundError, lambda host: host.page_map(7)),
        (GuestNotFoundError, lambda host: host.acknowledge_fault(7, 1)),
        (InvalidRequestError, lambda host: host.execute(1, 3, Essa(0, 0))),
        (InvalidRequestError, lambda host: host.execute(1, -1, Essa(0, 0))),
        (InvalidRequestError, lambda host: host.execute(1, 2, Essa(0, 0))),
        (InvalidRequestError, lambda host: host.execute(1, 2, Load(0, 0, 1))),
        (InvalidRequestError, lambda host: host.execute(1, 0, DeviceLoad(0, 0, 1))),
        (InvalidRequestError, lambda host: host.acknowledge_fault(1, 1)),
        (InvalidRequestError, lambda host: host.acknowledge_fault(1, 0)),
        (InvalidRequestError, lambda host: host.begin_eviction(1, 16)),
        (InvalidRequestError, lambda host: host.begin_eviction(1, -1)),
        (GuestExistsError, lambda host: host.open_guest(GuestSpec("guest", 1))),
        (PagingSpaceError, lambda host: host.open_guest(GuestSpec("big", 49))),
        (InvalidRequestError, lambda host: host.open_guest(GuestSpec("", 1))),
        (InvalidRequestError, lambda host: host.open_guest(GuestSpec("a", 0))),
        (InvalidRequestError, lambda host: host.open_guest(GuestSpec("a", 1, 0))),
        (InvalidRequestError, lambda host: host.open_guest(GuestSpec("a", 1, 1, -1))),
        (
            InvalidRequestError,
            lambda host: host.open_guest(GuestSpec("a", 4, unbacked=(range(1, 2),))),
        ),
        (
            InvalidRequestError,
            lambda host: host.open_guest(GuestSpec("a", 4, mode=Mode.KVM, unbacked=(range(1, 5),))),
        ),
        (AssertionError, lambda host: host.run(Stage(StageKind.COMMIT, 1, 0))),
        (KeyError, lambda host: host.page_out_done(5, True)),
    ],
)
def test_a_raise_leaves_everything_as_it_was(error: type[Exception], call: Any) -> None:
    world = make_world()
    bring(world, 3, "Sp")
    bring(world, 4, "Pr")
    _raises(world, error, call)


@pytest.mark.parametrize(
    "config",
    [
        HostConfig(0, 1),
        HostConfig(1, -1),
        HostConfig(4, 4, low_watermark=3, high_watermark=2),
        HostConfig(4, 4, low_watermark=1, high_watermark=5),
        HostConfig(4, 4, policy="fifo"),
    ],
)
def test_a_host_that_makes_no_sense_is_refused(config: HostConfig) -> None:
    with pytest.raises(InvalidRequestError):
        Host(config, SeededChoices())
