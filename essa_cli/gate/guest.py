"""The guest of a race on real processes: what `essa races attend guest` runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from essa_cli.gate.line import GateFailedError, Line
from essa_cli.gate.world import ClusterWorld, worlds
from race_explorer.case import Case
from race_explorer.world import SimWorld
from shared.essa.v1 import gate_pb2 as pb
from shared.rpc.channel import Address

if TYPE_CHECKING:
    from shared.rpc.tls import Tls


def case_from_message(message: pb.RaceCase) -> Case:
    """Decode and check a case. Raises ValueError."""
    case = Case(
        message.scenario,
        message.preset,
        tuple(message.without),
        tuple(message.dropped),
        message.workload,
        message.faults,
    )
    case.check()
    return case


class GatedGuest:
    """Does what the gate says, in one world after the other."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._worlds = worlds(line)
        self._world: SimWorld | None = None

    def run(self) -> int:
        """Take part until the gate closes."""
        try:
            while message := self._line.next():
                self._line.say(pb.AttendRequest(report=self._answer(message)))
            self._leave()
        finally:
            self._line.close()
        return 0

    def _answer(self, message: pb.AttendResponse) -> pb.Report:
        try:
            return self._do(message)
        except GateFailedError as error:
            return pb.Report(failure=str(error))
        except Exception as error:  # whatever it is, the race is over, and the gate says so
            return pb.Report(failure=f"{type(error).__name__}: {error}")

    def _do(self, message: pb.AttendResponse) -> pb.Report:
        body = message.WhichOneof("body")
        if body == "begin":
            self._leave()
            self._line.timeout_seconds = message.begin.timeout_seconds
            self._line.parked.clear()
            self._world = case_from_message(message.begin).build(self._worlds)
            return self._report(self._world)
        world = self._world
        if not isinstance(world, ClusterWorld):
            raise LookupError("no race was begun")
        match body:
            case "release":
                _release(world, message.release.actor, message.release.label)
            case "told":
                world.told(message.told)
            case "finish":
                violations = world.violations() or world.finished()
                return pb.Report(violations=violations, reached=sorted(world.reached()))
            case _:
                raise LookupError("the gate says nothing that a guest could do")
        return self._report(world)

    def _report(self, world: SimWorld) -> pb.Report:
        assert isinstance(world, ClusterWorld)
        options = [] if world.violations() else world.options()
        of_host = set(world.host_steps())
        names = [(option.name, option.label) for option in options]
        before = next((i for i, name in enumerate(names) if name in of_host), len(names))
        report = pb.Report(
            steps_before_host=before,
            violations=world.violations(),
            reached=sorted(world.reached()),
        )
        for actor, label in names:
            if (actor, label) not in of_host:
                report.steps.add(actor=actor, label=label, enabled=True)
        for option in world.waiting():
            report.steps.add(actor=option.name, label=option.label)
        return report

    def _leave(self) -> None:
        if isinstance(self._world, ClusterWorld):
            self._world.abandon()
            self._world.leave()
        self._world = None


def _release(world: SimWorld, actor: str, label: str) -> None:
    for option in world.options():
        if (option.name, option.label) == (actor, label):
            option.run()
            return
    raise LookupError(f"the guest does not stand before {actor} {label}")


def attend(gate: Address, tls: Tls | None) -> int:
    """Take part as the guest until the gate closes; returns the exit code."""
    return GatedGuest(Line(gate, tls)).run()
