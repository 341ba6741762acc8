"""Goal: each policy chooses the victims that it promises.

Method: small pools with a known past; `zvm` against a list kept in order of use, over a long
random run with cancellations.
"""

from __future__ import annotations

from random import Random

import pytest

from host_daemon.core.effects import CHOOSE_VICTIM, StageKind
from host_daemon.core.policies import policy_names
from host_daemon.core.policies import zvm as zvm_module
from shared.commands import Load, Sske, Store
from tests.host.world import World, bring, make_world


def choose(world: World) -> int:
    """Let the policy choose; the page it chose."""
    before = set(world.host.enabled())
    world.run(StageKind.CHOOSE_VICTIM)
    (stage,) = set(world.host.enabled()) - before - {CHOOSE_VICTIM}
    assert stage.kind is StageKind.REMOVE_ACCESS
    return stage.number


def order(world: World) -> list[int]:
    """The order in which everything would go."""
    pages = []
    while CHOOSE_VICTIM in world.host.enabled():
        pages.append(choose(world))
    return pages


def test_the_shipped_policies() -> None:
    assert policy_names() == ["hints-first", "random", "zvm"]


def test_hints_first_takes_what_costs_nothing_first() -> None:
    world = make_world(frames=10, policy="hints-first")
    states = ["Sr", "Pr", "Vr", "Ur", "Pr", "Sr", "Ur", "Vr", "Pr"]
    for pfn, state in enumerate(states):
        bring(world, pfn, state, changed=pfn == 4)
    # Unused 3, 6; volatile 2, 7; clean potential volatile 1, 8; then the clock: the first
    # round takes every reference away, the second takes 0, 4 (changed), 5 in frame order.
    assert order(world) == [3, 6, 2, 7, 1, 8, 0, 4, 5]


def test_hints_first_notices_a_new_hint_at_once() -> None:
    world = make_world(frames=10, policy="hints-first")
    for pfn in range(6):
        bring(world, pfn, "Vr")
    assert choose(world) == 0
    world.essa(2, 4)
    assert choose(world) == 4
    assert choose(world) == 1


def test_hints_first_gives_a_second_chance() -> None:
    world = make_world(frames=4, policy="hints-first")
    for pfn in range(4):
        bring(world, pfn, "Sr")
    assert choose(world) == 0  # all were referenced; now none is
    world.execute(Load(1, 0, 8))
    assert choose(world) == 2, "page 1 was used since the hand passed"
    assert choose(world) == 3
    assert choose(world) == 1


def test_a_changed_page_stops_being_clean_and_becomes_so_again() -> None:
    world = make_world(frames=4, policy="hints-first")
    for pfn in range(3):
        bring(world, pfn, "Pr")
    world.execute(Store(0, 0, b"x"))
    world.execute(Store(1, 0, b"x"))
    world.execute(Sske(1, 0))
    assert order(world) == [1, 2, 0]


def test_zvm_is_least_recently_used_whatever_the_hints() -> None:
    world = make_world(frames=10, policy="zvm")
    for pfn, state in enumerate(["Sr", "Vr", "Sr", "Ur", "Pr"]):
        bring(world, pfn, state)
    world.execute(Load(0, 0, 8))
    assert order(world) == [1, 2, 3, 4, 0]


@pytest.mark.parametrize("batch", [2, 1024])
def test_zvm_equals_a_list_in_order_of_use(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zvm_module, "BATCH", batch)
    random = Random(batch)
    world = make_world(frames=12, slots=200, pages=30, policy="zvm")
    used: list[int] = []  # resident candidates, oldest use first
    for _ in range(1500):
        pfn = random.randrange(30)
        dice = random.random()
        resident = world.state(pfn) & 3 == 0
        if dice < 0.6 and (resident or len(used) < 12):
            if world.execute(Load(pfn, 0, 8)) is None:
                world.settle()
            if pfn in used:
                used.remove(pfn)
            used.append(pfn)
        elif dice < 0.9 and used:
            assert choose(world) == used[0]
            if random.random() < 0.3:
                world.essa(1, used[0])  # cancelled, which counts as a use
                used.append(used.pop(0))
            else:
                world.settle()
                used.pop(0)
        elif used and random.random() < 0.3:
            world.evict(used.pop(random.randrange(len(used))))
    assert used


@pytest.mark.parametrize("policy", policy_names())
def test_without_slots_only_what_can_be_dropped_is_chosen(policy: str) -> None:
    world = make_world(frames=6, slots=0, pages=8, policy=policy, overcommit_paging=True)
    for pfn, state in enumerate(["Sr", "Vr", "Pr", "Ur", "Pr", "Sr"]):
        bring(world, pfn, state, changed=pfn == 2)
    assert sorted(order(world)) == [1, 3, 4]


def test_random_reaches_every_candidate_and_no_other() -> None:
    chosen = set()
    world = make_world(frames=8, policy="random")
    for pfn in range(6):
        bring(world, pfn, "Sr")
    for _ in range(80):
        pfn = choose(world)
        chosen.add(pfn)
        world.essa(1, pfn)
    assert chosen == set(range(6))
