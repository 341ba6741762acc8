"""A campaign: so many schedules by one strategy, from one seed, and what they have shown.

Rules:
- The budget is schedules. A campaign may be cut into ranges of run numbers that are made
  anywhere; merged (`report.merge`) they say what one search says.
- The first PROBE_RUNS runs are made without a profile and measured; all others know the profile
  that they gave. A range that begins later is given it, or makes those runs again, uncounted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from race_explorer import exhaustive
from race_explorer.classes import trace_class
from race_explorer.engine import Path, World
from race_explorer.report import End, OnProgress, Report
from race_explorer.strategies import STRATEGIES, make_strategy
from race_explorer.strategies.profile import PROBE_RUNS, Profile, Survey
from race_explorer.strategies.strategy import Covered, Strategy

STRATEGY_NAMES: Final = (*STRATEGIES, exhaustive.NAME)

Build = Callable[[], World]


def search(
    build: Build,
    strategy: str,
    schedules: int,
    seed: int = 0,
    *,
    first: int = 0,
    stop_at_first: bool = True,
    classify_every: int = 1,
    profile: Profile | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Make runs `first` to `first + schedules - 1` of a campaign, or as many as there are.

    strategy: one of STRATEGY_NAMES. classify_every: the class of every so many-th run is looked
    at, 0 for none; that costs less than a tenth of the time. profile: what `measure` says,
    for ranges that do not begin at 0. on_progress: called after every run; False stops.
    Raises ValueError for a strategy that does not exist, or that cannot begin there.
    """
    if strategy == exhaustive.NAME:
        if first:
            raise ValueError(f"{strategy} search cannot be cut into ranges")
        report = exhaustive.explore(
            build, schedules_max=schedules, stop_at_first=stop_at_first, on_progress=on_progress
        )
        report.seed = seed
        return report
    chooser, survey = make_strategy(strategy, seed), Survey()
    if first and chooser.in_order:
        raise ValueError(f"{strategy} search cannot be cut into ranges")
    report = Report(strategy, seed, first, schedules)
    for number in range(first, first + schedules):
        if number >= PROBE_RUNS and report.profile is None:
            report.profile = profile or (
                measure(build, strategy, seed) if first else survey.profile()
            )
        kind = chooser.begin(number, report.profile)
        if isinstance(kind, Covered):
            report.end, report.deviations = End.EXHAUSTED, kind.deviations
            break
        classified = classify_every != 0 and number % classify_every == 0
        measured = survey if number < PROBE_RUNS else None
        path = _walk(build(), chooser, measured, classified=classified)
        report.add(path.record(), kind)
        if classified:
            report.classes[trace_class(path.steps, path.taken)] += 1
        if stop_at_first and report.counterexample is not None:
            report.end = End.COUNTEREXAMPLE
            break
        if on_progress is not None and not on_progress(report):
            report.end = End.CALLER
            break
    return report


def measure(build: Build, strategy: str, seed: int) -> Profile:
    """Make the first PROBE_RUNS runs of a campaign, and say what they were like."""
    chooser, survey = make_strategy(strategy, seed), Survey()
    for number in range(PROBE_RUNS):
        if isinstance(chooser.begin(number, None), Covered):
            break
        _walk(build(), chooser, survey, classified=False)
    return survey.profile()


def _walk(world: World, chooser: Strategy, survey: Survey | None, *, classified: bool) -> Path:
    """One run up to its last step."""
    path = Path(world, touching=classified or survey is not None)
    choose = chooser.choose
    while not path.violations and (options := world.options()):
        choice = choose(options)
        if survey is not None:
            survey.look(options, choice)
        path.step(options, choice)
    if survey is not None:
        survey.close(path.taken)
    return path
