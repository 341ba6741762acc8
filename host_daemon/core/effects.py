"""What comes out of the core, and the stages of its own work.

Rules:
- Effects are frozen values; the shell drains them after every input and acts on them.
- A stage is one atomic piece of the host's own work. Between any two stages a guest may
  execute anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from shared.commands import DiscardFault, Outcome
from shared.events import EventKind


class StageKind(IntEnum):
    """The host's own work, in the order in which a busy host would do it first."""

    RESUME = 0
    DELIVER_FAULT = 1
    SUBMIT_PAGE_IN = 2
    SUBMIT_PAGE_OUT = 3
    COMMIT = 4
    READ_CHANGE_BIT = 5
    REMOVE_ACCESS = 6
    DRAIN_RELEASE_LIST = 7
    CHOOSE_VICTIM = 8


class Stage(NamedTuple):
    """One piece of work that could be done now.

    guest_id: 0 for CHOOSE_VICTIM, where the reclaim policy decides. number: an issuer
    (RESUME, DRAIN_RELEASE_LIST), a fault's number (DELIVER_FAULT), otherwise a pfn.
    """

    kind: StageKind
    guest_id: int
    number: int


CHOOSE_VICTIM = Stage(StageKind.CHOOSE_VICTIM, 0, 0)


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that was parked has ended."""

    guest_id: int
    issuer: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class PageOut:
    """Write one page to the paging device, then call `page_out_done(operation, ok)`.

    slot: from 0. generation: what a later PageIn of this content will name.
    """

    operation: int
    slot: int
    generation: int
    data: bytes


@dataclass(frozen=True, slots=True)
class PageIn:
    """Read one page from the paging device, then call `page_in_done(operation, data)`."""

    operation: int
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class DeliverFault:
    """Send the guest a discard fault; it is kept until it is acknowledged."""

    guest_id: int
    fault: DiscardFault


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One page's state byte before and after an input, flags included.

    cause: `essa`, `load`, ... or a stage's or a completion's name in lower case.
    number: the issuer where a command was the cause, otherwise 0.
    """

    guest_id: int
    pfn: int
    cause: str
    number: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Traced:
    """A page's state has changed; comes only while tracing is on."""

    event: TraceEvent


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something that operators watch for; comes only while the machine is watched.

    guest_id: 0 for what concerns the whole host. The others are None where they make no sense.
    """

    kind: EventKind
    guest_id: int = 0
    pfn: int | None = None
    vcpu: int | None = None
    fault: int | None = None
    before: int | None = None
    after: int | None = None


Effect = Completed | PageOut | PageIn | DeliverFault | Traced | Noticed
