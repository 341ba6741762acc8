"""What a guest did and how far it is, as plain figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from guest_agent.kernel.checked import IntegrityError
from guest_agent.kernel.kernel import Statistics
from shared.arch import Orc


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    requests: int
    request_count: int
    cache_hits: int
    discard_faults: int
    integrity_errors: int
    invariant_violations: int


@dataclass(slots=True)
class Report:
    """What a guest did, over all its incarnations.

    workload: how the operations of a mixed workload ended; empty for a trace. failure: why
    the guest's kernel has stopped before the end, or None.
    """

    name: str
    requests: int
    seconds: float
    reboots: int
    messages: int
    commands: int
    pages_verified: int
    statistics: Statistics
    workload: dict[str, int] = field(default_factory=dict)
    integrity_errors: list[IntegrityError] = field(default_factory=list)
    invariant_violations: list[str] = field(default_factory=list)
    failure: str | None = None

    @property
    def requests_per_second(self) -> float:
        """Over the time of the workload; booting, the last sync and checks not counted."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def is_clean(self) -> bool:
        """Every byte right, every invariant kept, to the end."""
        wrong = self.statistics.integrity_errors or self.invariant_violations
        return not wrong and self.failure is None

    def plain(self) -> dict[str, Any]:
        """The figures as plain data."""
        counts = self.statistics
        return {
            "name": self.name,
            "requests": self.requests,
            "requests_per_second": round(self.requests_per_second, 1),
            "seconds": round(self.seconds, 3),
            **({"workload": self.workload} if self.workload else {}),
            "cache_hits": counts.cache_hits,
            "cache_misses": counts.cache_misses,
            "disk_reads": counts.disk_reads,
            "disk_writes": counts.disk_writes,
            "swap_reads": counts.swap_reads,
            "swap_writes": counts.swap_writes,
            "minor_faults": counts.minor_faults,
            "major_faults": counts.major_faults,
            "discard_faults": counts.discard_faults,
            "pages_discarded": counts.pages_discarded,
            "essa": {orc.name.lower(): counts.essa[orc] for orc in Orc},
            "integrity_errors": counts.integrity_errors,
            "invariant_violations": len(self.invariant_violations),
            "pages_verified": self.pages_verified,
            "reboots": self.reboots,
            "messages": self.messages,
            "commands": self.commands,
            **({"failure": self.failure} if self.failure is not None else {}),
        }


def summed(one: Statistics, other: Statistics) -> Statistics:
    """Both kernels' counters together."""
    total = Statistics()
    for name in Statistics.__dataclass_fields__:
        a, b = getattr(one, name), getattr(other, name)
        pairwise = [x + y for x, y in zip(a, b, strict=True)] if isinstance(a, list) else a + b
        setattr(total, name, pairwise)
    return total
