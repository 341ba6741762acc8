"""The lost update in frontrun, as a program of its own: it imports nothing else of ours.

`frontrun python frontrun_toy.py SCHEDULES SEED` prints one JSON object: for each way to explore,
how many schedules were made and in how many processor seconds, and after how many the loss was
found.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

WORKERS = 2
INCREMENTS = 3


class Counter:
    """What the workers share."""

    def __init__(self) -> None:
        self.value = 0


def work(counter: Counter) -> None:
    """Add 1 so many times, not atomically."""
    for _ in range(INCREMENTS):
        loaded = counter.value
        counter.value = loaded + 1


def whole(counter: Counter) -> bool:
    """Whether nothing is lost."""
    return counter.value == WORKERS * INCREMENTS


def measure(frontrun: Any, schedules: int, seed: int) -> dict[str, dict[str, float]]:
    """By name of the strategy. The rate is that of a search in which nothing can go wrong."""
    ways: dict[str, dict[str, Any]] = {
        "threads, random": {"strategy": "random", "max_attempts": schedules, "seed": seed},
        "threads, dpor": {"strategy": "dpor", "max_executions": schedules},
    }
    found: dict[str, dict[str, float]] = {}

    def explore(invariant: Callable[[Counter], bool], options: dict[str, Any]) -> Any:
        return frontrun.explore(
            setup=Counter, workers=work, count=WORKERS, invariant=invariant, **options
        )

    for name, options in ways.items():
        begun = time.process_time()
        made = explore(lambda _: True, options).num_explored
        seconds = time.process_time() - begun
        failing = explore(whole, options | {"reproduce_on_failure": 0})
        found[name] = {
            "schedules": made,
            "seconds": seconds,
            "found_after": 0 if failing.property_holds else failing.num_explored,
        }
    return found


if __name__ == "__main__":
    print(json.dumps(measure(importlib.import_module("frontrun"), *map(int, sys.argv[1:]))))
