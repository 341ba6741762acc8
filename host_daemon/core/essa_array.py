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

from host_daemon.core import essa, kinds, release
from host_daemon.core.guest import Guest
from host_daemon.core.machine import Machine
from host_daemon.core.tables import CHANGED_ENTRIES, MAKE_RESIDENT, ORC_COUNT, RELEASES
from shared.arch import (
    ELEMENT_INTERRUPTION,
    KEY_CHANGED,
    STATE_MASK,
    InterruptionCode,
    Orc,
)
from shared.commands import EssaArray, EssaArrayOutcome, EssaOutcome

SHORT = 16
"""Arrays up to this length are faster one by one."""
SPECIAL_MAX = 64
"""With more pages with flags than this, all elements are taken one by one."""

_COUNTED = tuple((int(orc), np.uint8(orc)) for orc in Orc if orc != MAKE_RESIDENT)
_TO_BOTH = np.uint8(CHANGED_ENTRIES // KEY_CHANGED)

_Orcs = NDArray[np.uint8]
_Pfns = NDArray[np.uint32]
_Indices = NDArray[np.intp]


def execute(machine: Machine, guest: Guest, issuer: int, command: EssaArray) -> EssaArrayOutcome:
    """Execute all elements; an array is never parked."""
    orcs, pfns = command.orcs, command.pfns
    general = essa.interruption(guest, 0, 0, problem_state=command.problem_state)
    if general:
        return EssaArrayOutcome(bytes([ELEMENT_INTERRUPTION | general]) * len(orcs))
    if len(orcs) <= SHORT or not _increases(pfns):
        return EssaArrayOutcome(_one_by_one(machine, guest, issuer, orcs, pfns))
    inside = len(pfns)
    if pfns[-1] >= guest.page_count:
        inside = int(np.searchsorted(pfns, guest.page_count))
    result = _increasing(machine, guest, issuer, orcs[:inside], pfns[:inside])
    if inside < len(pfns):
        result += _one_by_one(machine, guest, issuer, orcs[inside:], pfns[inside:])
    return EssaArrayOutcome(result)


def _increases(pfns: _Pfns) -> bool:
    return 0 not in (pfns[1:] > pfns[:-1]).tobytes()  # a search for a byte beats `all`


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
    before = guest.states_view.take(indices, mode="clip")  # they are inside; it checks less
    if np.maximum.reduce(before, initial=0) <= STATE_MASK:  # initial: none may be inside
        return _plain(machine, guest, issuer, orcs, indices, before)
    special = np.flatnonzero(before > STATE_MASK)
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
    index = orcs * np.uint8(16)  # numpy multiplies bytes five times as fast as it shifts them
    index |= before
    # bytes.translate looks bytes up twice as fast as a gather does.
    packed = np.frombuffer(bytearray(index).translate(guest.tables.packed[0]), np.uint8)
    flagged = (packed > STATE_MASK).nonzero()[0]  # one search; the rest is on fewer elements
    if len(flagged):
        _follow(machine, guest, issuer, pfns, packed, flagged, index.take(flagged))
    else:
        guest.states_view[pfns] = packed
    kinds.put_by(machine, guest, pfns)
    return _count(guest, orcs, before)


def _follow(
    machine: Machine,
    guest: Guest,
    issuer: int,
    pfns: _Indices,
    packed: NDArray[np.uint8],
    flagged: _Indices,
    index: NDArray[np.uint8],
) -> None:
    """Settle the flagged transitions that depend, write all states, do what hangs on them.

    index: of the flagged ones in the packed table.
    """
    pages = pfns.take(flagged)
    both = guest.keys_view.take(pages)
    both &= np.uint8(KEY_CHANGED)
    both *= _TO_BOTH
    both |= index
    after = guest.tables.both_view.take(both)
    packed[flagged] = after & np.uint8(STATE_MASK)
    guest.states_view[pfns] = packed
    pages = pages[after >= RELEASES]
    if len(pages):
        release.add_many(machine, guest, issuer, pages)


def _count(guest: Guest, orcs: _Orcs, before: NDArray[np.uint8]) -> bytes:
    """Count the elements by orc; their result bytes."""
    essas = guest.statistics.essa
    found = 0
    for orc, byte in _COUNTED:  # faster than one bincount, which has to widen the bytes
        count = int(np.count_nonzero(orcs == byte))
        essas[orc] += count
        found += count
    if found < len(orcs):
        before = before.copy()
        before[orcs >= ORC_COUNT] = ELEMENT_INTERRUPTION | InterruptionCode.SPECIFICATION
    return before.tobytes()
