"""What may become of connections, of the host, and with it of the guest."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from guest_agent.kernel.page import ANY, writes
from guest_agent.kernel.ports import Accesses
from host_daemon.core.effects import StageKind
from race_explorer.faults.failure import Failure
from race_explorer.faults.wire import BROKEN, SimWire
from race_explorer.world import GUEST, SimWorld

_SESSION: Final[Accesses] = (BROKEN, writes("reply", ANY), writes("fault", ANY))
_HOST: Final[Accesses] = (*_SESSION, writes("host", ANY), writes("frames"))
_EVICTING: Final = (StageKind.REMOVE_ACCESS, StageKind.READ_CHANGE_BIT, StageKind.COMMIT)
_OF_THE_GUEST: Final = (
    "irq",
    "files",
    "disk",
    "content",
    "page_tree",
    "idle",
    "guest",
    "discard_list",
    "nohz",
)
EVERYTHING: Final[Accesses] = (*_HOST, *(writes(kind, ANY) for kind in _OF_THE_GUEST))
"""Something of every step that there is: a guest ends with all that it does."""


def _session_at_work(world: SimWorld) -> bool:
    """Whether there is a message to be lost, or a fault that the host still has to keep."""
    outstanding = world.guest_end.outstanding()
    return bool(outstanding or world.host.guest_statistics(GUEST).faults_open)


def _host_at_work(world: SimWorld) -> bool:
    """The same, or the host does something by itself."""
    return bool(world.paging or world.stages() or _session_at_work(world))


def cuts(wire: SimWire) -> Iterator[Failure]:
    """Both connections break, and all is lost that is on its way."""
    if (wire.connected or wire.subscribed) and _session_at_work(wire.world):
        yield Failure("", "cut", _SESSION, wire.cut)


def checkpoints(wire: SimWire) -> Iterator[Failure]:
    """The host is told to stop, and another process goes on from what it has written down."""
    if _host_at_work(wire.world):
        yield Failure("", "stop and resume", _HOST, partial(_stop_and_resume, wire))


def _stop_and_resume(wire: SimWire) -> None:
    """As the daemon does it: connections end, the paging device does what it was told to do,
    host and sessions are written down."""
    world = wire.world
    wire.cut()
    if any(stage.kind in _EVICTING for stage in world.stages()):
        world.mark("resumed inside an eviction")
    if world.host.guest_statistics(GUEST).faults_open:
        world.mark("resumed with a fault outstanding")
    while world.paging:
        world.finish_paging(world.paging[0])
    world.restart_host()


def power_failures(wire: SimWire) -> Iterator[Failure]:
    """The host begins anew, and knows nothing; the guest finds that out when it asks."""
    if _host_at_work(wire.world):
        yield Failure("", "power failure", _HOST, partial(_fail, wire))


def _fail(wire: SimWire) -> None:
    wire.cut()
    wire.stale = True
    wire.world.new_host()
