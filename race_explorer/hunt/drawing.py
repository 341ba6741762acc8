"""Compositions drawn at random: which actors, how long, how the race begins.

Rules:
- Every decision is one draw below a bound, in a fixed order: a source of numbers and nothing
  else decides.
- What is likely is what the patches are about: mapped accesses, dirty bits and unmapping before
  fork, DMA and truncate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from guest_agent.kernel.grace import Grace
from race_explorer.hunt.composition import PRIVATE, SPACES, Composition, Operation, Program

Draw = Callable[[int], int]
"""A number from 0 to below the bound."""

_MAPPED: Final = (
    *("load",) * 4,
    *("store",) * 5,
    *("msync",) * 4,
    *("munmap",) * 3,
    *("readonly", "writable") * 2,
    "fork",
    "dma_out",
    "dma_in",
    "mlock",
)
_UNMAPPED: Final = (
    *("read",) * 3,
    *("write",) * 3,
    *("fsync",) * 4,
    *("reclaim",) * 4,
    "grace",
    "truncate",
)
_START: Final = ("load", "load", "store", "msync")
PROGRAMS_MIN: Final = 2
PROGRAMS_MOST: Final = 4
LENGTH_MOST: Final = 3
EVICTIONS_MOST: Final = 3


def draw(below: Draw) -> Composition:
    """One composition; 2 to 4 programs of 1 to 3 operations."""
    count = PROGRAMS_MIN + below(PROGRAMS_MOST - PROGRAMS_MIN + 1)
    return Composition(
        programs=tuple(_program(below) for _ in range(count)),
        start=tuple(_start(below) for _ in range(below(4))),
        evictions=1 + below(EVICTIONS_MOST),
        minor_faults=below(2) == 1,
        grace=list(Grace)[below(len(Grace))],
    )


def _program(below: Draw) -> Program:
    # One address space a program, as a process has; others may be in the same one.
    space = _space(below)
    mapped = below(3) < 2
    names = _MAPPED if mapped else _UNMAPPED
    length = 1 + below(LENGTH_MOST)
    return tuple(
        Operation(names[below(len(names))], space if mapped else None) for _ in range(length)
    )


def _start(below: Draw) -> Operation:
    return Operation(_START[below(len(_START))], _space(below))


def _space(below: Draw) -> int:
    return PRIVATE if below(8) == 0 else below(SPACES - 1)
