"""Random numbers that are nothing but their seed.

Rules:
- The only module of the explorer that knows `random`. It asks a seeded generator for `random()`
  alone, whose numbers are the same on every version of Python.
- Every run of a campaign has numbers of its own: the seed and the run's number say which.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

RUNS_MAX: Final = 1 << 64
"""Run numbers are below this; each of them has its own numbers under each seed."""


class Draws:
    """The numbers of one run. unit: the next one, at least 0 and less than 1."""

    __slots__ = ("unit",)

    def __init__(self, seed: int, run: int = 0) -> None:
        """Raises ValueError for a seed below 0, or a run below 0 or from RUNS_MAX."""
        if seed < 0 or not 0 <= run < RUNS_MAX:
            raise ValueError(f"seed {seed}, run {run}; neither may be negative, nor a run huge")
        self.unit: Callable[[], float] = Random(seed * RUNS_MAX + run).random

    def below(self, bound: int) -> int:
        """The next number, from 0 to below the bound."""
        return int(self.unit() * bound)
