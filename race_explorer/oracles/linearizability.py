"""Is what the guest was told explained by some order of its commands, each at one moment?

Rules:
- Only answers count: what the host really did is not looked at, as a guest cannot.
- The violation names the smallest part of the history that nothing explains: it ends with the
  answer that is told first.
"""

from __future__ import annotations

from collections.abc import Iterator

from race_explorer.oracles.memory import Memory
from race_explorer.oracles.oracle import Oracle, Scene


class _Linearizability:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._memory = Memory(scene)

    def look(self) -> Iterator[str]:
        """The first answer, if any, that no order explains."""
        return self._memory.unexplained(self._scene.events)

    def end(self) -> Iterator[str]:
        """Nothing: a prefix of an explained history is explained."""
        return iter(())


LINEARIZABILITY = Oracle(
    "linearizability",
    "for every page some order of the commands, each taking effect at one moment between its "
    "submission and its answer, explains all answers",
    _Linearizability,
)
