"""Does the guest kernel's data hold together: cheaply after every step, whole at the end?

Rules:
- What has to hold the kernel itself says (`guest_agent.kernel.invariants`).
- At the end every vCPU idles, and all is counted from the holders' side: a leaked reference, a
  swap slot that nobody names, a page that is nowhere. A scenario whose programs keep something
  gives it back in its `closing`.
"""

from __future__ import annotations

from collections.abc import Iterator

from guest_agent.kernel import invariants
from race_explorer.oracles.oracle import Oracle, Scene, run_at_rest


class _KernelInvariants:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def look(self) -> list[str]:
        """What does not hold between two steps."""
        return invariants.at_every_step(self._scene.world.kernel)

    def end(self) -> Iterator[str]:
        """What does not hold of a kernel at rest."""
        world, found = self._scene.world, list[str]()

        async def check() -> None:
            found.extend(await invariants.check(world.kernel, world.kernel.cpus[0]))

        if run_at_rest(world, check()):
            yield from found


KERNEL = Oracle(
    "kernel",
    "the guest kernel's counts, lists, page trees and ptes agree: what holds between two steps "
    "after every one, and everything when all vCPUs idle at the end",
    _KernelInvariants,
)
