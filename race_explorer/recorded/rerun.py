"""A recorded run, made again: the logs of its processes in one order, step for step.

Rules:
- Each process keeps its own order. A command is executed on the host after its guest has sent
  it, an outcome is taken after the host's step that it came of, a fault after it was delivered:
  any order that keeps to that is the recorded run, and the one taken is guests first.
- The first step that is another than the recorded one ends it: what comes later follows from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from host_daemon.core.config import HostConfig
from race_explorer.determinism import standing_at
from race_explorer.recorded.guest import GuestAgain, RecordedGuest
from race_explorer.recorded.host import CutOffError, HostAgain
from race_explorer.recorded.log import GuestStep, HostRun


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first step that is not the recorded one.

    step: in the merged order, from 1. where: whose step, and which of its own. place: where its
    actor stands in the source now; empty for the host.
    """

    step: int
    where: str
    recorded: str
    now: str
    place: str = ""

    def describe(self) -> str:
        """One line, or two."""
        text = f"step {self.step} ({self.where}): recorded {self.recorded}, now {self.now}"
        return f"{text}\n  it stands at {self.place}" if self.place else text


class Rerun:
    """A run that is being made again. steps: taken so far. divergence: that has ended it."""

    def __init__(self, config: HostConfig, host: HostRun, guests: Iterable[RecordedGuest]) -> None:
        """Raises InvalidRequestError for sizes that make no sense."""
        self.steps = 0
        self.divergence: Divergence | None = None
        self._recorded = {guest.guest_id: guest for guest in guests}
        self._host_run = host
        self._guests: dict[int, GuestAgain] = {}
        self._host = HostAgain(config, host.records, self._open)
        self.step_count = len(host.records) + sum(
            len(guest.run.steps) for guest in self._recorded.values()
        )

    def _open(self, number: int) -> GuestAgain | None:
        recorded = self._recorded.get(number)
        if recorded is None:
            return None
        guest = self._guests[number] = GuestAgain(recorded)
        return guest

    def advance(self, count: int) -> bool:
        """Take so many steps, or all there are; whether there may be more."""
        stop = self.steps + count
        while self.steps < stop:
            if not (self._advance_guests(stop) or self._advance_host()):
                return False
            if self.divergence is not None:
                return False
        return True

    def _advance_guests(self, stop: int) -> bool:
        """Every guest as far as it goes without the host; whether one went at all."""
        begun = self.steps
        for guest in self._guests.values():
            while (step := guest.next_step()) is not None and self.steps < stop:
                if guest.waits(step, self._host.steps):
                    break
                self.steps += 1
                if (difference := guest.take(step)) is not None:
                    self._diverged(_who(guest, step), difference, guest, step)
                    return True
        return self.steps > begun

    def _advance_host(self) -> bool:
        record = self._host.next_record()
        if record is None:
            return False
        try:
            difference = self._host.take(record)
        except CutOffError:
            return False
        self.steps += 1
        if difference is not None:
            self._diverged(f"host step {self._host.steps}", difference)
        return True

    def _diverged(
        self,
        where: str,
        difference: tuple[str, str],
        guest: GuestAgain | None = None,
        step: GuestStep | None = None,
    ) -> None:
        place = ""
        if guest is not None and step is not None:
            program = guest.program(step.actor)
            place = "" if program is None else standing_at(program)
        self.divergence = Divergence(self.steps, where, *difference, place)

    def finish(self) -> None:
        """All steps are taken: whether everybody has ended as recorded."""
        for guest in self._guests.values():
            recorded = guest.recorded.run.result
            if self.divergence is not None or recorded is None or guest.next_step() is not None:
                continue
            now = guest.result()
            for key in recorded:
                if recorded[key] != now.get(key):
                    where = f"the end of {guest.recorded.name}, {key}"
                    self._diverged(where, _differing(recorded[key], now.get(key)))
                    break

    # What came of it

    @property
    def complete(self) -> bool:
        """Whether the logs go to the end of every process, and all of it was made again."""
        logs = [guest.run.result is not None for guest in self._recorded.values()]
        return self._host_run.ended and all(logs) and self.steps == self.step_count

    def wrong(self) -> list[str]:
        """What the guests have found wrong, as recorded and now: the run's violations."""
        found = []
        for guest in self._guests.values():
            result = guest.result()
            reasons = [guest.failure] if guest.failure is not None else []
            reasons += result["integrity_errors"] + result["violations"]
            found += [f"{guest.recorded.name}: {reason}" for reason in reasons]
        return found

    def plain(self) -> dict[str, Any]:
        """All of it as plain data."""
        guests = {
            guest.recorded.name: {"steps": guest.position, **guest.result()}
            for guest in self._guests.values()
        }
        different = self.divergence
        return {
            "steps": self.steps,
            "step_count": self.step_count,
            "host_steps": self._host.steps,
            "complete": self.complete,
            "reproduced": different is None,
            "divergence": None
            if different is None
            else {
                "step": different.step,
                "where": different.where,
                "recorded": different.recorded,
                "now": different.now,
                "place": different.place,
            },
            "violations": self.wrong(),
            "guests": guests,
        }


def _who(guest: GuestAgain, step: GuestStep) -> str:
    vcpus = guest.recorded.kernel.vcpu_count
    name = f"guest {guest.recorded.name} step {guest.position}"
    if step.actor < 0:
        return name
    kind = "cpu" if step.actor < vcpus else "device"
    return f"{name}, {kind}{step.actor}"


def _differing(recorded: Any, now: Any) -> tuple[str, str]:
    """Two values that differ, cut down to the first of their parts that does."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        key = next((k for k in recorded if recorded[k] != now.get(k)), None)
        if key is not None:
            return f"{key} {recorded[key]}", f"{key} {now.get(key)}"
    return str(recorded), str(now)
