"""Every event says whose it is: the guest of the call, and the vCPU where it is one vCPU's.

Method: logs are read as containers write them, JSON a line, while two guests talk to a host at
the same time, and while guests run into errors of their own.
"""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from guest_agent.agent import GuestAgent
from guest_agent.kernel.guards import FIXED
from guest_agent.workload.replay import Access
from host_daemon.core.config import GuestSpec, HostConfig
from host_daemon.core.host import Host
from host_daemon.rpc.guest_service import EssaServicer
from host_daemon.rpc.injection import Injector
from host_daemon.rpc.sessions import Sessions
from host_daemon.rpc.shell import HostShell
from shared import telemetry
from shared.commands import Command, Essa, Outcome
from shared.essa.v1 import essa_pb2 as pb
from shared.rpc.channel import call
from tests.guest_shell.test_agent import SECONDS_MAX, busy_plan, config
from tests.rpc.world import FirstChoice, World, play, running_host


class Log(io.StringIO):
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def log() -> Log:
    out = Log()
    telemetry.configure(stream=out, format="json")
    return out


def test_a_call_logs_for_its_guest_alone(tmp_path: Path, log: Log) -> None:
    async def test(world: World) -> None:
        names = ["one", "two"]
        sessions = await asyncio.gather(*(world.open_guest(name) for name in names))
        await asyncio.gather(*(world.evict(0, 64, name=name) for name in names))
        for session in sessions:
            await call(world.essa, "CloseGuest", pb.CloseGuestRequest(session=session))

    play(test, tmp_path)
    by_event: dict[str, list[str]] = {}
    for event in log.events():
        by_event.setdefault(event["event"], []).append(event["guest"])
    assert {event: sorted(guests) for event, guests in by_event.items()} == {
        "guest_opened": ["one", "two"],
        "pages_evicted": ["one", "two"],
        "guest_closed": ["one", "two"],
    }


class BrokenHost(Host):
    def execute(self, guest_id: int, issuer: int, command: Command) -> Outcome | None:
        assert issuer != 2, "broken"
        return super().execute(guest_id, issuer, command)


class NoDevice:
    def start(self, _shell: object) -> None:
        pass


def test_a_bug_is_logged_with_the_vcpu_whose_command_met_it(log: Log) -> None:
    async def body() -> None:
        host = BrokenHost(HostConfig(frame_count=4, slot_count=64), FirstChoice())
        shell = HostShell(host, NoDevice(), Sessions(1))  # type: ignore[arg-type]
        session = shell.open_guest(GuestSpec("web", page_count=8, vcpu_count=4))
        with pytest.raises(AssertionError):
            shell.execute(session, [(n, 1, Essa(0, 0)) for n in range(4)], object())  # type: ignore[arg-type]
        telemetry.logger().error("bug_found")

    asyncio.run(body())
    (event,) = log.events()
    assert (event["vcpu"], event["number"]) == (2, 1)


def test_a_bug_in_a_call_by_hand_is_logged_with_guest_and_vcpu(log: Log) -> None:
    class Context:
        async def abort(self, code: grpc.StatusCode, text: str) -> None:
            assert (code, text) == (grpc.StatusCode.INTERNAL, "bug in the daemon: AssertionError")

    async def body() -> None:
        host = BrokenHost(HostConfig(frame_count=4, slot_count=64), FirstChoice())
        shell = HostShell(host, NoDevice(), Sessions(1))  # type: ignore[arg-type]
        session = shell.open_guest(GuestSpec("web", page_count=8, vcpu_count=4))
        servicer = EssaServicer(
            shell, Injector(shell), lambda _: telemetry.logger().error("bug_found")
        )
        request = pb.ExecuteEssaRequest(
            session=pb.Session(token=session.token, incarnation=1), vcpu=2, essa=pb.Essa()
        )
        with pytest.raises(AssertionError, match="abort always raises"):
            await servicer.ExecuteEssa(request, Context())

    asyncio.run(body())
    (event,) = log.events()
    assert (event["event"], event["guest"], event["vcpu"]) == ("bug_found", "web", 2)


def test_an_agents_events_say_guest_and_vcpu(tmp_path: Path, log: Log) -> None:
    """Without one guard stores are lost, and the vCPU that reads the old content says so."""

    async def body() -> None:
        guards = FIXED.without("check_write")
        async with asyncio.timeout(SECONDS_MAX), running_host(tmp_path, 96) as world:
            agents = [
                GuestAgent(
                    config(world.listen, f"g{n}", perturb=n, access=Access.MMAP, guards=guards),
                    busy_plan(n + 1, 400),
                )
                for n in range(2)
            ]
            # A kernel may find its own page tables wrong before a load does, and then it stops.
            await asyncio.gather(*(agent.run() for agent in agents), return_exceptions=True)

    asyncio.run(body())
    events = log.events()
    assert {event["guest"] for event in events} == {"g0", "g1"}
    found = [event for event in events if event["event"] == "integrity_error_found"]
    assert found
    assert {event["vcpu"] for event in found} <= {0, 1, 2}
    assert not any("vcpu" in event for event in events if event["event"] == "guest_opened")


@pytest.mark.parametrize("terminal", [True, False])
def test_the_format_can_be_said(terminal: bool) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    for format, json_wanted in (("json", True), ("text", False), ("auto", not terminal)):
        out = Stream()
        telemetry.configure(stream=out, format=format)
        telemetry.logger().info("guest_opened")
        assert out.getvalue().startswith("{") is json_wanted
