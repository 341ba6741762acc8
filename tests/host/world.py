"""One guest on one host with a paging device in a dictionary, for the tests beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from host_daemon.core.config import GuestSpec, HostConfig, HostGuards
from host_daemon.core.effects import (
    Completed,
    DeliverFault,
    Effect,
    PageIn,
    PageOut,
    Stage,
    StageKind,
)
from host_daemon.core.host import Host
from shared.arch import Mode
from shared.commands import Command, DiscardFault, Essa, Load, LoadOutcome, Outcome, Sske, Store

PAGE = 4096


class SeededChoices:
    """Draws from a seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)

    def choose(self, bound: int) -> int:
        """A number below bound."""
        return self._random.randrange(bound)


@dataclass
class World:
    """The host, its only guest, and what its effects have asked for so far."""

    host: Host
    guest: int
    flights: dict[int, PageOut | PageIn] = field(default_factory=dict)
    device: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    completed: dict[int, Outcome] = field(default_factory=dict)
    delivered: list[DiscardFault] = field(default_factory=list)
    other_effects: list[Effect] = field(default_factory=list)

    def execute(self, command: Command, issuer: int = 0) -> Outcome | None:
        """Execute and take the effects."""
        outcome = self.host.execute(self.guest, issuer, command)
        self.take()
        return outcome

    def essa(self, orc: int, pfn: int, vcpu: int = 0) -> Outcome | None:
        """Execute one ESSA."""
        return self.execute(Essa(orc, pfn), vcpu)

    def take(self) -> None:
        """Sort the effects of the last input into the fields above."""
        for effect in self.host.take_effects():
            match effect:
                case PageOut() | PageIn():
                    self.flights[effect.operation] = effect
                case Completed():
                    self.completed[effect.issuer] = effect.outcome
                case DeliverFault():
                    self.delivered.append(effect.fault)
                case _:
                    self.other_effects.append(effect)

    def run(self, kind: StageKind, number: int = 0) -> None:
        """Run one stage, which must be enabled."""
        guest = 0 if kind is StageKind.CHOOSE_VICTIM else self.guest
        stage = Stage(kind, guest, number)
        assert stage in self.host.enabled(), f"{stage} is not among {self.host.enabled()}"
        self.host.run(stage)
        self.take()

    def land(self, operation: int, *, ok: bool = True) -> None:
        """Complete one transfer; not ok: a failed write, or a damaged copy."""
        flight = self.flights.pop(operation)
        if isinstance(flight, PageOut):
            if ok:
                self.device[flight.slot] = (flight.generation, flight.data)
            self.host.page_out_done(operation, ok)
        else:
            generation, data = self.device.get(flight.slot, (0, b""))
            right = ok and generation == flight.generation
            self.host.page_in_done(operation, data if right else None)
        self.take()

    def settle(self) -> None:
        """Run everything but CHOOSE_VICTIM and complete all transfers, until nothing is left."""
        while True:
            stages = [s for s in self.host.enabled() if s.kind is not StageKind.CHOOSE_VICTIM]
            for stage in stages:
                if stage in self.host.enabled():
                    self.host.run(stage)
                    self.take()
            operations = list(self.flights)
            for operation in operations:
                self.land(operation)
            if not stages and not operations:
                self.host.check()
                return

    def evict(self, pfn: int) -> None:
        """Make a resident page go, and wait until it is gone."""
        assert self.host.begin_eviction(self.guest, pfn)
        self.settle()

    def reclaim_to(self, pfn: int, kind: StageKind) -> None:
        """Make a page a victim and stop before the named stage."""
        assert self.host.begin_eviction(self.guest, pfn)
        order = [StageKind.REMOVE_ACCESS, StageKind.READ_CHANGE_BIT, StageKind.COMMIT]
        if not self.host.config.guards.remove_access_before_read:
            order[:2] = [StageKind.READ_CHANGE_BIT, StageKind.REMOVE_ACCESS]
        order.append(StageKind.SUBMIT_PAGE_OUT)
        for step in order[: order.index(kind)]:
            self.run(step, pfn)

    def state(self, pfn: int) -> int:
        """The page's state."""
        return int(self.host.page_map(self.guest)[pfn])

    def key(self, pfn: int) -> int:
        """The page's storage key, read without a command."""
        return self.host.page_details(self.guest, pfn).key

    def content(self, pfn: int) -> bytes:
        """The page's 4 KiB, as a load would see them; the page must be accessible."""
        outcome = self.execute(Load(pfn, 0, PAGE))
        if outcome is None:
            self.settle()
            outcome = self.completed.pop(0)
        assert isinstance(outcome, LoadOutcome), outcome
        return outcome.data * outcome.repeat


def make_world(
    mode: Mode = Mode.SEED,
    *,
    frames: int = 8,
    slots: int = 64,
    pages: int = 16,
    vcpus: int = 2,
    devices: int = 1,
    guards: HostGuards | None = None,
    spec: dict[str, Any] | None = None,
    **config: Any,
) -> World:
    """A world with one open guest."""
    host = Host(HostConfig(frames, slots, guards=guards or HostGuards(), **config), SeededChoices())
    guest = GuestSpec("guest", pages, vcpus, devices, mode)
    return World(host, host.open_guest(replace(guest, **(spec or {}))))


_MAKE = {
    # How each state comes about, as a guest and its host would bring it about: an orc, or
    # `store`, `clean` (the change bit off), `evict`.
    Mode.SEED: {
        "Sz": "",
        "Sr": "store",
        "Sp": "store evict",
        "Ur": "store 2",
        "Uz": "2",
        "Vr": "store 3",
        "Vz": "3",
        "Pr": "store clean 4",
    },
    Mode.KVM: {
        "Sp": "store evict",
        "Sr": "store",
        "Sz": "store evict 2 1",
        "Ur": "store 2",
        "Up": "store 2 evict",
        "Uz": "store evict 2",
        "Vr": "store 3",
        "Vp": "store 3 evict",
        "Vz": "store evict clean 3",
        "Pr": "store clean 4",
        "Pp": "store clean 4 evict",
    },
}
STATES = {mode: tuple(recipes) for mode, recipes in _MAKE.items()}


def bring(world: World, pfn: int, state: str, *, changed: bool = False, tag: bytes = b"x") -> None:
    """Bring an untouched page into a state, with the change bit as asked and its content."""
    mode = world.host.guest_spec(world.guest).mode
    for step in _MAKE[mode][state].split():
        if step == "store":
            world.execute(Store(pfn, 0, tag * 32, 128))
        elif step == "clean":
            world.execute(Sske(pfn, 0))
        elif step == "evict":
            world.evict(pfn)
        else:
            world.essa(int(step), pfn)
    world.execute(Sske(pfn, 0x02 if changed else 0x00))
