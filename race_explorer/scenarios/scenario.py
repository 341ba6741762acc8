"""What a scenario is, and how it is shown: found without its guard, absent with it, reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from guest_agent.kernel.guards import Guards
from race_explorer.world import SimWorld


@dataclass(frozen=True, slots=True)
class Scenario:
    """One race.

    races: rows of the race catalogue. guards: fields of Guards whose removal must let the
    race through. sometimes: situations that must be reached, or a pass says nothing.
    """

    name: str
    races: tuple[str, ...]
    guards: tuple[str, ...]
    sometimes: tuple[str, ...]
    build: Callable[[Guards], SimWorld]
