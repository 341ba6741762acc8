"""What steps are called, and what answers say: one line of it, for people and for anchors."""

from __future__ import annotations

from typing import Final

from guest_agent.kernel.content import parse_tag
from host_daemon.core.effects import PageIn, PageOut, Stage, StageKind
from shared.arch import KEY_CHANGED, STATE_MASK, STATE_NAMES, Orc
from shared.commands import (
    Command,
    Essa,
    EssaArray,
    EssaOutcome,
    FaultPending,
    IoError,
    KeyOutcome,
    LoadOutcome,
    MachineCheck,
    Outcome,
    ProgramInterruption,
)

_ESSAS: Final = {int(orc): f"essa.{orc.name.lower()}" for orc in Orc}
_STAGE_LABELS: Final = {kind: kind.name.lower() for kind in StageKind}
_OTHERS: Final[dict[type, str]] = {EssaArray: "essa.array"}


def stage_name(stage: Stage) -> tuple[str, str]:
    """The actor and the label of a stage of the host's own work."""
    label = _STAGE_LABELS[stage.kind]
    return f"host.{label}.{stage.number}", label


def paging_name(operation: PageOut | PageIn) -> tuple[str, str]:
    """The same of an operation of the paging device."""
    label = "page_out" if isinstance(operation, PageOut) else "page_in"
    return f"paging.{operation.operation}", label


def command_label(command: Command) -> str:
    """Such as "essa.set_volatile" or "load"."""
    if isinstance(command, Essa):
        return _ESSAS.get(command.orc) or f"essa.{command.orc}"
    kind = type(command)
    return _OTHERS.get(kind) or kind.__name__.lower()


def describe(outcome: Outcome) -> str:
    """What the host answered, such as "was Vr", "C=1" or "fault 3"."""
    match outcome:
        case EssaOutcome(state):
            return f"was {STATE_NAMES[state & STATE_MASK]}"
        case KeyOutcome(key):
            return f"C={int(bool(key & KEY_CHANGED))}"
        case FaultPending(fault):
            return f"fault {fault}"
        case LoadOutcome(data, _):
            tag = parse_tag(data)
            return "no tag" if tag is None else f"version {tag[2]}"
        case ProgramInterruption(code):
            return f"interruption {code:#04x}"
        case IoError():
            return "I/O error"
        case MachineCheck():
            return "machine check"
        case _:
            return ""
