"""What is left of a failing run fails in the same way, and nothing more can be taken from it.

Method: runs found at random, much longer than they need to be, are shrunk; what comes out is
held against every run with one deviation or one actor less. Then the flip: the pair of steps
that makes the difference, in races whose story is known, and in every committed replay.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from guest_agent.kernel.page import writes
from race_explorer.actors import Step, always, stand
from race_explorer.case import Case
from race_explorer.engine import Run, run
from race_explorer.exhaustive import Reduction, explore
from race_explorer.flip import minimal_flip, nearest_passing
from race_explorer.recording import Recording, record, record_with
from race_explorer.replays.anchors import is_program
from race_explorer.replays.around import around
from race_explorer.replays.guides import ActorOrder, Anchored, Guided, attempt
from race_explorer.replays.text import load
from race_explorer.shrinking import Shrunk, shrink
from race_explorer.signature import signature
from race_explorer.world import SimWorld

DEVIATIONS_MAX = 5
SEEDS = 400
FILES = sorted((Path(__file__).parents[1] / "replays").glob("*.essa-replay"))

BLOATED = {
    "dirty-bit-in-transit": "stable_before_clear",
    "concurrent-discard-faults": "test_set_discarded",
    "copy-source-discarded": "stable_copy_source",
    "interrupted-holder": "state_change_trylock",
    "stale-change-bit": "tolerate_discard",
    "removed-but-not-marked": "remove_checks_state",
}


def _random_run(case: Case, seed: int) -> Run:
    chance = random.Random(seed)
    return run(case.build, lambda options: chance.randrange(len(options)))


def _found_at_random(case: Case) -> Run:
    """A failing run that is as long-winded as chance makes it."""
    runs = (_random_run(case, seed) for seed in range(SEEDS))
    found = next((made for made in runs if made.violations), None)
    assert found is not None, f"nothing found in {SEEDS} schedules"
    return found


def _shrunk(name: str) -> tuple[Run, Shrunk]:
    case = Case(name, without=(BLOATED[name],))
    found = _found_at_random(case)
    return found, shrink(case, found.choices)


def _less(shrunk: Shrunk) -> list[tuple[int, ...]]:
    """Every part of the schedule that lacks one deviation."""
    count = len(shrunk.deviations)
    return [tuple(k for k in range(count) if k != left_out) for left_out in range(count)]


@pytest.mark.parametrize("name", BLOATED)
def test_what_is_left_fails_in_the_same_way_and_is_minimal(name: str) -> None:
    found, shrunk = _shrunk(name)
    wanted = signature(found.violations)
    again = attempt(shrunk.case.build, Anchored(shrunk.deviations))
    assert again is not None
    assert again.run == shrunk.run
    assert signature(again.run.violations) == wanted
    assert len(shrunk.deviations) == shrunk.after.deviations <= DEVIATIONS_MAX
    assert shrunk.after.deviations <= shrunk.before.deviations
    assert shrunk.before.steps == len(found.steps)
    for kept in _less(shrunk):
        fewer = attempt(shrunk.case.build, Anchored([shrunk.deviations[k] for k in kept]))
        assert fewer is not None
        same = signature(fewer.run.violations) == wanted and fewer.in_race >= again.in_race
        assert not same or len(fewer.deviations) >= len(shrunk.deviations)


@pytest.mark.parametrize("name", BLOATED)
def test_the_same_run_shrinks_to_the_same(name: str) -> None:
    case = Case(name, without=(BLOATED[name],))
    choices = _found_at_random(case).choices
    assert shrink(case, choices) == shrink(case, choices)


def test_random_runs_are_much_bigger_than_what_is_left() -> None:
    sizes = [_shrunk(name)[1] for name in BLOATED]
    assert sum(s.before.deviations for s in sizes) > 3 * sum(s.after.deviations for s in sizes)
    assert all(s.replays > 1 for s in sizes)


def test_an_actor_without_a_part_is_left_out_and_the_last_program_is_not() -> None:
    _, shrunk = _shrunk("dirty-bit-in-transit")
    assert shrunk.case.dropped == ("cpu1",)
    assert (shrunk.before.actors, shrunk.after.actors) == (3, 2)
    # The end of every run looks at all pages: an eviction and no program would do for that.
    alone = Case("volatile-page-found", without=("stable_lookup",))
    report = explore(alone.build, schedules_max=100)
    assert report.counterexample is not None
    left = shrink(alone, report.counterexample.choices)
    assert any(is_program(actor) for actor in left.case.build().actors())


class _Evictions(Case):
    """A host that evicts the page up to three times; each of `dropped` takes one of them away."""

    TAKEN = ("one", "two")

    def build(self) -> SimWorld:
        world = self.definition.build(self.protections())
        (pfn,) = world.evictions
        world.evictions.clear()

        async def evictor(times: int) -> None:
            for _ in range(times):
                await stand(Step("evict", lambda: (writes("host", pfn),), always))
                world.evict(pfn)

        world.spawn("host.evictor", evictor(3 - len(self.dropped)))
        return world

    def smaller(self) -> Iterator[Case]:
        if len(self.dropped) < len(self.TAKEN):
            yield replace(self, dropped=self.TAKEN[: len(self.dropped) + 1])


def test_evictions_that_come_to_nothing_go_with_their_steps() -> None:
    """However many there were before the one that matters."""
    case = _Evictions("test-then-set", without=("stable_if_resident",))
    counts = set()
    for seed in range(SEEDS):
        found = _random_run(case, seed)
        evictions = found.steps.count(("host.evictor", "evict"))
        if found.violations and evictions not in counts:
            counts.add(evictions)
            shrunk = shrink(case, found.choices)
            assert shrunk.case.dropped == _Evictions.TAKEN
            assert shrunk.run.steps.count(("host.evictor", "evict")) == 1
    assert {2, 3} <= counts


def test_a_missing_actor_is_not_made_the_cause() -> None:
    """Without the vCPU that ticks, a grace period would last for ever, guards or no guards."""
    case = Case("idle-vcpu-never-ticks", without=("grace_idle_signs_off",))
    report = explore(case.build, schedules_max=100)
    assert report.counterexample is not None
    shrunk = shrink(case, report.counterexample.choices)
    guarded = replace(shrunk.case, without=())
    held = attempt(guarded.build, ActorOrder(actor for actor, _ in shrunk.run.steps))
    assert held is not None
    assert not held.run.violations


def test_a_run_that_holds_cannot_be_shrunk_or_flipped() -> None:
    case = Case("make-stable-overtakes")
    with pytest.raises(ValueError, match="nothing to shrink"):
        shrink(case, ())
    with pytest.raises(ValueError, match="nothing to flip"):
        minimal_flip(case.build, record(case.build, ()))


def test_around_comes_by_the_number_of_deviations_and_leaves_out_none() -> None:
    case = Case("change-bit-read-early", without=("remove_access_before_read",))
    runs = list(around(case.build, (), further_max=99))
    choices = [made.run.choices for made in runs]
    assert len(choices) == len(set(choices))
    report = explore(
        case.build, schedules_max=10_000, reduction=Reduction.NONE, stop_at_first=False
    )
    assert report.exhausted
    assert len(choices) == report.schedules
    counts = [len(made.deviations) for made in runs]
    assert counts == sorted(counts)
    single = list(around(case.build, (), further_max=1))
    assert [made.run.choices for made in single] == choices[: len(single)]
    assert counts[: len(single) + 1] == [0, *[1] * (len(single) - 1), 2]
    begun = [made.run.choices for made in around(case.build, (1, 0), further_max=1)]
    assert all(chosen[:2] == (1, 0) for chosen in begun)


# The flip.


def _file(name: str) -> tuple[Case, Recording]:
    (path,) = (path for path in FILES if path.name == f"{name}.essa-replay")
    replay = load(path)
    return replay.case, record_with(replay.case.build, Guided(Anchored(replay.schedule)))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "state_change",
            "cpu1 essa.set_stable_if_resident before cpu0 essa.set_volatile: fails; after: passes",
        ),
        ("flags_after_counts", "cpu0 page.put before cpu1 page.counts: fails; after: passes"),
        ("clear_change_first", "cpu1 store before cpu0 sske: fails; after: passes"),
        (
            "stable_before_clear",
            "host.commit.1 commit before cpu0 essa.set_stable_if_resident: fails; after: passes",
        ),
    ],
)
def test_the_flip_names_the_pair_that_the_story_is_about(name: str, told: str) -> None:
    case, failing = _file(name)
    flip = minimal_flip(case.build, failing)
    assert flip is not None
    assert flip.describe() == told


def test_flipped_runs_pass_and_have_the_pair_the_other_way_round() -> None:
    flipped = 0
    for path in FILES:
        case, failing = _file(path.name.removesuffix(".essa-replay"))
        flip = minimal_flip(case.build, failing)
        if flip is None:
            continue
        flipped += 1
        assert failing.violations
        assert not flip.passing.violations
        first, second = failing.steps[flip.first], failing.steps[flip.second]
        assert first.index < second.index
        names = [(s.actor, s.label, s.nth) for s in flip.passing.steps]
        place = names.index((second.actor, second.label, second.nth))
        name = (first.actor, first.label, first.nth)
        assert name not in names or place < names.index(name)
        # What came before the pair is as it was.
        common = [s.digest for s in failing.steps[: flip.first]]
        assert [s.digest for s in flip.passing.steps[: flip.first]] == common
    assert flipped > len(FILES) // 2


def test_the_nearest_passing_run_parts_as_late_as_it_can() -> None:
    case, failing = _file("putback_checks_discarded")
    assert minimal_flip(case.build, failing) is None
    passing = nearest_passing(case.build, failing)
    assert passing is not None
    assert not passing.violations
    parted = [
        ours.digest != theirs.digest
        for ours, theirs in zip(passing.steps, failing.steps, strict=False)
    ].index(True)
    assert parted > 0
    # Whoever parts later by one choice fails all the same.
    for made in around(case.build, failing.choices[: parted + 1], further_max=1):
        assert made.run.violations


def test_a_race_of_one_actor_has_no_other_order() -> None:
    case, failing = _file("unmap_ignores_locked")
    assert minimal_flip(case.build, failing) is None
    assert nearest_passing(case.build, failing) is None


# Signatures.


@pytest.mark.parametrize(
    ("violation", "kind"),
    [
        ("cpu0: discard of a page in use: pfn 1 flags 0 count 2 -", "discard of a page in use"),
        ("settle: discard of a page in use: pfn 7 flags PG_lru", "discard of a page in use"),
        (
            "disk 1 block 0: version 0 seen, legal were (1, 12)",
            "disk N block N: version N seen, legal were (N)",
        ),
        (
            "disk 1 block 1 holds no tag: 00000000000000000000000000000000",
            "disk N block N holds no tag: N",
        ),
        (
            "cpu1: Oops: discard fault in kernel mode: pfn 1 is gone; vcpu 0 while copying\n  page",
            "Oops: discard fault in kernel mode: pfn N is gone; vcpu N while copying",
        ),
        ("deadlock: cpu1 at ptl, cpu0 at lock_page, cpu2 at ptl", "deadlock: lock_page, ptl"),
        ("host: slot 0x1f is free", "slot N is free"),
    ],
)
def test_a_signature_is_what_stays(violation: str, kind: str) -> None:
    assert signature([violation, "and more"]) == kind


def test_no_violation_has_no_signature() -> None:
    assert signature(()) == ""
