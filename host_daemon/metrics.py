"""The host's metrics: what there is, read from the counters that core and sessions keep anyway.

Rules:
- Between two guests a scrape gives the loop a turn, so that many large guests hold nobody up.
- `essa_host_*` counts closed guests too; `essa_host_guest_*` has a label `guest` and goes
  when its guest goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from operator import attrgetter
from typing import Final

from prometheus_client.metrics_core import Metric

from host_daemon.core.config import HostConfig
from host_daemon.core.report import GuestStatistics, HostStatistics, PagingStatistics
from host_daemon.rpc.sessions import GuestSession
from host_daemon.rpc.shell import HostShell
from shared.arch import Orc
from shared.metrics import Family, Gathered, Sample, counter, gauge, one


@dataclass(frozen=True, slots=True)
class HostState:
    """The host at one moment. faults_active: injected ones that are not over."""

    config: HostConfig
    statistics: HostStatistics
    guest_count: int
    watcher_count: int
    events_missed: int
    faults_active: int

    @property
    def paging(self) -> PagingStatistics:
        """Sums over all guests that ever were."""
        return self.statistics.paging


@dataclass(frozen=True, slots=True)
class GuestState:
    """One guest at one moment. counts: its pages by state name."""

    session: GuestSession
    statistics: GuestStatistics
    counts: dict[str, int]

    @property
    def paging(self) -> PagingStatistics:
        """Since it was opened."""
        return self.statistics.paging


def _frames(state: HostState) -> Iterator[Sample]:
    statistics = state.statistics
    yield ("free",), statistics.frames_free
    yield ("used",), statistics.frames - statistics.frames_unused
    yield ("withheld",), statistics.frames_unused - statistics.frames_free


def _slots(state: HostState) -> Iterator[Sample]:
    statistics = state.statistics
    yield ("free",), statistics.slots_free
    yield ("held",), statistics.slots - statistics.slots_unused - statistics.slots_retired
    yield ("withheld",), statistics.slots_unused - statistics.slots_free
    yield ("retired",), statistics.slots_retired


def _info(state: HostState) -> Iterator[Sample]:
    yield (version("essa-emulator"), state.config.policy), 1


def _watermarks(state: HostState) -> Iterator[Sample]:
    yield ("low",), state.config.low_watermark
    yield ("high",), state.config.high_watermark


def _instructions(state: HostState | GuestState) -> Iterator[Sample]:
    for orc, count in enumerate(state.paging.essa):
        yield (Orc(orc).name.lower(),), count


def _discards(state: HostState | GuestState) -> Iterator[Sample]:
    paging = state.paging
    yield ("unused",), paging.discarded_unused
    yield ("volatile",), paging.discarded_volatile
    yield ("potential_volatile",), paging.discarded_potential_volatile


def _paging_families(prefix: str) -> tuple[Family[HostState | GuestState], ...]:
    """What host and guests have in common, under either prefix."""

    def plain(name: str, field: str, text: str) -> Family[HostState | GuestState]:
        return counter(f"{prefix}_{name}_total", text, one(attrgetter(f"paging.{field}")))

    return (
        counter(
            f"{prefix}_instructions_total",
            "ESSAs executed, array elements included, exceptions not.",
            _instructions,
            "orc",
        ),
        plain("page_ins", "page_ins", "Pages read from the paging device."),
        plain("page_outs", "page_outs", "Pages written to the paging device."),
        counter(
            f"{prefix}_discards_total",
            "Frames taken without a write, by what the guest had said of the page.",
            _discards,
            "usage",
        ),
        plain("discard_faults", "discard_faults", "Discard faults raised."),
        plain("released_slots", "released", "Slots freed by block release lists."),
        plain("machine_checks", "machine_checks", "Accesses that ended in a machine check."),
        plain("io_errors", "io_errors", "Device transfers that ended in an I/O error."),
    )


HOST_FAMILIES: Final[tuple[Family[HostState], ...]] = (
    gauge("essa_host_info", "Always 1.", _info, "version", "policy"),
    gauge("essa_host_guests", "Open guests.", one(lambda s: s.guest_count)),
    gauge("essa_host_frames", "Frames of 4 KiB.", _frames, "state"),
    gauge(
        "essa_host_watermark_frames",
        "Free frames below which reclaim begins, and at which it ends.",
        _watermarks,
        "watermark",
    ),
    gauge("essa_host_slots", "Slots of the paging device, 4 KiB each.", _slots, "state"),
    gauge(
        "essa_host_reserved_slots",
        "Slots promised to open guests.",
        one(lambda s: s.statistics.slots_reserved),
    ),
    gauge(
        "essa_host_parked_commands",
        "Commands that wait for a frame, a page-in or a fault to be acknowledged.",
        one(lambda s: s.statistics.parked),
    ),
    gauge(
        "essa_host_commands_waiting_for_frame",
        "Those of them that need a frame when none is free.",
        one(lambda s: s.statistics.waiting_for_frame),
    ),
    gauge(
        "essa_host_stuck",
        "1 if commands wait for a frame, none is on its way and nothing could be evicted.",
        one(lambda s: s.statistics.stuck),
    ),
    gauge(
        "essa_host_active_faults",
        "Injected faults that are not over.",
        one(lambda s: s.faults_active),
    ),
    gauge("essa_host_watchers", "Watches of `essa ctl watch`.", one(lambda s: s.watcher_count)),
    counter(
        "essa_host_missed_events_total",
        "Events that watchers were too slow for.",
        one(lambda s: s.events_missed),
    ),
    *_paging_families("essa_host"),
)

_GUEST: Final = "essa_host_guest"
GUEST_FAMILIES: Final[tuple[Family[GuestState], ...]] = (
    gauge(f"{_GUEST}_vcpus", "Its vCPUs.", one(lambda s: s.session.spec.vcpu_count)),
    gauge(
        f"{_GUEST}_pages",
        "Its pages by block state, such as Sr or Vz.",
        lambda s: (((name,), count) for name, count in s.counts.items()),
        "state",
    ),
    gauge(f"{_GUEST}_frames", "Frames that it has.", one(lambda s: s.statistics.resident)),
    gauge(
        f"{_GUEST}_parked_commands", "Its commands that wait.", one(lambda s: s.statistics.parked)
    ),
    gauge(
        f"{_GUEST}_unacknowledged_faults",
        "Its discard faults that are not acknowledged.",
        one(lambda s: s.statistics.faults_open),
    ),
    gauge(
        f"{_GUEST}_release_entries",
        "Slots on its block release lists.",
        one(lambda s: s.statistics.release_entries),
    ),
    gauge(f"{_GUEST}_streams", "Its open Execute streams.", one(lambda s: len(s.session.streams))),
    gauge(
        f"{_GUEST}_subscribed",
        "1 if it listens for its discard faults.",
        one(lambda s: s.session.subscriber is not None),
    ),
    *_paging_families(_GUEST),
)


class HostMetrics:
    """Reads a host for a scrape."""

    def __init__(self, shell: HostShell) -> None:
        self._shell = shell

    def _host(self) -> HostState:
        shell = self._shell
        return HostState(
            config=shell.host.config,
            statistics=shell.host.statistics(),
            guest_count=len(shell.sessions),
            watcher_count=len(shell.watchers.active),
            events_missed=shell.watchers.missed_total,
            faults_active=len(shell.book.active()),
        )

    async def collect(self) -> list[Metric]:
        """Everything, a guest in each turn of the loop; one that closes meanwhile is left out."""
        host, sessions = self._shell.host, self._shell.sessions
        whole: Gathered[HostState] = Gathered(HOST_FAMILIES)
        whole.add(self._host())
        each: Gathered[GuestState] = Gathered(GUEST_FAMILIES, "guest")
        for session in list(sessions):
            await asyncio.sleep(0)
            if not sessions.is_open(session):
                continue
            number = session.guest_id
            state = GuestState(session, host.guest_statistics(number), host.counts(number))
            each.add(state, session.spec.name)
        return [*whole.metrics(), *each.metrics()]
