"""How the three groups of guards describe themselves: one field, one protection, in one place.

Rules:
- A guard is a boolean field made by `protection`; documents and commands read what it says
  from the field, so that nothing is written down twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

_KEY = "protection"


@dataclass(frozen=True, slots=True)
class Protection:
    """One guard. races: rows of the catalogue. path: the function that it stands in."""

    name: str
    races: tuple[str, ...]
    path: str
    source: str
    does: str


def protection(races: str, path: str, source: str, does: str) -> Any:
    """A dataclass field for a guard that is on by default. races: separated by blanks."""
    return field(default=True, metadata={_KEY: (tuple(races.split()), path, source, does)})


def protections(group: type) -> list[Protection]:
    """All guards of a group, in the order of its fields."""
    return [Protection(entry.name, *entry.metadata[_KEY]) for entry in fields(group)]
