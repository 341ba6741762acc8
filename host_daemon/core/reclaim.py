"""Taking frames away from guests, in stages, each one input.

Rules:
- choose victim -> remove access -> read the change bit -> commit. Between any two the guest
  may do anything; each stage acts on what it finds.
- Access removed means that the host sees the next store: it cancels the reclaim. Before
  that it sees none, which is why the change bit is read afterwards.
- Orcs 1 to 6 cancel at any time: the guest has just said something new about the page.
  Loads and GET_STATE do not.
- Commit drops what the guest gave leave to drop and begins a page-out of the rest. A
  potential volatile page that was changed becomes stable when its page-out begins.

Models: KVM's and z/VM's handling of a victim; the order remove-then-read is implied by the
seed's rules for P.
"""

from __future__ import annotations

from host_daemon.core import kinds, release, transit
from host_daemon.core.effects import Noticed, Stage, StageKind
from host_daemon.core.guest import Guest, Reclaim
from host_daemon.core.machine import Machine
from host_daemon.core.tables import FLAGS, IN_RECLAIM, RESIDENT, FrameKind, is_dropped
from shared.arch import (
    CONTENT_MASK,
    KEY_CHANGED,
    KEY_REFERENCED,
    STATE_MASK,
    USAGE_MASK,
    Event,
    Usage,
)
from shared.events import EventKind


def may_page_out(machine: Machine) -> bool:
    """Whether a slot could be had, if need be by draining release lists."""
    return machine.slots.free_count > 0 or any(
        entries for guest in machine.guests.values() for entries in guest.releases
    )


def has_victim(machine: Machine) -> bool:
    """Whether `choose_victim` has anything to choose."""
    if not machine.frames.candidate_count:
        return False
    if may_page_out(machine):
        return True
    return machine.frames.has_droppable()


def choose_victim(machine: Machine) -> tuple[Guest, int]:
    """The page that the policy names; there is one to name."""
    frames = machine.frames
    frame = machine.policy.choose(frames, may_page_out=may_page_out(machine))
    assert frames.kinds[frame] > FrameKind.BUSY, f"the policy chose frame {frame}"
    return machine.guests[frames.guest[frame]], frames.pfn[frame]


def begin(machine: Machine, guest: Guest, pfn: int) -> None:
    """Make a resident page, with nothing special about it, a victim."""
    assert guest.states[pfn] & (FLAGS | CONTENT_MASK) == RESIDENT
    machine.frames.seize(guest.location[pfn])
    guest.states[pfn] |= IN_RECLAIM
    stage = _next_stage(machine, guest, pfn, access_removed=False, changed=None)
    guest.moves[pfn] = Reclaim(stage)
    machine.pending[stage] = None


def _next_stage(
    machine: Machine, guest: Guest, pfn: int, *, access_removed: bool, changed: bool | None
) -> Stage:
    # RACE(R45): the change bit read while the guest can still store says nothing about
    # that store; with the guard the bit is read once no store can go unseen.
    order = [
        (access_removed, StageKind.REMOVE_ACCESS),
        (changed is not None, StageKind.READ_CHANGE_BIT),
    ]
    if not machine.config.guards.remove_access_before_read:
        order.reverse()
    kind = next((kind for done, kind in order if not done), StageKind.COMMIT)
    return Stage(kind, guest.number, pfn)


def _advance(machine: Machine, guest: Guest, pfn: int, reclaim: Reclaim) -> None:
    del machine.pending[reclaim.stage]
    reclaim.stage = _next_stage(
        machine, guest, pfn, access_removed=reclaim.access_removed, changed=reclaim.changed
    )
    machine.pending[reclaim.stage] = None


def _reclaim_of(guest: Guest, pfn: int) -> Reclaim:
    reclaim = guest.moves[pfn]
    assert isinstance(reclaim, Reclaim)
    return reclaim


def remove_access(machine: Machine, guest: Guest, pfn: int) -> None:
    """From here on the host sees every store to the page."""
    reclaim = _reclaim_of(guest, pfn)
    reclaim.access_removed = True
    _advance(machine, guest, pfn, reclaim)


def read_change_bit(machine: Machine, guest: Guest, pfn: int) -> None:
    """Note C; commit goes by what is read here."""
    reclaim = _reclaim_of(guest, pfn)
    reclaim.changed = bool(guest.keys[pfn] & KEY_CHANGED)
    _advance(machine, guest, pfn, reclaim)


