"""Verdicts: what they claim, what they rest on, and that they claim no more.

Method: bounds and estimates against values worked out by hand; each verdict from a real search.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from race_explorer.campaign import search
from race_explorer.case import Case
from race_explorer.exhaustive import Reduction, explore
from race_explorer.report import End, Report
from race_explorer.strategies.profile import PROBE_RUNS
from race_explorer.strategies.strategy import Kind
from race_explorer.verdict import Outcome, judge, miss_bound, pct_misses, unseen, weigh
from tests.races.toys import BUGS, Toy, private

SAFE = {"a": private("a", 3), "b": private("b", 2), "c": private("c", 2)}
SEED = 7


def _safe(strategy: str, schedules: int) -> Report:
    return search(lambda: Toy(SAFE), strategy, schedules, SEED)


# Bounds and estimates.


def test_the_pct_bound_is_that_of_the_paper() -> None:
    assert miss_bound(4, 40, {3: 19_200}, 3) == pytest.approx(0.0498, abs=1e-4)
    assert miss_bound(2, 10, {1: 3}, 1) == pytest.approx(0.125)
    assert miss_bound(2, 10, {2: 5}, 2) == pytest.approx(0.95**5)


def test_runs_of_too_small_a_depth_prove_nothing_and_deeper_ones_what_they_can() -> None:
    runs = {1: 10, 2: 20, 3: 30}
    assert miss_bound(2, 10, runs, 4) == 1.0
    assert miss_bound(2, 10, runs, 3) == pytest.approx((1 - 1 / 200) ** 30)
    assert miss_bound(2, 10, runs, 2) == pytest.approx(0.95**20 * (1 - 1 / 200) ** 30)


def test_only_the_pct_runs_of_a_portfolio_count() -> None:
    report = _safe("portfolio", 100)
    assert report.profile is not None
    pct_runs = {kind.depth: n for kind, n in report.kinds.items() if kind.strategy == "pct"}
    assert sum(pct_runs.values()) == 20
    assert pct_misses(report)[2] == miss_bound(3, report.profile.shared, pct_runs, 2)
    assert pct_misses(_safe("random", 100)) == {}
    assert pct_misses(_safe("pct", PROBE_RUNS)) == {}  # n and k are not known yet


def test_good_and_turing_count_what_was_seen_once() -> None:
    report = Report("pos", classes=Counter({1: 1, 2: 5, 3: 1, 4: 3}))
    assert unseen(report) == pytest.approx(2 / 10)
    assert unseen(Report("pos")) is None
    assert unseen(replace(report, strategy="delay")) is None


# The three outcomes.


def test_exhausted_says_how_many_and_that_none_is_left() -> None:
    alone = {"a": private("a", 3)}
    one = weigh(search(lambda: Toy(alone), "exhaustive", 100))
    assert one.lines() == [
        "holds: every schedule was tried, 1 of them, 3 steps; none is left",
        "  exhaustive: 1 schedule, 3 steps",
    ]
    report = explore(
        lambda: Toy(SAFE), schedules_max=100, reduction=Reduction.SLEEP_SETS, stop_at_first=False
    )
    holds = weigh(report)
    assert (
        holds.reason == f"every schedule was tried, 1 of them, {report.steps} steps; none is left"
    )
    assert holds.statements[1].startswith(f"{report.pruned} more abandoned: the same as one of")
    assert holds.figures["exhausted"] is True


def test_a_sample_says_what_it_would_have_missed() -> None:
    verdict = weigh(_safe("portfolio", 100))
    assert verdict.lines() == [
        "holds: no violation in 100 schedules",
        "  portfolio: 100 schedules, 700 steps",
        "  PCT: 20 runs, n=3 actors, k=0 shared steps; a bug that needs d orderings is missed "
        "with probability at most d=1: 0.0003, d=2: 0.0051, d=3: 0.026",
        "  classes of equivalent schedules: 1 among 100 runs, 0 seen once; the next run is of a "
        "new one with probability of about 0",
    ]


def test_a_systematic_search_says_how_many_deviations_it_has_covered() -> None:
    verdict = weigh(_safe("delay", 20))
    assert verdict.outcome is Outcome.HOLDS
    assert "  among them all with at most 1 deviation from stay-current/first" in verdict.lines()
    programs = {name: private(name, 4) for name in "ab"}
    covered = weigh(search(lambda: Toy(programs), "delay", 100))
    assert covered.reason == (
        "every schedule with at most 3 deviations from stay-current/first was tried, "
        "35 of them, 280 steps"
    )
    assert covered.figures["deviations"] == 3
    assert covered.figures["exhausted"] is False


def test_a_violation_says_what_and_who_found_it() -> None:
    report = search(lambda: Toy(BUGS["aba"]), "portfolio", 100, SEED, classify_every=0)
    verdict = weigh(report, sometimes=("never",))
    assert verdict.outcome is Outcome.VIOLATED
    assert report.found is not None
    assert verdict.reason.startswith(f"wrong page discarded (run {report.found.number}, ")
    assert verdict.lines() == [f"violated: {verdict.reason}"]
    found = verdict.as_json()["counterexample"]
    assert report.counterexample is not None
    assert found["choices"] == list(report.counterexample.choices)
    assert found["violations"] == ["wrong page discarded"]


def test_what_was_never_reached_makes_a_pass_worth_nothing() -> None:
    verdict = weigh(_safe("pos", 20), sometimes=("discarded", "reused"))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason == "never reached: discarded, reused"
    assert verdict.figures["never_reached"] == ["discarded", "reused"]


def test_a_search_that_was_stopped_is_inconclusive() -> None:
    report = search(lambda: Toy(SAFE), "pos", 20, on_progress=lambda r: r.schedules < 7)
    assert weigh(report).lines()[0] == "inconclusive: stopped after 7 of 20 schedules"
    assert weigh(_safe("pos", 0)).reason == "no schedule came to its end"


def test_depth_first_search_that_leaves_schedules_proves_nothing_but_its_bound() -> None:
    report = search(Case("concurrent-discard-faults").build, "exhaustive", 10)
    assert report.end is End.BUDGET
    assert weigh(report).lines()[0] == (
        f"inconclusive: {report.schedules} schedules tried, more are left"
    )
    bounded = weigh(report, bound=10)
    assert bounded.outcome is Outcome.HOLDS
    assert bounded.reason == f"bounded: no violation in the first {report.schedules} schedules"
    assert weigh(report, bound=11).outcome is Outcome.INCONCLUSIVE


def test_a_scenario_is_judged_by_its_own_situations() -> None:
    case = Case("late-pte")
    verdict = judge(case.definition, case, search(case.build, "exhaustive", 1_000))
    assert verdict.outcome is Outcome.HOLDS
    assert verdict.figures["scenario"] == "late-pte"
    # Without msync nothing of what this one is about can happen.
    alone = Case("dirty-bit-in-transit", dropped=("cpu0",))
    dull = judge(alone.definition, alone, search(alone.build, "exhaustive", 1_000))
    assert dull.outcome is Outcome.INCONCLUSIVE
    assert dull.reason == "never reached: transferred"
    assert dull.figures["dropped"] == ["cpu0"]


@pytest.mark.parametrize("strategy", ["portfolio", "delay", "exhaustive"])
def test_a_verdict_is_json_and_the_same_again(strategy: str) -> None:
    case = Case("dirty-bit-in-transit", without=("stable_before_clear",))
    verdicts = [
        judge(case.definition, case, search(case.build, strategy, 60, SEED)) for _ in range(2)
    ]
    assert verdicts[0] == verdicts[1]
    told = json.loads(json.dumps(verdicts[0].as_json()))
    assert told["without"] == ["stable_before_clear"]
    assert told["verdict"] == str(verdicts[0].outcome)


def test_kinds_that_found_it_are_named_with_their_depth() -> None:
    report = search(lambda: Toy(BUGS["late"]), "delay", 200)
    assert report.found is not None
    assert report.found.kind == Kind("delay", 1)
    assert ", delay, d=1, seed 0)" in weigh(report).reason
