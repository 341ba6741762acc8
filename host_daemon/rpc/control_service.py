"""Adapter from `essa.v1.ControlService` to the shell: what operators see and do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.metadata import version
from itertools import chain, islice
from typing import Any, Final

from host_daemon.core.report import PagingStatistics
from host_daemon.faults.rule import Rule
from host_daemon.rpc.guest_service import MODES, BugFound, check_range_count
from host_daemon.rpc.injection import Injector
from host_daemon.rpc.sessions import GuestSession
from host_daemon.rpc.shell import HostShell
from host_daemon.rpc.watchers import Watcher
from shared.arch import state_code
from shared.errors import InvalidRequestError
from shared.essa.v1 import essa_pb2 as pb
from shared.essa.v1 import essa_pb2_grpc
from shared.rpc.event_codec import filter_from_message, message_from_events
from shared.rpc.fault_codec import fault_from_message, message_from_fault
from shared.rpc.status import reports_status
from shared.telemetry import bind, logger

PAGE_MAP_MAX: Final = 4_194_304
EVICT_MAX: Final = 1_048_576
EVICT_SLICE: Final = 256
"""Pages evicted in one turn of the loop; guests' commands come in between."""

_MODE_NUMBERS: Final = {mode: number for number, mode in MODES.items()}


def _counters(paging: PagingStatistics) -> pb.Counters:
    return pb.Counters(
        page_in_count=paging.page_ins,
        page_out_count=paging.page_outs,
        unused_discard_count=paging.discarded_unused,
        volatile_discard_count=paging.discarded_volatile,
        potential_volatile_discard_count=paging.discarded_potential_volatile,
        discard_fault_count=paging.discard_faults,
        essa_counts=paging.essa,
        released_count=paging.released,
        machine_check_count=paging.machine_checks,
        io_error_count=paging.io_errors,
    )


