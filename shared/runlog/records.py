"""What stands in the log of a recorded run: lines of JSON, and how they spell what happened.

Rules:
- The first line is the header, an object; every other line is an array, one record of the host or
  a row of records of the guest (docs/REPLAYS.md lists them all).
- Logged is what a process was told and in which order; what it makes of that is logged only as
  far as a re-execution is to be compared with it: the text `said`, digests of content.
- Whoever re-executes spells with the same functions, so that equal runs are equal texts.
"""

from __future__ import annotations

from collections.abc import Callable
from json import JSONEncoder
from typing import Any, Final
from zlib import crc32

from shared.arch import PAGE_SIZE, Orc
from shared.commands import (
    Command,
    DiscardFault,
    Essa,
    EssaArray,
    EssaArrayOutcome,
    EssaOutcome,
    FaultPending,
    IoError,
    KeyOutcome,
    Load,
    LoadOutcome,
    MachineCheck,
    Outcome,
    ProgramInterruption,
    Sske,
    Store,
)

FORMAT: Final = "essa-run/1"
"""Grows when an older program could no longer read a log."""
HOST: Final = "host"
GUEST: Final = "guest"
HOST_FILE: Final = "host.essa-run"
SUFFIX: Final = ".essa-run"
END: Final = "end"
"""The last record of a log whose process came to its end."""
TICK: Final = "tick"
FAULT: Final = "fault"
BOOT: Final = "boot"
BEGIN: Final = "begin"
"""Of a guest: a timer tick and a discard fault come; the kernel boots, a vCPU's program begins."""

Record = list[Any]
"""One line after the header."""
Write = Callable[[Record], None]
"""Takes the next record."""

encode: Final = JSONEncoder(separators=(",", ":"), check_circular=False).encode
_ORCS: Final = {int(orc): f"essa {orc.name.lower()}" for orc in Orc}


def digest(data: bytes) -> str:
    """Content in eight letters: enough to tell runs apart, not to withstand a forger."""
    return f"{crc32(data):08x}"


def command_text(command: Command) -> str:
    """A command in one line; of many bytes their digest."""
    match command:
        case Essa(orc, pfn, problem_state):
            text = f"{_ORCS.get(orc) or f'essa {orc}'} {pfn}"
            return f"{text} problem" if problem_state else text
        case EssaArray():
            both = command.orc_bytes + command.pfn_bytes
            text = f"essa array of {len(command.orc_bytes)} {digest(both)}"
            return f"{text} problem" if command.problem_state else text
        case Load(pfn, offset, length):  # a device's too
            return f"{type(command).__name__.lower()} {pfn}+{offset} {length}"
        case Store(pfn, offset, data, repeat):
            said = f"{pfn}+{offset} {len(data)}x{repeat} {digest(data)}"
            return f"{type(command).__name__.lower()} {said}"
        case Sske(pfn, key):
            return f"sske {pfn} {key:#x}"
        case _:
            return f"{type(command).__name__.lower()} {command.pfn}"


def outcome_text(outcome: Outcome | None) -> str:
    """An outcome in one line; of many bytes their digest. None: the command is parked."""
    match outcome:
        case None:
            return "parked"
        case EssaOutcome(state):
            return f"was {state:#x}"
        case EssaArrayOutcome(states):
            return f"were {digest(states)}"
        case LoadOutcome(data, repeat):
            return f"loaded {len(data)}x{repeat} {digest(data)}"
        case KeyOutcome(key):
            return f"key {key:#x}"
        case ProgramInterruption(code):
            return f"interruption {code:#x}"
        case FaultPending(fault):
            return f"fault {fault} pending"
        case IoError():
            return "I/O error"
        case MachineCheck():
            return "machine check"
        case _:
            return "done"


def fault_text(fault: DiscardFault) -> str:
    """A discard fault in one line."""
    return f"fault {fault.number} for vcpu {fault.vcpu} page {fault.address // PAGE_SIZE}"


def disk_label(what: str, disk: int) -> str:
    """The label of a device's step, which is followed by its block: begin, read or write."""
    return f"disk.{what} {disk}"


def step_text(label: str, number: int | None) -> str:
    """A step of a vCPU: its label, and which of the things that it is about it touches first."""
    return label if number is None else f"{label} {number}"
