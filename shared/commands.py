"""What a guest asks of its host and what comes back, as frozen values.

Rules:
- A command is what one vCPU, or one device, does to storage in one go; the wire, the core
  and the kernel all use these classes and no others.
- A pfn outside the guest's memory is no malformed command: the machine answers it with an
  addressing exception.
- Bounds that no machine could hold (an orc over 15, a transfer past the end of its page)
  are refused by `check()` before anything is executed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from shared.arch import KEY_MASK, ORC_MAX, PAGE_SIZE, Orc
from shared.errors import InvalidRequestError

PFN_MAX: Final = 0xFFFF_FFFF
PFN_BYTES: Final = 4
ESSA_ARRAY_MAX: Final = 65_536
"""Elements of one array of ESSAs."""


_ARRAY_ORCS: Final = bytes(orc for orc in range(ORC_MAX + 1) if orc != Orc.SET_STABLE_MAKE_RESIDENT)


def _bound(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidRequestError(
            f"{field} is {value}; it must be {low} to {high}",
            field=field,
            value=value,
            low=low,
            high=high,
        )


@dataclass(frozen=True, slots=True)
class Essa:
    """EXTRACT AND SET STORAGE ATTRIBUTES on one page."""

    orc: int
    pfn: int
    problem_state: bool = False

    def check(self) -> None:
        """Raise InvalidRequestError for what the instruction's fields could not hold."""
        _bound("orc", self.orc, 0, ORC_MAX)
        _bound("pfn", self.pfn, 0, PFN_MAX)


