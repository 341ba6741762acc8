"""A host whose inputs are logged, one record each, in the order in which they went in.

Rules:
- It is the core, unchanged: every input goes to `Host`, and then stands in the log with all that
  came of it. What only looks is not logged.
- The n-th record is the host's n-th step, from 1; outcomes carry the number of the step that
  they came of.
- The re-execution uses this class too, with a `write` that compares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Final, TypeVar

from host_daemon.core.config import Choices, GuestSpec, HostConfig
from host_daemon.core.effects import (
    CHOOSE_VICTIM,
    Completed,
    DeliverFault,
    Effect,
    Noticed,
    PageIn,
    PageOut,
    Stage,
    StageKind,
    Traced,
)
from host_daemon.core.host import Host
from shared.commands import Command, Outcome
from shared.runlog.records import Record, Write, command_text, digest, fault_text, outcome_text

Result = TypeVar("Result")
STAGES: Final = {kind: kind.name.lower() for kind in StageKind}
"""What the log calls them."""


class RecordedHost(Host):
    """A host with a log.

    steps: how many inputs it has had. stepped: of each issuer, by (guest, issuer): the number of
    its last command that has an outcome, and the step that this came of.
    """

    __slots__ = ("_drawn", "_numbers", "_write", "stepped", "steps")

    def __init__(self, config: HostConfig, choices: Choices, write: Write) -> None:
        """write: takes the record of an input that is done. Raises what `Host` raises."""
        self._drawn = _Drawn(choices)
        super().__init__(config, self._drawn)
        self._write = write
        self._numbers: dict[tuple[int, int], int] = {}
        self.steps = 0
        self.stepped: dict[tuple[int, int], tuple[int, int]] = {}

    def open_guest(self, spec: GuestSpec) -> int:
        """As `Host`."""
        plain = asdict(spec) | {"unbacked": [[pages.start, pages.stop] for pages in spec.unbacked]}
        return self._input(["open", plain], lambda number: f"guest {number}", Host.open_guest, spec)

    def close_guest(self, guest_id: int) -> None:
        """As `Host`; logged with a digest of the states and keys that the guest leaves."""
        guest = self._guest(guest_id)
        left = digest(bytes(guest.states) + bytes(guest.keys))
        self._input(["close", guest_id], lambda _: left, Host.close_guest, guest_id)

    def execute(self, guest_id: int, issuer: int, command: Command) -> Outcome | None:
        """As `Host`. Commands of an issuer come in the order of their numbers, each once."""
        key = guest_id, issuer
        number = self._numbers.get(key, 0) + 1
        record = ["execute", guest_id, issuer, number, command_text(command)]
        outcome = self._input(record, outcome_text, Host.execute, guest_id, issuer, command)
        self._numbers[key] = number
        if outcome is not None:
            self.stepped[key] = number, self.steps
        return outcome

    def acknowledge_fault(self, guest_id: int, number: int) -> None:
        """As `Host`."""
        record = ["acknowledge", guest_id, number]
        self._input(record, _nothing, Host.acknowledge_fault, guest_id, number)

    def redeliver_faults(self, guest_id: int) -> None:
        """As `Host`."""
        self._input(["redeliver", guest_id], _nothing, Host.redeliver_faults, guest_id)

    def begin_eviction(self, guest_id: int, pfn: int) -> bool:
        """As `Host`."""
        record = ["evict", guest_id, pfn]
        return self._input(record, _whether, Host.begin_eviction, guest_id, pfn)

    def withhold(self, *, frames: int, slots: int) -> None:
        """As `Host`."""
        work = partial(Host.withhold, frames=frames, slots=slots)
        self._input(["withhold", frames, slots], _nothing, work)

    def run(self, stage: Stage) -> None:
        """As `Host`; of CHOOSE_VICTIM the page that was chosen stands in the log."""
        record = [STAGES[stage.kind], stage.guest_id, stage.number]
        say = self._victim if stage == CHOOSE_VICTIM else _nothing
        self._input(record, say, Host.run, stage)

    def page_out_done(self, operation: int, ok: bool) -> None:
        """As `Host`."""
        self._input(["page_out_done", operation, ok], _nothing, Host.page_out_done, operation, ok)

    def page_in_done(self, operation: int, data: bytes | None) -> None:
        """As `Host`; of the page its digest is logged, and of a damaged one null."""
        record = ["page_in_done", operation, None if data is None else digest(data)]
        self._input(record, _nothing, Host.page_in_done, operation, data)

    def _input(
        self,
        record: Record,
        say: Callable[[Result], str],
        work: Callable[..., Result],
        *arguments: Any,
    ) -> Result:
        """Do it and log it. Foreign input that the core refuses changes nothing: no record."""
        effects = self._machine.effects
        before = len(effects)
        try:
            result = work(self, *arguments)
        except AssertionError as error:
            self._log(record, f"assertion: {error}", effects[before:])
            raise
        self._log(record, say(result), effects[before:])
        return result

    def _log(self, record: Record, said: str, effects: list[Effect]) -> None:
        self.steps += 1
        for effect in effects:
            if isinstance(effect, Traced | Noticed):
                continue  # somebody looks; nothing comes of it
            text = _effect_text(effect)
            said = f"{said}; {text}" if said else text
            if isinstance(effect, Completed):
                key = effect.guest_id, effect.issuer
                self.stepped[key] = self._numbers[key], self.steps
        record.append(said)
        if self._drawn.numbers:
            record.append(self._drawn.take())
        self._write(record)

    def _victim(self, _: None) -> str:
        stage = next(reversed(self._machine.pending))
        return f"guest {stage.guest_id} page {stage.number}"


class _Drawn:
    """Choices that are remembered until their record is written."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self.numbers: list[int] = []

    def choose(self, bound: int) -> int:
        """A number from 0 to bound - 1."""
        number = self._choices.choose(bound)
        self.numbers.append(number)
        return number

    def take(self) -> list[int]:
        """What was drawn since."""
        taken, self.numbers = self.numbers, []
        return taken


def _nothing(_: Any) -> str:
    return ""


def _whether(done: bool) -> str:
    return "begun" if done else "not resident"


def _effect_text(effect: Completed | PageOut | PageIn | DeliverFault) -> str:
    match effect:
        case Completed(guest_id, issuer, outcome):
            return f"guest {guest_id} issuer {issuer} {outcome_text(outcome)}"
        case PageOut(operation, slot, generation, data):
            return f"page-out {operation} to {slot}.{generation} {digest(data)}"
        case PageIn(operation, slot, generation):
            return f"page-in {operation} from {slot}.{generation}"
        case DeliverFault(guest_id, fault):
            return f"guest {guest_id} {fault_text(fault)}"
