"""The policy `stay-current/first` of replay files, over options."""

from __future__ import annotations

from collections.abc import Sequence

from race_explorer.engine import Option
from race_explorer.replays.anchors import Progress, activity


class Staying:
    """Where the policy stands in a run."""

    __slots__ = ("_progress",)

    def __init__(self) -> None:
        self._progress = Progress()

    def policy(self, options: Sequence[Option]) -> int:
        """The index of what the policy takes."""
        return self._progress.policy([(option.name, option.label) for option in options])

    def take(self, option: Option) -> None:
        """The step is taken, whatever the policy would have taken."""
        self._progress.last = activity(option.name)
