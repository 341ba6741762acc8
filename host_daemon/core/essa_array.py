"""Many ESSAs as one command: a compiled pass over what is plain, one by one what is not.

Rules:
- The result is that of the elements as single ESSAs in order, release lists included.
- The pass ends before an element that needs more than the table; that one is executed alone,
  and the pass goes on behind it.
- An element's exception stands in its result byte and stops nothing.
- Without a C compiler at installation there is no pass, and all are executed one by one.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

import numpy as np

from host_daemon.core import essa, release
from host_daemon.core.compiled import ESSA_PASS
from host_daemon.core.guest import RELEASE_ENTRY_SIZE, Guest
from host_daemon.core.machine import Machine
from host_daemon.core.tables import ORC_COUNT
from shared.arch import ELEMENT_INTERRUPTION
from shared.commands import EssaArray, EssaArrayOutcome, EssaOutcome

SHORT: Final = 16
"""Arrays up to this length are faster one by one."""
_NO_COUNTS: Final = array("Q", [0] * ORC_COUNT)


def execute(machine: Machine, guest: Guest, issuer: int, command: EssaArray) -> EssaArrayOutcome:
    """Execute all elements; an array is never parked."""
    length = len(command.orcs)
    general = essa.interruption(guest, 0, 0, problem_state=command.problem_state)
    if general:
        return EssaArrayOutcome(bytes([ELEMENT_INTERRUPTION | general]) * length)
    result = bytearray(length)
    if ESSA_PASS is not None and length > SHORT:
        _in_passes(ESSA_PASS.run, machine, guest, issuer, command, result)
    else:
        for index in range(length):
            result[index] = _one(machine, guest, issuer, command, index)
    return EssaArrayOutcome(bytes(result))


def _one(machine: Machine, guest: Guest, issuer: int, command: EssaArray, index: int) -> int:
    """Execute one element; its result byte."""
    orc, pfn = int(command.orcs[index]), int(command.pfns[index])
    code = essa.interruption(guest, orc, pfn, problem_state=False)
    if code:
        return ELEMENT_INTERRUPTION | code
    outcome = essa.perform(machine, guest, issuer, orc, pfn)
    assert isinstance(outcome, EssaOutcome), "an array holds no orc that could wait"
    return outcome.state


def _in_passes(
    run: Callable[..., tuple[int, int]],
    machine: Machine,
    guest: Guest,
    issuer: int,
    command: EssaArray,
    result: bytearray,
) -> None:
    orcs = np.ascontiguousarray(command.orcs, np.uint8)
    pfns = np.ascontiguousarray(command.pfns, np.uint32)
    tables, slots = guest.tables, machine.slots
    counts = _NO_COUNTS[:]
    index, length = 0, len(orcs)
    while index < length:
        entries = release.room(machine, guest, issuer)
        index, used = run(
            index, tables.copy_outlives_state, orcs, pfns, result, counts,
            guest.states_view, guest.keys_view, guest.location_view, machine.frames.kinds_view,
            slots.generations_view, entries, tables.both,
        )  # fmt: skip
        if used:
            release.add_entries(machine, guest, issuer, entries[: used * RELEASE_ENTRY_SIZE])
        if index < length:
            result[index] = _one(machine, guest, issuer, command, index)
            index += 1
    guest.statistics.essa[:ORC_COUNT] = map(sum, zip(guest.statistics.essa, counts))  # noqa: B905
