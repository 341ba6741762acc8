"""Lanes in a terminal: every counterexample of every scenario fits, and says what it must.

Method: the printed lines are read back; what they say is compared with the recording.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from guest_agent.kernel.page import reads, writes
from race_explorer.case import Case
from race_explorer.engine import DivergedError
from race_explorer.pictures.cast import cast, lane
from race_explorer.pictures.lanes import lanes
from race_explorer.pictures.parting import parting
from race_explorer.pictures.plot import Plot, Tie
from race_explorer.pictures.spans import Hold, spans
from race_explorer.pictures.story import Story, cut, show, tell
from race_explorer.pictures.switching import reason
from race_explorer.recording import record
from tests.races.stories import (
    GONE,
    PAGE,
    R4,
    R16,
    R17,
    R22,
    REMOVALS,
    TOKEN,
    by_hand,
    flipped,
    step,
    story,
)

WIDTHS = (80, 100)
PRINTED = re.compile(r"(?=.{4}[^:]{5}\d )(\[[AB]\])?(XX)? +(\d+) ")
FOLDED = re.compile(r"^ *~~ .*?(\d+) steps?\b")
ALL = [pytest.param(*removal, id=f"{removal[0]}-{'+'.join(removal[1])}") for removal in REMOVALS]


def _printed(picture: list[str]) -> list[tuple[str, bool, int]]:
    """Letter, whether it fails there, and number of every step that has a line."""
    found = [PRINTED.match(line) for line in picture]
    return [(m[1] or "", bool(m[2]), int(m[3])) for m in found if m]


def _folded(picture: list[str]) -> int:
    return sum(int(found[1]) for line in picture if (found := FOLDED.match(line)))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("name", "guards"), ALL)
def test_every_counterexample_fits_and_is_complete(
    name: str, guards: tuple[str, ...], width: int
) -> None:
    told = story(name, guards)
    picture = lanes(told, width=width)
    assert len(picture) <= 40
    assert max(map(len, picture)) <= width
    assert all(line.isascii() for line in picture)
    total, printed = len(told.failing.recording.steps), _printed(picture)
    assert len(printed) + _folded(picture) == total
    numbers = [number for _, _, number in printed]
    assert numbers == sorted(numbers)
    assert numbers[-1] == total
    assert [number for _, fails, number in printed if fails] == [total] * told.failing.in_race
    assert told.failing.in_race or any(line.startswith("XX at the end") for line in picture)


@pytest.mark.parametrize(("name", "guards"), ALL)
def test_two_accesses_of_two_lanes_are_lettered_where_there_are_two(
    name: str, guards: tuple[str, ...]
) -> None:
    told = story(name, guards)
    plot = Plot(told.failing)
    letters = [(letter, number - 1) for letter, _, number in _printed(lanes(told)) if letter]
    if len(plot.lanes) == 1:
        assert letters == []
        return
    assert [letter for letter, _ in letters] == ["[A]", "[B]"]
    assert plot.pair == tuple(place for _, place in letters)
    assert plot.lane_of[letters[0][1]] != plot.lane_of[letters[1][1]]


@pytest.mark.parametrize(("name", "guards"), ALL)
def test_where_the_lane_changes_a_line_says_why(name: str, guards: tuple[str, ...]) -> None:
    told = story(name, guards)
    plot = Plot(told.failing)
    picture = lanes(told)
    rows = [
        (m and int(m[3]) - 1, line)
        for line in picture
        if (m := PRINTED.match(line)) or "~~" in line
    ]
    last = None
    for place, line in rows:
        if place is None:
            last = line
            continue
        if place and plot.lane_of[place] != plot.lane_of[place - 1]:
            assert last is not None
            why = last.partition(f"switch to {plot.lane_of[place]}: ")[2].partition(" ~")[0]
            whole = reason(plot, place)
            assert why
            assert whole.startswith(why.partition("...")[0].partition(" |")[0])
        last = None


def test_the_lost_write_can_be_read_off_the_picture() -> None:
    picture = "\n".join(lanes(flipped()))
    for said in (
        r"dirty-bit-in-transit  R4 R2 +.*guards off: stable_before_clear",
        r"\d+ +ISKE, reads the key: C=1 .*\| \. \. \. ",
        r"\d+ +SSKE, sets the key: C 1 -> 0 .*\| \. \. 0! ",  # from here on it may be discarded
        r"\d+ +page.test_and_set_bit: \+dirty",
        r"switch to host: the scheduler's choice",
        r"\d+ +[. ]+ reads the change bit: C=0",
        r"\[A\] +\d+ +[. ]+ discards: Pr -> Vz .*\| V z 0 ",
        r"\[B\] +\d+ +ESSA 6 set stable if resident: was Vz \(gone\)",
        r"XX step \d+: cpu0: a page mapped writable was discarded",
        r"flip: with cpu0 essa.set_stable_if_resident \(\d+\) before host.commit.1 commit \(",
        r"off: stable_before_clear: .*\(R4 .*6/6\)",
        r"replay: essa races replay r4.essa-replay",
        rf"token: {TOKEN}",
    ):
        assert re.search(said, picture), f"{said} is not in\n{picture}"


def test_the_values_that_are_read_are_shown() -> None:
    picture = "\n".join(lanes(story("counts-apart", ("counts_in_one_load",))))
    assert re.search(r"page.mapcount: mapcount 1\b", picture)
    assert re.search(r"page.count: count 2\b", picture)


def test_a_conflict_behind_a_lock_is_what_was_read_and_written_under_it() -> None:
    plot = Plot(story(*R16).failing)
    assert plot.pair is not None
    read, write = (plot.steps[i] for i in plot.pair)
    assert (read.label, write.label) == ("pte.load", "pte.set")
    assert {a.resource for a in read.accesses} & {a.resource for a in write.accesses}
    assert plot.tellings[plot.pair[0]].text.endswith("of mm 2"), "the child's, which is empty"


def test_interrupts_are_told_from_the_code_that_they_interrupt() -> None:
    shown = story(*R22).failing
    taken = [i for i, moment in enumerate(shown.moments) if moment.taken]
    assert len(taken) == 1
    own = [i for i, entry in enumerate(shown.recording.steps) if entry.actor == "cpu0"]
    assert [i for i in own if shown.moments[i].nested] == [i for i in own if i > taken[0]]
    assert "interrupt, at page.clear_bit" in "\n".join(lanes(story(*R22)))
    found = {(span.hold, span.name, span.last) for span in spans(shown)}
    assert (Hold.FLAG, "PG_state_change", None) in found, "its holder never goes on"
    assert (Hold.INTERRUPT, "interrupt", own[-1]) in found


def test_locks_are_held_from_taking_to_releasing() -> None:
    shown = story(*R17).failing
    labels = [entry.label for entry in shown.recording.steps]
    held = {(s.name, s.first, s.last) for s in spans(shown) if s.hold is Hold.LOCK}
    assert ("ptl", labels.index("ptl"), labels.index("ptl_unlock")) in held
    assert all(last is not None for _, _, last in held)


def test_a_fault_is_an_arrow_from_its_access_to_its_handler() -> None:
    plot = Plot(story(*R17).failing)
    said = [entry.said for entry in plot.steps]
    labels = [(entry.actor, entry.label) for entry in plot.steps]
    load = said.index("fault 1")
    delivery = labels.index(("host.deliver_fault.1", "deliver_fault"))
    arrival = labels.index(("cpu0", "discard_fault.arrive"))
    tied = {(arrow.source, arrow.target) for arrow in plot.arrows if arrow.tie is Tie.DELIVERY}
    assert {(load, delivery), (delivery, arrival)} <= tied


def test_reasons_for_a_switch() -> None:
    plot = Plot(story(*R17).failing)
    changes = [i for i in range(1, len(plot.steps)) if plot.lane_of[i] != plot.lane_of[i - 1]]
    reasons = {reason(plot, i) for i in changes}
    assert "the scheduler's choice" in reasons
    assert "cpu1 is blocked at discard_fault.arrive" in reasons
    assert "stream is done" in reasons
    plot = Plot(story(*R22).failing)
    assert "an interrupt" in {reason(plot, i) for i, m in enumerate(plot.shown.moments) if m.taken}


def test_a_lane_that_ends_in_a_dead_lock_is_blocked_and_not_finished() -> None:
    steps = [step("cpu0", "lock_page"), step("cpu1", "page.flags", reads("flags", 7))]
    told = by_hand(steps, violation="deadlock: cpu0 at ptl, cpu2 at idle")
    assert reason(Plot(told.failing), 1) == "cpu0 is blocked at ptl"
    assert reason(Plot(by_hand(steps).failing), 1) == "cpu0 has finished"


def test_more_lanes_than_columns_are_put_into_one() -> None:
    steps = [step(f"cpu{i % 9}", "page.get", writes("count", 7)) for i in range(18)]
    picture = lanes(by_hand(steps))
    head = next(line for line in picture if line.split()[:1] == ["#"])
    columns = head.partition("|")[0].split()[1:]
    assert (len(columns), columns[-1]) == (6, "+4")
    assert columns[:-1] == sorted(columns[:-1])
    others = {f"cpu{i}" for i in range(9)} - set(columns)
    named = {found[1] for line in picture if (found := re.search(r"(cpu\d): page.get", line))}
    assert named, "who it is stands in the line"
    assert named <= others
    assert len(_printed(picture)) + _folded(picture) == 18


def test_a_repetition_is_folded() -> None:
    turn = [step("cpu0", "spin", reads("flags", 7)), step("cpu1", "hold", writes("flags", 7))]
    told = by_hand([*turn * 40, step("cpu0", "fail", writes("flags", 7), page=GONE)])
    picture = lanes(told)
    assert len(picture) <= 40
    assert len(_printed(picture)) + _folded(picture) == 81
    assert max(int(n[1]) for line in picture if (n := FOLDED.match(line))) > 50


def test_of_a_very_long_run_the_end_is_shown() -> None:
    told = story(*R17)
    picture = lanes(told, steps_max=30)
    missing = len(told.failing.recording.steps) - 30
    assert f"~~ not shown: the first {missing} steps" in picture
    assert len(_printed(picture)) + _folded(picture) == missing + 30
    part, flip = cut(told.failing, (missing, missing + 2), 30)
    assert part.recording.before == told.failing.recording.steps[missing - 1].pages
    assert flip == (0, 2)
    assert cut(told.failing, (missing - 1, missing + 2), 30)[1] is None


def test_what_a_terminal_would_obey_is_not_printed() -> None:
    hostile = "\x1b[2J\x07\u202efnord"
    told = by_hand([step("cpu0", hostile, page=GONE)], violation=hostile, title=hostile)
    picture = "\n".join(lanes(told))
    assert "fnord" in picture
    assert not set(hostile[:5] + "\u202e") - set("[2J") & set(picture)


def test_a_run_without_steps_has_a_picture() -> None:
    assert "XX at the end" in "\n".join(lanes(replace_in_race(by_hand([]))))


def replace_in_race(told: Story) -> Story:
    """The same, gone wrong at its end."""
    return replace(told, failing=replace(told.failing, in_race=False))


def test_a_story_refuses_what_is_not_its_own() -> None:
    case, recording = Case(R4[0], without=R4[1]), story(*R4).failing.recording
    with pytest.raises(DivergedError):
        show(Case(R17[0], without=R17[1]).build, recording)
    for flip in ((3, 3), (-1, 2), (0, len(recording.steps))):
        with pytest.raises(ValueError, match="flip"):
            tell(case, recording, flip=flip)


def test_without_a_flip_it_says_where_the_nearest_run_that_holds_parts() -> None:
    told = replace(flipped(), flip=None)
    assert told.passing is not None
    picture = " ".join(line.strip() for line in lanes(told))
    assert re.search(
        r"nearest: the nearest run that holds is the same until step 12, where "
        r"cpu0 essa.set_stable_if_resident comes instead of host.commit.1 commit \(12\)",
        picture,
    )
    assert parting(replace(told, passing=None)) == ""


def test_a_story_of_a_preset_names_the_scenarios_guards_and_counts_the_others() -> None:
    case = Case("stale-change-bit", preset="seed")
    told = tell(case, record(case.build, ()))
    assert [guard.name for guard in told.off] == ["tolerate_discard"]
    assert told.lacking > 5
    assert "guards off: preset seed" in "\n".join(lanes(told))


def test_lanes_are_where_a_reader_looks_for_them() -> None:
    actors = ["host.commit.1", "host.evict.2", "paging.3", "host.deliver_fault.1", "network.1"]
    assert cast([*actors, "disk2", "cpu10", "cpu2", "timer0"]) == (
        *("cpu2", "cpu10", "disk2", "timer0"),
        *("network", "stream", "host", "paging"),
    )
    assert lane("host.drain_release_list.0") == "host"


def test_a_page_is_written_in_full_where_it_matters_and_else_where_it_changes() -> None:
    steps = [
        step("cpu0", "one", writes("count", 7), page=replace(PAGE, count=3)),
        step("cpu0", "two", writes("host", 7), page=replace(PAGE, count=3)),
        step("host.commit.7", "commit", writes("host", 7), page=replace(GONE, count=3)),
    ]
    rows = [line.partition("|")[2].split() for line in lanes(by_hand(steps)) if "| " in line]
    assert rows[2:] == [
        ["P", "r", "0!", "2/1", "1"],
        [".", ".", ".", "3/1", "."],
        ["P", "r", "0!", "3/1", "1"],
        [".", ".", ".", ".", "."],
        ["V", "z", "0", "3/1", "1"],
    ]


def test_the_excerpt_in_the_documents_is_a_picture_of_ours() -> None:
    page = (Path(__file__).parents[2] / "docs" / "PICTURES.md").read_text()
    excerpt = page.split("```")[1].strip("\n").splitlines()
    assert len(excerpt) > 5
    picture = {_without_step_numbers(line) for line in lanes(flipped(), width=80)}
    assert [line for line in excerpt if _without_step_numbers(line) not in picture] == []


def _without_step_numbers(line: str) -> str:
    return re.sub(r"^(.{5}) +\d+", r"\1", line)
