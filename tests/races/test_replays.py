"""Replay files do what they say, survive changes of the code, and are refused when they are broken.

Method: every committed file is run strictly; the same files and small ones of our own are then
run in worlds whose steps were split or reordered, and with fields missing, wrong or unknown.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from guest_agent.kernel.ports import Accesses, Vcpu
from race_explorer.actors import SimSchedule, Step, always, stand
from race_explorer.case import Case
from race_explorer.catalogue import guards
from race_explorer.exhaustive import explore
from race_explorer.recording import Recording, record, record_with
from race_explorer.replays.anchors import POLICY, activity, deviations, is_program, ordinal
from race_explorer.replays.guides import Anchored, Guided
from race_explorer.replays.library import removals, renewed, replay_for, series
from race_explorer.replays.policies import Policy, first_divergence, rerun
from race_explorer.replays.replay import FORMAT, FoundBy, Replay, replay_of
from race_explorer.replays.text import SUFFIX, dumps, load, loads
from race_explorer.replays.token import PREFIX, decode, encode, follow, token_of
from race_explorer.world import SimWorld
from tests.races.test_scenarios import FOUND_IN_SEED

FOLDER = Path(__file__).parents[1] / "replays"
FILES = {path.name.removesuffix(SUFFIX): path for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}
DEVIATIONS_MAX = 5
GUARDED_SCHEDULES = 500
AGAIN = "run `python -m race_explorer.replays.library tests/replays`"

OVERTAKES = Case("make-stable-overtakes", without=("state_change",))
FOUND = explore(OVERTAKES.build, schedules_max=1_000)
assert FOUND.counterexample is not None
REPLAY = replay_for(
    OVERTAKES, FOUND.counterexample, strategy="exhaustive", schedule=FOUND.schedules
)
TEXT = dumps(REPLAY)


# The library.


@pytest.mark.parametrize("name", FILES)
def test_every_committed_file_reproduces_strictly(name: str) -> None:
    replay = load(FILES[name])
    outcome = rerun(replay, Policy.STRICT)
    assert outcome.divergence is None, f"{outcome.divergence.describe()}\n{AGAIN}"
    assert outcome.reproduced
    assert outcome.honoured == len(replay.schedule)
    assert dumps(replay) == FILES[name].read_text(encoding="utf-8")


def test_what_is_left_out_is_not_what_goes_wrong() -> None:
    """A case with less in it than its scenario holds when the guards are on.

    Cases with nothing left out are searched, to the end, by the tests of the scenarios.
    """
    cases = [load(path).case for path in FILES.values()]
    smaller = [replace(case, preset="fixed", without=()) for case in cases if case.dropped]
    assert smaller
    for case in smaller:
        report = explore(case.build, schedules_max=GUARDED_SCHEDULES)
        assert report.counterexample is None, report.counterexample


def test_every_removal_and_every_guard_has_a_file() -> None:
    missing = [name for name, case in removals().items() if name not in FILES]
    assert not missing, AGAIN
    for name, case in removals().items():
        found = load(FILES[name]).case
        assert replace(found, dropped=()) == case
    off = {guard for path in FILES.values() for guard in load(path).case.without}
    assert {guard.name for _, guard in guards()} == off


def test_the_defects_of_the_series_have_files() -> None:
    assert {f"seed.{name}" for name in FOUND_IN_SEED} <= set(FILES)
    assert set(FILES) <= {*removals(), *series()}, "a file that nobody would write"


def test_what_a_guard_prevents_takes_few_deviations() -> None:
    long = {name: len(load(path).schedule) for name, path in FILES.items()}
    assert not {n: d for n, d in long.items() if d > DEVIATIONS_MAX and n in removals()}


# Deviations and anchors.


def test_a_run_by_the_policy_has_no_deviations() -> None:
    recording = record_with(OVERTAKES.build, Guided(Anchored(())))
    assert deviations(recording) == ()


def test_a_schedule_is_said_by_meaning_and_found_again() -> None:
    recording = record(
        OVERTAKES.build, FOUND.counterexample.choices if FOUND.counterexample else ()
    )
    schedule = deviations(recording)
    first = schedule[0]
    assert str(first.at) == "cpu0 essa.set_volatile"
    assert str(first.run) == "cpu1 find_get_page"
    assert first.step == 6
    again = record_with(OVERTAKES.build, Guided(Anchored(schedule)))
    assert again == recording


def test_what_the_host_does_with_one_page_is_one_activity() -> None:
    assert activity("host.evict.7") == activity("host.commit.7") != activity("host.commit.8")
    assert activity("host.deliver_fault.7") == "host.deliver_fault.7"
    assert activity("cpu0") == "cpu0"
    assert is_program("cpu0")
    assert not is_program("host.evict.7")


def test_ordinals() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th")
    ]


# Policies, where the code is another.


class _SplitSchedule(SimSchedule):
    """A kernel of tomorrow: every point has become two."""

    async def point(self, vcpu: Vcpu, label: str, accesses: Accesses) -> bool:
        await stand(Step(f"{label}.first_half", lambda: accesses, always))
        return await super().point(vcpu, label, accesses)


class _SplitCase(Case):
    def build(self) -> SimWorld:
        world = Case.build(self)
        world.kernel.schedule = _SplitSchedule()
        return world


class _CrowdedCase(Case):
    """Another actor comes first: no index of an option is what it was."""

    def build(self) -> SimWorld:
        world = self.definition.build(self.protections())

        async def bystander() -> None:
            for _ in range(3):
                await stand(Step("looks on", tuple, always))

        world.spawn("bystander", bystander())
        actors = world._actors
        actors.insert(0, actors.pop())
        world.drop(self.dropped)
        return world


def _as(kind: type[Case], case: Case) -> Case:
    return kind(case.scenario, case.preset, case.without, case.dropped)


def test_anchors_survive_other_indices() -> None:
    others = 0
    for path in list(FILES.values())[::5]:
        replay = load(path)
        changed = replace(replay, case=_as(_CrowdedCase, replay.case))
        others += rerun(changed, Policy.STRICT).divergence is not None
        outcome = rerun(changed, Policy.BEST_EFFORT)
        assert outcome.honoured == len(replay.schedule), path
        assert outcome.signature == replay.expect.signature, path
        assert outcome.reproduced
    assert others > len(FILES) // 10, "the change has changed next to nothing"


def test_most_anchors_survive_split_points_and_the_rest_are_searched_for() -> None:
    """A switch to an actor that stands before half of the step only is met by no anchor."""
    changed = {}
    for name, path in FILES.items():
        replay = load(path)
        changed[name] = replace(replay, case=_as(_SplitCase, replay.case))
    missed = {n: r for n, r in changed.items() if not rerun(r, Policy.BEST_EFFORT).reproduced}
    assert len(missed) < len(FILES) // 3, sorted(missed)
    short = [name for name, replay in missed.items() if len(replay.schedule) == 1]
    assert short
    for name in short[:3]:  # longer ones may take more schedules than a test should
        assert rerun(missed[name], Policy.STRICT).divergence is not None
        assert rerun(missed[name], Policy.EXPLORE).reproduced, name


def test_strict_names_the_first_step_that_differs_and_both_sides() -> None:
    guarded = replace(REPLAY, case=replace(OVERTAKES, without=()))
    outcome = rerun(guarded, Policy.STRICT)
    assert not outcome.reproduced
    assert outcome.divergence is not None
    # With the guard on, the flag is taken first; only then come the conditions.
    assert outcome.divergence.describe() == (
        "step 2 differs:\n"
        "  recorded: cpu0 page.counts\n"
        "  now:      cpu0 page.test_and_set_bit, out of cpu0 page.test_and_set_bit, "
        "cpu1 find_get_page, host.evict.1 begin_eviction"
    )


def test_strict_sees_what_names_do_not_show() -> None:
    first, *others = REPLAY.expect.trail
    expect = replace(REPLAY.expect, trail=(replace(first, digest="0" * 16), *others))
    divergence = rerun(replace(REPLAY, expect=expect), Policy.STRICT).divergence
    assert divergence is not None
    assert (divergence.step, divergence.until) == (1, len(first.labels))
    assert f"digest {first.digest}" in divergence.now
    assert "steps 1 to " in divergence.describe()


def test_strict_sees_another_end() -> None:
    recording = _run(REPLAY)
    shorter = replace(recording, steps=recording.steps[:-1])
    found = first_divergence(REPLAY.expect, shorter)
    assert found is not None
    assert (found.step, found.recorded, found.now) == (13, "cpu1 load", "the end")
    expect = replace(REPLAY.expect, digest="f" * 16)
    found = first_divergence(expect, recording)
    assert found is not None
    assert (found.step, found.recorded[-23:]) == (14, f"digest {'f' * 16}")
    expect = replace(REPLAY.expect, trail=REPLAY.expect.trail[:-1])
    found = first_divergence(expect, recording)
    assert found is not None
    assert found.now == "cpu1 load, out of cpu1 load"


def test_best_effort_leaves_out_what_it_cannot_meet() -> None:
    first, second, third = REPLAY.schedule
    lost = replace(second, at=replace(second.at, nth=9))
    outcome = rerun(replace(REPLAY, schedule=(first, lost, third)), Policy.BEST_EFFORT)
    assert outcome.honoured == 2
    assert not outcome.reproduced
    assert outcome.schedules == 1


@pytest.mark.parametrize("broken", range(3))
def test_explore_finds_around_a_broken_anchor_what_is_not_there_any_more(broken: int) -> None:
    schedule = list(REPLAY.schedule)
    schedule[broken] = replace(schedule[broken], at=replace(schedule[broken].at, nth=9))
    changed = replace(REPLAY, schedule=tuple(schedule))
    assert not rerun(changed, Policy.BEST_EFFORT).reproduced
    outcome = rerun(changed, Policy.EXPLORE)
    assert outcome.reproduced
    assert outcome.signature == REPLAY.expect.signature
    assert 1 < outcome.schedules <= 2_000
    assert rerun(changed, Policy.EXPLORE) == outcome


def test_explore_gives_up_at_its_budget_and_finds_nothing_with_the_guard_on() -> None:
    guarded = replace(REPLAY, case=replace(OVERTAKES, without=()))
    outcome = rerun(guarded, Policy.EXPLORE, schedules_max=100)
    assert not outcome.reproduced
    assert 90 <= outcome.schedules <= 100


def test_a_replay_that_no_longer_fits_can_be_renewed() -> None:
    first, *others = REPLAY.schedule
    broken = replace(REPLAY, schedule=(replace(first, at=replace(first.at, nth=9)), *others))
    again = renewed(broken)
    assert again is not None
    assert rerun(again, Policy.STRICT).reproduced
    assert again.expect == REPLAY.expect
    assert renewed(replace(broken, case=replace(OVERTAKES, without=())), schedules_max=50) is None
    case = replace(OVERTAKES, without=())
    with pytest.raises(ValueError, match="only what is violated"):
        renewed(replay_of(case, record(case.build, ()), REPLAY.found_by))


def test_a_run_that_holds_is_a_replay_too() -> None:
    case = replace(OVERTAKES, without=())
    replay = replay_of(case, record(case.build, ()), FoundBy("by hand", 1))
    assert loads(dumps(replay)) == replay
    assert replay.expect.signature == ""
    assert all(rerun(replay, policy).reproduced for policy in Policy)
    failing = replace(replay, case=OVERTAKES, schedule=REPLAY.schedule)
    assert not any(rerun(failing, policy).reproduced for policy in Policy)


# The text.


def test_text_and_replay_are_inverse() -> None:
    assert loads(TEXT) == REPLAY
    assert dumps(loads(TEXT)) == TEXT
    odd = 'a "b" \\ é \x7f \t'
    assert loads(dumps(replace(REPLAY, source=odd))).source == odd


def test_the_text_says_the_schedule_to_a_reader() -> None:
    assert max(map(len, TEXT.splitlines())) <= 120
    assert (
        "[[schedule]]\n"
        "step = 6\n"
        'at = { actor = "cpu0", label = "essa.set_volatile", nth = 1 }\n'
        'run = { actor = "cpu1", label = "find_get_page", nth = 1 }\n'
    ) in TEXT
    assert TEXT.startswith(
        "# make-stable-overtakes, preset fixed without state_change: "
        "discard fault 1 in kernel mode on a page held stable\n"
    )


BROKEN = {
    "another format": (FORMAT, "essa-replay/2", "format: 'essa-replay/2' is not known"),
    "no format": (f'format = "{FORMAT}"\n', "", "format: it is missing"),
    "another policy": (POLICY, "round-robin", "policy: 'round-robin' is not known"),
    "no scenario": ('scenario = "make-stable-overtakes"\n', "", "scenario: it must be there"),
    "unknown scenario": ("make-stable-overtakes", "make-tea", "no scenario is called 'make-tea'"),
    "unknown guard": ('["state_change"]', '["tea"]', "no such guard: tea"),
    "unknown preset": ('preset = "fixed"', 'preset = "brewed"', "preset is 'brewed'"),
    "unknown actor": ("dropped = []", 'dropped = ["cpu9"]', "dropped: no actor is called 'cpu9'"),
    "guards no list": ('["state_change"]', '"state_change"', "without: it must be a list"),
    "guards no strings": ('["state_change"]', "[1]", "without: it must be a list of strings"),
    "preset no string": ('preset = "fixed"', "preset = 3", "preset: it must be a string"),
    "unknown field": ("dropped = []", "droped = []", "droped: there is no such field"),
    "step no number": ("step = 6", 'step = "6"', "schedule[0].step: it must be a whole number"),
    "step no truth": ("step = 6", "step = true", "schedule[0].step: it must be a whole number"),
    "no label": (', label = "essa.set_volatile"', "", "schedule[0].at.label: it is missing"),
    "anchor no table": (
        'run = { actor = "cpu1", label = "find_get_page", nth = 1 }',
        'run = "cpu1"',
        "schedule[0].run: it must be a table",
    ),
    "nth from one": (
        '"find_get_page", nth = 1',
        '"find_get_page", nth = 0',
        "schedule[0].run.nth: it must be a whole number from 1",
    ),
    "verdict": ('verdict = "violated"', 'verdict = "maybe"', "expect.verdict: it must be"),
    "holds with signature": ('verdict = "violated"', 'verdict = "holds"', "expect.signature: "),
    "trail too short": ("steps = 13\ndigest", "steps = 14\ndigest", "expect.trail: "),
    "found_by": ('strategy = "exhaustive"', "strategy = []", "found_by.strategy: it must be"),
    "more in a table": ("seed = -1", "sead = -1", "found_by.seed: it is missing"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_in_one_line_that_names_the_field(
    name: str, tmp_path: Path
) -> None:
    there, instead, message = BROKEN[name]
    assert there in TEXT
    path = tmp_path / "x.essa-replay"
    path.write_text(TEXT.replace(there, instead), encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        load(path)
    told = str(caught.value)
    assert told.startswith(f"{path}: ")
    assert message in told
    assert "\n" not in told


@pytest.mark.parametrize("kept", range(10, len(TEXT) - 2, 97))
def test_a_truncated_file_is_refused(kept: int) -> None:
    with pytest.raises(ValueError) as caught:
        loads(TEXT[:kept])
    assert "\n" not in str(caught.value)


def test_what_is_no_replay_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        load(tmp_path / "absent")
    with pytest.raises(ValueError, match="Is a directory"):
        load(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="it is no text"):
        load(tmp_path / "binary")


# Tokens.


def _run(replay: Replay) -> Recording:
    return record_with(replay.case.build, Guided(Anchored(replay.schedule)))


def _token(replay: Replay) -> str:
    return token_of(replay.case, _run(replay))


@pytest.mark.parametrize("name", list(FILES)[::8])
def test_a_token_is_the_run(name: str) -> None:
    replay = load(FILES[name])
    word = _token(replay)
    assert encode(decode(word)) == word
    token = decode(f"  {word.lower()}\n")
    assert token == decode(word)
    assert token.case == replay.case
    assert [step for step, _ in token.choices] == [d.step for d in replay.schedule]
    assert follow(token) == _run(replay)


def test_every_wrong_character_is_found_out() -> None:
    word = _token(REPLAY)
    for i in range(len(PREFIX), len(word)):
        for letter in "AZ7":
            if letter == word[i]:
                continue
            with pytest.raises(ValueError, match="token: "):
                decode(word[:i] + letter + word[i + 1 :])
        with pytest.raises(ValueError, match="token: "):
            decode(word[:i] + word[i + 1 :])


@pytest.mark.parametrize("text", ["", "ESSA1.", "ESSA2.AAAA", "ESSA1.A1B8", "ESSA1.AAAAAAAA", "x"])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^token: "):
        decode(text)


def test_a_token_of_another_scenario_or_of_other_code_is_refused() -> None:
    token = decode(_token(REPLAY))
    with pytest.raises(ValueError, match="scenario make-stable-overtakes has changed"):
        decode(encode(replace(token, source="00000000")))
    with pytest.raises(ValueError, match="no scenario is called 'make-tea'"):
        decode(encode(replace(token, case=replace(OVERTAKES, scenario="make-tea"))))
    with pytest.raises(ValueError, match="no such guard"):
        decode(encode(replace(token, case=replace(OVERTAKES, without=("tea",)))))
    with pytest.raises(ValueError, match="the code has changed"):
        follow(decode(encode(replace(token, digest="00000000"))))
    with pytest.raises(ValueError, match="the code has changed"):
        follow(replace(token, choices=((2, 9),)))
