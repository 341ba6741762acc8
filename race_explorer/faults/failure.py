"""One thing that could fail now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from guest_agent.kernel.ports import Accesses


@dataclass(frozen=True, slots=True)
class Failure:
    """of: what it befalls, if there is more than one such thing. label: for people.

    touched: what it touches, the budget aside.
    """

    of: str
    label: str
    touched: Accesses
    happen: Callable[[], None]
