"""Is anything left over when all is done?

When every program has ended, grace periods are waited for and the host does what work it has
left. Then no discard fault is open and no command outstanding, no page waits on the discarded
list or is marked discarded, no interrupt is pending, and no release list has an entry.

Rules:
- What has an owner is looked at elsewhere: frames and slots of the paging device by `ownership`,
  references, swap slots and pages by `kernel`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from guest_agent.kernel.page import PG_discarded
from race_explorer.naming import command_label
from race_explorer.oracles.oracle import Oracle, Scene, run_at_rest
from race_explorer.world import GUEST, SimWorld

ROUNDS_MAX: Final = 8
"""Grace periods one after the other; the longest chain is three lists of one variant."""
HOST_STEPS_MAX: Final = 10_000
_WORK: Final = ("host.", "paging.")
_EVICTION: Final = "host.evict."


class _Leftovers:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def look(self) -> Iterator[str]:
        """Nothing: whatever is open now has time."""
        return iter(())

    def end(self) -> Iterator[str]:
        """What is left over."""
        world = self._scene.world
        if not run_at_rest(world, _grace_periods(world)):
            return
        _finish_hosts_work(world)
        yield from _of_the_session(world)
        yield from _of_the_kernel(world)
        yield from _of_the_host(world)


async def _grace_periods(world: SimWorld) -> None:
    """Free what waits to be freed: by calls, or because every vCPU idles anew after one."""
    kernel = world.kernel
    cpu = kernel.cpus[0]
    for _ in range(ROUNDS_MAX):
        if not kernel.grace.pages:
            return
        await kernel.grace.reclaim(cpu)
        await kernel.smp_call_function(cpu)


def _finish_hosts_work(world: SimWorld) -> None:
    for _ in range(HOST_STEPS_MAX):
        work = (o for o in world.options() if o.name.startswith(_WORK))
        option = next((o for o in work if not o.name.startswith(_EVICTION)), None)
        if option is None:
            return
        option.run()


def _of_the_session(world: SimWorld) -> Iterator[str]:
    for issuer, command in world.guest_end.outstanding().items():
        yield f"{command_label(command)} of issuer {issuer} is outstanding at the guest's end"
    for issuer in world.host_end.outstanding():
        yield f"a command of issuer {issuer} is outstanding at the host's end"


def _of_the_kernel(world: SimWorld) -> Iterator[str]:
    for page in world.kernel.grace.pages:
        yield f"a page waits for its grace period for ever: {page.describe()}"
    for page in world.kernel.mem_map:
        if page.flags & PG_discarded and page not in world.kernel.grace.pages:
            yield f"PG_discarded is set: {page.describe()}"
    for cpu in world.kernel.cpus:
        if cpu.pending:
            yield f"{len(cpu.pending)} interrupts of vcpu {cpu.number} are pending"


def _of_the_host(world: SimWorld) -> Iterator[str]:
    statistics = world.host.guest_statistics(GUEST)
    for count, what in (
        (statistics.faults_open, "discard faults are not acknowledged"),
        (statistics.parked, "commands are parked"),
        (statistics.release_entries, "slots are on block release lists"),
    ):
        if count:
            yield f"{count} {what}"


LEFTOVERS = Oracle(
    "leftovers",
    "when all is done no command and no discard fault is open, no page waits for a grace period "
    "or is marked discarded, no interrupt is pending and no release list has an entry",
    _Leftovers,
)
