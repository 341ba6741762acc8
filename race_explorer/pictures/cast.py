"""Who stands in which lane: the actors of a run, put together where they are one to a reader.

Rules:
- Every vCPU, disk transfer, timer and device has a lane; the host's stages share one, and so do
  its paging operations, the faults that it delivers, and copies that the network delivers.
- vCPUs come first, the host and its paging device last, next to the pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_LAST: Final = ("network", "stream", "host", "paging")
_NUMBERED: Final = re.compile(r"(\D*)(\d*)")


def lane(actor: str) -> str:
    """The lane of an actor, such as "host" for "host.commit.7"."""
    side, _, rest = actor.partition(".")
    if side == "host" and rest.startswith("deliver_fault."):
        return "stream"
    return side


def cast(actors: Iterable[str]) -> tuple[str, ...]:
    """The lanes of these actors, from left to right."""
    return tuple(sorted({lane(actor) for actor in actors}, key=_place))


def _place(name: str) -> tuple[int, str, int]:
    if name in _LAST:
        return 2 + _LAST.index(name), name, 0
    found = _NUMBERED.match(name)
    assert found is not None
    word, number = found[1], int(found[2] or 0)
    return int(word != "cpu"), word, number
