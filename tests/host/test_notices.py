"""What the core notices while it is watched, and that it notices nothing otherwise."""

from __future__ import annotations

import pytest

from host_daemon.core.config import GuestSpec, HostConfig
from host_daemon.core.effects import Noticed, PageIn, PageOut, Stage, StageKind
from host_daemon.core.host import Host
from shared.arch import SP, SR
from shared.commands import Essa, Load, MachineCheck, Store
from shared.events import EventKind

OUT = (
    StageKind.REMOVE_ACCESS,
    StageKind.READ_CHANGE_BIT,
    StageKind.COMMIT,
    StageKind.SUBMIT_PAGE_OUT,
)


class NoChoices:
    def choose(self, bound: int) -> int:
        return 0


def new_host(*, watched: bool = True) -> Host:
    """Four frames, of which a guest's pages 0 and 1 have one each; one low, two high."""
    config = HostConfig(frame_count=4, slot_count=16, low_watermark=1, high_watermark=2)
    host = Host(config, NoChoices())
    host.open_guest(GuestSpec("guest", page_count=8, vcpu_count=1))
    for pfn in range(2):
        host.execute(1, 0, Store(pfn, 0, b"data"))
    host.watch(watched)
    return host


def page_out(host: Host, pfn: int, *, ok: bool = True) -> list[Noticed]:
    assert host.begin_eviction(1, pfn)
    for kind in OUT:
        host.run(Stage(kind, 1, pfn))
    *noticed, out = host.take_effects()
    assert isinstance(out, PageOut)
    host.page_out_done(out.operation, ok)
    return [*noticed, *host.take_effects()]  # type: ignore[list-item]


def page_in(host: Host, pfn: int, *, ok: bool) -> list[Noticed]:
    assert host.execute(1, 0, Load(pfn, 0, 4)) is None
    host.run(Stage(StageKind.SUBMIT_PAGE_IN, 1, pfn))
    (read,) = host.take_effects()
    assert isinstance(read, PageIn)
    host.page_in_done(read.operation, bytes(4096) if ok else None)
    return host.take_effects()  # type: ignore[return-value]


def test_page_moves_that_work_and_that_fail() -> None:
    host = new_host()
    failed = Noticed(EventKind.PAGE_OUT_FAILED, 1, 0, before=SR, after=SR)
    assert page_out(host, 0, ok=False) == [failed]
    assert page_out(host, 0) == [Noticed(EventKind.PAGE_OUT_DONE, 1, 0, before=SR, after=SP)]
    assert page_in(host, 0, ok=True) == [Noticed(EventKind.PAGE_IN_DONE, 1, 0, before=SP, after=SR)]


def test_a_damaged_copy_and_the_machine_check_that_it_is() -> None:
    host = new_host()
    page_out(host, 1)
    assert page_in(host, 1, ok=False) == [
        Noticed(EventKind.PAGE_IN_FAILED, 1, 1, before=SP, after=SP)
    ]
    assert isinstance(host.execute(1, 0, Load(1, 0, 4)), MachineCheck)
    assert host.take_effects() == [Noticed(EventKind.MACHINE_CHECK, 1, 1)]


def test_reclaim_begins_and_ends() -> None:
    host = new_host()
    for pfn in (2, 3):
        host.execute(1, 0, Store(pfn, 0, b"data"))
    assert host.reclaim_wanted()
    assert host.take_effects() == [Noticed(EventKind.RECLAIM_BEGUN)]
    for pfn in (0, 1):
        page_out(host, pfn)
    assert not host.reclaim_wanted()
    assert host.take_effects() == [Noticed(EventKind.RECLAIM_ENDED)]


@pytest.mark.parametrize("watched", [True, False])
def test_discard_faults_and_repeated_acknowledgements(watched: bool) -> None:
    host = new_host(watched=watched)
    host.execute(1, 0, Essa(3, 0))
    host.begin_eviction(1, 0)
    for kind in OUT[:3]:
        host.run(Stage(kind, 1, 0))
    host.execute(1, 0, Load(0, 0, 4))
    host.run(Stage(StageKind.DELIVER_FAULT, 1, 1))
    host.acknowledge_fault(1, 1)
    host.acknowledge_fault(1, 1)
    kinds = [effect.kind for effect in host.take_effects() if isinstance(effect, Noticed)]
    assert kinds == watched * [
        EventKind.PAGE_DISCARDED,
        EventKind.DISCARD_FAULT_RAISED,
        EventKind.DISCARD_FAULT_DELIVERED,
        EventKind.DISCARD_FAULT_ACKNOWLEDGED,
    ]


def test_a_watched_host_leaves_the_same_snapshot() -> None:
    watched, alone = new_host(), new_host(watched=False)
    assert str(watched.snapshot()) == str(alone.snapshot())
