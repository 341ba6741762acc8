"""One campaign over a case, cut into what processes can make: ranges of run numbers, or subtrees.

Rules:
- The report is the same for every number of processes, one included: the cut does not depend on
  it, and the parts are put together in their order.
- What cannot be cut (delay bounding) is made in one process.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Final

from race_explorer import exhaustive
from race_explorer.campaign import measure, search
from race_explorer.case import Case
from race_explorer.recycling import recycled
from race_explorer.report import Report, merge
from race_explorer.strategies import make_strategy
from race_explorer.strategies.profile import Profile
from race_explorer.subtrees import Subtree, joined, search_subtree, subtrees

RANGE_MIN: Final = 100
"""A range shorter than this costs more to start than to make."""


def searched(
    case: Case,
    strategy: str,
    schedules: int,
    seed: int,
    jobs: int,
) -> Report:
    """Search the case. Raises ValueError for a strategy that does not exist."""
    if strategy == exhaustive.NAME:
        return _exhaustive(case, schedules, seed, jobs)
    if make_strategy(strategy, seed).in_order or jobs == 1 or schedules < 2 * RANGE_MIN:
        return search(recycled(case.build), strategy, schedules, seed)
    profile = measure(recycled(case.build), strategy, seed)
    size = max(RANGE_MIN, -(-schedules // jobs))
    firsts = range(0, schedules, size)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        parts = [
            pool.submit(_part, case, strategy, min(size, schedules - first), seed, first, profile)
            for first in firsts
        ]
        return merge([part.result() for part in parts])


def _exhaustive(case: Case, schedules: int, seed: int, jobs: int) -> Report:
    build = recycled(case.build)
    cut = subtrees(build)

    def again(number: int, budget: int) -> Report:
        return search_subtree(build, cut[number], budget)

    if jobs == 1:
        parts = (search_subtree(build, subtree, schedules) for subtree in cut)
        report = joined(parts, schedules, again)
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            report = joined(pool.map(partial(_subtree, case, schedules), cut), schedules, again)
            # Those behind the end of the search that were begun are waited for.
            pool.shutdown(cancel_futures=True)
    report.seed = seed
    return report


def _subtree(case: Case, schedules: int, subtree: Subtree) -> Report:
    return search_subtree(recycled(case.build), subtree, schedules)


def _part(
    case: Case, strategy: str, schedules: int, seed: int, first: int, profile: Profile
) -> Report:
    given = profile if first else None
    return search(recycled(case.build), strategy, schedules, seed, first=first, profile=given)
