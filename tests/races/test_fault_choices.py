"""Faults are choices among others: in one sequence, in replay files, shrunk away, and survived.

Method: what each kind can befall is looked for in scenarios of the catalogue by a campaign with a
seed; what was found is then replayed, saved and shrunk as any run is.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from race_explorer.campaign import search
from race_explorer.case import Case
from race_explorer.checking import check_case
from race_explorer.draws import Draws
from race_explorer.engine import Run, replay, run
from race_explorer.exhaustive import explore
from race_explorer.faults import FaultBudget, FaultKind
from race_explorer.hunt.composition import COMPOSED
from race_explorer.recording import record
from race_explorer.replays.library import replay_for
from race_explorer.replays.policies import Policy, rerun
from race_explorer.replays.replay import HOLDS, FoundBy, replay_of
from race_explorer.replays.text import dumps, loads
from race_explorer.scenarios import SCENARIOS
from race_explorer.shrinking import shrink

BEFALLS = {
    FaultKind.REQUEST_LOST: "dirty-bit-in-transit",
    FaultKind.REPLY_LOST: "borrowed-reference",
    FaultKind.DUPLICATE: "locked-and-volatile",
    FaultKind.FAULT_REPEATED: "freed-while-fault-pending",
    FaultKind.CUT: "copy-source-discarded",
    FaultKind.CHECKPOINT: "enabled-too-early",
    FaultKind.POWER: "change-bit-wiped",
    FaultKind.PAUSE: "interrupted-holder",
    FaultKind.READ_FAILS: "release-entry-outlived",
    FaultKind.WRITE_FAILS: "counts-apart",
    FaultKind.TICK: "idle-vcpu-never-ticks",
}
"""A scenario in which the kind can happen in the race itself."""
RUNS_MAX = 100
SCHEDULES_MAX = 1_000
CHECKED_RUNS = 8
MIXTURES, MIXTURE_RUNS, KINDS_MAX = 60, 6, 4


def faults_of(found: Run) -> list[str]:
    """The kinds of fault that have happened in a run, in order."""
    names = [actor.split(".") for actor, _ in found.steps if actor.startswith("fault.")]
    return [name[1] for name in names if name[1] in list(FaultKind)]


def mixture(seed: int) -> Case:
    """A scenario of the catalogue and a few kinds of faults, each once or twice."""
    draws = Draws(seed)
    kinds = list(FaultKind)
    names = list(SCENARIOS)
    drawn = [kinds[draws.below(len(kinds))] for _ in range(1 + draws.below(KINDS_MAX))]
    times = Counter(drawn)
    text = ",".join(f"{kind}={count}" for kind, count in times.items())
    return Case(names[draws.below(len(names))], faults=str(FaultBudget.parse(text)))


@cache
def befallen(case: Case, kind: FaultKind) -> Run:
    """A run of the case in which the kind has happened, by random choices from a seed."""
    for number in range(RUNS_MAX):
        draws = Draws(1, number)
        found = run(case.build, lambda options, draws=draws: draws.below(len(options)))  # type: ignore[misc]
        if kind in faults_of(found):
            return found
    raise AssertionError(f"{kind} never happens in {case.scenario}")


@pytest.mark.parametrize("kind", list(FaultKind))
def test_a_fault_is_a_choice_like_any_other(kind: FaultKind) -> None:
    case = Case(BEFALLS[kind], faults=f"{kind}=1")
    found = befallen(case, kind)
    assert found.violations == ()
    assert kind in found.reached
    assert faults_of(found) == [kind], "the budget is one"
    assert replay(case.build, found.choices) == found


@pytest.mark.parametrize("kind", list(FaultKind))
def test_a_fault_stands_in_the_replay_file_among_the_other_deviations(kind: FaultKind) -> None:
    case = Case(BEFALLS[kind], faults=f"{kind}=1")
    recording = record(case.build, befallen(case, kind).choices)
    saved = replay_of(case, recording, FoundBy("random", 1, seed=1))
    again = loads(dumps(saved))
    assert again == saved
    assert again.case.faults == f"{kind}=1"
    assert any(d.run.actor.startswith(f"fault.{kind}") for d in again.schedule)
    assert again.expect.verdict == HOLDS
    outcome = rerun(again, Policy.STRICT)
    assert outcome.reproduced, outcome.divergence
    assert outcome.recording.digest == recording.digest


@pytest.mark.parametrize("kind", list(FaultKind))
def test_a_fault_and_what_follows_touch_what_they_declare(kind: FaultKind) -> None:
    assert check_case(Case(BEFALLS[kind], faults=f"{kind}=2"), CHECKED_RUNS, 3) == []


@pytest.mark.parametrize("scenario", ["second-discard-fault", "late-second-copy"])
def test_a_network_that_repeats_by_itself_has_its_messages_on_the_wire(scenario: str) -> None:
    case = Case(scenario, faults="cut=1,fault_repeated=1,request_lost=1")
    assert check_case(case, CHECKED_RUNS, 3) == []
    assert survived(case, RUNS_MAX, 3)["cut"] > 0


def test_faults_in_any_mixture_touch_what_they_declare() -> None:
    for seed in range(MIXTURES):
        case = mixture(seed)
        assert check_case(case, 2, seed) == [], case


# Shrinking.

BESIDES = {
    FaultKind.REQUEST_LOST: ("dirty-bit-in-transit", "stable_before_clear"),
    FaultKind.REPLY_LOST: ("concurrent-discard-faults", "test_set_discarded"),
    FaultKind.DUPLICATE: ("locked-and-volatile", "mlock_marks_mapping"),
    FaultKind.FAULT_REPEATED: ("concurrent-discard-faults", "test_set_discarded"),
    FaultKind.CUT: ("copy-source-discarded", "stable_copy_source"),
    FaultKind.CHECKPOINT: ("removed-but-not-marked", "remove_checks_state"),
    FaultKind.POWER: ("removed-but-not-marked", "remove_checks_state"),
    FaultKind.PAUSE: ("dirty-bit-in-transit", "stable_before_clear"),
    FaultKind.WRITE_FAILS: ("reserved-page", "reserved_before_unused"),
}
"""A scenario and a guard without which it goes wrong, whether this happens besides or not.

