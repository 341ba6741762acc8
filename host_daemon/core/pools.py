"""Numbers that are given out and come back: frames and paging slots.

Rules:
- Numbers run from 1, so that 0 can mean "none" in arrays of zeroes that cost no memory
  until they are written.
- What was never given out is only a watermark; what came back is a growing array of
  32-bit numbers, last in, first out.
"""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

GENERATION_MASK = 0xFFFF


class IndexPool:
    """The free numbers among 1..count.

    withheld: so many free numbers are not given out; where fewer are free, those that come
    back are not given out either until there are enough.
    """

    __slots__ = ("_returned", "_untouched", "count", "withheld")

    def __init__(self, count: int) -> None:
        self.count = count
        self.withheld = 0
        self._untouched = 1  # the lowest number never given out
        self._returned = array("I")

    @property
    def free_count(self) -> int:
        """How many `take` could give now."""
        return max(0, self.balance)

    @property
    def unused_count(self) -> int:
        """How many nobody has, the withheld ones included."""
        return self.balance + self.withheld

    @property
    def balance(self) -> int:
        """`free_count`, or how many must come back before one is given out, as a negative."""
        return self.count + 1 - self._untouched + len(self._returned) - self.withheld

    @property
    def watermark(self) -> int:
        """No number above this one was ever given out."""
        return self._untouched - 1

    def take(self) -> int:
        """A free number, or 0."""
        if self.withheld and self.balance <= 0:
            return 0
        if self._returned:
            return self._returned.pop()
        if self._untouched > self.count:
            return 0
        self._untouched += 1
        return self._untouched - 1

    def give(self, number: int) -> None:
        """Take back a number that was given out."""
        self._returned.append(number)

    def give_many(self, numbers: array[int]) -> None:
        """Take back many, in order."""
        self._returned.extend(numbers)

    def snapshot(self) -> dict[str, object]:
        """Plain data for `restore`."""
        return {
            "untouched": self._untouched,
            "returned": self._returned.tobytes(),
            "withheld": self.withheld,
        }

    def restore(self, data: dict[str, object]) -> None:
        """The inverse of `snapshot`."""
        untouched, returned, withheld = data["untouched"], data["returned"], data["withheld"]
        assert isinstance(untouched, int)
        assert isinstance(withheld, int)
        assert isinstance(returned, bytes)
        self._untouched = untouched
        self.withheld = withheld
        self._returned = array("I")
        self._returned.frombytes(returned)


class SlotTable:
    """The paging device's slots: which are held, and how often each changed hands.

    A generation is 16 bits and grows when a slot is taken and when it is freed, so it is
    odd while the slot is held.
    """

    __slots__ = ("generations", "generations_view", "pool", "retired_count")

    def __init__(self, count: int) -> None:
        self.pool = IndexPool(count)
        self.generations_view = np.zeros(count + 1, dtype=np.uint16)
        self.generations = self.generations_view.data
        self.retired_count = 0

    @property
    def free_count(self) -> int:
        """Slots that could be taken now."""
        return self.pool.free_count

    @property
    def held_count(self) -> int:
        """Slots with a page's content, or one on its way."""
        return self.pool.count - self.pool.unused_count - self.retired_count

    def take(self) -> int:
        """A slot, now held, or 0."""
        slot = self.pool.take()
        if slot:
            assert not self.generations[slot] & 1, f"slot {slot} is held already"
            self.generations[slot] += 1
        return slot

    def free(self, slot: int) -> None:
        """Let go of a held slot."""
        generation = self.generations[slot]
        assert generation & 1, f"slot {slot} is free already"
        self.generations[slot] = (generation + 1) & GENERATION_MASK
        self.pool.give(slot)

    def free_many(self, slots: NDArray[np.integer]) -> None:
        """Let go of many distinct held slots, in order."""
        assert np.all(self.generations_view[slots] & 1), "a slot is free already"
        self.generations_view[slots] += np.uint16(1)  # wraps as the scalar does
        self.pool.give_many(array("I", slots.astype(np.uint32).tobytes()))

    def retire(self, slot: int) -> None:
        """Never use again a held slot whose write failed."""
        generation = self.generations[slot]
        assert generation & 1, f"slot {slot} is free already"
        self.generations[slot] = (generation + 1) & GENERATION_MASK
        self.retired_count += 1

    def snapshot(self) -> dict[str, object]:
        """Plain data for `restore`."""
        return {
            "pool": self.pool.snapshot(),
            "generations": self.generations_view[: self.pool.watermark + 1].copy(),
            "retired_count": self.retired_count,
        }

    def restore(self, data: dict[str, object]) -> None:
        """The inverse of `snapshot`, into a table of the same size."""
        pool, generations, retired = data["pool"], data["generations"], data["retired_count"]
        assert isinstance(pool, dict)
        assert isinstance(generations, np.ndarray)
        assert isinstance(retired, int)
        self.pool.restore(pool)
        self.generations_view[: len(generations)] = generations
        self.retired_count = retired
