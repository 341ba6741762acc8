"""Many ESSAs as one command: numpy where the elements cannot meet, one by one elsewhere.

Rules:
- The result is that of the elements as single ESSAs in order, release lists included.
- Strictly increasing pfns mean that no element sees another's effect on its page. Pages
  with flags are then taken one by one and what lies between them as a whole.
- An element's exception stands in its result byte and stops nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from host_daemon.core import essa, release
from host_daemon.core.guest import Guest
from host_daemon.core.machine import Machine
from host_daemon.core.tables import (
    DEPENDS,
    KIND_SHIFT,
    ORC_COUNT,
    RECLASSED,
    RELEASES,
)
from shared.arch import (
    ELEMENT_INTERRUPTION,
    KEY_CHANGED,
    ORC_MAX,
    STATE_MASK,
    InterruptionCode,
)
from shared.commands import EssaArray, EssaArrayOutcome, EssaOutcome

SHORT = 16
"""Arrays up to this length are faster one by one."""
SPECIAL_MAX = 64
"""With more pages with flags than this, all elements are taken one by one."""

_Orcs = NDArray[np.uint8]
_Pfns = NDArray[np.uint32]
_Indices = NDArray[np.intp]


def execute(machine: Machine, guest: Guest, issuer: int, command: EssaArray) -> EssaArrayOutcome:
    """Execute all elements; an array is never parked."""
    orcs, pfns = command.orcs, command.pfns
    general = essa.interruption(guest, 0, 0, problem_state=command.problem_state)
    if general:
        return EssaArrayOutcome(bytes([ELEMENT_INTERRUPTION | general]) * len(orcs))
    if len(orcs) <= SHORT or not bool((pfns[1:] > pfns[:-1]).all()):
        return EssaArrayOutcome(_one_by_one(machine, guest, issuer, orcs, pfns))
    inside = len(pfns)
    if pfns[-1] >= guest.page_count:
        inside = int(np.searchsorted(pfns, guest.page_count))
    result = _increasing(machine, guest, issuer, orcs[:inside], pfns[:inside])
    if inside < len(pfns):
        result += _one_by_one(machine, guest, issuer, orcs[inside:], pfns[inside:])
    return EssaArrayOutcome(result)


def _one_by_one(machine: Machine, guest: Guest, issuer: int, orcs: _Orcs, pfns: _Pfns) -> bytes:
    result = bytearray(len(orcs))
    for index, (orc, pfn) in enumerate(zip(orcs.tolist(), pfns.tolist(), strict=True)):
        code = essa.interruption(guest, orc, pfn, problem_state=False)
        if code:
            result[index] = ELEMENT_INTERRUPTION | code
            continue
        outcome = essa.perform(machine, guest, issuer, orc, pfn)
        assert isinstance(outcome, EssaOutcome), "an array holds no orc that could wait"
        result[index] = outcome.state
    return bytes(result)


def _increasing(machine: Machine, guest: Guest, issuer: int, orcs: _Orcs, pfns: _Pfns) -> bytes:
    if not machine.config.guards.slot_generation:
        # A drain in mid-array could then touch the page of a later element.
        return _one_by_one(machine, guest, issuer, orcs, pfns)
    indices = pfns.astype(np.intp)  # numpy would do it again for each gather
    before = guest.states_view.take(indices)
    special = np.flatnonzero(before > STATE_MASK)
    if not len(special):
        return _plain(machine, guest, issuer, orcs, indices, before)
    if len(special) > SPECIAL_MAX:
        return _one_by_one(machine, guest, issuer, orcs, pfns)
    parts = []
    start = 0
    for index in [*special.tolist(), len(pfns)]:
        part, one = slice(start, index), slice(index, index + 1)
        if index > start:
            parts.append(_plain(machine, guest, issuer, orcs[part], indices[part], before[part]))
        parts.append(_one_by_one(machine, guest, issuer, orcs[one], pfns[one]))
        start = index + 1
    return b"".join(parts)


def _plain(
    machine: Machine,
    guest: Guest,
    issuer: int,
    orcs: _Orcs,
    pfns: _Indices,
    before: NDArray[np.uint8],
) -> bytes:
    """Pages without flags, strictly increasing."""
    packed = guest.tables.packed_view.take(orcs << np.uint8(4) | before)
    flagged = np.flatnonzero(packed > STATE_MASK)  # one search; the rest is on fewer elements
    if len(flagged):
        flags = packed.take(flagged)
        depends = flagged.take(np.flatnonzero(flags & DEPENDS))
        if len(depends) and _resolve(guest, orcs, pfns, before, packed, depends):
            flags = packed.take(flagged)
        guest.states_view[pfns] = packed & STATE_MASK
        _reclassify(machine, guest, pfns, packed, flagged.take(np.flatnonzero(flags & RECLASSED)))
        released = flagged.take(np.flatnonzero(flags & RELEASES))
        if len(released):
            release.add_many(machine, guest, issuer, pfns.take(released).astype(np.uint32))
    else:
        guest.states_view[pfns] = packed
    return _count(guest, orcs, before)


def _resolve(
    guest: Guest,
    orcs: _Orcs,
    pfns: _Indices,
    before: NDArray[np.uint8],
    packed: NDArray[np.uint8],
    depends: _Indices,
) -> bool:
    """Replace the entries of changed pages, where that matters; whether there were any."""
    changed = depends.take(np.flatnonzero(guest.keys_view.take(pfns.take(depends)) & KEY_CHANGED))
    index = orcs.take(changed) << np.uint8(4) | before.take(changed)
    packed[changed] = guest.tables.packed_changed_view.take(index)
    return bool(len(changed))


def _reclassify(
    machine: Machine, guest: Guest, pfns: _Indices, packed: NDArray[np.uint8], elements: _Indices
) -> None:
    """Tell reclaim of the new states of resident pages."""
    if not len(elements):
        return
    resident = pfns.take(elements)
    changed = guest.keys_view.take(resident) & KEY_CHANGED
    index = packed.take(elements) & STATE_MASK | changed << np.uint8(KIND_SHIFT)
    frames = guest.location_view.take(resident)
    machine.frames.kinds_view[frames] = guest.tables.kinds_view.take(index)


def _count(guest: Guest, orcs: _Orcs, before: NDArray[np.uint8]) -> bytes:
    """Count the elements by orc; their result bytes."""
    counts = np.bincount(orcs, minlength=ORC_MAX + 1).tolist()
    if any(counts[ORC_COUNT:]):
        before = before.copy()
        before[orcs >= ORC_COUNT] = ELEMENT_INTERRUPTION | InterruptionCode.SPECIFICATION
    essas = guest.statistics.essa
    for orc in range(ORC_COUNT):
        essas[orc] += counts[orc]
    return before.tobytes()
