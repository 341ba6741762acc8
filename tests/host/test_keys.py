"""Goal: storage keys behave as on the machine, in every state and through paging.

Method: ISKE, SSKE and RRBE in all states of both modes; R and C after every kind of access;
the key before and after a page-out, a page-in and a discard (R50).
"""

from __future__ import annotations

import pytest

from host_daemon.core.config import HostGuards
from host_daemon.core.effects import StageKind
from shared.arch import Mode
from shared.commands import DONE, Essa, Iske, KeyOutcome, Load, Rrbe, Sske, Store
from tests.host.world import STATES, bring, make_world

R, C = 0x04, 0x02
ALL = [(mode, state) for mode in Mode for state in STATES[mode]]


@pytest.mark.parametrize(("mode", "state"), ALL)
def test_key_instructions_are_legal_in_every_state_and_change_none(mode: Mode, state: str) -> None:
    world = make_world(mode)
    bring(world, 3, state)
    before = world.state(3)
    assert world.execute(Sske(3, 0xBE)) == DONE
    assert world.execute(Iske(3)) == KeyOutcome(0xBE)
    assert world.execute(Rrbe(3)) == KeyOutcome(0xBE)
    assert world.execute(Iske(3)) == KeyOutcome(0xBA), "RRBE resets R and nothing else"
    assert world.execute(Rrbe(3)) == KeyOutcome(0xBA)
    assert world.state(3) == before
    world.host.check()


def test_loads_set_r_and_stores_set_r_and_c_and_keep_the_rest() -> None:
    world = make_world()
    world.execute(Sske(0, 0xF8))
    world.execute(Load(0, 0, 1))
    assert world.key(0) == 0xF8 | R
    world.execute(Store(0, 0, b"x"))
    assert world.key(0) == 0xF8 | R | C
    world.execute(Sske(0, 0))
    world.execute(Load(0, 0, 1))
    assert world.key(0) == R


@pytest.mark.parametrize(("mode", "state"), [c for c in ALL if c[1][1] == "p" and c[1] != "Up"])
def test_paging_keeps_the_key(mode: Mode, state: str) -> None:
    for changed in (False, True):
        world = make_world(mode)
        bring(world, 3, state, changed=changed)
        world.execute(Sske(3, 0x98 | C * changed))
        world.execute(Load(3, 0, 1))
        world.settle()
        assert world.key(3) == 0x98 | C * changed | R
        key = world.key(3)
        world.execute(Essa(1, 3))
        world.evict(3)
        assert world.key(3) == key


@pytest.mark.parametrize(
    ("mode", "state"), [(Mode.SEED, "Ur"), (Mode.SEED, "Vr"), (Mode.SEED, "Pr"), (Mode.KVM, "Ur")]
)
@pytest.mark.parametrize("guard", [True, False])
def test_a_discard_clears_r_and_c(mode: Mode, state: str, guard: bool) -> None:
    """R50: a discarded page that still reads as changed makes the guest keep what is gone."""
    world = make_world(mode, guards=HostGuards(discard_clears_change_bit=guard))
    bring(world, 3, state)
    changed = C if state != "Pr" else 0  # a changed P page is not discarded
    world.execute(Sske(3, 0xF8 | R | changed))
    world.evict(3)
    assert world.state(3) == {"Ur": 0x07 if mode is Mode.SEED else 0x06}.get(state, 0x0F)
    assert world.key(3) == (0xF8 if guard else 0xF8 | R | changed)


def test_sske_that_clears_c_makes_a_potential_volatile_page_discardable_at_once() -> None:
    world = make_world()
    bring(world, 3, "Pr", changed=True)
    world.execute(Sske(3, 0))
    world.evict(3)
    assert world.state(3) == 0x0F
    bring(world, 4, "Pr", changed=False)
    world.execute(Sske(4, C))
    world.evict(4)
    assert world.state(4) == 0x02


def test_sske_after_the_change_bit_was_read_cancels_the_reclaim() -> None:
    for stop in (StageKind.READ_CHANGE_BIT, StageKind.COMMIT):
        world = make_world()
        bring(world, 3, "Pr")
        world.reclaim_to(3, stop)
        world.execute(Sske(3, C))
        assert all(stage.number != 3 for stage in world.host.enabled() if stage.guest_id)
        world.evict(3)
        assert world.state(3) == 0x02, "the page was kept"


def test_orc_4_looks_at_the_kept_change_bit_of_a_preserved_page() -> None:
    for changed, after in ((True, 0x02), (False, 0x0F)):
        world = make_world()
        bring(world, 3, "Sp", changed=changed)
        world.essa(4, 3)
        assert world.state(3) == after
