"""Many ESSAs as one command: a compiled pass over what is plain, one by one what is not.

Rules:
- The result is that of the elements as single ESSAs in order, release lists included.
- The pass ends before an element that needs more than the table; that one is executed alone,
  and the pass goes on behind it.
- An element's exception stands in its result byte and stops nothing.
- Without a C compiler at installation there is no pass, and all are executed one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from host_daemon.core import essa, release
from host_daemon.core.compiled import ESSA_PASS
from host_daemon.core.guest import Guest
from host_daemon.core.machine import Machine
from shared.arch import ELEMENT_INTERRUPTION
from shared.commands import EssaArray, EssaArrayOutcome, EssaOutcome

SHORT: Final = 16
"""Arrays up to this length are faster one by one."""


def execute(machine: Machine, guest: Guest, issuer: int, command: EssaArray) -> EssaArrayOutcome:
    """Execute all elements; an array is never parked."""
    length = len(command.orc_bytes)
    general = essa.interruption(guest, 0, 0, problem_state=command.problem_state)
    if general:
        return EssaArrayOutcome(bytes([ELEMENT_INTERRUPTION | general]) * length)
    if ESSA_PASS is not None and length > SHORT:
        return EssaArrayOutcome(_in_passes(ESSA_PASS.run, machine, guest, issuer, command))
    states = (_one(machine, guest, issuer, command, index) for index in range(length))
    return EssaArrayOutcome(bytes(states))


def _one(machine: Machine, guest: Guest, issuer: int, command: EssaArray, index: int) -> int:
    """Execute one element; its result byte."""
    orc, pfn = command.element(index)
    code = essa.interruption(guest, orc, pfn, problem_state=False)
    if code:
        return ELEMENT_INTERRUPTION | code
    outcome = essa.perform(machine, guest, issuer, orc, pfn)
    assert isinstance(outcome, EssaOutcome), "an array holds no orc that could wait"
    return outcome.state


def _in_passes(
    run: Callable[..., tuple[bytes, bytes | None, bytes | None]],
    machine: Machine,
    guest: Guest,
    issuer: int,
    command: EssaArray,
) -> bytes:
    tables, drains = guest.tables, release.owns_alone(machine, guest)
    done, length = 0, len(command.orc_bytes)
    parts: list[bytes] = []
    while done < length:
        # The views, as for everything that may touch any page: check mode knows them as such.
        states, entries, freed = run(
            done, tables.copy_outlives_state, drains, guest.statistics.essa,
            command.orc_bytes, command.pfn_bytes, guest.releases[issuer],
            guest.states_view, guest.keys_view, guest.location_view, machine.frames.kinds_view,
            machine.slots.generations_view, tables.for_pass,
        )  # fmt: skip
        if entries is not None:
            release.replace(machine, guest, issuer, entries, freed)
        parts.append(states)
        done += len(states)
        if done < length:
            parts.append(bytes((_one(machine, guest, issuer, command, done),)))
            done += 1
    return parts[0] if len(parts) == 1 else b"".join(parts)
