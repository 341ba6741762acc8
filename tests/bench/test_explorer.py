"""The explorer's bench works and says what it promises to say; how fast anything is, is not asked.

Method: a tiny run of everything; numbers that are known because they are counts; the toy by brute
force; and another program in the place of frontrun, which is no dependency.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.explorer.__main__ import main, run
from bench.explorer.finding import Finding, find, wanted
from bench.explorer.frontrun_side import Frontrun, MissingError
from bench.explorer.frontrun_side import find as find_frontrun
from bench.explorer.frontrun_toy import Counter, whole, work
from bench.explorer.reductions import exhaust
from bench.explorer.settings import STRATEGIES, TINY
from bench.explorer.shrunk import sizes
from bench.explorer.speed import Speed
from bench.explorer.toy import STEPS, LostUpdate
from race_explorer.case import Case
from race_explorer.exhaustive import Reduction, explore
from race_explorer.replays.library import removals

TELLS = """#!/bin/sh
echo starting
echo '{"threads, random": {"schedules": '"$3"', "seconds": 0.5, "found_after": 7}}'
"""


def _program(folder: Path, text: str) -> Path:
    program = folder / "frontrun"
    program.write_text(text)
    program.chmod(0o700)
    return program


def test_a_tiny_run_writes_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "explorer.json"
    run(TINY, Frontrun(_program(tmp_path, TELLS), TINY.other_schedules), file)
    written = json.loads(file.read_text())
    assert [speed["name"] for speed in written["speed"]] == [name for name, _ in TINY.speed]
    for speed in (*written["speed"], written["lost_update"]["ours"]):
        assert speed["steps_per_second"]["minimum"] > speed["schedules_per_second"]["minimum"] > 0
    other = written["lost_update"]["frontrun"]["threads, random"]
    assert other["schedules_per_second"]["median"] == TINY.other_schedules / 0.5
    assert other["found_after"] == [7] * TINY.rounds
    assert set(written["finding"]) == set(TINY.guards)
    assert all(list(found) == list(STRATEGIES) for found in written["finding"].values())
    assert [one["name"] for one in written["shrunk"]] == [one.name for one in sizes()]
    assert len(written["exhaustive"]) == len(TINY.exhaustive) * len(Reduction)
    told = capsys.readouterr().out
    assert "the same in frontrun, threads, random" in told
    assert all(guard in told for guard in TINY.guards)


def test_a_frontrun_that_does_not_work_is_one_line_and_the_rest_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "explorer.json"
    run(TINY, Frontrun(_program(tmp_path, "#!/bin/sh\nexit 3\n"), 1), file)
    assert json.loads(file.read_text())["lost_update"]["frontrun"] is None
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bench:")]
    assert len(notes) == 1
    assert "frontrun does not run" in notes[0]


def test_a_frontrun_that_is_not_there_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="not installed"):
        find_frontrun(None)
    with pytest.raises(MissingError, match="is no file"):
        find_frontrun(tmp_path / "frontrun")
    program = _program(tmp_path, TELLS)
    assert find_frontrun(None) == find_frontrun(program) == program


def test_a_file_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--json", str(tmp_path / "missing" / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_toy_loses_what_the_other_toy_can_lose() -> None:
    """Alone each adds all it should; the outcomes of all orders of 12 steps lie in between."""
    counter = Counter()
    work(counter)
    work(counter)
    assert whole(counter)
    plain, source = (
        explore(LostUpdate, schedules_max=1_000, reduction=reduction, stop_at_first=False)
        for reduction in (Reduction.NONE, Reduction.SOURCE_SETS)
    )
    assert (plain.schedules, plain.steps) == (924, 924 * STEPS)  # C(12, 6)
    assert source.exhausted
    assert 0 < source.violated < source.schedules < plain.schedules


def test_a_round_counts_schedules_and_steps() -> None:
    speed = Speed("toy", LostUpdate, 5)
    for number in range(3):
        speed.round(number)
    assert (speed.schedules, speed.steps, speed.length) == (15, 15 * STEPS, STEPS)
    assert len(speed.schedule_rates) == len(speed.step_rates) == 3


def test_quantiles_count_those_who_found_nothing_as_later_than_all() -> None:
    finding = Finding("g", "s", 100, (9, None, 1, 5, 7))
    assert finding.found == 4
    assert [finding.quantile(share) for share in (0.2, 0.5, 0.8, 0.95)] == [1, 7, 9, None]


def test_each_seed_is_a_search_of_its_own_and_what_draws_nothing_searches_once() -> None:
    ((name, case),) = wanted(("stable_before_clear",)).items()
    drawn = find(name, case, "random", seeds=4, schedules_max=60)
    assert len(drawn.counts) == 4
    assert drawn == find(name, case, "random", seeds=4, schedules_max=60)
    assert len(set(drawn.counts)) > 1
    assert len(find(name, case, "delay", seeds=4, schedules_max=60).counts) == 1


def test_no_guards_are_all_guards() -> None:
    assert wanted(()) == removals()
    with pytest.raises(KeyError):
        wanted(("no_such_guard",))


def test_a_search_that_was_cut_off_does_not_say_that_it_is_done() -> None:
    case = Case("free-page-resurrected")
    assert not exhaust(case, Reduction.NONE, 50).exhausted
    done = exhaust(case, Reduction.SOURCE_SETS, 50)
    assert done.exhausted
    assert done.as_json()["reduction"] == "source sets"
