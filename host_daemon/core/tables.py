"""What the host derives from a mode's transition table, ready for indexing.

Rules:
- Everything here is computed from `shared.arch.TABLES` when the module is imported; no
  transition is written down a second time.
- A page's state byte holds its state in the low nibble and, in the high nibble, flags for
  what is going on with it. A byte below 16 is a page with nothing special about it.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import IntEnum
from itertools import product
from typing import Final

from shared.arch import (
    CONTENT_MASK,
    KEY_CHANGED,
    NOT_DEFINED,
    STATE_MASK,
    TABLES,
    USAGE_MASK,
    Content,
    Event,
    Mode,
    Orc,
    TransitionTable,
    Usage,
)

IN_TRANSIT: Final = 0x10
"""Resident: a page-out is under way. Preserved: a page-in is under way."""
DAMAGED: Final = 0x20
"""The copy on the paging device, the only one, cannot be read."""
IN_RECLAIM: Final = 0x40
"""Chosen as a victim; no page-out has begun."""
UNBACKED: Final = 0x80
"""Mode `kvm`: the host has no memory at this pfn."""
FLAGS: Final = 0xF0

RESIDENT: Final = int(Content.RESIDENT)
PRESERVED: Final = int(Content.PRESERVED)
ZERO: Final = int(Content.ZERO)

ORC_COUNT: Final = len(Orc)
MAKE_RESIDENT: Final = int(Orc.SET_STABLE_MAKE_RESIDENT)

# Flags of a packed transition, beside the state after it.
DEPENDS: Final = 0x10
"""The change bit decides; the entry is the one for a clear bit."""
RELEASES: Final = 0x20
"""If the page holds a slot, it goes to the block release list."""
_PASS_KIND_SHIFT: Final = 8
_PASS_GOES_ON: Final = 1 << 15


class FrameKind(IntEnum):
    """What reclaim would do with a frame; the policies' whole view of the hints."""

    FREE = 0
    BUSY = 1
    """Being reclaimed, or waiting for its content."""
    UNUSED = 2
    """Can be dropped; its page is unused."""
    VOLATILE = 3
    """Can be dropped; its page is volatile."""
    CLEAN = 4
    """Can be dropped; its page is potential volatile and unchanged."""
    KEPT = 5
    """Has to be paged out: stable, or changed."""


@dataclass(frozen=True, slots=True)
class ModeTables:
    """One mode's derived tables.

    packed[changed]: 256 bytes indexed by `orc << 4 | state`: the state after, and DEPENDS and
      RELEASES. An entry equal to the state means that nothing happens. Orcs that do not
      exist change nothing.
    for_pass: for orcs that exist, 224 numbers indexed by `orc << 5 | change bit << 4 | state`:
      the state after; from bit 8 on the kind of a resident page's frame if the page gets
      another state; and bit 15 if it does, or if an entry of `packed` RELEASES.
    kinds: 32 bytes indexed by `state | change bit << 3`: the FrameKind of a resident page.
    legal: 256 bytes by whole state byte: 1 where state and flags may stand together.
    copy_outlives_state: a page keeps its slot until its release list entry is processed.
    """

    table: TransitionTable
    packed: tuple[bytes, bytes]
    for_pass: array[int]
    kinds: bytes
    legal: bytes
    copy_outlives_state: bool


def is_dropped(after: int) -> bool:
    """Whether an eviction that leads to this state writes nothing: the content is given up.

    In mode `kvm` an unused page becomes Up: preserved by name only, it has no slot.
    """
    return after & CONTENT_MASK == ZERO or after & USAGE_MASK == Usage.UNUSED


def _pack(table: TransitionTable, changed: int, *, copy_outlives_state: bool) -> bytes:
    packed = bytearray(state & STATE_MASK for state in range(256))
    for orc in range(ORC_COUNT):
        for before in table.states:
            after = table.rows[changed][orc][before]
            entry = after
            if table.rows[0][orc][before] != table.rows[1][orc][before] and not changed:
                entry |= DEPENDS
            content = before & CONTENT_MASK
            again = copy_outlives_state and orc in (Orc.SET_UNUSED, Orc.SET_VOLATILE)
            if after & CONTENT_MASK == ZERO and (content == PRESERVED or again):
                entry |= RELEASES
            packed[orc << 4 | before] = entry
    return bytes(packed)


def _kinds(table: TransitionTable) -> bytes:
    names = {
        Usage.UNUSED: FrameKind.UNUSED,
        Usage.VOLATILE: FrameKind.VOLATILE,
        Usage.POTENTIAL_VOLATILE: FrameKind.CLEAN,
    }
    kinds = bytearray([FrameKind.BUSY]) * 32
    for state in table.states:
        for changed in (0, 1):
            after = table.rows[changed][Event.EVICT][state]
            if after != NOT_DEFINED:
                usage = Usage(state & USAGE_MASK)
                kind = names.get(usage) if is_dropped(after) else None
                kinds[state | changed << 4] = FrameKind.KEPT if kind is None else kind
    return bytes(kinds)


def _legal(table: TransitionTable) -> bytes:
    legal = bytearray(256)
    for state in table.states:
        allowed = {
            RESIDENT: (0, IN_TRANSIT, IN_RECLAIM),
            PRESERVED: (0, IN_TRANSIT, DAMAGED),
            ZERO: (0,),
        }[state & CONTENT_MASK]
        for flags in allowed:
            legal[state | flags] = 1
    legal[table.untouched | UNBACKED] = table.mode is Mode.KVM
    return bytes(legal)


def _for_pass(packed: tuple[bytes, bytes], kinds: bytes) -> array[int]:
    numbers = array("H")
    for orc, changed, before in product(range(ORC_COUNT), range(2), range(16)):
        entry = packed[changed][orc << 4 | before]
        after = entry & STATE_MASK
        kind = 0
        if before & CONTENT_MASK == RESIDENT and after != before:
            kind = kinds[after | changed << 4]
        goes_on = kind or entry & RELEASES
        numbers.append(after | kind << _PASS_KIND_SHIFT | bool(goes_on) * _PASS_GOES_ON)
    return numbers


def _derive(table: TransitionTable) -> ModeTables:
    outlives = table.mode is Mode.KVM
    packed = (
        _pack(table, 0, copy_outlives_state=outlives),
        _pack(table, 1, copy_outlives_state=outlives),
    )
    kinds = _kinds(table)
    return ModeTables(
        table=table,
        packed=packed,
        for_pass=_for_pass(packed, kinds),
        kinds=kinds,
        legal=_legal(table),
        copy_outlives_state=outlives,
    )


MODE_TABLES: Final = {mode: _derive(table) for mode, table in TABLES.items()}

KIND_SHIFT: Final = 3
assert KEY_CHANGED << KIND_SHIFT == 16, "`kinds` is indexed by state and change bit"
