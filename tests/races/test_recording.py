"""A recording is the run itself, written down: nothing of it depends on being looked at.

Method: schedules of real scenarios, recorded and compared with what the engine alone makes of
them, with each other, and with their own first halves.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from race_explorer.case import Case
from race_explorer.engine import DivergedError, Option, replay
from race_explorer.recording import Recording, record, record_with, touched_pfns

CASE = Case("make-stable-overtakes")
FAILING = Case("answered-before-the-splice", without=("grace_calls_again",))
"""Its very first schedule fails."""


def _last_first(options: Sequence[Option]) -> int:
    return len(options) - 1


@pytest.mark.parametrize("case", [CASE, FAILING])
def test_a_recorded_run_is_the_run_that_the_engine_makes(case: Case) -> None:
    recording = record(case.build, ())
    run = replay(case.build, ())
    assert recording.choices == run.choices
    assert tuple((step.actor, step.label) for step in recording.steps) == run.steps
    assert (recording.violations, recording.reached) == (run.violations, run.reached)


def test_recording_again_gives_the_same_in_every_field() -> None:
    first = record_with(CASE.build, _last_first)
    assert record(CASE.build, first.choices) == first
    assert record(CASE.build, first.choices).digest == first.digest


def test_a_choice_that_is_not_offered_is_refused() -> None:
    with pytest.raises(DivergedError, match="step 1: choice 9 of"):
        record(CASE.build, (0, 9))


def test_steps_are_numbered_by_meaning() -> None:
    recording = record_with(CASE.build, _last_first)
    seen: dict[tuple[str, str], int] = {}
    for number, step in enumerate(recording.steps, 1):
        name = (step.actor, step.label)
        seen[name] = seen.get(name, 0) + 1
        assert (step.index, step.nth) == (number, seen[name])
        assert step.enabled[step.choice] == name


def test_digests_depend_on_what_came_before_and_on_nothing_later() -> None:
    first, last = record(CASE.build, ()), record_with(CASE.build, _last_first)
    assert first.steps[0].digest != last.steps[0].digest
    # One more choice in common, one more digest: what a later step touches has no say in it.
    parted = record(CASE.build, (*first.choices[:4], 1))
    assert first.choices[4] == 0
    assert [s.digest for s in first.steps[:4]] == [s.digest for s in parted.steps[:4]]
    assert first.steps[4].digest != parted.steps[4].digest
    assert first.digest != parted.digest


def test_the_digest_of_a_run_knows_how_it_ended() -> None:
    recording = record(FAILING.build, ())
    assert recording.violations
    other = Recording(recording.pfns, recording.before, recording.steps, (), recording.reached)
    assert other.digest != recording.digest


def test_pages_are_those_that_steps_name_as_they_were_then() -> None:
    recording = record(CASE.build, ())
    named = {pfn for step in recording.steps for pfn in touched_pfns(step.accesses)}
    assert set(recording.pfns) == named
    assert tuple(page.pfn for page in recording.before) == recording.pfns
    states = [step.pages[0].state for step in recording.steps]
    turned = next(s for s in recording.steps if s.label == "essa.set_stable_if_resident")
    assert turned.said == "was Vr"
    assert states[turned.index - 2 : turned.index] == ["Vr", "Sr"]
    assert recording.steps[-1].label == "commit"
    assert states[-1] == "Vz"


def test_an_allocation_is_a_new_incarnation() -> None:
    case = Case("volatile-after-put")
    pages = [step.pages for step in record(case.build, ()).steps]
    reused = {page.pfn: page.incarnation for page in pages[-1]}
    before = {page.pfn: page.incarnation for page in record(case.build, ()).before}
    assert any(reused[pfn] > before[pfn] for pfn in reused)
    assert all(page.owner == "free" for seen in pages for page in seen if page.count == 0)
