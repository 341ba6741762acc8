"""What the step under way really reads and writes, held against what it has declared.

Rules:
- Only between `begin` and `end` is anything recorded: whoever looks from outside a step, the
  engine or an oracle, is no part of the run.
- A write covers reads of the same resource; ANY, declared, covers every number of its kind.
- To store what is there already counts as a read: nobody can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from race_explorer.engine import ANY, Touch

Resource = tuple[str, int]


class Lock(Protocol):
    """What keeps others away from a place while a vCPU holds it; see `locks`."""

    def held_for(self, vcpu: int | None, *, write: bool) -> bool:
        """Whether it protects an access by this vCPU."""
        ...

    def free_by_declaration(self, declared: Callable[[Resource], bool]) -> bool:
        """Whether it is free, and the step could not run otherwise."""
        ...


@dataclass(slots=True)
class Recorder:
    """One step at a time.

    vcpu: whose step it is; None for what is no vCPU. waiting: what is looked at is not the step
    but the condition that it waits for. fresh: what the step has stored anywhere. known: objects
    by what others call them by.
    """

    vcpu: int | None = None
    waiting: bool = False
    fresh: list[Any] = field(default_factory=list)
    known: dict[Resource, Any] = field(default_factory=dict)
    on: bool = False
    _reads: set[Resource] = field(default_factory=set)
    _writes: set[Resource] = field(default_factory=set)
    _declared: tuple[Touch, ...] = ()
    _undeclared: dict[str, None] = field(default_factory=dict)
    _trusting: dict[tuple[Resource, str], set[int | None]] = field(default_factory=dict)
    _unprotected: dict[tuple[Resource, str], set[int | None]] = field(default_factory=dict)

    def forget(self) -> None:
        """Another run begins."""
        self.known.clear()
        self._trusting.clear()
        self._unprotected.clear()

    def begin(self, declared: Sequence[Touch], vcpu: int | None, *, waiting: bool = False) -> None:
        """A step begins that has declared these accesses."""
        self._declared = tuple(declared)
        self._reads = {touch.resource for touch in declared}
        self._writes = {touch.resource for touch in declared if touch.write}
        self._undeclared = {}
        self.fresh = []
        self.vcpu, self.waiting = vcpu, waiting
        self.on = True

    def end(self) -> list[str]:
        """It is over: what it did and had not declared, in order, such as "wrote count 3"."""
        self.on = False
        return list(self._undeclared)

    def paused(self, look: Callable[..., Any], *arguments: Any) -> Any:
        """Look at something on behalf of nobody: what it reads is not recorded."""
        before, self.on = self.on, False
        try:
            return look(*arguments)
        finally:
            self.on = before

    def read(self, resource: Resource, lock: Lock | None = None) -> None:
        """The step reads a resource."""
        if not self.on or _covers(self._reads, resource):
            return
        if lock is None or not lock.held_for(self.vcpu, write=False):
            self._undeclared[f"read {_name(resource)}"] = None
            return
        trust = resource, type(lock).__name__
        self._trusting.setdefault(trust, set()).add(self.vcpu)
        if self._unprotected.get(trust, set()) - {self.vcpu}:
            self._undeclared[f"read {_name(resource)}, which others write without its lock"] = None

    def write(self, resource: Resource, lock: Lock | None = None) -> None:
        """The step changes a resource. lock: what others who look at it may trust in."""
        if not self.on:
            return
        if not _covers(self._writes, resource):
            self._undeclared[f"wrote {_name(resource)}"] = None
        if lock is not None:
            self.protected(resource, lock)

    def protected(self, resource: Resource, lock: Lock) -> None:
        """The step changes a resource that others look at trusting in this protection."""
        if not self.on or lock.held_for(self.vcpu, write=True):
            return
        if lock.free_by_declaration(lambda needed: _covers(self._reads, needed)):
            return
        trust = resource, type(lock).__name__
        self._unprotected.setdefault(trust, set()).add(self.vcpu)
        if self._trusting.get(trust, set()) - {self.vcpu}:
            self._undeclared[f"wrote {_name(resource)} without its lock"] = None

    def changed(self, what: str) -> None:
        """The step changes what is said never to change."""
        if self.on:
            self._undeclared[f"changed {what}, which is said never to change"] = None

    def declared(self) -> str:
        """What the step has declared, for people."""
        texts = [f"{'writes' if t.write else 'reads'} {_name(t.resource)}" for t in self._declared]
        return ", ".join(texts) or "nothing"


def _covers(declared: set[Resource], resource: Resource) -> bool:
    return resource in declared or (resource[0], ANY) in declared


def _name(resource: Resource) -> str:
    kind, number = resource
    return f"{kind} any" if number == ANY else f"{kind} {number}"
