"""Small worlds for tests of oracles, and bugs to plant in them.

A world here has no scenario: a guest of three pages, not booted, whose vCPUs issue commands. A
planted host is the shipped one but for the one thing that it does wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np

from guest_agent.kernel.cpu import Cpu
from guest_agent.kernel.kernel import KernelConfig
from guest_agent.kernel.page import reads
from host_daemon.core.config import HostGuards
from host_daemon.core.effects import Stage, StageKind
from host_daemon.core.host import Host
from race_explorer.engine import Option, Run, run
from race_explorer.oracles import Oracle, watch
from race_explorer.world import GUEST, SimWorld
from shared.arch import KEY_CHANGED, STATE_MASK, STATE_NAMES, USAGE_MASK, Usage
from shared.commands import (
    Command,
    Essa,
    EssaOutcome,
    Iske,
    KeyOutcome,
    Load,
    LoadOutcome,
    Outcome,
    Store,
)

PAGE = 1
A, B = (bytes([letter]) * 32 for letter in b"AB")
Program = Callable[[Cpu], Coroutine[Any, Any, None]]


def first(_options: Sequence[Option]) -> int:
    """The chooser that takes what comes first: vCPUs before the host."""
    return 0


def host_first(options: Sequence[Option]) -> int:
    """The chooser that lets the host work whenever it has something to do."""
    return next((i for i, option in enumerate(options) if option.name[:4] in ("host", "pagi")), 0)


def issue(*commands: Command | str) -> Program:
    """A program that issues commands. A state's name: wait until the page is in that state;
    "evict": the host chooses the page as a victim."""

    async def program(cpu: Cpu) -> None:
        world = cpu.kernel.link
        assert isinstance(world, SimWorld)

        def state() -> str:
            return STATE_NAMES[world.host.state_byte(GUEST, PAGE) & STATE_MASK]

        for command in commands:
            if command == "evict":
                await cpu.point("evict", reads("host", PAGE))
                world.evict(PAGE)
            elif isinstance(command, str):
                await cpu.wait_until(lambda: state() == command, "state", reads("host", PAGE))  # noqa: B023
            else:
                await cpu.call(command)

    return program


def small(
    *programs: Program,
    host: type[Host] = Host,
    world: type[SimWorld] = SimWorld,
    guards: HostGuards | None = None,
) -> Callable[[], SimWorld]:
    """Worlds in which each program runs on a vCPU of its own."""

    def build() -> SimWorld:
        built = world(KernelConfig(3, len(programs)), host_guards=guards)
        planted = host.__new__(host)
        planted._machine, planted._tracer = built.host._machine, None
        built.host = planted
        for vcpu, program in enumerate(programs):
            built.run_vcpu(vcpu, program)
        return built

    return build


def watched(
    build: Callable[[], SimWorld],
    oracle: Oracle,
    choose: Callable[[Sequence[Option]], int] = host_first,
) -> Run:
    """One run under the eyes of one oracle."""
    return run(watch(build, [oracle]), choose)


# Hosts with one bug each.


class Twice(Host):
    """Executes a "set volatile" again when its issuer comes with its next command."""

    def execute(self, guest_id: int, issuer: int, command: Command) -> Outcome | None:
        """And the one before."""
        kept = vars(self).setdefault("kept", {})
        outcome = super().execute(guest_id, issuer, command)
        if issuer in kept:
            super().execute(guest_id, issuer, kept.pop(issuer))
        if isinstance(command, Essa) and command.orc == 3:
            kept[issuer] = command
        return outcome


class LosesStore(Host):
    """Brings zeroes in for what was paged out."""

    def page_in_done(self, operation: int, data: bytes | None) -> None:
        """Half of it."""
        assert data is not None
        super().page_in_done(operation, bytes(2048) + data[2048:])


class DiscardsStable(Host):
    """Takes a stable page for a volatile one when it commits a victim."""

    def run(self, stage: Stage) -> None:
        """As if it had been volatile."""
        if stage.kind is StageKind.COMMIT:
            self._machine.guests[GUEST].states[stage.number] |= Usage.VOLATILE
        super().run(stage)


class AnswersNewState(Host):
    """Answers an ESSA with the state that it has led to."""

    def execute(self, guest_id: int, issuer: int, command: Command) -> Outcome | None:
        """The state after."""
        outcome = super().execute(guest_id, issuer, command)
        if isinstance(command, Essa) and isinstance(outcome, EssaOutcome):
            return EssaOutcome(self.state_byte(guest_id, command.pfn) & STATE_MASK)
        return outcome


class ReportsChanged(Host):
    """Answers ISKE with C set for a page that is discarded."""

    def execute(self, guest_id: int, issuer: int, command: Command) -> Outcome | None:
        """The key of a page without content."""
        outcome = super().execute(guest_id, issuer, command)
        if isinstance(command, Iske) and isinstance(outcome, KeyOutcome):
            gone = self.page_details(guest_id, command.pfn).state == Usage.VOLATILE | 3
            return KeyOutcome(outcome.key | KEY_CHANGED) if gone else outcome
        return outcome


class StaleLoad(Host):
    """Answers a load with what the one before it saw."""

    def execute(self, guest_id: int, issuer: int, command: Command) -> Outcome | None:
        """The load before."""
        outcome = super().execute(guest_id, issuer, command)
        if not isinstance(command, Load) or not isinstance(outcome, LoadOutcome):
            return outcome
        before: LoadOutcome = vars(self).get("before", outcome)
        vars(self)["before"] = outcome
        return before


class StoresTwice(Host):
    """A store goes to the neighbour's frame as well."""

    def execute(self, guest_id: int, issuer: int, command: Command) -> Outcome | None:
        """Here and there."""
        if isinstance(command, Store) and command.data == B:
            guest = self._machine.guests[guest_id]
            self._machine.frames.fill(guest.location[2], B * 128)
        return super().execute(guest_id, issuer, command)


