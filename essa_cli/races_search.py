"""One campaign over a case, cut into ranges of run numbers that processes make.

Rules:
- The verdict is the same for every number of processes: ranges are merged in order.
- What cannot be cut (exhaustive search, delay bounding) is made in one process.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

from race_explorer import exhaustive
from race_explorer.campaign import measure, search
from race_explorer.case import Case
from race_explorer.recycling import recycled
from race_explorer.report import OnProgress, Report, merge
from race_explorer.strategies import make_strategy
from race_explorer.strategies.profile import Profile

RANGE_MIN: Final = 100
"""A range shorter than this costs more to start than to make."""


def searched(
    case: Case,
    strategy: str,
    schedules: int,
    seed: int,
    jobs: int,
    on_progress: OnProgress | None = None,
) -> Report:
    """Search the case. on_progress: called where one process makes all. Raises ValueError."""
    whole = strategy == exhaustive.NAME or make_strategy(strategy, seed).in_order
    if whole or jobs == 1 or schedules < 2 * RANGE_MIN:
        return search(recycled(case.build), strategy, schedules, seed, on_progress=on_progress)
    profile = measure(recycled(case.build), strategy, seed)
    size = max(RANGE_MIN, -(-schedules // jobs))
    firsts = range(0, schedules, size)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        parts = [
            pool.submit(_part, case, strategy, min(size, schedules - first), seed, first, profile)
            for first in firsts
        ]
        return merge([part.result() for part in parts])


def _part(
    case: Case, strategy: str, schedules: int, seed: int, first: int, profile: Profile
) -> Report:
    given = profile if first else None
    return search(recycled(case.build), strategy, schedules, seed, first=first, profile=given)
