"""What shrinking has left of every committed replay, and of how much."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from race_explorer.replays.text import SUFFIX, load

REPLAYS: Final = Path(__file__).parents[2] / "tests" / "replays"
AIM: Final = 5
"""Deviations; more need a word."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """One replay. Deviations are from the policy; replays: runs that shrinking took."""

    name: str
    deviations: int
    steps: int
    deviations_before: int
    steps_before: int
    replays: int

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


def sizes(folder: Path = REPLAYS) -> list[Shrunk]:
    """Of all replays in a folder, by name. Raises ValueError for one that cannot be read."""
    found = list[Shrunk]()
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        replay = load(path)
        before = replay.found_by
        found.append(
            Shrunk(
                name=path.name.removesuffix(SUFFIX),
                deviations=len(replay.schedule),
                steps=replay.expect.steps,
                deviations_before=before.deviations,
                steps_before=before.steps,
                replays=before.replays,
            )
        )
    return found
