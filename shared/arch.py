"""The machine's numbers and the one transition table per mode.

Rules:
- Every block state transition, for documents, scalar code, vector code and the
  race explorer alike, is read from `TABLES`; no other module knows one.
- A state is one byte, as ESSA returns it: usage (0x0c) or-ed with content (0x03).
- An illegal combination is never stored; `TransitionTable` raises while the tables
  are built, so a wrong table cannot be imported.

Models: the s390 patch of the 2005 "page host virtual assist" series (mode `seed`) and
KVM's pgste_perform_essa in arch/s390/mm/pgtable.c (mode `kvm`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

PAGE_SHIFT: Final = 12
PAGE_SIZE: Final = 1 << PAGE_SHIFT
ORC_MAX: Final = 15
"""The largest operation request code that the instruction's 4-bit field can hold."""

RELEASE_LIST_MAX: Final = 511
"""Entries of one vCPU's block release list (s390 CBRL: one page less one reserved entry)."""


class Orc(IntEnum):
    """Operation request codes of ESSA; 7 to 15 end in a specification exception."""

    GET_STATE = 0
    SET_STABLE = 1
    SET_UNUSED = 2
    SET_VOLATILE = 3
    SET_POTENTIAL_VOLATILE = 4
    SET_STABLE_MAKE_RESIDENT = 5
    SET_STABLE_IF_RESIDENT = 6


class Usage(IntEnum):
    """Block usage state: what the guest says of the page (mask 0x0c)."""

    STABLE = 0x00
    UNUSED = 0x04
    POTENTIAL_VOLATILE = 0x08
    VOLATILE = 0x0C


class Content(IntEnum):
    """Block content state: where the host keeps the page (mask 0x03)."""

    RESIDENT = 0
    PRESERVED = 2
    ZERO = 3


USAGE_MASK: Final = 0x0C
CONTENT_MASK: Final = 0x03
STATE_MASK: Final = 0x0F

USAGE_LETTERS: Final = {
    "S": Usage.STABLE,
    "U": Usage.UNUSED,
    "P": Usage.POTENTIAL_VOLATILE,
    "V": Usage.VOLATILE,
}
_CONTENT_LETTERS: Final = {"r": Content.RESIDENT, "p": Content.PRESERVED, "z": Content.ZERO}


def state_code(name: str) -> int:
    """The byte of a state written as two letters, such as `Sr` or `Vz`."""
    return USAGE_LETTERS[name[0]] | _CONTENT_LETTERS[name[1]]


STATE_NAMES: Final = {state_code(u + c): u + c for u in USAGE_LETTERS for c in _CONTENT_LETTERS}
"""All twelve combinations by code; which of them a mode admits its table says."""

SR: Final = state_code("Sr")
SP: Final = state_code("Sp")
SZ: Final = state_code("Sz")
UR: Final = state_code("Ur")
UZ: Final = state_code("Uz")
VR: Final = state_code("Vr")
VZ: Final = state_code("Vz")
PR: Final = state_code("Pr")

RESULT_EXCEPTION: Final = 0x10
"""Mode `kvm` only: the bit of ESSA's result that says the host could not reach the page."""
ELEMENT_INTERRUPTION: Final = 0x80
"""In the result byte of an array element: or-ed with a program interruption code."""

KEY_ACC: Final = 0xF0
KEY_FETCH: Final = 0x08
KEY_REFERENCED: Final = 0x04
KEY_CHANGED: Final = 0x02
KEY_MASK: Final = 0xFE


class InterruptionCode(IntEnum):
    """Program interruption codes; the order of the checks is operation, privileged,
    specification, addressing (KVM handle_essa)."""

    OPERATION = 0x01
    PRIVILEGED_OPERATION = 0x02
    ADDRESSING = 0x05
    SPECIFICATION = 0x06
    DISCARD_FAULT = 0x1A


class Event(IntEnum):
    """What can happen to a page: the seven orcs, and the two steps of the host's own."""

    GET_STATE = 0
    SET_STABLE = 1
    SET_UNUSED = 2
    SET_VOLATILE = 3
    SET_POTENTIAL_VOLATILE = 4
    SET_STABLE_MAKE_RESIDENT = 5
    SET_STABLE_IF_RESIDENT = 6
    EVICT = 7
    ACCESS = 8


NOT_DEFINED: Final = 0xFF
"""Table entry: the event does not occur in this state (evicting what is not resident)."""
RAISES_ADDRESSING: Final = 0xA5
"""Table entry of ACCESS: an addressing exception, state unchanged."""
RAISES_DISCARD_FAULT: Final = 0xDF
"""Table entry of ACCESS: a discard fault, state unchanged."""

_OUTCOME_NAMES: Final = {"-": NOT_DEFINED, "0x05": RAISES_ADDRESSING, "0x1a": RAISES_DISCARD_FAULT}


class Mode(StrEnum):
    """Which machine the host is: the 2005 series as written, or KVM's older ESSA."""

    SEED = "seed"
    KVM = "kvm"