Not there: a read that fails ends the guest's life and with it its races, and ticks are what the one
scenario that has any is about.
"""
MISSED = {
    "redeliver_faults": ("freed-while-fault-pending", "cut=1,pause=1", "cut=1"),
    "resend_outstanding": ("borrowed-reference", "duplicate=1,request_lost=1", "request_lost=1"),
    "answer_repeats": ("locked-and-volatile", "duplicate=1,pause=1", "duplicate=1"),
    "dismiss_duplicate_faults": (
        "freed-while-fault-pending",
        "fault_repeated=2",
        "fault_repeated=1",
    ),
}
"""Guards of the link: a scenario that does not need them, what may fail, and what has to."""


def failing(case: Case, *kinds: str) -> Run:
    """A run of the case that ends in a violation, and in which all these kinds have happened."""
    for seed in range(RUNS_MAX):
        report = search(case.build, "random", RUNS_MAX, seed, classify_every=0)
        found = report.counterexample
        if found is not None and set(kinds) <= set(faults_of(found)):
            return found
    raise AssertionError(f"{kinds} and a violation never come together in {case.scenario}")


@pytest.mark.parametrize("kind", list(BESIDES))
def test_a_fault_that_is_not_needed_is_shrunk_away(kind: FaultKind) -> None:
    scenario, guard = BESIDES[kind]
    case = Case(scenario, without=(guard,), faults=f"{kind}=1")
    shrunk = shrink(case, failing(case, kind).choices)
    assert shrunk.case.faults == ""
    assert faults_of(shrunk.run) == []


@pytest.mark.parametrize("guard", list(MISSED))
def test_a_fault_that_is_needed_stays_and_the_rest_goes(guard: str) -> None:
    scenario, may, must = MISSED[guard]
    case = Case(scenario, without=(guard,), faults=may)
    found = failing(case, *(str(kind) for kind, _ in FaultBudget.parse(may).times))
    saved = loads(dumps(replay_for(case, found, strategy="random", schedule=1)))
    assert saved.case.faults == must
    assert rerun(saved, Policy.STRICT).reproduced


# Nothing goes wrong.


EXHAUSTED = [
    ("request_lost=1", "enabled-too-early"),
    ("request_lost=1", "interrupted-holder"),
    ("reply_lost=1", "enabled-too-early"),
    ("reply_lost=1", "fork-of-a-discarded-page"),
    ("duplicate=1", "cleared-before-stable"),
    ("duplicate=1", "list-of-the-caller"),
    ("fault_repeated=1", "enabled-too-early"),
    ("cut=1", "cleared-before-stable"),
    ("cut=1", "list-of-the-caller"),
    ("cut=2", "cleared-after-unused"),
    ("duplicate=1,cut=1", "cleared-after-unused"),
    ("checkpoint=1", "cleared-before-stable"),
    ("checkpoint=1", "list-of-the-caller"),
    ("power=1", "enabled-too-early"),
    ("power=1", "reserved-page"),
    ("pause=1", "enabled-too-early"),
    ("pause=1", "last-put-in-an-interrupt"),
    ("read_fails=1", "reserved-page"),
    ("write_fails=1", "reserved-page"),
    ("write_fails=1", "change-bit-read-early"),
]
"""Small enough that every schedule can be tried. Ticks are not among them: see `BEFALLS`."""


@pytest.mark.parametrize(("faults", "scenario"), EXHAUSTED)
def test_every_place_that_a_fault_can_have_is_tried(faults: str, scenario: str) -> None:
    report = explore(Case(scenario, faults=faults).build, schedules_max=SCHEDULES_MAX)
    assert report.counterexample is None, report.counterexample
    assert report.exhausted
    for kind, _ in FaultBudget.parse(faults).times:
        assert 0 < report.reached[kind] < report.schedules  # some runs go undisturbed


def survived(case: Case, runs: int, seed: int) -> Counter[str]:
    """How often each situation was reached; a violation fails the test."""
    report = search(case.build, "random", runs, seed, classify_every=0)
    assert report.counterexample is None, (case, report.counterexample)
    return report.reached


@pytest.mark.parametrize("kind", list(FaultKind))
def test_with_all_guards_nothing_comes_of_a_fault(kind: FaultKind) -> None:
    reached = survived(Case(BEFALLS[kind], faults=f"{kind}=2"), RUNS_MAX, 1)
    assert reached[kind] > 0


def test_with_all_guards_nothing_comes_of_faults_in_any_mixture() -> None:
    happened: Counter[str] = Counter()
    for seed in range(MIXTURES):
        happened += survived(mixture(seed), MIXTURE_RUNS, seed)
    rare = {FaultKind.READ_FAILS, FaultKind.TICK}  # few scenarios page in, one has a timer
    assert all(happened[kind] for kind in FaultKind if kind not in rare), happened


def test_composed_actors_with_a_wire_are_settled_by_one_program_alone() -> None:
    """An interrupt of vCPU 0 comes while all is over and is checked; its handler calls the host."""
    workload = "grace=sign-off; evict=2; start=load.2; msync.0 | munmap.1"
    case = Case(COMPOSED, workload=workload, faults="reply_lost=1")
    report = search(case.build, "pos", 20, 19, classify_every=0)
    assert report.counterexample is None, report.counterexample
    assert report.schedules == 20


@pytest.mark.parametrize("seed", range(4))
def test_a_mixture_is_its_seed(seed: int) -> None:
    case = mixture(seed)
    first, again = (search(case.build, "pos", 5, seed, stop_at_first=False) for _ in range(2))
    assert first == again
    assert Case(case.scenario, faults=case.faults) == case
