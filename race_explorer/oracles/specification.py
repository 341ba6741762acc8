"""What one block of a guest's memory does, as its guest may see it: a small sequential machine.

Written apart from the host: dictionaries and if-chains from the description of the instruction
and of its open points, no table and no array of the core's. The checkers of histories go by it,
and so does the small host that the real one is tested against.

Rules:
- A block is a value. A command takes one to the next and answers; it never waits: what the host
  makes wait takes effect when it is answered.
- What the host does by itself is `moves`: it may come between any two commands, or not at all.
- Usage and content are the letters of a state's name: "S" and "r" are Sr.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from shared.commands import (
    DONE,
    DeviceLoad,
    DeviceStore,
    Done,
    Essa,
    EssaOutcome,
    FaultPending,
    IoError,
    Iske,
    KeyOutcome,
    Load,
    LoadOutcome,
    MachineCheck,
    ProgramInterruption,
    Rrbe,
    Sske,
    Store,
)

CODES: Final = {"S": 0x00, "U": 0x04, "P": 0x08, "V": 0x0C, "r": 0, "p": 2, "z": 3}
LETTERS: Final = {
    CODES[usage] | CODES[content]: usage + content for usage in "SUPV" for content in "rpz"
}
ZEROES: Final = bytes(4096)
REFERENCED: Final = 0x04
CHANGED: Final = 0x02
FAULT: Final = FaultPending(0)
"""A discard fault, whatever its number."""
ANY_CONTENT: Final = LoadOutcome(b"", 0)
"""What a load tells of a block whose content is not known."""
_UNIT: Final = 32
_AFTER_RESIDENT: Final = {0: "", 1: "S", 2: "U", 3: "V", 4: "P", 5: "S", 6: "S"}


# The rules, one by one.


def after_essa(
    orc: int, usage: str, content: str, *, changed: bool, kvm: bool = False
) -> tuple[str, str]:
    """Usage and content after an operation, 0 to 6. changed: the change bit."""
    if content == "r":
        return _AFTER_RESIDENT[orc] or usage, "r"
    if orc in (0, 6):
        return usage, content
    if orc == 1:
        return "S", content
    if orc == 5:
        return "S", content if kvm else "r"
    if orc == 2:
        return "U", "z"
    if orc == 4 and content == "p" and changed:
        return "S", "p"
    return "V", "z"


def after_eviction(usage: str, *, changed: bool, kvm: bool = False) -> tuple[str, str]:
    """Usage and content when the host has taken the frame of a resident block."""
    if kvm:
        return usage, "p"
    if usage == "U":
        return "U", "z"
    dropped = usage == "V" or (usage == "P" and not changed)
    return ("V", "z") if dropped else ("S", "p")


def refusal(
    usage: str, content: str, *, device: bool, unused_ok: bool = False
) -> ProgramInterruption | FaultPending | IoError | None:
    """What an access to the block ends in, if not in data. unused_ok: Ur may be accessed."""
    unused = usage == "U" and not (unused_ok and content == "r")
    discarded = usage == "V" and content == "z"
    if not unused and not discarded:
        return None
    if device:
        return IoError()
    return FAULT if discarded else ProgramInterruption(0x05)


def fetched(data: bytes, offset: int, length: int) -> LoadOutcome:
    """What a load is told: units that repeat are told once."""
    piece = data[offset : offset + length]
    unit = piece[:_UNIT]
    if length % _UNIT == 0 and piece == unit * (length // _UNIT):
        return LoadOutcome(unit, length // _UNIT)
    return LoadOutcome(piece, 1)


def replaced(data: bytes, offset: int, piece: bytes) -> bytes:
    """The content after a store."""
    return data[:offset] + piece + data[offset + len(piece) :]


# One block.


@dataclass(frozen=True, slots=True)
class Essas:
    """Operations of one array on one block, in order and in one go."""

    orcs: tuple[int, ...]
    problem_state: bool = False


@dataclass(frozen=True, slots=True)
class States:
    """What each of them found, or 0x80 and the code of the interruption that it ended in."""

    found: tuple[int, ...]


Call = Essa | Essas | Iske | Sske | Load | Store
Answer = (
    EssaOutcome
    | States
    | KeyOutcome
    | LoadOutcome
    | Done
    | ProgramInterruption
    | FaultPending
    | IoError
    | MachineCheck
)


@dataclass(frozen=True, slots=True)
class Block:
    """usage, content: letters. data: 4 KiB, or None if nobody has looked; zeroes if content is
    "z". damaged: the only copy, on the paging device, cannot be read."""

    usage: str = "S"
    content: str = "z"
    key: int = 0
    data: bytes | None = ZEROES
    damaged: bool = False

    @property
    def name(self) -> str:
        """Such as "Vz"."""
        return self.usage + self.content

    @property
    def code(self) -> int:
        """As ESSA reports it."""
        return CODES[self.usage] | CODES[self.content]

    @property
    def changed(self) -> bool:
        """The change bit."""
        return bool(self.key & CHANGED)


def agree(predicted: Answer, told: Answer) -> bool:
    """Whether an answer is the one that the specification gives."""
    if predicted is ANY_CONTENT:
        return isinstance(told, LoadOutcome)
    return predicted == told


def apply(block: Block, call: Call) -> tuple[Block, Answer]:
    """The block after a command, and what the command is told."""
    match call:
        case Essa():
            return _essa(block, call.orc, problem_state=call.problem_state)
        case Essas():
            return _essas(block, call)
        case Rrbe():
            return replace(block, key=block.key & ~REFERENCED), KeyOutcome(block.key)
        case Iske():
            return block, KeyOutcome(block.key)
        case Sske():
            return replace(block, key=call.key), DONE
        case _:
            return _access(block, call)


def _essa(block: Block, orc: int, *, problem_state: bool) -> tuple[Block, Answer]:
    if problem_state:
        return block, ProgramInterruption(0x02)
    if orc > 6:
        return block, ProgramInterruption(0x06)
    if orc == 5 and block.damaged:
        return block, MachineCheck()
    usage, content = after_essa(orc, block.usage, block.content, changed=block.changed)
    return _with_state(block, usage, content), EssaOutcome(block.code)


def _with_state(block: Block, usage: str, content: str) -> Block:
    """What goes with content: zeroes where it was given up, and no damage any more."""
    if usage == block.usage and content == block.content:
        return block
    damaged = block.damaged and content == "p"
    data = ZEROES if content == "z" else block.data
    return Block(usage, content, block.key, data, damaged)


def _essas(block: Block, call: Essas) -> tuple[Block, Answer]:
    found = []
    for orc in call.orcs:
        block, answer = _essa(block, orc, problem_state=call.problem_state)
        interrupted = isinstance(answer, ProgramInterruption)
        found.append(0x80 | answer.code if interrupted else answer.state)  # type: ignore[union-attr]
    return block, States(tuple(found))


def _access(block: Block, call: Load | Store) -> tuple[Block, Answer]:
    device = isinstance(call, DeviceLoad | DeviceStore)
    refused = refusal(block.usage, block.content, device=device)
    if refused is not None:
        return block, refused
    if block.damaged:
        return block, MachineCheck()
    usage = block.usage if block.content == "r" else "S"
    if isinstance(call, Load):
        answer = (
            ANY_CONTENT if block.data is None else fetched(block.data, call.offset, call.length)
        )
        return Block(usage, "r", block.key | REFERENCED, block.data), answer
    piece = call.data * call.repeat
    data = block.data
    if len(piece) == len(ZEROES):
        data = piece
    elif data is not None:
        data = replaced(data, call.offset, piece)
    return Block(usage, "r", block.key | REFERENCED | CHANGED, data), DONE


def moves(block: Block) -> Iterator[Block]:
    """What the host may make of the block next, by itself."""
    if block.content == "r":
        usage, content = after_eviction(block.usage, changed=block.changed)
        if content == "z":
            key = block.key & ~(REFERENCED | CHANGED)
            yield Block(usage, content, key)
        elif usage != block.usage:
            yield replace(block, usage=usage)  # its page-out begins
        else:
            yield replace(block, content=content)
    elif block.content == "p" and not block.damaged:
        yield replace(block, content="r")
        yield replace(block, damaged=True)
