"""The host of a recorded run, which is given its inputs again.

Rules:
- It is the shipped core; `RecordedHost` spells what comes of each input as it did for the log, and
  the two records are compared as a whole.
- Commands come from the guests, not from the log: the log says when, and what they should be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from host_daemon.core.config import GuestSpec, HostConfig
from host_daemon.core.effects import Completed, DeliverFault, PageIn, PageOut, Stage
from host_daemon.recording import STAGES, RecordedHost
from race_explorer.recorded.guest import GuestAgain
from shared.arch import Mode
from shared.commands import Outcome
from shared.errors import EssaError
from shared.runlog.records import Record
from shared.session.host_end import HostEnd, Reception

_KINDS: Final = {name: kind for kind, name in STAGES.items()}


class CutOffError(Exception):
    """A guest's log ends before its process did, and the host goes on with what it did then."""


class _NotToBeDoneError(Exception):
    """Why an input of the log is none that there could be now."""


class HostAgain:
    """The host. steps: inputs that it was given."""

    def __init__(
        self,
        config: HostConfig,
        records: Sequence[Record],
        find_guest: Callable[[int], GuestAgain | None],
    ) -> None:
        """find_guest: by number, asked when the host opens one. Raises InvalidRequestError."""
        self.steps = 0
        self._records = records
        self._find_guest = find_guest
        self._drawn: list[int] = []
        self._made: Record = []
        self._host = RecordedHost(config, self, self._spelled)
        self._guests: dict[int, tuple[GuestAgain, HostEnd]] = {}
        self._paging: dict[int, PageOut | PageIn] = {}
        self._slots: dict[int, tuple[int, bytes]] = {}

    # config.Choices

    def choose(self, bound: int) -> int:
        """What was drawn in the recorded run; 0 if nothing was, or nothing that is possible."""
        number = self._drawn.pop(0) if self._drawn else 0
        return number if 0 <= number < bound else 0

    def _spelled(self, record: Record) -> None:
        self._made = record

    def next_record(self) -> Record | None:
        """The input that the log has next."""
        return self._records[self.steps] if self.steps < len(self._records) else None

    def take(self, record: Record) -> tuple[str, str] | None:
        """Give the next input. If something else comes of it than the log says: (recorded, now).

        Raises CutOffError, with the input not given.
        """
        if record[0] in ("execute", "acknowledge") and record[1] in self._guests:
            self._check_cut(record)
        self.steps += 1
        self._made = []
        self._drawn = list(record[-1]) if isinstance(record[-1], list) else []
        try:
            self._give(record)
        except _NotToBeDoneError as error:
            return _told(record), str(error)
        except (EssaError, KeyError) as error:
            return _told(record), f"the host refuses that: {type(error).__name__} {error}"
        except AssertionError as error:
            if not self._made:
                return _told(record), f"the host refuses that: {error}"
        if self._made != record:
            return _told(record), _told(self._made)
        return None

    def _check_cut(self, record: Record) -> None:
        guest, _ = self._guests[record[1]]
        if guest.recorded.run.result is None and guest.next_step() is None:
            if record[0] == "execute":
                known = guest.sent.get(record[2], (0, None))[0] >= record[3]
            else:
                known = record[2] in guest.settled
            if not known:
                raise CutOffError

    def _give(self, record: Record) -> None:
        host = self._host
        match record[0]:
            case "open":
                self._open(record)
            case "close":
                host.close_guest(record[1])
                del self._guests[record[1]]
            case "execute":
                self._execute(*record[1:4])
            case "acknowledge":
                guest, _ = self._guests[record[1]]
                if record[2] not in guest.settled:
                    raise _NotToBeDoneError("the guest has not settled that fault")
                host.acknowledge_fault(record[1], record[2])
            case "redeliver":
                host.redeliver_faults(record[1])
            case "evict":
                host.begin_eviction(record[1], record[2])
            case "withhold":
                host.withhold(frames=record[1], slots=record[2])
            case "page_out_done":
                self._page_out_done(record[1], record[2])
            case "page_in_done":
                self._page_in_done(record[1], damaged=record[2] is None)
            case name:
                self._run(Stage(_KINDS[name], record[1], record[2]))
        self._pump()

    def _open(self, record: Record) -> None:
        plain = record[1]
        ranges = tuple(range(*pair) for pair in plain["unbacked"])
        spec = GuestSpec(**{**plain, "mode": Mode(plain["mode"]), "unbacked": ranges})
        spec.check()
        number = self._host.open_guest(spec)
        guest = self._find_guest(number)
        if guest is None:
            raise _NotToBeDoneError(f"there is no log of {spec.name}, which is guest {number}")
        self._guests[number] = guest, HostEnd(spec.vcpu_count + spec.device_count)

    def _execute(self, guest_id: int, issuer: int, number: int) -> None:
        guest, end = self._guests[guest_id]
        sent, command = guest.sent.get(issuer, (0, None))
        if command is None or sent != number:
            name = guest.recorded.name
            raise _NotToBeDoneError(f"issuer {issuer} of {name} has sent {sent} commands so far")
        if end.receive(issuer, number) is not Reception.EXECUTE:
            raise _NotToBeDoneError("it was executed before")
        outcome = self._host.execute(guest_id, issuer, command)
        if outcome is not None:
            self._answer(guest_id, issuer, outcome)

    def _run(self, stage: Stage) -> None:
        if stage not in self._host.enabled():
            raise _NotToBeDoneError("there is nothing of the kind to do")
        self._host.run(stage)

    def _page_out_done(self, operation: int, ok: bool) -> None:
        effect = self._paging.pop(operation)
        if not isinstance(effect, PageOut):
            raise _NotToBeDoneError(f"operation {operation} is a page-in")
        if ok:
            self._slots[effect.slot] = effect.generation, effect.data
        self._host.page_out_done(operation, ok)

    def _page_in_done(self, operation: int, *, damaged: bool) -> None:
        effect = self._paging.pop(operation)
        if not isinstance(effect, PageIn):
            raise _NotToBeDoneError(f"operation {operation} is a page-out")
        generation, data = self._slots.get(effect.slot, (0, b""))
        whole = not damaged and generation == effect.generation
        self._host.page_in_done(operation, data if whole else None)

    def _pump(self) -> None:
        """Carry out what the host has decided."""
        for effect in self._host.take_effects():
            match effect:
                case Completed(guest_id, issuer, outcome):
                    self._answer(guest_id, issuer, outcome)
                case PageOut() | PageIn():
                    self._paging[effect.operation] = effect
                case DeliverFault(guest_id, fault):
                    guest, _ = self._guests[guest_id]
                    guest.faults[fault.number] = fault

    def _answer(self, guest_id: int, issuer: int, outcome: Outcome) -> None:
        guest, end = self._guests[guest_id]
        guest.answered(issuer, end.complete(issuer, outcome), outcome, self.steps)


def _told(record: Record) -> str:
    """A record for people: what went in, and what came of it."""
    name, *said = record
    draws = said.pop() if said and isinstance(said[-1], list) else None
    came = said.pop() if said else ""
    text = " ".join([str(name), *map(_plain, said)])
    text = f"{text}: {came}" if came else text
    return f"{text} (drawn: {draws})" if draws else text


def _plain(value: Any) -> str:
    return str(value.get("name")) if isinstance(value, dict) else str(value)
