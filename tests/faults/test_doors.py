"""Goal: whatever happens to its OpenGuest or CloseGuest, a guest begins, works and ends well.

Method: a whole host behind sockets and one guest for each fault, all at once, because a lost call
costs its whole deadline; then a guest's bare hands.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from guest_agent.agent import GuestAgent
from guest_agent.config import PAGES_MIN, GuestConfig
from guest_agent.rpc.session import close_session
from guest_agent.workload.plan import make_plan
from host_daemon.faults.rule import Rule
from shared.errors import DrainingError, InvalidTokenError
from shared.essa.v1 import essa_pb2 as pb
from shared.faults import Kind, parse_fault
from shared.rpc.channel import HostUnreachableError, call
from tests.guest_shell.traces import busy_trace
from tests.rpc.world import World, play, running_host

SECONDS_MAX = 60
REQUESTS = 20
DOORS = ("OpenGuest", "CloseGuest")
FAULTS: dict[str, tuple[Kind, dict[str, object]]] = {
    "lost": (Kind.REQUEST_LOST, {}),
    "unanswered": (Kind.REPLY_LOST, {}),
    "broken": (Kind.RESET, {"count": 2}),
    "late": (Kind.DELAY, {"delay": 0.2}),
    "late-reply": (Kind.DELAY, {"delay": 0.2, "side": "reply"}),
}


def inject(world: World, kind: Kind, **values: object) -> Rule:
    return world.servers.injector.inject(parse_fault(kind, values))


def agent(world: World, name: str, patience: float = 60) -> GuestAgent:
    """A guest with little to do. patience: seconds in which it tries to close itself."""
    config = GuestConfig(world.listen, name, PAGES_MIN, vcpu_count=2, reconnect_seconds=patience)
    return GuestAgent(config, make_plan([busy_trace(7, REQUESTS)], 2))


def test_guests_survive_what_happens_at_their_doors(tmp_path: Path) -> None:
    async def body() -> None:
        async with asyncio.timeout(SECONDS_MAX), running_host(tmp_path) as world:
            names = {f"{fault}-{door}": (fault, door) for fault in FAULTS for door in DOORS}
            rules = []
            for name, (fault, door) in names.items():
                kind, values = FAULTS[fault]
                rules.append(inject(world, kind, guest=name, method=door, **values))
            rules.append(inject(world, Kind.REQUEST_LOST, guest="deaf", method=DOORS[1], count=0))
            agents = [*(agent(world, name) for name in names), agent(world, "deaf", 0.2)]
            reports = await asyncio.gather(*(one.run() for one in agents))
            for rule, report in zip(rules, reports, strict=True):
                assert rule.struck == (rule.spec.count or 1), report.name
                assert report.requests == REQUESTS
                assert not report.integrity_errors
                assert not report.invariant_violations
                assert report.reboots == 0
            # One that the host could not be told of is its until the next of that name comes.
            assert [session.spec.name for session in world.shell.sessions] == ["deaf"]

    with capture_logs() as logs:
        asyncio.run(body())
    (told,) = [entry for entry in logs if entry["event"] == "guest_not_closed"]
    assert told["log_level"] == "warning"
    assert "DEADLINE_EXCEEDED" in told["reason"]
    assert sum(entry["event"] == "guest_taken_over" for entry in logs) == 1


@pytest.mark.parametrize("kind", [Kind.REQUEST_LOST, Kind.RESET])
def test_what_does_not_come_is_not_done(tmp_path: Path, kind: Kind) -> None:
    async def body(world: World) -> None:
        rules = [inject(world, kind, method=door) for door in DOORS]
        request = pb.OpenGuestRequest(name="guest", page_count=64, vcpu_count=1, mode=pb.MODE_SEED)
        with pytest.raises(Exception, match=r"Deadline Exceeded|an injected fault"):
            await world.essa.OpenGuest(request, timeout=0.1)
        assert len(world.shell.sessions) == 0
        close = pb.CloseGuestRequest(session=await world.open_guest())
        with pytest.raises(Exception, match=r"Deadline Exceeded|an injected fault"):
            await world.essa.CloseGuest(close, timeout=0.1)
        assert len(world.shell.sessions) == 1
        await call(world.essa, "CloseGuest", close)
        assert [rule.struck for rule in rules] == [1, 1]

    play(body, tmp_path)


def test_a_call_that_is_given_up_while_it_is_late_is_not_done(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        inject(world, Kind.DELAY, method="OpenGuest", delay=0.2)
        request = pb.OpenGuestRequest(name="guest", page_count=64, vcpu_count=1, mode=pb.MODE_SEED)
        with pytest.raises(Exception, match="Deadline Exceeded"):
            await world.essa.OpenGuest(request, timeout=0.1)
        await asyncio.sleep(0.2)
        assert len(world.shell.sessions) == 0

    play(body, tmp_path)


@pytest.mark.parametrize("method", ["ExecuteEssa", "AcknowledgeFaults", "CloseGuest"])
def test_a_late_call_finds_its_guest_closed(tmp_path: Path, method: str) -> None:
    async def body(world: World) -> None:
        session = await world.open_guest()
        rule = inject(world, Kind.DELAY, method=method, delay=0.1)
        request = getattr(pb, f"{method}Request")(session=session)
        if method == "ExecuteEssa":
            request.essa.orc = 3
        late = asyncio.ensure_future(call(world.essa, method, request))
        await world.until(lambda: rule.struck == 1)
        await call(world.essa, "CloseGuest", pb.CloseGuestRequest(session=session))
        with pytest.raises(InvalidTokenError):
            await late

    play(body, tmp_path)


def test_a_session_that_the_host_does_not_know_is_closed(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        config = GuestConfig(world.listen, "guest", PAGES_MIN)
        session = await world.open_guest()
        await close_session(world.essa, session, config)
        await close_session(world.essa, session, config)
        session.incarnation += 1
        await close_session(world.essa, session, config)
        session = await world.open_guest()
        inject(world, Kind.RESET, method="CloseGuest", count=2)
        with pytest.raises(HostUnreachableError):
            await close_session(world.essa, session, config)
        await close_session(world.essa, session, config, patience=5)
        assert len(world.shell.sessions) == 0
        world.shell.drain()
        with pytest.raises(DrainingError):
            await close_session(world.essa, session, config, patience=0.3)

    play(body, tmp_path)