class LosesKey(Host):
    """Paging in forgets the storage key."""

    def page_in_done(self, operation: int, data: bytes | None) -> None:
        """The content, and no key."""
        pfn = self._machine.operations[operation].pfn
        super().page_in_done(operation, data)
        self._machine.guests[GUEST].keys[pfn] = 0


class ForgetsVolatile(Host):
    """Makes a volatile page stable by itself when it chooses it as a victim."""

    def run(self, stage: Stage) -> None:
        """Volatile no more."""
        if stage.kind is StageKind.READ_CHANGE_BIT:
            self._machine.guests[GUEST].states[stage.number] &= ~USAGE_MASK
        super().run(stage)


class LeaksSlot(Host):
    """Takes a slot for nothing when a page comes in."""

    def page_in_done(self, operation: int, data: bytes | None) -> None:
        """One slot less."""
        super().page_in_done(operation, data)
        self._machine.slots.take()


class LeaksWhenDraining(Host):
    """Takes a slot for nothing when it drains a release list."""

    def run(self, stage: Stage) -> None:
        """One slot less."""
        super().run(stage)
        if stage.kind is StageKind.DRAIN_RELEASE_LIST:
            self._machine.slots.take()


class SharesFrame(Host):
    """Gives page 2 the frame of page 1."""

    def execute(self, guest_id: int, issuer: int, command: Command) -> Outcome | None:
        """Two pages, one frame."""
        outcome = super().execute(guest_id, issuer, command)
        guest = self._machine.guests[guest_id]
        if isinstance(command, Store) and command.pfn == 2:
            guest.location[2] = guest.location[1]
        return outcome


class NeverDelivers(Host):
    """Discard faults are never delivered."""

    def enabled_stages(self) -> list[Stage]:
        """All but deliveries."""
        return [s for s in super().enabled_stages() if s.kind is not StageKind.DELIVER_FAULT]


class NeverResumes(Host):
    """What is parked stays parked."""

    def enabled_stages(self) -> list[Stage]:
        """All but resumptions."""
        return [s for s in super().enabled_stages() if s.kind is not StageKind.RESUME]


class ForgetsKeys(Host):
    """Its checkpoints hold no storage keys."""

    def snapshot(self) -> dict[str, Any]:
        """All but the keys."""
        found = super().snapshot()
        for guest in found["guests"]:
            guest["keys"] = np.zeros_like(guest["keys"])
        return found


# Sessions with one bug each.


class StaleAnswers(SimWorld):
    """The session answers an ESSA with the outcome of the one before."""

    def _answer(self, vcpu: int, outcome: Outcome) -> None:
        before = vars(self).get("before", outcome)
        if isinstance(outcome, EssaOutcome):
            vars(self)["before"] = outcome
            outcome = before
        super()._answer(vcpu, outcome)


class NeverAcknowledges(SimWorld):
    """The link forgets to acknowledge discard faults."""

    def fault_settled(self, number: int) -> None:
        """Nothing reaches the host."""
        self.guest_end.fault_settled(number)
        self.guest_end.acknowledgements()