def commit(machine: Machine, guest: Guest, pfn: int) -> None:
    """Drop the page or begin its page-out. Without a slot it stays what it is."""
    reclaim = _reclaim_of(guest, pfn)
    assert reclaim.access_removed
    assert reclaim.changed is not None
    before = guest.states[pfn] & STATE_MASK
    after = guest.tables.table.rows[reclaim.changed][Event.EVICT][before]
    if is_dropped(after):
        _detach(machine, guest, pfn)
        _discard(machine, guest, pfn, after)
        return
    slot = machine.slots.take()
    if not slot:
        release.drain_all(machine)
        slot = machine.slots.take()
    if not slot:
        cancel(machine, guest, pfn)
        return
    _detach(machine, guest, pfn)
    guest.states[pfn] = after & USAGE_MASK | RESIDENT
    transit.begin_page_out(machine, guest, pfn, slot)


def _detach(machine: Machine, guest: Guest, pfn: int) -> None:
    del machine.pending[_reclaim_of(guest, pfn).stage]
    del guest.moves[pfn]
    guest.states[pfn] &= ~FLAGS


def cancel(machine: Machine, guest: Guest, pfn: int) -> None:
    """The page is a victim no more; its frame counts as just used."""
    _detach(machine, guest, pfn)
    machine.frames.settle(guest.location[pfn], kinds.kind_of(guest, pfn))


def _discard(machine: Machine, guest: Guest, pfn: int, after: int) -> None:
    statistics = guest.statistics
    before = guest.states[pfn]
    usage = before & USAGE_MASK
    if usage == Usage.UNUSED:
        statistics.discarded_unused += 1
    elif usage == Usage.VOLATILE:
        statistics.discarded_volatile += 1
    else:
        statistics.discarded_potential_volatile += 1
    machine.frames.free(guest.location[pfn])
    guest.location[pfn] = 0
    guest.states[pfn] = after
    # RACE(R50): the guest takes C for data, and there is no data left.
    if machine.config.guards.discard_clears_change_bit:
        guest.keys[pfn] &= ~(KEY_CHANGED | KEY_REFERENCED)
    if machine.watched:
        kind = EventKind.PAGE_DISCARDED
        noticed = Noticed(kind, guest.number, pfn, before=before & STATE_MASK, after=after)
        machine.effects.append(noticed)


def essa_seen(machine: Machine, guest: Guest, pfn: int) -> None:
    """Orc 1 to 6 came for a resident page in reclaim or in transit: leave it alone."""
    if guest.states[pfn] & IN_RECLAIM:
        cancel(machine, guest, pfn)
    else:
        transit.cancel_page_out(machine, guest, pfn)


def store_seen(machine: Machine, guest: Guest, pfn: int) -> None:
    """A store, or an SSKE, came for a resident page in reclaim or in transit.

    While the guest still has access to a victim the host does not see it.
    """
    move = guest.moves[pfn]
    if not isinstance(move, Reclaim):
        transit.cancel_page_out(machine, guest, pfn)
    elif move.access_removed:
        cancel(machine, guest, pfn)


def wanted(machine: Machine, waiting_count: int) -> bool:
    """Whether the watermarks, or commands that wait for frames, ask for one more victim.

    Frames that reclaim is about to free count as free, so that nobody asks twice. Frames
    withheld that are still in use count as missing.
    """
    config = machine.config
    free = machine.frames.pool.balance
    short = free < config.high_watermark if machine.reclaiming else free < config.low_watermark
    if short is not machine.reclaiming:
        machine.reclaiming = short
        if machine.watched:
            kind = EventKind.RECLAIM_BEGUN if short else EventKind.RECLAIM_ENDED
            machine.effects.append(Noticed(kind))
    goal = max(config.high_watermark if machine.reclaiming else 0, waiting_count)
    return free < goal and free + leaving_count(machine) < goal


def leaving_count(machine: Machine) -> int:
    """Frames that reclaim is about to free."""
    return sum(
        1
        for stage in machine.pending
        if StageKind.SUBMIT_PAGE_OUT <= stage.kind <= StageKind.REMOVE_ACCESS
    ) + sum(1 for t in machine.operations.values() if t.live and not t.frame and t.stage is None)
