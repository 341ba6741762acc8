"""Neighbouring numbers as runs, for I/O that moves several blocks in one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def runs(numbers: Iterable[int], limit: int) -> Iterator[tuple[int, int]]:
    """Group ascending, different numbers into neighbours: (first, count), count <= limit."""
    first = count = 0
    for number in numbers:
        if count and (number != first + count or count == limit):
            yield first, count
            count = 0
        if not count:
            first = number
        count += 1
    if count:
        yield first, count
