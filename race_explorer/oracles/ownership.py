"""Do the host's books agree? Every frame and every slot has exactly one owner.

Rules:
- What has to agree the core itself says (`Host.check`, which nobody but tests calls otherwise);
  here it is asked after every step of the host's own, and whenever a page's state, or what is going
  on with it, has changed.
"""

from __future__ import annotations

from collections.abc import Iterator

from race_explorer.oracles.oracle import Oracle, Scene, vcpu_of
from race_explorer.world import GUEST


class _Ownership:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._pfns = range(scene.world.kernel.config.page_count)
        self._states: list[int] = []

    def look(self) -> Iterator[str]:
        """What does not agree, if it could have come to that."""
        host, taken, before = self._scene.world.host, self._scene.taken, self._states
        self._states = [host.state_byte(GUEST, pfn) for pfn in self._pfns]
        by_host = taken is not None and vcpu_of(taken) is None
        return self.end() if by_host or self._states != before else iter(())

    def end(self) -> Iterator[str]:
        """What does not agree."""
        try:
            self._scene.world.host.check()
        except AssertionError as error:
            yield f"the host's books do not agree: {error}"


OWNERSHIP = Oracle(
    "ownership",
    "every frame and every slot of the paging device has exactly one owner, and the host's tables "
    "of them agree with its pages",
    _Ownership,
)
