"""The host of a race on real processes: what `essa races attend host` runs.

Rules:
- A host for one race after the other; each has a core, servers and a paging file of its own.
- A restart is one: the process writes a checkpoint and becomes another that reads it.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import uvloop
from google.protobuf.json_format import MessageToDict, ParseDict

from essa_cli.gate.gated_device import GatedDevice
from essa_cli.gate.gated_host import GatedShell
from essa_cli.gate.seat import Seat
from host_daemon import checkpoint
from host_daemon.core.config import HostConfig
from host_daemon.core.effects import CHOOSE_VICTIM, PageOut
from host_daemon.core.host import Host
from host_daemon.paging.device import FilePagingDevice, open_paging_device
from host_daemon.rpc.server import Servers
from host_daemon.rpc.sessions import Sessions
from host_daemon.rpc.shell import restore_host
from race_explorer.linked_guest import GUEST, NO_CHOICES
from race_explorer.scenarios.scenario import Protections
from shared.essa.v1 import gate_pb2 as pb
from shared.rpc.channel import Address

if TYPE_CHECKING:
    from shared.rpc.tls import Tls

_PAGING: Final = "paging"


class GatedHost:
    """Does what the gate says. directory: for sockets, the paging file and checkpoints.

    listen: where guests connect; None: a Unix socket in the directory. reached: how they do, if
    that is another address. tls: what it shows the gate and its guests.
    """

    def __init__(
        self,
        gate: Address,
        directory: Path,
        listen: Address | None,
        reached: Address | None,
        tls: Tls | None,
    ) -> None:
        self._tls = tls
        self._reached = reached
        self._gate = gate
        self._directory = directory
        self._listen = listen
        self._races = 0
        self._without: list[str] = []
        self._bug = ""

    async def run(self) -> int:
        """Serve until the gate closes."""
        self._seat = Seat(self._gate, pb.GATE_ROLE_HOST, self._tls)
        self._shell: GatedShell | None = None
        saved = checkpoint.load(self._directory)
        if saved is not None:
            checkpoint.consume(self._directory)
            await self._resume(saved)
            self._report()
        while message := await self._seat.hear():
            try:
                if message.WhichOneof("body") == "release":
                    await self._do(pb.HostOrder(step=message.release))
                else:
                    await self._do(message.order)
            except Exception as error:  # whatever it is, the race is over, and the gate says so
                self._bug = f"{type(error).__name__}: {error}"
            self._report()
        await self._end()
        await self._seat.leave()
        return 0

    async def _do(self, order: pb.HostOrder) -> None:
        body = order.WhichOneof("body")
        if body == "new_host":
            await self._end()
            await self._begin(order.new_host)
            return
        shell = self._shell
        if shell is None:
            raise LookupError("no host was begun")
        match body:
            case "step":
                await shell.release((order.step.actor, order.step.label), fails=order.step.fails)
            case "evict_pfn":
                shell.begin_eviction(order.evict_pfn)
            case "look":
                await shell.come_in(order.look)
            case "hold":
                shell.holding = True
            case "comes_in":
                held = order.comes_in
                shell.comes_in(held.issuer, held.number, copy=held.copy)
            case "break_connections":
                await shell.break_connections(faults=order.break_connections.faults)
            case "restart":
                await self._restart(shell)
            case _:
                raise LookupError("the order is empty")

    # One host after the other.

    async def _begin(self, wanted: pb.NewHost) -> None:
        self._without = list(wanted.without)
        guards = Protections().without(*self._without)
        config = HostConfig(wanted.frame_count, wanted.slot_count, guards=guards.host)
        config.check()
        device = await open_paging_device(self._directory / _PAGING, wanted.slot_count, keep=False)
        gated = GatedDevice(device)
        sessions = Sessions(secrets.randbits(64) or 1)
        shell = GatedShell(Host(config, NO_CHOICES), gated, sessions, guards.link, self._parked)
        await self._serve(shell, device)

    async def _resume(self, saved: dict[str, Any]) -> None:
        self._races, self._without = saved["races"], saved["without"]
        host, sessions = restore_host(saved["shell"], NO_CHOICES)
        slots = host.config.slot_count
        device = await open_paging_device(self._directory / _PAGING, slots, keep=True)
        link = Protections().without(*self._without).link
        shell = GatedShell(host, GatedDevice(device), sessions, link, self._parked)
        shell.holding = saved["holding"]
        ParseDict(saved["traffic"], shell.traffic)
        await self._serve(shell, device)

    async def _serve(self, shell: GatedShell, device: FilePagingDevice) -> None:
        self._shell, self._device = shell, device
        self._servers = Servers(shell, self._bug_found, self._tls)
        guests = self._listen or Address(path=str(self._directory / f"host{self._races}.sock"))
        control = Address(path=str(self._directory / f"control{self._races}.sock"))
        (self._address,), _ = self._servers.bind([guests], control)
        shell.start()
        await self._servers.start()

    async def _end(self) -> None:
        if self._shell is None:
            return
        self._shell.drain()
        await self._servers.stop(0)
        await self._device.close()
        self._shell = None
        self._races += 1

    async def _restart(self, shell: GatedShell) -> NoReturn:
        shell.drain()
        await self._servers.stop(0)
        await self._device.flush()
        data = {
            "races": self._races,
            "without": self._without,
            "holding": shell.holding,
            "traffic": MessageToDict(shell.traffic),
            "shell": shell.snapshot(),
        }
        checkpoint.save(self._directory, data)
        await self._device.close()
        await self._seat.leave()
        os.execv(sys.executable, [sys.executable, "-P", "-m", "essa_cli", *sys.argv[1:]])

    def _bug_found(self, error: BaseException) -> None:
        self._bug = f"{type(error).__name__}: {error}"

    # What is said.

    def _parked(self, issuer: int, number: int, assertion: str) -> None:
        parked = pb.Parked(issuer=issuer, number=number, assertion=assertion)
        self._seat.say(pb.AttendRequest(parked=parked))

    def _report(self) -> None:
        report = pb.Report(failure=self._bug)
        shell = self._shell
        if shell is not None:
            steps = shell.steps()
            report.steps.extend(pb.Step(actor=a, label=la, enabled=True) for a, la in steps)
            report.violations.extend(shell.violations)
            shell.violations.clear()
            report.host.CopyFrom(self._state(shell))
        self._seat.say(pb.AttendRequest(report=report))

    def _state(self, shell: GatedShell) -> pb.HostState:
        host = shell.host
        state = pb.HostState(
            address=str(self._reached or self._address),
            traffic=shell.traffic,
            waiting_for_frame=host.statistics().waiting_for_frame,
            victim_possible=CHOOSE_VICTIM in host.enabled(),
            reception=shell.reception(),
        )
        for stage in host.enabled_stages():
            state.stages.add(kind=stage.kind, guest_id=stage.guest_id, number=stage.number)
        for operation in shell.paging_operations():
            state.paging.add(operation=operation.operation, out=isinstance(operation, PageOut))
        if GUEST in host.guest_ids():
            statistics = host.guest_statistics(GUEST)
            state.faults_open = statistics.faults_open
            state.page_ins = statistics.paging.page_ins
        return state


def attend(
    gate: Address,
    directory: Path,
    listen: Address | None,
    reached: Address | None,
    tls: Tls | None,
) -> int:
    """Take part as the host until the gate closes; returns the exit code."""
    return uvloop.run(GatedHost(gate, directory, listen, reached, tls).run())