@dataclass(frozen=True, slots=True, eq=False)
class EssaArray:
    """Many ESSAs as one command; elements run in order.

    orc_bytes: one byte an element; pfn_bytes: four, little endian; 1 to ESSA_ARRAY_MAX
    elements. As they come off the wire: whoever wants numbers looks through `orcs` and `pfns`.
    """

    orc_bytes: bytes
    pfn_bytes: bytes
    problem_state: bool = False

    @classmethod
    def of(
        cls, orcs: NDArray[np.uint8], pfns: NDArray[np.integer], problem_state: bool = False
    ) -> EssaArray:
        """The array with these elements."""
        orc_bytes = np.ascontiguousarray(orcs, np.uint8).tobytes()
        return cls(orc_bytes, np.ascontiguousarray(pfns, "<u4").tobytes(), problem_state)

    @property
    def orcs(self) -> NDArray[np.uint8]:
        """A view; cannot be written."""
        return np.frombuffer(self.orc_bytes, np.uint8)

    @property
    def pfns(self) -> NDArray[np.uint32]:
        """A view; cannot be written."""
        return np.frombuffer(self.pfn_bytes, "<u4")

    def element(self, index: int) -> tuple[int, int]:
        """One element's orc and pfn."""
        start = index * PFN_BYTES
        pfn = int.from_bytes(self.pfn_bytes[start : start + PFN_BYTES], "little")
        return self.orc_bytes[index], pfn

    def check(self) -> None:
        """Raise InvalidRequestError for unequal lengths, an orc over 15 or op 5."""
        count = len(self.orc_bytes)
        # Deleting all that is allowed leaves nothing: one look at bytes beats numpy's machinery.
        if (
            len(self.pfn_bytes) != count * PFN_BYTES
            or not 1 <= count <= ESSA_ARRAY_MAX
            or self.orc_bytes.translate(None, _ARRAY_ORCS)
        ):
            self._refuse()

    def _refuse(self) -> NoReturn:
        count, pfn_length = len(self.orc_bytes), len(self.pfn_bytes)
        if pfn_length % PFN_BYTES:
            raise InvalidRequestError(
                f"pfns holds {pfn_length} bytes; it must hold {PFN_BYTES} for each page",
                field="pfns",
                value=pfn_length,
            )
        _bound("orcs", count, 1, ESSA_ARRAY_MAX)
        _bound("pfns", pfn_length // PFN_BYTES, count, count)
        _bound("orcs[]", max(self.orc_bytes), 0, ORC_MAX)
        raise InvalidRequestError("orcs[] holds 5; an array never does", field="orcs[]", value=5)


def _check_transfer(pfn: int, offset: int, length: int) -> None:
    _bound("pfn", pfn, 0, PFN_MAX)
    _bound("offset", offset, 0, PAGE_SIZE - 1)
    _bound("length", length, 1, PAGE_SIZE - offset)


@dataclass(frozen=True, slots=True)
class Load:
    """A vCPU fetches `length` bytes inside one page; sets R."""

    pfn: int
    offset: int
    length: int

    def check(self) -> None:
        """Raise InvalidRequestError unless the bytes lie inside the page."""
        _check_transfer(self.pfn, self.offset, self.length)


@dataclass(frozen=True, slots=True)
class Store:
    """A vCPU stores `data`, `repeat` times in a row, inside one page; sets R and C."""

    pfn: int
    offset: int
    data: bytes
    repeat: int = 1

    def check(self) -> None:
        """Raise InvalidRequestError unless the bytes lie inside the page."""
        _bound("repeat", self.repeat, 1, PAGE_SIZE)
        _check_transfer(self.pfn, self.offset, len(self.data) * self.repeat)


@dataclass(frozen=True, slots=True)
class DeviceLoad(Load):
    """A device fetches from storage (a disk write); never a discard fault; sets R."""


@dataclass(frozen=True, slots=True)
class DeviceStore(Store):
    """A device stores (a disk read); never a discard fault; sets R and C."""


@dataclass(frozen=True, slots=True)
class Iske:
    """INSERT STORAGE KEY EXTENDED: read the page's key. Legal in every state."""

    pfn: int

    def check(self) -> None:
        """Raise InvalidRequestError for a pfn over 32 bits."""
        _bound("pfn", self.pfn, 0, PFN_MAX)


@dataclass(frozen=True, slots=True)
class Sske:
    """SET STORAGE KEY EXTENDED: write the page's whole key. Legal in every state."""

    pfn: int
    key: int

    def check(self) -> None:
        """Raise InvalidRequestError for a pfn over 32 bits or a key with bit 0x01."""
        _bound("pfn", self.pfn, 0, PFN_MAX)
        if self.key & ~KEY_MASK:
            raise InvalidRequestError(
                f"key is {self.key:#x}; bits outside {KEY_MASK:#x} must be 0",
                field="key",
                value=self.key,
            )


@dataclass(frozen=True, slots=True)
class Rrbe(Iske):
    """RESET REFERENCE BIT EXTENDED: answer the key as it was, clear R."""


Command = Essa | EssaArray | Load | Store | DeviceLoad | DeviceStore | Iske | Sske | Rrbe


@dataclass(frozen=True, slots=True)
class EssaOutcome:
    """The state before the operation: usage | content (| 0x10 in mode `kvm`)."""

    state: int


@dataclass(frozen=True, slots=True)
class EssaArrayOutcome:
    """One byte per element: the state before, or ELEMENT_INTERRUPTION | code."""

    states: bytes


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """What was fetched: `data`, `repeat` times in a row.

    Whole multiples of 32 bytes that repeat their first 32 bytes come as those 32 bytes and
    a count; anything else as it is, with repeat 1.
    """

    data: bytes
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class Done:
    """The command took effect and has nothing to tell (stores, SSKE)."""


@dataclass(frozen=True, slots=True)
class KeyOutcome:
    """The key as it was before the command (ISKE, RRBE)."""

    key: int


@dataclass(frozen=True, slots=True)
class ProgramInterruption:
    """The command ended in a program interruption; storage and states are unchanged."""

    code: int


@dataclass(frozen=True, slots=True)
class FaultPending:
    """The access was nullified; discard fault number `fault` comes on the event stream."""

    fault: int


@dataclass(frozen=True, slots=True)
class IoError:
    """A device transfer met an unused or discarded page; nothing was moved."""


@dataclass(frozen=True, slots=True)
class MachineCheck:
    """The page's only copy, on the paging device, is damaged."""


Outcome = (
    EssaOutcome
    | EssaArrayOutcome
    | LoadOutcome
    | Done
    | KeyOutcome
    | ProgramInterruption
    | FaultPending
    | IoError
    | MachineCheck
)

DONE: Final = Done()


@dataclass(frozen=True, slots=True)
class DiscardFault:
    """Program interruption 0x1a as it is delivered.

    number: the guest's own sequence, from 1. address: absolute, of the page's first byte.
    """

    number: int
    vcpu: int
    address: int
