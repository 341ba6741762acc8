"""Goal: every kind of access in every state ends as the facts say, in both modes.

Method: a table written out here: what a vCPU's load and store and a device's transfer meet
in each state, the state after, and the content then seen. Keys are looked at as well.
"""

from __future__ import annotations

import pytest

from shared.arch import Mode
from shared.commands import (
    DONE,
    Command,
    DeviceLoad,
    DeviceStore,
    FaultPending,
    IoError,
    Load,
    LoadOutcome,
    MachineCheck,
    Outcome,
    ProgramInterruption,
    Store,
)
from tests.host.world import World, bring, make_world

ADDRESSING = ProgramInterruption(0x05)
# state: (how a vCPU's access ends, state after, first byte that a load sees)
SEED = {
    "Sr": ("ok", 0x00, b"q"),
    "Sp": ("ok", 0x00, b"q"),
    "Sz": ("ok", 0x00, b"\0"),
    "Ur": ("0x05", 0x04, b""),
    "Uz": ("0x05", 0x07, b""),
    "Vr": ("ok", 0x0C, b"q"),
    "Vz": ("fault", 0x0F, b""),
    "Pr": ("ok", 0x08, b"q"),
}
KVM = {
    "Sr": ("ok", 0x00, b"q"),
    "Sp": ("ok", 0x00, b"q"),
    "Sz": ("ok", 0x00, b"\0"),
    "Ur": ("ok", 0x04, b"q"),
    "Up": ("ok", 0x04, b"\0"),
    "Uz": ("ok", 0x04, b"\0"),
    "Vr": ("ok", 0x0C, b"q"),
    "Vp": ("ok", 0x0C, b"q"),
    "Vz": ("ok", 0x0C, b"\0"),
    "Pr": ("ok", 0x08, b"q"),
    "Pp": ("ok", 0x08, b"q"),
}
ALL = [(Mode.SEED, s, *e) for s, e in SEED.items()] + [(Mode.KVM, s, *e) for s, e in KVM.items()]
LOAD, STORE = Load(3, 64, 96), Store(3, 32, b"ab", 8)
DEVICE_LOAD, DEVICE_STORE = DeviceLoad(3, 64, 96), DeviceStore(3, 32, b"ab", 8)
DEVICE = 2


def answer(world: World, command: Command, issuer: int) -> Outcome:
    """The outcome of an access that may have to wait for a page-in."""
    outcome = world.execute(command, issuer)
    if outcome is None:
        world.settle()
        outcome = world.completed.pop(issuer)
    return outcome


@pytest.mark.parametrize("command", [LOAD, STORE, DEVICE_LOAD, DEVICE_STORE])
@pytest.mark.parametrize(("mode", "state", "end", "after", "byte"), ALL)
def test_access(
    mode: Mode, state: str, end: str, after: int, byte: bytes, command: Command
) -> None:
    world = make_world(mode)
    bring(world, 3, state, tag=b"q")
    device = isinstance(command, DeviceLoad | DeviceStore)
    outcome = answer(world, command, DEVICE if device else 0)
    assert world.state(3) == after
    if end != "ok":
        expected = {"0x05": ADDRESSING, "fault": FaultPending(1)}[end]
        assert outcome == (IoError() if device else expected)
        assert world.key(3) == 0, "an access that does not happen leaves no trace in the key"
        return
    if isinstance(command, Store):
        assert outcome == DONE
        assert world.key(3) == 0x06, "a store sets R and C"
        rest = byte * (4096 - 48)
        assert world.content(3) == byte * 32 + b"ab" * 8 + rest
    else:
        assert outcome == LoadOutcome(byte * 32, 3)
        assert world.key(3) == 0x04, "a load sets R"


@pytest.mark.parametrize("command", [LOAD, STORE, DEVICE_LOAD, DEVICE_STORE])
def test_unused_access_resident_ok_opens_ur_and_only_ur(command: Command) -> None:
    device = isinstance(command, DeviceLoad | DeviceStore)
    for state, opened in (("Ur", True), ("Uz", False)):
        world = make_world(spec={"unused_access_resident_ok": True})
        bring(world, 3, state, tag=b"q")
        before = world.state(3)
        outcome = world.execute(command, DEVICE if device else 0)
        refused = IoError() if device else ADDRESSING
        assert (outcome == refused) is not opened
        assert world.state(3) == before, "usage is never changed by an access (D10)"


@pytest.mark.parametrize(
    ("offset", "length", "data", "repeat"),
    [
        (0, 4096, b"x" * 32, 128),
        (0, 64, b"x" * 32, 2),
        (7, 96, b"x" * 32, 3),
        (0, 32, b"x" * 32, 1),
        (0, 33, b"x" * 33, 1),
        (0, 5, b"x" * 5, 1),
    ],
)
def test_uniform_loads_come_as_32_bytes_and_a_count(
    offset: int, length: int, data: bytes, repeat: int
) -> None:
    world = make_world()
    bring(world, 0, "Sr")
    assert world.execute(Load(0, offset, length)) == LoadOutcome(data, repeat)


def test_loads_that_do_not_repeat_come_as_they_are() -> None:
    world = make_world()
    data = bytes(range(64))
    world.execute(Store(0, 0, data))
    assert world.execute(Load(0, 0, 64)) == LoadOutcome(data, 1)
    world.execute(Store(0, 0, b"y" * 32, 128))
    world.execute(Store(0, 4095, b"z"))
    outcome = world.execute(Load(0, 0, 4096))
    assert outcome == LoadOutcome(b"y" * 4095 + b"z", 1)


@pytest.mark.parametrize("command", [LOAD, STORE, DEVICE_LOAD, DEVICE_STORE])
def test_a_damaged_copy_is_a_machine_check_until_the_guest_gives_it_up(command: Command) -> None:
    issuer = DEVICE if isinstance(command, DeviceLoad | DeviceStore) else 0
    for orc, after in ((2, 0x07), (3, 0x0F)):
        world = make_world()
        bring(world, 3, "Sp", changed=True)
        world.device.clear()
        assert answer(world, command, issuer) == MachineCheck()
        for harmless in (0, 1, 4, 6):  # orc 4 keeps a changed page
            world.essa(harmless, 3)
            assert world.state(3) == 0x02
            assert world.execute(command, issuer) == MachineCheck()
        assert world.essa(5, 3) == MachineCheck()
        world.essa(orc, 3)
        assert world.state(3) == after
        world.essa(1, 3)
        assert world.content(3) == bytes(4096)
        world.host.check()
