"""Which schedules are the same: the class of a run, in which only orders that matter count.

Rules:
- Two runs are of one class if one becomes the other by swapping neighbours that are independent
  (a Mazurkiewicz trace). What is independent is said by the declared accesses.
- A class is named by a number made of its Foata normal form: all steps that need no other come
  first, then those that need only them, and so on. Two classes share a number with
  probability 2^-64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from race_explorer.engine import ANY, Touch

_BYTES = 8


def trace_class(steps: Sequence[tuple[str, str]], taken: Sequence[tuple[Touch, ...]]) -> int:
    """The class of a run. steps: (actor, label); taken: what they touched, in the same order.

    Labels have no say: who takes which turn decides what is done, in a world without chance.
    """
    levels = _Levels()
    found = [
        (levels.place(actor, accesses), actor)
        for (actor, _), accesses in zip(steps, taken, strict=True)
    ]
    found.sort()
    form = "\x00".join(f"{level} {actor}" for level, actor in found)
    return int.from_bytes(hashlib.blake2b(form.encode(), digest_size=_BYTES).digest(), "big")


class _Levels:
    """The longest chains of steps that had to come one after the other.

    reads, writes: (kind, number) -> the longest chain that ends in such a step. Under the kind
    alone: of any number.
    """

    def __init__(self) -> None:
        self._actors: dict[str, int] = {}
        self._reads: dict[object, int] = {}
        self._writes: dict[object, int] = {}

    def place(self, actor: str, accesses: Sequence[Touch]) -> int:
        """The length of the chain that ends in this step, which is the next of the run."""
        reads, writes = self._reads, self._writes
        level = self._actors.get(actor, 0)
        for access in accesses:
            resource = access.resource
            kind, number = resource
            keys = (kind,) if number == ANY else (resource, (kind, ANY))
            for key in keys:
                level = max(level, writes.get(key, 0))
                if access.write:
                    level = max(level, reads.get(key, 0))
        level += 1
        self._actors[actor] = level
        for access in accesses:
            resource = access.resource
            ends = writes if access.write else reads
            for key in (resource, resource[0]):
                if ends.get(key, 0) < level:
                    ends[key] = level
        return level