class ControlServicer(essa_pb2_grpc.ControlServiceServicer):
    """Serves operators. bug_found: told of every exception that is our own bug."""

    def __init__(self, shell: HostShell, injector: Injector, bug_found: BugFound) -> None:
        self._shell = shell
        self._injector = injector
        self.bug_found = bug_found

    @reports_status
    async def GetStatus(self, request: pb.GetStatusRequest, context: Any) -> pb.GetStatusResponse:
        """The host at this moment."""
        host, sessions = self._shell.host, self._shell.sessions
        statistics, config = host.statistics(), host.config
        reserved = 0 if config.overcommit_paging else statistics.slots_reserved
        return pb.GetStatusResponse(
            incarnation=sessions.incarnation,
            version=version("essa-emulator"),
            policy=config.policy,
            frame_count=statistics.frames,
            free_frame_count=statistics.frames_free,
            low_watermark=config.low_watermark,
            high_watermark=config.high_watermark,
            slot_count=statistics.slots,
            free_slot_count=min(statistics.slots_free, statistics.slots - reserved),
            paging_overcommitted=config.overcommit_paging,
            parked_count=statistics.parked,
            guest_count=len(sessions),
            page_count=sum(session.spec.page_count for session in sessions),
            counters=_counters(statistics.paging),
            retired_slot_count=statistics.slots_retired,
            stuck=statistics.stuck,
            withheld_frame_count=statistics.frames_withheld,
            withheld_slot_count=statistics.slots_withheld,
        )

    @reports_status
    async def ListGuests(
        self, request: pb.ListGuestsRequest, context: Any
    ) -> pb.ListGuestsResponse:
        """All guests."""
        return pb.ListGuestsResponse(guests=[self._guest(s) for s in self._shell.sessions])

    @reports_status
    async def GetGuest(self, request: pb.GetGuestRequest, context: Any) -> pb.GetGuestResponse:
        """One guest."""
        return pb.GetGuestResponse(guest=self._guest(self._shell.sessions.by_name(request.name)))

    def _guest(self, session: GuestSession) -> pb.Guest:
        host, spec = self._shell.host, session.spec
        statistics = host.guest_statistics(session.guest_id)
        counts = {state_code(n): c for n, c in host.counts(session.guest_id).items() if c}
        return pb.Guest(
            guest_id=session.guest_id,
            name=spec.name,
            page_count=spec.page_count,
            vcpu_count=spec.vcpu_count,
            device_count=spec.device_count,
            mode=_MODE_NUMBERS[spec.mode],
            essa_enabled=spec.essa_enabled,
            state_counts=[
                pb.StateCount(state=state, page_count=counts[state]) for state in sorted(counts)
            ],
            parked_count=statistics.parked,
            unacknowledged_fault_count=statistics.faults_open,
            subscribed=session.subscriber is not None,
            stream_count=len(session.streams),
            counters=_counters(statistics.paging),
            release_entry_count=statistics.release_entries,
        )

    @reports_status
    async def WatchEvents(self, request: pb.WatchEventsRequest, context: Any) -> None:
        """Send what happens, as long as the peer is there."""
        self._shell.refuse_while_draining()
        watcher = Watcher(filter_from_message(request))
        self._shell.watchers.add(watcher)
        try:
            await context.send_initial_metadata(())
            while events := await watcher.take():
                await context.write(message_from_events(events))
        finally:
            self._shell.watchers.remove(watcher)
        self._shell.refuse_while_draining()

    @reports_status
    async def GetPageMap(
        self, request: pb.GetPageMapRequest, context: Any
    ) -> pb.GetPageMapResponse:
        """States of consecutive pages."""
        session = self._shell.sessions.by_name(request.name)
        first, total = request.first_pfn, session.spec.page_count
        if first > total:
            raise InvalidRequestError(
                f"first_pfn is {first}; it must be 0 to {total}",
                field="first_pfn",
                value=first,
                high=total,
            )
        count = request.page_count if request.HasField("page_count") else PAGE_MAP_MAX
        if request.HasField("page_count") and count > PAGE_MAP_MAX:
            raise InvalidRequestError(
                f"page_count is {count}; it must be 0 to {PAGE_MAP_MAX}",
                field="page_count",
                value=count,
                high=PAGE_MAP_MAX,
            )
        states = self._shell.host.page_map(session.guest_id)[first : first + count]
        return pb.GetPageMapResponse(
            first_pfn=first, states=states.tobytes(), guest_page_count=total
        )

    @reports_status
    async def EvictPages(
        self, request: pb.EvictPagesRequest, context: Any
    ) -> pb.EvictPagesResponse:
        """Make pages victims, a slice in each turn of the loop."""
        sessions = self._shell.sessions
        session = sessions.by_name(request.name)
        bind(guest=session.spec.name)
        ranges = [range(r.first_pfn, r.first_pfn + r.page_count) for r in request.ranges]
        _check_ranges(session, ranges)
        pfns: Iterator[int] = chain.from_iterable(ranges)
        response = pb.EvictPagesResponse()
        while part := list(islice(pfns, EVICT_SLICE)):
            if sessions.by_name(request.name) is not session:
                break  # another guest by now; the rest of the pages went with the old one
            eviction = self._shell.evict(session, part)
            response.discarded_count += eviction.discarded
            response.page_out_count += eviction.page_outs
            response.skipped_count += eviction.skipped
            await asyncio.sleep(0)
        logger().info("pages_evicted", discarded=response.discarded_count)
        return response

    @reports_status
    async def InjectFault(
        self, request: pb.InjectFaultRequest, context: Any
    ) -> pb.InjectFaultResponse:
        """Begin a fault."""
        if not request.HasField("fault"):
            raise InvalidRequestError("fault is missing", field="fault")
        rule = self._injector.inject(fault_from_message(request.fault))
        return pb.InjectFaultResponse(fault_id=rule.fault_id)

    @reports_status
    async def ListFaults(
        self, request: pb.ListFaultsRequest, context: Any
    ) -> pb.ListFaultsResponse:
        """All faults that are kept."""
        return pb.ListFaultsResponse(faults=map(self._fault, self._injector.book.all()))

    @reports_status
    async def StopFault(self, request: pb.StopFaultRequest, context: Any) -> pb.StopFaultResponse:
        """End one fault, or all."""
        fault_id = request.fault_id if request.HasField("fault_id") else None
        return pb.StopFaultResponse(faults=map(self._fault, self._injector.stop(fault_id)))

    def _fault(self, rule: Rule) -> pb.Fault:
        return pb.Fault(
            fault_id=rule.fault_id,
            fault=message_from_fault(rule.spec),
            matched_count=rule.matched,
            struck_count=rule.struck,
            active=rule.active,
            age_seconds=self._injector.age_seconds(rule),
        )


def _check_ranges(session: GuestSession, ranges: list[range]) -> None:
    check_range_count("ranges", len(ranges))
    total = session.spec.page_count
    for pages in ranges:
        if not pages or pages.stop > total:
            raise InvalidRequestError(
                f"ranges holds {len(pages)} pages from {pages.start}; "
                f"it must hold at least 1, below page {total}",
                field="ranges",
                value=pages.start,
                count=len(pages),
                high=total - 1,
            )
    if (count := sum(map(len, ranges))) > EVICT_MAX:
        raise InvalidRequestError(
            f"ranges holds {count} pages; it must hold at most {EVICT_MAX}",
            field="ranges",
            value=count,
            high=EVICT_MAX,
        )
