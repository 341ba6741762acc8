"""What the fixture `races` offers to a test.

Rules:
- A test fails with the verdict, the picture and the command that makes the run again. It fails
  too where nothing can be said: a search that ran out of its budget is no pass.
- A run that goes wrong is shrunk and saved before the test ends, whether it was expected or not.
"""

from __future__ import annotations

import inspect
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from essa_cli.races_outside import Build, know, scenario_of
from essa_cli.races_told import picture, told
from race_explorer.campaign import search
from race_explorer.case import FIXED_PRESET, Case
from race_explorer.exhaustive import NAME as EXHAUSTIVE
from race_explorer.recycling import recycled
from race_explorer.replays.library import replay_for
from race_explorer.replays.policies import Policy, rerun
from race_explorer.replays.text import SUFFIX, dumps
from race_explorer.report import Report
from race_explorer.scenarios.scenario import Scenario
from race_explorer.verdict import Outcome, Verdict, judge

SCHEDULES = 60_000
What = Scenario | Build | str
"""A scenario, a function that builds its world, or the name of one of the library."""


@dataclass(frozen=True, slots=True)
class Found:
    """A violation: its first line, the saved replay, the command that runs it, the picture."""

    violation: str
    file: Path
    command: str
    picture: str


class Races:
    """Searches for one test. folder: of replays. test: the test's name."""

    def __init__(self, folder: Path, test: str) -> None:
        self._folder = folder
        self._test = test

    def hold(
        self,
        what: What,
        *,
        without: str | tuple[str, ...] = (),
        preset: str = FIXED_PRESET,
        strategy: str = EXHAUSTIVE,
        schedules: int = SCHEDULES,
        seed: int = 0,
        sometimes: tuple[str, ...] = (),
    ) -> Verdict:
        """Search; the test fails unless the scenario holds.

        schedules: the budget. strategy: as for `essa races run`. sometimes: situations that must
        have been reached, besides the scenario's own; `world.mark` names them. Raises ValueError
        for a scenario, guard, preset or strategy that is none.
        """
        __tracebackhide__ = True
        case, report, verdict = self._searched(what, without, preset, strategy, schedules, seed)
        missing = [situation for situation in sometimes if not report.reached[situation]]
        if verdict.outcome is Outcome.VIOLATED:
            found = self._found(case, report)
            lines = [*verdict.lines(), found.picture, f"replay: {found.command}"]
            pytest.fail("\n".join(lines), pytrace=False)
        if verdict.outcome is not Outcome.HOLDS:
            pytest.fail("\n".join(verdict.lines()), pytrace=False)
        if missing:
            pytest.fail(f"inconclusive: never reached: {', '.join(missing)}", pytrace=False)
        return verdict

    def violated(
        self,
        what: What,
        *,
        without: str | tuple[str, ...] = (),
        preset: str = FIXED_PRESET,
        strategy: str = EXHAUSTIVE,
        schedules: int = SCHEDULES,
        seed: int = 0,
        damage: str = "",
    ) -> Found:
        """Search; the test fails unless the scenario is violated.

        damage: what must stand in the violation. The rest is as for `hold`.
        """
        __tracebackhide__ = True
        case, report, verdict = self._searched(what, without, preset, strategy, schedules, seed)
        if verdict.outcome is not Outcome.VIOLATED:
            lines = [f"a violation was expected without {', '.join(case.without) or 'anything'}"]
            pytest.fail("\n".join([*lines, *verdict.lines()]), pytrace=False)
        found = self._found(case, report)
        if damage not in found.violation:
            lines = [f"a violation with {damage!r} was expected", *verdict.lines(), found.picture]
            pytest.fail("\n".join([*lines, f"replay: {found.command}"]), pytrace=False)
        return found

    def _searched(
        self,
        what: What,
        without: str | tuple[str, ...],
        preset: str,
        strategy: str,
        schedules: int,
        seed: int,
    ) -> tuple[Case, Report, Verdict]:
        off = (without,) if isinstance(without, str) else tuple(without)
        case = Case(_known(what), preset=preset, without=off)
        case.check()
        report = search(recycled(case.build), strategy, schedules, seed)
        return case, report, judge(case.definition, case, report)

    def _found(self, case: Case, report: Report) -> Found:
        """Shrink what was found, and save it."""
        assert report.counterexample is not None
        assert report.found is not None
        small = replay_for(
            case,
            report.counterexample,
            strategy=report.strategy,
            schedule=report.found.number + 1,
            seed=-1 if report.strategy == EXHAUSTIVE else report.seed,
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / self._file_name(case)
        file.write_text(dumps(small), encoding="utf-8")
        command = f"essa races replay {shlex.quote(_short(file))}"
        build = case.definition.build
        if not build.__module__.startswith("race_explorer."):
            command += f" --scenarios {shlex.quote(_short(Path(inspect.getfile(build))))}"
        recording = rerun(small, Policy.STRICT).recording
        shown = picture(told(small.case, recording, ""))
        return Found(small.expect.violation, file, command, shown)

    def _file_name(self, case: Case) -> str:
        """One for each test, scenario and guards that are off; later runs replace it."""
        parts = [self._test, case.scenario, *case.without]
        if case.preset != FIXED_PRESET:
            parts.append(case.preset)
        return "+".join(re.sub(r"[^\w.-]+", "-", part) for part in parts) + SUFFIX


def _known(what: What) -> str:
    if isinstance(what, str):
        return what
    scenario = what if isinstance(what, Scenario) else scenario_of(what)
    know(scenario)
    return scenario.name


def _short(path: Path) -> str:
    """As it is typed where the tests were started, if it lies below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