# Two entries "X/Y" mean: X with the change bit set, Y with it clear.
_SEED_ROWS: Final = """
event                    Sr     Sp     Sz    Ur    Uz    Vr   Vz    Pr
GET_STATE                Sr     Sp     Sz    Ur    Uz    Vr   Vz    Pr
SET_STABLE               Sr     Sp     Sz    Sr    Sz    Sr   Sz    Sr
SET_UNUSED               Ur     Uz     Uz    Ur    Uz    Ur   Uz    Ur
SET_VOLATILE             Vr     Vz     Vz    Vr    Vz    Vr   Vz    Vr
SET_POTENTIAL_VOLATILE   Pr     Sp/Vz  Vz    Pr    Vz    Pr   Vz    Pr
SET_STABLE_MAKE_RESIDENT Sr     Sr     Sr    Sr    Sr    Sr   Sr    Sr
SET_STABLE_IF_RESIDENT   Sr     Sp     Sz    Sr    Uz    Sr   Vz    Sr
EVICT                    Sp     -      -     Uz    -     Vz   -     Sp/Vz
ACCESS                   Sr     Sr     Sr    0x05  0x05  Vr   0x1a  Pr
"""
# CHOICE: D1 op 6 is "set stable if resident": Uz, Vz, Sp and Sz stay what they are, and
#   V+z in the result is the only failure the guest looks for.
# CHOICE: D2 op 4 on Sp keeps a changed page (Sp) and gives up a clean one (Vz).
# CHOICE: D3 op 4 on Uz and Sz gives Vz, because Pz is never formed.
# CHOICE: D4 op 5 brings the page in: Sp with its content, Sz, Uz and Vz zeroed.
# CHOICE: D7 V is discarded without a look at the change bit, P only with C clear.
# CHOICE: D8 an access to Ur raises addressing; option `unused_access = resident_ok` lets
#   it succeed, as z/VM seems to.
# CHOICE: D10 an access never changes the usage state.
# CHOICE: D11 untouched memory is Sz.

_KVM_ROWS: Final = """
event                    Sr  Sp     Sz  Ur  Up     Uz  Vr  Vp     Vz  Pr  Pp
GET_STATE                Sr  Sp     Sz  Ur  Up     Uz  Vr  Vp     Vz  Pr  Pp
SET_STABLE               Sr  Sp     Sz  Sr  Sp     Sz  Sr  Sp     Sz  Sr  Sp
SET_UNUSED               Ur  Uz     Uz  Ur  Uz     Uz  Ur  Uz     Uz  Ur  Uz
SET_VOLATILE             Vr  Vz     Vz  Vr  Vz     Vz  Vr  Vz     Vz  Vr  Vz
SET_POTENTIAL_VOLATILE   Pr  Sp/Vz  Vz  Pr  Sp/Vz  Vz  Pr  Sp/Vz  Vz  Pr  Sp/Vz
SET_STABLE_MAKE_RESIDENT Sr  Sp     Sz  Sr  Sp     Sz  Sr  Sp     Sz  Sr  Sp
SET_STABLE_IF_RESIDENT   Sr  Sp     Sz  Sr  Up     Uz  Sr  Vp     Vz  Sr  Pp
EVICT                    Sp  -      -   Up  -      -   Vp  -      -   Pp  -
ACCESS                   Sr  Sr     Sr  Ur  Ur     Ur  Vr  Vr     Vr  Pr  Pr
"""


@dataclass(frozen=True, slots=True)
class TransitionTable:
    """One mode's transitions.

    `rows[changed][event]` is 16 bytes indexed by state code (plain Python: one page);
    `array` is the same as uint8 of shape (2, 9, 16) (numpy: many pages). Entries are a
    state code, NOT_DEFINED, RAISES_ADDRESSING or RAISES_DISCARD_FAULT.
    """

    mode: Mode
    states: tuple[int, ...]
    untouched: int
    rows: tuple[tuple[bytes, ...], tuple[bytes, ...]]
    array: NDArray[np.uint8]

    def after(self, event: int, state: int, *, changed: bool) -> int:
        """The table's entry; state must be one of `states`."""
        return self.rows[changed][event][state]


def _parse(mode: Mode, text: str, untouched: str) -> TransitionTable:
    lines = text.strip().splitlines()
    states = tuple(state_code(name) for name in lines[0].split()[1:])
    array = np.full((2, len(Event), 16), NOT_DEFINED, dtype=np.uint8)
    for event, line in zip(Event, lines[1:], strict=True):
        name, *cells = line.split()
        if name != event.name:
            raise ValueError(f"row {event.name} of mode {mode} is missing")
        for state, cell in zip(states, cells, strict=True):
            with_change, _, without = cell.partition("/")
            for changed, word in ((1, with_change), (0, without or with_change)):
                entry = _OUTCOME_NAMES[word] if word in _OUTCOME_NAMES else state_code(word)
                if entry <= STATE_MASK and entry not in states:
                    raise ValueError(f"mode {mode} leads to {word}, which is not one of its states")
                array[changed, event, state] = entry
    array.setflags(write=False)
    rows = tuple(tuple(array[c, e].tobytes() for e in Event) for c in (0, 1))
    return TransitionTable(mode, states, state_code(untouched), (rows[0], rows[1]), array)


TABLES: Final = {
    Mode.SEED: _parse(Mode.SEED, _SEED_ROWS, untouched="Sz"),
    Mode.KVM: _parse(Mode.KVM, _KVM_ROWS, untouched="Sp"),
}
