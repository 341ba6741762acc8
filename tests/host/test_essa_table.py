"""Goal: every orc in every state does what the facts say, in both modes.

Method: the expected states are written out here, row by row, and not read from the tables
under test. Each state is reached by commands and evictions, as a guest would reach it.
Results carry the state before; the forbidden states are shown never to come about.
"""

from __future__ import annotations

import pytest

from shared.arch import TABLES, Mode
from shared.commands import EssaOutcome, ProgramInterruption
from tests.host.world import STATES, World, bring, make_world

CODE = {
    "Sr": 0x00, "Sp": 0x02, "Sz": 0x03, "Ur": 0x04, "Up": 0x06, "Uz": 0x07,
    "Pr": 0x08, "Pp": 0x0A, "Vr": 0x0C, "Vp": 0x0E, "Vz": 0x0F,
}  # fmt: skip

# "a/b": a with the change bit set, b with it clear.
SEED = """
     0   1   2   3   4      5   6
Sr   Sr  Sr  Ur  Vr  Pr     Sr  Sr
Sp   Sp  Sp  Uz  Vz  Sp/Vz  Sr  Sp
Sz   Sz  Sz  Uz  Vz  Vz     Sr  Sz
Ur   Ur  Sr  Ur  Vr  Pr     Sr  Sr
Uz   Uz  Sz  Uz  Vz  Vz     Sr  Uz
Vr   Vr  Sr  Ur  Vr  Pr     Sr  Sr
Vz   Vz  Sz  Uz  Vz  Vz     Sr  Vz
Pr   Pr  Sr  Ur  Vr  Pr     Sr  Sr
"""
KVM = """
     0   1   2   3   4      5   6
Sr   Sr  Sr  Ur  Vr  Pr     Sr  Sr
Sp   Sp  Sp  Uz  Vz  Sp/Vz  Sp  Sp
Sz   Sz  Sz  Uz  Vz  Vz     Sz  Sz
Ur   Ur  Sr  Ur  Vr  Pr     Sr  Sr
Up   Up  Sp  Uz  Vz  Sp/Vz  Sp  Up
Uz   Uz  Sz  Uz  Vz  Vz     Sz  Uz
Vr   Vr  Sr  Ur  Vr  Pr     Sr  Sr
Vp   Vp  Sp  Uz  Vz  Sp/Vz  Sp  Vp
Vz   Vz  Sz  Uz  Vz  Vz     Sz  Vz
Pr   Pr  Sr  Ur  Vr  Pr     Sr  Sr
Pp   Pp  Sp  Uz  Vz  Sp/Vz  Sp  Pp
"""


def cases(mode: Mode, text: str) -> list[tuple[Mode, str, int, bool, str]]:
    """(mode, before, orc, changed, after)"""
    found = []
    header, *rows = text.strip("\n").splitlines()
    for row in rows:
        before, *cells = row.split()
        for orc, cell in zip(map(int, header.split()), cells, strict=True):
            with_change, _, clear = cell.partition("/")
            found.append((mode, before, orc, True, with_change))
            found.append((mode, before, orc, False, clear or with_change))
    return found


ALL = cases(Mode.SEED, SEED) + cases(Mode.KVM, KVM)


def answer(world: World, orc: int, pfn: int) -> object:
    """The outcome of an ESSA that may have to wait for a page-in."""
    outcome = world.essa(orc, pfn)
    if outcome is None:
        world.settle()
        outcome = world.completed.pop(0)
    return outcome


@pytest.mark.parametrize(("mode", "before", "orc", "changed", "after"), ALL)
def test_transition(mode: Mode, before: str, orc: int, changed: bool, after: str) -> None:
    world = make_world(mode)
    bring(world, 3, before, changed=changed)
    assert world.state(3) == CODE[before]
    key = world.key(3)
    assert answer(world, orc, 3) == EssaOutcome(CODE[before])
    assert world.state(3) == CODE[after]
    assert world.key(3) == key, "an ESSA leaves the storage key alone"
    world.host.check()
    assert world.host.guest_statistics(world.guest).paging.essa[orc] >= 1


def test_the_cases_are_all_states_by_all_orcs() -> None:
    assert len(ALL) == (8 + 11) * 7 * 2
    for mode in Mode:
        assert {CODE[name] for name in STATES[mode]} == set(TABLES[mode].states)


@pytest.mark.parametrize("orc", range(7, 16))
@pytest.mark.parametrize("mode", list(Mode))
def test_orcs_7_to_15_are_specification_exceptions_in_every_state(mode: Mode, orc: int) -> None:
    for pfn, state in enumerate(STATES[mode]):
        world = make_world(mode)
        bring(world, pfn, state)
        assert world.essa(orc, pfn) == ProgramInterruption(0x06)
        assert world.state(pfn) == CODE[state]


@pytest.mark.parametrize("orc", [0, 1, 2, 3, 4, 6])
def test_content_survives_what_leaves_a_resident_page_resident(orc: int) -> None:
    world = make_world()
    for pfn, state in enumerate(("Sr", "Ur", "Vr", "Pr")):
        bring(world, pfn, state, tag=b"q")
        world.essa(orc, pfn)
        world.essa(1, pfn)
        assert world.content(pfn) == b"q" * 4096


@pytest.mark.parametrize(("state", "content"), [("Sp", b"q"), ("Sz", b"\0"), ("Uz", b"\0")])
def test_orc_5_brings_the_page_in(state: str, content: bytes) -> None:
    world = make_world()
    bring(world, 2, state, tag=b"q")
    assert answer(world, 5, 2) == EssaOutcome(CODE[state])
    assert world.state(2) == CODE["Sr"]
    assert world.content(2) == content * 4096


@pytest.mark.parametrize("state", ["Sp", "Sz", "Uz", "Vz"])
def test_only_orc_5_waits_for_a_frame(state: str) -> None:
    for orc in range(7):
        world = make_world(frames=1)
        bring(world, 1, state)
        bring(world, 0, "Sr")  # takes the only frame
        outcome = world.essa(orc, 1)
        assert (outcome is None) == (orc == 5)


def test_orc_5_that_waited_for_a_frame_reports_what_another_vcpu_made_of_the_page() -> None:
    world = make_world(frames=1)
    bring(world, 0, "Sr")
    assert world.essa(5, 1) is None  # page 1 is Sz
    world.evict(0)
    assert world.completed.pop(0) == EssaOutcome(CODE["Sz"])


def test_states_a_mode_forbids_are_in_no_table_and_no_page_may_be_in_one() -> None:
    forbidden = {Mode.SEED: ("Up", "Vp", "Pp"), Mode.KVM: ()}
    for mode, names in forbidden.items():
        for code in [CODE[name] for name in names] + [0x01, 0x05, 0x09, 0x0B, 0x0D]:
            world = make_world(mode)
            assert code not in TABLES[mode].states
            # Negative: plant the state in a snapshot, and the next input that touches it fails.
            snapshot = world.host.snapshot()
            snapshot["guests"][0]["states"][4] = code
            planted = World(type(world.host).restore(snapshot, None), world.guest)
            with pytest.raises(AssertionError):
                planted.essa(0, 4)
            with pytest.raises(AssertionError):
                planted.host.check()
