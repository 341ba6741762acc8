"""All faults of one host process, sorted by where they act.

Rules:
- Where nothing is injected, the place's tuple is empty: that one test is all it costs.
- A fault that is over is kept for people to see, the last OVER_MAX of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from host_daemon.faults.rule import Rule
from shared.arch import PAGE_SHIFT
from shared.commands import Command, DiscardFault
from shared.errors import FaultNotFoundError
from shared.fault_fields import CALLS
from shared.faults import KINDS, FaultSpec, Kind, Place

OVER_MAX: Final = 256

Rules = tuple[Rule, ...]
Owner = tuple[str, int]
"""Whose a transfer of the paging device is: guest, pfn."""


def _nobodys(operation: int) -> Owner:
    raise LookupError(f"nobody has said whose operation {operation} is")


class FaultBook:
    """What is injected. ended: told of every fault that is over, after it was taken out.

    owner_of: says whose a transfer is; asked only for rules that name guests or pages.
    commands: rules about commands of Execute. calls: about any other method. paces: slow
    consumers. delivery, device, memory: by place; delivery has the resets of SubscribeFaults.
    """

    def __init__(self) -> None:
        self.ended: Callable[[Rule], None] = lambda _: None
        self.owner_of: Callable[[int], Owner] = _nobodys
        self.commands: Rules = ()
        self.calls: Rules = ()
        self.paces: Rules = ()
        self.delivery: Rules = ()
        self.device: Rules = ()
        self.memory: Rules = ()
        self._rules: dict[int, Rule] = {}
        self._last = 0

    def add(self, spec: FaultSpec, since: float = 0.0) -> Rule:
        """Inject a fault."""
        self._last += 1
        rule = self._rules[self._last] = Rule(self._last, spec, since)
        self._sort()
        return rule

    def all(self) -> list[Rule]:
        """Every fault that is kept, by number."""
        return list(self._rules.values())

    def active(self) -> list[Rule]:
        """Those that are not over, by number."""
        return [rule for rule in self._rules.values() if rule.active]

    def by_id(self, fault_id: int) -> Rule:
        """One fault. Raises FaultNotFoundError."""
        rule = self._rules.get(fault_id)
        if rule is None:
            raise FaultNotFoundError(f"there is no fault {fault_id}", fault_id=fault_id)
        return rule

    def end(self, rule: Rule) -> None:
        """The fault is over. Idempotent."""
        if not rule.active:
            return
        rule.active = False
        self._sort()
        over = [r.fault_id for r in self._rules.values() if not r.active]
        for fault_id in over[:-OVER_MAX]:
            del self._rules[fault_id]
        self.ended(rule)

    def first_strike(self, rules: Iterable[Rule]) -> Rule | None:
        """The first rule that strikes; those behind it do not see the match."""
        for rule in rules:
            if rule.strikes():
                if rule.exhausted and rule.spec.kind is not Kind.FAULT_HOLD:
                    self.end(rule)
                return rule
        return None

    def about_command(self, guest: str, issuer: int, command: Command) -> Rule | None:
        """The fault that strikes a command of Execute."""
        return self.first_strike(
            [r for r in self.commands if r.concerns_command(guest, issuer, command)]
        )

    def about_call(
        self, method: str, guest: str, issuer: int = 0, command: Command | None = None
    ) -> Rule | None:
        """The fault that strikes a unary call."""
        rules = [r for r in self.calls if r.concerns_call(method) and r.concerns_guest(guest)]
        if command is not None:
            rules = [r for r in rules if r.concerns_command(guest, issuer, command)]
        else:
            rules = [r for r in rules if not (r.spec.vcpus or r.spec.orcs or r.spec.pages)]
        return self.first_strike(rules)

    def about_message(self, method: str, guest: str) -> Rule | None:
        """The slow consumer whose message this is."""
        return self.first_strike(
            [r for r in self.paces if r.concerns_call(method) and r.concerns_guest(guest)]
        )

    def about_delivery(self, guest: str, fault: DiscardFault) -> Rule | None:
        """The fault that strikes the delivery of a discard fault."""
        return self.first_strike(
            [
                r
                for r in self.delivery
                if r.concerns_guest(guest)
                and (not r.spec.vcpus or fault.vcpu in r.spec.vcpus)
                and r.concerns_pfn(fault.address >> PAGE_SHIFT)
            ]
        )

    def about_transfer(self, kind: str, operation: int) -> Rule | None:
        """The fault that strikes a "read" or "write" of the paging device, by its number."""
        rules = [r for r in self.device if kind in (r.spec.operations or ("write",))]
        if any(r.spec.guests or r.spec.pages for r in rules):
            guest, pfn = self.owner_of(operation)
            rules = [r for r in rules if r.concerns_guest(guest) and r.concerns_pfn(pfn)]
        return self.first_strike(rules)

    def end_all(self) -> list[Rule]:
        """All faults are over; returns those that were active."""
        active = self.active()
        for rule in active:
            self.end(rule)
        return active

    def _sort(self) -> None:
        active = self.active()
        rpc = [r for r in active if KINDS[r.spec.kind].place is Place.RPC]
        plain = [r for r in rpc if r.spec.kind is not Kind.SLOW_CONSUMER]
        self.paces = tuple(r for r in rpc if r.spec.kind is Kind.SLOW_CONSUMER)
        self.commands = tuple(r for r in plain if r.concerns_call("Execute"))
        self.calls = tuple(r for r in plain if any(map(r.concerns_call, CALLS)))
        at = {place: [r for r in active if KINDS[r.spec.kind].place is place] for place in Place}
        resets = [r for r in plain if r.concerns_call("SubscribeFaults")]
        self.delivery = (*at[Place.DELIVERY], *resets)
        self.device = tuple(at[Place.DEVICE])
        self.memory = tuple(at[Place.MEMORY])
