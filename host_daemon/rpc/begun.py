"""A coroutine that runs to its first wait before anybody awaits it, without a task of its own.

What it waits for can then come to pass while its owner computes. (asyncio's eager tasks do the
same, but not in every version of Python that we run on.)
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

Result = TypeVar("Result")


class Begun(Generator[Any, None, Result]):
    """Await it once, on the same loop, or `cancel` it."""

    def __init__(self, coroutine: Coroutine[Any, None, Result]) -> None:
        self._coroutine = coroutine
        self._first: Any = None  # the future that the first wait is for, until it is awaited
        self._end: StopIteration | None = None
        try:
            self._first = coroutine.send(None)
        except StopIteration as end:
            self._end = end

    def __await__(self) -> Generator[Any, None, Result]:
        return self

    def send(self, value: None) -> Any:
        """A step: the one that was done already, or the coroutine's next."""
        if self._end is not None:
            raise self._end
        if self._first is None:
            return self._coroutine.send(value)
        first, self._first = self._first, None
        return first

    def throw(self, *error: Any) -> Any:
        """A cancellation, or what the wait ended in, is for the coroutine to see."""
        return self._coroutine.throw(*error)

    def cancel(self) -> None:
        """Nobody is going to await it any more; harmless after its end."""
        if self._first is not None:
            self._first.cancel()
        self._coroutine.close()
