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
    FLAGS,
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
    before = guest.states_view[pfns]
    special = np.flatnonzero(before & FLAGS)
    if not len(special):
        return _plain(machine, guest, issuer, orcs, pfns, before)
    if len(special) > SPECIAL_MAX:
        return _one_by_one(machine, guest, issuer, orcs, pfns)
    parts = []
    start = 0
    for index in [*special.tolist(), len(pfns)]:
        if index > start:
            part = slice(start, index)
            parts.append(_plain(machine, guest, issuer, orcs[part], pfns[part], before[part]))
        one = slice(index, index + 1)
        parts.append(_one_by_one(machine, guest, issuer, orcs[one], pfns[one]))
        start = index + 1
    return b"".join(parts)


def _plain(
    machine: Machine,
    guest: Guest,
    issuer: int,
    orcs: _Orcs,
    pfns: _Pfns,
    before: NDArray[np.uint8],
) -> bytes:
    """Pages without flags, strictly increasing."""
    tables = guest.tables
    packed = tables.packed_view[orcs << np.uint8(4) | before]
    depends = np.flatnonzero(packed & DEPENDS)
    if len(depends):
        changed = depends[(guest.keys_view[pfns[depends]] & KEY_CHANGED) != 0]
        index = orcs[changed] << np.uint8(4) | before[changed]
        packed[changed] = np.frombuffer(tables.packed[1], dtype=np.uint8)[index]
    after = packed & STATE_MASK
    guest.states_view[pfns] = after
    _reclassify(machine, guest, pfns, packed)
    released = pfns[(packed & RELEASES) != 0]
    if len(released):
        release.add_many(machine, guest, issuer, released)
    counts = np.bincount(orcs, minlength=ORC_MAX + 1).tolist()
    if any(counts[ORC_COUNT:]):
        before = before.copy()
        before[orcs >= ORC_COUNT] = ELEMENT_INTERRUPTION | InterruptionCode.SPECIFICATION
    essas = guest.statistics.essa
    for orc in range(ORC_COUNT):
        essas[orc] += counts[orc]
    return before.tobytes()


def _reclassify(machine: Machine, guest: Guest, pfns: _Pfns, packed: NDArray[np.uint8]) -> None:
    reclassed = np.flatnonzero(packed & RECLASSED)
    if not len(reclassed):
        return
    resident = pfns[reclassed]
    changed = guest.keys_view[resident] & KEY_CHANGED
    index = packed[reclassed] & STATE_MASK | changed << np.uint8(KIND_SHIFT)
    machine.frames.kinds_view[guest.location_view[resident]] = guest.tables.kinds_view[index]
