"""One injected fault: whether a match is a strike, and its counters.

Rules:
- Draws come from the fault's seed alone, one a match from the `nth` on, so that equal matches
  give equal strikes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.commands import Command, Essa, EssaArray
from shared.faults import FaultSpec


@dataclass(slots=True, eq=False)
class Rule:
    """A fault and what it has done.

    since: a time of whoever injected it. active: it can still strike or holds something back.
    """

    fault_id: int
    spec: FaultSpec
    since: float = 0.0
    matched: int = 0
    struck: int = 0
    active: bool = True
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.spec.seed)

    @property
    def exhausted(self) -> bool:
        """Whether it has struck as often as it should."""
        return 0 < self.spec.count <= self.struck

    def strikes(self) -> bool:
        """Count a match; whether it is a strike."""
        spec = self.spec
        self.matched += 1
        if self.exhausted or self.matched < spec.nth:
            return False
        if spec.odds < 1.0 and self.random.random() >= spec.odds:
            return False
        self.struck += 1
        return True

    def concerns_guest(self, guest: str) -> bool:
        """Whether the guest is one of those named."""
        return not self.spec.guests or guest in self.spec.guests

    def concerns_pfn(self, pfn: int) -> bool:
        """Whether the page is one of those named."""
        return not self.spec.pages or any(pfn in pfns for pfns in self.spec.pages)

    def concerns_pfns(self, pfns: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """`concerns_pfn` of many pages: bool, one for each."""
        if not self.spec.pages:
            return np.ones(len(pfns), dtype=bool)
        inside = np.zeros(len(pfns), dtype=bool)
        for part in self.spec.pages:
            inside |= (pfns >= part.start) & (pfns < part.stop)
        return inside

    def concerns_command(self, guest: str, issuer: int, command: Command) -> bool:
        """Whether it is about this command; an array of ESSAs is matched by any element."""
        spec = self.spec
        if not self.concerns_guest(guest) or (spec.vcpus and issuer not in spec.vcpus):
            return False
        if not spec.orcs and not spec.pages:
            return True
        if isinstance(command, EssaArray):
            return self._concerns_elements(command)
        if isinstance(command, Essa):
            right_orc = not spec.orcs or command.orc in spec.orcs
            return right_orc and self.concerns_pfn(command.pfn)
        return not spec.orcs and self.concerns_pfn(command.pfn)

    def _concerns_elements(self, command: EssaArray) -> bool:
        wanted = self.concerns_pfns(command.pfns)
        if self.spec.orcs:
            wanted &= np.isin(command.orcs, self.spec.orcs)
        return bool(wanted.any())

    def concerns_call(self, method: str) -> bool:
        """Whether the method is one of those named."""
        return method in self.spec.methods
