"""A race on real processes, as a world of the explorer's engine; and what a replay file comes to.

Rules:
- The engine, the chooser and the order of what it chooses from are the explorer's: programs, the
  host's stages, paging, and whatever else there is.
- A verdict is "holds" or "violated" only of a run that was enforced to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from essa_cli.gate.service import Gate, GateError
from race_explorer.case import Case
from race_explorer.engine import STEPS_MAX, Option, Path
from race_explorer.recording import Recording
from race_explorer.replays.anchors import Offer
from race_explorer.replays.guides import Anchored, Guided
from race_explorer.replays.policies import NO_VIOLATION
from race_explorer.replays.replay import HOLDS, VIOLATED, Replay
from shared.essa.v1 import gate_pb2 as pb

INCONCLUSIVE: Final = "inconclusive"


class GatedRace:
    """One case on the processes that attend the gate. An `engine.World`."""

    def __init__(self, gate: Gate, case: Case) -> None:
        self._gate = gate
        self._of_host = pb.Report()
        begin = pb.RaceCase(
            scenario=case.scenario,
            preset=case.preset,
            without=case.without,
            dropped=case.dropped,
            workload=case.workload,
            faults=case.faults,
            timeout_seconds=gate.timeout_seconds,
        )
        self._of_guest = self._ask(pb.AttendResponse(begin=begin))
        self._ended: pb.Report | None = None

    def _ask(self, message: pb.AttendResponse) -> pb.Report:
        report, of_host = self._gate.ask_guest(message)
        if of_host is not None:
            self._of_host = of_host
        return report

    # engine.World

    def options(self) -> list[Option]:
        """What both stand before and can do."""
        guests = [step for step in self._of_guest.steps if step.enabled]
        before = self._of_guest.steps_before_host
        hosts = self._of_host.steps
        return [
            *(_option(step, self._release_to_guest) for step in guests[:before]),
            *(_option(step, self._release_to_host) for step in hosts),
            *(_option(step, self._release_to_guest) for step in guests[before:]),
        ]

    def waiting(self) -> list[Option]:
        """What the guest stands before and cannot do."""
        steps = [step for step in self._of_guest.steps if not step.enabled]
        return [_option(step, self._release_to_guest) for step in steps]

    def violations(self) -> list[str]:
        """What has gone wrong so far."""
        return list(self._of_guest.violations)

    def finished(self) -> list[str]:
        """What is wrong with ending here."""
        self._ended = self._ask(pb.AttendResponse(finish=pb.Finish()))
        return list(self._ended.violations)

    def reached(self) -> set[str]:
        """Which situations have occurred."""
        return set((self._ended or self._of_guest).reached)

    def _release_to_guest(self, step: pb.Step) -> None:
        self._of_guest = self._ask(pb.AttendResponse(release=step))

    def _release_to_host(self, step: pb.Step) -> None:
        self._of_host = self._gate.ask_host(pb.AttendResponse(release=step))
        self._of_guest = self._ask(pb.AttendResponse(told=self._of_host))


def _option(step: pb.Step, release: Callable[[pb.Step], None]) -> Option:
    return Option(step.actor, step.label, (), partial(release, step))


@dataclass(frozen=True, slots=True)
class Enforced:
    """What a replay file came to on real processes.

    verdict: VIOLATED, HOLDS or INCONCLUSIVE. steps: that were taken. difference: from the run in
    the explorer, in lines for people; "" if there is none. reason: why it is inconclusive.
    """

    verdict: str
    steps: tuple[Offer, ...]
    violation: str = ""
    difference: str = ""
    reason: str = ""

    @property
    def agrees(self) -> bool:
        """Whether it is the run that the explorer makes, to its end."""
        return self.verdict != INCONCLUSIVE and not self.difference


def enforce(gate: Gate, replay: Replay, explored: Recording) -> Enforced:
    """Enforce a replay's schedule on those who attend. explored: the run in the explorer."""
    chooser, steps = Guided(Anchored(replay.schedule)), list[Offer]()
    different = ""
    try:
        race = GatedRace(gate, replay.case)
        path = Path(race, touching=False)
        while not path.violations and (options := path.world.options()):
            offers = tuple((option.name, option.label) for option in options)
            different = different or _parts(explored, len(steps), offers)
            choice = chooser(options)
            different = different or _differs(explored, len(steps), offers[choice])
            steps.append(offers[choice])
            path.step(options, choice)
        run = path.record()
    except GateError as error:
        return Enforced(INCONCLUSIVE, tuple(steps), reason=f"at step {len(steps) + 1}: {error}")
    assert len(steps) < STEPS_MAX or run.violations
    if not different and len(steps) < len(explored.steps):
        different = _lines(explored, len(steps), "the end")
    if not different and run.violations != explored.violations:
        different = _ends(explored.violations, run.violations)
    violation = run.violations[0].partition("\n")[0] if run.violations else ""
    return Enforced(VIOLATED if run.violations else HOLDS, tuple(steps), violation, different)


def _parts(explored: Recording, taken: int, offers: tuple[Offer, ...]) -> str:
    """How the next step's choice differs from that in the explorer."""
    if taken >= len(explored.steps):
        return _lines(explored, taken, f"one of {_named(offers)}")
    expected = explored.steps[taken].enabled
    if offers == expected:
        return ""
    return (
        f"step {taken + 1} is chosen from others:\n"
        f"  explorer: {_named(expected)}\n  cluster:  {_named(offers)}"
    )


def _differs(explored: Recording, taken: int, offer: Offer) -> str:
    step = explored.steps[taken]
    if offer == (step.actor, step.label):
        return ""
    return _lines(explored, taken, " ".join(offer))


def _lines(explored: Recording, taken: int, now: str) -> str:
    expected = "the end"
    if taken < len(explored.steps):
        expected = f"{explored.steps[taken].actor} {explored.steps[taken].label}"
    return f"step {taken + 1} differs:\n  explorer: {expected}\n  cluster:  {now}"


def _ends(expected: tuple[str, ...], now: tuple[str, ...]) -> str:
    explorer, cluster = "; ".join(expected) or NO_VIOLATION, "; ".join(now) or NO_VIOLATION
    return f"the end differs:\n  explorer: {explorer}\n  cluster:  {cluster}"


def _named(offers: tuple[Offer, ...]) -> str:
    return ", ".join(" ".join(offer) for offer in offers)
