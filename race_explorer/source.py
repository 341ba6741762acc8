"""Who else offers steps in a world: a network, or what may fail.

Rules:
- A world comes to its end when nothing is due; what is possible need not happen.
"""

from __future__ import annotations

from typing import Protocol

from race_explorer.engine import Option


class Source(Protocol):
    """Somebody else whose steps are options: a network, or what may fail."""

    def due(self) -> list[Option]:
        """Steps that must be taken before a run is over."""
        ...

    def possible(self) -> list[Option]:
        """Steps that may be taken while others are."""
        ...

    def left_over(self) -> list[str]:
        """What is wrong with its part of a run that has ended."""
        ...
