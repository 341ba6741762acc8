"""A guest's metrics: what there is, read from the counters that kernel, link and workload keep.

Rules:
- Every sample has a label `guest`, as the host's samples about guests have.
- Counters go on over a reboot of the guest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from operator import attrgetter
from typing import Final

from prometheus_client.metrics_core import Metric

from guest_agent.config import GuestConfig
from guest_agent.kernel.kernel import Statistics
from shared.arch import Orc
from shared.metrics import Family, Gathered, Sample, counter, gauge, one


@dataclass(frozen=True, slots=True)
class GuestFigures:
    """A guest at one moment; totals over all its incarnations.

    workload: how the operations of a mixed workload ended. in_flight: commands without an
    outcome, and faults announced that have not come.
    """

    config: GuestConfig
    statistics: Statistics
    requests: int
    request_count: int
    workload: dict[str, int]
    reboots: int
    messages: int
    commands: int
    reconnections: int
    retransmissions: int
    in_flight: int
    free_pages: int
    cache_pages: int
    invariant_violations: int


def _info(state: GuestFigures) -> Iterator[Sample]:
    config = state.config
    yield (version("essa-emulator"), config.mode.value, config.hints.value, config.grace.value), 1


def _instructions(state: GuestFigures) -> Iterator[Sample]:
    for orc in Orc:
        yield (orc.name.lower(),), state.statistics.essa[orc]


def _operations(state: GuestFigures) -> Iterator[Sample]:
    for name, count in sorted(state.workload.items()):
        yield (name,), count


def _plain(field: str, text: str) -> Family[GuestFigures]:
    return counter(f"essa_guest_{field}_total", text, one(attrgetter(f"statistics.{field}")))


FAMILIES: Final[tuple[Family[GuestFigures], ...]] = (
    gauge("essa_guest_info", "Always 1.", _info, "version", "mode", "hints", "grace"),
    gauge("essa_guest_vcpus", "Its vCPUs.", one(lambda s: s.config.vcpu_count)),
    gauge("essa_guest_pages", "Its memory, in pages.", one(lambda s: s.config.page_count)),
    gauge("essa_guest_free_pages", "Pages on its free list.", one(lambda s: s.free_pages)),
    gauge("essa_guest_cache_pages", "Pages of its page cache.", one(lambda s: s.cache_pages)),
    counter(
        "essa_guest_requests_total", "Requests of the workload done.", one(lambda s: s.requests)
    ),
    gauge(
        "essa_guest_planned_requests",
        "Requests that the workload has in all.",
        one(lambda s: s.request_count),
    ),
    counter(
        "essa_guest_operations_total",
        "How the operations of a mixed workload ended; none with a trace.",
        _operations,
        "result",
    ),
    _plain("cache_hits", "Page cache look-ups that found their page."),
    _plain("cache_misses", "Page cache look-ups that did not."),
    _plain("disk_reads", "Blocks read from its disk."),
    _plain("disk_writes", "Blocks written to its disk."),
    _plain("swap_reads", "Pages read from its swap device."),
    _plain("swap_writes", "Pages written to its swap device."),
    _plain("minor_faults", "Page faults that found the page in memory."),
    _plain("major_faults", "Page faults that had to read it."),
    _plain("discard_faults", "Discard faults handled."),
    _plain("pages_discarded", "Pages whose content the host had dropped."),
    _plain("made_volatile", "Pages offered to the host as volatile."),
    _plain("stable_failed", "Times that a page could not be made stable: it was gone."),
    _plain("signals", "Accesses of user programs that ended in SIGSEGV or SIGBUS."),
    _plain(
        "integrity_errors", "Loads of wrong, stale, torn or lost content; 0, or there is a bug."
    ),
    counter(
        "essa_guest_invariant_violations_total",
        "Invariants of the kernel found violated; 0, or there is a bug.",
        one(lambda s: s.invariant_violations),
    ),
    counter("essa_guest_instructions_total", "ESSAs issued.", _instructions, "orc"),
    counter("essa_guest_messages_total", "Messages sent to the host.", one(lambda s: s.messages)),
    counter("essa_guest_commands_total", "Commands in them.", one(lambda s: s.commands)),
    gauge(
        "essa_guest_commands_in_flight",
        "Commands without an outcome, and discard faults announced but not here yet.",
        one(lambda s: s.in_flight),
    ),
    counter(
        "essa_guest_reconnections_total",
        "Streams to the host that were lost.",
        one(lambda s: s.reconnections),
    ),
    counter(
        "essa_guest_retransmissions_total",
        "Commands sent again because no answer came.",
        one(lambda s: s.retransmissions),
    ),
    counter(
        "essa_guest_reboots_total",
        "Times that the host had lost its state.",
        one(lambda s: s.reboots),
    ),
)


class GuestMetrics:
    """Reads a guest for a scrape."""

    def __init__(self, figures: Callable[[], GuestFigures]) -> None:
        self._figures = figures

    async def collect(self) -> list[Metric]:
        """Everything at one moment."""
        now = self._figures()
        gathered: Gathered[GuestFigures] = Gathered(FAMILIES, "guest")
        gathered.add(now, now.config.name)
        return gathered.metrics()
