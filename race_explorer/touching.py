"""What the steps touch that are none of the kernel's: commands on the host, its own work, disks.

Rules:
- Everything is read off the state as it is, and depends on nothing that an independent step
  could change; check mode compares it with what the steps really do.
"""

from __future__ import annotations

from typing import Final

from guest_agent.kernel.content import DMA_DISK
from guest_agent.kernel.page import reads, writes
from guest_agent.kernel.ports import Accesses, DiskRequest
from host_daemon.core.effects import Stage, StageKind
from host_daemon.core.host import Host
from host_daemon.core.tables import IN_RECLAIM
from race_explorer.engine import ANY
from shared.arch import KEY_REFERENCED, USAGE_MASK
from shared.commands import Command, Essa, EssaArray, Iske, Load

_BLOCK_BITS: Final = 40
PAGING: Final[Accesses] = (writes("host", ANY), writes("frames"), writes("reply", ANY))
"""The paging device's answer may be about any page."""
RESUMING: Final[Accesses] = (*PAGING, writes("fault", ANY))
"""A parked command is looked at from scratch."""


def executing(host: Host, guest_id: int, issuer: int, command: Command) -> Accesses:
    """A command on the host: its page, as a whole; and unless that is in its frame, frames and
    slots, and the discard fault that it may end in."""
    if isinstance(command, EssaArray):
        return (writes("host", ANY), writes("frames"))
    pfn, byte = command.pfn, host.state_byte(guest_id, command.pfn)
    if type(command) is Iske or (isinstance(command, Essa) and command.orc == 0):
        return (reads("host", pfn),)
    if byte & ~(USAGE_MASK | IN_RECLAIM) == 0:
        # A load of a page that was referenced already leaves everything as it is.
        quiet = isinstance(command, Load) and host.storage_key(guest_id, pfn) & KEY_REFERENCED
        return (reads("host", pfn) if quiet else writes("host", pfn),)
    return (writes("host", pfn), writes("frames"), writes("fault", issuer))


def working(stage: Stage, faulting: int) -> Accesses:
    """A stage of the host's own work. faulting: the vCPU of a fault that is delivered."""
    kind, _, number = stage
    if kind is StageKind.DELIVER_FAULT:
        return (writes("fault", faulting), writes("irq", faulting))
    if kind in (StageKind.RESUME, StageKind.DRAIN_RELEASE_LIST):
        return RESUMING
    if kind is StageKind.COMMIT:
        return (writes("host", number), writes("frames"))
    return (writes("host", number),)


def block_of(request: DiskRequest) -> int:
    """The number of a transfer's block as a resource of kind "disk"."""
    return request.disk << _BLOCK_BITS | request.block


def starting(request: DiskRequest) -> Accesses:
    """A device begins a transfer: a block that is to be read is read then."""
    check = request.check
    return (reads("disk", block_of(request)), *(check.accesses() if check is not None else ()))


def completing(request: DiskRequest) -> Accesses:
    """A device ends a transfer: what was written to a disk is durable from then on."""
    raised, check = writes("irq", request.vcpu), request.check
    if check is None:
        return (raised,)
    durable = request.write and request.disk != DMA_DISK
    return (raised, *check.accesses(), *((writes(*check.resource),) if durable else ()))
