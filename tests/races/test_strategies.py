"""Strategies make the runs that they say, and find what they are for.

Method: toy worlds whose bugs and schedules can be counted by hand; every strategy's runs are
replayed; noise that nobody can see must not blind those that claim it does not.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guest_agent.kernel.page import reads, writes
from guest_agent.kernel.ports import Access
from race_explorer.campaign import STRATEGY_NAMES, measure, search
from race_explorer.case import Case
from race_explorer.draws import Draws
from race_explorer.engine import ANY, Option, Run, replay, run
from race_explorer.exhaustive import Reduction, explore
from race_explorer.recording import record
from race_explorer.replays.anchors import deviations
from race_explorer.report import End
from race_explorer.strategies import STRATEGIES, make_strategy
from race_explorer.strategies.default import Default
from race_explorer.strategies.delay import Delay
from race_explorer.strategies.pct import DEPTH_MAX, Pct
from race_explorer.strategies.profile import Profile, Survey
from race_explorer.strategies.strategy import Covered, Kind
from race_explorer.strategies.urw import Urw
from tests.races.test_engine import Memories
from tests.races.toys import (
    BUGS,
    NOISE_ACTORS,
    NOISE_STEPS,
    Cells,
    Program,
    Stand,
    Toy,
    noise,
    private,
)

DRAWING = [name for name in STRATEGIES if name != "delay"]
NEVER_BLIND = ("pct", "pos", "urw", "portfolio")
SEED = 7


def _runs(name: str, programs: dict[str, Program], count: int, seed: int = SEED) -> list[Run]:
    found: list[Run] = []
    strategy = make_strategy(name, seed)
    profile = None if name == "delay" else measure(lambda: Toy(programs), name, seed)
    for number in range(count):
        if isinstance(strategy.begin(number, profile), Covered):
            break
        found.append(run(lambda: Toy(programs), strategy.choose))
    return found


def _option(name: str, *accesses: Access) -> Option:
    return Option(name, "step", accesses, lambda: None)


def test_numbers_are_the_same_on_every_python() -> None:
    """What they are is what CPython 3.11 and 3.13 both say."""
    draws = Draws(1, 2)
    assert [draws.below(1_000) for _ in range(5)] == [952, 118, 91, 595, 79]
    assert Draws(1, 2).unit() != Draws(2, 1).unit()
    for seed, number in ((-1, 0), (0, -1), (0, 1 << 64)):
        with pytest.raises(ValueError, match="negative"):
            Draws(seed, number)


# What holds of every strategy.


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_run_is_its_seed_and_number_and_replays(name: str) -> None:
    programs = BUGS["aba"] | {"other": private("other", 3)}
    first, second = _runs(name, programs, 30), _runs(name, programs, 30)
    assert first == second
    for made in first:
        assert replay(lambda: Toy(programs), made.choices) == made


@pytest.mark.parametrize("name", DRAWING)
def test_another_seed_gives_other_runs(name: str) -> None:
    programs = BUGS["aba"] | {"other": private("other", 3)}
    assert _runs(name, programs, 30, seed=1) != _runs(name, programs, 30, seed=2)


@pytest.mark.parametrize("name", DRAWING)
def test_a_run_does_not_depend_on_the_runs_before_it(name: str) -> None:
    programs = BUGS["aba"]
    profile = measure(lambda: Toy(programs), name, SEED)
    alone = make_strategy(name, SEED)
    alone.begin(29, profile)
    assert run(lambda: Toy(programs), alone.choose) == _runs(name, programs, 30)[29]


STEPS = st.builds(
    lambda store, cell: ("store", writes("cell", cell)) if store else ("load", reads("cell", cell)),
    st.booleans(),
    st.integers(0, 2),
)
PLANS = st.lists(st.lists(STEPS, min_size=1, max_size=2), min_size=2, max_size=3)


class Traced(Memories):
    """Memories whose outcome is the whole schedule as well."""

    def __init__(self, plan: dict[str, list[tuple[str, Access]]]) -> None:
        super().__init__(plan)
        self.trace = ""

    def _run(self, name: str) -> None:
        self.trace += name
        super()._run(name)

    def reached(self) -> set[str]:
        return {self.trace}


@given(PLANS)
@settings(max_examples=30, deadline=None)
def test_every_strategy_makes_only_schedules_that_plain_search_has(
    steps: list[list[tuple[str, Access]]],
) -> None:
    plan = dict(zip("abc", steps, strict=False))
    plain = explore(
        lambda: Traced(plan), schedules_max=2_000, reduction=Reduction.NONE, stop_at_first=False
    )
    assert plain.exhausted
    assert set(plain.reached.values()) == {1}
    for name in STRATEGY_NAMES:
        report = search(lambda: Traced(plan), name, 40, stop_at_first=False)
        assert set(report.reached) <= set(plain.reached), name


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="'luck'; they are random, pct"):
        make_strategy("luck", 1)


# They find what they are for.


@pytest.mark.parametrize("bug", list(BUGS))
@pytest.mark.parametrize("name", NEVER_BLIND)
def test_noise_hides_no_bug_from_those_that_look_at_what_is_shared(name: str, bug: str) -> None:
    """One schedule in 25 or more shows it, however many idle vCPUs there are."""
    programs = BUGS[bug] | noise()
    report = search(lambda: Toy(programs), name, 100, SEED, stop_at_first=False, classify_every=0)
    assert report.violated >= 4


@pytest.mark.parametrize("bug", list(BUGS))
@pytest.mark.parametrize("name", [*NEVER_BLIND, "default", "delay", "exhaustive"])
def test_bugs_are_found_within_a_budget(name: str, bug: str) -> None:
    found = search(lambda: Toy(BUGS[bug]), name, 100, SEED)
    assert found.end is End.COUNTEREXAMPLE
    assert found.counterexample is not None
    assert replay(lambda: Toy(BUGS[bug]), found.counterexample.choices) == found.counterexample


def test_a_random_walk_finds_what_needs_no_order_and_not_what_comes_late() -> None:
    """Why there is more than one strategy."""
    assert search(lambda: Toy(BUGS["toctou"]), "random", 40, SEED).violated
    assert not search(lambda: Toy(BUGS["late"]), "random", 1_000, SEED).violated


@pytest.mark.parametrize("name", [*NEVER_BLIND, "default", "random"])
def test_the_lost_write_of_the_dirty_bit_transit_is_found(name: str) -> None:
    case = Case("dirty-bit-in-transit", without=("stable_before_clear",))
    assert search(case.build, name, 100, SEED).counterexample is not None


# PCT.


def _profile(**given: object) -> Profile:
    values: dict[str, object] = {
        "activities": 2,
        "steps": 100,
        "shared": 10,
        "counts": {},
        "parents": {},
        "contended": frozenset({("page", 0)}),
    }
    return Profile(**(values | given))  # type: ignore[arg-type]


def test_pct_depth_goes_round_and_is_one_before_anything_is_known() -> None:
    strategy = Pct(SEED)
    assert [strategy.begin(n, None) for n in range(5)] == [Kind("pct", 1)] * 5
    depths = [strategy.begin(n, _profile()).depth for n in range(2 * DEPTH_MAX)]
    assert depths == [1, 2, 3, 4, 1, 2, 3, 4]


def test_pct_of_depth_one_runs_one_activity_to_its_end() -> None:
    programs = {name: private(name, 6) for name in "abc"}
    for made in _runs("pct", programs, 4 * DEPTH_MAX)[::DEPTH_MAX]:
        assert _switches(made) == 2


def test_pct_of_depth_d_leaves_an_activity_at_most_d_minus_one_times_before_its_end() -> None:
    def shared(cells: Cells) -> object:
        for _ in range(6):
            yield Stand("touch", (writes("page"),))

    programs: dict[str, Program] = dict.fromkeys("abc", shared)  # type: ignore[arg-type]
    seen: dict[int, set[int]] = {}
    for number, made in enumerate(_runs("pct", programs, 60 * DEPTH_MAX)):
        seen.setdefault(1 + number % DEPTH_MAX, set()).add(_switches(made) - 2)
    assert {depth: max(found) for depth, found in seen.items()} == {1: 0, 2: 1, 3: 2, 4: 3}


def _switches(made: Run) -> int:
    actors = [actor for actor, _ in made.steps]
    return sum(one != other for one, other in pairwise(actors))


def test_pct_changes_nothing_behind_a_private_step() -> None:
    strategy = Pct(SEED)
    for number in range(DEPTH_MAX):
        strategy.begin(number, _profile(shared=1, steps=1_000))
        options = [_option("a", writes("own", 1)), _option("b", writes("own", 2))]
        assert len({strategy.choose(options) for _ in range(50)}) == 1


def test_pct_has_a_fair_tail_behind_the_shared_steps() -> None:
    strategy = Pct(SEED)
    strategy.begin(0, _profile(shared=3))
    options = [_option("a", writes("page")), _option("b", writes("page"))]
    choices = [strategy.choose(options) for _ in range(60)]
    assert len(set(choices[:3])) == 1
    assert set(choices[3:]) == {0, 1}


def test_pct_has_a_fair_tail_in_a_run_that_does_not_end() -> None:
    strategy = Pct(SEED)
    strategy.begin(0, _profile(steps=5))
    options = [_option("a", writes("own", 1)), _option("b", writes("own", 2))]
    choices = [strategy.choose(options) for _ in range(60)]
    assert len(set(choices[:10])) == 1
    assert set(choices[10:]) == {0, 1}


# What is measured.


def test_a_profile_counts_what_is_shared_and_nothing_else() -> None:
    programs = BUGS["toctou"] | noise()
    profile = measure(lambda: Toy(programs), "random", SEED)
    assert profile.activities == 3 + NOISE_ACTORS
    assert profile.steps == 6 + NOISE_ACTORS * NOISE_STEPS
    assert profile.shared == 6
    assert profile.contended == {("page", 0), ("faults", 0)}
    assert profile.counts["guest"] == 2


def test_whoever_touches_any_of_a_kind_meets_everybody_who_touches_one() -> None:
    survey = Survey()
    for name in "abc":
        survey.look([_option(name)], 0)
    survey.close([(writes("host", ANY),), (reads("host", 3),), (writes("own", 1),)])
    profile = survey.profile()
    assert profile.contended == {("host", ANY), ("host", 3)}
    assert profile.shared == 2


def test_readers_share_nothing() -> None:
    survey = Survey()
    for name in "ab":
        survey.look([_option(name)], 0)
    survey.close([(reads("page"),), (reads("page"),)])
    assert survey.profile().contended == frozenset()


def test_steps_of_what_appears_later_belong_to_what_it_came_of() -> None:
    survey = Survey()
    parent, child, other = _option("parent"), _option("child"), _option("other")
    survey.look([parent, other], 0)
    survey.look([parent, other, child], 2)
    survey.look([other, child], 1)
    survey.close([(), (), ()])
    profile = survey.profile()
    assert profile.parents == {"child": "parent"}
    assert profile.counts == {"parent": 3, "child": 2}


# URW.


def test_urw_is_uniform_over_the_schedules_of_straight_programs() -> None:
    """Two programs of 2 and 4 steps have 15 schedules; each comes up about as often."""
    programs = {"a": private("a", 2), "b": private("b", 4)}
    runs = _runs("urw", programs, 1_500)
    counts = Counter(made.choices for made in runs)
    assert len(counts) == comb(6, 2)
    assert min(counts.values()) >= 65
    assert max(counts.values()) <= 140
    walks = Counter(made.choices for made in _runs("random", programs, 1_500))
    assert max(walks.values()) > 300  # what a walk by steps makes of the same


def test_urw_leaves_one_step_to_everybody() -> None:
    strategy = Urw(SEED)
    strategy.begin(0, _profile(counts={"a": 1, "b": 3}))
    options = [_option("a"), _option("b"), _option("unknown")]
    assert {strategy.choose(options) for _ in range(100)} == {0, 1, 2}


def test_urw_gives_a_parent_the_weight_of_its_children_until_they_appear() -> None:
    strategy = Urw(SEED)
    strategy.begin(0, _profile(counts={"a": 1_000, "b": 1, "child": 999}, parents={"child": "a"}))
    a, b, child = _option("a"), _option("b"), _option("child")
    assert strategy.choose([a, b]) == 0
    assert [strategy.choose([a, b, child]) for _ in range(5)] == [2] * 5


# The canonical policy, with deviations.


@pytest.mark.parametrize(("a", "b"), [(1, 1), (3, 2), (4, 4)])
def test_delay_makes_every_schedule_once_fewest_deviations_first(a: int, b: int) -> None:
    """C(a, ceil(d/2)) C(b-1, floor(d/2)) schedules of two programs deviate d times."""
    programs = {"a": private("a", a), "b": private("b", b)}
    strategy, made, depths = Delay(deviations_max=20), list[Run](), list[int]()
    while isinstance(kind := strategy.begin(len(made), None), Kind):
        made.append(run(lambda: Toy(programs), strategy.choose))
        depths.append(kind.depth)
    assert kind == Covered()
    assert len({each.choices for each in made}) == len(made) == comb(a + b, a)
    assert depths == sorted(depths)
    for depth, count in Counter(depths).items():
        assert count == comb(a, (depth + 1) // 2) * comb(b - 1, depth // 2)


def test_delay_says_how_far_it_has_covered() -> None:
    programs = {"a": private("a", 4), "b": private("b", 4)}
    report = search(lambda: Toy(programs), "delay", 1_000)
    assert report.end is End.EXHAUSTED
    assert report.deviations == 3
    assert not report.exhausted
    assert report.kinds == {Kind("delay", d): n for d, n in enumerate((1, 4, 12, 18))}
    short = search(lambda: Toy({"a": private("a", 2), "b": private("b", 1)}), "delay", 1_000)
    assert short.exhausted


@pytest.mark.parametrize("name", ["default", "delay"])
def test_deviations_are_those_of_replay_files(name: str) -> None:
    case = Case("concurrent-discard-faults")
    strategy = make_strategy(name, SEED)
    seen = set()
    for number in range(24):
        kind = strategy.begin(number, None)
        assert isinstance(kind, Kind)
        made = run(case.build, strategy.choose)
        written = len(deviations(record(case.build, made.choices)))
        assert written == kind.depth if name == "delay" else written <= kind.depth
        seen.add(written)
    assert len(seen) > 1


def test_the_first_default_run_is_what_the_policy_takes() -> None:
    strategy = Default(SEED)
    assert [strategy.begin(n, None).depth for n in range(5)] == [0, 1, 2, 3, 1]
    programs = BUGS["aba"]
    strategy.begin(0, None)
    assert set(run(lambda: Toy(programs), strategy.choose).choices) == {0}
